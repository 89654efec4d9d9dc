//! What comes of a frame: something to do, a refusal, or the end of the connection.

use std::fmt;

use crate::log::quote;
use crate::proto::encode::error_line;
use crate::proto::error::{ParseError, text};
use crate::proto::frame::Publish;

/// What the engine has to do for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing: the session has answered.
    Nothing,
    /// Route a message.
    Publish(&'a Publish<'a>),
    /// Add a subscription, unless the table of subscriptions has a reason not to.
    Subscribe {
        /// What to match.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
        /// The peer's name for it.
        sid: &'a [u8],
        /// Whether each delivery is a matter of permissions.
        guarded: bool,
    },
    /// Route a message, and answer it: it asks the server who its sender is.
    Inquire(&'a Publish<'a>),
    /// Compute a password's hash; until that is done, nothing more is read.
    Verify,
    /// End a subscription now (`max` 0) or after so many deliveries.
    Unsubscribe {
        /// The peer's name for it.
        sid: &'a [u8],
        /// Deliveries in all.
        max: u32,
    },
    /// CONNECT was accepted, the account's limit of connections excepted, and is to be acknowledged. A second one ends
    /// all subscriptions; the first one changes what the existing ones get.
    Connected {
        /// Whether it is not the first.
        again: bool,
    },
    /// The configuration has changed, and the connection stays. What it may do can be something else now.
    Reviewed,
    /// Tell the peer, and the log, that it must not.
    Refuse(Violation<'a>),
}

/// An operation that is refused while the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation<'a> {
    /// Publishing to a subject that is reserved or not permitted.
    Publish {
        /// The subject.
        subject: &'a [u8],
    },
    /// A reply subject that is reserved.
    Reply {
        /// The reply subject.
        reply: &'a [u8],
    },
    /// Subscribing to what is reserved or not permitted.
    Subscribe {
        /// The subject.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
        /// The peer's name for it.
        sid: &'a [u8],
    },
    /// Staying subscribed to what is not permitted any more.
    Withdrawn {
        /// The subject.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
        /// The peer's name for it.
        sid: &'a [u8],
    },
    /// More tokens than `max_subscription_tokens`.
    TooManyTokens {
        /// The subject.
        subject: &'a [u8],
        /// The peer's name for it.
        sid: &'a [u8],
    },
    /// More subscriptions than `max_subscriptions`.
    Subscriptions,
    /// A subject that one cannot subscribe to.
    Subject,
}

impl Violation<'_> {
    /// The text of `-ERR`.
    #[must_use]
    pub fn wire_text(&self) -> String {
        let quoted = |bytes| quote(bytes, None);
        match *self {
            Violation::Publish { subject } => {
                format!("Permissions Violation for Publish to {}", quoted(subject))
            }
            Violation::Reply { reply } => format!(
                "Permissions Violation for Publish with Reply of {}",
                quoted(reply)
            ),
            Violation::Subscribe {
                subject,
                queue: None,
                ..
            } => {
                format!(
                    "Permissions Violation for Subscription to {}",
                    quoted(subject)
                )
            }
            Violation::Subscribe {
                subject,
                queue: Some(queue),
                ..
            } => {
                format!(
                    "Permissions Violation for Subscription to {} using queue {}",
                    quoted(subject),
                    quoted(queue)
                )
            }
            Violation::Withdrawn {
                subject,
                queue,
                sid,
            } => {
                let refused = Violation::Subscribe {
                    subject,
                    queue,
                    sid,
                };
                format!("{} (sid {})", refused.wire_text(), quoted(sid))
            }
            Violation::TooManyTokens { subject, .. } => {
                format!(
                    "Permissions Violation for Subscription to {}, too many tokens",
                    quoted(subject)
                )
            }
            Violation::Subscriptions => text::SUBSCRIPTIONS.into(),
            Violation::Subject => text::SUBJECT.into(),
        }
    }
}

/// As the log has it.
impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |bytes| quote(bytes, None);
        match *self {
            Violation::Publish { subject } => {
                write!(f, "Publish Violation - Subject {}", quoted(subject))
            }
            Violation::Reply { reply } => write!(f, "Publish Violation - Reply {}", quoted(reply)),
            Violation::Subscribe {
                subject,
                queue,
                sid,
            } => {
                write!(f, "Subscription Violation - Subject {}", quoted(subject))?;
                if let Some(queue) = queue {
                    write!(f, ", Queue: {}", quoted(queue))?;
                }
                write!(f, ", SID {}", sid.escape_ascii())
            }
            Violation::Withdrawn {
                subject,
                queue,
                sid,
            } => {
                write!(f, "Removed sub {}", quoted(subject))?;
                if let Some(queue) = queue {
                    write!(f, " using queue {}", quoted(queue))?;
                }
                write!(f, " (sid {})", quoted(sid))
            }
            Violation::TooManyTokens { subject, sid } => {
                let sid = sid.escape_ascii();
                write!(
                    f,
                    "Subscription Violation Too Many Tokens - Subject {}, SID {sid}",
                    quoted(subject)
                )
            }
            Violation::Subscriptions => f.write_str(text::SUBSCRIPTIONS),
            Violation::Subject => f.write_str(text::SUBJECT),
        }
    }
}

/// Why a connection ends, as logs and monitoring name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer left.
    ClientClosed,
    /// No CONNECT in time.
    AuthenticationTimeout,
    /// Bad or missing credentials.
    AuthenticationFailure,
    /// More than `max_pending` bytes queued for it.
    SlowConsumerPending,
    /// Its socket took nothing for `write_deadline`.
    SlowConsumerDeadline,
    /// Too slow while the server is short of memory.
    SlowConsumerMemory,
    /// In the middle of a message while the server is short of memory.
    MemoryLimit,
    /// Writing failed.
    WriteError,
    /// Reading failed.
    ReadError,
    /// The peer sent `-ERR`.
    ParseError,
    /// Too many PINGs without an answer.
    Stale,
    /// Bytes that are no operation.
    ProtocolViolation,
    /// CONNECT with an unknown `protocol`.
    ClientProtocol,
    /// `max_connections` reached.
    Connections,
    /// The `max_connections` of `address_limits` reached.
    AddressConnections,
    /// The `rate` of `address_limits` exceeded.
    AddressRate,
    /// The account's `max_connections` reached.
    AccountConnections,
    /// More subscriptions than a reload has left to the account's connections.
    Subscriptions,
    /// A message above `max_payload`.
    Payload,
    /// Arguments above `max_control_line`.
    ControlLine,
    /// The server ends.
    ServerShutdown,
    /// `no_responders` without `headers`.
    NoResponders,
    /// No TLS session came about.
    TlsHandshakeFailure,
    /// There is a route to that server already.
    DuplicateRoute,
    /// The configuration has that route no more.
    RouteRemoved,
    /// A client, or another kind of link, on the port for routes.
    IncorrectPort,
    /// A server of another cluster.
    ClusterNameConflict,
    /// Another server has this one's name.
    DuplicateServerName,
    /// A route for an account that there is not, or that has none of its own.
    MissingAccount,
    /// The system account wants it gone.
    Kicked,
}

impl CloseReason {
    /// What the peer is told before the end, if anything.
    #[must_use]
    pub fn wire_text(self) -> Option<&'static str> {
        match self {
            CloseReason::AuthenticationTimeout => Some(text::AUTH_TIMEOUT),
            CloseReason::AuthenticationFailure => Some(text::AUTHORIZATION),
            CloseReason::Stale => Some(text::STALE),
            CloseReason::ClientProtocol => Some(text::CLIENT_PROTOCOL),
            CloseReason::Connections => Some(text::CONNECTIONS),
            CloseReason::AddressConnections => Some(text::ADDRESS_CONNECTIONS),
            CloseReason::AddressRate => Some(text::ADDRESS_RATE),
            CloseReason::AccountConnections => Some(text::ACCOUNT_CONNECTIONS),
            CloseReason::Subscriptions => Some(text::SUBSCRIPTIONS),
            CloseReason::MemoryLimit => Some(text::MEMORY_LIMIT),
            CloseReason::NoResponders => Some(text::NO_RESPONDERS),
            CloseReason::IncorrectPort => Some(text::ROUTE_PORT),
            // The parser's own errors bring their texts, and the rest are closed without a word.
            _ => None,
        }
    }
}

impl CloseReason {
    /// Whether the peer did not take what was sent to it.
    #[must_use]
    pub fn is_slow_consumer(self) -> bool {
        matches!(
            self,
            CloseReason::SlowConsumerPending
                | CloseReason::SlowConsumerDeadline
                | CloseReason::SlowConsumerMemory
        )
    }

    /// Appends the `-ERR` for it, if the peer is told.
    pub fn tell(self, out: &mut Vec<u8>) {
        if let Some(text) = self.wire_text() {
            error_line(text, out);
        }
    }
}

impl From<&ParseError> for CloseReason {
    fn from(error: &ParseError) -> Self {
        match error {
            ParseError::ControlLine { .. } => CloseReason::ControlLine,
            ParseError::Payload { .. } => CloseReason::Payload,
            ParseError::UnknownOperation(..) | ParseError::Arguments(..) | ParseError::Headers => {
                CloseReason::ProtocolViolation
            }
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::ClientClosed => "Client Closed",
            CloseReason::AuthenticationTimeout => "Authentication Timeout",
            CloseReason::AuthenticationFailure => "Authentication Failure",
            CloseReason::SlowConsumerPending => "Slow Consumer (Pending Bytes)",
            CloseReason::SlowConsumerDeadline => "Slow Consumer (Write Deadline)",
            CloseReason::SlowConsumerMemory => "Slow Consumer (Memory Limit)",
            CloseReason::Subscriptions => "Maximum Subscriptions Exceeded",
            CloseReason::MemoryLimit => "Memory Limit Exceeded",
            CloseReason::WriteError => "Write Error",
            CloseReason::ReadError => "Read Error",
            CloseReason::ParseError => "Parse Error",
            CloseReason::Stale => "Stale Connection",
            CloseReason::ProtocolViolation => "Protocol Violation",
            CloseReason::ClientProtocol => "Bad Client Protocol Version",
            CloseReason::Connections => "Maximum Connections Exceeded",
            CloseReason::AddressConnections => "Maximum Address Connections Exceeded",
            CloseReason::AddressRate => "Address Connection Rate Exceeded",
            CloseReason::AccountConnections => "Maximum Account Connections Exceeded",
            CloseReason::Payload => "Maximum Message Payload Exceeded",
            CloseReason::ControlLine => "Maximum Control Line Exceeded",
            CloseReason::ServerShutdown => "Server Shutdown",
            CloseReason::NoResponders => "No Responders Requires Headers",
            CloseReason::TlsHandshakeFailure => "TLS Handshake Failure",
            CloseReason::DuplicateRoute => "Duplicate Route",
            CloseReason::RouteRemoved => "Route Removed",
            CloseReason::IncorrectPort => "Incorrect Port",
            CloseReason::ClusterNameConflict => "Cluster Name Conflict",
            CloseReason::DuplicateServerName => "Duplicate Server Name",
            CloseReason::MissingAccount => "Missing Account",
            CloseReason::Kicked => "Kicked",
        })
    }
}
