//! The files that tell others about a running server: its process id, its ports.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
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

impl Files {
    /// Writes the process id.
    pub(super) fn write_pid(&mut self, path: &Path) -> Result<(), ServerError> {
        write_whole(path, 0o600, &process::id().to_string()).map_err(|cause| {
            ServerError::File {
                what: "pidfile",
                path: path.into(),
                cause,
            }
        })?;
        self.pids.push(path.into());
        Ok(())
    }

    /// Takes the last process id that was written back.
    pub(super) fn undo_pid(&mut self) {
        if let Some(path) = self.pids.pop() {
            // As in `remove`.
            let _ = fs::remove_file(path);
        }
    }

    /// Writes the addresses that clients and those who monitor connect to. Nothing depends on it here: a failure is only logged.
    pub(super) fn write_ports(&mut self, dir: &Path, ports: Ports, log: &Logger) {
        let path = dir.join(ports_file_name());
        let json = ports.json();
        match write_whole(&path, 0o644, &json) {
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
        for path in self.pids.drain(..).chain(self.ports.take()) {
            // Gone already, or moved by someone who wanted it: either way there is nothing left to do.
            let _ = fs::remove_file(path);
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
