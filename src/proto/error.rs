//! What can be wrong with a peer's bytes, and the one table of texts that peers are told.

use std::fmt;

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

/// Why bytes are not an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// No operation starts like this, or a payload does not end in CRLF. The bytes are the offending start.
    UnknownOperation(Vec<u8>),
    /// The arguments are longer than the limit.
    ControlLine {
        /// `max_control_line`.
        limit: usize,
    },
    /// Wrong number of arguments, or a size that is none: the verb, and the arguments as they came.
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
    /// The text for the peer, if it gets one.
    #[must_use]
    pub fn wire_text(&self) -> Option<&'static str> {
        match self {
            ParseError::UnknownOperation(_) => Some(text::UNKNOWN_OPERATION),
            ParseError::ControlLine { .. } => Some(text::CONTROL_LINE),
            ParseError::Payload { .. } => Some(text::PAYLOAD),
            ParseError::Arguments(..) | ParseError::Headers => None,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::UnknownOperation(start) => {
                write!(
                    f,
                    "parser error: unknown protocol operation at '{}'",
                    start.escape_ascii()
                )
            }
            ParseError::ControlLine { limit } => {
                write!(f, "maximum control line exceeded: limit {limit}")
            }
            ParseError::Arguments(verb, arguments) => {
                write!(
                    f,
                    "{verb} bad or missing arguments: '{}'",
                    arguments.escape_ascii()
                )
            }
            ParseError::Payload { size, limit } => {
                write!(f, "maximum payload exceeded: {size} vs {limit}")
            }
            ParseError::Headers => write!(f, "message headers not supported by this connection"),
        }
    }
}

impl std::error::Error for ParseError {}
