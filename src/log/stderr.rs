//! Standard error as a sink: a terminal, a pipe, a file of the caller's, or the systemd journal.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

/// What standard error is connected to.
pub(super) struct Stderr {
    pub(super) is_terminal: bool,
    pub(super) is_journal: bool,
}

impl Stderr {
    pub(super) fn new() -> Stderr {
        let stream = std::env::var("JOURNAL_STREAM").ok();
        Stderr {
            is_terminal: io::stderr().is_terminal(),
            is_journal: stream.is_some_and(|name| is_file(&name, "/proc/self/fd/2")),
        }
    }

    /// Writes a line in one call, as standard error has no buffer: lines of several processes don't mix.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        io::stderr().lock().write_all(line.as_bytes())
    }
}

/// True if `path` leads to the file that `name` (`device:inode`) stands for.
///
/// systemd sets that name for a service's first process; whoever redirects standard error afterwards leaves it set.
fn is_file(name: &str, path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|actual| name == format!("{}:{}", actual.dev(), actual.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_that_the_name_stands_for_is_the_journal() {
        let null = std::fs::metadata("/dev/null").unwrap();
        assert!(is_file(
            &format!("{}:{}", null.dev(), null.ino()),
            "/dev/null"
        ));
        assert!(!is_file(
            &format!("{}:{}", null.dev(), null.ino() + 1),
            "/dev/null"
        ));
        assert!(!is_file("", "/dev/null"));
        assert!(!is_file("0:0", "/nowhere"));
    }
}
