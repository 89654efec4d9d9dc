//! Times and spans as monitoring shows them.
//!
//! Inside, time is monotonic: a [`Moment`] counts from the start of the server. What people see is wall time, which a
//! [`Calendar`] makes of it; one is kept as long as the clock and it agree, so that a start shows the same each time.

use std::time::Duration;

use crate::log::Civil;

/// Microseconds since the server's epoch, shortly before it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// Microseconds in a [`Tick`].
const TICK_MICROS: u64 = 1_000_000 / 64;

/// A coarse moment in few bytes: 1/64 s since the server's epoch, for two years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u32);

impl Moment {
    /// So long after the epoch.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Moment(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }

    /// The time since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Without what a tick cannot hold.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick(u32::try_from(self.0 / TICK_MICROS).unwrap_or(u32::MAX))
    }
}

impl Tick {
    /// The moment it began at.
    #[must_use]
    pub fn moment(self) -> Moment {
        Moment(u64::from(self.0) * TICK_MICROS)
    }
}

/// Turns moments into dates.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// Microseconds from 1970 to the server's epoch.
    epoch: i64,
}

impl Calendar {
    /// Two clocks differ by more than this only when one of them was set.
    const TOLERANCE: u64 = 1_000_000;

    /// The calendar by which `now` is `unix` after 1970.
    #[must_use]
    pub fn new(now: Moment, unix: Duration) -> Self {
        let unix = i64::try_from(unix.as_micros()).unwrap_or(i64::MAX);
        Calendar {
            epoch: unix.saturating_sub_unsigned(now.0),
        }
    }

    /// The same if it still fits, another one if the clock was set meanwhile.
    #[must_use]
    pub fn renewed(self, now: Moment, unix: Duration) -> Self {
        let fresh = Calendar::new(now, unix);
        if fresh.epoch.abs_diff(self.epoch) > Self::TOLERANCE {
            fresh
        } else {
            self
        }
    }

    /// Seconds since 1970, as RFC 3339 has them.
    #[must_use]
    pub fn unix_rfc3339(seconds: i64) -> String {
        let calendar = Calendar {
            epoch: seconds.saturating_mul(1_000_000),
        };
        calendar.rfc3339(Moment(0))
    }

    fn civil(self, moment: Moment) -> (Civil, u32) {
        let micros = self.epoch.saturating_add_unsigned(moment.0);
        let fraction = u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default();
        (Civil::from_seconds(micros.div_euclid(1_000_000)), fraction)
    }

    /// As RFC 3339 has it, in UTC: `2026-11-22T06:10:30.529239Z`, without zeros at the end of the fraction.
    #[must_use]
    pub fn rfc3339(self, moment: Moment) -> String {
        let (civil, micros) = self.civil(moment);
        let mut text = String::new();
        civil.push_date(&mut text, '-');
        text.push('T');
        civil.push_time(&mut text, ':');
        let fraction = format!(".{micros:06}");
        text.push_str(fraction.trim_end_matches('0').trim_end_matches('.'));
        text.push('Z');
        text
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self, moment: Moment) -> f64 {
        self.epoch.saturating_add_unsigned(moment.0) as f64 / 1e6
    }

    /// As HTTP has it: `Sun, 22 Nov 2026 06:10:30 GMT`.
    #[must_use]
    pub fn http_date(self, moment: Moment) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let (it, _) = self.civil(moment);
        let days = self
            .epoch
            .saturating_add_unsigned(moment.0)
            .div_euclid(86_400_000_000);
        let weekday = usize::try_from(days.rem_euclid(7)).unwrap_or_default();
        let month = usize::from(it.month).saturating_sub(1);
        format!(
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
            DAYS.get(weekday).unwrap_or(&"Thu"),
            it.day,
            MONTHS.get(month).unwrap_or(&"Jan"),
            it.year,
            it.hour,
            it.minute,
            it.second
        )
    }
}

/// Whole seconds, as `uptime` and `idle` show them: `59s`, `4h4m22s`, `22y32d4h4m22s`; a year has 365 days.
#[must_use]
pub fn uptime(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * 86_400, "y"), (86_400, "d"), (3600, "h"), (60, "m")];
    let mut left = span.as_secs();
    let mut text = String::new();
    for (unit, name) in UNITS {
        if left >= unit || !text.is_empty() {
            text.push_str(&format!("{}{name}", left / unit));
        }
        left %= unit;
    }
    text + &format!("{left}s")
}

/// A span as round-trip times show it: `0s`, `664µs`, `55.078708ms`, `59.9525s`, `1m2.5s`.
#[must_use]
pub fn round_trip(span: Duration) -> String {
    let nanos = span.as_nanos();
    let fraction = |value: f64| format!("{value}");
    if nanos == 0 {
        "0s".into()
    } else if nanos < 1000 {
        format!("{nanos}ns")
    } else if nanos < 1_000_000 {
        format!("{}µs", nanos / 1000)
    } else if nanos < 1_000_000_000 {
        format!("{}ms", fraction(nanos as f64 / 1e6))
    } else {
        let (hours, minutes) = (span.as_secs() / 3600, span.as_secs() / 60 % 60);
        let seconds = (nanos % 60_000_000_000) as f64 / 1e9;
        match (hours, minutes) {
            (0, 0) => format!("{}s", fraction(seconds)),
            (0, _) => format!("{minutes}m{}s", fraction(seconds)),
            _ => format!("{hours}h{minutes}m{}s", fraction(seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_count_down_from_the_largest_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (62, "1m2s"),
            (3600, "1h0m0s"),
            (14_662, "4h4m22s"),
            (32 * 86_400 + 14_662, "32d4h4m22s"),
            (365 * 86_400, "1y0d0h0m0s"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn round_trips_show_what_their_size_deserves() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "999ns"),
            (664_999, "664µs"),
            (55_078_708, "55.078708ms"),
            (59_952_522_511, "59.952522511s"),
            (62_500_000_000, "1m2.5s"),
        ] {
            assert_eq!(round_trip(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn dates_have_the_forms_of_rfc_3339_and_of_http() {
        // 2026-11-22 06:10:30, a Sunday.
        let calendar = Calendar::new(Moment(0), Duration::from_secs(1_795_327_830));
        assert_eq!(calendar.rfc3339(Moment(0)), "2026-11-22T06:10:30Z");
        assert_eq!(
            calendar.rfc3339(Moment(1_529_200)),
            "2026-11-22T06:10:31.5292Z"
        );
        assert_eq!(
            calendar.http_date(Moment(0)),
            "Sun, 22 Nov 2026 06:10:30 GMT"
        );
    }

    #[test]
    fn a_calendar_follows_a_clock_that_was_set_and_not_its_jitter() {
        let now = Moment(5_000_000);
        let first = Calendar::new(now, Duration::from_secs(1000));
        let again = first.renewed(now, Duration::from_millis(1_000_400));
        assert_eq!(again.rfc3339(now), first.rfc3339(now));
        let set = first.renewed(now, Duration::from_secs(2000));
        assert_eq!(set.rfc3339(now), "1970-01-01T00:33:20Z");
    }

    #[test]
    fn a_tick_is_never_later_than_its_moment() {
        for micros in [0, 1, 15_625, 15_624, 63_999_999, 4_000_000_000_000] {
            let tick = Moment(micros).tick().moment();
            assert!(tick.0 <= micros && micros - tick.0 < 15_625, "{micros}");
        }
    }
}
