//! Feeds arbitrary bytes of several peers, taking turns, to the engines of two workers that share a broker.
//!
//! The input is cut at bytes 0xFF into pieces. The first byte of a piece says what to do: the rest comes from some peer,
//! or a peer leaves, or letters are delivered, or some peer's outlet gets full or empty again, or a reload changes who may
//! do what. Both engines have a peer in each slot. Whatever the bytes are: nothing panics, all that is sent is
//! well-formed, the tables agree with each other, and when all peers have left they are empty.

#![no_main]
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use midge::Options;
use midge::broker::Broker;
use midge::config::{self, Nothing};
use midge::engine::{Delivery, End, Engine, Letter, Peer, Sink};
use midge::net::mailbox::{Batch, Origin};
use midge::proto::encode::Message;
use midge::proto::error::ParseError;
use midge::proto::frame::Frame;
use midge::proto::info::ServerInfo;
use midge::session::{Authenticator, Client, Context, Violation};

const WORKERS: usize = 2;
/// Peers of each worker.
const PEERS: usize = 3;
/// Bytes of an input that are looked at: a few of them can make a lot of deliveries.
const INPUT_MAX: usize = 8192;
/// Letters on the way at once; more are lost, as if the worker were gone.
const LETTERS_MAX: usize = 1000;

/// Who may do what, before a reload and after it. Those without credentials are somebody too.
const CONFS: [&str; 6] = [
    "",
    "no_auth_user: u, authorization {users: [{user: u, permissions: {subscribe: {deny: [b, \"c.*\"]}, publish: [a, \"c.>\"]}}]}",
    "no_auth_user: u, authorization {users: [{user: u, permissions: {subscribe: [a, \"a.* q\"], allow_responses: true}}]}",
    "no_auth_user: u, authorization {users: [{user: u}, {user: v, password: p}]}",
    "no_auth_user: u, accounts {A {users: [{user: u}], limits: {max_connections: 3, max_payload: 4}}}",
    "authorization {user: u, password: p}",
];

static RELOADS: LazyLock<Vec<Options>> = LazyLock::new(|| {
    let options = |conf| config::parse_str("c.conf", conf, &Nothing).map(|it| it.options);
    let all: Result<Vec<Options>, _> = CONFS.into_iter().map(options).collect();
    all.expect("these are valid")
});

struct World {
    engines: Vec<Engine>,
    /// By worker, with what was received and not consumed.
    peers: Vec<Vec<(Peer, Vec<u8>)>>,
    outlets: Outlets,
    broker: Arc<Broker>,
    options: Options,
    info: ServerInfo,
    auth: Authenticator,
    now: Instant,
    next_id: u64,
}

struct Outlets {
    /// Whose bytes are being worked off.
    origin: Origin,
    worker: usize,
    letters: Vec<VecDeque<Batch>>,
    /// What comes of deliveries, by worker and connection.
    state: [[Option<Delivery>; PEERS]; WORKERS],
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.get(..INPUT_MAX).unwrap_or(input).split_first() else {
        return;
    };
    let mut world = World::new(choice);
    for piece in rest.split(|&byte| byte == 0xFF) {
        if let Some((&first, bytes)) = piece.split_first() {
            world.step(usize::from(first), bytes);
            world.check();
        }
    }
    world.end();
});

impl World {
    fn new(choice: u8) -> Self {
        let broker = Arc::new(Broker::default());
        let engine = |worker| Engine::new(Arc::clone(&broker), worker, choice.into());
        let mut world = World {
            engines: (0..2).map(engine).collect(),
            peers: (0..WORKERS).map(|_| Vec::new()).collect(),
            outlets: Outlets {
                origin: Origin {
                    worker: 0,
                    conn: 0,
                    serial: 0,
                },
                worker: 0,
                letters: (0..WORKERS).map(|_| VecDeque::new()).collect(),
                state: Default::default(),
            },
            broker: Arc::clone(&broker),
            options: Options {
                max_subscriptions: (choice & 1 > 0).then_some(3),
                max_subscription_tokens: (choice & 2 > 0).then_some(2),
                max_control_line: if choice & 4 > 0 { 64 } else { 4096 },
                max_payload: if choice & 8 > 0 { 8 } else { 1 << 20 },
                no_header_support: choice & 16 > 0,
                ..Options::default()
            },
            info: ServerInfo::default(),
            auth: Authenticator::new(&Options::default()),
            now: Instant::now(),
            next_id: 0,
        };
        for worker in 0..WORKERS {
            for conn in 0..PEERS {
                let peer = world.peer(conn);
                world.peers[worker].push((peer, Vec::new()));
            }
        }
        world
    }

    /// A fresh peer for a slot.
    fn peer(&mut self, conn: usize) -> Peer {
        self.next_id += 1;
        let session = Client::new(self.next_id, ([127, 0, 0, 1], 1).into());
        Peer::client(u32::try_from(conn).expect("few peers"), session)
    }

    fn step(&mut self, first: usize, bytes: &[u8]) {
        let (worker, conn) = (first % WORKERS, first / WORKERS % PEERS);
        self.outlets.worker = worker;
        match first / (WORKERS * PEERS) % 10 {
            0 => self.leave(worker, conn),
            1 => self.receive(worker),
            2 => {
                let state = &mut self.outlets.state[worker][conn];
                *state = match state {
                    None => Some(Delivery::Filling),
                    Some(Delivery::Filling) => Some(Delivery::Refused),
                    Some(_) => None,
                };
            }
            3 => self.reload(bytes.first().copied().unwrap_or(0)),
            _ => self.feed(worker, conn, bytes),
        }
    }

    fn feed(&mut self, worker: usize, conn: usize, bytes: &[u8]) {
        let context = Context {
            options: &self.options,
            info: &self.info,
            auth: &self.auth,
            now: self.now,
        };
        self.outlets.origin = origin(worker, &self.peers[worker][conn].0);
        let (peer, kept) = &mut self.peers[worker][conn];
        kept.extend_from_slice(bytes);
        loop {
            let fed = self.engines[worker].feed(peer, kept, &context, &mut self.outlets);
            kept.drain(..fed.consumed);
            match fed.end {
                End::Starved => {
                    let wanted = peer.wanted();
                    assert!(wanted == 0 || kept.len() < wanted);
                    let bound = self.options.max_control_line + 8;
                    assert!(wanted > 0 || kept.len() <= bound);
                    return;
                }
                End::Pause => assert!(fed.consumed > 0, "a pause comes with progress"),
                End::Verify => unreachable!("no password is a hash here"),
                End::Wait | End::Compress => unreachable!("no peer is a server here"),
                End::Close(_) => return self.leave(worker, conn),
            }
        }
    }

    /// Other users, permissions and accounts: each peer is judged anew.
    fn reload(&mut self, choice: u8) {
        let options = &RELOADS[usize::from(choice) % RELOADS.len()];
        let auth = self.auth.renewed(options);
        let broker = self.broker.renewed(auth.names_and_limits());
        self.broker = Arc::new(broker.planned(options));
        let old = std::mem::replace(&mut self.auth, auth);
        for worker in 0..WORKERS {
            self.outlets.worker = worker;
            self.engines[worker].set_broker(Arc::clone(&self.broker));
            for conn in 0..PEERS {
                let context = Context {
                    options: &self.options,
                    info: &self.info,
                    auth: &self.auth,
                    now: self.now,
                };
                let (peer, _) = &mut self.peers[worker][conn];
                self.outlets.origin = origin(worker, peer);
                let engine = &mut self.engines[worker];
                if engine
                    .review(peer, &old, &context, &mut self.outlets)
                    .is_err()
                {
                    self.leave(worker, conn);
                }
            }
        }
    }

    /// The peer is gone, and another one takes its slot.
    fn leave(&mut self, worker: usize, conn: usize) {
        let fresh = self.peer(conn);
        let (mut gone, _) = std::mem::replace(&mut self.peers[worker][conn], (fresh, Vec::new()));
        self.engines[worker].part(&mut gone);
        assert_eq!(self.engines[worker].subscriptions.count_of(gone.conn()), 0);
    }

    /// The oldest letter arrives.
    fn receive(&mut self, worker: usize) {
        let Some(batch) = self.outlets.letters[worker].pop_front() else {
            return;
        };
        batch.for_each(|from, letter| {
            self.outlets.origin = from;
            let (there, _) = &self.peers[worker][from.conn as usize];
            let publisher = (from == origin(worker, there)).then_some(from.conn);
            self.engines[worker].receive(letter, publisher, self.now, &mut self.outlets);
        });
    }

    /// The tables agree with each other, and with the trie.
    fn check(&mut self) {
        let mut all = 0;
        for engine in &mut self.engines {
            let mut sum = 0;
            for conn in 0..PEERS {
                let conn = u32::try_from(conn).expect("few peers");
                let (count, mut seen) = (engine.subscriptions.count_of(conn), 0);
                engine.subscriptions.for_each_of(conn, |subscription| {
                    assert!(subscription.conn == conn && subscription.node.is_some());
                    assert!(
                        subscription.max == 0
                            || subscription.delivered < u64::from(subscription.max)
                    );
                    seen += 1;
                });
                assert_eq!(count, seen);
                assert_eq!(engine.subscriptions.first_of(conn).is_some(), count > 0);
                assert!(
                    self.options
                        .max_subscriptions
                        .is_none_or(|max| count <= max)
                );
                sum += count;
            }
            assert_eq!(engine.subscriptions.len(), sum);
            all += sum;
        }
        assert_eq!(self.standing(), all);
    }

    /// Subscriptions in all tries.
    fn standing(&self) -> usize {
        let accounts = (0..).map_while(|index| self.broker.account(index));
        let lens = accounts.map(|account| account.trie.read().expect("no panic").len());
        lens.sum()
    }

    /// All leave, and what is on the way arrives at nobody.
    fn end(mut self) {
        for worker in 0..WORKERS {
            for conn in 0..PEERS {
                self.leave(worker, conn);
            }
        }
        for worker in (0..WORKERS).cycle() {
            if self.outlets.letters.iter().all(VecDeque::is_empty) {
                break;
            }
            self.outlets.worker = worker;
            self.receive(worker);
        }
        assert!(
            self.engines
                .iter()
                .all(|engine| engine.subscriptions.is_empty())
        );
        assert_eq!(self.standing(), 0);
    }
}

/// A peer, as workers name it.
fn origin(worker: usize, peer: &Peer) -> Origin {
    Origin {
        worker: u16::try_from(worker).expect("few workers"),
        conn: peer.conn(),
        serial: u32::try_from(peer.id()).expect("few peers"),
    }
}

impl Sink for Outlets {
    fn reply(&mut self, conn: u32, bytes: &[u8]) {
        assert!(
            self.state[self.worker].get(conn as usize).is_some(),
            "a peer of this worker"
        );
        assert!(bytes.ends_with(b"\r\n"));
        let starts = [&b"+OK\r\n"[..], b"PONG\r\n", b"-ERR '", b"INFO {", b"HMSG "];
        assert!(
            starts.iter().any(|start| bytes.starts_with(start)),
            "{}",
            bytes.escape_ascii()
        );
    }

    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery {
        let state = self.state[self.worker][conn as usize].unwrap_or(Delivery::Taken);
        if state == Delivery::Refused {
            return state;
        }
        let mut line = Vec::new();
        let rest = message.head(sid, headers, &mut line);
        line.extend_from_slice(rest.get(..100).unwrap_or(rest));
        let verb: &[u8] = if headers && message.header_len() > 0 {
            b"HMSG "
        } else {
            b"MSG "
        };
        let start = [verb, message.subject(), b" ", sid, b" "].concat();
        assert!(line.starts_with(&start) && rest.ends_with(b"\r\n"));
        assert!(message.header_len() + 2 <= message.body().len());
        state
    }

    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery {
        let letters = &mut self.letters[usize::from(worker)];
        assert_ne!(usize::from(worker), self.worker, "letters go to others");
        if letters.len() < LETTERS_MAX {
            let mut batch = Batch::default();
            batch.push(self.origin, letter);
            letters.push_back(batch);
        }
        if letters.len() % 64 == 63 {
            Delivery::Filling
        } else {
            Delivery::Taken
        }
    }

    fn give_back(&mut self, letter: &Letter<'_>) {
        if usize::from(self.origin.worker) != self.worker {
            self.forward(letter, self.origin.worker);
        }
    }

    fn on_frame(&mut self, session: &Client, frame: &Frame<'_>) {
        assert!(!format!("{session} {frame:?}").is_empty());
    }

    fn on_refusal(&mut self, _: &Client, violation: &Violation<'_>) {
        let told = violation.wire_text();
        assert!(!told.contains(['\r', '\n']) && !violation.to_string().contains('\n'));
    }

    fn on_parse_error(&mut self, _: &dyn fmt::Display, error: &ParseError) {
        assert!(!error.to_string().contains('\n'));
    }
}
