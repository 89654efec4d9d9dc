//! Where lines go: the choice among the sinks, and what they have in common.

use std::io::Write;
use std::time::SystemTime;

use super::file::{LogFile, Unread};
use super::line::Style;
use super::stderr::Stderr;
use super::syslog::Syslog;
use super::{Destination, Level, LogError, LogOptions};

/// An open destination for lines.
pub(super) enum Sink {
    Discard,
    File(LogFile),
    Stderr(Stderr),
    Syslog(Syslog),
    Writer(Box<dyn Write + Send>),
}

impl Sink {
    /// Opens the first that is set: file, remote syslog, local syslog, standard error.
    pub(super) fn open(options: &LogOptions, unread: Unread) -> Result<Sink, LogError> {
        match options.destination() {
            Destination::File(path, ..) => LogFile::open(path, options, unread).map(Sink::File),
            Destination::RemoteSyslog(url) => Syslog::remote(url).map(Sink::Syslog),
            Destination::Stderr => Ok(Sink::Stderr(Stderr::new())),
            Destination::Syslog => Syslog::local().map(Sink::Syslog),
        }
    }

    /// Goes on in the file that its path leads to now, if there is one to be had.
    pub(super) fn follow(&mut self) {
        if let Sink::File(file) = self {
            // It goes on in the file that is open, else.
            let _ = file.reopen();
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Sink::Stderr(stderr) if stderr.is_terminal)
    }

    pub(super) fn is_journal(&self) -> bool {
        matches!(self, Sink::Stderr(stderr) if stderr.is_journal)
    }

    /// Writes one line, composed in `line`; false if it was lost.
    pub(super) fn write(
        &mut self,
        line: &mut String,
        style: &Style,
        level: Level,
        message: &str,
    ) -> bool {
        let now = SystemTime::now();
        line.clear();
        if let Sink::Syslog(syslog) = self {
            return syslog.write(line, style, now, level, message);
        }
        style.render(line, now, level, message);
        let result = match self {
            Sink::Discard | Sink::Syslog(_) => Ok(()),
            Sink::File(file) => file.write(line),
            Sink::Stderr(stderr) => stderr.write(line),
            Sink::Writer(writer) => writer.write_all(line.as_bytes()),
        };
        result.is_ok()
    }

    /// The number of lines lost after they had been taken, and zero it.
    pub(super) fn take_lost(&mut self) -> u64 {
        match self {
            Sink::Syslog(syslog) => syslog.take_lost(),
            _ => 0,
        }
    }
}
