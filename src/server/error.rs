//! Why a server cannot start, or cannot go over to other options.

use std::path::PathBuf;
use std::{fmt, io};

use crate::cause::cause;
use crate::log::LogError;
use crate::net::tls::TlsError;

/// Why a server could not start.
#[derive(Debug)]
pub enum ServerError {
    /// Options that no server could start with.
    Option(String),
    /// The address to listen on has no meaning, or is taken.
    Listen {
        /// `host:port`.
        addr: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The monitoring port cannot be opened.
    Monitor {
        /// `tcp` or `unix`.
        network: &'static str,
        /// `host:port`, or the path of a socket.
        addr: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The same for the port of routes.
    ListenForRoutes {
        /// The port.
        port: u16,
        /// `host:port`.
        addr: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The log cannot be opened.
    Log(LogError),
    /// A file that was asked for cannot be written.
    File {
        /// What it is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// What `tls` blocks name cannot be used: at least one reason.
    Tls(Vec<TlsError>),
    /// The system refuses what a server needs: a thread, a descriptor.
    System(io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Option(text) => f.write_str(text),
            ServerError::Listen { addr, cause: error } => {
                write!(
                    f,
                    "Error listening on port: {addr}, \"listen tcp {addr}: bind: {}\"",
                    cause(error)
                )
            }
            ServerError::Monitor {
                network,
                addr,
                cause: error,
            } => {
                write!(
                    f,
                    "Can't start monitoring: can't listen to the monitor port: listen {network} {addr}: bind: {}",
                    cause(error)
                )
            }
            ServerError::ListenForRoutes {
                port,
                addr,
                cause: error,
            } => {
                write!(
                    f,
                    "Error listening on router port: {port} - listen tcp {addr}: bind: {}",
                    cause(error)
                )
            }
            ServerError::Log(error) => error.fmt(f),
            ServerError::File {
                what,
                path,
                cause: error,
            } => {
                write!(
                    f,
                    "Could not write {what}: open {}: {}",
                    path.display(),
                    cause(error)
                )
            }
            ServerError::Tls(_) => f.write_str(&self.reasons().join("; ")),
            ServerError::System(error) => write!(f, "cannot start: {}", cause(error)),
        }
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    /// Every reason, for one line each.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            ServerError::Tls(errors) => errors.iter().map(ToString::to_string).collect(),
            error => vec![error.to_string()],
        }
    }
}

impl From<Vec<TlsError>> for ServerError {
    fn from(errors: Vec<TlsError>) -> Self {
        ServerError::Tls(errors)
    }
}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        ServerError::System(error)
    }
}

/// Why a server stays with the options that it has.
#[derive(Debug)]
pub enum ReloadError {
    /// Options that no server could start with, or changes that take a restart; at least one reason.
    Options(Vec<String>),
    /// What the new options name cannot be opened or written.
    Server(ServerError),
}

impl ReloadError {
    /// Every reason, for one line of the log each.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            ReloadError::Options(reasons) => reasons.clone(),
            ReloadError::Server(error) => error.reasons(),
        }
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons().join("; "))
    }
}

impl std::error::Error for ReloadError {}

impl From<ServerError> for ReloadError {
    fn from(error: ServerError) -> Self {
        ReloadError::Server(error)
    }
}
