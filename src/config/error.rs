//! Where something stands in a configuration, and what is wrong with it there.
//!
//! Columns count as the reference server counts them: bytes from the last line feed, hence from 0 on the first line and
//! from 1 on all others. Tools that jump to a position know it that way.

use std::fmt;
use std::sync::Arc;

use crate::log::escape;

/// A place in a configuration file. Cheap to clone: the name is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file's name as it was given; of an included file, the joined path.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Bytes since the last line feed: from 0 on line 1, from 1 on later lines.
    pub column: u32,
}

/// Where an option stands, kept beside its value; absent where it comes from elsewhere. It is no part of the value: any
/// two are equal.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts(pub Option<Position>);

impl PartialEq for Whereabouts {
    fn eq(&self, _other: &Whereabouts) -> bool {
        true
    }
}

impl Eq for Whereabouts {}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = escape(&self.file);
        write!(f, "{file}:{}:{}", self.line, self.column)
    }
}

/// One thing to tell the operator, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The place; absent for what belongs to no line, such as a file that cannot be opened.
    pub at: Option<Position>,
    /// What is wrong, in one line that a terminal shows as it is. Never shows a secret.
    pub text: String,
}

impl Notice {
    /// A notice about the place `at`.
    pub(super) fn at(at: &Position, text: impl Into<String>) -> Self {
        Notice::new(Some(at.clone()), &text.into())
    }

    /// A notice about the configuration as a whole.
    pub(super) fn general(text: impl Into<String>) -> Self {
        Notice::new(None, &text.into())
    }

    /// A notice with or without a place. The text may have come from anywhere: what it quotes is made visible.
    pub(super) fn new(at: Option<Position>, text: &str) -> Self {
        let text = escape(text);
        Notice { at, text }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Why a configuration was refused: every error, in the order of the file, and the warnings there were besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    /// What would not have stopped the server.
    pub warnings: Vec<Notice>,
    /// What does. Never empty in a result.
    pub errors: Vec<Notice>,
}

impl fmt::Display for ConfigErrors {
    /// The warnings, then the errors, one on each line; no line feed after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, notice) in self.warnings.iter().chain(&self.errors).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{notice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
