//! The command line: what the program was asked to do.
//!
//! Flags are spelled as in the reference server: one dash or two, `-p 1` or `-p=1`, a switch with a value only as
//! `-D=false`, no clusters of letters. One table (`table`) holds them all: parsing and help both come from it.
//! Unlike there, a mistake ends the program with a status that scripts notice.

use std::ffi::{OsStr, OsString};
use std::fmt;

use getopts::{Fail, HasArg, Matches, Occur, ParsingStyle};

pub use self::flags::{ClusterListen, Flags, Port};
pub use self::health::{HealthError, check_health};
pub use self::signal::{SignalError, send_signal};
use self::table::{Flag, GROUPS, Value};
pub(crate) use self::value::parse_bool;
use self::value::{IntegerError, parse_integer};
use crate::order;
use crate::proto::info::PROTOCOL_VERSION;

mod flags;
mod health;
mod help;
mod help_config;
mod signal;
mod table;
mod value;

/// What the program was asked to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Read the configuration that the flags name, say whether it is valid, and end.
    CheckConfig(Box<Flags>),
    /// Ask a running server how it is: [`check_health`].
    HealthCheck {
        /// Where it is.
        url: Option<String>,
        /// What tells it if there is no address, and whom to trust.
        flags: Box<Flags>,
    },
    /// Print [`help`].
    Help,
    /// Print [`help_config`].
    HelpConfig,
    /// Print [`help_tls`].
    HelpTls,
    /// Run the server.
    Run(Box<Flags>),
    /// [`send_signal`] to a running server.
    Signal {
        /// `stop`, `quit`, `term`, `reopen`, `reload` or `ldm`, unless it is a mistake.
        command: String,
        /// A process id, a file that holds one, or a pattern that ends in `*`; whichever runs when absent.
        target: Option<String>,
    },
    /// Print [`version`].
    Version,
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// `-t` without a file.
    CheckWithoutConfig,
    /// A flag, named in the text, that is unknown, incomplete, or has a value that it cannot have.
    Flag(String),
    /// More `=` in the argument of `--signal` than one: what is too much.
    SignalParameters(String),
    /// A word that is no flag.
    Word(String),
}

impl CliError {
    /// The status with which the program ends: 2 for a bad flag, else 1 as in the reference server.
    pub fn exit_status(&self) -> u8 {
        match self {
            CliError::Flag(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::CheckWithoutConfig => {
                f.write_str("must specify [-c, --config] option to check configuration file syntax")
            }
            CliError::Flag(what) => write!(f, "{what} (try `midge --help`)"),
            CliError::SignalParameters(rest) => write!(f, "invalid signal parameters: [{rest}]"),
            CliError::Word(word) => write!(f, "unrecognized command: {word:?}"),
        }
    }
}

impl std::error::Error for CliError {}

/// What a command line amounts to before it is known which of its requests wins.
#[derive(Default)]
struct Invocation {
    flags: Flags,
    check: bool,
    /// Given at all, and then perhaps with an address.
    health_check: Option<Option<String>>,
    help: bool,
    help_config: bool,
    help_tls: bool,
    signal: Option<String>,
    version: bool,
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// [`CliError`], whose text is one line that names the flag, the value and what it may be.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    let mut invocation = Invocation::default();
    let mut words = invocation.read(arguments)?;
    if invocation.health_check == Some(None) && words.len() > 1 {
        // The first word is the address, and flags may follow it.
        let rest = words.split_off(1);
        words.extend(invocation.read(rest)?);
    }
    invocation.decide(&words)
}

/// The name and version of this program, and the protocol level that it serves.
pub fn version() -> String {
    format!(
        "midge: v{} (protocol {PROTOCOL_VERSION})",
        env!("CARGO_PKG_VERSION")
    )
}

/// The text for `--help`.
pub fn help() -> String {
    help::usage()
}

/// The text for `--help_config`.
pub fn help_config() -> String {
    help_config::options()
}

/// The text for `--help_tls`.
pub fn help_tls() -> &'static str {
    help::TLS
}

impl Invocation {
    /// Takes flags up to the first word, and gives the words from there on.
    fn read<A: AsRef<OsStr>>(
        &mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<String>, CliError> {
        let matches = grammar().parse(arguments).map_err(unmatched)?;
        for (flag, name, value) in in_order(&matches) {
            flag.value.set(self, name, value)?;
        }
        Ok(matches.free)
    }

    fn decide(self, words: &[String]) -> Result<Command, CliError> {
        if self.version {
            return Ok(Command::Version);
        }
        if self.help {
            return Ok(Command::Help);
        }
        if self.help_config {
            return Ok(Command::HelpConfig);
        }
        if self.help_tls {
            return Ok(Command::HelpTls);
        }
        let check = |url, flags| {
            let flags = Box::new(flags);
            Ok(Command::HealthCheck { url, flags })
        };
        match (words, &self.health_check) {
            ([], _) => {}
            // An address may also follow as a word.
            ([url], Some(None)) => return check(Some(url.clone()), self.flags),
            ([word, ..], _) => return decide_word(word),
        }
        if let Some(signal) = self.signal.filter(|signal| !signal.is_empty()) {
            return decide_signal(&signal);
        }
        if let Some(url) = self.health_check {
            return check(url, self.flags);
        }
        let flags = Box::new(self.flags);
        match (self.check, &flags.config) {
            (true, None) => Err(CliError::CheckWithoutConfig),
            (true, Some(_)) => Ok(Command::CheckConfig(flags)),
            (false, _) => Ok(Command::Run(flags)),
        }
    }
}

fn decide_word(word: &str) -> Result<Command, CliError> {
    match word.to_ascii_lowercase().as_str() {
        "version" => Ok(Command::Version),
        "help" => Ok(Command::Help),
        _ => Err(CliError::Word(word.into())),
    }
}

/// Splits `command[=target]`.
fn decide_signal(signal: &str) -> Result<Command, CliError> {
    let mut parts = signal.split('=').map(str::to_string);
    let command = parts.next().unwrap_or_default();
    let target = parts.next();
    let rest: Vec<String> = parts.collect();
    if !rest.is_empty() {
        return Err(CliError::SignalParameters(rest.join(" ")));
    }
    Ok(Command::Signal { command, target })
}

/// The table in the form that getopts takes: each name for itself, so that errors can show the one that was typed.
fn grammar() -> getopts::Options {
    let mut options = getopts::Options::new();
    // Any number of dashes up to two, no clusters, and the end at the first word: the reference server's ways.
    options
        .long_only(true)
        .parsing_style(ParsingStyle::StopAtFirstFree);
    for (flag, name) in names() {
        let (short, long) = if name.len() == 1 {
            (name, "")
        } else {
            ("", name)
        };
        let has_argument = if flag.value.needs_argument() {
            HasArg::Yes
        } else {
            HasArg::Maybe
        };
        options.opt(short, long, "", "", has_argument, Occur::Multi);
    }
    options
}

fn names() -> impl Iterator<Item = (&'static Flag, &'static str)> {
    let flags = GROUPS.iter().flat_map(|group| group.flags);
    flags.flat_map(|flag| flag.names.iter().map(move |name| (flag, *name)))
}

/// Every flag that was given, under the name that was typed, in the order of typing: of repeated ones the last wins.
fn in_order(matches: &Matches) -> Vec<(&'static Flag, &'static str, Option<String>)> {
    let mut given = Vec::new();
    for (flag, name) in names() {
        let mut values = matches.opt_strs_pos(name);
        for position in matches.opt_positions(name) {
            let with_value = values.iter().position(|(at, _)| *at == position);
            let value = with_value.map(|at| values.swap_remove(at).1);
            given.push((position, flag, name, value));
        }
    }
    order::sort_by_key(&mut given, |(position, ..)| *position);
    given
        .into_iter()
        .map(|(_, flag, name, value)| (flag, name, value))
        .collect()
}

fn unmatched(fail: Fail) -> CliError {
    CliError::Flag(match fail {
        // Nothing stands between the dashes and a `=`.
        Fail::UnrecognizedOption(name) if name.is_empty() => "bad flag syntax: -=".into(),
        Fail::UnrecognizedOption(name) if name.starts_with('-') => {
            format!("bad flag syntax: --{name}")
        }
        Fail::UnrecognizedOption(name) => format!("flag provided but not defined: -{name}"),
        Fail::ArgumentMissing(name) => format!("flag needs an argument: -{name}"),
        // These take a grammar that ours is not.
        other => other.to_string(),
    })
}

impl Value {
    fn needs_argument(&self) -> bool {
        !matches!(
            self,
            Value::Switch(_) | Value::Optional(..) | Value::Unsupported { argument: None, .. }
        )
    }

    /// Stores `text`, which was given for the flag `name`, where it belongs.
    fn set(
        &self,
        invocation: &mut Invocation,
        name: &str,
        text: Option<String>,
    ) -> Result<(), CliError> {
        let invalid = |text: &str, why: &str| {
            Err(CliError::Flag(format!(
                "invalid value {text:?} for flag -{name}: {why}"
            )))
        };
        match self {
            Value::Switch(set) => set(invocation, switch(name, text.as_deref())?),
            Value::Optional(_, set) => set(invocation, text),
            Value::Text(_, set) => set(invocation, text.unwrap_or_default()),
            Value::Integer(_, range, set) => {
                let text = text.unwrap_or_default();
                match parse_integer(&text) {
                    Ok(number) if range.contains(&number) => set(invocation, number),
                    Err(IntegerError::Syntax) => return invalid(&text, "must be a whole number"),
                    Ok(_) | Err(IntegerError::Range) => {
                        return invalid(
                            &text,
                            &format!("must be from {} to {}", range.start(), range.end()),
                        );
                    }
                }
            }
            Value::Checked(_, set) => {
                // The value is not shown: it may hold a password.
                let named =
                    |why: String| CliError::Flag(format!("invalid value for flag -{name}: {why}"));
                set(invocation, &text.unwrap_or_default()).map_err(named)?;
            }
            Value::Unsupported {
                argument: None,
                why,
            } => {
                // Switching off what is never on is no mistake.
                if switch(name, text.as_deref())? {
                    return Err(CliError::Flag(format!(
                        "flag -{name} is not supported: {why}"
                    )));
                }
            }
            Value::Unsupported {
                argument: Some("port"),
                ..
            } if text.as_deref() == Some("0") => {}
            Value::Unsupported { why, .. } => {
                return Err(CliError::Flag(format!(
                    "flag -{name} is not supported: {why}"
                )));
            }
        }
        Ok(())
    }
}

fn switch(name: &str, text: Option<&str>) -> Result<bool, CliError> {
    let Some(text) = text else { return Ok(true) };
    let invalid = || format!("invalid boolean value {text:?} for -{name}: must be true or false");
    parse_bool(text).ok_or_else(|| CliError::Flag(invalid()))
}

#[cfg(test)]
mod tests;
