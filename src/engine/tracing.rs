//! Messages that ask to be traced.
//!
//! ```text
//! HPUB x, "Nats-Trace-Dest: t" ─► match ─► Trace: came from …, goes to a, b and c
//!                                            ├─► deliver, as without the header, unless it says "Nats-Trace-Only"
//!                                            └─► each worker adds who its own of a, b and c are; the last one tells t
//! ```
//!
//! Whom a message goes to is known when it is matched; who that is, only by the worker that has the connection. It hears of
//! the trace before it gets the message. What differs from an ordinary message, by what the reference server does:
//!
//! - The publisher needs the permission to publish to the destination too; else that is refused, and nothing delivered. A
//!   destination that nothing can be sent to, `t.*` as one, is not told anything.
//! - A refused message is told of, with the text of the refusal.
//! - A queue group's members are told of in the order in which they are asked, up to the one that takes it.
//! - Each other server that gets it gets a `Nats-Trace-Hop` of its own, in place of one that was there. What is known not to
//!   trace does not get what is not to be delivered.
//! - A trace ends where another account begins: its service, and whoever it answers, gets `trace disabled` for a destination,
//!   and nothing at all of what is not to be delivered. Subscriptions of other accounts get the message as it is.
//! - A request that is not to be delivered lacks a responder if nobody would have got it, other accounts left out.
//! - `Nats-Trace-Origin-Account` ends a trace before it begins, in the same way.
//!
//! What is told as gone to a client that is just leaving may not have reached it. A subscription that ended on another worker
//! while the message was on its way is told of without its connection. Messages that are too large are not told of.

mod aim;
mod delivery;

use std::sync::{Arc, Mutex};

use super::round::{choose, falls_here};
use super::route::{Origin, wants_responder};
use super::{ClientPeer, Delivery, Engine, RoutePeer, Sink};
use crate::broker::Account;
use crate::monitor::tracing::{Ingress, Party, Step, Trace};
use crate::proto::encode::Message;
use crate::proto::frame::{Frame, Publish};
use crate::proto::route::RouteMessage;
use crate::proto::tracing::{self, DESTINATION, DISABLED, Wish};
use crate::session::{Action, Context, Violation};
use aim::{Aim, Targets};

/// A trace that workers pass on to each other.
pub type SharedTrace = Arc<Mutex<Trace>>;

impl Engine {
    /// Carries out a publish that asks to be traced; `came` is how it came, before any mapping. Nothing if it asks for
    /// nothing after all.
    #[cold]
    #[inline(never)]
    pub(super) fn feed_traced(
        &mut self,
        peer: &mut ClientPeer,
        publish: &Publish<'_>,
        came: &Frame<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Option<Delivery> {
        let wish = Wish::of(tracing::block(publish))?;
        let came_as = match came {
            Frame::Publish(came) => came.subject,
            _ => publish.subject,
        };
        let mut line = Vec::new();
        let publish = if wish.is_foreign {
            disabled(publish, &mut line)
        } else {
            let guard = self.guards.get_mut(&peer.conn);
            let subject = wish.destination;
            if !subject.is_empty() && !peer.session.may_publish(subject, context.now, guard) {
                peer.session.keepalive.busy();
                self.refuse(peer, &Violation::Publish { subject }, sink);
                return Some(Delivery::Taken);
            }
            *publish
        };
        let guard = self.guards.get_mut(&peer.conn);
        let session = &mut peer.session;
        let action = session.on_publish(&publish, context.now, guard, &mut self.answers);
        self.answer(peer, sink);
        let (publish, asks_server) = match action {
            Action::Publish(publish) => (publish, false),
            Action::Inquire(publish) => (publish, true),
            Action::Refuse(violation) => {
                if !wish.is_foreign {
                    let mut trace = self.trace_of_client(peer, &publish, &wish, came_as, context);
                    trace.ingress.error = violation.wire_text();
                    // Told by this worker alone.
                    self.pass_on(trace, sink);
                }
                self.refuse(peer, &violation, sink);
                return Some(Delivery::Taken);
            }
            _ => return Some(Delivery::Taken),
        };
        if wish.is_foreign {
            return Some(match (wish.only, asks_server) {
                (true, _) => Delivery::Taken,
                (false, true) => self.inquire(peer, publish, context, sink),
                (false, false) => self.publish_late(peer, publish, context, sink),
            });
        }
        let trace = self.trace_of_client(peer, publish, &wish, came_as, context);
        let delivery = self.publish_traced(peer, publish, trace, context, sink);
        if asks_server && !wish.only {
            self.answer_inquiry(peer, publish, context, sink);
        }
        Some(delivery)
    }

    fn publish_traced(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        trace: Trace,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        let Some(account) = self.broker.account(peer.account).cloned() else {
            return Delivery::Refused;
        };
        let origin = Origin::of(peer, context);
        let matches = self.matches(&account, publish.subject);
        let mut targets = Targets {
            links: matches.routes.clone(),
            ..Targets::default()
        };
        let mut aim = Aim {
            trace,
            account: &account,
            skip: origin.skip,
            hop: b"",
        };
        for &sub in &matches.plain {
            self.aim_at(&mut aim, sub, &mut targets);
        }
        for (at, group) in matches.groups().iter().enumerate() {
            let is_own = falls_here(group, &mut self.rng);
            if is_own && self.aim_at_one(&mut aim, group, at, &mut targets) {
                continue;
            }
            match choose(group, |_| true, &mut self.rng) {
                Some(link) => targets.picks.push((link, at)),
                None if !is_own => drop(self.aim_at_one(&mut aim, group, at, &mut targets)),
                None => {}
            }
        }
        let (outcome, reached) =
            self.deliver_traced(publish, aim, &matches, &targets, &origin, sink);
        if !reached && wants_responder(peer, publish) {
            self.end_unanswered(peer, publish, context, sink);
        }
        self.end_ended(sink);
        outcome
    }

    /// As [`Engine::on_route_message`], of a message that asks to be traced. Nothing if it asks for nothing after all.
    #[cold]
    #[inline(never)]
    pub(super) fn route_traced(
        &mut self,
        peer: &RoutePeer,
        message: &RouteMessage<'_>,
        publish: &Publish<'_>,
        index: u32,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Option<Delivery> {
        let mut wish = Wish::of(tracing::block(publish))?;
        let mut line = Vec::new();
        let mut publish = *publish;
        if wish.is_foreign {
            // Delivered like any other, and told nobody of.
            wish.destination = b"";
            publish = disabled(&publish, &mut line);
            if wish.only {
                return Some(Delivery::Taken);
            }
        }
        let publish = &publish;
        let account = self.broker.account(index).cloned()?;
        let remote = peer.session.remote();
        let from = Party {
            is_server: true,
            id: peer.session.id(),
            name: remote.map(|it| it.server_name.clone()).unwrap_or_default(),
        };
        let matches = self.matches(&account, publish.subject);
        let mut aim = Aim {
            trace: trace(
                Some(&account),
                publish,
                &wish,
                publish.subject,
                from,
                context,
            ),
            account: &account,
            skip: None,
            hop: wish.hop,
        };
        let mut targets = Targets::default();
        // Services of other accounts are asked by the server where the request was made; answers come back here.
        for &sub in matches.plain.iter().filter(|sub| sub.is_local()) {
            self.aim_at(&mut aim, sub, &mut targets);
        }
        for name in message.group_names() {
            if let Some((at, group)) = matches.group(name) {
                if !self.aim_at_one(&mut aim, group, at, &mut targets) {
                    let chosen =
                        choose(group, |link| !matches.routes.contains(&link), &mut self.rng);
                    if let Some(link) = chosen {
                        targets.picks.push((link, at));
                    }
                }
            }
        }
        let origin = Origin::nobody(context.now);
        let (outcome, _) = self.deliver_traced(publish, aim, &matches, &targets, &origin, sink);
        self.end_ended(sink);
        Some(outcome)
    }

    fn trace_of_client(
        &self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        wish: &Wish<'_>,
        came_as: &[u8],
        context: &Context<'_>,
    ) -> Trace {
        let name = peer.session.connect().and_then(|it| it.name.clone());
        let from = Party {
            is_server: false,
            id: peer.session.id(),
            name: name.unwrap_or_default().into(),
        };
        let account = self.broker.account(peer.account).map(|it| &**it);
        trace(account, publish, wish, came_as, from, context)
    }

    /// Has everyone who has a part in a trace add it; the last one tells.
    fn pass_on(&mut self, mut trace: Trace, sink: &mut impl Sink) -> Delivery {
        if trace.destination.is_empty() {
            return Delivery::Taken;
        }
        let owners = trace.steps.iter().filter_map(|step| match step {
            Step::Egress(egress) => Some(egress.to.owner()),
            _ => None,
        });
        let mut workers = vec![self.worker];
        for owner in owners {
            if !workers.contains(&owner) {
                workers.push(owner);
            }
        }
        trace.waiting = workers.len();
        let weight = trace.memory();
        self.traced += weight;
        let trace = Arc::new(Mutex::new(trace));
        let mut delivery = Delivery::Taken;
        for worker in workers {
            if sink.trace(&trace, weight, worker) == Delivery::Filling {
                delivery = Delivery::Filling;
            }
        }
        delivery
    }
}

/// What a frame asks to be traced.
#[inline]
pub(super) fn asking<'f>(frame: &'f Frame<'f>) -> Option<&'f Publish<'f>> {
    match frame {
        Frame::Publish(publish) if tracing::may_ask(publish) => Some(publish),
        _ => None,
    }
}

/// Whether a message asks not to be delivered.
#[cold]
pub(super) fn is_probe(message: &Message<'_>) -> bool {
    let headers = message.body().get(..message.header_len());
    headers.and_then(Wish::of).is_some_and(|wish| wish.only)
}

fn trace(
    account: Option<&Account>,
    publish: &Publish<'_>,
    wish: &Wish<'_>,
    came_as: &[u8],
    from: Party,
    context: &Context<'_>,
) -> Trace {
    let mut trace = Trace {
        account: account.map_or(0, |it| it.index),
        destination: wish.destination.into(),
        headers: tracing::block(publish).into(),
        size: publish.body.len().saturating_sub(2),
        subject: publish.subject.into(),
        at: context.now,
        only: wish.only,
        hops: 0,
        ingress: Ingress {
            from,
            account: account.map(|it| it.name.clone()).unwrap_or_default(),
            subject: came_as.into(),
            error: String::new(),
        },
        steps: Vec::new(),
        waiting: 0,
    };
    if came_as != publish.subject {
        let to = publish.subject.into();
        trace.push(Step::Mapped { to });
    }
    trace
}

/// The message that is not to be traced any further.
fn disabled<'a>(publish: &Publish<'_>, line: &'a mut Vec<u8>) -> Publish<'a> {
    let parts = tracing::with_header(publish, DESTINATION, DISABLED, line);
    let message = Message::new(line, parts);
    Publish {
        subject: message.subject(),
        reply: message.reply(),
        sizes: b"",
        body: message.body(),
        header_len: parts.header_len,
        line: Some(message.line()),
    }
}
