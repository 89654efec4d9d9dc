//! The delivery of a traced message: as of any other one, but that each other server gets a hop of its own, and that other
//! accounts are told not to go on with the trace.

use super::Engine;
use super::aim::{Aim, Targets};
use crate::broker::Account;
use crate::engine::round::{Outcome, Round};
use crate::engine::route::Origin;
use crate::engine::service::Crossing;
use crate::engine::{Delivery, Sink};
use crate::limits;
use crate::monitor::tracing::Egress;
use crate::proto::encode::Message;
use crate::proto::frame::Publish;
use crate::proto::tracing::{self, DESTINATION, DISABLED, HOP};
use crate::sublist::{Group, Matches, SubRef};

/// A message that is being delivered.
struct Parcel<'a> {
    publish: &'a Publish<'a>,
    account: &'a Account,
    matches: &'a Matches,
    targets: &'a Targets,
    origin: &'a Origin<'a>,
}

impl Engine {
    /// Passes the trace on, and delivers the message; also says whether anyone would have got it.
    pub(super) fn deliver_traced(
        &mut self,
        publish: &Publish<'_>,
        mut aim: Aim<'_>,
        matches: &Matches,
        targets: &Targets,
        origin: &Origin<'_>,
        sink: &mut impl Sink,
    ) -> (Delivery, bool) {
        let parcel = Parcel {
            publish,
            account: aim.account,
            matches,
            targets,
            origin,
        };
        let only = aim.trace.only;
        let hops = self.note_hops(&mut aim, targets);
        let is_behind = self.pass_on(aim.trace, sink) == Delivery::Filling;
        let mut outcome = Outcome::default();
        if !only {
            outcome.merge(self.deliver_here(&parcel, sink));
        }
        // These decide themselves whether to deliver it.
        for (link, hop) in &hops {
            outcome.merge(self.deliver_over(&parcel, *link, hop, sink));
        }
        if !only && !targets.across.is_empty() {
            outcome.merge(self.deliver_across(&parcel, sink));
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

    /// Adds the other servers to the trace; gives each with its hop, a number behind those of the way so far.
    fn note_hops(&mut self, aim: &mut Aim<'_>, targets: &Targets) -> Vec<(SubRef, String)> {
        let picked = targets.picks.iter().map(|&(link, _)| link);
        let mut links: Vec<SubRef> = targets.links.iter().copied().chain(picked).collect();
        links.sort_unstable();
        links.dedup();
        let mut prefix = String::from_utf8_lossy(aim.hop).into_owned();
        if !prefix.is_empty() {
            prefix.push('.');
        }
        let mut hops = Vec::with_capacity(links.len());
        for (number, link) in (1..).zip(links) {
            aim.trace.hops = number;
            let hop = format!("{prefix}{number}");
            let egress = Egress {
                hop: hop.clone(),
                ..Egress::new(link, b"", "")
            };
            let (account, only) = (aim.account.index, aim.trace.only);
            let step = self.find_out(egress, account, &aim.trace.subject, only);
            aim.trace.push(step);
            hops.push((link, hop));
        }
        hops
    }

    /// Delivers it to subscriptions of this server, and to those of other accounts that import it as a stream.
    fn deliver_here(&mut self, parcel: &Parcel<'_>, sink: &mut impl Sink) -> Outcome {
        let Parcel {
            publish,
            account,
            matches,
            targets,
            origin,
        } = *parcel;
        let mut scratch = Vec::new();
        let message = Message::from_publish(publish, &mut scratch);
        let (reach, choice, ..) = self.split();
        let terms = origin.terms(account.index);
        let mut round = Round::new(reach, &account.denials, &message, terms, sink);
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
        let mut outcome = round.outcome();
        if !self.met.is_empty() {
            let crossing = Crossing::first(account.index, &message);
            outcome.merge(self.cross(crossing, origin, sink));
        }
        outcome
    }

    /// Delivers it to one other server, as its hop.
    fn deliver_over(
        &mut self,
        parcel: &Parcel<'_>,
        link: SubRef,
        hop: &str,
        sink: &mut impl Sink,
    ) -> Outcome {
        let account = parcel.account;
        let mut line = Vec::new();
        let parts = tracing::with_header(parcel.publish, HOP, hop.as_bytes(), &mut line);
        let message = Message::new(&line, parts);
        let (reach, choice, ..) = self.split();
        let picks = choice.picks;
        picks.chosen.clear();
        let picked = parcel.targets.picks.iter();
        picks.chosen.extend(picked.filter(|(it, _)| *it == link));
        let terms = parcel.origin.terms(account.index);
        let mut round = Round::new(reach, &account.denials, &message, terms, sink);
        round.over_all(&[link], parcel.matches, picks);
        round.outcome()
    }

    /// Takes it to services of other accounts, or an answer of theirs back, where nothing is told of it.
    fn deliver_across(&mut self, parcel: &Parcel<'_>, sink: &mut impl Sink) -> Outcome {
        let account = parcel.account;
        let mut line = Vec::new();
        let parts = tracing::with_header(parcel.publish, DESTINATION, DISABLED, &mut line);
        let message = Message::new(&line, parts);
        let reach = self.split().0;
        let terms = parcel.origin.terms(account.index);
        let mut round = Round::new(reach, &account.denials, &message, terms, sink);
        round.each(&parcel.targets.across);
        let mut outcome = round.outcome();
        let crossing = Crossing::first(account.index, &message);
        outcome.merge(self.cross(crossing, parcel.origin, sink));
        outcome
    }
}
