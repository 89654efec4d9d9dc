//! What the flags say, typed; and how it overrides a configuration file.

use std::path::{Path, PathBuf};

use crate::config::options::{CertFiles, Options, RouteUrl, Secret, TlsConfig};
use crate::config::{self, Loaded, Outside};
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
    /// Client port; clients are never off, so 0 lets the system choose as -1 does.
    pub port: Option<Port>,
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
    pub routes: Option<Vec<RouteUrl>>,
    /// Tell clients nothing about the other servers.
    pub no_advertise: Option<bool>,
    /// Address that other servers are told instead of the server's own.
    pub cluster_advertise: Option<String>,
    /// Attempts to open a route that was learned from another server.
    pub connect_retries: Option<u32>,
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

impl Flags {
    /// Loads the configuration file at `path`, overridden by these flags.
    ///
    /// # Errors
    ///
    /// All that is wrong with the file, and what both together lack, one a line.
    pub fn load(&self, path: &Path, outside: &dyn Outside) -> Result<Loaded, String> {
        let mut applied = Ok(());
        let loaded = config::load_with(path, outside, |options| applied = self.apply(options));
        match (loaded, applied) {
            (Err(of_file), Err(of_flags)) => Err(format!("{of_file}\n{of_flags}")),
            (Ok(_), Err(of_flags)) => Err(of_flags),
            (loaded, Ok(())) => loaded.map_err(|errors| errors.to_string()),
        }
    }

    /// Overrides `options`, which hold what the configuration file says, by every flag that was given.
    ///
    /// # Errors
    ///
    /// What the flags and the file together lack, one a line.
    pub fn apply(&self, options: &mut Options) -> Result<(), String> {
        if let Some(host) = &self.host {
            options.host = host_or_all(host);
        }
        replace(
            &mut options.port,
            self.port.map(|port| match port {
                Port::Fixed(port) => port,
                Port::Any | Port::Off => 0,
            }),
        );
        replace(
            &mut options.server_name,
            self.server_name.as_deref().map(text),
        );
        if self.workers.is_some() {
            options.workers = self.workers;
        }
        replace(&mut options.pid_file, self.pid_file.as_deref().map(path));
        replace(
            &mut options.ports_file_dir,
            self.ports_file_dir.as_deref().map(path),
        );
        replace(&mut options.http_port, self.http_port.map(Port::number));
        replace(&mut options.https_port, self.https_port.map(Port::number));
        replace(
            &mut options.client_advertise,
            self.client_advertise.as_deref().map(text),
        );
        self.apply_logging(options);
        self.apply_credentials(options);
        match (self.apply_tls(options), self.apply_cluster(options)) {
            (Err(tls), Err(cluster)) => Err(format!("{tls}\n{cluster}")),
            (tls, cluster) => tls.and(cluster),
        }
    }

    fn apply_logging(&self, options: &mut Options) {
        replace(&mut options.log_file, self.log_file.as_deref().map(path));
        replace(
            &mut options.log_size_limit,
            self.log_size_limit
                .map(|bytes| Some(bytes).filter(|bytes| *bytes > 0)),
        );
        replace(&mut options.logtime, self.logtime);
        replace(&mut options.logtime_utc, self.logtime_utc);
        replace(&mut options.syslog, self.syslog);
        replace(
            &mut options.remote_syslog,
            self.remote_syslog.as_deref().map(text),
        );
        replace(&mut options.debug, self.debug);
        replace(&mut options.trace, self.trace);
        replace(&mut options.trace_verbose, self.trace_verbose);
        let bytes_max = self
            .max_traced_msg_len
            .map(|bytes| Some(bytes).filter(|bytes| *bytes > 0));
        replace(&mut options.max_traced_msg_len, bytes_max);
    }

    fn apply_credentials(&self, options: &mut Options) {
        let secret =
            |secret: &Secret| Some(secret.clone()).filter(|secret| !secret.reveal().is_empty());
        replace(&mut options.user, self.user.as_deref().map(text));
        replace(&mut options.password, self.pass.as_ref().map(secret));
        replace(&mut options.auth_token, self.auth.as_ref().map(secret));
    }

    /// Any of these flags replaces all that the file says of TLS.
    fn apply_tls(&self, options: &mut Options) -> Result<(), String> {
        if self.tls == Some(false) {
            options.tls = None;
            return Ok(());
        }
        let files = [&self.tls_cert, &self.tls_key, &self.tls_ca_cert];
        let is_on = self.tls.is_some() || self.tls_verify == Some(true);
        if !is_on && files.iter().all(|file| file.is_none()) {
            return Ok(());
        }
        let given = |file: &Option<PathBuf>| file.as_deref().and_then(path);
        let needed = |file, what| {
            given(file).ok_or_else(|| format!("TLS Server {what} must be present and valid"))
        };
        options.tls = Some(TlsConfig {
            certs: vec![CertFiles {
                cert_file: needed(&self.tls_cert, "certificate")?,
                key_file: needed(&self.tls_key, "private key")?,
            }],
            ca_file: given(&self.tls_ca_cert),
            verify: self.tls_verify == Some(true),
            ..TlsConfig::default()
        });
        Ok(())
    }

    fn apply_cluster(&self, options: &mut Options) -> Result<(), String> {
        let cluster = &mut options.cluster;
        match &self.cluster {
            None => {}
            Some(ClusterListen::Off) => cluster.port = None,
            Some(ClusterListen::At {
                host,
                port,
                credentials,
            }) => {
                cluster.host = host_or_all(host);
                cluster.port = port.number();
                (cluster.user, cluster.password) = credentials.clone().unzip();
            }
        }
        replace(&mut cluster.name, self.cluster_name.as_deref().map(text));
        replace(&mut cluster.no_advertise, self.no_advertise);
        replace(
            &mut cluster.advertise,
            self.cluster_advertise.as_deref().map(text),
        );
        replace(&mut cluster.connect_retries, self.connect_retries);
        if let Some(routes) = &self.routes {
            if !routes.is_empty() && cluster.port.is_none() {
                let needed = "solicited routes require cluster capabilities, e.g. --cluster";
                return Err(needed.into());
            }
            cluster.routes.clone_from(routes);
        }
        Ok(())
    }
}

impl Port {
    /// As options have it: 0 lets the system choose one.
    fn number(self) -> Option<u16> {
        match self {
            Port::Any => Some(0),
            Port::Fixed(port) => Some(port),
            Port::Off => None,
        }
    }
}

fn replace<T>(option: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *option = value;
    }
}

fn host_or_all(host: &str) -> String {
    if host.is_empty() {
        limits::HOST.into()
    } else {
        host.into()
    }
}

/// An option's text: an empty one is none.
fn text(text: &str) -> Option<String> {
    Some(text.into()).filter(|text: &String| !text.is_empty())
}

/// An option's path: an empty one is none.
fn path(path: &Path) -> Option<PathBuf> {
    Some(path.to_path_buf()).filter(|path| !path.as_os_str().is_empty())
}
