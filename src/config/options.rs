//! The options of a server, typed, with the reference server's names and defaults.
//!
//! An `Options` is complete and plain: what a configuration file leaves out has its default here, and nothing in it
//! refers to a file's text. Values that no server could start with are found by [`Options::check`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::limits;

mod accounts;
mod address_limits;
mod auth;
mod check;
mod cluster;
mod tls;

pub use accounts::{
    Account, AccountLimits, Destination, Export, ExportKind, Import, ImportKind, Latency, Mapping,
    ResponseType,
};
pub use address_limits::AddressLimits;
pub use auth::{ConnectionType, NkeyUser, Permissions, ResponseRule, Secret, SubjectRules, User};
pub use check::Problem;
pub(super) use check::broken_hash;
pub(super) use cluster::host_and_port;
pub(crate) use cluster::percent_decoded;
pub use cluster::{
    Cluster, Compression, CompressionMode, RoutePermissions, RouteUrl, WriteTimeout,
};
pub use tls::{CertFiles, HandshakeFirst, TlsConfig, TlsVersion};

/// What a server can be told. Field names are the configuration's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Host name or address on which clients are accepted.
    pub host: String,
    /// Client port; 0 lets the system choose one.
    pub port: u16,
    /// Name in INFO and monitoring; the server's id when absent.
    pub server_name: Option<String>,
    /// `host[:port]` that clients are told to connect to.
    pub client_advertise: Option<String>,
    /// Labels of this server, for monitoring.
    pub server_tags: Vec<String>,
    /// Named labels of this server, for monitoring.
    pub server_metadata: BTreeMap<String, String>,
    /// Worker threads; the number of cores when absent. Not in the reference server.
    pub workers: Option<usize>,

    /// Bytes on their way between sockets, of all connections together, above which new ones are refused, and slow
    /// consumers and those in the middle of a message are given up, whoever takes most; `None` is unlimited. Not in
    /// the reference server.
    pub memory_limit: Option<usize>,
    /// The earliest time that the clock can rightly show: before it, certificates are taken as of this time. For boards
    /// without a clock of their own. Not in the reference server.
    pub clock_floor: Option<SystemTime>,

    /// Client connections at a time; `None` is unlimited.
    pub max_connections: Option<usize>,
    /// Limits for the connections from one address.
    pub address_limits: AddressLimits,
    /// Subscriptions of one connection; `None` is unlimited.
    pub max_subscriptions: Option<usize>,
    /// Tokens in a subscription's subject; `None` is unlimited.
    pub max_subscription_tokens: Option<u8>,
    /// Bytes of arguments in one control line.
    pub max_control_line: usize,
    /// Bytes of headers and payload in one message.
    pub max_payload: usize,
    /// Bytes queued for one connection.
    pub max_pending: usize,
    /// Entries in the history of closed connections.
    pub max_closed_clients: usize,

    /// Time between PINGs to an idle client.
    pub ping_interval: Duration,
    /// Unanswered PINGs after which a connection is stale.
    pub ping_max: u32,
    /// Time a socket may take nothing before its connection is a slow consumer.
    pub write_deadline: Duration,
    /// What happens to a socket that took nothing for so long.
    pub write_timeout: WriteTimeout,
    /// How long a password is remembered to be right, so that its hash need not be computed for each connection; zero is
    /// not at all. Not in the reference server.
    pub password_cache: Duration,
    /// How long a worker looks for the next message before it sleeps, where requests follow each other closely; zero is
    /// not at all. Not in the reference server.
    pub busy_poll: Duration,
    /// Time for CONNECT where credentials are needed.
    pub auth_timeout: Duration,
    /// Whether that was set, rather than following from the TLS timeout.
    pub auth_timeout_is_set: bool,
    /// Time lame duck mode takes in all.
    pub lame_duck_duration: Duration,
    /// Time between the lame duck notice and the first close.
    pub lame_duck_grace_period: Duration,

    /// Refuse headers altogether.
    pub no_header_support: bool,
    /// Walk the subjects for every message, remember no result.
    pub disable_sublist_cache: bool,
    /// Drop messages for a consumer that is full, instead of pausing its producers.
    pub no_fast_producer_stall: bool,

    /// Log level DBG.
    pub debug: bool,
    /// Log level TRC: every protocol line.
    pub trace: bool,
    /// Trace the system account too.
    pub trace_verbose: bool,
    /// Show headers only, not payloads, in trace lines.
    pub trace_headers: bool,
    /// Payload bytes shown in trace lines; `None` is all of them.
    pub max_traced_msg_len: Option<usize>,
    /// Time stamps in log lines.
    pub logtime: bool,
    /// Those in UTC rather than local time.
    pub logtime_utc: bool,
    /// Log file; standard error when absent. Goes before `remote_syslog`, and that before `syslog`.
    pub log_file: Option<PathBuf>,
    /// Bytes after which the log file is put aside and begun anew; `None` is never.
    pub log_size_limit: Option<u64>,
    /// Log files to keep, the current one counted in; `None` is all.
    pub log_max_num: Option<usize>,
    /// Log to the system's log.
    pub syslog: bool,
    /// Log to a system's log elsewhere: `udp://`, `tcp://` or `unix://`.
    pub remote_syslog: Option<String>,
    /// Shape of a log line. Not in the reference server.
    pub log_format: LogFormat,
    /// Every how many failed attempts to dial a server for the first time are logged as errors.
    pub connect_error_reports: u32,
    /// The same for a server that was connected before.
    pub reconnect_error_reports: u32,

    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Directory for the file that lists the ports in use.
    pub ports_file_dir: Option<PathBuf>,

    /// Address of the monitoring pages; that of clients when absent.
    pub http_host: Option<String>,
    /// Port of the monitoring pages; 0 lets the system choose one, `None` is none.
    pub http_port: Option<u16>,
    /// The same, with TLS.
    pub https_port: Option<u16>,
    /// Path before those of the monitoring pages: starts with a slash, and ends in one only if it is nothing else.
    pub http_base_path: String,
    /// Token that requests for monitoring pages must bear; none is asked for when absent. Not in the reference server.
    pub http_auth_token: Option<Secret>,
    /// File of a Unix socket for the monitoring pages. Not in the reference server.
    pub http_socket: Option<PathBuf>,

    /// TLS of clients and of `https_port`; plain text when absent.
    pub tls: Option<TlsConfig>,
    /// Take clients without TLS too.
    pub allow_non_tls: bool,

    /// The single user, if there is one. Users and nkeys go before the token, and that before this one.
    pub user: Option<String>,
    /// The single user's password, or a bcrypt hash of it.
    pub password: Option<Secret>,
    /// The token, or a bcrypt hash of it.
    pub auth_token: Option<Secret>,
    /// Users of the default account.
    pub users: Vec<User>,
    /// Users of the default account that have keys.
    pub nkeys: Vec<NkeyUser>,
    /// User name or key that clients without credentials get.
    pub no_auth_user: Option<String>,
    /// Accounts beside the default one.
    pub accounts: Vec<Account>,
    /// Account of the server's own messages; `$SYS` when absent.
    pub system_account: Option<String>,
    /// Have none.
    pub no_system_account: bool,
    /// Mappings of the default account.
    pub mappings: Vec<Mapping>,

    /// The cluster.
    pub cluster: Cluster,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// An object in JSON.
    Json,
    /// As the reference server writes it.
    #[default]
    Text,
}

impl Options {
    /// The account for the server's own messages; none if it is switched off.
    #[must_use]
    pub fn system_account(&self) -> Option<&str> {
        let name = self.system_account.as_deref().unwrap_or("$SYS");
        (!self.no_system_account).then_some(name)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            host: limits::HOST.into(),
            port: limits::PORT,
            server_name: None,
            client_advertise: None,
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            workers: None,
            memory_limit: None,
            clock_floor: None,
            max_connections: Some(limits::MAX_CONNECTIONS),
            address_limits: AddressLimits::default(),
            max_subscriptions: None,
            max_subscription_tokens: None,
            max_control_line: limits::MAX_CONTROL_LINE,
            max_payload: limits::MAX_PAYLOAD,
            max_pending: limits::MAX_PENDING,
            max_closed_clients: limits::MAX_CLOSED_CLIENTS,
            ping_interval: limits::PING_INTERVAL,
            ping_max: limits::PING_MAX,
            write_deadline: limits::WRITE_DEADLINE,
            write_timeout: WriteTimeout::Default,
            password_cache: limits::VERIFIED_LIFE,
            busy_poll: limits::BUSY_POLL,
            auth_timeout: limits::AUTH_TIMEOUT,
            auth_timeout_is_set: false,
            lame_duck_duration: limits::LAME_DUCK_DURATION,
            lame_duck_grace_period: limits::LAME_DUCK_GRACE_PERIOD,
            no_header_support: false,
            disable_sublist_cache: false,
            no_fast_producer_stall: false,
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            max_traced_msg_len: None,
            logtime: true,
            logtime_utc: false,
            log_file: None,
            log_size_limit: None,
            log_max_num: None,
            syslog: false,
            remote_syslog: None,
            log_format: LogFormat::Text,
            connect_error_reports: limits::CONNECT_ERROR_REPORTS,
            reconnect_error_reports: limits::RECONNECT_ERROR_REPORTS,
            pid_file: None,
            ports_file_dir: None,
            http_host: None,
            http_port: None,
            https_port: None,
            http_base_path: "/".into(),
            http_auth_token: None,
            http_socket: None,
            tls: None,
            allow_non_tls: false,
            user: None,
            password: None,
            auth_token: None,
            users: Vec::new(),
            nkeys: Vec::new(),
            no_auth_user: None,
            accounts: Vec::new(),
            system_account: None,
            no_system_account: false,
            mappings: Vec::new(),
            cluster: Cluster::default(),
        }
    }
}
