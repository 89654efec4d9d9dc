//! Questions to the server itself: who am I, which it answers at once, and those about the server, which take longer.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{ClientPeer, Delivery, Engine, Sink};
use crate::broker::WayBack;
use crate::config::options::{Permissions, ResponseType, SubjectRules};
use crate::limits;
use crate::monitor::system::{self, SystemRequest};
use crate::proto::encode::{Message, compose};
use crate::proto::frame::Publish;
use crate::proto::info::PROTOCOL_VERSION;
use crate::session::{Context, Who};

/// What requests to the server begin with.
const REQUESTS: &[u8] = b"$SYS.REQ.";
/// Where the server tells who asks.
const USER_INFO: &[u8] = b"$SYS.REQ.USER.INFO";

/// Whether the server answers this peer's requests to this subject, so that they never lack a responder.
pub(super) fn is_for_server(peer: &ClientPeer, subject: &[u8], server_id: &str) -> bool {
    let is_system = peer.session.identity().is_some_and(|it| it.is_system);
    subject == USER_INFO || system::serves(subject, server_id, is_system)
}

/// Whether a message may be a request to the server: cheap, and mostly right.
#[inline]
pub(super) fn may_be_for_server(publish: &Publish<'_>) -> bool {
    !publish.reply.is_empty() && publish.subject.starts_with(REQUESTS)
}

/// Takes a request in if the server answers such.
#[cold]
pub(super) fn take_in(
    account: u32,
    is_system: bool,
    publish: &Publish<'_>,
    server_id: &str,
    sink: &mut impl Sink,
) {
    let is_ours = system::serves(publish.subject, server_id, is_system);
    if is_ours && publish.body.len() <= limits::SYSTEM_REQUEST_BYTES_MAX {
        let body = publish.body.get(publish.header_len..).unwrap_or_default();
        sink.on_request(SystemRequest {
            subject: publish.subject.into(),
            reply: publish.reply.into(),
            account,
            is_system,
            payload: body.into(),
        });
    }
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
        let delivery = self.publish_late(peer, publish, context, sink);
        self.answer_inquiry(peer, publish, context, sink);
        delivery
    }

    /// Answers a request for the server.
    pub(super) fn answer_inquiry(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) {
        if publish.subject != USER_INFO {
            let is_system = peer.session.identity().is_some_and(|it| it.is_system);
            let server_id = &context.info.server_id;
            take_in(peer.account, is_system, publish, server_id, sink);
            if !is_system {
                self.ask_elsewhere(peer, publish, context.now, sink);
            }
            return;
        }
        self.inquiries += 1;
        let mut answer = json!({
            "server": {
                "name": context.info.server_name,
                "host": context.info.host,
                "id": context.info.server_id,
                "ver": PROTOCOL_VERSION,
                "jetstream": false,
                "flags": 0,
                "seq": self.inquiries,
                "time": sink.date(),
            },
            "data": user_info(peer),
        });
        if let Some(cluster) = &context.info.cluster {
            answer["server"]["cluster"] = cluster.as_str().into();
        }
        let reply = publish.reply;
        let (answer, now) = (answer.to_string(), context.now);
        self.announce(peer.account, (reply, b""), &answer, now, sink);
    }

    /// Has the other servers answer what an account may ask about itself; their answers come back like those of a
    /// service in the system account.
    fn ask_elsewhere(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        if self.broker.routes.count() == 0 {
            return;
        }
        let (own, system) = (
            self.broker.account(peer.account),
            self.broker.account_named(&self.facts.services.account),
        );
        let (Some(own), Some(system)) = (own, system) else {
            return;
        };
        let Some(subject) = system::elsewhere(publish.subject, &own.name) else {
            return;
        };
        let service = system.index;
        let reply = self.open(WayBack {
            service,
            account: peer.account,
            reply: publish.reply.into(),
            response: ResponseType::Stream,
            threshold: limits::SYSTEM_ANSWERS_TIME,
            opened: now,
        });
        let body = publish.body.get(publish.header_len..).unwrap_or_default();
        let body = body.strip_suffix(b"\r\n").unwrap_or(body);
        let mut line = Vec::with_capacity(body.len() + subject.len() + reply.len() + 16);
        let parts = compose(subject.as_bytes(), &reply, 0, body, &mut line);
        self.send(service, &Message::new(&line, parts), now, sink);
    }

    /// Sends a text of the server's own to whoever is subscribed in an account; `reply` is where answers go, if any are
    /// wanted.
    pub fn announce(
        &mut self,
        account: u32,
        (subject, reply): (&[u8], &[u8]),
        text: &str,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        let mut line = Vec::with_capacity(subject.len() + reply.len() + text.len() + 16);
        let parts = compose(subject, reply, 0, text.as_bytes(), &mut line);
        self.send(account, &Message::new(&line, parts), now, sink);
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
