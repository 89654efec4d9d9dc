//! One worker's messaging: bytes of a peer in, deliveries out.
//!
//! The engine drives the parser and the session of a [`Peer`], keeps the worker's subscriptions, and carries out each
//! action. It owns no socket: what it delivers goes to a [`Sink`], which in the server is the worker's sockets and the
//! mailboxes of the others, and in a test or a fuzzer whatever is handy.

mod inquiry;
mod interest;
mod links;
mod login;
mod peer;
mod remote;
mod review;
mod round;
mod route;
mod service;
mod sharing;
mod tracing;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::broker::{Broker, Mark, Replies, Subscription, Subscriptions};
use crate::monitor::system::SystemRequest;
use crate::proto::encode::{Message, error_line};
use crate::proto::error::ParseError;
use crate::proto::frame::{Frame, Publish};
use crate::proto::parser::Limits;
use crate::proto::route::RouteFrame;
use crate::rng::Rng;
use crate::session::{
    Action, Client, CloseReason, ClusterFacts, Context, Guard, Route, RouteEvent, Violation,
};
use crate::stats::Traffic;
use crate::subject;
use crate::sublist::{Cache, SubRef};

use interest::News;
use links::Links;
pub use peer::{ClientPeer, Peer, RoutePeer};
use round::Picks;
pub use tracing::SharedTrace;

/// What became of a message for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is queued.
    Taken,
    /// It is queued, and the queue is so long that whoever sends to it should pause.
    Filling,
    /// It is not, and will not be.
    Refused,
}

/// Where an engine's output goes.
pub trait Sink {
    /// Queues bytes for a connection of this worker.
    fn reply(&mut self, conn: u32, bytes: &[u8]);

    /// Queues a message for a subscription of a connection of this worker.
    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery;

    /// Queues a message for another server, on a connection of this worker. `account` is absent on one that serves one
    /// account alone; `groups` are the names of the queue groups of which a member there gets it. A sink without
    /// connections to other servers is never asked.
    fn deliver_routed(
        &mut self,
        conn: u32,
        account: Option<&[u8]>,
        groups: &[u8],
        headers: bool,
        message: &Message<'_>,
    ) -> Delivery {
        let _ = (conn, account, groups, headers, message);
        Delivery::Refused
    }

    /// Tells another worker, which has routes, that this server's interest may have changed. It hears of it before any
    /// message that is forwarded later.
    fn announce(&mut self, mark: &Mark<'_>, worker: u16) {
        let _ = (mark, worker);
    }

    /// Hands a message to another worker. `Filling` if that one is behind.
    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery;

    /// Hands a message that came from another worker back to the one where it was published.
    fn give_back(&mut self, letter: &Letter<'_>);

    /// Hears of each operation, before it is carried out, if it wants to trace them.
    fn on_frame(&mut self, session: &Client, frame: &Frame<'_>);

    /// As [`Sink::on_frame`], of a message.
    #[inline]
    fn on_publish(&mut self, session: &Client, publish: &Publish<'_>) {
        self.on_frame(session, &Frame::Publish(*publish));
    }

    /// The same of another server's.
    fn on_route_frame(&mut self, session: &Route, frame: &RouteFrame<'_>) {
        let _ = (session, frame);
    }

    /// Hears of something on a route that concerns more than the route.
    fn on_route_event(&mut self, conn: u32, event: RouteEvent) {
        let _ = (conn, event);
    }

    /// Hears of something that a peer should not have sent, though it is an operation.
    fn on_trouble(&mut self, peer: &dyn fmt::Display, trouble: &str) {
        let _ = (peer, trouble);
    }

    /// Hears that a client has been let in, if it wants to name it when it traces.
    fn on_named(&mut self, conn: u32, session: &Client) {
        let _ = (conn, session);
    }

    /// Hears that a subscription ends, if it wants to trace that.
    fn on_end(&mut self, conn: u32, sid: &[u8]) {
        let _ = (conn, sid);
    }

    /// Hears of an operation that was refused.
    fn on_refusal(&mut self, session: &Client, violation: &Violation<'_>);

    /// Takes a request to the server, if there is anybody to answer it.
    fn on_request(&mut self, _request: SystemRequest) {}

    /// The date and time, as RFC 3339 has them.
    fn date(&self) -> String {
        String::new()
    }

    /// Takes a trace in the making, which takes so much memory: this worker, or another one, has to say who of its own is
    /// in it. `Filling` if that one is behind.
    fn trace(&mut self, trace: &SharedTrace, weight: usize, worker: u16) -> Delivery {
        let _ = (trace, weight, worker);
        Delivery::Taken
    }

    /// Hears of a message of the server's own, if it wants to trace them.
    fn on_own(&mut self, _message: &Message<'_>) {}

    /// Hears of bytes that were no operation.
    fn on_parse_error(&mut self, peer: &dyn fmt::Display, error: &ParseError);
}

/// A message for subscriptions of another worker.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// The account it was published in.
    pub account: u32,
    /// Workers where nobody of the group it is for could take it, a bit for each.
    pub tried: u64,
    /// Whether its publisher wants to know if nobody gets it, and there is nobody else that it is for.
    pub asks: bool,
    /// Whether its publisher may get it too.
    pub echo: bool,
    /// The message.
    pub message: &'a Message<'a>,
    /// For whom.
    pub to: To<'a>,
}

/// The addressees of a letter.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// Each of these gets a copy.
    Each(&'a [SubRef]),
    /// One member of a queue group: this one, or another if it is gone.
    Member {
        /// The one that was chosen.
        sub: SubRef,
        /// The group's name.
        group: &'a [u8],
    },
    /// Other servers, by the links to them.
    Routes(&'a [SubRef]),
    /// One other server, for one member of each of these groups, and for its plain subscribers if it has any.
    Groups {
        /// The link to it.
        route: SubRef,
        /// The groups' names, parted by blanks.
        groups: &'a [u8],
    },
    /// Nobody got it, as its publisher wanted to know.
    Nobody,
}

/// What came of feeding bytes to a peer.
#[derive(Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes that are done with.
    pub consumed: usize,
    /// Why it stopped.
    pub end: End,
}

/// Why feeding stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All whole frames are done.
    Starved,
    /// A message went to someone who is filling up.
    Pause,
    /// The session has a [challenge](Client::take_challenge). Feed nothing before its answer.
    Verify,
    /// Whether the other server is [admitted](Engine::admit) is decided elsewhere. Feed nothing before.
    Wait,
    /// From here on, what comes and goes is compressed. [Say hello](Engine::greet_compressed) again, and feed on.
    Compress,
    /// The connection must end.
    Close(CloseReason),
}

/// One worker's state.
#[derive(Debug)]
pub struct Engine {
    broker: Arc<Broker>,
    worker: u16,
    /// The subscriptions of this worker's connections.
    pub subscriptions: Subscriptions,
    /// The matches it needed last.
    pub cache: Cache,
    /// What its clients have published.
    pub received: Traffic,
    /// What other servers have sent.
    pub received_routed: Traffic,
    /// Those of connections with permissions.
    guards: HashMap<u32, Guard, RandomState>,
    rng: Rng,
    /// Inquiries that were answered.
    inquiries: u64,
    /// What traces took that were passed on since a publisher paused for it, in bytes.
    traced: usize,
    /// What a session answers to one frame.
    answers: Vec<u8>,
    /// A message that has to be written anew.
    scratch: Vec<u8>,
    /// Subscriptions that the message at hand brought to their max, with their account.
    ended: Vec<(SubRef, u32)>,
    /// Service imports, ways back and shadows that the message at hand met.
    met: Vec<SubRef>,
    /// Ways back for the requests of this worker's connections to services of other accounts.
    replies: Replies,
    /// What this server says of itself to others.
    facts: Arc<ClusterFacts>,
    /// The other servers that this worker has connections to.
    links: Links,
    /// Changes of interest that other servers have not been told of.
    news: News,
    /// Which other servers get the message at hand.
    picks: Picks,
}

impl Engine {
    /// The engine of a worker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, worker: u16, seed: u64) -> Self {
        Engine {
            broker,
            worker,
            subscriptions: Subscriptions::new(worker),
            cache: Cache::default(),
            received: Traffic::default(),
            received_routed: Traffic::default(),
            guards: HashMap::default(),
            rng: Rng::seeded(seed),
            inquiries: 0,
            traced: 0,
            answers: Vec::new(),
            scratch: Vec::new(),
            ended: Vec::new(),
            met: Vec::new(),
            replies: Replies::default(),
            facts: Arc::default(),
            links: Links::default(),
            news: News::default(),
            picks: Picks::default(),
        }
    }

    /// Looks at the trie for every message, and remembers nothing that it found there.
    pub fn remember_no_matches(&mut self) {
        self.cache = Cache::forgetful();
    }

    /// Goes over to the broker of another configuration, a [renewed](Broker::renewed) one.
    pub fn set_broker(&mut self, broker: Arc<Broker>) {
        self.broker = broker;
    }

    /// Carries out all whole frames at the front of `bytes`.
    ///
    /// What is not consumed must come again, with what was received since behind it.
    pub fn feed(
        &mut self,
        peer: &mut Peer,
        bytes: &[u8],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Fed {
        match peer {
            Peer::Client(client) => self.feed_client(client, bytes, context, sink),
            Peer::Route(route) => self.feed_route(route, bytes, context, sink),
        }
    }

    fn feed_client(
        &mut self,
        peer: &mut ClientPeer,
        bytes: &[u8],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Fed {
        let mut consumed = 0;
        let mut mapped = Vec::new();
        let mut received = Traffic::default();
        let end = loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            if peer.session.is_stranger(context.auth) && peer.parser.is_between_frames() {
                if let Err(reason) = self.on_stranger(peer, rest, context, sink) {
                    break End::Close(reason);
                }
            }
            let limits = peer.session.parser_limits(context.options);
            if !(peer.guarded | peer.maybe_mapped) && peer.session.is_quiet() {
                let run = self.feed_messages(peer, rest, &limits, context, sink);
                consumed += run.consumed;
                if run.end == End::Pause {
                    break End::Pause;
                }
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            let step = match peer.parser.next(rest, &limits) {
                Ok(step) => step,
                Err(error) => break End::Close(self.on_parse_error(peer, &error, sink)),
            };
            consumed += step.consumed;
            let Some(frame) = &step.frame else {
                break End::Starved;
            };
            sink.on_frame(&peer.session, frame);
            let (remapped, came, mut frame) = (&mut None, frame, frame);
            if peer.guarded | peer.maybe_mapped {
                mapped.clear();
                if let Some(publish) = self.remap(peer, frame, &mut mapped) {
                    frame = remapped.insert(Frame::Publish(publish));
                }
            }
            if let Some(publish) = tracing::asking(frame) {
                if let Some(delivery) = self.feed_traced(peer, publish, came, context, sink) {
                    received.add(weight(publish));
                    if delivery == Delivery::Filling {
                        break End::Pause;
                    }
                    continue;
                }
            }
            let guard = if peer.guarded {
                self.guards.get_mut(&peer.conn)
            } else {
                None
            };
            let answers = &mut self.answers;
            let action = peer.session.on_frame(frame, context, guard, answers);
            self.answer(peer, sink);
            let delivery = match action {
                Ok(Action::Publish(publish)) => {
                    received.add(weight(publish));
                    self.publish(peer, publish, context, sink)
                }
                Ok(action) => {
                    if let Frame::Publish(publish) = frame {
                        received.add(weight(publish));
                    }
                    peer.active |= !matches!(action, Action::Nothing);
                    match self.carry_out(peer, action, context, sink) {
                        Ok(delivery) => delivery,
                        Err(end) => break end,
                    }
                }
                Err(reason) => {
                    if let Some(fault) = Client::fault(frame) {
                        sink.on_trouble(&peer.session, &fault);
                    }
                    break End::Close(reason);
                }
            };
            if delivery == Delivery::Filling {
                break End::Pause;
            }
        };
        if received.msgs > 0 {
            self.count(peer, received);
        }
        self.tell_news(sink);
        Fed { consumed, end }
    }

    /// Carries out the messages at the front of `bytes`, up to the first thing that is none, or is out of the ordinary:
    /// a shortcut for what most of the traffic is. Nothing in such a run can change what holds for the next message.
    #[inline]
    fn feed_messages(
        &mut self,
        peer: &mut ClientPeer,
        bytes: &[u8],
        limits: &Limits,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Fed {
        let mut consumed = 0;
        let mut received = Traffic::default();
        let end = loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let Some((publish, len)) = peer.parser.quick_publish(rest, limits) else {
                break End::Starved;
            };
            if !Client::is_ordinary(&publish) {
                break End::Starved;
            }
            consumed += len;
            received.add(weight(&publish));
            sink.on_publish(&peer.session, &publish);
            if self.publish(peer, &publish, context, sink) == Delivery::Filling {
                break End::Pause;
            }
        };
        if consumed > 0 {
            peer.session.keepalive.busy();
            self.count(peer, received);
        }
        Fed { consumed, end }
    }

    /// Counts what a client has published.
    fn count(&mut self, peer: &mut ClientPeer, received: Traffic) {
        peer.active = true;
        peer.received.add(received);
        self.received.add(received);
    }

    /// Ends all subscriptions of a connection.
    fn forget(&mut self, peer: &ClientPeer) {
        while let Some(sub) = self.subscriptions.first_of(peer.conn) {
            self.end(peer.account, sub);
        }
    }

    /// Gives back what is kept for speed alone.
    pub fn trim(&mut self) {
        self.cache.clear();
        self.guards.shrink_to_fit();
        self.answers = Vec::new();
        self.scratch = Vec::new();
        self.ended = Vec::new();
    }

    fn on_parse_error(
        &mut self,
        peer: &ClientPeer,
        error: &ParseError,
        sink: &mut impl Sink,
    ) -> CloseReason {
        sink.on_parse_error(&peer.session, error);
        if let Some(text) = error.wire_text() {
            error_line(text, &mut self.answers);
            self.answer(peer, sink);
        }
        CloseReason::from(error)
    }

    /// Everything but a publish.
    #[inline(never)]
    fn carry_out(
        &mut self,
        peer: &mut ClientPeer,
        action: Action<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<Delivery, End> {
        match action {
            Action::Nothing | Action::Publish(_) => {}
            Action::Inquire(publish) => return Ok(self.inquire(peer, publish, context, sink)),
            Action::Subscribe {
                subject,
                queue,
                sid,
                guarded,
            } => self.subscribe(peer, (subject, queue, sid), guarded, context, sink),
            Action::Unsubscribe { sid, max } => self.unsubscribe(peer, sid, max, sink),
            Action::Connected { again } => {
                self.log_in(peer, again, sink).map_err(End::Close)?;
                peer.session.accept(&mut self.answers);
                self.answer(peer, sink);
            }
            Action::Verify => return Err(End::Verify),
            Action::Reviewed => self.apply_permissions(peer, sink),
            Action::Refuse(violation) => self.refuse(peer, &violation, sink),
        }
        Ok(Delivery::Taken)
    }

    #[inline]
    fn answer(&mut self, peer: &ClientPeer, sink: &mut impl Sink) {
        self.answer_to(peer.conn, sink);
    }

    /// Sends a connection of this worker the answers that there are.
    #[inline]
    fn answer_to(&mut self, conn: u32, sink: &mut impl Sink) {
        if !self.answers.is_empty() {
            sink.reply(conn, &self.answers);
            self.answers.clear();
        }
    }

    fn refuse(&mut self, peer: &ClientPeer, violation: &Violation<'_>, sink: &mut impl Sink) {
        sink.on_refusal(&peer.session, violation);
        error_line(&violation.wire_text(), &mut self.answers);
        self.answer(peer, sink);
    }

    fn subscribe(
        &mut self,
        peer: &ClientPeer,
        (subject, queue, sid): (&[u8], Option<&[u8]>, &[u8]),
        guarded: bool,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) {
        let full = |max| self.subscriptions.count_of(peer.conn) >= max;
        let max = peer.session.max_subscriptions(context.options);
        if max.is_some_and(full) {
            return self.refuse(peer, &Violation::Subscriptions, sink);
        }
        // A sid in use keeps what it stands for, whatever the new subject; the peer is told all is well.
        if self.subscriptions.find(peer.conn, sid).is_none() {
            if !subject::is_valid(subject) {
                return self.refuse(peer, &Violation::Subject, sink);
            }
            let Some(account) = self.broker.account(peer.account) else {
                return;
            };
            // Into the table first: another worker may send to it as soon as the trie has it.
            let sub = self
                .subscriptions
                .insert(peer.conn, sid, queue, peer.session.headers);
            if let Some(subscription) = self.subscriptions.get(sub) {
                subscription.guarded = guarded;
            }
            let standing = account.subscribe(subject, queue, sub);
            self.subscriptions.place(sub, standing.node);
            if standing.is_news && self.broker.routes.count() > 0 {
                self.news.push(peer.account, subject, queue);
            }
            self.cast_shadows(peer.account, sub, subject);
            if guarded {
                self.post_denials(peer.account, sub);
            }
            self.tell_news(sink);
        }
        peer.session.accept(&mut self.answers);
        self.answer(peer, sink);
    }

    fn unsubscribe(&mut self, peer: &ClientPeer, sid: &[u8], max: u32, sink: &mut impl Sink) {
        let Some(sub) = self.subscriptions.find(peer.conn, sid) else {
            return;
        };
        match self.subscriptions.get(sub) {
            Some(subscription) if u64::from(max) > subscription.delivered => subscription.max = max,
            _ => self.end_told(peer.account, sub, sink),
        }
    }

    /// Tells that all subscriptions of a connection are about to end.
    pub fn tell_ends(&mut self, conn: u32, sink: &mut impl Sink) {
        let tell = |it: &mut Subscription| sink.on_end(conn, it.sid.as_bytes());
        self.subscriptions.for_each_of(conn, tell);
    }

    /// Ends one subscription, and tells.
    fn end_told(&mut self, account: u32, sub: SubRef, sink: &mut impl Sink) {
        if let Some(ending) = self.subscriptions.get(sub) {
            sink.on_end(ending.conn, ending.sid.as_bytes());
        }
        self.end(account, sub);
    }

    /// Ends one subscription.
    fn end(&mut self, account: u32, sub: SubRef) {
        let Some(gone) = self.subscriptions.remove(sub) else {
            return;
        };
        if let (Some(account), Some(node)) = (self.broker.account(account), gone.node) {
            let queue = gone.queue();
            let is_news = account.unsubscribe(node, queue, sub, &mut self.scratch);
            if is_news && self.broker.routes.count() > 0 {
                self.news.push(account.index, &self.scratch, queue);
            }
        }
        if !self.subscriptions.shadows.is_empty() {
            self.end_shadows(sub, gone.queue());
        }
    }
}

/// What a message counts for: the CRLF at its end is not part of it.
#[inline]
fn weight(publish: &Publish<'_>) -> Traffic {
    Traffic {
        msgs: 1,
        bytes: publish.body.len().saturating_sub(2) as u64,
    }
}

#[cfg(test)]
mod tests;
