//! Who gets a message, and handing it over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::links::Links;
use super::remote::account_of;
use super::service::Crossing;
use super::{ClientPeer, Delivery, Engine, Letter, RoutePeer, Sink, To, inquiry};
use crate::broker::{Broker, Denials, Replies, SERVICES, Subscriptions};
use crate::proto::encode::{Message, Parts, no_responders};
use crate::proto::frame::Publish;
use crate::proto::route::RouteMessage;
use crate::rng::Rng;
use crate::session::{Context, Guard, SubjectFilter};
use crate::subject::renaming::Renaming;
use crate::sublist::{Cache, Group, Matches, SubRef};

/// How often a message for a queue group may be handed on because its member was gone when it arrived.
const HOPS_MAX: u8 = 3;

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Whether anyone got it.
    pub reached: bool,
    /// Whether one who got it is filling up.
    pub filling: bool,
}

impl Outcome {
    pub(super) fn merge(&mut self, other: Outcome) {
        self.reached |= other.reached;
        self.filling |= other.filling;
    }

    fn delivery(self) -> Delivery {
        if self.filling {
            Delivery::Filling
        } else {
            Delivery::Taken
        }
    }
}

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

/// Which other servers get a message, and in the name of which groups.
#[derive(Debug, Default)]
pub(super) struct Picks {
    /// A link, and the place of a group in the matches.
    chosen: Vec<(SubRef, usize)>,
    /// Names of groups, parted by blanks.
    names: Vec<u8>,
}

/// The way to other servers.
#[derive(Clone, Copy)]
struct Paths<'r> {
    broker: &'r Broker,
    links: &'r Links,
    export: &'r SubjectFilter,
}

/// What the deliveries of one message have in common.
struct Round<'r, S> {
    worker: u16,
    account: u32,
    hops: u8,
    /// Whether the publisher may get it too.
    echo: bool,
    /// The publisher's connection, if it is one of this worker's and does not want its own messages back.
    skip: Option<u32>,
    message: &'r Message<'r>,
    /// What subscriptions of other workers will not take.
    denials: &'r Denials,
    subscriptions: &'r mut Subscriptions,
    guards: &'r mut HashMap<u32, Guard, RandomState>,
    now: Instant,
    ended: &'r mut Vec<(SubRef, u32)>,
    met: &'r mut Vec<SubRef>,
    paths: Paths<'r>,
    sink: &'r mut S,
    /// Whether anyone got it.
    reached: bool,
    /// Whether one who got it is filling up.
    filling: bool,
}

impl Engine {
    #[inline]
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
        let matches = self.cache.find(
            account.index,
            publish.subject,
            &account.trie,
            &account.generations,
        );
        let is_request = peer.session.no_responders && !publish.reply.is_empty();
        if matches.is_empty() && !is_request {
            return Delivery::Taken;
        }
        let message = Message::from_publish(publish, &mut self.scratch);
        let mut round = Round {
            worker: self.worker,
            account: peer.account,
            hops: 0,
            echo: peer.session.echo,
            skip: (!peer.session.echo).then_some(peer.conn),
            message: &message,
            denials: &account.denials,
            subscriptions: &mut self.subscriptions,
            guards: &mut self.guards,
            now: context.now,
            ended: &mut self.ended,
            met: &mut self.met,
            paths: Paths {
                broker: &self.broker,
                links: &self.links,
                export: &self.facts.export,
            },
            sink,
            reached: false,
            filling: false,
        };
        if matches.is_routed() {
            round.everywhere(matches, &mut self.rng, &mut self.picks);
        } else {
            round.each(&matches.plain);
            for group in matches.groups() {
                round.one_of(group, None, &mut self.rng);
            }
        }
        let (mut reached, mut filling) = (round.reached, round.filling);
        if !self.met.is_empty() {
            let outcome = self.publish_across(peer, publish, context, sink);
            reached |= outcome.reached;
            filling |= outcome.filling;
        }
        if !reached
            && is_request
            && !inquiry::is_for_server(peer, publish.subject, &context.info.server_id)
        {
            self.say_no_responders(peer, publish, sink);
        }
        self.end_ended();
        if filling {
            Delivery::Filling
        } else {
            Delivery::Taken
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
        let echo = peer.session.echo;
        let origin = Origin {
            client: Some(peer),
            skip: (!echo).then_some(peer.conn),
            echo,
            server_name: Some(&context.info.server_name),
            via: None,
            now: context.now,
        };
        let crossing = Crossing {
            account: peer.account,
            message: &message,
            depth: 0,
        };
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
        let crossing = Crossing {
            account,
            message,
            depth: 0,
        };
        self.route(crossing, &Origin::nobody(now), sink);
        self.end_ended();
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
        let Some(account) = self.broker.account(crossing.account) else {
            return Outcome::default();
        };
        let matches = self.cache.find(
            account.index,
            crossing.message.subject(),
            &account.trie,
            &account.generations,
        );
        let mut round = Round {
            worker: self.worker,
            account: account.index,
            hops: 0,
            echo: origin.echo,
            skip: origin.skip,
            message: crossing.message,
            denials: &account.denials,
            subscriptions: &mut self.subscriptions,
            guards: &mut self.guards,
            now: origin.now,
            ended: &mut self.ended,
            met: &mut self.met,
            paths: Paths {
                broker: &self.broker,
                links: &self.links,
                export: &self.facts.export,
            },
            sink,
            reached: false,
            filling: false,
        };
        round.everywhere(matches, &mut self.rng, &mut self.picks);
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
        let Some(account) = self.broker.account(crossing.account) else {
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
            let mut round = Round {
                worker: self.worker,
                account: home,
                hops: 0,
                echo: origin.echo,
                skip: origin.skip,
                message: &Message::new(&line, parts).sharing(&line),
                denials: &account.denials,
                subscriptions: &mut self.subscriptions,
                guards: &mut self.guards,
                now: origin.now,
                ended: &mut self.ended,
                met: &mut self.met,
                paths: Paths {
                    broker: &self.broker,
                    links: &self.links,
                    export: &self.facts.export,
                },
                sink,
                reached: false,
                filling: false,
            };
            round.local(of);
            outcome.merge(round.outcome());
            last = Some((renaming, line, parts));
        }
        outcome
    }

    /// Delivers what another worker forwarded; `Filling` if a subscriber is filling up.
    ///
    /// `publisher` is the connection it came from, if that is one of this worker's: a message for a queue group comes
    /// back when the member it was for elsewhere is gone.
    pub fn receive(
        &mut self,
        letter: &Letter<'_>,
        publisher: Option<u32>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Delivery {
        let Some(account) = self.broker.account(letter.account) else {
            return Delivery::Taken;
        };
        let mut round = Round {
            worker: self.worker,
            account: letter.account,
            hops: letter.hops,
            echo: letter.echo,
            skip: publisher.filter(|_| !letter.echo),
            message: letter.message,
            denials: &account.denials,
            subscriptions: &mut self.subscriptions,
            guards: &mut self.guards,
            now,
            ended: &mut self.ended,
            met: &mut self.met,
            paths: Paths {
                broker: &self.broker,
                links: &self.links,
                export: &self.facts.export,
            },
            sink,
            reached: false,
            filling: false,
        };
        match letter.to {
            To::Each(subs) => round.each(subs),
            To::Routes(routes) => routes.iter().for_each(|&route| {
                round.over(route, b"");
            }),
            To::Member { sub, group } => {
                if !round.local(sub) && letter.hops < HOPS_MAX {
                    let at = (&mut self.cache, &*self.broker);
                    round.another(&[group], sub, at, &mut self.rng, &mut self.picks);
                }
            }
            To::Groups { route, groups } => {
                if !round.over(route, groups) && letter.hops < HOPS_MAX {
                    let names: Vec<&[u8]> = groups.split(|&byte| byte == b' ').collect();
                    let at = (&mut self.cache, &*self.broker);
                    round.another(&names, route, at, &mut self.rng, &mut self.picks);
                }
            }
        }
        let mut outcome = round.outcome();
        if !self.met.is_empty() {
            // An answer to a request of one of this worker's connections.
            let crossing = Crossing {
                account: letter.account,
                message: letter.message,
                depth: 0,
            };
            let origin = Origin {
                skip: publisher.filter(|_| !letter.echo),
                echo: letter.echo,
                ..Origin::nobody(now)
            };
            outcome.merge(self.cross(crossing, &origin, sink));
        }
        self.end_ended();
        outcome.delivery()
    }

    /// Delivers a message of another server: to clients of this one, and of the queue groups to those it names alone.
    pub(super) fn on_route_message(
        &mut self,
        peer: &mut RoutePeer,
        message: &RouteMessage<'_>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Delivery {
        let (broker, publish) = (&self.broker, &message.publish);
        let named = |name: &[u8]| {
            let name = std::str::from_utf8(name).ok();
            let account = name.and_then(|name| broker.account_named(name));
            account.map_or(u32::MAX, |account| account.index)
        };
        let index = account_of(peer, message.account, named);
        let Some(account) = self.broker.account(index) else {
            return Delivery::Taken;
        };
        let matches = self.cache.find(
            account.index,
            publish.subject,
            &account.trie,
            &account.generations,
        );
        if matches.is_empty() {
            return Delivery::Taken;
        }
        let publish = inner_publish(publish);
        let message_out = Message::from_publish(&publish, &mut self.scratch);
        let mut round = Round {
            worker: self.worker,
            account: account.index,
            hops: 0,
            echo: true,
            skip: None,
            message: &message_out,
            denials: &account.denials,
            subscriptions: &mut self.subscriptions,
            guards: &mut self.guards,
            now,
            ended: &mut self.ended,
            met: &mut self.met,
            paths: Paths {
                broker: &self.broker,
                links: &self.links,
                export: &self.facts.export,
            },
            sink,
            reached: false,
            filling: false,
        };
        round.each(&matches.plain);
        self.picks.chosen.clear();
        for name in message.group_names() {
            let groups = matches.groups().iter().enumerate();
            let mut groups = groups.filter(|(_, group)| group.name == name);
            let Some((at, group)) = groups.next() else {
                continue;
            };
            // Its last member may have left while the message was on its way: then another server's gets it.
            if !round.one_of(group, None, &mut self.rng) {
                let chosen = choose(group, None, &mut self.rng).map(|route| (route, at));
                self.picks.chosen.extend(chosen);
            }
        }
        if !self.picks.chosen.is_empty() {
            round.over_all(&[], matches, &mut self.picks);
        }
        let mut outcome = round.outcome();
        // Services of other accounts are asked by the server where the request was made; answers come back here.
        self.met.retain(|sub| sub.is_local());
        if !self.met.is_empty() {
            outcome.merge(self.cross_back(account.index, &publish, now, sink));
        }
        self.end_ended();
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
        let crossing = Crossing {
            account,
            message: &message,
            depth: 0,
        };
        self.cross(crossing, &Origin::nobody(now), sink)
    }

    /// Tells the publisher, through its own subscription to the reply subject, that nobody got its request.
    fn say_no_responders(
        &mut self,
        peer: &ClientPeer,
        publish: &Publish<'_>,
        sink: &mut impl Sink,
    ) {
        let Some(account) = self.broker.account(peer.account) else {
            return;
        };
        let matches = self.cache.find(
            account.index,
            publish.reply,
            &account.trie,
            &account.generations,
        );
        let own = matches
            .plain
            .iter()
            .filter(|sub| sub.worker == self.worker)
            .find_map(|&sub| {
                let subscription = self.subscriptions.get(sub)?;
                (subscription.conn == peer.conn).then(|| subscription.sid.clone())
            });
        if let Some(sid) = own {
            no_responders(
                publish.reply,
                sid.as_bytes(),
                publish.subject,
                &mut self.answers,
            );
            self.answer(peer, sink);
        }
    }

    /// Ends the subscriptions that have had their last message.
    fn end_ended(&mut self) {
        while let Some((sub, account)) = self.ended.pop() {
            self.end(account, sub);
        }
    }
}

/// A message under the name that it has in an importing account; none if it is not of the import.
fn renamed(message: &Message<'_>, renaming: &Renaming) -> Option<(Arc<[u8]>, Parts)> {
    let (line, parts) = (message.line(), message.parts());
    let mut renamed = Vec::with_capacity(line.len() + 32);
    if !renaming.name_here(message.subject(), &mut renamed) {
        return None;
    }
    let subject_len = renamed.len();
    renamed.extend_from_slice(line.get(parts.subject_len..).unwrap_or_default());
    let parts = Parts {
        subject_len,
        body_at: parts.body_at - parts.subject_len + subject_len,
        ..parts
    };
    Some((renamed.into(), parts))
}

impl Origin<'_> {
    fn nobody(now: Instant) -> Self {
        Origin {
            client: None,
            skip: None,
            echo: true,
            server_name: None,
            via: None,
            now,
        }
    }
}

impl<S: Sink> Round<'_, S> {
    fn outcome(&self) -> Outcome {
        Outcome {
            reached: self.reached,
            filling: self.filling,
        }
    }

    /// A copy for each; those of one worker stand together.
    fn each(&mut self, subs: &[SubRef]) {
        for run in subs.chunk_by(|one, next| one.worker == next.worker) {
            match run.first() {
                Some(first) if first.worker == SERVICES => self.met.extend_from_slice(run),
                Some(first) if first.worker != self.worker => {
                    self.remote(first.worker, To::Each(run))
                }
                _ => run.iter().for_each(|&sub| {
                    self.local(sub);
                }),
            }
        }
    }

    /// One member on this server, chosen at random; the next ones in turn while one cannot take it. False if none can.
    fn one_of(&mut self, group: &Group, gone: Option<SubRef>, rng: &mut Rng) -> bool {
        if group.members.is_empty() {
            return false;
        }
        let start = rng.below(group.members.len());
        let (before, after) = group.members.split_at(start);
        for &sub in after.iter().chain(before).filter(|&&sub| Some(sub) != gone) {
            if sub.worker != self.worker {
                if self.denials.hold(&[sub], self.message.subject()) {
                    continue;
                }
                self.remote(
                    sub.worker,
                    To::Member {
                        sub,
                        group: &group.name,
                    },
                );
                return true;
            }
            if self.local(sub) {
                return true;
            }
        }
        false
    }

    /// Everyone that matches, other servers too: each of those gets one copy, whatever it is for. Each member of a queue
    /// group is as likely as any other one, wherever it is.
    #[cold]
    fn everywhere(&mut self, matches: &Matches, rng: &mut Rng, picks: &mut Picks) {
        self.each(&matches.plain);
        picks.chosen.clear();
        for (at, group) in matches.groups().iter().enumerate() {
            let own = group.members.len();
            let all = own.saturating_add(weight_of(group, None));
            let is_own = own > 0 && rng.below(all) < own;
            if is_own && self.one_of(group, None, rng) {
                continue;
            }
            match choose(group, None, rng) {
                Some(route) => picks.chosen.push((route, at)),
                // Those here after all.
                None if !is_own => drop(self.one_of(group, None, rng)),
                None => {}
            }
        }
        self.over_all(&matches.routes, matches, picks);
    }

    /// A copy for each of the `plain` links and for each that was picked for a group.
    fn over_all(&mut self, plain: &[SubRef], matches: &Matches, picks: &mut Picks) {
        let Picks { chosen, names } = picks;
        if chosen.is_empty() {
            for run in plain.chunk_by(|one, next| one.worker == next.worker) {
                match run.first() {
                    Some(first) if first.owner() != self.worker => {
                        self.remote(first.owner(), To::Routes(run));
                    }
                    _ => run.iter().for_each(|&route| {
                        self.over(route, b"");
                    }),
                }
            }
            return;
        }
        chosen.sort_unstable();
        let mut left = chosen.as_slice();
        let mut send = |round: &mut Self, route: SubRef, picked: &[(SubRef, usize)]| {
            names.clear();
            for group in picked
                .iter()
                .filter_map(|&(_, at)| matches.groups().get(at))
            {
                if !names.is_empty() {
                    names.push(b' ');
                }
                names.extend_from_slice(&group.name);
            }
            if route.owner() == round.worker {
                round.over(route, names);
            } else if names.is_empty() {
                round.remote(route.owner(), To::Routes(&[route]));
            } else {
                let groups = names.as_slice();
                round.remote(route.owner(), To::Groups { route, groups });
            }
        };
        for &route in plain {
            while let Some(picked) = run_of(left).filter(|run| run[0].0 < route) {
                send(self, picked[0].0, picked);
                left = left.get(picked.len()..).unwrap_or_default();
            }
            let picked = run_of(left)
                .filter(|run| run[0].0 == route)
                .unwrap_or_default();
            send(self, route, picked);
            left = left.get(picked.len()..).unwrap_or_default();
        }
        while let Some(picked) = run_of(left) {
            send(self, picked[0].0, picked);
            left = left.get(picked.len()..).unwrap_or_default();
        }
    }

    /// Whether a link, one of this worker's, took it.
    fn over(&mut self, route: SubRef, groups: &[u8]) -> bool {
        let (Some(link), Some(account)) = (
            self.paths.links.get(route),
            self.paths.broker.account(self.account),
        ) else {
            return false;
        };
        if self.paths.export.denies(self.message.subject()) {
            return false;
        }
        let shown = link.carries.shown(&account.name);
        let (headers, conn) = (link.headers, link.conn);
        let sink = &mut self.sink;
        let delivery = sink.deliver_routed(conn, shown, groups, headers, self.message);
        self.filling |= delivery == Delivery::Filling;
        self.reached |= delivery != Delivery::Refused;
        delivery != Delivery::Refused
    }

    /// Another member for each of these groups: the one it was for is gone.
    fn another(
        &mut self,
        names: &[&[u8]],
        gone: SubRef,
        (cache, broker): (&mut Cache, &Broker),
        rng: &mut Rng,
        picks: &mut Picks,
    ) {
        let Some(account) = broker.account(self.account) else {
            return;
        };
        let subject = self.message.subject();
        let matches = cache.find(account.index, subject, &account.trie, &account.generations);
        picks.chosen.clear();
        for (at, group) in matches.groups().iter().enumerate() {
            if !names.contains(&group.name.as_slice()) || self.one_of(group, Some(gone), rng) {
                continue;
            }
            let chosen = choose(group, Some(gone), rng).map(|route| (route, at));
            picks.chosen.extend(chosen);
        }
        if !picks.chosen.is_empty() {
            self.over_all(&[], matches, picks);
        }
    }

    /// Whether the subscription, one of this worker's, took it.
    #[inline]
    fn local(&mut self, sub: SubRef) -> bool {
        let Some(subscription) = self.subscriptions.get(sub) else {
            return self.elsewhere(sub);
        };
        let full = subscription.max > 0 && subscription.delivered >= u64::from(subscription.max);
        if full || self.skip == Some(subscription.conn) {
            return false;
        }
        if subscription.guarded {
            let guard = self.guards.get_mut(&subscription.conn);
            let (subject, queue) = (self.message.subject(), subscription.queue());
            if guard.is_some_and(|guard| !guard.lets_in(subject, queue)) {
                return false;
            }
        }
        let sid = subscription.sid.as_bytes();
        let delivery =
            self.sink
                .deliver(subscription.conn, sid, subscription.headers, self.message);
        if delivery == Delivery::Refused {
            return false;
        }
        subscription.delivered += 1;
        if subscription.delivered == u64::from(subscription.max) {
            self.ended.push((sub, self.account));
        }
        if subscription.guarded {
            if let Some(guard) = self.guards.get_mut(&subscription.conn) {
                guard.delivered(self.message.reply(), self.now);
            }
        }
        self.filling |= delivery == Delivery::Filling;
        self.reached = true;
        true
    }

    /// Whether a reference that stands for no subscription leads to one who took it: in another account, perhaps.
    #[cold]
    fn elsewhere(&mut self, sub: SubRef) -> bool {
        if Replies::is_meant(sub) {
            self.met.push(sub);
            return true;
        }
        let Some(shadow) = self.subscriptions.shadows.get(sub) else {
            return false;
        };
        let (of, home) = (shadow.of, shadow.home);
        let renaming = Arc::clone(&shadow.renaming);
        let owner = self.subscriptions.get(of);
        if owner.is_some_and(|owner| owner.queue().is_none()) {
            // Not chosen from others: it can wait for those with the same import, to share what is written anew.
            self.met.push(sub);
            return true;
        }
        let Some((line, parts)) = renamed(self.message, &renaming) else {
            return false;
        };
        let mut round = Round {
            worker: self.worker,
            account: home,
            hops: self.hops,
            echo: self.echo,
            skip: self.skip,
            message: &Message::new(&line, parts),
            denials: self.denials,
            subscriptions: self.subscriptions,
            guards: self.guards,
            now: self.now,
            ended: self.ended,
            met: self.met,
            paths: self.paths,
            sink: self.sink,
            reached: false,
            filling: false,
        };
        let is_taken = round.local(of);
        let outcome = round.outcome();
        self.reached |= outcome.reached;
        self.filling |= outcome.filling;
        is_taken
    }

    fn remote(&mut self, worker: u16, to: To<'_>) {
        let letter = Letter {
            account: self.account,
            hops: self.hops + 1,
            echo: self.echo,
            message: self.message,
            to,
        };
        self.filling |= self.sink.forward(&letter, worker) == Delivery::Filling;
        // One that was chosen from a group is not among those that will not take it.
        self.reached |= match to {
            To::Each(subs) => !self.denials.hold(subs, self.message.subject()),
            To::Member { .. } | To::Routes(_) | To::Groups { .. } => true,
        };
    }
}

/// Members of a group on other servers, but for one.
fn weight_of(group: &Group, gone: Option<SubRef>) -> usize {
    let others = group
        .remote
        .iter()
        .filter(|&&(route, _)| Some(route) != gone);
    others.fold(0, |sum, &(_, weight)| sum.saturating_add(weight as usize))
}

/// Another server, as likely as it has members of the group; none if no other one has any.
fn choose(group: &Group, gone: Option<SubRef>, rng: &mut Rng) -> Option<SubRef> {
    let all = weight_of(group, gone);
    if all == 0 {
        return None;
    }
    let mut at = rng.below(all);
    let mut others = group
        .remote
        .iter()
        .filter(|&&(route, _)| Some(route) != gone);
    let is_it = |&&(_, weight): &&(SubRef, u32)| {
        let found = at < weight as usize;
        at = at.saturating_sub(weight as usize);
        found
    };
    others.find(is_it).map(|&(route, _)| route)
}

/// Those at the front that have the same link.
fn run_of(picked: &[(SubRef, usize)]) -> Option<&[(SubRef, usize)]> {
    picked.chunk_by(|one, next| one.0 == next.0).next()
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
    Publish {
        subject: subject.get(1..).unwrap_or_default(),
        reply,
        line: None,
        ..*publish
    }
}
