//! The options of a server, typed, with the reference server's names and defaults.
//!
//! An `Options` is complete and plain: what a configuration file leaves out has its default here, and nothing in it
//! refers to a file's text. Values that no server could start with are found by [`Options::check`].

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// What a server can be told. Field names are the configuration's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Host name or address on which clients are accepted.
    pub host: String,
    /// Client port; 0 lets the system choose one.
    pub port: u16,
    /// Name in INFO and monitoring; the server's id when absent.
    pub server_name: Option<String>,
    /// Worker threads; the number of cores when absent. Not in the reference server.
    pub workers: Option<usize>,

    /// Client connections at a time; `None` is unlimited.
    pub max_connections: Option<usize>,
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
    /// Time for CONNECT where credentials are needed.
    pub auth_timeout: Duration,
    /// Time lame duck mode takes in all.
    pub lame_duck_duration: Duration,
    /// Time between the lame duck notice and the first close.
    pub lame_duck_grace_period: Duration,

    /// Refuse headers altogether.
    pub no_header_support: bool,
    /// Drop messages for a consumer that is full, instead of pausing its producers.
    pub no_fast_producer_stall: bool,

    /// Log level DBG.
    pub debug: bool,
    /// Log level TRC: every protocol line.
    pub trace: bool,
    /// Payload bytes shown in trace lines; `None` is all of them.
    pub max_traced_msg_len: Option<usize>,
    /// Time stamps in log lines.
    pub logtime: bool,
    /// Those in UTC rather than local time.
    pub logtime_utc: bool,
    /// Log file; standard error when absent.
    pub log_file: Option<PathBuf>,

    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Directory for the file that lists the ports in use.
    pub ports_file_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            host: limits::HOST.into(),
            port: limits::PORT,
            server_name: None,
            workers: None,
            max_connections: Some(limits::MAX_CONNECTIONS),
            max_subscriptions: None,
            max_subscription_tokens: None,
            max_control_line: limits::MAX_CONTROL_LINE,
            max_payload: limits::MAX_PAYLOAD,
            max_pending: limits::MAX_PENDING,
            max_closed_clients: limits::MAX_CLOSED_CLIENTS,
            ping_interval: limits::PING_INTERVAL,
            ping_max: limits::PING_MAX,
            write_deadline: limits::WRITE_DEADLINE,
            auth_timeout: limits::AUTH_TIMEOUT,
            lame_duck_duration: limits::LAME_DUCK_DURATION,
            lame_duck_grace_period: limits::LAME_DUCK_GRACE_PERIOD,
            no_header_support: false,
            no_fast_producer_stall: false,
            debug: false,
            trace: false,
            max_traced_msg_len: None,
            logtime: true,
            logtime_utc: false,
            log_file: None,
            pid_file: None,
            ports_file_dir: None,
        }
    }
}
