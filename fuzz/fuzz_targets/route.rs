//! Feeds arbitrary bytes of two other servers, taking turns with a client, to an engine.
//!
//! The input is cut at bytes 0xFF into pieces; the first byte of a piece says whose the rest is. A server that has
//! introduced itself is admitted. Whatever the bytes are: nothing panics, all that is sent is whole lines or a message,
//! what is kept is bounded, and when all have left the tries are empty.

#![no_main]
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use midge::Options;
use midge::broker::Broker;
use midge::engine::{Delivery, End, Engine, Letter, Peer, Sink};
use midge::proto::encode::Message;
use midge::proto::error::ParseError;
use midge::proto::frame::Frame;
use midge::proto::info::ServerInfo;
use midge::proto::route::{RouteFrame, RouteInfo, message_head};
use midge::session::{
    Authenticator, Client, ClusterFacts, Context, Dial, Route, RouteEvent, Side, Violation,
};

/// Bytes of an input that are looked at.
const INPUT_MAX: usize = 8192;
/// Peers: a client, and a server of each side.
const PEERS: usize = 3;

fuzz_target!(|input: &[u8]| {
    let input = input.get(..INPUT_MAX).unwrap_or(input);
    let (options, info) = (Options::default(), ServerInfo::default());
    let auth = Authenticator::new(&options);
    let broker = Arc::new(Broker::new([("$G", None), ("$SYS", None)]));
    let mut engine = Engine::new(Arc::clone(&broker), 0, 1);
    engine.set_facts(Arc::new(ClusterFacts {
        info: RouteInfo {
            server_id: "OWN".into(),
            cluster: Some("C1".into()),
            pool_size: Some(3),
            ..RouteInfo::own()
        },
        ..ClusterFacts::default()
    }));
    let context = Context {
        options: &options,
        info: &info,
        auth: &auth,
        now: Instant::now(),
    };
    let mut peers: Vec<(Peer, Vec<u8>)> = (0..PEERS).map(|at| (peer(at), Vec::new())).collect();
    for piece in input.split(|&byte| byte == 0xFF) {
        let Some((&first, bytes)) = piece.split_first() else {
            continue;
        };
        let at = usize::from(first) % PEERS;
        let (current, kept) = &mut peers[at];
        kept.extend_from_slice(bytes);
        loop {
            let fed = engine.feed(current, kept, &context, &mut Checker);
            kept.drain(..fed.consumed);
            match fed.end {
                End::Starved => {
                    let wanted = current.wanted();
                    let bound = 16 * options.max_control_line + 16;
                    assert!(kept.len() < wanted.max(bound));
                    break;
                }
                End::Pause => {}
                End::Verify => unreachable!("no password is a hash here"),
                End::Wait => match current {
                    Peer::Route(route) => engine.admit(route, &context, &mut Checker),
                    Peer::Client(_) => unreachable!("clients do not introduce themselves"),
                },
                // As if nothing were compressed.
                End::Compress => match current {
                    Peer::Route(route) => engine.greet_compressed(route, &mut Checker),
                    Peer::Client(_) => unreachable!("clients do not compress"),
                },
                End::Close(_) => {
                    engine.part(current);
                    peers[at] = (peer(at), Vec::new());
                    break;
                }
            }
        }
        engine.tell_news(&mut Checker);
    }
    for (peer, _) in &mut peers {
        engine.part(peer);
    }
    engine.tell_news(&mut Checker);
    assert!(engine.subscriptions.is_empty() && broker.routes.count() == 0);
    for account in broker.accounts() {
        assert!(account.trie.read().expect("no panic").is_empty());
    }
});

fn peer(at: usize) -> Peer {
    let (conn, addr) = (u32::try_from(at).expect("few"), ([127, 0, 0, 1], 1).into());
    match at {
        0 => Peer::client(conn, Client::new(1, addr)),
        1 => Peer::route(conn, Route::new(2, addr, Side::Accepted, "n")),
        _ => {
            let side = Side::Dialled(Box::new(Dial::default()));
            Peer::route(conn, Route::new(3, addr, side, "n"))
        }
    }
}

struct Checker;

impl Sink for Checker {
    fn reply(&mut self, _: u32, bytes: &[u8]) {
        assert!(bytes.ends_with(b"\r\n"));
    }

    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery {
        assert_eq!(conn, 0, "only a client has subscriptions");
        let mut line = Vec::new();
        assert!(message.head(sid, headers, &mut line).ends_with(b"\r\n"));
        Delivery::Taken
    }

    fn deliver_routed(
        &mut self,
        conn: u32,
        account: Option<&[u8]>,
        groups: &[u8],
        headers: bool,
        message: &Message<'_>,
    ) -> Delivery {
        assert_ne!(conn, 0, "a server has the link");
        let mut line = Vec::new();
        let rest = message_head(account, message, groups, headers, &mut line);
        assert!(rest.ends_with(b"\r\n"));
        Delivery::Taken
    }

    fn forward(&mut self, _: &Letter<'_>, _: u16) -> Delivery {
        unreachable!("there is one worker")
    }

    fn give_back(&mut self, _: &Letter<'_>) {
        unreachable!("there is one worker")
    }

    fn on_frame(&mut self, _: &Client, _: &Frame<'_>) {}

    fn on_route_frame(&mut self, session: &Route, frame: &RouteFrame<'_>) {
        assert!(!format!("{session} {frame:?}").is_empty());
    }

    fn on_route_event(&mut self, _: u32, event: RouteEvent) {
        assert!(!format!("{event:?}").is_empty());
    }

    fn on_trouble(&mut self, _: &dyn fmt::Display, trouble: &str) {
        assert!(!trouble.contains('\n'));
    }

    fn on_refusal(&mut self, _: &Client, _: &Violation<'_>) {}

    fn on_parse_error(&mut self, _: &dyn fmt::Display, error: &ParseError) {
        assert!(!error.to_string().contains('\n'));
    }
}
