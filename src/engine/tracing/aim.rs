//! Whom a traced message goes to, and what is told of them.

use super::Engine;
use crate::broker::{Account, Replies, SERVICES};
use crate::monitor::tracing::{Egress, Step, Trace};
use crate::sublist::{Group, Matches, SubRef};

const DENIED: &str = "Not delivered because subscription denies this subject";
const NO_ECHO: &str = "Not delivered because of no echo";
const NOT_TRACED: &str = "Message delivered but remote does not support message tracing so no trace event generated from there";
const NOT_PROBED: &str = "Not delivered because remote does not support message tracing";

/// Whom a message goes to.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) plain: Vec<SubRef>,
    /// Members that were chosen, each with its group's place.
    pub(super) members: Vec<(SubRef, usize)>,
    /// Other servers that have plain subscribers.
    pub(super) links: Vec<SubRef>,
    /// Other servers of which a member was chosen, with the place of its group.
    pub(super) picks: Vec<(SubRef, usize)>,
    /// Services, and ways back from them.
    pub(super) across: Vec<SubRef>,
    /// Whether anyone takes it.
    pub(super) reached: bool,
}

/// A message that is being traced, and where it is.
pub(super) struct Aim<'a> {
    pub(super) trace: Trace,
    pub(super) account: &'a Account,
    /// The publisher's connection, if it does not want its own messages back.
    pub(super) skip: Option<u32>,
    /// Which server of its way this one is; empty if it is the first.
    pub(super) hop: &'a [u8],
}

impl Engine {
    pub(super) fn matches(&mut self, account: &Account, subject: &[u8]) -> Matches {
        let (trie, generations) = (&account.trie, &account.generations);
        self.cache
            .find(account.index, subject, trie, generations)
            .clone()
    }

    /// Has a message go to a plain subscription, or across.
    pub(super) fn aim_at(&mut self, aim: &mut Aim<'_>, sub: SubRef, targets: &mut Targets) {
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
    pub(super) fn aim_at_one(
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
}
