//! Requests that cross from one account into another, and their answers.
//!
//! ```text
//! account A, which imports svc of B as ask
//!
//! PUB ask inbox.7 ─► match in A ─► the service import ─► svc, _R_.x.y in B, told who asks
//! inbox.7 in A ◄─ way back of _R_.x.y ◄─ match in B ◄─ PUB _R_.x.y
//! ```
//!
//! A [`Round`](super::round::Round) that meets an import or a way back only notes it in [`Engine::met`]; what they lead
//! to is another round in the other account, with a message of its own. So do the shadows of plain subscriptions, for
//! which the message is written anew once for all with the same import.

use serde_json::Value;

use super::round::Outcome;
use super::route::Origin;
use super::{Engine, Sink};
use crate::broker::{Replies, SERVICES, ServiceImport, WayBack};
use crate::limits;
use crate::proto::encode::{Message, compose};
use crate::proto::headers;
use crate::session::Who;
use crate::sublist::SubRef;

/// The header that tells a service who asks. Nobody else can set it.
const REQUEST_INFO: &[u8] = b"Nats-Request-Info";
/// Replies that acknowledge what was stored pass as they are.
const ACKNOWLEDGEMENT: &[u8] = b"$JS.ACK.";

/// Where a message is that met a service import or a way back.
#[derive(Clone, Copy)]
pub(super) struct Crossing<'a> {
    /// The account.
    pub account: u32,
    /// The message.
    pub message: &'a Message<'a>,
    /// Crossings before this one.
    pub depth: u8,
}

impl<'a> Crossing<'a> {
    /// Where a message is that has not crossed yet.
    pub(super) fn first(account: u32, message: &'a Message<'a>) -> Self {
        Crossing {
            account,
            message,
            depth: 0,
        }
    }
}

impl Engine {
    /// Takes a message across for everything that its round met.
    #[cold]
    #[inline(never)]
    pub(super) fn cross(
        &mut self,
        crossing: Crossing<'_>,
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> Outcome {
        let mut met = std::mem::take(&mut self.met);
        let mut outcome = Outcome::default();
        let leads_back = |sub: &SubRef| Replies::is_meant(*sub);
        let is_shadow = |sub: &SubRef| sub.worker != SERVICES && !leads_back(sub);
        for run in met.chunk_by(|one, next| is_shadow(one) && is_shadow(next)) {
            outcome.merge(match run {
                shadows if shadows.iter().all(is_shadow) => {
                    self.deliver_to_shadows(crossing, shadows, origin, sink)
                }
                _ if crossing.depth >= limits::SERVICE_CHAIN_MAX => Outcome::default(),
                [sub] if sub.worker == SERVICES => self.request(crossing, *sub, origin, sink),
                _ => self.respond(crossing, origin, sink),
            });
        }
        met.clear();
        self.met = met;
        outcome
    }

    /// Sends a request to the service of another account.
    fn request(
        &mut self,
        crossing: Crossing<'_>,
        sub: SubRef,
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> Outcome {
        let Some(service) = self.broker.service(crossing.account, sub).cloned() else {
            return Outcome::default();
        };
        // Who imports from himself asks once, not round and round.
        let is_round_trip =
            service.account == crossing.account && origin.via == Some(service.account);
        let message = crossing.message;
        let begins = |except: &str| message.subject().starts_with(except.as_bytes());
        let mut subject = Vec::new();
        if is_round_trip
            || service.except.is_some_and(begins)
            || !service.renaming.name_there(message.subject(), &mut subject)
        {
            return Outcome::default();
        }
        let mut mapped = Vec::new();
        let plan = self.broker.plan(service.account);
        if plan.is_some_and(|plan| plan.mappings.apply(&subject, &mut self.rng, &mut mapped)) {
            subject = mapped;
        }
        let reply = self.way_back(crossing, &service, origin);
        let info = self.request_info(crossing, &service, origin);
        let body = message.body();
        let (header, payload) = body.split_at(message.header_len().min(body.len()));
        let payload = payload.strip_suffix(b"\r\n").unwrap_or(payload);
        let mut content = Vec::with_capacity(body.len() + info.len() + 64);
        headers::set(header, REQUEST_INFO, info.as_bytes(), &mut content);
        let header_len = content.len();
        content.extend_from_slice(payload);
        let mut line = Vec::with_capacity(content.len() + subject.len() + 64);
        let parts = compose(&subject, &reply, header_len, &content, &mut line);
        let message = Message::new(&line, parts);
        let origin = Origin {
            via: Some(crossing.account),
            ..*origin
        };
        let outcome = self.route(
            Crossing {
                account: service.account,
                message: &message,
                depth: crossing.depth + 1,
            },
            &origin,
            sink,
        );
        if !outcome.reached {
            self.replies.close(&reply);
        }
        outcome
    }

    /// The reply subject for the other account: a way back to the one that the request came with, if it has one.
    fn way_back(
        &mut self,
        crossing: Crossing<'_>,
        service: &ServiceImport,
        origin: &Origin<'_>,
    ) -> Vec<u8> {
        let reply = crossing.message.reply();
        if reply.is_empty() || reply.starts_with(ACKNOWLEDGEMENT) {
            return reply.to_vec();
        }
        let way = WayBack {
            service: service.account,
            account: crossing.account,
            reply: reply.into(),
            response: service.response,
            threshold: service.threshold,
            opened: origin.now,
        };
        self.open(way)
    }

    /// Opens a way back: gives the reply subject that stands for it.
    pub(super) fn open(&mut self, way: WayBack) -> Vec<u8> {
        if let Some((wildcard, sub)) = self.replies.introduce(way.service, self.worker) {
            if let Some(account) = self.broker.account(way.service) {
                let standing = account.subscribe(&wildcard, None, sub);
                if standing.is_news && self.broker.routes.count() > 0 {
                    self.news.push(account.index, &wildcard, None);
                }
            }
        }
        let mut name = Vec::new();
        self.replies.open(way, &mut name);
        name
    }

    /// Sends an answer back to where the request came from.
    fn respond(
        &mut self,
        crossing: Crossing<'_>,
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> Outcome {
        let nowhere = Outcome {
            reached: true,
            ..Outcome::default()
        };
        let message = crossing.message;
        let is_last = message.body() == b"\r\n";
        let (service, now) = (crossing.account, origin.now);
        let way = self
            .replies
            .answer(message.subject(), service, is_last, now);
        let Some(way) = way else {
            return nowhere;
        };
        // An answer may ask for an answer: the same way, in the other direction.
        let reply = message.reply();
        let reply = if reply.is_empty() || reply.starts_with(ACKNOWLEDGEMENT) {
            reply.to_vec()
        } else {
            self.open(WayBack {
                service: way.account,
                account: service,
                reply: reply.into(),
                opened: now,
                ..way
            })
        };
        let body = message.body();
        let body = body.strip_suffix(b"\r\n").unwrap_or(body);
        let mut line = Vec::with_capacity(body.len() + way.reply.len() + reply.len() + 32);
        let parts = compose(&way.reply, &reply, message.header_len(), body, &mut line);
        let answer = Crossing {
            account: way.account,
            message: &Message::new(&line, parts),
            depth: crossing.depth + 1,
        };
        let outcome = self.route(answer, origin, sink);
        if !outcome.reached {
            self.replies.close(&reply);
        }
        Outcome {
            reached: true,
            ..outcome
        }
    }

    /// What a service is told of who asks: `{"acc":"A"}`, with `svc` for the account in between if it is asked by way of
    /// one, and more of the client if the import shares it.
    fn request_info(
        &self,
        crossing: Crossing<'_>,
        service: &ServiceImport,
        origin: &Origin<'_>,
    ) -> String {
        let mut info = Json::default();
        let identity = origin.client.and_then(|client| client.session.identity());
        let own = self.broker.account(crossing.account);
        let account = identity.map_or_else(
            || own.map(|it| it.name.as_str()).unwrap_or_default(),
            |it| &it.account_name,
        );
        let shared = origin.client.filter(|_| service.share);
        if let Some(client) = shared {
            let ip = client.session.addr().ip().to_canonical().to_string();
            info.add("host", ip.into());
            info.add("id", client.session.id().into());
        }
        info.add("acc", account.into());
        if origin.via.is_some() {
            if let Some(own) = own {
                info.add("svc", own.name.as_str().into());
            }
        }
        if let Some(client) = shared {
            let connect = client.session.connect();
            let said = |text: Option<&str>| text.unwrap_or_default().into();
            let user = match identity.map(|it| &it.who) {
                Some(Who::Nkey(name) | Who::User(name)) => name.as_ref().into(),
                _ => Value::from(""),
            };
            for (key, value) in [
                ("user", user),
                ("name", said(connect.and_then(|it| it.name.as_deref()))),
                ("lang", said(connect.and_then(|it| it.lang.as_deref()))),
                ("ver", said(connect.and_then(|it| it.version.as_deref()))),
                ("server", said(origin.server_name)),
                ("cluster", self.facts.name().into()),
                ("kind", "Client".into()),
                ("client_type", "nats".into()),
            ] {
                if value != "" {
                    info.add(key, value);
                }
            }
        }
        info.finish()
    }
}

/// An object whose keys keep their order.
#[derive(Default)]
struct Json(String);

impl Json {
    fn add(&mut self, key: &str, value: Value) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0 += &format!("{}:{value}", Value::from(key));
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
