//! What the operating system tells of the process.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures how busy the process is, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    last: Option<(Instant, Duration)>,
    percent: f64,
}

impl Sampler {
    /// Looks more often than this say nothing new.
    const SPAN: Duration = Duration::from_secs(1);

    /// Per cent of a core that the process has used, over a second or since the look before.
    pub(super) fn percent(&mut self, now: Instant) -> f64 {
        let used = cpu_time();
        match self.last {
            Some((then, before)) => {
                let span = now.saturating_duration_since(then);
                if span >= Self::SPAN {
                    let part = used.saturating_sub(before).as_secs_f64() / span.as_secs_f64();
                    self.percent = part * 100.0;
                    self.last = Some((now, used));
                }
            }
            None => self.last = Some((now, used)),
        }
        self.percent
    }
}

/// CPU time of the process since its start.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// Resident memory in bytes; 0 where the system does not tell.
pub(super) fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Cores that the process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
