//! What can be wrong with a peer's bytes, and the one table of texts that peers are told.

use std::fmt;

use serde_json::error::Category;

use crate::limits;
use crate::log::quote;

/// Texts of `-ERR '…'`, to the letter: clients compare them.
pub mod text {
    /// An operation that does not exist, or a payload without CRLF behind it.
    pub const UNKNOWN_OPERATION: &str = "Unknown Protocol Operation";
    /// Arguments longer than `max_control_line`.
    pub const CONTROL_LINE: &str = "maximum control line exceeded";
    /// A message larger than `max_payload`.
    pub const PAYLOAD: &str = "Maximum Payload Violation";
    /// Bad or missing credentials.
    pub const AUTHORIZATION: &str = "Authorization Violation";
    /// No CONNECT in time.
    pub const AUTH_TIMEOUT: &str = "Authentication Timeout";
    /// CONNECT with a `protocol` that is neither 0 nor 1.
    pub const CLIENT_PROTOCOL: &str = "invalid client protocol";
    /// CONNECT with `no_responders` and without `headers`.
    pub const NO_RESPONDERS: &str = "no responders requires headers support";
    /// A message whose end does not come, while the server is short of memory.
    pub const MEMORY_LIMIT: &str = "Memory Limit Exceeded";
    /// One connection too many.
    pub const CONNECTIONS: &str = "maximum connections exceeded";
    /// One connection too many for its address.
    pub const ADDRESS_CONNECTIONS: &str = "maximum connections per address exceeded";
    /// One connection too soon for its address.
    pub const ADDRESS_RATE: &str = "connection rate per address exceeded";
    /// One connection too many for the account.
    pub const ACCOUNT_CONNECTIONS: &str = "maximum account active connections exceeded";
    /// Too many PINGs without an answer.
    pub const STALE: &str = "Stale Connection";
    /// One subscription too many.
    pub const SUBSCRIPTIONS: &str = "maximum subscriptions exceeded";
    /// A subject that one cannot subscribe to.
    pub const SUBJECT: &str = "Invalid Subject";
    /// A client on the port for routes.
    pub const ROUTE_PORT: &str = "attempted to connect to route port";
    /// A subject that a pedantic client should not publish to.
    pub const PUBLISH_SUBJECT: &str = "Invalid Publish Subject";
    /// Too many TLS handshakes a second.
    pub const TLS_RATE: &str = "Connection throttling is active. Please try again later.";
}

/// Bytes of an unknown operation that are shown.
const SHOWN_MAX: usize = 32;

/// Why bytes are not an operation. Shown as in the reference server's log, where tools look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// No operation starts like this, or a payload does not end in CRLF: what kind of peer sent it, and the offending
    /// start.
    UnknownOperation(&'static str, Vec<u8>),
    /// The arguments are longer than the limit.
    ControlLine {
        /// `max_control_line`.
        limit: usize,
    },
    /// Wrong number of arguments, or a size that is none: what is wrong, and the arguments as they came.
    Arguments(&'static str, Vec<u8>),
    /// A message larger than the limit.
    Payload {
        /// Bytes that the sender announced.
        size: usize,
        /// `max_payload`.
        limit: usize,
    },
    /// HPUB from a connection that did not agree on headers.
    Headers,
}

impl ParseError {
    /// No operation of this kind of peer starts like that.
    pub(super) fn unknown(peer: &'static str, start: &[u8]) -> ParseError {
        let shown = start.get(..SHOWN_MAX).unwrap_or(start);
        ParseError::UnknownOperation(peer, shown.to_vec())
    }

    /// The text for the peer, if it gets one.
    #[must_use]
    pub fn wire_text(&self) -> Option<&'static str> {
        match self {
            ParseError::UnknownOperation(..) => Some(text::UNKNOWN_OPERATION),
            ParseError::ControlLine { .. } => Some(text::CONTROL_LINE),
            ParseError::Payload { .. } => Some(text::PAYLOAD),
            ParseError::Arguments(..) | ParseError::Headers => None,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::UnknownOperation(peer, start) => {
                // The numbers are those of an operation's start in the reference server, where most errors are found.
                let start = quote(start.strip_suffix(b"\n").unwrap_or(start), None);
                write!(f, "{peer} parser ERROR, state=0, i=0: proto='{start}...'")
            }
            ParseError::ControlLine { limit } => {
                write!(f, "maximum control line exceeded: limit {limit}")
            }
            ParseError::Arguments(what, arguments) => {
                write!(f, "{what}: {}", quote(arguments, None))
            }
            ParseError::Payload { size, limit } => {
                write!(f, "maximum payload exceeded: {size} vs {limit}")
            }
            ParseError::Headers => write!(f, "message headers not supported by this connection"),
        }
    }
}

impl std::error::Error for ParseError {}

/// The text of a peer's `-ERR`, for the log.
#[must_use]
pub fn shown_text(text: &[u8]) -> String {
    let shown = text.get(..limits::LOGGED_NAME_BYTES_MAX).unwrap_or(text);
    let text = String::from_utf8_lossy(shown).escape_debug().to_string();
    text.replace("\\'", "'").replace("\\\"", "\"")
}

/// What is wrong with the JSON of an operation, for the log. Values are not shown: one of them can be a password.
#[must_use]
pub fn json_fault(error: &serde_json::Error) -> String {
    let column = error.column();
    match error.classify() {
        Category::Eof => "unexpected end of JSON input".into(),
        Category::Data => format!("a value of the wrong type in JSON at column {column}"),
        _ => format!("invalid JSON at column {column}"),
    }
}
