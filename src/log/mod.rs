//! Log lines, and where they go: standard error, a file, syslog.
//!
//! A [`Logger`] is a handle to share; several servers in one process each have their own. A sink that fails loses
//! lines, which are counted and owned up to once it works again: logging never stops the server.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::cause::cause;

use self::file::Unread;
use self::line::Style;
use self::sink::Sink;
use self::stderr::Stderr;
use self::zone::Zone;

pub(crate) use self::civil::Civil;
pub use self::quote::{escape, quote, redact_connect};

#[allow(unused_imports, reason = "each layer uses the levels it needs")]
pub(crate) use self::macros::{debug, error, fatal, info, log_always, trace, warn};

mod civil;
mod file;
mod line;
mod macros;
mod quote;
mod sink;
mod socket;
mod stderr;
mod syslog;
mod zone;

/// What a line is about, most harmless last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The process ends because of it.
    Fatal,
    /// Something failed.
    Error,
    /// Something is likely to fail.
    Warn,
    /// What operators want to know.
    Info,
    /// What developers want to know.
    Debug,
    /// Every protocol line.
    Trace,
}

impl Level {
    /// The three letters that stand in a line.
    pub fn label(self) -> &'static str {
        match self {
            Level::Fatal => "FTL",
            Level::Error => "ERR",
            Level::Warn => "WRN",
            Level::Info => "INF",
            Level::Debug => "DBG",
            Level::Trace => "TRC",
        }
    }

    /// Parameters of the terminal's colour sequence.
    fn colour(self) -> &'static str {
        match self {
            Level::Fatal | Level::Error => "31",
            Level::Warn => "0;93",
            Level::Info => "32",
            Level::Debug => "36",
            Level::Trace => "33",
        }
    }

    /// The priority under which the systemd journal files a line.
    fn journal_priority(self) -> u8 {
        match self {
            Level::Fatal => 2,
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
    }
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// `[pid] YYYY/MM/DD HH:MM:SS.uuuuuu [LVL] message`.
    #[default]
    Text,
    /// An object with the keys `time` (RFC 3339), `level`, `pid` and `msg`.
    Json,
}

/// What a logger is told. The first sink that is set wins: file, remote syslog, local syslog, standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Write lines of level DBG.
    pub debug: bool,
    /// Write lines of level TRC.
    pub trace: bool,
    /// Begin lines with the time.
    pub time: bool,
    /// That time in UTC rather than local.
    pub utc: bool,
    /// The shape of a line.
    pub format: LineFormat,
    /// File to append to.
    pub file: Option<PathBuf>,
    /// Bytes after which that file is rotated; 0 never does.
    pub file_bytes_max: u64,
    /// Files to keep, the live one included; 0 keeps all.
    pub files_max: usize,
    /// `udp://host:port`, `tcp://host:port` or `unix://path`.
    pub remote_syslog: Option<String>,
    /// Log to the system's syslog.
    pub syslog: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            debug: false,
            trace: false,
            time: true,
            utc: false,
            format: LineFormat::Text,
            file: None,
            file_bytes_max: 0,
            files_max: 0,
            remote_syslog: None,
            syslog: false,
        }
    }
}

/// A sink, and how it is opened.
#[derive(PartialEq, Eq)]
enum Destination<'a> {
    File(&'a PathBuf, u64, usize),
    RemoteSyslog(&'a str),
    Stderr,
    Syslog,
}

impl LogOptions {
    fn destination(&self) -> Destination<'_> {
        match (&self.file, &self.remote_syslog) {
            (Some(path), _) => Destination::File(path, self.file_bytes_max, self.files_max),
            (None, Some(url)) => Destination::RemoteSyslog(url),
            (None, None) if self.syslog => Destination::Syslog,
            (None, None) => Destination::Stderr,
        }
    }
}

/// A sink that could not be opened.
#[derive(Debug)]
pub enum LogError {
    /// The log file.
    File {
        /// As configured.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The scheme of a remote syslog's address.
    SyslogScheme(String),
    /// A syslog server, near or far.
    SyslogConnect(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::File { path, cause } => {
                write!(f, "error opening file: open {}: {cause}", path.display())
            }
            LogError::SyslogScheme(scheme) => write!(f, "error invalid network type: {scheme:?}"),
            LogError::SyslogConnect(cause) => write!(f, "error connecting to syslog: {cause:?}"),
        }
    }
}

impl std::error::Error for LogError {}

/// A handle to a log. Clones write to the same sink.
#[derive(Clone)]
pub struct Logger {
    shared: Arc<Shared>,
}

struct Shared {
    /// `DEBUG`, `TRACE` and `DISCARD`.
    switches: AtomicU8,
    core: Mutex<Core>,
}

const DEBUG: u8 = 1;
const TRACE: u8 = 2;
const DISCARD: u8 = 4;

/// What only one line at a time may use: the order of lines and a file's rotation need it.
struct Core {
    style: Style,
    sink: Sink,
    /// What that was opened for.
    options: LogOptions,
    /// The line being written, kept for its memory.
    line: String,
    /// Lines lost since the sink failed.
    lost: u64,
}

/// A line's memory above this is given back.
const LINE_BYTES_KEPT: usize = 4096;

impl Logger {
    /// A logger that writes nothing.
    pub fn discard() -> Logger {
        Logger::assemble(Sink::Discard, &LogOptions::default(), DISCARD)
    }

    /// Standard error, levels INF and above.
    pub fn stderr_default() -> Logger {
        Logger::assemble(Sink::Stderr(Stderr::new()), &LogOptions::default(), 0)
    }

    /// A logger that hands each line to `writer` in one call, for programs and tests that run a server in process.
    pub fn to_writer(writer: impl Write + Send + 'static, options: &LogOptions) -> Logger {
        Logger::assemble(Sink::Writer(Box::new(writer)), options, switches(options))
    }

    /// Opens the sink that `options` ask for.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be opened.
    pub fn new(options: &LogOptions) -> Result<Logger, LogError> {
        let sink = Sink::open(options, Unread::Awaited)?;
        Ok(Logger::assemble(sink, options, switches(options)))
    }

    fn assemble(sink: Sink, options: &LogOptions, switches: u8) -> Logger {
        let style = style(options, &sink);
        let mut core = Core {
            style,
            sink,
            options: options.clone(),
            line: String::new(),
            lost: 0,
        };
        core.begin();
        Logger {
            shared: Arc::new(Shared {
                switches: AtomicU8::new(switches),
                core: Mutex::new(core),
            }),
        }
    }

    /// Goes over to other options. A logger that discards, or has a writer of the caller's, keeps that sink.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the new sink cannot be opened; everything stays as it was.
    pub fn reconfigure(&self, options: &LogOptions) -> Result<(), LogError> {
        self.reconfigure_after(options, || {})
    }

    /// As [`reconfigure`](Logger::reconfigure), with some last lines to the old sink: `announce` is called once
    /// nothing can fail any more.
    ///
    /// A sink that the new options lead to as well stays, be it out of order at the moment: whoever wants to know more
    /// may want to know it because of that.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the new sink cannot be opened; everything stays as it was.
    pub fn reconfigure_after(
        &self,
        options: &LogOptions,
        announce: impl FnOnce(),
    ) -> Result<(), LogError> {
        let stays = self.core().stays(options);
        // Opened before the lock is taken: resolving a syslog server's name can take a while.
        let sink = if stays {
            None
        } else {
            Some(Sink::open(options, Unread::Refused)?)
        };
        announce();
        let mut core = self.core();
        match sink {
            Some(sink) => core.sink = sink,
            None => core.sink.follow(),
        }
        core.options = options.clone();
        core.style = style(options, &core.sink);
        core.begin();
        self.set_levels(options.debug, options.trace);
        Ok(())
    }

    /// Opens the log file again, after someone has moved it away, and reads the time zone anew.
    ///
    /// The outcome is a line in the log, also where there is no file to open.
    pub fn reopen(&self) {
        let mut core = self.core();
        if !core.style.utc {
            core.style.zone = Zone::local();
        }
        core.reopen();
    }

    /// Turns the levels DBG and TRC on or off, at once for every clone.
    pub fn set_levels(&self, debug: bool, trace: bool) {
        let kept = self.shared.switches.load(Ordering::Relaxed) & DISCARD;
        self.shared
            .switches
            .store(kept | level_bits(debug, trace), Ordering::Relaxed);
    }

    /// True if DBG lines are written.
    #[inline]
    pub fn debug_on(&self) -> bool {
        self.shared.switches.load(Ordering::Relaxed) & (DEBUG | DISCARD) == DEBUG
    }

    /// True if TRC lines are written: what costs work to show is worth it only then.
    #[inline]
    pub fn trace_on(&self) -> bool {
        self.shared.switches.load(Ordering::Relaxed) & (TRACE | DISCARD) == TRACE
    }

    /// Writes one line, if its level is on.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        let is_on = match level {
            Level::Debug => self.debug_on(),
            Level::Trace => self.trace_on(),
            _ => self.shared.switches.load(Ordering::Relaxed) & DISCARD == 0,
        };
        if !is_on {
            return;
        }
        // Formatted before the lock is taken: the arguments may be anybody's code.
        match message.as_str() {
            Some(message) => self.core().put(level, message),
            None => {
                let message = message.to_string();
                self.core().put(level, &message);
            }
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // A thread that died while it wrote a line has left nothing worse behind than half a line.
        self.shared
            .core
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger")
            .field("debug", &self.debug_on())
            .field("trace", &self.trace_on())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Whether the sink is the one that these options ask for, or the caller's.
    fn stays(&self, options: &LogOptions) -> bool {
        let is_own = matches!(self.sink, Sink::Discard | Sink::Writer(_));
        is_own || self.options.destination() == options.destination()
    }

    /// Writes a line, after owning up to those that were lost.
    fn put(&mut self, level: Level, message: &str) {
        self.lost = self.lost.saturating_add(self.sink.take_lost());
        if self.lost > 0 {
            let confession = format!("Log sink works again, lines lost meanwhile: {}", self.lost);
            if !self.emit(Level::Warn, &confession) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.emit(level, message) {
            self.lost += 1;
        }
        self.rotate_if_over();
    }

    /// Hands a line to the sink; false if it did not take it.
    fn emit(&mut self, level: Level, message: &str) -> bool {
        let is_taken = self.sink.write(&mut self.line, &self.style, level, message);
        if self.line.capacity() > LINE_BYTES_KEPT {
            self.line = String::new();
        }
        is_taken
    }

    /// Rotates a file that was over its limit before the first line.
    fn begin(&mut self) {
        if matches!(&self.sink, Sink::File(file) if file.is_over()) {
            self.emit(Level::Info, "Rotating logfile...");
            self.rotate_if_over();
        }
    }

    fn rotate_if_over(&mut self) {
        let Sink::File(file) = &mut self.sink else {
            return;
        };
        if !file.is_over() {
            return;
        }
        let rotated = file.rotate(&self.style.file_stamp(SystemTime::now()));
        let purged = match &rotated {
            Ok(Some(fresh)) => file.purge(fresh),
            _ => Vec::new(),
        };
        match rotated {
            Ok(None) => self.emit(Level::Warn, "The log file was gone: a new one begins"),
            Ok(Some(backup)) => self.emit(
                Level::Info,
                &format!(
                    "Rotated log, backup saved as {:?}",
                    backup.to_string_lossy()
                ),
            ),
            Err(error) => self.emit(
                Level::Error,
                &format!("Unable to rotate the log file: {}", cause(&error)),
            ),
        };
        for (backup, result) in purged {
            let backup = backup.to_string_lossy();
            match result {
                Ok(()) => self.emit(Level::Info, &format!("Purged log file {backup:?}")),
                Err(error) => {
                    let text = format!(
                        "Unable to remove backup log file {backup:?}: {}",
                        cause(&error)
                    );
                    self.emit(Level::Error, &text)
                }
            };
        }
    }

    fn reopen(&mut self) {
        let reopened = match &mut self.sink {
            Sink::File(file) => file.reopen(),
            _ => return self.put(Level::Info, "File log re-open ignored, not a file logger"),
        };
        match reopened {
            Ok(()) => self.put(Level::Info, "File log re-opened"),
            Err(error) => self.put(
                Level::Error,
                &format!("File log re-open failed: {}", cause(&error)),
            ),
        }
    }
}

fn style(options: &LogOptions, sink: &Sink) -> Style {
    Style {
        format: options.format,
        time: options.time,
        utc: options.utc,
        zone: if options.utc {
            Zone::utc()
        } else {
            Zone::local()
        },
        colour: sink.is_terminal() && options.format == LineFormat::Text,
        priority: sink.is_journal(),
        pid: std::process::id(),
    }
}

fn switches(options: &LogOptions) -> u8 {
    level_bits(options.debug, options.trace)
}

fn level_bits(debug: bool, trace: bool) -> u8 {
    (if debug { DEBUG } else { 0 }) | (if trace { TRACE } else { 0 })
}

#[cfg(test)]
mod tests;
