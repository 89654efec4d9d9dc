//! Takes typed values out of the tree and gathers what is wrong with them.
//!
//! Each method that finds a mistake reports it and gives nothing, so that the caller goes on with the next option.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::duration::{self, Signed};
use super::error::{Notice, Position};
use super::table::{self, Block, Known, Status};
use super::value::{Data, Entry, Map, Value};
use crate::limits;

/// What there is to tell about a configuration, in the order of finding it.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) errors: Vec<Notice>,
    pub(super) warnings: Vec<Notice>,
}

impl Report {
    pub(super) fn error(&mut self, at: &Position, text: impl Into<String>) {
        // A file may use one bad map ten thousand times.
        match self.errors.len() {
            limits::CONFIG_ERRORS_MAX => self
                .errors
                .push(Notice::general("too many errors, the rest are not shown")),
            len if len < limits::CONFIG_ERRORS_MAX => self.errors.push(Notice::at(at, text)),
            _ => {}
        }
    }

    pub(super) fn warn(&mut self, entry: &Entry, text: &str) {
        self.remark(
            &entry.at,
            format!("invalid use of field \"{}\": {text}", entry.key),
        );
    }

    /// Something that the operator should know, and that is no mistake.
    pub(super) fn remark(&mut self, at: &Position, text: impl Into<String>) {
        if self.warnings.len() < limits::CONFIG_ERRORS_MAX {
            self.warnings.push(Notice::at(at, text));
        }
    }

    /// Gives `take` each option of the block that midge has, by its main name; reports what it has not. Of several
    /// spellings of one option the last counts, so that a variable may have its name.
    pub(super) fn each<'m>(
        &mut self,
        block: Block,
        map: &'m Map,
        mut take: impl FnMut(&mut Self, &'static str, &'m Entry),
    ) {
        for (entry, known) in options_of(block, map) {
            if self.errors.len() > limits::CONFIG_ERRORS_MAX {
                return;
            }
            let key = &entry.key;
            match known {
                Some(known) if known.status == Status::Supported => take(self, known.name, entry),
                Some(known) if known.status == Status::Ignored || is_off(known, &entry.value) => {}
                Some(known) => {
                    self.error(
                        &entry.at,
                        format!(
                            "option \"{key}\" is not supported by midge ({})",
                            known.help
                        ),
                    );
                }
                // A variable is a key like any other, but in a tls block the reference server takes none.
                None if entry.used && block != Block::Tls => {}
                None => self.error(&entry.at, unknown(block, key)),
            }
        }
    }

    /// Says what the option must be, and gives nothing.
    pub(super) fn wrong_type<T>(&mut self, entry: &Entry, wanted: &str) -> Option<T> {
        let (key, is) = (&entry.key, entry.value.kind());
        let text = format!("option \"{key}\" must be {wanted}, but is {is}");
        self.error(&entry.at, text);
        None
    }

    pub(super) fn string<'m>(&mut self, entry: &'m Entry) -> Option<&'m Arc<str>> {
        match &entry.value.data {
            Data::String(text) => Some(text),
            _ => self.wrong_type(entry, "a string"),
        }
    }

    pub(super) fn text(&mut self, entry: &Entry) -> Option<String> {
        self.string(entry).map(|text| text.to_string())
    }

    /// A path; an empty one is none.
    pub(super) fn path(&mut self, entry: &Entry) -> Option<Option<PathBuf>> {
        self.string(entry).map(|text| {
            if text.is_empty() {
                None
            } else {
                Some(PathBuf::from(&**text))
            }
        })
    }

    pub(super) fn boolean(&mut self, entry: &Entry) -> Option<bool> {
        match entry.value.data {
            Data::Bool(flag) => Some(flag),
            _ => self.wrong_type(entry, "a boolean"),
        }
    }

    pub(super) fn integer(&mut self, entry: &Entry) -> Option<i64> {
        match entry.value.data {
            Data::Integer(number) => Some(number),
            _ => self.wrong_type(entry, "an integer"),
        }
    }

    /// An integer that fits the type.
    pub(super) fn number<T: TryFrom<i64>>(&mut self, entry: &Entry) -> Option<T> {
        let number = self.integer(entry)?;
        let fitting = T::try_from(number).ok();
        if fitting.is_none() {
            if number < 0 {
                self.error(
                    &entry.at,
                    format!("{} value can not be negative", entry.key),
                );
            } else {
                // Every type that options have is without sign.
                let bits = 8 * size_of::<T>();
                self.too_big(entry, i64::MAX >> 63_usize.saturating_sub(bits));
            }
        }
        fitting
    }

    fn too_big(&mut self, entry: &Entry, max: impl Display) {
        let text = format!("{} value is too big, the limit is {max}", entry.key);
        self.error(&entry.at, text);
    }

    /// A number of which a negative one is as none.
    pub(super) fn unless_negative<T: TryFrom<i64>>(&mut self, entry: &Entry) -> Option<Option<T>> {
        if self.integer(entry)? < 0 {
            Some(None)
        } else {
            self.number(entry).map(Some)
        }
    }

    /// A limit: 0 and less are unlimited.
    pub(super) fn limit<T: TryFrom<i64>>(&mut self, entry: &Entry) -> Option<Option<T>> {
        let number = self.integer(entry)?;
        if number <= 0 {
            Some(None)
        } else {
            self.number(entry).map(Some)
        }
    }

    /// A size of which 0 stands for the default, and that the protocol gives 31 bits.
    pub(super) fn size(&mut self, entry: &Entry, default: usize) -> Option<usize> {
        let number = self.integer(entry)?;
        if number > i64::from(i32::MAX) {
            self.too_big(entry, i32::MAX);
            return None;
        }
        if number == 0 {
            Some(default)
        } else {
            self.number(entry)
        }
    }

    /// A port; `-1` (any, as for the system) is 0, and 0 is `None`.
    pub(super) fn port(&mut self, entry: &Entry) -> Option<Option<u16>> {
        let number = self.integer(entry)?;
        let port = port_number(number);
        if port.is_none() {
            let text = format!("{} {number} is not a port: it must be {PORTS}", entry.key);
            self.error(&entry.at, text);
        }
        port
    }

    pub(super) fn map<'m>(&mut self, entry: &'m Entry) -> Option<&'m Map> {
        match &entry.value.data {
            Data::Map(map) => Some(map),
            _ => self.wrong_type(entry, "a map"),
        }
    }

    pub(super) fn items<'m>(&mut self, entry: &'m Entry) -> Option<&'m [Value]> {
        match &entry.value.data {
            Data::Array(array) => Some(&array.items),
            _ => self.wrong_type(entry, "an array"),
        }
    }

    /// The maps in an array.
    pub(super) fn maps<'m>(&mut self, entry: &'m Entry) -> Vec<(&'m Map, &'m Position)> {
        let items = self.items(entry).unwrap_or_default();
        let mut maps = Vec::with_capacity(items.len());
        for item in items {
            match &item.data {
                Data::Map(map) => maps.push((&**map, &item.at)),
                _ => {
                    self.error(
                        &item.at,
                        format!(
                            "each entry of \"{}\" must be a map, but this is {}",
                            entry.key,
                            item.kind()
                        ),
                    );
                }
            }
        }
        maps
    }

    /// The strings in an array.
    pub(super) fn texts<'m>(&mut self, entry: &'m Entry) -> Option<Vec<(&'m str, &'m Position)>> {
        let mut texts = Vec::new();
        for item in self.items(entry)? {
            match &item.data {
                Data::String(text) => texts.push((&**text, &item.at)),
                _ => {
                    self.error(
                        &item.at,
                        format!(
                            "each entry of \"{}\" must be a string, but this is {}",
                            entry.key,
                            item.kind()
                        ),
                    );
                }
            }
        }
        Some(texts)
    }

    /// The strings in an array, or the only one.
    pub(super) fn text_or_texts<'m>(
        &mut self,
        entry: &'m Entry,
    ) -> Option<Vec<(&'m str, &'m Position)>> {
        match &entry.value.data {
            Data::String(text) => Some(vec![(&**text, &entry.value.at)]),
            Data::Array(_) => self.texts(entry),
            _ => self.wrong_type(entry, "a string or an array of them"),
        }
    }

    /// A duration in its own syntax; negative ones too.
    pub(super) fn signed_duration(&mut self, entry: &Entry) -> Option<Signed> {
        self.duration_or(entry, "a duration such as \"30s\"")
    }

    /// The same for an option that can be something else too, with the words for all that it can be.
    fn duration_or(&mut self, entry: &Entry, wanted: &str) -> Option<Signed> {
        let Data::String(text) = &entry.value.data else {
            return self.wrong_type(entry, wanted);
        };
        match duration::parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.error(&entry.at, format!("error parsing {}: {reason}", entry.key));
                None
            }
        }
    }

    fn not_negative(&mut self, entry: &Entry, value: Signed) -> Option<Duration> {
        if value.is_negative && !value.length.is_zero() {
            self.error(
                &entry.at,
                format!("invalid {}, needs to be positive", entry.key),
            );
            return None;
        }
        Some(value.length)
    }

    /// A duration; a bare integer is not one.
    pub(super) fn duration(&mut self, entry: &Entry) -> Option<Duration> {
        let value = self.signed_duration(entry)?;
        self.not_negative(entry, value)
    }

    /// A duration; a bare integer is seconds, and warned about.
    pub(super) fn duration_or_integer(&mut self, entry: &Entry) -> Option<Duration> {
        let Data::Integer(_) = entry.value.data else {
            let value = self.duration_or(entry, "a duration such as \"30s\", or whole seconds")?;
            return self.not_negative(entry, value);
        };
        self.warn(
            entry,
            &format!("{} should be converted to a duration", entry.key),
        );
        self.number::<u32>(entry)
            .map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Seconds, with or without a fraction, or a duration.
    pub(super) fn seconds(&mut self, entry: &Entry) -> Option<Duration> {
        let length = match entry.value.data {
            Data::Integer(_) => Duration::from_secs(self.number::<u32>(entry)?.into()),
            Data::Float(seconds) => {
                let max = f64::from(u32::MAX);
                let length = Duration::try_from_secs_f64(seconds).ok();
                let Some(length) = length.filter(|_| seconds <= max) else {
                    let text = format!("{} value is out of range, from 0 to {max}", entry.key);
                    self.error(&entry.at, text);
                    return None;
                };
                length
            }
            Data::String(_) => self.duration(entry)?,
            _ => {
                return self.wrong_type(entry, "a number of seconds or a duration");
            }
        };
        if length > limits::TIMEOUT_ADVISED {
            let shown = duration::shown(length);
            let advice = "consider keeping it under 60 seconds; a duration without quotes, such as 1m, is a number";
            self.warn(entry, &format!("timeout of {shown} is high, {advice}"));
        }
        Some(length)
    }

    /// `host:port`, or a port alone. The port is as in [`Report::port`].
    pub(super) fn listen(&mut self, entry: &Entry) -> Option<(String, Option<u16>)> {
        let text = match &entry.value.data {
            Data::Integer(_) => return self.port(entry).map(|port| (String::new(), port)),
            Data::String(text) => text,
            _ => {
                self.error(
                    &entry.at,
                    format!(
                        "expected port or host:port, but \"{}\" is {}",
                        entry.key,
                        entry.value.kind()
                    ),
                );
                return None;
            }
        };
        let parts = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:"),
            None => text.split_once(':').filter(|(_, port)| !port.contains(':')),
        };
        let Some((host, port)) = parts else {
            self.error(
                &entry.at,
                format!("could not parse address string \"{text}\""),
            );
            return None;
        };
        let Some(port) = port.parse().ok().and_then(port_number) else {
            let text = format!("could not parse port \"{port}\": it must be {PORTS}");
            self.error(&entry.at, text);
            return None;
        };
        Some((host.into(), port))
    }
}

/// What a port can be.
const PORTS: &str = "from -1 to 65535";

/// A port of a configuration: negative ones let the system choose, which is 0; 0 is not set.
fn port_number(number: i64) -> Option<Option<u16>> {
    match number {
        0 => Some(None),
        -1 => Some(Some(0)),
        _ => u16::try_from(number).ok().map(Some),
    }
}

/// The entries of a block with what they are, but for those that a later spelling of the same option replaces.
fn options_of(block: Block, map: &Map) -> Vec<(&Entry, Option<&'static Known>)> {
    let mut later = Vec::new();
    let mut options = Vec::with_capacity(map.entries.len());
    for entry in map.entries.iter().rev() {
        let known = table::find(block, &entry.key);
        match known.map(|it| it.name) {
            Some(name) if later.contains(&name) => continue,
            name => later.extend(name),
        }
        options.push((entry, known));
    }
    options.reverse();
    options
}

/// Whether a value switches its feature off, which needs no support.
fn is_off(known: &Known, value: &Value) -> bool {
    match &value.data {
        Data::Bool(flag) => !flag,
        Data::Integer(number) => *number == 0,
        Data::String(text) => text.eq_ignore_ascii_case("disabled"),
        Data::Array(array) => known.block == Block::Top && array.items.is_empty(),
        Data::Map(map) if known.name == "jetstream" => is_disabled(map),
        Data::Map(map) => {
            let is_on = ON_WHEN_EMPTY.contains(&known.name);
            known.block == Block::Top && map.entries.is_empty() && !is_on
        }
        _ => false,
    }
}

/// Whether a `jetstream` block says that it is not to be.
fn is_disabled(map: &Map) -> bool {
    let is_it = |entry: &&Entry| {
        ["enabled", "enable"]
            .iter()
            .any(|it| entry.key.eq_ignore_ascii_case(it))
    };
    let last = map.entries.iter().rfind(is_it);
    last.is_some_and(|entry| entry.value.data == Data::Bool(false))
}

/// Blocks of the top level that do something, or are wrong, without anything in them; others need a port, or a name.
const ON_WHEN_EMPTY: [&str; 3] = ["ocsp", "ocsp_cache", "resolver"];

fn unknown(block: Block, key: &str) -> String {
    match block {
        Block::Tls | Block::Certs => format!("error parsing tls config, unknown field \"{key}\""),
        Block::Permissions | Block::Responses => {
            format!("Unknown field \"{key}\" parsing permissions")
        }
        Block::Limits => format!("Unknown field \"{key}\" parsing account limits"),
        Block::Subjects => {
            format!(
                "Unknown field name \"{key}\" parsing subject permissions, only 'allow' or 'deny' are permitted"
            )
        }
        _ => format!("unknown field \"{key}\""),
    }
}

/// Sets the option if there is a value for it.
pub(super) fn set<T>(option: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *option = value;
    }
}
