//! Who gets a message, and handing it over.

use std::sync::Arc;
use std::time::Instant;

use super::remote::account_of;
use super::round::{Choice, Outcome, Reach, Round, Terms, bit, choose, renamed};
use super::service::Crossing;
use super::tracing::is_probe;
use super::{ClientPeer, Delivery, Engine, Letter, RoutePeer, Sink, To, inquiry};
use crate::broker::Broker;
use crate::limits;
use crate::monitor::Connections;
use crate::proto::encode::{Message, Parts, no_responders};
use crate::proto::frame::Publish;
use crate::proto::route::RouteMessage;
use crate::proto::tracing::may_ask;
use crate::session::Context;
use crate::subject::renaming::Renaming;
use crate::sublist::{Cache, Found, Matches, SubRef};

/// Whoever a message comes from that may cross into other accounts.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The client that published it, if it is one of this worker's.
    pub client: Option<&'a ClientPeer>,
    /// The publisher's connection, if it is one of this worker's and does not want its own messages back.
    pub skip: Option<u32>,
    /// Whether the publisher may get it too.
    pub echo: bool,
    /// The server's name, where that is known.
    pub server_name: Option<&'a str>,
    /// The account by whose service import it came, if it did.
    pub via: Option<u32>,
    /// The time.
    pub now: Instant,
}

impl Engine {
    #[inline(always)]
    pub(super) fn publish(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        let Some(account) = self.broker.account(peer.account) else {
            return Delivery::Refused;
        };
        let (trie, generations) = (&account.trie, &account.generations);
        let found = self
            .cache
            .look_up(account.index, publish.subject, trie, generations);
        if self.cache.matches(found).is_empty() && !wants_responder(peer, publish) {
            return Delivery::Taken;
        }
        self.hand_out(peer, publish, found, context, sink)
    }

    /// The same off the beaten track.
    #[cold]
    #[inline(never)]
    pub(super) fn publish_late(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        self.publish(peer, publish, context, sink)
    }

    /// Hands a client's message to those that it was found to match.
    #[inline(never)]
    fn hand_out(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        found: Found,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        let echo = peer.session.echo;
        let (reach, choice, cache, scratch) = self.split();
        let Some(account) = reach.broker.account(peer.account) else {
            return Delivery::Refused;
        };
        let matches = cache.matches(found);
        let message = Message::from_publish(publish, scratch);
        let terms = Terms {
            account: peer.account,
            tried: 0,
            asks: false,
            echo,
            skip: (!echo).then_some(peer.conn),
            now: context.now,
        };
        let mut round = Round::new(reach, &account.denials, &message, terms, sink);
        if !publish.reply.is_empty() {
            round.terms.asks = must_be_told(peer, publish, matches);
        }
        if matches.is_routed() {
            round.everywhere(matches, choice);
        } else {
            round.each(&matches.plain);
            for group in matches.groups() {
                round.one_of(group, choice.rng);
            }
        }
        let mut outcome = round.outcome();
        if !self.met.is_empty() {
            outcome.merge(self.publish_across(peer, publish, context, sink));
        }
        if !outcome.reached && wants_responder(peer, publish) {
            self.end_unanswered(peer, publish, context, sink);
        }
        self.end_ended(sink);
        outcome.delivery()
    }

    /// Lets a client know that nobody got its request, unless the server itself answers it.
    #[cold]
    pub(super) fn end_unanswered(
        &mut self,
        peer: &ClientPeer,
        request: &Publish<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) {
        if !inquiry::is_for_server(peer, request.subject, &context.info.server_id) {
            let place = (peer.account, peer.conn);
            self.say_no_responders(place, request.subject, request.reply, sink);
        }
    }

    /// Takes a client's message to the services of other accounts that it met, or an answer of theirs back.
    #[cold]
    fn publish_across(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Outcome {
        let mut scratch = Vec::new();
        let message = Message::from_publish(publish, &mut scratch);
        let origin = Origin::of(peer, context);
        let crossing = Crossing::first(peer.account, &message);
        self.cross(crossing, &origin, sink)
    }

    /// Sends a message of the server's own to whoever is subscribed in an account.
    pub(super) fn send(
        &mut self,
        account: u32,
        message: &Message<'_>,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        sink.on_own(message);
        let crossing = Crossing::first(account, message);
        self.route(crossing, &Origin::nobody(now), sink);
        self.end_ended(sink);
    }

    /// Delivers a message in the account where it has come to.
    pub(super) fn route(
        &mut self,
        crossing: Crossing<'_>,
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> Outcome {
        // A way back may be new: whoever answers must have heard of it.
        self.tell_news(sink);
        let (reach, choice, cache, _) = self.split();
        let Some(account) = reach.broker.account(crossing.account) else {
            return Outcome::default();
        };
        let matches = cache.find(
            account.index,
            crossing.message.subject(),
            &account.trie,
            &account.generations,
        );
        let terms = origin.terms(account.index);
        let mut round = Round::new(reach, &account.denials, crossing.message, terms, sink);
        round.everywhere(matches, choice);
        let mut outcome = round.outcome();
        if !self.met.is_empty() {
            outcome.merge(self.cross(crossing, origin, sink));
        }
        outcome
    }

    /// Delivers a message to plain subscriptions by way of their shadows, which came up one after the other.
    pub(super) fn deliver_to_shadows(
        &mut self,
        crossing: Crossing<'_>,
        shadows: &[SubRef],
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(account) = self.broker.account(crossing.account).cloned() else {
            return outcome;
        };
        let mut last: Option<(Arc<Renaming>, Arc<[u8]>, Parts)> = None;
        for &sub in shadows {
            let Some(shadow) = self.subscriptions.shadows.get(sub) else {
                continue;
            };
            let (of, home) = (shadow.of, shadow.home);
            let known = last
                .take()
                .filter(|it| Arc::ptr_eq(&it.0, &shadow.renaming));
            let renaming = &shadow.renaming;
            let made = known.or_else(|| {
                let (line, parts) = renamed(crossing.message, renaming)?;
                Some((Arc::clone(renaming), line, parts))
            });
            let Some((renaming, line, parts)) = made else {
                continue;
            };
            let message = Message::new(&line, parts).sharing(&line);
            let terms = origin.terms(home);
            let mut round = Round::new(self.split().0, &account.denials, &message, terms, sink);
            round.local(of);
            outcome.merge(round.outcome());
            last = Some((renaming, line, parts));
        }
        outcome
    }

    /// Delivers what another worker forwarded; `Filling` if a subscriber is filling up.
    ///
    /// `publisher` is the connection it came from, if that is one of this worker's: a message for a queue group comes
    /// back when the member it was for elsewhere is gone, and a request when nobody is left to take it.
    pub fn receive(
        &mut self,
        letter: &Letter<'_>,
        publisher: Option<u32>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Delivery {
        if let To::Nobody = letter.to {
            self.end_in_vain(letter, publisher, sink);
            return Delivery::Taken;
        }
        let (reach, choice, cache, _) = self.split();
        let broker = reach.broker;
        let Some(account) = broker.account(letter.account) else {
            return Delivery::Taken;
        };
        let terms = Terms {
            account: letter.account,
            tried: letter.tried | bit(reach.worker),
            asks: letter.asks,
            echo: letter.echo,
            skip: publisher.filter(|_| !letter.echo),
            now,
        };
        let mut round = Round::new(reach, &account.denials, letter.message, terms, sink);
        match letter.to {
            To::Each(subs) => round.each(subs),
            To::Routes(routes) => routes.iter().for_each(|&route| {
                round.over(route, b"");
            }),
            To::Member { sub, group } => {
                if !round.local(sub) {
                    round.another(&[group], sub, cache, choice);
                }
            }
            To::Groups { route, groups } => {
                if !round.over(route, groups) && !is_probe(letter.message) {
                    let names: Vec<&[u8]> = groups.split(|&byte| byte == b' ').collect();
                    round.another(&names, route, cache, choice);
                }
            }
            To::Nobody => {}
        }
        let mut outcome = round.outcome();
        if !self.met.is_empty() {
            // An answer to a request of one of this worker's connections.
            let crossing = Crossing::first(letter.account, letter.message);
            let origin = Origin {
                skip: publisher.filter(|_| !letter.echo),
                echo: letter.echo,
                ..Origin::nobody(now)
            };
            outcome.merge(self.cross(crossing, &origin, sink));
        }
        if letter.asks && !outcome.reached {
            self.end_in_vain(letter, publisher, sink);
        }
        self.end_ended(sink);
        outcome.delivery()
    }

    /// Lets the publisher know that nobody got its request: those that it was for have left meanwhile.
    #[cold]
    fn end_in_vain(&mut self, letter: &Letter<'_>, publisher: Option<u32>, sink: &mut impl Sink) {
        if let Some(conn) = publisher {
            let (account, message) = (letter.account, letter.message);
            let (subject, reply) = (message.subject(), message.reply());
            self.say_no_responders((account, conn), subject, reply, sink);
        } else if letter.asks {
            sink.give_back(&Letter {
                asks: false,
                to: To::Nobody,
                ..*letter
            });
        }
    }

    /// Delivers a message of another server: to clients of this one, and of the queue groups to those it names alone.
    pub(super) fn on_route_message(
        &mut self,
        peer: &mut RoutePeer,
        message: &RouteMessage<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        let (publish, now) = (&message.publish, context.now);
        let index = account_of(peer, message.account, |name| self.account_named(name));
        let Some(account) = self.broker.account(index) else {
            return Delivery::Taken;
        };
        if publish.subject.starts_with(b"$SYS.") && account.name == self.facts.services.account {
            if inquiry::may_be_for_server(publish) {
                inquiry::take_in(index, true, publish, &context.info.server_id, sink);
            } else if Connections::are_told(publish.subject) {
                note_connections(&self.broker, publish);
            }
        }
        if may_ask(publish) {
            let inner = inner_publish(publish);
            let traced = self.route_traced(peer, message, &inner, index, context, sink);
            if let Some(delivery) = traced {
                return delivery;
            }
        }
        let (reach, choice, cache, scratch) = self.split();
        let Some(account) = reach.broker.account(index) else {
            return Delivery::Taken;
        };
        let matches = cache.find(
            account.index,
            publish.subject,
            &account.trie,
            &account.generations,
        );
        if matches.is_empty() {
            return Delivery::Taken;
        }
        let publish = inner_publish(publish);
        let message_out = Message::from_publish(&publish, scratch);
        let terms = Terms {
            account: index,
            tried: 0,
            asks: false,
            echo: true,
            skip: None,
            now,
        };
        let mut round = Round::new(reach, &account.denials, &message_out, terms, sink);
        round.each(&matches.plain);
        choice.picks.chosen.clear();
        for name in message.group_names() {
            let Some((at, group)) = matches.group(name) else {
                continue;
            };
            // Its last member may have left while the message was on its way: then another server's gets it, unless it
            // has plain subscribers, who have it already. The server that it comes from has told of its own before; a
            // third one may have told that one and not this one yet.
            if !round.one_of(group, choice.rng) {
                let lacks_it = |route| !matches.routes.contains(&route);
                let chosen = choose(group, lacks_it, choice.rng).map(|route| (route, at));
                choice.picks.chosen.extend(chosen);
            }
        }
        if !choice.picks.chosen.is_empty() {
            round.over_all(&[], matches, choice.picks);
        }
        let mut outcome = round.outcome();
        // Services of other accounts are asked by the server where the request was made; answers come back here.
        self.met.retain(|sub| sub.is_local());
        if !self.met.is_empty() {
            outcome.merge(self.cross_back(index, &publish, now, sink));
        }
        self.end_ended(sink);
        outcome.delivery()
    }

    /// Takes an answer that came from another server to the account that asked.
    #[cold]
    fn cross_back(
        &mut self,
        account: u32,
        publish: &Publish<'_>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Outcome {
        let mut scratch = Vec::new();
        let message = Message::from_publish(publish, &mut scratch);
        let crossing = Crossing::first(account, &message);
        self.cross(crossing, &Origin::nobody(now), sink)
    }

    /// Tells the publisher, through its own subscription to the reply subject, that nobody got its request.
    #[cold]
    #[inline(never)]
    pub(super) fn say_no_responders(
        &mut self,
        (account, conn): (u32, u32),
        subject: &[u8],
        reply: &[u8],
        sink: &mut impl Sink,
    ) {
        let Some(account) = self.broker.account(account) else {
            return;
        };
        let matches = self
            .cache
            .find(account.index, reply, &account.trie, &account.generations);
        let own = matches
            .plain
            .iter()
            .filter(|sub| sub.worker == self.worker)
            .find_map(|&sub| {
                let subscription = self.subscriptions.get(sub)?;
                (subscription.conn == conn).then(|| subscription.sid.clone())
            });
        if let Some(sid) = own {
            no_responders(reply, sid.as_bytes(), subject, &mut self.answers);
            self.answer_to(conn, sink);
        }
    }

    /// What rounds work with, what they choose by, and where they look.
    #[inline(always)]
    pub(super) fn split(&mut self) -> (Reach<'_>, Choice<'_>, &mut Cache, &mut Vec<u8>) {
        let reach = Reach {
            worker: self.worker,
            broker: &self.broker,
            links: &self.links,
            export: &self.facts.export,
            subscriptions: &mut self.subscriptions,
            guards: &mut self.guards,
            ended: &mut self.ended,
            met: &mut self.met,
        };
        let choice = Choice {
            rng: &mut self.rng,
            picks: &mut self.picks,
        };
        (reach, choice, &mut self.cache, &mut self.scratch)
    }

    /// Ends the subscriptions that have had their last message.
    pub(super) fn end_ended(&mut self, sink: &mut impl Sink) {
        while let Some((sub, account)) = self.ended.pop() {
            self.end_told(account, sub, sink);
        }
    }
}

impl<'a> Origin<'a> {
    pub(super) fn of(peer: &'a ClientPeer, context: &Context<'a>) -> Self {
        let echo = peer.session.echo;
        Origin {
            client: Some(peer),
            skip: (!echo).then_some(peer.conn),
            echo,
            server_name: Some(&context.info.server_name),
            via: None,
            now: context.now,
        }
    }

    pub(super) fn nobody(now: Instant) -> Self {
        Origin {
            client: None,
            skip: None,
            echo: true,
            server_name: None,
            via: None,
            now,
        }
    }

    /// How its message is delivered in an account.
    pub(super) fn terms(&self, account: u32) -> Terms {
        Terms {
            account,
            tried: 0,
            asks: false,
            echo: self.echo,
            skip: self.skip,
            now: self.now,
        }
    }
}

/// Whether a client wants to know if nobody gets its message.
#[inline]
pub(super) fn wants_responder(peer: &ClientPeer, publish: &Publish<'_>) -> bool {
    peer.session.no_responders && !publish.reply.is_empty()
}

/// Whether another worker has to tell if nobody there got a request: there are no others that it is for.
#[cold]
#[inline(never)]
fn must_be_told(peer: &ClientPeer, request: &Publish<'_>, matches: &Matches) -> bool {
    peer.session.no_responders && matches.are_together() && !inquiry::may_be_for_server(request)
}

/// Another server tells how many connections an account has there.
#[cold]
fn note_connections(broker: &Broker, publish: &Publish<'_>) {
    let body = publish.body.get(publish.header_len..).unwrap_or_default();
    if body.len() > limits::SYSTEM_REQUEST_BYTES_MAX {
        return;
    }
    if let Some((server, account, count)) = Connections::read(body) {
        if let Some(account) = broker.account_named(&account) {
            account.elsewhere.note(&server, count);
        }
    }
}

/// The message as it is delivered. A stored one that another server sends to where it is to be delivered brings its own
/// subject with it, in the reply: `$JS.ACK.….@subject`.
#[inline]
fn inner_publish<'a>(publish: &Publish<'a>) -> Publish<'a> {
    if !publish.reply.starts_with(b"$JS.ACK.") {
        return *publish;
    }
    let Some(at) = memchr::memchr(b'@', publish.reply) else {
        return *publish;
    };
    let (reply, subject) = publish.reply.split_at(at);
    // A client may have given any reply: with nothing there, the line to its subscribers would lack its subject.
    let Some(subject) = subject.get(1..).filter(|it| !it.is_empty()) else {
        return *publish;
    };
    Publish {
        subject,
        reply,
        line: None,
        ..*publish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_brings_its_subject_unless_that_is_none() {
        for (reply, expected) in [
            ("$JS.ACK.s.c.1@orders.eu", ("orders.eu", "$JS.ACK.s.c.1")),
            ("$JS.ACK.s.c.1", ("deliver", "$JS.ACK.s.c.1")),
            ("$JS.ACK.s.c.1@", ("deliver", "$JS.ACK.s.c.1@")),
            ("inbox@orders.eu", ("deliver", "inbox@orders.eu")),
        ] {
            let publish = Publish {
                subject: b"deliver",
                reply: reply.as_bytes(),
                sizes: b"0",
                body: b"\r\n",
                header_len: 0,
                line: None,
            };
            let inner = inner_publish(&publish);
            let [subject, reply] = [inner.subject, inner.reply].map(String::from_utf8_lossy);
            assert_eq!((&*subject, &*reply), expected);
        }
    }
}
