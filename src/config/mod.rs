//! Configuration: what can be set, and how it is read.
//!
//! ```text
//! text ─ lex, parse ─► tree of values with places ─ apply ─► Options ─ command line ─► settle, check ─► a server
//!                      └► digest                             └► diff: what a reload changes
//! ```
//!
//! The language is that of the reference server: a superset of JSON with comments, variables and includes. What options
//! there are stands in [`table`].

use std::path::Path;

use crate::limits;

mod apply;
mod diff;
mod digest;
mod duration;
mod error;
mod lex;
mod nkey;
mod number;
pub mod options;
mod outside;
mod parse;
mod report;
mod scope;
mod subjects;
pub mod table;
pub mod value;

pub use diff::{Changes, Refused, diff};
pub use duration::shown as show_duration;
pub use error::{ConfigErrors, Notice, Position, Whereabouts};
pub use options::Options;
pub use outside::{Nothing, Outside, System};

/// A configuration that a server can start with.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The options, complete.
    pub options: Options,
    /// `sha256:` and 64 hexadecimal digits: the same for files that say the same.
    pub digest: String,
    /// What the operator should know.
    pub warnings: Vec<Notice>,
}

/// Loads the configuration file at `path`.
///
/// # Errors
///
/// Everything that is wrong with it, and the warnings there were besides.
pub fn load(path: &Path, outside: &dyn Outside) -> Result<Loaded, ConfigErrors> {
    load_with(path, outside, |_| {})
}

/// Loads the configuration file at `path`, and lets the command line have the last word: `overrule` may change any
/// option before they are checked together.
///
/// # Errors
///
/// Everything that is wrong with it, and the warnings there were besides.
pub fn load_with(
    path: &Path,
    outside: &dyn Outside,
    overrule: impl FnOnce(&mut Options),
) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    match outside.read(path) {
        Ok(text) => parse_with(&name, &text, outside, overrule),
        Err(error) => {
            let notice = Notice::general(outside::describe(&name, &error));
            Err(ConfigErrors {
                warnings: Vec::new(),
                errors: vec![notice],
            })
        }
    }
}

/// Loads a configuration from `text`; errors name it `name`, and includes are looked for beside that.
///
/// # Errors
///
/// Everything that is wrong with it, and the warnings there were besides.
pub fn parse_str(name: &str, text: &str, outside: &dyn Outside) -> Result<Loaded, ConfigErrors> {
    parse_with(name, text.as_bytes(), outside, |_| {})
}

/// As [`parse_str`], from bytes that need not be text, and with options overruled as in [`load_with`].
///
/// # Errors
///
/// Everything that is wrong with it, and the warnings there were besides.
pub fn parse_with(
    name: &str,
    text: &[u8],
    outside: &dyn Outside,
    overrule: impl FnOnce(&mut Options),
) -> Result<Loaded, ConfigErrors> {
    let parse::Parsed { map, errors } = parse::parse(name, text, outside);
    let apply::Applied {
        mut options,
        report,
        places,
        flawed,
    } = apply::apply(&map);
    let report::Report {
        errors: mistakes,
        mut warnings,
    } = report;
    if map.entries.is_empty() && errors.is_empty() {
        warnings.push(Notice::general(format!(
            "{name}: config has no values or is empty"
        )));
    }
    // What was not read may be anything.
    let is_read = errors.is_empty() && mistakes.len() <= limits::CONFIG_ERRORS_MAX;
    let mut errors: Vec<_> = errors.into_iter().chain(mistakes).collect();
    overrule(&mut options);
    options.settle();
    let problems = if is_read { options.check() } else { Vec::new() };
    for options::Problem { options, text } in problems {
        // Those that are incomplete because of an error would only give misleading ones.
        let block = |name: &'static str| name.split('.').next().unwrap_or(name);
        if options.iter().any(|name| flawed.contains(&block(name))) {
            continue;
        }
        let place = |name: &&str| places.iter().rfind(|(it, _)| it == name);
        let at = options.iter().find_map(place).map(|(_, at)| at.clone());
        errors.push(Notice::new(at, &text));
    }
    if errors.is_empty() {
        return Ok(Loaded {
            options,
            digest: digest::digest(&map),
            warnings,
        });
    }
    Err(ConfigErrors { warnings, errors })
}
