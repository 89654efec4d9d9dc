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

use std::sync::{Arc, Mutex};

use super::round::{Round, choose, falls_here};
use super::route::{Origin, wants_responder};
use super::service::Crossing;
use super::{ClientPeer, Delivery, Engine, RoutePeer, Sink};
use crate::broker::{Account, Replies, SERVICES};
use crate::limits;
use crate::monitor::tracing::{Egress, Ingress, Party, Step, Trace};
use crate::proto::encode::Message;
use crate::proto::frame::{Frame, Publish};
use crate::proto::route::RouteMessage;
use crate::proto::tracing::{self, DESTINATION, DISABLED, HOP, Wish};
use crate::session::{Action, Context, Violation};
use crate::sublist::{Group, Matches, SubRef};

/// A trace that workers pass on to each other.
pub type SharedTrace = Arc<Mutex<Trace>>;

const DENIED: &str = "Not delivered because subscription denies this subject";
const NO_ECHO: &str = "Not delivered because of no echo";
const NOT_TRACED: &str = "Message delivered but remote does not support message tracing so no trace event generated from there";
const NOT_PROBED: &str = "Not delivered because remote does not support message tracing";

/// Whom a message goes to.
#[derive(Default)]
struct Targets {
    plain: Vec<SubRef>,
    /// Members that were chosen, each with its group's place.
    members: Vec<(SubRef, usize)>,
    /// Other servers that have plain subscribers.
    links: Vec<SubRef>,
    /// Other servers of which a member was chosen, with the place of its group.
    picks: Vec<(SubRef, usize)>,
    /// Services, and ways back from them.
    across: Vec<SubRef>,
    /// Whether anyone takes it.
    reached: bool,
}

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

    fn matches(&mut self, account: &Account, subject: &[u8]) -> Matches {
        let (trie, generations) = (&account.trie, &account.generations);
        self.cache
            .find(account.index, subject, trie, generations)
            .clone()
    }

    /// Has a message go to a plain subscription, or across.
    fn aim_at(&mut self, aim: &mut Aim<'_>, sub: SubRef, targets: &mut Targets) {
        if sub.worker == SERVICES {
            self.aim_at_service(aim, sub);
            targets.across.push(sub);
        } else if Replies::is_meant(sub) {
            self.note(aim, sub, b"", "");
            targets.across.push(sub);
        } else {
            let error = self.refusal(aim, sub, b"");
            targets.reached |= error.is_some_and(str::is_empty);
            if let Some(error) = error {
                self.note(aim, sub, b"", error);
            }
            targets.plain.push(sub);
        }
    }

    /// Has it go to a member of a group on this server; false if none takes it.
    fn aim_at_one(
        &mut self,
        aim: &mut Aim<'_>,
        group: &Group,
        at: usize,
        targets: &mut Targets,
    ) -> bool {
        let count = group.members.len();
        let start = if count > 0 { self.rng.below(count) } else { 0 };
        let (before, after) = group.members.split_at(start);
        for &sub in after.iter().chain(before) {
            let Some(error) = self.refusal(aim, sub, &group.name) else {
                continue;
            };
            self.note(aim, sub, &group.name, error);
            if error.is_empty() {
                targets.members.push((sub, at));
                targets.reached = true;
                return true;
            }
        }
        false
    }

    /// Why a subscription does not take the message: an empty text if it does, nothing if it is not even asked.
    fn refusal(&mut self, aim: &Aim<'_>, sub: SubRef, queue: &[u8]) -> Option<&'static str> {
        let subject = aim.trace.subject.as_slice();
        if sub.worker != self.worker {
            let is_denied = aim.account.denials.hold(&[sub], subject);
            return Some(if is_denied { DENIED } else { "" });
        }
        let Some(subscription) = self.subscriptions.get(sub) else {
            return Some("");
        };
        let is_full = subscription.max > 0 && subscription.delivered >= u64::from(subscription.max);
        if aim.skip == Some(subscription.conn) {
            return Some(NO_ECHO);
        }
        if subscription.guarded {
            let guard = self.guards.get_mut(&subscription.conn);
            let queue = Some(queue).filter(|it| !it.is_empty());
            if guard.is_some_and(|guard| !guard.lets_in(subject, queue)) {
                return Some(DENIED);
            }
        }
        (!is_full).then_some("")
    }

    /// Notes a request to a service of another account.
    fn aim_at_service(&mut self, aim: &mut Aim<'_>, sub: SubRef) {
        let (subject, mut to) = (&aim.trace.subject, Vec::new());
        let service = self.broker.service(aim.account.index, sub);
        let service = service.filter(|it| it.renaming.name_there(subject, &mut to));
        if let Some(service) = service {
            let step = Step::Service {
                account: self.name_of(service.account),
                from: subject.clone(),
                to,
            };
            aim.trace.push(step);
        }
    }

    fn note(&mut self, aim: &mut Aim<'_>, sub: SubRef, queue: &[u8], error: &'static str) {
        let egress = Egress::new(sub, queue, error);
        let (account, subject) = (aim.account.index, &aim.trace.subject);
        let step = self.find_out(egress, account, subject, aim.trace.only);
        aim.trace.push(step);
    }

    /// What is to be told of an addressee of a message, if it is one of this worker's.
    pub fn find_out(
        &mut self,
        mut egress: Egress,
        account: u32,
        subject: &[u8],
        only: bool,
    ) -> Step {
        let sub = egress.to;
        if sub.owner() != self.worker || egress.conn.is_some() {
            return Step::Egress(egress);
        }
        if sub.is_route() {
            if let Some(link) = self.links.get(sub) {
                egress.conn = Some(link.conn);
                egress.error = match (link.traces, only) {
                    (true, _) => "",
                    (false, true) => NOT_PROBED,
                    (false, false) => NOT_TRACED,
                };
            }
        } else if Replies::is_meant(sub) {
            if let Some(way) = self
                .replies
                .find(subject)
                .filter(|it| it.service == account)
            {
                return Step::Service {
                    account: self.name_of(way.account),
                    from: subject.into(),
                    to: way.reply.to_vec(),
                };
            }
        } else if let Some(shadow) = self.subscriptions.shadows.get(sub) {
            let mut to = Vec::new();
            shadow.renaming.name_here(subject, &mut to);
            return Step::Export {
                account: self.name_of(shadow.home),
                to,
            };
        } else if let Some(subscription) = self.subscriptions.get(sub) {
            egress.conn = Some(subscription.conn);
            if let (Some(account), Some(node)) = (self.broker.account(account), subscription.node) {
                account.subject_of(node, &mut egress.subject);
            }
        }
        Step::Egress(egress)
    }

    fn name_of(&self, account: u32) -> String {
        let account = self.broker.account(account);
        account.map(|it| it.name.clone()).unwrap_or_default()
    }

    /// Passes the trace on, and delivers the message; also says whether anyone would have got it.
    fn deliver_traced(
        &mut self,
        publish: &Publish<'_>,
        mut aim: Aim<'_>,
        matches: &Matches,
        targets: &Targets,
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> (Delivery, bool) {
        let account = aim.account;
        let only = aim.trace.only;
        let mut links = targets.links.clone();
        links.extend(targets.picks.iter().map(|&(link, _)| link));
        links.sort_unstable();
        links.dedup();
        let mut prefix = String::from_utf8_lossy(aim.hop).into_owned();
        if !prefix.is_empty() {
            prefix.push('.');
        }
        for (number, &link) in (1..).zip(&links) {
            aim.trace.hops = number;
            let egress = Egress {
                hop: format!("{prefix}{number}"),
                ..Egress::new(link, b"", "")
            };
            let step = self.find_out(egress, account.index, &aim.trace.subject, only);
            aim.trace.push(step);
        }
        let is_behind = self.pass_on(aim.trace, sink) == Delivery::Filling;

        let terms = origin.terms(account.index);
        let mut scratch = Vec::new();
        let message = Message::from_publish(publish, &mut scratch);
        let crossing = |message| Crossing::first(account.index, message);
        let (reach, choice, ..) = self.split();
        let mut round = Round::new(reach, &account.denials, &message, terms, sink);
        if !only {
            round.each(&targets.plain);
            for &(sub, at) in &targets.members {
                let Some(group) = matches.groups().get(at) else {
                    continue;
                };
                let chosen = Group {
                    name: group.name.clone(),
                    members: vec![sub],
                    remote: Vec::new(),
                };
                if !round.one_of(&chosen, choice.rng) {
                    round.one_of_those(group, |it| it != sub, choice.rng);
                }
            }
        }
        let mut outcome = round.outcome();
        if !self.met.is_empty() {
            outcome.merge(self.cross(crossing(&message), origin, sink));
        }
        for (number, link) in (1..).zip(links) {
            let hop = format!("{prefix}{number}");
            let mut line = Vec::new();
            let parts = tracing::with_header(publish, HOP, hop.as_bytes(), &mut line);
            let message = Message::new(&line, parts);
            let (reach, choice, ..) = self.split();
            let picks = choice.picks;
            picks.chosen.clear();
            let of_link = targets.picks.iter().filter(|(it, _)| *it == link);
            picks.chosen.extend(of_link);
            let mut round = Round::new(reach, &account.denials, &message, terms, sink);
            round.over_all(&[link], matches, picks);
            outcome.merge(round.outcome());
        }
        if !only && !targets.across.is_empty() {
            let mut line = Vec::new();
            let parts = tracing::with_header(publish, DESTINATION, DISABLED, &mut line);
            let message = Message::new(&line, parts);
            let reach = self.split().0;
            let mut round = Round::new(reach, &account.denials, &message, terms, sink);
            round.each(&targets.across);
            outcome.merge(round.outcome());
            outcome.merge(self.cross(crossing(&message), origin, sink));
        }
        // Traces are told between two turns of the publisher's: it pauses when there are many, or long ones.
        let is_much = self.traced > limits::TRACED_BYTES_MAX;
        if is_much {
            self.traced = 0;
        }
        outcome.filling |= is_much | is_behind;
        let reached = outcome.reached || (only && targets.reached);
        (outcome.delivery(), reached)
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

/// A message that is being traced, and where it is.
struct Aim<'a> {
    trace: Trace,
    account: &'a Account,
    /// The publisher's connection, if it does not want its own messages back.
    skip: Option<u32>,
    /// Which server of its way this one is; empty if it is the first.
    hop: &'a [u8],
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
