//! The files that tell others about a running server: its process id, its ports.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::{env, process};

use super::ServerError;
use crate::config::options::Options;

/// What was written and is to be removed when the server ends: the ports file. The process id stays, as operators of
/// the reference server know it.
#[derive(Debug, Default)]
pub(super) struct Files {
    written: Vec<PathBuf>,
}

impl Files {
    /// Writes what the options ask for.
    pub(super) fn write(options: &Options, addr: SocketAddr) -> Result<Files, ServerError> {
        let mut files = Files::default();
        if let Some(path) = &options.pid_file {
            write("pidfile", path, 0o600, &process::id().to_string())?;
        }
        if let Some(dir) = &options.ports_file_dir {
            let json = format!("{{\"nats\":[\"nats://{addr}\"]}}");
            let path = dir.join(ports_file_name());
            write("ports file", &path, 0o644, &json)?;
            files.written.push(path);
        }
        Ok(files)
    }

    /// Removes them again.
    pub(super) fn remove(&mut self) {
        for path in self.written.drain(..) {
            // Gone already, or moved by someone who wanted it: either way there is nothing left to do.
            let _ = fs::remove_file(path);
        }
    }
}

fn write(what: &'static str, path: &Path, mode: u32, text: &str) -> Result<(), ServerError> {
    write_whole(path, mode, text).map_err(|cause| ServerError::File {
        what,
        path: path.to_owned(),
        cause,
    })
}

/// Writes beside and renames, so that nobody reads half a file.
fn write_whole(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&beside, path)
}

fn ports_file_name() -> String {
    let program = env::current_exe().ok();
    let name = program
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_else(|| "midge".as_ref());
    format!("{}_{}.ports", name.to_string_lossy(), process::id())
}
