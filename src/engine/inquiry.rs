//! Questions to the server itself that every account may ask: who am I?

use serde_json::{Map, Value, json};

use super::{ClientPeer, Delivery, Engine, Sink};
use crate::config::options::{Permissions, SubjectRules};
use crate::proto::encode::{Message, Parts};
use crate::proto::frame::Publish;
use crate::proto::info::PROTOCOL_VERSION;
use crate::session::{Context, Who};

/// Whether the server answers requests to this subject, so that they never lack a responder.
pub(super) fn is_for_server(subject: &[u8]) -> bool {
    subject == b"$SYS.REQ.USER.INFO"
}

impl Engine {
    /// Routes a request for the server like any message, and answers it.
    #[cold]
    pub(super) fn inquire(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        let delivery = self.publish(peer, publish, context, sink);
        self.inquiries += 1;
        let answer = json!({
            "server": {
                "name": context.info.server_name,
                "host": context.info.host,
                "id": context.info.server_id,
                "ver": PROTOCOL_VERSION,
                "jetstream": false,
                "flags": 0,
                "seq": self.inquiries,
            },
            "data": user_info(peer),
        });
        let answer = answer.to_string();
        let mut line = publish.reply.to_vec();
        line.extend_from_slice(format!(" {}\r\n{answer}\r\n", answer.len()).as_bytes());
        let parts = Parts {
            subject_len: publish.reply.len(),
            reply_len: 0,
            body_at: line.len() - answer.len() - 2,
            header_len: 0,
        };
        let message = Message::new(&line, parts);
        self.send(peer.account, &message, context.now, sink);
        delivery
    }
}

/// What the server knows of a peer.
fn user_info(peer: &ClientPeer) -> Value {
    let mut info = Map::new();
    let claimed = || {
        peer.session
            .connect()
            .and_then(|it| it.credentials().user.as_deref())
    };
    if let Some(identity) = peer.session.identity() {
        let user = match &identity.who {
            Who::Anyone => claimed().unwrap_or_default(),
            Who::Nkey(name) | Who::User(name) => name,
            Who::Token => "[REDACTED]",
        };
        info.insert("user".into(), user.into());
        info.insert("account".into(), (&*identity.account_name).into());
        info.insert("account_name".into(), (&*identity.account_name).into());
        if let Some(rules) = &identity.rules {
            info.insert("permissions".into(), permissions(rules.source()));
        }
    }
    Value::Object(info)
}

fn permissions(permissions: &Permissions) -> Value {
    let mut shown = Map::new();
    for (name, rules) in [
        ("publish", &permissions.publish),
        ("subscribe", &permissions.subscribe),
    ] {
        shown.insert(name.into(), subject_rules(rules));
    }
    if let Some(rule) = permissions.allow_responses {
        let ttl = rule.expires.map_or(-1, |span| {
            i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
        });
        let max = rule.max.map_or(-1, i64::from);
        shown.insert("responses".into(), json!({"max": max, "ttl": ttl}));
    }
    Value::Object(shown)
}

fn subject_rules(rules: &SubjectRules) -> Value {
    let mut shown = Map::new();
    let allow = rules.allow.as_deref().unwrap_or_default();
    for (name, list) in [("allow", allow), ("deny", &rules.deny)] {
        if !list.is_empty() {
            shown.insert(name.into(), list.into());
        }
    }
    Value::Object(shown)
}
