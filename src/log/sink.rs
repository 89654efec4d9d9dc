//! Where lines go.

use std::io::{self, IsTerminal as _, Write};

use super::{LogError, LogOptions};

/// An open destination for lines.
pub(super) enum Sink {
    Discard,
    Stderr { is_terminal: bool, is_journal: bool },
    Writer(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn open(_options: &LogOptions) -> Result<Sink, LogError> {
        Ok(Sink::stderr())
    }

    pub(super) fn stderr() -> Sink {
        let stream = std::env::var("JOURNAL_STREAM").ok();
        Sink::Stderr {
            is_terminal: io::stderr().is_terminal(),
            is_journal: stream.is_some_and(|name| is_stderr(&name)),
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(
            self,
            Sink::Stderr {
                is_terminal: true,
                ..
            }
        )
    }

    pub(super) fn is_journal(&self) -> bool {
        matches!(
            self,
            Sink::Stderr {
                is_journal: true,
                ..
            }
        )
    }

    /// Writes a line in one call, so that lines of several processes don't mix.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Sink::Discard => Ok(()),
            Sink::Stderr { .. } => io::stderr().lock().write_all(line.as_bytes()),
            Sink::Writer(writer) => writer.write_all(line.as_bytes()),
        }
    }
}

/// True if standard error is the stream that `name` (`device:inode`) stands for.
///
/// systemd sets that name for a service's first process; whoever redirects standard error afterwards leaves it set.
fn is_stderr(name: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(actual) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    name == format!("{}:{}", actual.dev(), actual.ino())
}
