//! Ways back from a service to those who asked it from another account.
//!
//! A request that crosses into the service's account gets a reply subject that means something there and to nobody else:
//!
//! ```text
//! _R_.k3VxQ0.b8Zt1mPq0aY   ─►   the requester's account, and the reply subject it gave
//!     └─────┘ the worker that keeps this
//! ```
//!
//! One table for each worker, for the requests of its own connections; in the trie of the service's account one wildcard
//! subscription stands for all of it. Names cannot be guessed, and what nobody answers goes after a while. An account that
//! asks too much loses its own ways back and nobody else's.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::config::options::ResponseType;
use crate::limits;
use crate::sublist::SubRef;

/// The slot by which a trie refers to a worker's table.
const SLOT: u32 = u32::MAX;
/// What all names begin with.
const BEGINNING: &[u8] = b"_R_.";
/// Characters for numbers.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// One way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// The account of the service.
    pub service: u32,
    /// The account of the requester.
    pub account: u32,
    /// The reply subject it gave.
    pub reply: Box<[u8]>,
    /// How many answers there are.
    pub response: ResponseType,
    /// Time for them.
    pub threshold: Duration,
    /// When it was opened.
    pub opened: Instant,
}

/// What one account has open.
#[derive(Debug, Default)]
struct Share {
    /// In the order of opening; those closed since are there too, for a while.
    order: VecDeque<u64>,
    open: usize,
    /// Bytes of reply subjects.
    bytes: usize,
}

/// A worker's table. See the module's documentation.
#[derive(Debug)]
pub struct Replies {
    /// `_R_.k3VxQ0.`
    prefix: Vec<u8>,
    open: HashMap<u64, WayBack, foldhash::fast::RandomState>,
    /// By the account of the requester.
    shares: HashMap<u32, Share, foldhash::fast::RandomState>,
    /// Makes names of numbers: keyed by the system's random numbers.
    names: RandomState,
    next: u64,
    /// Accounts whose tries have the wildcard.
    present: Vec<u32>,
}

impl Default for Replies {
    fn default() -> Self {
        let names = RandomState::new();
        let mut prefix = BEGINNING.to_vec();
        let mut digits = Vec::new();
        write(names.hash_one("prefix"), &mut digits);
        prefix.extend(digits.iter().take(6));
        prefix.push(b'.');
        Replies {
            prefix,
            open: HashMap::default(),
            shares: HashMap::default(),
            names,
            next: 0,
            present: Vec::new(),
        }
    }
}

impl Replies {
    /// Whether a reference of this worker stands for its table.
    #[must_use]
    pub fn is_meant(sub: SubRef) -> bool {
        sub.slot == SLOT
    }

    /// The subject and the reference to subscribe for this table in an account, the first time it is needed there.
    pub fn introduce(&mut self, account: u32, worker: u16) -> Option<(Vec<u8>, SubRef)> {
        if self.present.contains(&account) {
            return None;
        }
        self.present.push(account);
        let mut subject = self.prefix.clone();
        subject.push(b'>');
        let sub = SubRef {
            worker,
            slot: SLOT,
            serial: 0,
        };
        Some((subject, sub))
    }

    /// Opens a way back, and appends its name to `out`. The account's oldest one goes if it has too many.
    pub fn open(&mut self, way: WayBack, out: &mut Vec<u8>) {
        self.prune(way.account, way.opened);
        let id = loop {
            let id = self.names.hash_one(self.next);
            self.next = self.next.wrapping_add(1);
            if !self.open.contains_key(&id) {
                break id;
            }
        };
        let share = self.shares.entry(way.account).or_default();
        share.open += 1;
        share.bytes += way.reply.len();
        share.order.push_back(id);
        self.open.insert(id, way);
        out.extend_from_slice(&self.prefix);
        write(id, out);
    }

    /// What a message to the name `subject` in the account of a service is an answer to; `is_last` of it closes the
    /// way, as does any answer where there is only one.
    pub fn answer(
        &mut self,
        subject: &[u8],
        service: u32,
        is_last: bool,
        now: Instant,
    ) -> Option<WayBack> {
        let id = self.id(subject)?;
        let way = self.open.get(&id).filter(|it| it.service == service)?;
        let is_over = now.saturating_duration_since(way.opened) > way.threshold;
        if is_over || is_last || way.response == ResponseType::Single {
            return self.close_id(id).filter(|_| !is_over);
        }
        Some(way.clone())
    }

    /// The way back of this name, if it is open.
    #[must_use]
    pub fn find(&self, subject: &[u8]) -> Option<&WayBack> {
        self.open.get(&self.id(subject)?)
    }

    /// Closes a way that leads from nobody.
    pub fn close(&mut self, subject: &[u8]) {
        if let Some(id) = self.id(subject) {
            self.close_id(id);
        }
    }

    /// Ways that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn close_id(&mut self, id: u64) -> Option<WayBack> {
        let way = self.open.remove(&id)?;
        if let Some(share) = self.shares.get_mut(&way.account) {
            share.open -= 1;
            share.bytes -= way.reply.len();
            if share.open == 0 {
                share.order.clear();
                share.order.shrink_to(limits::WAYS_BACK_KEPT);
            }
        }
        if self.open.is_empty() {
            self.open.shrink_to(limits::WAYS_BACK_KEPT);
        }
        Some(way)
    }

    /// Makes room for one more of an account: what is over goes from the front, and the oldest if there are too many.
    fn prune(&mut self, account: u32, now: Instant) {
        while let Some(share) = self.shares.get_mut(&account) {
            let Some(&id) = share.order.front() else {
                return;
            };
            let way = self.open.get(&id);
            let is_over =
                way.is_none_or(|it| now.saturating_duration_since(it.opened) > it.threshold);
            let are_too_many =
                share.open >= limits::WAYS_BACK_MAX || share.bytes >= limits::WAY_BACK_BYTES_MAX;
            if !is_over && !are_too_many {
                // One that stays open for long must not keep all that were closed behind it.
                if share.order.len() > 2 * share.open + limits::WAYS_BACK_KEPT {
                    share.order.retain(|id| self.open.contains_key(id));
                }
                return;
            }
            share.order.pop_front();
            self.close_id(id);
        }
    }

    fn id(&self, subject: &[u8]) -> Option<u64> {
        read(subject.strip_prefix(self.prefix.as_slice())?)
    }
}

/// Appends a number, the lowest digit first.
fn write(mut number: u64, out: &mut Vec<u8>) {
    const BASE: u64 = DIGITS.len() as u64;
    for _ in 0..limits::WAY_BACK_DIGITS {
        let digit = usize::try_from(number % BASE).unwrap_or(0);
        out.push(DIGITS[digit]);
        number /= BASE;
    }
}

fn read(text: &[u8]) -> Option<u64> {
    if text.len() != limits::WAY_BACK_DIGITS {
        return None;
    }
    text.iter().rev().try_fold(0_u64, |number, byte| {
        let digit = DIGITS.iter().position(|digit| digit == byte)?;
        number
            .checked_mul(DIGITS.len() as u64)?
            .checked_add(digit as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(reply: &str, response: ResponseType, opened: Instant) -> WayBack {
        WayBack {
            service: 1,
            account: 2,
            reply: reply.as_bytes().into(),
            response,
            threshold: Duration::from_secs(1),
            opened,
        }
    }

    fn open(replies: &mut Replies, way: WayBack) -> Vec<u8> {
        let mut name = Vec::new();
        replies.open(way, &mut name);
        name
    }

    #[test]
    fn one_answer_closes_a_way_and_many_do_not_until_the_last() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let single = open(&mut replies, way("r", ResponseType::Single, now));
        assert!(
            replies.answer(&single, 9, false, now).is_none(),
            "another account"
        );
        assert_eq!(
            &*replies.answer(&single, 1, false, now).unwrap().reply,
            b"r"
        );
        assert!(replies.answer(&single, 1, false, now).is_none());
        let stream = open(&mut replies, way("s", ResponseType::Stream, now));
        for is_last in [false, false, true] {
            assert!(replies.answer(&stream, 1, is_last, now).is_some());
        }
        assert!(replies.answer(&stream, 1, false, now).is_none() && replies.is_empty());
    }

    #[test]
    fn late_answers_and_other_names_lead_nowhere() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let name = open(&mut replies, way("r", ResponseType::Stream, now));
        for other in [&b"_R_."[..], b"_R_.x.y", b"", &name[..name.len() - 1]] {
            assert!(replies.answer(other, 1, false, now).is_none());
        }
        let late = now + Duration::from_secs(2);
        assert!(replies.answer(&name, 1, false, late).is_none() && replies.is_empty());
    }

    #[test]
    fn requests_that_nobody_answers_take_bounded_room() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let first = open(&mut replies, way("first", ResponseType::Single, now));
        for _ in 0..2 * limits::WAYS_BACK_MAX {
            let name = open(&mut replies, way("r", ResponseType::Single, now));
            assert_ne!(name, first);
        }
        assert!(replies.len() <= limits::WAYS_BACK_MAX);
        assert!(replies.answer(&first, 1, false, now).is_none());
        let later = now + Duration::from_secs(2);
        open(&mut replies, way("r", ResponseType::Single, later));
        let share = &replies.shares[&2];
        assert_eq!((share.open, share.order.len(), share.bytes), (1, 1, 1));
    }

    #[test]
    fn who_asks_too_much_loses_nothing_of_others() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let modest = WayBack {
            account: 3,
            ..way("modest", ResponseType::Single, now)
        };
        let name = open(&mut replies, modest);
        let long = "r".repeat(4000);
        for _ in 0..2 * limits::WAYS_BACK_MAX {
            open(&mut replies, way(&long, ResponseType::Single, now));
        }
        assert!(replies.shares[&2].bytes <= limits::WAY_BACK_BYTES_MAX + long.len());
        assert!(replies.answer(&name, 1, false, now).is_some());
    }

    #[test]
    fn answered_requests_behind_an_open_one_leave_nothing() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        open(&mut replies, way("open", ResponseType::Single, now));
        for _ in 0..10_000 {
            let name = open(&mut replies, way("r", ResponseType::Single, now));
            assert!(replies.answer(&name, 1, false, now).is_some());
        }
        assert!(replies.shares[&2].order.len() <= 2 * limits::WAYS_BACK_KEPT + 4);
    }
}
