//! What the flags say, typed; and how it overrides a configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::options::{self, Options};
use crate::limits;

/// The flags that were given. `None` is a flag that was not, and leaves the file's value alone.
///
/// An empty text resets: what the file says, and then the default applies. So it is a value of its own here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// Configuration file; not an option but where options come from.
    pub config: Option<PathBuf>,

    /// Host name or address on which clients are accepted.
    pub host: Option<String>,
    /// Client port; 0 lets the system choose one.
    pub port: Option<u16>,
    /// Name in INFO and monitoring.
    pub server_name: Option<String>,
    /// Worker threads.
    pub workers: Option<usize>,
    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Directory for the file that lists the ports in use.
    pub ports_file_dir: Option<PathBuf>,
    /// Port for monitoring over HTTP.
    pub http_port: Option<Port>,
    /// Port for monitoring over HTTPS.
    pub https_port: Option<Port>,
    /// Address that clients are told instead of the server's own.
    pub client_advertise: Option<String>,

    /// Log file.
    pub log_file: Option<PathBuf>,
    /// Bytes after which the log file is rotated; 0 is never.
    pub log_size_limit: Option<u64>,
    /// Time stamps in log lines.
    pub logtime: Option<bool>,
    /// Those in UTC.
    pub logtime_utc: Option<bool>,
    /// Log to the system's syslog.
    pub syslog: Option<bool>,
    /// URL of a syslog server.
    pub remote_syslog: Option<String>,
    /// Log level DBG.
    pub debug: Option<bool>,
    /// Log level TRC.
    pub trace: Option<bool>,
    /// Trace of the system account as well.
    pub trace_verbose: Option<bool>,
    /// Payload bytes shown in trace lines; 0 is all of them.
    pub max_traced_msg_len: Option<usize>,

    /// The one user.
    pub user: Option<String>,
    /// The one user's password.
    pub pass: Option<Secret>,
    /// The one token.
    pub auth: Option<Secret>,

    /// TLS on or off, whatever the other flags and the file say.
    pub tls: Option<bool>,
    /// TLS with client certificates required.
    pub tls_verify: Option<bool>,
    /// Certificate file.
    pub tls_cert: Option<PathBuf>,
    /// Private key file.
    pub tls_key: Option<PathBuf>,
    /// Authorities for client certificates.
    pub tls_ca_cert: Option<PathBuf>,

    /// Where routes are accepted.
    pub cluster: Option<ClusterListen>,
    /// The cluster's name.
    pub cluster_name: Option<String>,
    /// URLs of routes to open; an empty list clears the file's.
    pub routes: Option<Vec<String>>,
    /// Tell clients nothing about the other servers.
    pub no_advertise: Option<bool>,
    /// Address that other servers are told instead of the server's own.
    pub cluster_advertise: Option<String>,
    /// Attempts to open a route that was learned from another server.
    pub connect_retries: Option<i32>,

    /// Port for profiling.
    pub profile: Option<Port>,
}

/// A port for something that can be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The system chooses: `-1`.
    Any,
    /// This one.
    Fixed(u16),
    /// Not at all: `0`.
    Off,
}

/// Where routes are accepted, from `--cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterListen {
    /// At this address.
    At {
        /// Empty for all interfaces.
        host: String,
        /// To listen on.
        port: Port,
        /// User and password that other servers need; none clears the file's.
        credentials: Option<(String, Secret)>,
    },
    /// Nowhere, whatever the file says.
    Off,
}

/// A password or token; its debug text does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Flags {
    /// Overrides `options`, which hold what the configuration file says, by every flag that was given.
    pub fn apply(&self, options: &mut Options) {
        if let Some(host) = &self.host {
            options.host = if host.is_empty() {
                limits::HOST.into()
            } else {
                host.clone()
            };
        }
        replace(&mut options.port, self.port);
        if let Some(name) = &self.server_name {
            options.server_name = Some(name.clone()).filter(|name| !name.is_empty());
        }
        if self.workers.is_some() {
            options.workers = self.workers;
        }
        replace(&mut options.pid_file, self.pid_file.as_deref().map(path));
        replace(
            &mut options.ports_file_dir,
            self.ports_file_dir.as_deref().map(path),
        );
        self.apply_credentials(options);
        self.apply_logging(options);
    }

    fn apply_credentials(&self, options: &mut Options) {
        let secret =
            |Secret(text): &Secret| Some(options::Secret::new(text)).filter(|_| !text.is_empty());
        let user = self.user.as_ref();
        let user = user.map(|user| Some(user.clone()).filter(|user| !user.is_empty()));
        replace(&mut options.user, user);
        replace(&mut options.password, self.pass.as_ref().map(secret));
        replace(&mut options.auth_token, self.auth.as_ref().map(secret));
    }

    fn apply_logging(&self, options: &mut Options) {
        replace(&mut options.log_file, self.log_file.as_deref().map(path));
        replace(&mut options.logtime, self.logtime);
        replace(&mut options.logtime_utc, self.logtime_utc);
        replace(&mut options.debug, self.debug);
        replace(&mut options.trace, self.trace);
        let bytes_max = self
            .max_traced_msg_len
            .map(|bytes| Some(bytes).filter(|bytes| *bytes > 0));
        replace(&mut options.max_traced_msg_len, bytes_max);
    }
}

fn replace<T>(option: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *option = value;
    }
}

/// An option's path: an empty one is none.
fn path(path: &Path) -> Option<PathBuf> {
    Some(path.to_path_buf()).filter(|path| !path.as_os_str().is_empty())
}
