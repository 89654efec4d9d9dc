//! Who gets a message, and handing it over.

use std::sync::Arc;
use std::time::Instant;

use super::remote::account_of;
use super::round::{HOPS_MAX, Outcome, Paths, Round, choose, renamed};
use super::service::Crossing;
use super::{ClientPeer, Delivery, Engine, Letter, RoutePeer, Sink, To, inquiry};
use crate::proto::encode::{Message, Parts, no_responders};
use crate::proto::frame::Publish;
use crate::proto::route::RouteMessage;
use crate::session::Context;
use crate::subject::renaming::Renaming;
use crate::sublist::SubRef;

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
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Delivery {
        let now = context.now;
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
        if inquiry::may_be_for_server(publish) && account.name == self.facts.services.account {
            inquiry::take_in(index, true, publish, &context.info.server_id, sink);
        }
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
