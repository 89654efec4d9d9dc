//! What someone may publish and subscribe to.
//!
//! ```text
//! publish:    (allow absent or matches, and no deny matches) or a permit to answer
//! subscribe:  allow absent or covers the whole pattern, and no deny matches it
//! deliver:    no deny matches; asked only where a deny overlaps the subscription
//! ```
//!
//! A subscription is allowed if everything that it can match is: the reference server takes the wildcards of a
//! subscription for plain tokens, so that `foo.>` slips through `foo.*`. Source: section "Authorization" of the NATS
//! documentation, as the reference server applies it.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use crate::config::options::{Permissions, ResponseRule};
use crate::limits;
use crate::subject;

/// The permissions of a user, ready for use; shared by all its connections.
#[derive(Debug, Default)]
pub struct Rules {
    publish_allow: Option<Vec<Box<[u8]>>>,
    publish_deny: Vec<Box<[u8]>>,
    subscribe_allow: Option<Vec<Rule>>,
    subscribe_deny: Vec<Rule>,
    responses: Option<ResponseRule>,
    /// As they were configured.
    source: Arc<Permissions>,
}

/// A subject to subscribe to, in any way or in certain queue groups.
#[derive(Debug)]
struct Rule {
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
}

/// Whether a subscription is allowed, and at what price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// No.
    Refused,
    /// Yes, and deliveries need no further thought.
    Free,
    /// Yes, and each delivery has to be [checked](Guard::lets_in) and [noted](Guard::delivered).
    Guarded,
}

impl Rules {
    /// The rules that a configuration states.
    #[must_use]
    pub fn new(source: &Arc<Permissions>) -> Self {
        let subjects = |list: &Vec<String>| list.iter().map(|it| it.as_bytes().into()).collect();
        let rules = |list: &Vec<String>| list.iter().map(|it| Rule::new(it)).collect();
        Rules {
            publish_allow: source.publish.allow.as_ref().map(subjects),
            publish_deny: subjects(&source.publish.deny),
            subscribe_allow: source.subscribe.allow.as_ref().map(rules),
            subscribe_deny: rules(&source.subscribe.deny),
            responses: source.allow_responses,
            source: Arc::clone(source),
        }
    }

    /// The permissions as they were configured.
    #[must_use]
    pub fn source(&self) -> &Arc<Permissions> {
        &self.source
    }

    /// Whether the lists let one publish to `subject`. Wildcards in it are plain tokens.
    fn lists_publish(&self, subject: &[u8]) -> bool {
        let has = |list: &[Box<[u8]>]| list.iter().any(|it| subject::matches(it, subject));
        self.publish_allow.as_deref().is_none_or(has) && !has(&self.publish_deny)
    }

    /// Whether one may subscribe to `subject`, in `queue` if one is named.
    #[must_use]
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> Admission {
        let is_allowed = match &self.subscribe_allow {
            None => true,
            Some(rules) => subject::has_no_empty_token(subject) && allows(rules, subject, queue),
        };
        let is_denied =
            |rule: &Rule| rule.is_for(queue) && subject::matches(&rule.subject, subject);
        if !is_allowed || self.subscribe_deny.iter().any(is_denied) {
            return Admission::Refused;
        }
        let overlaps = |rule: &Rule| rule.is_for(queue) && subject::overlap(&rule.subject, subject);
        if self.responses.is_some() || self.subscribe_deny.iter().any(overlaps) {
            Admission::Guarded
        } else {
            Admission::Free
        }
    }

    /// Whether a deny for plain subscriptions matches.
    fn denies(&self, subject: &[u8]) -> bool {
        let plain = self.subscribe_deny.iter().filter(|it| it.queue.is_none());
        plain
            .into_iter()
            .any(|it| subject::matches(&it.subject, subject))
    }

    /// Whether a deny for this queue group matches.
    fn denies_in(&self, subject: &[u8], queue: &[u8]) -> bool {
        let queued = self.subscribe_deny.iter().filter(|it| it.queue.is_some());
        queued
            .into_iter()
            .any(|it| it.is_for(Some(queue)) && subject::matches(&it.subject, subject))
    }
}

/// A queue rule for the subject, if there is one, must have the group; else the plain rules decide.
fn allows(rules: &[Rule], subject: &[u8], queue: Option<&[u8]>) -> bool {
    let mut covering = rules
        .iter()
        .filter(|rule| subject::is_subset(subject, &rule.subject));
    let has_plain = covering.clone().any(|rule| rule.queue.is_none());
    match queue {
        None => has_plain,
        Some(_) if covering.clone().all(|rule| rule.queue.is_none()) => has_plain,
        Some(_) => covering.any(|rule| rule.queue.is_some() && rule.is_for(queue)),
    }
}

impl Rule {
    /// From `subject` or `subject queue`.
    fn new(text: &str) -> Self {
        let mut words = text.split_ascii_whitespace().map(|it| it.as_bytes().into());
        Rule {
            subject: words.next().unwrap_or_default(),
            queue: words.next(),
        }
    }

    /// Whether it speaks of subscriptions in this group, or of plain ones if there is none.
    fn is_for(&self, queue: Option<&[u8]>) -> bool {
        match (&self.queue, queue) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(pattern), Some(queue)) => subject::is_subset(queue, pattern),
        }
    }
}

/// The rules of one connection, with what it was asked lately and what it may answer.
///
/// Its checks stay out of line: the paths that they stand in are those of connections without permissions too.
#[derive(Debug)]
pub struct Guard {
    rules: Arc<Rules>,
    publish: Memo,
    deliver: Memo,
    permits: Permits,
}

impl Guard {
    /// For a connection with these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Guard {
            rules,
            publish: Memo::default(),
            deliver: Memo::default(),
            permits: Permits::default(),
        }
    }

    /// The same connection under other rules: what it may answer stays, as far as answers are allowed at all.
    #[must_use]
    pub fn renewed(self, rules: Arc<Rules>) -> Self {
        Guard {
            permits: self.permits,
            ..Guard::new(rules)
        }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Whether the connection may publish to `subject` now. Uses up a permit to answer, where only that allows it.
    #[inline(never)]
    pub fn may_publish(&mut self, subject: &[u8], now: Instant) -> bool {
        self.lists_publish(subject)
            || self
                .rules
                .responses
                .is_some_and(|rule| self.permits.take(subject, rule, now))
    }

    /// Whether a message may be delivered to one of its guarded subscriptions.
    #[inline(never)]
    pub fn lets_in(&mut self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let rules = &self.rules;
        if rules.subscribe_deny.is_empty() {
            return true;
        }
        !self.deliver.recall(subject, || rules.denies(subject))
            && queue.is_none_or(|queue| !rules.denies_in(subject, queue))
    }

    /// Notes that a message with this reply was delivered: its receiver may be allowed to answer.
    #[inline(never)]
    pub fn delivered(&mut self, reply: &[u8], now: Instant) {
        let Some(rule) = self.rules.responses else {
            return;
        };
        if !reply.is_empty() && !self.lists_publish(reply) {
            self.permits.grant(reply, rule, now);
        }
    }

    fn lists_publish(&mut self, subject: &[u8]) -> bool {
        let rules = &self.rules;
        self.publish
            .recall(subject, || rules.lists_publish(subject))
    }
}

/// The last answers to one question about subjects. Never more than a few KiB.
#[derive(Debug, Default)]
struct Memo {
    hasher: RandomState,
    places: Vec<(Vec<u8>, bool)>,
}

impl Memo {
    /// The answer for `subject`, asked anew if it is not known.
    fn recall(&mut self, subject: &[u8], ask: impl FnOnce() -> bool) -> bool {
        if subject.len() > limits::REMEMBERED_SUBJECT_BYTES_MAX {
            return ask();
        }
        if self.places.is_empty() {
            self.places
                .resize_with(limits::REMEMBERED_SUBJECTS, Default::default);
        }
        let count = self.places.len() as u64;
        let at = usize::try_from(self.hasher.hash_one(subject) % count).unwrap_or(0);
        let Some((known, answer)) = self.places.get_mut(at) else {
            return ask();
        };
        // A place that nobody has used holds the empty subject, which is nobody's.
        if known != subject || subject.is_empty() {
            *answer = ask();
            known.clear();
            known.extend_from_slice(subject);
        }
        *answer
    }
}

/// Reply subjects that may be published to, because a message that names them was delivered.
#[derive(Debug, Default)]
struct Permits {
    known: HashMap<Arc<[u8]>, Permit, RandomState>,
    /// In the order they were granted; older grants of the same subject are there too.
    order: VecDeque<(Arc<[u8]>, u64)>,
    /// Bytes of subjects in `order`.
    bytes: usize,
    next_serial: u64,
}

#[derive(Debug)]
struct Permit {
    serial: u64,
    granted: Instant,
    used: u32,
}

impl Permits {
    /// Grants a permit, or renews it. The oldest go when there are too many.
    fn grant(&mut self, reply: &[u8], rule: ResponseRule, now: Instant) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let permit = Permit {
            serial,
            granted: now,
            used: 0,
        };
        let subject: Arc<[u8]> = reply.into();
        self.bytes += subject.len();
        self.order.push_back((Arc::clone(&subject), serial));
        self.known.insert(subject, permit);
        while let Some((oldest, serial)) = self.order.front() {
            let permit = self.known.get(oldest).filter(|it| it.serial == *serial);
            let is_over = permit.is_none_or(|it| it.is_expired(rule, now));
            let are_too_many = self.order.len() > limits::RESPONSE_PERMITS_MAX
                || self.bytes > limits::RESPONSE_PERMIT_BYTES_MAX;
            if !is_over && !are_too_many {
                return;
            }
            if permit.is_some() {
                self.known.remove(oldest);
            }
            self.bytes -= oldest.len();
            self.order.pop_front();
        }
    }

    /// Uses a permit; false if there is none.
    fn take(&mut self, subject: &[u8], rule: ResponseRule, now: Instant) -> bool {
        let Some(permit) = self.known.get_mut(subject) else {
            return false;
        };
        let is_used_up = rule.max.is_some_and(|max| permit.used >= max);
        if is_used_up || permit.is_expired(rule, now) {
            self.known.remove(subject);
            return false;
        }
        permit.used = permit.used.saturating_add(1);
        true
    }
}

impl Permit {
    fn is_expired(&self, rule: ResponseRule, now: Instant) -> bool {
        rule.expires
            .is_some_and(|span| now.saturating_duration_since(self.granted) > span)
    }
}

#[cfg(test)]
mod tests;
