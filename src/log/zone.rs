//! The local time zone: how far local time is ahead of UTC at a given moment.
//!
//! Reads `TZ` and the system's TZif files (RFC 9636) with the POSIX rule at their end. A file or rule that makes no
//! sense gives UTC: a wrong time zone is no reason not to start.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::civil::{Civil, day_of_year_start, is_leap, month_lengths};

/// Where the system keeps its zones; the second is the choice of small distributions.
const ZONE_DIRECTORIES: [&str; 3] = [
    "/usr/share/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
];
/// The largest zone file is a few KiB.
const ZONE_BYTES_MAX: u64 = 256 * 1024;

/// A time zone, read once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Zone {
    /// Moments from which an offset holds, ascending.
    transitions: Vec<(i64, i32)>,
    /// Before the first of them.
    first_offset: i32,
    /// After the last of them.
    rule: Option<Rule>,
}

impl Zone {
    pub(super) fn utc() -> Zone {
        Zone::default()
    }

    /// The zone that `TZ` names, or else the system's.
    pub(super) fn local() -> Zone {
        let named = std::env::var("TZ").ok();
        let found = match named.as_deref() {
            Some("") => None,
            Some(name) => Zone::named(name),
            None => Zone::of_system(),
        };
        found.unwrap_or_else(Zone::utc)
    }

    fn of_system() -> Option<Zone> {
        let from_file = Zone::from_file(Path::new("/etc/localtime"));
        // Router distributions keep just the rule.
        from_file.or_else(|| Zone::from_posix(std::fs::read_to_string("/etc/TZ").ok()?.trim()))
    }

    fn named(name: &str) -> Option<Zone> {
        let name = name.strip_prefix(':').unwrap_or(name);
        if name.starts_with('/') {
            return Zone::from_file(Path::new(name));
        }
        let in_directory = |directory: &&str| Zone::from_file(&Path::new(directory).join(name));
        ZONE_DIRECTORIES
            .iter()
            .find_map(in_directory)
            .or_else(|| Zone::from_posix(name))
    }

    fn from_file(path: &Path) -> Option<Zone> {
        let file = File::open(path).ok()?;
        // A directory or a device is no zone file, and reading a pipe could wait for ever.
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(ZONE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Zone::from_tzif(&bytes)
    }

    /// Reads a POSIX rule such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub(super) fn from_posix(text: &str) -> Option<Zone> {
        let rule = Rule::parse(text)?;
        Some(Zone {
            transitions: Vec::new(),
            first_offset: rule.standard,
            rule: Some(rule),
        })
    }

    /// Reads the contents of a TZif file: the 64-bit block of version 2 and later, or the 32-bit block of version 1.
    fn from_tzif(bytes: &[u8]) -> Option<Zone> {
        let mut input = Input(bytes);
        let header = Header::read(&mut input)?;
        if header.version == 0 {
            return Zone::from_block(&mut input, &header, 4);
        }
        input.take(header.block_bytes(4)?)?;
        let header = Header::read(&mut input)?;
        let mut zone = Zone::from_block(&mut input, &header, 8)?;
        let footer = std::str::from_utf8(input.0).ok()?;
        let rule = footer
            .strip_prefix('\n')
            .and_then(|rest| rest.split('\n').next());
        zone.rule = rule.and_then(Rule::parse);
        Some(zone)
    }

    /// ```text
    /// times [time_bytes]*time_count | kinds u8*time_count | (offset i32, dst u8, name u8)*kind_count | names | leaps ..
    /// ```
    fn from_block(input: &mut Input<'_>, header: &Header, time_bytes: usize) -> Option<Zone> {
        let mut block = Input(input.take(header.block_bytes(time_bytes)?)?);
        let times = block.take(header.time_count.checked_mul(time_bytes)?)?;
        let kinds = block.take(header.time_count)?;
        let mut offsets = Vec::new();
        for _ in 0..header.kind_count {
            offsets.push(i32::from_be_bytes(
                block.take(6)?.get(..4)?.try_into().ok()?,
            ));
        }
        let mut transitions = Vec::with_capacity(header.time_count);
        for (time, kind) in times.chunks_exact(time_bytes).zip(kinds) {
            let at = match time_bytes {
                4 => i64::from(i32::from_be_bytes(time.try_into().ok()?)),
                _ => i64::from_be_bytes(time.try_into().ok()?),
            };
            let offset = *offsets.get(usize::from(*kind))?;
            let is_ascending = transitions.last().is_none_or(|(last, _)| *last < at);
            if !is_ascending || offset.abs() > OFFSET_MAX {
                return None;
            }
            transitions.push((at, offset));
        }
        let first_offset = *offsets.first()?;
        if first_offset.abs() > OFFSET_MAX {
            return None;
        }
        Some(Zone {
            transitions,
            first_offset,
            rule: None,
        })
    }

    /// Seconds by which local time is ahead of UTC, `unix` seconds after the epoch.
    pub(super) fn offset_at(&self, unix: i64) -> i32 {
        let passed = self.transitions.partition_point(|(at, _)| *at <= unix);
        if passed == self.transitions.len() {
            if let Some(rule) = &self.rule {
                return rule.offset_at(unix);
            }
        }
        match passed
            .checked_sub(1)
            .and_then(|last| self.transitions.get(last))
        {
            Some((_, offset)) => *offset,
            None => self.first_offset,
        }
    }
}

/// The counts in front of a block.
struct Header {
    version: u8,
    utc_count: usize,
    standard_count: usize,
    leap_count: usize,
    time_count: usize,
    kind_count: usize,
    name_bytes: usize,
}

impl Header {
    fn read(input: &mut Input<'_>) -> Option<Header> {
        if input.take(4)? != b"TZif" {
            return None;
        }
        let version = *input.take(16)?.first()?;
        Some(Header {
            version,
            utc_count: input.count()?,
            standard_count: input.count()?,
            leap_count: input.count()?,
            time_count: input.count()?,
            kind_count: input.count()?,
            name_bytes: input.count()?,
        })
    }

    fn block_bytes(&self, time_bytes: usize) -> Option<usize> {
        let times = self.time_count.checked_mul(time_bytes + 1)?;
        let kinds = self.kind_count.checked_mul(6)?;
        let leaps = self.leap_count.checked_mul(time_bytes + 4)?;
        [
            kinds,
            leaps,
            self.name_bytes,
            self.standard_count,
            self.utc_count,
        ]
        .into_iter()
        .try_fold(times, usize::checked_add)
    }
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn count(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    }
}

/// Offsets and rule times stay within a week, so that sums of them cannot overflow.
const OFFSET_MAX: i32 = 167 * 3600;

/// A POSIX rule: the standard offset, and where there is one, summer time.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    standard: i32,
    summer: Option<Summer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Summer {
    offset: i32,
    start: Change,
    end: Change,
}

/// A day of the year and a time on it, in the local time that holds before the change.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    day: Day,
    time: i32,
}

#[derive(Clone, Debug, PartialEq)]
enum Day {
    /// `Jn`: 1 to 365, the 29th of February is never counted.
    Julian(i64),
    /// `n`: 0 to 365, leap days count.
    OfYear(i64),
    /// `Mm.w.d`: the w-th weekday d (0 is Sunday) of month m; week 5 is the last.
    Weekday {
        month: usize,
        week: i64,
        weekday: i64,
    },
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        let mut rest = Posix(text);
        rest.skip_name()?;
        // West is positive there, and negative here.
        let standard = -rest.time()?;
        if rest.0.is_empty() {
            return Some(Rule {
                standard,
                summer: None,
            });
        }
        rest.skip_name()?;
        let offset = if rest.0.starts_with(',') || rest.0.is_empty() {
            standard + 3600
        } else {
            -rest.time()?
        };
        if rest.0.is_empty() {
            // No dates: the rule of the United States is what others assume.
            rest = Posix(",M3.2.0,M11.1.0");
        }
        let start = rest.change()?;
        let end = rest.change()?;
        let is_whole = rest.0.is_empty();
        is_whole.then_some(Rule {
            standard,
            summer: Some(Summer { offset, start, end }),
        })
    }

    fn offset_at(&self, unix: i64) -> i32 {
        let Some(summer) = &self.summer else {
            return self.standard;
        };
        let standard = i64::from(self.standard);
        let year = Civil::from_seconds(unix + standard).year;
        let start = summer.start.seconds_in(year) - standard;
        let end = summer.end.seconds_in(year) - i64::from(summer.offset);
        let is_summer = if start < end {
            (start..end).contains(&unix)
        } else {
            // South of the equator summer spans the new year.
            !(end..start).contains(&unix)
        };
        if is_summer {
            summer.offset
        } else {
            self.standard
        }
    }
}

impl Change {
    /// Seconds since the epoch, counted in local time.
    fn seconds_in(&self, year: i64) -> i64 {
        let first = day_of_year_start(year);
        let day = match self.day {
            Day::Julian(day) => first + day - 1 + i64::from(is_leap(year) && day >= 60),
            Day::OfYear(day) => first + day,
            Day::Weekday {
                month,
                week,
                weekday,
            } => {
                let lengths = month_lengths(year);
                let before: i64 = lengths.iter().take(month - 1).sum();
                let length = lengths.get(month - 1).copied().unwrap_or(31);
                // The epoch was a Thursday.
                let first_weekday = (first + before + 4).rem_euclid(7);
                let mut in_month = (weekday - first_weekday).rem_euclid(7) + (week - 1) * 7;
                while in_month >= length {
                    in_month -= 7;
                }
                first + before + in_month
            }
        };
        day * 86_400 + i64::from(self.time)
    }
}

/// What is left of a POSIX rule's text.
struct Posix<'a>(&'a str);

impl Posix<'_> {
    fn eat(&mut self, letter: char) -> bool {
        match self.0.strip_prefix(letter) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Skips a zone's name: three letters or more, or anything in angle brackets.
    fn skip_name(&mut self) -> Option<()> {
        if self.eat('<') {
            self.0 = self.0.split_once('>')?.1;
            return Some(());
        }
        let rest = self
            .0
            .trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let is_name = self.0.len() - rest.len() >= 3;
        self.0 = rest;
        is_name.then_some(())
    }

    fn number(&mut self, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let rest = self
            .0
            .trim_start_matches(|letter: char| letter.is_ascii_digit());
        let digits = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        digits.parse().ok().filter(|number| range.contains(number))
    }

    /// `[+-]hh[:mm[:ss]]` in seconds.
    fn time(&mut self) -> Option<i32> {
        let sign = if self.eat('-') { -1 } else { 1 };
        if sign == 1 {
            self.eat('+');
        }
        let mut seconds = self.number(0..=167)? * 3600;
        if self.eat(':') {
            seconds += self.number(0..=59)? * 60;
            if self.eat(':') {
                seconds += self.number(0..=59)?;
            }
        }
        i32::try_from(seconds * sign).ok()
    }

    /// `,date[/time]`; two in the morning by default.
    fn change(&mut self) -> Option<Change> {
        if !self.eat(',') {
            return None;
        }
        let day = if self.eat('J') {
            Day::Julian(self.number(1..=365)?)
        } else if self.eat('M') {
            let month = usize::try_from(self.number(1..=12)?).ok()?;
            let week = self.eat('.').then(|| self.number(1..=5))??;
            let weekday = self.eat('.').then(|| self.number(0..=6))??;
            Day::Weekday {
                month,
                week,
                weekday,
            }
        } else {
            Day::OfYear(self.number(0..=365)?)
        };
        let time = if self.eat('/') {
            self.time()?
        } else {
            2 * 3600
        };
        Some(Change { day, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 2 file: one empty 32-bit block, then `transitions` and `footer`.
    fn tzif(transitions: &[(i64, u8)], offsets: &[i32], footer: &str) -> Vec<u8> {
        let header = |times: usize, kinds: usize| {
            let mut bytes = b"TZif2".to_vec();
            bytes.extend([0; 15]);
            for count in [0, 0, 0, times, kinds, 4] {
                bytes.extend(u32::try_from(count).unwrap().to_be_bytes());
            }
            bytes
        };
        let mut bytes = header(0, 1);
        bytes.extend([0; 10]);
        bytes.extend(header(transitions.len(), offsets.len()));
        bytes.extend(transitions.iter().flat_map(|(at, _)| at.to_be_bytes()));
        bytes.extend(transitions.iter().map(|(_, kind)| kind));
        for offset in offsets {
            bytes.extend(offset.to_be_bytes());
            bytes.extend([0, 0]);
        }
        bytes.extend(b"LMT\0");
        bytes.extend(format!("\n{footer}\n").as_bytes());
        bytes
    }

    #[test]
    fn a_file_gives_its_transitions_and_then_its_rule() {
        let file = tzif(
            &[(1000, 1), (2000, 2)],
            &[-100, 3600, 7200],
            "CET-1CEST,M3.5.0,M10.5.0/3",
        );
        let zone = Zone::from_tzif(&file).unwrap();
        assert_eq!(zone.offset_at(999), -100);
        assert_eq!(zone.offset_at(1000), 3600);
        // 2026: summer time from 29 March 01:00 UTC to 25 October 01:00 UTC.
        assert_eq!(zone.offset_at(1_774_746_000 - 1), 3600);
        assert_eq!(zone.offset_at(1_774_746_000), 7200);
        assert_eq!(zone.offset_at(1_792_890_000 - 1), 7200);
        assert_eq!(zone.offset_at(1_792_890_000), 3600);
    }

    #[test]
    fn a_file_without_a_rule_keeps_its_last_offset() {
        let zone = Zone::from_tzif(&tzif(&[(1000, 1)], &[0, 3600], "")).unwrap();
        assert_eq!(zone.offset_at(i64::MAX / 4), 3600);
    }

    #[test]
    fn a_damaged_file_is_refused_and_never_panics() {
        let file = tzif(&[(1000, 1), (2000, 2)], &[-100, 3600, 7200], "CET-1");
        for end in 0..file.len() - 7 {
            assert_eq!(
                Zone::from_tzif(file.get(..end).unwrap()),
                None,
                "cut at byte {end}"
            );
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            for byte in [0, 0x7f, 0xff] {
                *damaged.get_mut(at).unwrap() = byte;
                if let Some(zone) = Zone::from_tzif(&damaged) {
                    zone.offset_at(1500);
                }
            }
        }
    }

    #[test]
    fn rules_hold_in_both_hemispheres_and_with_odd_dates() {
        let offset = |rule: &str, unix| Zone::from_posix(rule).map(|zone| zone.offset_at(unix));
        assert_eq!(offset("UTC0", 0), Some(0));
        assert_eq!(offset("<+0545>-5:45", 0), Some(20_700));
        // Sydney, January and July 2026.
        assert_eq!(
            offset("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_767_225_600),
            Some(39_600)
        );
        assert_eq!(
            offset("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_782_864_000),
            Some(36_000)
        );
        // Summer time throughout the year, as Morocco's rule once was written.
        assert_eq!(
            offset("EST3EDT4,0/0,J365/23", 1_767_225_600 + 86_400 * 100),
            Some(-14_400)
        );
        // New York without dates.
        assert_eq!(offset("EST5EDT", 1_782_864_000), Some(-14_400));
        for bad in [
            "",
            "U",
            "UTC",
            "CET-1CEST,M13.1.0,M1.1.0",
            "CET-1CEST,M3.5.0",
            "CET-999",
            "CET-1CEST,M3.5.0,M10.5.0x",
        ] {
            assert_eq!(offset(bad, 0), None, "{bad:?}");
        }
    }
}
