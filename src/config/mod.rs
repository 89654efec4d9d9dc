//! Configuration: what can be set, and how it is read.
//!
//! Text becomes a tree of values with their places (`lex`, `parse`). The language is that of the reference server: a
//! superset of JSON with comments, variables and includes.

mod digest;
pub mod error;
mod lex;
mod number;
pub mod options;
pub mod outside;
mod parse;
mod scope;
pub mod value;

pub use error::{ConfigErrors, Notice, Position};
pub use outside::{Nothing, Outside, System};

/// A configuration that can be read, whatever it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The top level of the file.
    pub root: value::Map,
    /// `sha256:` and 64 hexadecimal digits: the same for files that say the same.
    pub digest: String,
}

/// Parses `text`, the content of the file `name`, without asking whether its options exist.
///
/// Includes are looked for beside `name`; files and environment variables come from `outside`.
///
/// # Errors
///
/// Every place where the text is not in the configuration language, or refers to what is not there.
pub fn tree(name: &str, text: &[u8], outside: &dyn Outside) -> Result<Tree, ConfigErrors> {
    let parse::Parsed { map, errors } = parse::parse(name, text, outside);
    if errors.is_empty() {
        let digest = digest::digest(&map);
        return Ok(Tree { root: map, digest });
    }
    Err(ConfigErrors {
        warnings: Vec::new(),
        errors,
    })
}
