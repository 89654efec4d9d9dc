//! What one log line looks like: `[pid] YYYY/MM/DD HH:MM:SS.uuuuuu [LVL] message`, or one JSON object.
//!
//! A message may hold bytes that a peer chose. Whatever it holds, it stays one line: control characters are escaped.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::civil::Civil;
use super::zone::Zone;
use super::{Level, LineFormat};

/// How lines are written; the same for every line until the next reload.
#[derive(Debug)]
pub(super) struct Style {
    pub(super) format: LineFormat,
    /// Time stamps at all.
    pub(super) time: bool,
    pub(super) utc: bool,
    pub(super) zone: Zone,
    /// The level in colour, for people at a terminal.
    pub(super) colour: bool,
    /// `<N>` in front, from which the systemd journal takes the priority.
    pub(super) priority: bool,
    pub(super) pid: u32,
}

impl Style {
    /// Appends the line for `message`, newline included, to `out`.
    pub(super) fn render(&self, out: &mut String, now: SystemTime, level: Level, message: &str) {
        if self.priority {
            let _ = write!(out, "<{}>", level.journal_priority());
        }
        match self.format {
            LineFormat::Text => self.render_text(out, now, level, message),
            LineFormat::Json => self.render_json(out, now, level, message),
        }
        out.push('\n');
    }

    /// Appends `message` as it goes into a sink that has its own frame for time and level.
    pub(super) fn render_bare(
        &self,
        out: &mut String,
        now: SystemTime,
        level: Level,
        message: &str,
    ) {
        match self.format {
            LineFormat::Text => push_escaped(out, message),
            LineFormat::Json => self.render_json(out, now, level, message),
        }
    }

    /// The moment as it stands in the name of a rotated file: `YYYY.MM.DD.hh.mm.ss.nnnnnnnnn`.
    pub(super) fn file_stamp(&self, now: SystemTime) -> String {
        let (at, nanos) = (self.stamp(now).0, unix_time(now).1);
        let mut stamp = String::new();
        at.push_date(&mut stamp, '.');
        stamp.push('.');
        at.push_time(&mut stamp, '.');
        let _ = write!(stamp, ".{nanos:09}");
        stamp
    }

    /// The date and time of day now, and the seconds by which it is ahead of UTC.
    pub(super) fn stamp(&self, now: SystemTime) -> (Civil, i32) {
        let seconds = unix_time(now).0;
        let offset = if self.utc {
            0
        } else {
            self.zone.offset_at(seconds)
        };
        (Civil::from_seconds(seconds + i64::from(offset)), offset)
    }

    fn render_text(&self, out: &mut String, now: SystemTime, level: Level, message: &str) {
        let _ = write!(out, "[{}] ", self.pid);
        if self.time && !self.priority {
            let (at, _) = self.stamp(now);
            let micros = unix_time(now).1 / 1000;
            at.push_date(out, '/');
            out.push(' ');
            at.push_time(out, ':');
            let _ = write!(out, ".{micros:06} ");
        }
        let label = level.label();
        if self.colour {
            let _ = write!(out, "[\x1b[{}m{label}\x1b[0m] ", level.colour());
        } else {
            let _ = write!(out, "[{label}] ");
        }
        push_escaped(out, message);
    }

    fn render_json(&self, out: &mut String, now: SystemTime, level: Level, message: &str) {
        out.push('{');
        if self.time && !self.priority {
            let micros = unix_time(now).1 / 1000;
            out.push_str("\"time\":\"");
            self.push_rfc3339(out, now, Some(micros));
            out.push_str("\",");
        }
        let _ = write!(
            out,
            "\"level\":\"{}\",\"pid\":{},\"msg\":\"",
            level.label(),
            self.pid
        );
        push_json(out, message);
        out.push_str("\"}");
    }

    /// Appends `2026-01-02T03:04:05Z`, with microseconds if they are given, and with the zone's offset if it has one.
    pub(super) fn push_rfc3339(&self, out: &mut String, now: SystemTime, micros: Option<u32>) {
        let (at, offset) = self.stamp(now);
        at.push_date(out, '-');
        out.push('T');
        at.push_time(out, ':');
        if let Some(micros) = micros {
            let _ = write!(out, ".{micros:06}");
        }
        if offset == 0 {
            out.push('Z');
            return;
        }
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.unsigned_abs() / 60;
        let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    }
}

/// Seconds since the epoch, rounded down, and the nanoseconds that are left. A clock before the epoch shows the epoch.
pub(super) fn unix_time(now: SystemTime) -> (i64, u32) {
    match now.duration_since(UNIX_EPOCH) {
        Ok(since) => (
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2),
            since.subsec_nanos(),
        ),
        Err(_) => (0, 0),
    }
}

/// True for what could start a new line or command a terminal: the C0 and C1 controls and Unicode's line separators.
fn is_unsafe(letter: char) -> bool {
    letter.is_control() || letter == '\u{2028}' || letter == '\u{2029}'
}

fn push_escaped(out: &mut String, message: &str) {
    if !message.chars().any(is_unsafe) {
        out.push_str(message);
        return;
    }
    for letter in message.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(letter));
            }
            letter if is_unsafe(letter) => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
}

fn push_json(out: &mut String, message: &str) {
    for letter in message.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if is_unsafe(letter) => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn style() -> Style {
        Style {
            format: LineFormat::Text,
            time: true,
            utc: true,
            zone: Zone::utc(),
            colour: false,
            priority: false,
            pid: 42,
        }
    }

    fn line(style: &Style, level: Level, message: &str) -> String {
        let now = UNIX_EPOCH + Duration::new(1_767_323_045, 67_890_999);
        let mut out = String::new();
        style.render(&mut out, now, level, message);
        out
    }

    #[test]
    fn a_text_line_has_pid_time_level_and_message() {
        let expected = "[42] 2026/01/02 03:04:05.067890 [INF] Server is ready\n";
        assert_eq!(line(&style(), Level::Info, "Server is ready"), expected);
    }

    #[test]
    fn a_text_line_can_go_without_time_and_with_colour() {
        let plain = Style {
            time: false,
            ..style()
        };
        assert_eq!(line(&plain, Level::Warn, "x"), "[42] [WRN] x\n");
        let coloured = Style {
            time: false,
            colour: true,
            ..style()
        };
        assert_eq!(
            line(&coloured, Level::Warn, "x"),
            "[42] [\x1b[0;93mWRN\x1b[0m] x\n"
        );
        assert_eq!(
            line(&coloured, Level::Fatal, "x"),
            "[42] [\x1b[31mFTL\x1b[0m] x\n"
        );
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        let journal = Style {
            priority: true,
            ..style()
        };
        assert_eq!(line(&journal, Level::Error, "x"), "<3>[42] [ERR] x\n");
        assert_eq!(line(&journal, Level::Debug, "x"), "<7>[42] [DBG] x\n");
    }

    #[test]
    fn a_message_cannot_forge_a_second_line_or_command_a_terminal() {
        let plain = Style {
            time: false,
            ..style()
        };
        let forged = "a\r\n[42] [INF] forged\t\0\x1b[2J\x7f\u{9b}\u{2028}ü";
        let expected = "[42] [ERR] a\\r\\n[42] [INF] forged\\t\\x00\\x1b[2J\\x7f\\u009b\\u2028ü\n";
        assert_eq!(line(&plain, Level::Error, forged), expected);
    }

    #[test]
    fn a_json_line_is_one_object_that_gives_the_message_back() {
        let json = Style {
            format: LineFormat::Json,
            ..style()
        };
        let message = "say \"hi\"\\\n\u{1}\u{2029}ü";
        let text = line(&json, Level::Info, message);
        assert!(text.starts_with(
            "{\"time\":\"2026-01-02T03:04:05.067890Z\",\"level\":\"INF\",\"pid\":42,\"msg\":\""
        ));
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.get("msg").unwrap(), message);
    }

    #[test]
    fn a_local_time_in_json_shows_its_offset() {
        let mut out = String::new();
        let west = Style {
            utc: false,
            zone: Zone::from_posix("<-0330>3:30").unwrap(),
            ..style()
        };
        west.push_rfc3339(
            &mut out,
            UNIX_EPOCH + Duration::from_secs(1_767_323_045),
            None,
        );
        assert_eq!(out, "2026-01-01T23:34:05-03:30");
    }
}
