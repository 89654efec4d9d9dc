//! Calendar dates from seconds since the epoch, without a clock or a time zone of their own.

use std::fmt::Write as _;

const DAY_SECONDS: i64 = 86_400;
const CYCLE_DAYS: i64 = 146_097;
/// 2000-01-01, where a cycle of 400 years begins.
const FIRST_CYCLE: i64 = 10_957;

/// A date and time of day as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
}

impl Civil {
    /// The date `seconds` after 1970-01-01 00:00:00, in whatever zone those seconds were counted.
    pub(crate) fn from_seconds(seconds: i64) -> Civil {
        let (year, month, day) = date_of_day(seconds.div_euclid(DAY_SECONDS));
        let second_of_day = seconds.rem_euclid(DAY_SECONDS);
        Civil {
            year,
            month,
            day,
            hour: small(second_of_day / 3600),
            minute: small(second_of_day / 60 % 60),
            second: small(second_of_day % 60),
        }
    }

    /// Appends the date with `between` its parts, as `2026-01-02`.
    pub(crate) fn push_date(&self, out: &mut String, between: char) {
        let (year, month, day) = (self.year, self.month, self.day);
        let _ = write!(out, "{year:04}{between}{month:02}{between}{day:02}");
    }

    /// Appends the time of day with `between` its parts, as `03:04:05`.
    pub(crate) fn push_time(&self, out: &mut String, between: char) {
        let (hour, minute, second) = (self.hour, self.minute, self.second);
        let _ = write!(out, "{hour:02}{between}{minute:02}{between}{second:02}");
    }
}

/// Days from 1970-01-01 to the first of January of `year`, Gregorian.
pub(crate) fn day_of_year_start(year: i64) -> i64 {
    let before = year - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    // 719162 days lie between 0001-01-01 and 1970-01-01.
    before * 365 + leap_days - 719_162
}

pub(crate) fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days of each month of `year`, January first.
pub(crate) fn month_lengths(year: i64) -> [i64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Year, month and day of a count of days since the epoch.
fn date_of_day(day: i64) -> (i64, u8, u8) {
    // 146097 days make 400 years, after which the calendar repeats; within them the guess is never too early.
    let cycle = (day - FIRST_CYCLE).div_euclid(CYCLE_DAYS);
    let in_cycle = (day - FIRST_CYCLE).rem_euclid(CYCLE_DAYS);
    let mut year = 2000 + cycle * 400 + in_cycle / 365;
    while day_of_year_start(year) > day {
        year -= 1;
    }
    let mut left = day - day_of_year_start(year);
    let mut month = 1;
    for length in month_lengths(year) {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, small(left + 1))
}

/// A calendar field, which is below 256 by construction.
fn small(field: i64) -> u8 {
    u8::try_from(field).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut expected = (1600, 1, 1);
        for day in day_of_year_start(1600)..day_of_year_start(2400) {
            assert_eq!(date_of_day(day), expected, "day {day}");
            let (year, month, in_month) = expected;
            let length = month_lengths(year)[usize::from(month) - 1];
            expected = if i64::from(in_month) < length {
                (year, month, in_month + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
    }

    #[test]
    fn seconds_become_a_time_of_day_on_both_sides_of_the_epoch() {
        let before = Civil {
            year: 1969,
            month: 12,
            day: 31,
            hour: 23,
            minute: 59,
            second: 59,
        };
        assert_eq!(Civil::from_seconds(-1), before);
        let late = Civil {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
        };
        assert_eq!(Civil::from_seconds(1_767_323_045), late);
    }
}
