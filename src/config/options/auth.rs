//! Who may connect, and what they may do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something that must not be seen: a password, a token. Shows itself as `[REDACTED]`.
///
/// Equality is for comparing configurations, not credentials: it takes longer the more of them is right.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, to check or to send, never to show.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Someone who connects with a name and a password, or with a certificate that bears the name.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The name.
    pub user: String,
    /// Password or bcrypt hash of one; empty for who has none.
    pub password: Secret,
    /// What the user may do, defaults filled in; everything when absent.
    pub permissions: Option<Arc<Permissions>>,
    /// Kinds of connections the user may come by; any when empty.
    pub allowed_connection_types: Vec<ConnectionType>,
}

/// Someone who connects by signing a nonce.
#[derive(Clone, Debug, PartialEq)]
pub struct NkeyUser {
    /// The public key, `U` and 55 more characters, its checksum right.
    pub nkey: String,
    /// What the user may do, defaults filled in; everything when absent.
    pub permissions: Option<Arc<Permissions>>,
    /// Kinds of connections the user may come by; any when empty.
    pub allowed_connection_types: Vec<ConnectionType>,
}

/// By which way a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionType {
    /// Within the process.
    InProcess,
    /// A leaf node.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWs,
    /// MQTT.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWs,
    /// TCP or TLS.
    Standard,
    /// WebSocket.
    Websocket,
}

impl ConnectionType {
    /// Every kind with the name it has in configurations.
    pub const NAMES: [(&'static str, ConnectionType); 7] = [
        ("IN_PROCESS", ConnectionType::InProcess),
        ("LEAFNODE", ConnectionType::Leafnode),
        ("LEAFNODE_WS", ConnectionType::LeafnodeWs),
        ("MQTT", ConnectionType::Mqtt),
        ("MQTT_WS", ConnectionType::MqttWs),
        ("STANDARD", ConnectionType::Standard),
        ("WEBSOCKET", ConnectionType::Websocket),
    ];
}

/// What someone may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects to publish to.
    pub publish: SubjectRules,
    /// Subjects to subscribe to; a rule may be `subject queue`.
    pub subscribe: SubjectRules,
    /// Whether, and how often and how long, answers to requests are allowed besides.
    pub allow_responses: Option<ResponseRule>,
}

/// Allowed: what `allow` has, if there is one, and `deny` has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectRules {
    /// Absent: everything. Empty: nothing.
    pub allow: Option<Vec<String>>,
    /// Wins over `allow`.
    pub deny: Vec<String>,
}

/// How far answers to a request are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Answers to one request; `None` is unlimited.
    pub max: Option<u32>,
    /// Time for them; `None` is unlimited.
    pub expires: Option<Duration>,
}
