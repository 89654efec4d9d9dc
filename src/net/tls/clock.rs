//! The time by which certificates are judged.

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The wall clock, and never before `floor`: a board without a real-time clock starts in 1970, when no certificate is
/// valid yet.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) floor: Option<SystemTime>,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now();
        let time = self.floor.map_or(now, |floor| now.max(floor));
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO)))
    }
}
