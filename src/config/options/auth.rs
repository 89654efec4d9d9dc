//! Who may connect, and what they may do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::subject;

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

    /// Whether `other` is the text, found out in a time that does not tell how much of it is right.
    pub fn equals(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differences = own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(differences) == 0 && own.len() == other.len()
    }

    /// Whether it is a bcrypt hash of the secret, not the secret itself: `$2a$11$` and so on.
    pub fn is_hash(&self) -> bool {
        matches!(
            self.0.as_bytes(),
            [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', tens, ones, b'$', ..]
                if tens.is_ascii_digit() && ones.is_ascii_digit()
        )
    }

    /// Whether it is a hash that no secret has: cut short, or of a cost that does not exist.
    pub fn is_broken_hash(&self) -> bool {
        let costs = 4..=31;
        let parts = || self.0.parse::<bcrypt::HashParts>();
        self.is_hash() && !parts().is_ok_and(|parts| costs.contains(&parts.get_cost()))
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

impl SubjectRules {
    /// Whether a deny keeps a message for this subject from a subscription, in a queue group if one is named.
    #[must_use]
    pub fn denies(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.deny.iter().any(|rule| {
            let mut words = rule.split_ascii_whitespace().map(str::as_bytes);
            let pattern = words.next().unwrap_or_default();
            let is_for = match (words.next(), queue) {
                (None, _) => true,
                (Some(group), Some(queue)) => subject::is_subset(queue, group),
                (Some(_), None) => false,
            };
            is_for && subject::matches(pattern, subject)
        })
    }
}

/// How far answers to a request are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Answers to one request; `None` is unlimited.
    pub max: Option<u32>,
    /// Time for them; `None` is unlimited.
    pub expires: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_from_texts_and_broken_ones_from_good_ones() {
        let tail = "W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG";
        for start in ["$2a$11$", "$2b$04$", "$2x$31$", "$2y$10$"] {
            let secret = Secret::new(format!("{start}{tail}"));
            assert!(secret.is_hash() && !secret.is_broken_hash(), "{start}");
        }
        for text in [
            "", "$2$", "$2c$11$x", "$2A$11$x", "$2a$1$x", "x$2a$11$", "p",
        ] {
            let secret = Secret::new(text);
            assert!(!secret.is_hash() && !secret.is_broken_hash(), "{text}");
        }
        for start in ["$2a$03$", "$2a$32$", "$2a$11$x", "$2a$11$é"] {
            let secret = Secret::new(format!("{start}{tail}"));
            assert!(secret.is_hash() && secret.is_broken_hash(), "{start}");
        }
        assert!(Secret::new("$2a$11$short").is_broken_hash());
    }
}
