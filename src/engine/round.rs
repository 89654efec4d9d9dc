//! The deliveries of one message: to subscriptions here, to other workers, to other servers.
//!
//! A [`Round`] is made for each message and account. It hands every plain subscription a copy and each queue group one,
//! and says whether anyone got it and whether one who got it is filling up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::links::Links;
use super::{Delivery, Letter, Sink, To, tracing};
use crate::broker::{Broker, Denials, Replies, SERVICES, Subscriptions};
use crate::limits;
use crate::proto::encode::{Message, Parts, Spread};
use crate::rng::Rng;
use crate::session::{Guard, SubjectFilter};
use crate::subject::renaming::Renaming;
use crate::sublist::{Cache, Group, Matches, SubRef};

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

    pub(super) fn delivery(self) -> Delivery {
        if self.filling {
            Delivery::Filling
        } else {
            Delivery::Taken
        }
    }
}

/// Which other servers get a message, and in the name of which groups.
#[derive(Debug, Default)]
pub(super) struct Picks {
    /// A link, and the place of a group in the matches.
    pub chosen: Vec<(SubRef, usize)>,
    /// Names of groups, parted by blanks.
    names: Vec<u8>,
}

/// What members of queue groups and other servers are chosen with.
pub(super) struct Choice<'e> {
    pub rng: &'e mut Rng,
    pub picks: &'e mut Picks,
}

/// What of an engine a round works with: whom it can reach, and what comes of it.
pub(super) struct Reach<'e> {
    pub worker: u16,
    pub broker: &'e Broker,
    pub links: &'e Links,
    /// What this server may send to others.
    pub export: &'e SubjectFilter,
    pub subscriptions: &'e mut Subscriptions,
    pub guards: &'e mut HashMap<u32, Guard, RandomState>,
    /// Subscriptions that had their last message, with their account.
    pub ended: &'e mut Vec<(SubRef, u32)>,
    /// Service imports, ways back and shadows.
    pub met: &'e mut Vec<SubRef>,
}

impl Reach<'_> {
    /// The same, for a round within a round.
    fn again(&mut self) -> Reach<'_> {
        Reach {
            worker: self.worker,
            broker: self.broker,
            links: self.links,
            export: self.export,
            subscriptions: self.subscriptions,
            guards: self.guards,
            ended: self.ended,
            met: self.met,
        }
    }
}

/// How the message of a round is delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Where its subscribers are.
    pub account: u32,
    /// Workers where nobody of the group it is for could take it, a bit for each.
    pub tried: u64,
    /// Whether the publisher wants to know if nobody gets it.
    pub asks: bool,
    /// Whether the publisher may get it too.
    pub echo: bool,
    /// The publisher's connection, if it is one of this worker's and does not want its own messages back.
    pub skip: Option<u32>,
    /// The time.
    pub now: Instant,
}

/// What the deliveries of one message have in common.
pub(super) struct Round<'r, S> {
    reach: Reach<'r>,
    /// What subscriptions of other workers will not take.
    denials: &'r Denials,
    message: &'r Message<'r>,
    pub terms: Terms,
    sink: &'r mut S,
    /// Whether anyone got it.
    reached: bool,
    /// Whether one who got it is filling up.
    filling: bool,
}

impl<'r, S: Sink> Round<'r, S> {
    /// A round that nobody was reached by yet.
    #[inline(always)]
    pub(super) fn new(
        reach: Reach<'r>,
        denials: &'r Denials,
        message: &'r Message<'r>,
        terms: Terms,
        sink: &'r mut S,
    ) -> Self {
        Round {
            reach,
            denials,
            message,
            terms,
            sink,
            reached: false,
            filling: false,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            reached: self.reached,
            filling: self.filling,
        }
    }

    /// A copy for each; those of one worker stand together.
    pub(super) fn each(&mut self, subs: &[SubRef]) {
        for run in subs.chunk_by(|one, next| one.worker == next.worker) {
            match run.first() {
                Some(first) if first.worker == SERVICES => self.reach.met.extend_from_slice(run),
                Some(first) if first.worker != self.reach.worker => {
                    self.remote(first.worker, To::Each(run))
                }
                _ => {
                    if run.len() >= limits::FAN_OUT_MIN {
                        self.message.set_spread(Spread::Many);
                    }
                    run.iter().for_each(|&sub| {
                        self.local(sub);
                    });
                }
            }
        }
    }

    /// One member on this server, chosen at random; the next ones in turn while one cannot take it. False if none can.
    pub(super) fn one_of(&mut self, group: &Group, rng: &mut Rng) -> bool {
        self.one_of_those(group, |_| true, rng)
    }

    /// The same, of those members that are meant alone.
    #[inline(always)]
    pub(super) fn one_of_those(
        &mut self,
        group: &Group,
        is_meant: impl Fn(SubRef) -> bool,
        rng: &mut Rng,
    ) -> bool {
        if group.members.is_empty() {
            return false;
        }
        let start = rng.below(group.members.len());
        let (before, after) = group.members.split_at(start);
        for &sub in after.iter().chain(before).filter(|&&sub| is_meant(sub)) {
            if sub.worker != self.reach.worker {
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
    pub(super) fn everywhere(&mut self, matches: &Matches, choice: Choice<'_>) {
        let Choice { rng, picks } = choice;
        let all = |_| true;
        self.each(&matches.plain);
        picks.chosen.clear();
        for (at, group) in matches.groups().iter().enumerate() {
            let is_own = falls_here(group, rng);
            if is_own && self.one_of(group, rng) {
                continue;
            }
            match choose(group, all, rng) {
                Some(route) => picks.chosen.push((route, at)),
                // Those here after all.
                None if !is_own => drop(self.one_of(group, rng)),
                None => {}
            }
        }
        self.over_all(&matches.routes, matches, picks);
    }

    /// A copy for each of the `plain` links and for each that was picked for a group. Where a link was picked for more groups
    /// than a line can name, it gets several; if it is a plain one, too, only one, and the rest of the groups nothing: its
    /// plain subscribers would get each of them.
    pub(super) fn over_all(&mut self, plain: &[SubRef], matches: &Matches, picks: &mut Picks) {
        let Picks { chosen, names } = picks;
        if chosen.is_empty() {
            for run in plain.chunk_by(|one, next| one.worker == next.worker) {
                match run.first() {
                    Some(first) if first.owner() != self.reach.worker => {
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
        for &route in plain {
            while let Some(picked) = run_of(left).filter(|run| run[0].0 < route) {
                let rest = self.over_for(picked[0].0, picked, matches, names);
                left = left.get(picked.len() - rest.len()..).unwrap_or_default();
            }
            let picked = run_of(left)
                .filter(|run| run[0].0 == route)
                .unwrap_or_default();
            self.over_for(route, picked, matches, names);
            left = left.get(picked.len()..).unwrap_or_default();
        }
        while let Some(picked) = run_of(left) {
            let rest = self.over_for(picked[0].0, picked, matches, names);
            left = left.get(picked.len() - rest.len()..).unwrap_or_default();
        }
    }

    /// One copy for a link, in the name of the groups that it was picked for, as many as a line has room for; gives the rest
    /// of them.
    fn over_for<'p>(
        &mut self,
        route: SubRef,
        picked: &'p [(SubRef, usize)],
        matches: &Matches,
        names: &mut Vec<u8>,
    ) -> &'p [(SubRef, usize)] {
        let rest = name(picked, matches, names);
        if route.owner() == self.reach.worker {
            self.over(route, names);
        } else if names.is_empty() {
            self.remote(route.owner(), To::Routes(&[route]));
        } else {
            let groups = names.as_slice();
            self.remote(route.owner(), To::Groups { route, groups });
        }
        rest
    }

    /// Whether a link, one of this worker's, took it.
    pub(super) fn over(&mut self, route: SubRef, groups: &[u8]) -> bool {
        let (Some(link), Some(account)) = (
            self.reach.links.get(route),
            self.reach.broker.account(self.terms.account),
        ) else {
            return false;
        };
        if self.reach.export.denies(self.message.subject()) {
            return false;
        }
        if !link.traces && tracing::is_probe(self.message) {
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

    /// Another member for each of these groups: the one it was for is gone. Servers with plain subscribers are left out:
    /// those have the message already, and would get it again.
    ///
    /// Those here come first, then workers where it has not been: however members come and go, one that stays is found.
    pub(super) fn another(
        &mut self,
        names: &[&[u8]],
        gone: SubRef,
        cache: &mut Cache,
        Choice { rng, picks }: Choice<'_>,
    ) {
        let Some(account) = self.reach.broker.account(self.terms.account) else {
            return;
        };
        let subject = self.message.subject();
        let matches = cache.find(account.index, subject, &account.trie, &account.generations);
        picks.chosen.clear();
        let (own, tried) = (self.reach.worker, self.terms.tried);
        let is_here = |sub: SubRef| sub.owner() == own && sub != gone;
        let is_new = |sub: SubRef| tried & bit(sub.owner()) == 0;
        let lacks_it = |route: &SubRef| !matches.routes.contains(route);
        for (at, group) in names.iter().filter_map(|name| matches.group(name)) {
            if self.one_of_those(group, is_here, rng) {
                continue;
            }
            let link = choose(group, |it| is_here(it) && lacks_it(&it), rng);
            if link.is_some_and(|link| self.over(link, &group.name))
                || self.one_of_those(group, is_new, rng)
            {
                continue;
            }
            let link = choose(group, |it| is_new(it) && lacks_it(&it), rng);
            picks.chosen.extend(link.map(|link| (link, at)));
        }
        if !picks.chosen.is_empty() {
            self.over_all(&[], matches, picks);
        }
    }

    /// Whether the subscription, one of this worker's, took it.
    #[inline]
    pub(super) fn local(&mut self, sub: SubRef) -> bool {
        let Some(subscription) = self.reach.subscriptions.get(sub) else {
            return self.elsewhere(sub);
        };
        let full = subscription.max > 0 && subscription.delivered >= u64::from(subscription.max);
        if full || self.terms.skip == Some(subscription.conn) {
            return false;
        }
        if subscription.guarded {
            let guard = self.reach.guards.get_mut(&subscription.conn);
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
            self.reach.ended.push((sub, self.terms.account));
        }
        if subscription.guarded {
            if let Some(guard) = self.reach.guards.get_mut(&subscription.conn) {
                guard.delivered(self.message.reply(), self.terms.now);
            }
        }
        self.filling |= delivery == Delivery::Filling;
        self.reached = true;
        true
    }

    /// Whether a reference that stands for no subscription leads to one who took it: in another account, perhaps.
    #[cold]
    pub(super) fn elsewhere(&mut self, sub: SubRef) -> bool {
        if Replies::is_meant(sub) {
            self.reach.met.push(sub);
            return true;
        }
        let Some(shadow) = self.reach.subscriptions.shadows.get(sub) else {
            return false;
        };
        let (of, home) = (shadow.of, shadow.home);
        let renaming = Arc::clone(&shadow.renaming);
        let owner = self.reach.subscriptions.get(of);
        if owner.is_some_and(|owner| owner.queue().is_none()) {
            // Not chosen from others: it can wait for those with the same import, to share what is written anew.
            self.reach.met.push(sub);
            return true;
        }
        let Some((line, parts)) = renamed(self.message, &renaming) else {
            return false;
        };
        let message = Message::new(&line, parts);
        let terms = Terms {
            account: home,
            ..self.terms
        };
        let mut round = Round::new(self.reach.again(), self.denials, &message, terms, self.sink);
        let is_taken = round.local(of);
        let outcome = round.outcome();
        self.reached |= outcome.reached;
        self.filling |= outcome.filling;
        is_taken
    }

    pub(super) fn remote(&mut self, worker: u16, to: To<'_>) {
        // One that was chosen from a group is not among those that will not take it.
        let is_taken = match to {
            To::Each(subs) => !self.denials.hold(subs, self.message.subject()),
            To::Member { .. } | To::Routes(_) | To::Groups { .. } | To::Nobody => true,
        };
        self.reached |= is_taken;
        let letter = Letter {
            account: self.terms.account,
            tried: self.terms.tried,
            asks: self.terms.asks && is_taken,
            echo: self.terms.echo,
            message: self.message,
            to,
        };
        self.filling |= self.sink.forward(&letter, worker) == Delivery::Filling;
    }
}

/// A worker's in [`Letter::tried`].
pub(super) fn bit(worker: u16) -> u64 {
    const { assert!(limits::WORKERS_MAX <= u64::BITS as usize) };
    1_u64.checked_shl(worker.into()).unwrap_or_default()
}

/// Whether a message for a group goes to a member on this server, of whom each is as likely to get it as any elsewhere.
pub(super) fn falls_here(group: &Group, rng: &mut Rng) -> bool {
    let own = group.members.len();
    let in_all = own.saturating_add(weight_of(group, |_| true));
    own > 0 && rng.below(in_all) < own
}

/// Members of a group on other servers, those that are meant alone.
fn weight_of(group: &Group, is_meant: impl Fn(SubRef) -> bool) -> usize {
    let others = group.remote.iter().filter(|&&(route, _)| is_meant(route));
    others.fold(0, |sum, &(_, weight)| sum.saturating_add(weight as usize))
}

/// Another server of those that are meant, as likely as it has members of the group; none if none of them has any.
pub(super) fn choose(
    group: &Group,
    is_meant: impl Fn(SubRef) -> bool,
    rng: &mut Rng,
) -> Option<SubRef> {
    let all = weight_of(group, &is_meant);
    if all == 0 {
        return None;
    }
    let mut at = rng.below(all);
    let mut others = group.remote.iter().filter(|&&(route, _)| is_meant(route));
    let is_it = |&&(_, weight): &&(SubRef, u32)| {
        let found = at < weight as usize;
        at = at.saturating_sub(weight as usize);
        found
    };
    others.find(is_it).map(|&(route, _)| route)
}

/// Puts the names of groups that were picked into `names`, parted by blanks, as many as a line has room for; gives the
/// rest.
fn name<'p>(
    picked: &'p [(SubRef, usize)],
    matches: &Matches,
    names: &mut Vec<u8>,
) -> &'p [(SubRef, usize)] {
    names.clear();
    for (taken, &(_, at)) in picked.iter().enumerate() {
        let Some(group) = matches.groups().get(at) else {
            continue;
        };
        if !names.is_empty() {
            if names.len() + group.name.len() >= limits::ROUTE_GROUPS_BYTES_MAX {
                return picked.get(taken..).unwrap_or_default();
            }
            names.push(b' ');
        }
        names.extend_from_slice(&group.name);
    }
    &[]
}

/// Those at the front that have the same link.
fn run_of(picked: &[(SubRef, usize)]) -> Option<&[(SubRef, usize)]> {
    picked.chunk_by(|one, next| one.0 == next.0).next()
}

/// A message under the name that it has in an importing account; none if it is not of the import.
pub(super) fn renamed(message: &Message<'_>, renaming: &Renaming) -> Option<(Arc<[u8]>, Parts)> {
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
