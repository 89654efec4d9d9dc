//! The two things that a configuration reaches outside its own text for: files and environment variables.
//!
//! Behind a trait, so that tests and the fuzzer need neither.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::cause::cause;
use crate::limits;

/// Where a configuration gets files and environment variables from.
pub trait Outside {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// The whole content of a file.
    ///
    /// # Errors
    ///
    /// Whatever keeps the file from being read; a file above [`limits::CONFIG_BYTES_MAX`] is an error too.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The process's own environment and file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Outside for System {
    fn variable(&self, name: &str) -> Option<String> {
        // A name with these in it is no variable, and the standard library may refuse to look.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let ceiling = u64::try_from(limits::CONFIG_BYTES_MAX).unwrap_or(u64::MAX);
        let mut text = Vec::new();
        let file = File::open(path)?;
        let mut start = (&file).take(ceiling.saturating_add(1));
        start.read_to_end(&mut text)?;
        if text.is_empty() && file.metadata()?.file_type().is_fifo() {
            // What was to fill it has failed, or it was read to its end before. Nobody wants a server without users for that.
            let text = "it is a pipe that gives nothing";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if text.len() > limits::CONFIG_BYTES_MAX {
            let limit = limits::CONFIG_BYTES_MAX;
            let text = format!("file is too large for a configuration, the limit is {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(text)
    }
}

/// No files and no environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Outside for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The error in the words that operators know from the reference server: `open x.conf: no such file or directory`.
pub(super) fn describe(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        io::ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
        io::ErrorKind::IsADirectory => format!("read {path}: is a directory"),
        // Hardly anything goes wrong after that.
        _ if error.raw_os_error().is_some() => format!("open {path}: {}", cause(error)),
        _ => format!("read {path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_limit_is_not_taken_in() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let limit = u64::try_from(limits::CONFIG_BYTES_MAX).unwrap();
        file.as_file().set_len(limit).unwrap();
        assert_eq!(
            System.read(file.path()).unwrap().len(),
            limits::CONFIG_BYTES_MAX
        );
        file.as_file().set_len(limit + 1).unwrap();
        let error = System.read(file.path()).unwrap_err().to_string();
        let expected = "file is too large for a configuration, the limit is 16777216 bytes";
        assert_eq!(error, expected);
    }
}
