//! What is known of the time whatever the clock says: boards without a real-time clock start in 1970.

use std::time::{Duration, SystemTime};

/// When this program was built, which is in the past for sure.
#[must_use]
pub fn build_time() -> SystemTime {
    // The build script writes a number.
    let seconds = env!("MIDGE_BUILD_TIME").parse().unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
