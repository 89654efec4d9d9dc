//! The engine with two workers and no sockets, one transcript at a time.

use std::time::Instant;

use super::*;
use crate::config::options::{Account, AccountLimits, Options, Secret, User};
use crate::proto::encode::Parts;
use crate::proto::info::ServerInfo;
use crate::session::Authenticator;

/// Collects what each connection is sent, and what goes to other workers.
#[derive(Default)]
struct Collect {
    sent: Vec<Vec<u8>>,
    letters: Vec<(u16, String)>,
    /// A connection that takes nothing.
    closed: Option<u32>,
}

impl Sink for Collect {
    fn reply(&mut self, conn: u32, bytes: &[u8]) {
        self.sent
            .resize_with(self.sent.len().max(conn as usize + 1), Vec::new);
        self.sent[conn as usize].extend_from_slice(bytes);
    }
    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery {
        if self.closed == Some(conn) {
            return Delivery::Refused;
        }
        let mut bytes = Vec::new();
        let rest = message.head(sid, headers, &mut bytes);
        bytes.extend_from_slice(rest);
        self.reply(conn, &bytes);
        Delivery::Taken
    }
    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery {
        let subject = letter.message.subject().escape_ascii();
        self.letters
            .push((worker, format!("{subject} {:?}", letter.to)));
        Delivery::Taken
    }
    fn give_back(&mut self, letter: &Letter<'_>) {
        self.forward(letter, u16::MAX);
    }
    fn on_frame(&mut self, _: &Client, _: &Frame<'_>) {}
    fn on_refusal(&mut self, _: &Client, _: &Violation<'_>) {}
    fn on_parse_error(&mut self, _: &dyn fmt::Display, _: &ParseError) {}
}

struct World {
    engines: Vec<Engine>,
    peers: Vec<Peer>,
    sink: Collect,
    options: Options,
    auth: Authenticator,
    now: Instant,
}

impl World {
    fn new(workers: u16) -> Self {
        World::with(workers, Options::default())
    }

    fn with(workers: u16, options: Options) -> Self {
        let auth = Authenticator::new(&options);
        let broker = Arc::new(Broker::new(auth.names_and_limits()));
        let engines = (0..workers)
            .map(|worker| Engine::new(Arc::clone(&broker), worker, 5))
            .collect();
        World {
            engines,
            peers: Vec::new(),
            sink: Collect::default(),
            options,
            auth,
            now: Instant::now(),
        }
    }

    fn open(&mut self) -> usize {
        let conn = u32::try_from(self.peers.len()).unwrap();
        self.peers.push(Peer::client(
            conn,
            Client::new(u64::from(conn), ([127, 0, 0, 1], 1).into()),
        ));
        self.sink.sent.push(Vec::new());
        self.peers.len() - 1
    }

    fn feed(&mut self, worker: usize, peer: usize, text: &str) -> End {
        let info = ServerInfo::default();
        let context = Context {
            options: &self.options,
            info: &info,
            auth: &self.auth,
            now: self.now,
        };
        let peer = &mut self.peers[peer];
        self.engines[worker]
            .feed(peer, text.as_bytes(), &context, &mut self.sink)
            .end
    }

    /// Finds the peer's password right.
    fn verify(&mut self, worker: usize, peer: usize) -> Result<(), CloseReason> {
        let info = ServerInfo::default();
        let context = Context {
            options: &self.options,
            info: &info,
            auth: &self.auth,
            now: self.now,
        };
        let peer = &mut self.peers[peer];
        let (challenge, _) = peer.take_challenge().expect("a challenge");
        let verdict = challenge.settle(true);
        self.engines[worker].on_verified(peer, verdict, &context, &mut self.sink)
    }

    fn sent(&mut self, peer: usize) -> String {
        String::from_utf8(std::mem::take(&mut self.sink.sent[peer])).unwrap()
    }
}

const QUIET: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

#[test]
fn a_message_reaches_each_plain_subscription_and_one_of_each_group() {
    let mut world = World::new(1);
    let (a, b) = (world.open(), world.open());
    world.feed(
        0,
        a,
        &format!("{QUIET}SUB a.* 1\r\nSUB > 2\r\nSUB a.b q 3\r\n"),
    );
    world.feed(0, b, &format!("{QUIET}SUB a.* q 4\r\n"));
    world.feed(0, b, "PUB a.b 1\r\nx\r\n");
    let all = world.sent(a) + &world.sent(b);
    assert_eq!(all.matches("MSG a.b").count(), 3, "{all}");
    assert!(all.contains("MSG a.b 1 1") && all.contains("MSG a.b 2 1"));
}

#[test]
fn a_group_passes_over_a_member_that_cannot_take_it() {
    let mut world = World::new(1);
    let (a, b) = (world.open(), world.open());
    world.feed(0, a, &format!("{QUIET}SUB a q 1\r\n"));
    world.feed(0, b, &format!("{QUIET}SUB a q 2\r\n"));
    world.sink.closed = Some(0);
    for _ in 0..20 {
        world.feed(0, b, "PUB a 1\r\nx\r\n");
    }
    assert_eq!(world.sent(b).matches("MSG a 2").count(), 20);
}

/// A message on its way.
fn x_to_a() -> Message<'static> {
    let parts = Parts {
        subject_len: 1,
        reply_len: 0,
        body_at: 5,
        header_len: 0,
    };
    Message::new(b"a 1\r\nx\r\n", parts)
}

#[test]
fn a_letter_for_a_member_that_is_gone_goes_to_another() {
    let mut world = World::new(2);
    let (a, b, c) = (world.open(), world.open(), world.open());
    world.feed(0, a, &format!("{QUIET}SUB a q 1\r\n"));
    let gone = world.engines[0].subscriptions.find(0, b"1").unwrap();
    world.feed(0, b, &format!("{QUIET}SUB a q 2\r\n"));
    world.feed(0, a, "UNSUB 1\r\n");
    let message = x_to_a();
    let letter = Letter {
        account: 0,
        tried: 0,
        asks: false,
        echo: true,
        message: &message,
        to: To::Member {
            sub: gone,
            group: b"q",
        },
    };
    world.engines[0].receive(&letter, None, world.now, &mut world.sink);
    assert_eq!(world.sent(b), "MSG a 2 1\r\nx\r\n");
    // And to another worker, if that is where the only other member is.
    world.feed(0, b, "UNSUB 2\r\n");
    world.feed(1, c, &format!("{QUIET}SUB a q 3\r\n"));
    world.engines[0].receive(&letter, None, world.now, &mut world.sink);
    assert_eq!(world.sink.letters.len(), 1);
    assert_eq!(world.sink.letters[0].0, 1);
}

#[test]
fn a_member_that_stays_is_found_however_many_come_and_go() {
    let mut world = World::new(3);
    let (stays, others) = (world.open(), [world.open(), world.open()]);
    world.feed(0, stays, &format!("{QUIET}SUB a q 1\r\n"));
    for (worker, other) in (1..).zip(others) {
        world.feed(worker, other, &format!("{QUIET}SUB a q 1\r\nSUB a q 2\r\n"));
    }
    let gone = SubRef {
        worker: 0,
        slot: 9,
        serial: 9,
    };
    let message = x_to_a();
    let letter = |tried| Letter {
        account: 0,
        tried,
        asks: true,
        echo: true,
        message: &message,
        to: To::Member {
            sub: gone,
            group: b"q",
        },
    };
    for _ in 0..20 {
        for tried in [0, 0b110] {
            world.engines[0].receive(&letter(tried), None, world.now, &mut world.sink);
            assert_eq!(world.sent(stays), "MSG a 1 1\r\nx\r\n");
        }
    }
    assert!(world.sink.letters.is_empty());
    // Nobody here, and no worker where it has not been: its publisher hears of it.
    world.feed(0, stays, "UNSUB 1\r\n");
    world.engines[0].receive(&letter(0b010), None, world.now, &mut world.sink);
    world.engines[0].receive(&letter(0b110), None, world.now, &mut world.sink);
    let [(to, _), back] = &world.sink.letters[..] else {
        panic!("{:?}", world.sink.letters);
    };
    assert_eq!((*to, back), (2, &(u16::MAX, "a Nobody".into())));
}

#[test]
fn a_letter_that_comes_back_spares_a_publisher_without_echo() {
    let mut world = World::new(1);
    let (a, b) = (world.open(), world.open());
    let silent = "CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB a q 1\r\n";
    world.feed(0, a, silent);
    let gone = SubRef {
        worker: 0,
        slot: 9,
        serial: 9,
    };
    let message = x_to_a();
    let letter = Letter {
        account: 0,
        tried: 1 << 1,
        asks: false,
        echo: false,
        message: &message,
        to: To::Member {
            sub: gone,
            group: b"q",
        },
    };
    let publisher = Some(world.peers[a].conn());
    world.engines[0].receive(&letter, publisher, world.now, &mut world.sink);
    assert_eq!(world.sent(a), "");
    world.feed(0, b, &format!("{QUIET}SUB a q 2\r\n"));
    world.engines[0].receive(&letter, publisher, world.now, &mut world.sink);
    assert_eq!(world.sent(b), "MSG a 2 1\r\nx\r\n");
    // Whoever has its slot now is somebody else.
    world.engines[0].part(&mut world.peers[b]);
    world.engines[0].receive(&letter, None, world.now, &mut world.sink);
    assert_eq!(world.sent(a), "MSG a 1 1\r\nx\r\n");
}

#[test]
fn another_worker_gets_one_letter_for_all_its_subscriptions() {
    let mut world = World::new(2);
    let (a, b, c) = (world.open(), world.open(), world.open());
    world.feed(1, b, &format!("{QUIET}SUB a 1\r\nSUB a 2\r\n"));
    world.feed(1, c, &format!("{QUIET}SUB a 1\r\n"));
    world.feed(0, a, &format!("{QUIET}SUB a 1\r\nPUB a 1\r\nx\r\n"));
    assert_eq!(world.sink.letters.len(), 1);
    assert_eq!(world.sent(a), "MSG a 1 1\r\nx\r\n");
}

#[test]
fn subscriptions_end_at_their_max_and_with_their_connection() {
    let mut world = World::new(1);
    let a = world.open();
    world.feed(0, a, &format!("{QUIET}SUB a 1\r\nUNSUB 1 2\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\nSUB a 1\r\n"));
    assert_eq!(world.sent(a), "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n");
    let peer = &mut world.peers[a];
    world.engines[0].part(peer);
    let account = world.engines[0].broker.account(0).unwrap();
    assert!(account.trie.read().unwrap().is_empty() && world.engines[0].subscriptions.is_empty());
}

#[test]
fn feeding_stops_where_a_subscriber_fills_up() {
    struct Full(Collect);
    impl Sink for Full {
        fn reply(&mut self, conn: u32, bytes: &[u8]) {
            self.0.reply(conn, bytes);
        }
        fn deliver(&mut self, _: u32, _: &[u8], _: bool, _: &Message<'_>) -> Delivery {
            Delivery::Filling
        }
        fn forward(&mut self, _: &Letter<'_>, _: u16) -> Delivery {
            Delivery::Filling
        }
        fn give_back(&mut self, _: &Letter<'_>) {}
        fn on_frame(&mut self, _: &Client, _: &Frame<'_>) {}
        fn on_refusal(&mut self, _: &Client, _: &Violation<'_>) {}
        fn on_parse_error(&mut self, _: &dyn fmt::Display, _: &ParseError) {}
    }
    let mut world = World::new(1);
    let a = world.open();
    world.feed(0, a, &format!("{QUIET}SUB a 1\r\n"));
    let info = ServerInfo::default();
    let context = Context {
        options: &world.options,
        info: &info,
        auth: &world.auth,
        now: world.now,
    };
    let wire = b"PUB a 1\r\nx\r\nPUB a 1\r\ny\r\n";
    let fed = world.engines[0].feed(
        &mut world.peers[a],
        wire,
        &context,
        &mut Full(Collect::default()),
    );
    assert_eq!(
        fed,
        Fed {
            consumed: 12,
            end: End::Pause
        }
    );
}

#[test]
fn what_ends_one_connection_is_not_told_to_another() {
    let mut world = World::new(1);
    let (a, b) = (world.open(), world.open());
    assert_eq!(
        world.feed(0, a, "FOO\r\n"),
        End::Close(CloseReason::ProtocolViolation)
    );
    world.feed(0, b, "PING\r\n");
    assert_eq!(world.sent(b), "PONG\r\n");
    assert_eq!(
        world.feed(0, a, "CONNECT {\"protocol\":2}\r\n"),
        End::Close(CloseReason::ClientProtocol)
    );
    world.feed(0, b, "PING\r\n");
    assert_eq!(world.sent(b), "PONG\r\n");
}

#[test]
fn a_stranger_is_told_by_its_first_byte_wherever_reads_split() {
    let options = Options {
        auth_token: Some(Secret::new("t")),
        ..Options::default()
    };
    let connect = "CONNECT  {\"verbose\":false,\"auth_token\":\"t\"}\r\nPING\r\n";
    for cut in 0..connect.len() {
        let mut world = World::with(1, options.clone());
        let a = world.open();
        let (head, tail) = connect.split_at(cut);
        let mut kept = String::new();
        for part in [head, tail] {
            kept += part;
            let (info, peer) = (ServerInfo::default(), &mut world.peers[a]);
            let context = Context {
                options: &world.options,
                info: &info,
                auth: &world.auth,
                now: world.now,
            };
            let fed = world.engines[0].feed(peer, kept.as_bytes(), &context, &mut world.sink);
            assert_eq!(fed.end, End::Starved, "cut at {cut}");
            kept.drain(..fed.consumed);
        }
        assert_eq!(world.sent(a), "PONG\r\n", "cut at {cut}");
    }
    for first in ["P", "+", "\r", " ", "-", "\0"] {
        let mut world = World::with(1, options.clone());
        let a = world.open();
        let failure = End::Close(CloseReason::AuthenticationFailure);
        assert_eq!(world.feed(0, a, first), failure, "{first:?}");
        assert_eq!(world.sent(a), "-ERR 'Authorization Violation'\r\n");
    }
}

#[test]
fn a_request_that_every_other_worker_is_denied_has_no_responders() {
    let (denied, free) = ("permissions: {subscribe: {deny: svc}}", "");
    for (members, expected) in [
        (vec![denied], "503"),
        (vec![denied, denied], "503"),
        (vec![denied, free], ""),
    ] {
        for queue in ["", "q"] {
            let users = members.iter().enumerate();
            let users = users.map(|(at, it)| format!("{{user: u{at}, password: p, {it}}}"));
            let users = users.collect::<Vec<_>>().join(", ");
            let conf = format!("authorization {{users: [{users}, {{user: me, password: p}}]}}");
            let loaded = crate::config::parse_str("c", &conf, &crate::config::Nothing);
            let mut world = World::with(2, loaded.unwrap().options);
            let connect = |user: &str| {
                format!(
                    "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n"
                )
            };
            for at in 0..members.len() {
                let member = world.open();
                let subscribe = format!("{}SUB * {queue} 1\r\n", connect(&format!("u{at}")));
                world.feed(1, member, &subscribe);
            }
            let me = world.open();
            world.feed(
                0,
                me,
                &(connect("me") + "SUB in.1 7\r\nPUB svc in.1 0\r\n\r\n"),
            );
            let sent = world.sent(me);
            assert_eq!(
                sent.contains("NATS/1.0 503"),
                expected == "503",
                "{conf}: {sent}"
            );
            // One who can take it is asked at once.
            assert_eq!(
                world.sink.letters.is_empty(),
                expected == "503" && queue == "q"
            );
        }
    }
}

#[test]
fn a_lower_limit_holds_for_whoever_has_to_show_another_password_first() {
    let options = |max_subscriptions| {
        let password = bcrypt::hash("p", 4).expect("a cost there is");
        Options {
            accounts: vec![Account {
                name: "A".into(),
                users: vec![User {
                    user: "u".into(),
                    password: Secret::new(password),
                    permissions: None,
                    allowed_connection_types: Vec::new(),
                }],
                limits: AccountLimits {
                    max_subscriptions,
                    ..AccountLimits::default()
                },
                ..Account::default()
            }],
            ..Options::default()
        }
    };
    let mut world = World::with(1, options(None));
    let peer = world.open();
    let connect = "CONNECT {\"user\":\"u\",\"pass\":\"p\"}\r\n";
    assert_eq!(world.feed(0, peer, connect), End::Verify);
    assert_eq!(world.verify(0, peer), Ok(()));
    world.feed(0, peer, "SUB a 1\r\nSUB b 2\r\n");
    world.sent(peer);
    world.options = options(Some(1));
    let auth = world.auth.renewed(&world.options);
    let old = std::mem::replace(&mut world.auth, auth);
    let info = ServerInfo::default();
    let context = Context {
        options: &world.options,
        info: &info,
        auth: &world.auth,
        now: world.now,
    };
    let (engine, client) = (&mut world.engines[0], &mut world.peers[peer]);
    let reviewed = engine.review(client, &old, &context, &mut world.sink);
    assert!(reviewed.is_ok() && client.is_waiting());
    assert_eq!(world.verify(0, peer), Err(CloseReason::Subscriptions));
    assert_eq!(
        world.sent(peer),
        "-ERR 'maximum subscriptions exceeded'\r\n"
    );
}

#[test]
fn other_servers_hear_of_interest_in_an_account_that_came_before_its_name() {
    let mut world = World::new(1);
    let conn = u32::try_from(world.open()).unwrap();
    let (engine, sink) = (&mut world.engines[0], &mut world.sink);
    engine.broker.routes.add(0);
    let everything = links::Carries::Everything;
    engine.links.insert(0, conn, (true, false), everything);
    let known = engine.broker.accounts().count();
    let names = world.auth.names_and_limits().chain([("A", None)]);
    let renewed = engine.broker.renewed(names);
    let account = renewed.account_named("A").expect("an account");
    // A client of another worker, which has gone over to that already, has subscribed.
    let sub = SubRef {
        worker: 1,
        slot: 0,
        serial: 0,
    };
    let mark = Mark {
        account: account.index,
        subject: b"a",
        queue: None,
    };
    assert!(account.subscribe(mark.subject, None, sub).is_news);
    engine.hear(&mark, sink);
    engine.set_broker(Arc::new(renewed));
    engine.tell_accounts(known, sink);
    assert_eq!(world.sent(0), "RS+ A a\r\n");
}

#[test]
fn what_is_on_its_way_by_an_import_comes_through_a_reload_that_leaves_that() {
    let conf = |exports: &str, imports: &str| {
        let conf = format!(
            "accounts {{A {{users: [{{user: a, password: p}}], imports: [{imports}]}}, B {{exports: [{exports}]}}}}"
        );
        let loaded = crate::config::parse_str("c", &conf, &crate::config::Nothing);
        loaded.unwrap().options
    };
    let (export, import) = ("{stream: ev}", "{stream: {account: B, subject: ev}}");
    let more = "{stream: other}, {stream: ev}";
    let mut world = World::with(1, conf(export, import));
    let renewed = |world: &World, options: &Options| {
        let broker = &world.engines[0].broker;
        let broker = broker.renewed(world.auth.names_and_limits());
        Arc::new(broker.planned(options))
    };
    let planned = renewed(&world, &world.options);
    world.engines[0].set_broker(planned);
    let peer = world.open();
    let connect = "CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"p\"}\r\n";
    world.feed(0, peer, &format!("{connect}SUB ev 7\r\n"));
    let exporter = world.engines[0].broker.account_named("B");
    let exporter = Arc::clone(exporter.expect("an account"));
    let shadow = |world: &mut World| {
        let (cache, account) = (&mut world.engines[0].cache, &exporter);
        let found = cache.find(account.index, b"ev", &account.trie, &account.generations);
        found.plain.first().copied()
    };
    let before = shadow(&mut world);
    assert!(before.is_some());
    let mut replan = |options: &Options| {
        let planned = renewed(&world, options);
        world.engines[0].set_broker(planned);
        world.engines[0].replan(&mut world.peers[peer]);
        shadow(&mut world)
    };
    assert_eq!(replan(&conf(more, import)), before);
    // Without the import nothing is left of it, and with it anew it is another one.
    assert_eq!(replan(&conf(export, "")), None);
    let anew = replan(&conf(export, import));
    assert!(anew.is_some() && anew != before);
}
