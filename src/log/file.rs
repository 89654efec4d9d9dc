//! A log file: appended to, rotated when it is large, reopened when someone else has moved it.
//!
//! Nothing here ends the server: where rotation fails, the lines go on into the file that is open.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::{LogError, LogOptions};
use crate::cause::cause;
use crate::order;

/// The owner writes, the group may read.
const MODE: u32 = 0o640;

/// What becomes of a pipe that nobody reads yet.
#[derive(Clone, Copy)]
pub(super) enum Unread {
    /// A reader is waited for.
    Awaited,
    /// It is not opened.
    Refused,
}

/// An open log file.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// In the file now.
    bytes: u64,
    /// Above which it is rotated; 0 is never.
    bytes_max: u64,
    /// Of `bytes`, after a rotation that failed: no new attempt before.
    retry_above: u64,
    /// Files to keep, this one included; 0 is all.
    files_max: usize,
    /// The last line was written in part: the disk was full.
    is_torn: bool,
}

impl LogFile {
    pub(super) fn open(
        path: &Path,
        options: &LogOptions,
        unread: Unread,
    ) -> Result<LogFile, LogError> {
        let failed = |error: io::Error| LogError::File {
            path: path.to_path_buf(),
            cause: cause(&error),
        };
        let file = match unread {
            Unread::Refused => open_at_once(path),
            Unread::Awaited => open(path),
        };
        let file = file.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(LogFile {
            path: path.to_path_buf(),
            file,
            bytes: metadata.len(),
            // Renaming /dev/stdout or a named pipe would break it for everyone.
            bytes_max: if metadata.is_file() {
                options.file_bytes_max
            } else {
                0
            },
            retry_above: 0,
            files_max: options.files_max,
            is_torn: false,
        })
    }

    /// Appends a line.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
            self.is_torn = false;
        }
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let result = match self.file.write(rest) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result,
            };
            match result {
                Ok(count) => {
                    self.bytes += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(error) => {
                    self.is_torn = rest.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// True once it holds more than it may.
    pub(super) fn is_over(&self) -> bool {
        self.bytes_max > 0 && self.bytes > self.bytes_max.max(self.retry_above)
    }

    /// Renames the file to `<file>.<stamp>`, begins a new one, and returns the new name of the old one; none where that
    /// was gone already.
    pub(super) fn rotate(&mut self, stamp: &str) -> io::Result<Option<PathBuf>> {
        let backup = with_suffix(&self.path, stamp);
        let swapped = match self.swap_for(&backup) {
            // Removed, or moved by someone who may be about to tell.
            Err(error) if error.kind() == ErrorKind::NotFound => self.reopen().map(|()| None),
            swapped => swapped.map(|()| Some(backup)),
        };
        self.retry_above = match swapped {
            Ok(_) => 0,
            Err(_) => self.bytes.saturating_add(self.bytes_max),
        };
        swapped
    }

    fn swap_for(&mut self, backup: &Path) -> io::Result<()> {
        if backup.exists() {
            // The clock was set back; what is there must not be lost.
            return Err(ErrorKind::AlreadyExists.into());
        }
        fs::rename(&self.path, backup)?;
        match open(&self.path) {
            Ok(file) => {
                self.bytes = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = file;
                self.is_torn = false;
                Ok(())
            }
            Err(error) => {
                // The open file keeps its name, and its lines their place.
                let _ = fs::rename(backup, &self.path);
                Err(error)
            }
        }
    }

    /// Removes the oldest backups above the limit; returns their names, and whether one could not be removed.
    ///
    /// The newest is `fresh`, whatever its name says: clocks are set back, each autumn at the latest.
    pub(super) fn purge(&self, fresh: &Path) -> Vec<(PathBuf, io::Result<()>)> {
        let Some(backups_max) = self.files_max.checked_sub(1) else {
            return Vec::new();
        };
        let mut backups = self.backups();
        order::sort(&mut backups);
        order::sort_by_key(&mut backups, |path| path == fresh);
        backups.truncate(backups.len().saturating_sub(backups_max));
        let remove = |backup: PathBuf| {
            let result = fs::remove_file(&backup);
            (backup, result)
        };
        backups.into_iter().map(remove).collect()
    }

    fn backups(&self) -> Vec<PathBuf> {
        let Some(name) = self.path.file_name() else {
            return Vec::new();
        };
        let directory = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let Ok(entries) = fs::read_dir(directory) else {
            return Vec::new();
        };
        let is_backup = |entry: &fs::DirEntry| {
            let entry = entry.file_name();
            let suffix = entry
                .as_bytes()
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"."));
            suffix.is_some_and(is_stamp)
        };
        let path = |entry: fs::DirEntry| self.path.with_file_name(entry.file_name());
        entries.flatten().filter(is_backup).map(path).collect()
    }

    /// Opens the path again, which may lead to a new file by now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let file = open_at_once(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = file;
        self.is_torn = false;
        self.retry_above = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    how().open(path)
}

/// As [`open`], but never waits for a reader: a server that runs has no time for that.
fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = how().custom_flags(flags).open(path).map_err(|error| {
        let is_pipe = fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo());
        if is_pipe && error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
            return io::Error::new(error.kind(), "it is a pipe that nobody reads");
        }
        error
    })?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

fn how() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    options
}

fn with_suffix(path: &Path, stamp: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(OsStr::new(stamp));
    PathBuf::from(name)
}

/// True for `YYYY.MM.DD.hh.mm.ss.nnnnnnnnn`: only our own backups are ever removed.
fn is_stamp(suffix: &[u8]) -> bool {
    let shape = b"0000.00.00.00.00.00.000000000";
    let fits = |(byte, shape): (&u8, &u8)| {
        if *shape == b'.' {
            *byte == b'.'
        } else {
            byte.is_ascii_digit()
        }
    };
    suffix.len() == shape.len() && suffix.iter().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stamps_of_ours_count_as_backups() {
        assert!(is_stamp(b"2026.01.02.03.04.05.123456789"));
        for other in [
            "2026.01.02.03.04.05.12345678",
            "2026.01.02.03.04.05.1234567890",
            "gz",
            "",
            "2026-01-02.03.04.05.123456789",
        ] {
            assert!(!is_stamp(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_device_is_never_rotated() {
        let options = LogOptions {
            file_bytes_max: 1,
            ..LogOptions::default()
        };
        let mut file = LogFile::open(Path::new("/dev/null"), &options, Unread::Refused).unwrap();
        file.write("longer than one byte\n").unwrap();
        assert!(!file.is_over());
    }
}
