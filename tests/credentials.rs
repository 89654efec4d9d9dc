//! What a reload that changes users, permissions or accounts does to those who are connected.
//!
//! What midge does on purpose otherwise than the reference server is asked of midge alone.

mod support;

use std::path::Path;

use support::connection::Connection;
use support::server::Server;
use support::{midge, programs, start};

/// Connects with these keys of CONNECT, and has been let in.
fn enter(server: &Server, keys: &str) -> Connection {
    let mut connection = server.client(keys);
    connection.ping();
    connection
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Stays,
    /// It is told that it has no business here.
    Violation,
    /// It ends without a word.
    Silence,
}

use Fate::{Silence, Stays, Violation};

fn meet(connection: &mut Connection, fate: Fate) {
    match fate {
        Stays => connection.ping(),
        Violation => {
            connection.expect(b"-ERR 'Authorization Violation'\r\n");
            connection.expect_eof();
        }
        Silence => connection.expect_eof(),
    }
}

/// A reload from one configuration to another: what becomes of connections with these keys.
struct Case {
    before: &'static str,
    after: &'static str,
    fates: &'static [(&'static str, Fate)],
}

const U: &str = r#","user":"u","pass":"p""#;
const V: &str = r#","user":"v","pass":"p""#;
const TOKEN: &str = r#","auth_token":"t""#;
/// `p`, hashed at the lowest cost.
const HASHED: &str = r#"authorization {users: [{user: u, password: "$2a$04$ZM9U.vWh4Dc2ZowtZhHkSeTnWqAVy3gV.qrXF2qV.v/AgHDhP1Moi"}]}"#;

const CASES: &[Case] = &[
    Case {
        before: "authorization {users: [{user: u, password: p}, {user: v, password: p}]}",
        after: "authorization {users: [{user: u, password: q}, {user: v, password: p}]}",
        fates: &[(U, Violation), (V, Stays)],
    },
    Case {
        before: "authorization {users: [{user: u, password: p}, {user: v, password: p}]}",
        after: "authorization {users: [{user: v, password: p}]}",
        fates: &[(U, Silence), (V, Stays)],
    },
    Case {
        before: "accounts {A {users: [{user: u, password: p}]}, B {users: [{user: v, password: p}]}}",
        after: "accounts {A {users: []}, B {users: [{user: v, password: p}, {user: u, password: p}]}}",
        fates: &[(U, Silence), (V, Stays)],
    },
    Case {
        before: "accounts {A {users: [{user: u, password: p}]}, B {users: [{user: v, password: p}]}}",
        after: "accounts {B {users: [{user: v, password: p}]}}",
        fates: &[(U, Silence), (V, Stays)],
    },
    Case {
        before: "",
        after: "authorization {users: [{user: u, password: p}]}",
        fates: &[("", Violation)],
    },
    Case {
        before: "authorization {token: t}",
        after: "authorization {token: s}",
        fates: &[(TOKEN, Violation)],
    },
    Case {
        before: "authorization {token: t}",
        after: "",
        fates: &[(TOKEN, Stays)],
    },
    Case {
        before: "authorization {users: [{user: u, password: p}]}",
        after: "",
        fates: &[(U, Silence)],
    },
    Case {
        before: "authorization {users: [{user: u, password: p}]}",
        after: HASHED,
        fates: &[(U, Stays)],
    },
    Case {
        before: "authorization {users: [{user: u, password: p}]}",
        after: "authorization {users: [{user: u, password: p, allowed_connection_types: [MQTT]}]}",
        fates: &[(U, Violation)],
    },
    // Whoever is a key's user without having the key.
    Case {
        before: concat!(
            "authorization {users: [{nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}\n",
            "no_auth_user: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
        ),
        after: "authorization {users: [{nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}",
        fates: &[("", Violation)],
    },
    Case {
        before: concat!(
            "accounts {A {users: [{nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}}\n",
            "no_auth_user: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
        ),
        after: "accounts {A {users: [{nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}}",
        fates: &[("", Violation)],
    },
    Case {
        before: "authorization {users: [{user: u, password: p}, {user: v, password: p}]}\nno_auth_user: u",
        after: "authorization {users: [{user: u, password: p}]}\nno_auth_user: u",
        fates: &[("", Stays), (U, Stays)],
    },
];

/// Where the reference server drops clients for nothing.
const KINDER: &[Case] = &[
    Case {
        before: "authorization {user: u, password: p}",
        after: "authorization {user: u, password: p}\nmax_payload: 1000",
        fates: &[(U, Stays)],
    },
    Case {
        before: "authorization {user: u, password: p}",
        after: "authorization {user: u, password: q}",
        fates: &[(U, Violation)],
    },
    Case {
        before: "authorization {user: u, password: p}",
        after: "authorization {users: [{user: u, password: p}]}",
        fates: &[(U, Stays)],
    },
    Case {
        before: "authorization {users: [{user: u, password: p}]}\nno_auth_user: u",
        after: "authorization {user: u, password: p}",
        fates: &[("", Violation), (U, Stays)],
    },
    Case {
        before: "",
        after: "max_payload: 1000",
        fates: &[(U, Stays), ("", Stays)],
    },
    Case {
        before: "",
        after: "authorization {user: u, password: p}",
        fates: &[(U, Stays), (V, Violation)],
    },
];

#[test]
fn a_reload_ends_whom_it_concerns_and_nobody_else() {
    for program in programs() {
        CASES.iter().for_each(|case| play(&program, case));
    }
    KINDER.iter().for_each(|case| play(&midge(), case));
}

fn play(program: &Path, case: &Case) {
    let mut server = start(program, case.before);
    let keys = case.fates.iter().map(|(keys, _)| keys);
    let mut inside: Vec<_> = keys.map(|keys| enter(&server, keys)).collect();
    if let Err(why) = server.reload(case.after) {
        panic!("{} to {}: {why}", case.before, case.after);
    }
    for (connection, (_, fate)) in inside.iter_mut().zip(case.fates) {
        meet(connection, *fate);
    }
    let refused = case.fates.iter().filter(|(_, fate)| *fate == Violation);
    for (keys, _) in refused.filter(|(keys, _)| keys.contains("user")) {
        let name = if *keys == U { "u" } else { "v" };
        let line = format!(" - authentication error - User \"{name}\"\n");
        let logged = server.process().wait_for_log(|log| log.contains(&line));
        assert_eq!(logged, Ok(()), "{}", case.after);
    }
}

#[test]
fn a_narrower_permission_ends_what_it_does_not_cover_and_a_wider_one_frees() {
    let conf = |permissions: &str| {
        format!(
            "authorization {{users: [{{user: u, password: p, permissions: {permissions}}}, {{user: v, password: p}}]}}"
        )
    };
    for program in programs() {
        let mut server = start(&program, &conf("{subscribe: {deny: z}}"));
        let (mut u, mut v) = (enter(&server, U), enter(&server, V));
        u.send(b"SUB foo.* 1\r\nSUB bar q 2\r\nSUB free.> 3\r\n");
        u.ping();
        let narrow =
            r#"{publish: "ok", subscribe: {allow: ["free.>", "ok"], deny: "free.secret"}}"#;
        server.reload(&conf(narrow)).unwrap();
        let texts = [
            "-ERR 'Permissions Violation for Subscription to \"foo.*\" (sid \"1\")'\r\n",
            "-ERR 'Permissions Violation for Subscription to \"bar\" using queue \"q\" (sid \"2\")'\r\n",
        ];
        // The reference server keeps them in no order.
        let told = u.expect_bytes(texts.concat().len());
        let told = String::from_utf8(told).unwrap();
        assert!(texts.iter().all(|text| told.contains(text)), "{told}");
        v.send(b"PUB foo.a 1\r\nx\r\nPUB bar 1\r\nx\r\nPUB free.secret 1\r\nx\r\nPUB free.a 1\r\ny\r\n");
        v.ping();
        u.expect(b"MSG free.a 3 1\r\ny\r\n");
        u.send(b"PUB foo.a 0\r\n\r\nSUB foo.* 4\r\nPUB ok 0\r\n\r\n");
        u.expect(b"-ERR 'Permissions Violation for Publish to \"foo.a\"'\r\n");
        u.expect(b"-ERR 'Permissions Violation for Subscription to \"foo.*\"'\r\n");
        u.ping();
        let line = "[INF] Removed sub \"foo.*\" (sid \"1\") for User \"u\" - not authorized\n";
        let logged = server.process().wait_for_log(|log| log.contains(line));
        assert_eq!(logged, Ok(()));
        server.reload(&conf("{}")).unwrap();
        v.send(b"PUB free.secret 1\r\nz\r\n");
        u.expect(b"MSG free.secret 3 1\r\nz\r\n");
        v.ping();
    }
}

#[test]
fn a_permit_to_answer_outlives_the_reload() {
    let conf = |deny: &str| {
        format!(
            "authorization {{users: [{{user: u, password: p, permissions: {{subscribe: {{deny: {deny}}}, allow_responses: {{max: 2}}}}}}, {{user: v, password: p}}]}}"
        )
    };
    let mut server = start(&midge(), &conf("x"));
    let (mut u, mut v) = (enter(&server, U), enter(&server, V));
    u.send(b"SUB a 1\r\n");
    u.ping();
    v.send(b"SUB r 1\r\nPUB a r 1\r\n?\r\n");
    v.ping();
    u.expect(b"MSG a 1 r 1\r\n?\r\n");
    for (deny, answer) in [("x", "1"), ("y", "2")] {
        server.reload(&conf(deny)).unwrap();
        u.send(format!("PUB r 1\r\n{answer}\r\n").as_bytes());
        v.expect(format!("MSG r 1 1\r\n{answer}\r\n").as_bytes());
    }
    u.send(b"PUB r 1\r\n3\r\n");
    u.expect(b"-ERR 'Permissions Violation for Publish to \"r\"'\r\n");
}

#[test]
fn accounts_come_and_go() {
    let (a, b) = (
        "A {users: [{user: u, password: p}]}",
        "B {users: [{user: v, password: p}]}",
    );
    for program in programs() {
        let mut server = start(&program, &format!("accounts {{{a}}}"));
        let mut first = enter(&server, U);
        first.send(b"SUB x 1\r\n");
        first.ping();
        server.reload(&format!("accounts {{{a}\n{b}}}")).unwrap();
        let mut second = enter(&server, V);
        second.send(b"SUB x 1\r\nPUB x 1\r\n2\r\n");
        second.expect(b"MSG x 1 1\r\n2\r\n");
        first.send(b"PUB x 1\r\n1\r\n");
        first.expect(b"MSG x 1 1\r\n1\r\n");
        server.reload(&format!("accounts {{{b}}}")).unwrap();
        first.expect_eof();
        second.ping();
        server.reload(&format!("accounts {{{b}\n{a}}}")).unwrap();
        let mut first = enter(&server, U);
        first.send(b"SUB x 1\r\nPUB x 1\r\n3\r\n");
        first.expect(b"MSG x 1 1\r\n3\r\n");
        second.ping();
    }
}

#[test]
fn the_limits_of_an_account_change_for_those_inside() {
    let conf = |limits: &str| {
        format!("accounts {{A {{users: [{{user: u, password: p}}], limits: {{{limits}}}}}}}")
    };
    let mut server = start(&midge(), &conf("max_payload: 100"));
    let mut inside = enter(&server, U);
    server
        .reload(&conf("max_payload: 4, max_connections: 1"))
        .unwrap();
    inside.send(b"PUB a 4\r\nfour\r\n");
    inside.ping();
    let mut surplus = server.client(U);
    surplus.expect(b"-ERR 'maximum account active connections exceeded'\r\n");
    surplus.expect_eof();
    inside.send(b"PUB a 5\r\nfiver\r\n");
    inside.expect(b"-ERR 'Maximum Payload Violation'\r\n");
    inside.expect_eof();
}

#[test]
fn whose_password_was_being_checked_is_judged_by_what_holds_then() {
    let hash = bcrypt::hash("p", 11).expect("a cost there is");
    let conf = |users: &str| {
        format!("password_cache: 0s\nauthorization {{users: [{users}{{user: v, password: p}}]}}")
    };
    let u = format!("{{user: u, password: \"{hash}\"}}, ");
    let mut server = start(&midge(), &conf(&u));
    let mut inside = enter(&server, V);
    let mut waiting: Vec<_> = (0..12).map(|_| server.client(U)).collect();
    inside.ping();
    server.reload(&conf("")).unwrap();
    for mut connection in waiting.drain(..) {
        // Some were in before the reload; the others are not let in by the old configuration afterwards.
        let line = connection.look(40, support::DEADLINE).to_vec();
        assert!(line.is_empty() || line.starts_with(b"-ERR 'Authorization Violation"));
    }
    inside.ping();
}
