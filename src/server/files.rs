//! The files that tell others about a running server: its process id, its ports.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{env, process};

use serde_json::json;

use super::ServerError;
use crate::cause::cause;
use crate::log::{Logger, error};
use crate::net::interfaces;
use crate::net::monitor::MonitorAddrs;

/// What was written, to be removed when the server ends.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// All that ever held the process id: a reload names another one, and leaves the old one to its readers.
    pids: Vec<PathBuf>,
    ports: Option<PathBuf>,
}

/// The process id on its way into a file. Where that does not come to its end, nothing has changed.
#[must_use]
pub(super) struct PidFile {
    path: PathBuf,
    draft: Draft,
}

impl PidFile {
    /// Does all that may fail.
    pub(super) fn prepare(path: &Path) -> Result<Self, ServerError> {
        let is_file = |it: fs::Metadata| it.is_file();
        let draft = match fs::symlink_metadata(path).map(is_file) {
            // What a link leads to may be a device, or a file that others know by another name.
            Ok(false) => Draft::in_place(path),
            // Where no other file may be, the one that whoever installed the server has put there may be ours to write.
            Ok(true) => Draft::beside(path, 0o600, &pid()).or_else(|_| Draft::in_place(path)),
            Err(_) => Draft::beside(path, 0o600, &pid()),
        };
        Ok(PidFile {
            path: path.into(),
            draft: draft.map_err(|cause| failure(path, cause))?,
        })
    }
}

fn failure(path: &Path, cause: io::Error) -> ServerError {
    ServerError::File {
        what: "pidfile",
        path: path.into(),
        cause,
    }
}

impl Files {
    /// Writes the process id.
    pub(super) fn write_pid(&mut self, file: PidFile) -> Result<(), ServerError> {
        let PidFile { path, draft } = file;
        let outcome = draft.finish(&path, &pid());
        outcome.map_err(|cause| failure(&path, cause))?;
        self.pids.push(path);
        Ok(())
    }

    /// Writes the addresses that clients and those who monitor connect to. Nothing depends on it here: a failure is only logged.
    pub(super) fn write_ports(&mut self, dir: &Path, ports: Ports, log: &Logger) {
        let path = dir.join(ports_file_name());
        let json = ports.json();
        let draft = Draft::beside(&path, 0o644, &json);
        match draft.and_then(|draft| draft.finish(&path, &json)) {
            Ok(()) => self.ports = Some(path),
            Err(error) => {
                let (path, cause) = (path.display(), cause(&error));
                error!(log, "Error writing ports file ({path}): {cause}");
            }
        }
    }

    /// Removes the file of ports.
    pub(super) fn remove_ports(&mut self, log: &Logger) {
        if let Some(path) = self.ports.take() {
            if let Err(error) = fs::remove_file(&path) {
                let (path, cause) = (path.display(), cause(&error));
                error!(log, "Error removing ports file ({path}): {cause}");
            }
        }
    }

    /// Removes all of them.
    pub(super) fn remove(&mut self) {
        // Another server may have written its own there since, and what was no file before stays what it is.
        let is_ours = |path: &PathBuf| {
            let is_file = fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
            is_file && fs::read(path).is_ok_and(|text| text == pid().as_bytes())
        };
        let pids = self.pids.drain(..).filter(is_ours);
        for path in pids.chain(self.ports.take()) {
            // One that has to stay says nothing any more. Gone already, or moved by someone who wanted it, there is nothing
            // left to do.
            let _ = fs::remove_file(&path).or_else(|_| {
                File::options()
                    .write(true)
                    .truncate(true)
                    .open(path)
                    .map(drop)
            });
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The addresses in the file of ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) clients: SocketAddr,
    /// Whether clients must use TLS.
    pub(super) is_tls_required: bool,
    pub(super) monitor: MonitorAddrs,
    /// Where other servers of the cluster connect.
    pub(super) routes: Option<SocketAddr>,
}

impl Ports {
    fn json(&self) -> String {
        let urls = |scheme: &'static str, addr: SocketAddr| {
            let addrs = interfaces::reachable(addr.ip()).into_iter();
            addrs.map(move |ip| format!("{scheme}://{}", SocketAddr::new(ip, addr.port())))
        };
        let MonitorAddrs { http, https } = self.monitor;
        let http = http.into_iter().flat_map(|addr| urls("http", addr));
        let https = https.into_iter().flat_map(|addr| urls("https", addr));
        let monitoring: Vec<String> = http.chain(https).collect();
        let scheme = if self.is_tls_required { "tls" } else { "nats" };
        let mut ports = json!({"nats": urls(scheme, self.clients).collect::<Vec<_>>()});
        if !monitoring.is_empty() {
            ports["monitoring"] = monitoring.into();
        }
        if let Some(addr) = self.routes {
            ports["cluster"] = urls("nats", addr).collect::<Vec<_>>().into();
        }
        ports.to_string()
    }
}

/// A text on its way to its place.
enum Draft {
    /// Written beside it, to be renamed: nobody reads half a file.
    Beside(Beside),
    /// To be written where something other than a plain file is, which stays.
    InPlace(File),
}

/// A file that is removed unless it gets to its place.
struct Beside {
    path: PathBuf,
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Mostly it has been renamed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Draft {
    fn beside(path: &Path, mode: u32, text: &str) -> io::Result<Draft> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.tmp", process::id()));
        let path = PathBuf::from(beside);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let mut file = options.mode(mode).open(&path)?;
        let beside = Beside { path };
        file.write_all(text.as_bytes())?;
        Ok(Draft::Beside(beside))
    }

    fn in_place(path: &Path) -> io::Result<Draft> {
        if fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo()) {
            let text = "it is a pipe, which may have no reader";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        // It is emptied when all else has gone well.
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        Ok(Draft::InPlace(options.open(path)?))
    }

    fn finish(self, path: &Path, text: &str) -> io::Result<()> {
        match self {
            Draft::Beside(beside) => fs::rename(&beside.path, path).or_else(|error| {
                // A file that is mounted there cannot be replaced, but written.
                let in_place = Draft::in_place(path).map_err(|_| error)?;
                in_place.finish(path, text)
            }),
            Draft::InPlace(mut file) => {
                if file.metadata()?.is_file() {
                    file.set_len(0)?;
                }
                file.write_all(text.as_bytes())
            }
        }
    }
}

fn pid() -> String {
    process::id().to_string()
}

fn ports_file_name() -> String {
    let program = env::current_exe().ok();
    let name = program
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_else(|| "midge".as_ref());
    let name = name.to_string_lossy();
    // An upgrade may have replaced the file while it runs.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    format!("{name}_{}.ports", process::id())
}
