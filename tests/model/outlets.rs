//! Where the engines' output goes: everything is kept, in order, for the rules to look at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use midge::engine::{Delivery, Letter, Sink, To};
use midge::net::mailbox::{Batch, Origin};
use midge::proto::encode::Message;
use midge::proto::error::ParseError;
use midge::proto::frame::Frame;
use midge::rng::Rng;
use midge::session::{Client, Violation};

use crate::tunnel::Tunnel;

/// A connection: its worker, and its slot there.
pub(crate) type Place = (u16, u32);

/// Something that a connection was sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Answers of its session, run together.
    Reply(Vec<u8>),
    /// A message, by the number at the start of its payload.
    Delivery(u64, Vec<u8>),
}

/// A letter on its way.
pub(crate) struct Forwarded {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) id: u64,
    pub(crate) tried: u64,
    pub(crate) asks: bool,
    pub(crate) addressees: Addressees,
    /// The letter itself, in the form in which workers hand it over.
    pub(crate) batch: Batch,
}

/// For whom a letter is, as far as the rules can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Addressees {
    /// So many plain subscriptions.
    Each(usize),
    /// One of a queue group.
    Member(String),
    /// Its publisher, who learns that nobody got it.
    Nobody,
}

pub(crate) struct Outlets {
    /// Whose bytes are being worked off.
    pub(crate) origin: Origin,
    /// The worker at work.
    pub(crate) worker: u16,
    pub(crate) sent: BTreeMap<Place, VecDeque<Sent>>,
    pub(crate) forwarded: Vec<Forwarded>,
    /// Connections that take no message.
    pub(crate) refusing: BTreeSet<Place>,
    /// Through which connections are sent what they are sent.
    pub(crate) tunnels: BTreeMap<Place, Tunnel>,
    rng: Rng,
}

impl Outlets {
    pub(crate) fn new(seed: u64) -> Self {
        Outlets {
            origin: Origin {
                worker: 0,
                conn: 0,
                serial: 0,
            },
            worker: 0,
            sent: BTreeMap::new(),
            forwarded: Vec::new(),
            refusing: BTreeSet::new(),
            tunnels: BTreeMap::new(),
            rng: Rng::seeded(seed),
        }
    }

    /// Takes these bytes from the front of what a connection was answered.
    pub(crate) fn take_reply(&mut self, place: Place, expected: &[u8]) -> Result<(), String> {
        if expected.is_empty() {
            return Ok(());
        }
        let sent = self.sent.entry(place).or_default();
        if let Some(Sent::Reply(bytes)) = sent.front_mut() {
            if bytes.starts_with(expected) {
                bytes.drain(..expected.len());
                if bytes.is_empty() {
                    sent.pop_front();
                }
                return Ok(());
            }
        }
        let (expected, sent) = (expected.escape_ascii(), sent.front());
        Err(format!("{place:?} expects {expected}, has {sent:?}"))
    }

    /// Takes the deliveries of one message from the front of what each connection was sent.
    pub(crate) fn take_deliveries(&mut self, id: u64) -> Vec<(Place, Vec<u8>)> {
        let mut taken = Vec::new();
        for (&place, sent) in &mut self.sent {
            while matches!(sent.front(), Some(Sent::Delivery(its, _)) if *its == id) {
                if let Some(Sent::Delivery(_, bytes)) = sent.pop_front() {
                    taken.push((place, bytes));
                }
            }
        }
        taken
    }

    /// Takes the letters about one message.
    pub(crate) fn take_letters(&mut self, id: u64) -> Vec<Forwarded> {
        let (taken, left) = std::mem::take(&mut self.forwarded)
            .into_iter()
            .partition(|letter| letter.id == id);
        self.forwarded = left;
        taken
    }

    /// What arrives of what a connection is sent.
    fn carried(&mut self, place: Place, bytes: &[u8]) -> Vec<u8> {
        match self.tunnels.get_mut(&place) {
            Some(tunnel) => tunnel.send(bytes),
            None => bytes.to_vec(),
        }
    }

    /// Whether a connection would be slow now: a chance of one in many.
    fn verdict(&mut self) -> Delivery {
        match self.rng.below(12) {
            0 => Delivery::Filling,
            _ => Delivery::Taken,
        }
    }
}

impl Sink for Outlets {
    fn reply(&mut self, conn: u32, bytes: &[u8]) {
        let place = (self.worker, conn);
        let bytes = self.carried(place, bytes);
        let sent = self.sent.entry(place).or_default();
        match sent.back_mut() {
            Some(Sent::Reply(last)) => last.extend_from_slice(&bytes),
            _ => sent.push_back(Sent::Reply(bytes)),
        }
    }

    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery {
        let place = (self.worker, conn);
        if self.refusing.contains(&place) {
            return Delivery::Refused;
        }
        let mut bytes = Vec::new();
        let rest = message.head(sid, headers, &mut bytes);
        bytes.extend_from_slice(rest);
        let bytes = self.carried(place, &bytes);
        let sent = self.sent.entry(place).or_default();
        sent.push_back(Sent::Delivery(id_of(message), bytes));
        self.verdict()
    }

    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery {
        let mut batch = Batch::default();
        batch.push(self.origin, letter);
        self.forwarded.push(Forwarded {
            from: self.worker,
            to: worker,
            id: id_of(letter.message),
            tried: letter.tried,
            asks: letter.asks,
            addressees: match letter.to {
                To::Each(subs) => Addressees::Each(subs.len()),
                To::Routes(_) | To::Groups { .. } => unreachable!("there is no other server"),
                To::Member { group, .. } => {
                    Addressees::Member(String::from_utf8_lossy(group).into_owned())
                }
                To::Nobody => Addressees::Nobody,
            },
            batch,
        });
        self.verdict()
    }

    fn give_back(&mut self, letter: &Letter<'_>) {
        if self.origin.worker != self.worker {
            self.forward(letter, self.origin.worker);
        }
    }

    fn on_frame(&mut self, _: &Client, _: &Frame<'_>) {}

    fn on_refusal(&mut self, _: &Client, _: &Violation<'_>) {}

    fn on_parse_error(&mut self, _: &dyn fmt::Display, _: &ParseError) {}
}

/// The number at the start of a payload.
fn id_of(message: &Message<'_>) -> u64 {
    let payload = message
        .body()
        .get(message.header_len()..)
        .unwrap_or_default();
    let digits = payload.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}
