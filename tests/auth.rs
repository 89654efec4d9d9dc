//! Who gets in, and what they may do there: raw connections to a server that was started with a configuration file.
//!
//! What midge does on purpose otherwise than the reference server is asked of midge alone.

mod support;

use std::time::{Duration, Instant};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;

use support::connection::Connection;
use support::server::{Process, Server, Start};
use support::{ScratchDir, midge, programs, start};

/// The example of the documentation, with the default permissions that it describes.
const FOUR_USERS: &str = include_str!("documented/users.conf");

fn log_in(server: &Server, user: &str, password: &str) -> Connection {
    server.client(&format!(r#","user":"{user}","pass":"{password}""#))
}

/// Sends `lines`, and a PING; they must be answered with exactly `answer` before its PONG.
fn says(connection: &mut Connection, lines: &str, answer: &str) {
    connection.send(lines.replace('\n', "\r\n").as_bytes());
    connection.send(b"PING\r\n");
    connection.expect(answer.replace('\n', "\r\n").as_bytes());
    connection.expect(b"PONG\r\n");
}

fn refused(kind: &str, subject: &str) -> String {
    format!("-ERR 'Permissions Violation for {kind} to \"{subject}\"'\n")
}

/// The connection is told that it has no business here, and ends.
fn expect_violation(connection: &mut Connection) {
    connection.expect(b"-ERR 'Authorization Violation'\r\n");
    connection.expect_eof();
}

#[test]
fn four_users_do_what_each_of_them_may() {
    for program in programs() {
        let mut server = start(&program, FOUR_USERS);
        let mut joe = log_in(&server, "joe", "foo");
        let mut alice = log_in(&server, "alice", "bar");
        let mut bob = log_in(&server, "bob", "abcdefghijklmnopqrstuvwxwz0123456789");
        let mut charlie = log_in(&server, "charlie", "bar");
        says(&mut joe, "SUB > 1\n", "");
        says(&mut bob, "SUB req.foo 1\nSUB req.bar g 2\n", "");
        says(
            &mut bob,
            "SUB _INBOX.b 3\nSUB > 4\nPUB req.foo 0\n\n",
            &[
                refused("Subscription", "_INBOX.b"),
                refused("Subscription", ">"),
                refused("Publish", "req.foo"),
            ]
            .concat(),
        );
        says(
            &mut alice,
            "SUB req.foo 9\nSUB _INBOX.a 1\nPUB x 0\n\nPUB req.foo _INBOX.a 1\n?\n",
            &(refused("Subscription", "req.foo") + &refused("Publish", "x")),
        );
        bob.expect(b"MSG req.foo 1 _INBOX.a 1\r\n?\r\n");
        says(&mut bob, "PUB _INBOX.a 1\n!\n", "");
        alice.expect(b"MSG _INBOX.a 1 1\r\n!\r\n");
        joe.expect(b"MSG req.foo 1 _INBOX.a 1\r\n?\r\nMSG _INBOX.a 1 1\r\n!\r\n");
        says(
            &mut charlie,
            "SUB PUBLIC.x 1\nSUB _INBOX.> 2\nSUB a 3\nPUB SANDBOX.x 0\n\nPUB SANDBOX.x.y 0\n\n",
            &(refused("Subscription", "a") + &refused("Publish", "SANDBOX.x.y")),
        );
        joe.expect(b"MSG SANDBOX.x 1 0\r\n\r\n");
        joe.send(b"PUB PUBLIC.x 1\r\np\r\n");
        charlie.expect(b"MSG PUBLIC.x 1 1\r\np\r\n");
        for (user, password) in [
            ("joe", "bar"),
            ("mallory", "foo"),
            ("alice", ""),
            ("Bob", "bar"),
        ] {
            let mut wrong = log_in(&server, user, password);
            expect_violation(&mut wrong);
        }
        let logged = server.process().wait_for_log(|log| {
            [
                "[WRN] Plaintext passwords detected, use nkeys or bcrypt\n",
                "authentication error - User \"mallory\"\n",
                " - Client connection closed: Authentication Failure\n",
                "- \"$G/user:alice\" - Publish Violation - Subject \"x\"\n",
                "- \"$G/user:bob\" - Subscription Violation - Subject \">\", SID 4\n",
            ]
            .iter()
            .all(|line| log.contains(line))
        });
        assert_eq!(logged, Ok(()));
    }
}

#[test]
fn what_anyone_may_see_follows_the_first_byte_and_the_clock() {
    for program in programs() {
        let mut server = start(&program, "authorization {token: t, timeout: 1}");
        for first in [
            "PING",
            "p",
            "\r\n",
            "SUB a 1\r\n",
            "+OK",
            " CONNECT {}\r\n",
            "\0",
        ] {
            let mut stranger = server.connect();
            assert_eq!(stranger.expect_info()["auth_required"], true);
            stranger.send(first.as_bytes());
            expect_violation(&mut stranger);
        }
        let mut silent = server.connect();
        silent.expect_info();
        let mut slow = server.connect();
        slow.expect_info();
        slow.send(b"CONNECT {\"auth_to");
        for stranger in [&mut silent, &mut slow] {
            stranger.expect(b"-ERR 'Authentication Timeout'\r\n");
            stranger.expect_eof();
        }
        let mut long = server.connect();
        long.expect_info();
        long.send(format!("CONNECT {{\"name\":\"{}", "x".repeat(5000)).as_bytes());
        long.expect(b"-ERR 'maximum control line exceeded'\r\n");
        long.expect_eof();
        let mut good = server.client(r#","auth_token":"t""#);
        good.ping();
        let logged = server.process().wait_for_log(|log| {
            log.contains(" - authentication error\n")
                && log.contains(" - Authentication Timeout\n")
                && log.contains(" - Client connection closed: Authentication Timeout\n")
        });
        assert_eq!(logged, Ok(()));
    }
}

#[test]
fn a_crowd_of_strangers_pushes_the_oldest_out() {
    const CROWD: usize = 2048;
    if let Err(why) = support::raise_descriptor_limit(2 * CROWD) {
        return support::say_left_out(&why);
    }
    let conf = "authorization {token: t, timeout: 60}\nworkers: 1";
    let server = start(&midge(), conf);
    let mut member = server.client(r#","auth_token":"t""#);
    member.ping();
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    let mut last = server.connect();
    last.expect_info();
    let mut first = crowd.swap_remove(0);
    first.expect_info();
    first.expect(b"-ERR 'Authentication Timeout'\r\n");
    first.expect_eof();
    member.ping();
    last.send(b"CONNECT {\"auth_token\":\"t\",\"verbose\":false}\r\n");
    last.ping();
}

#[test]
fn a_hash_is_computed_while_others_are_served() {
    let hash = bcrypt::hash("secret", 9).expect("a cost there is");
    let conf = format!(
        "authorization {{users: [{{user: slow, password: \"{hash}\"}}, {{user: quick, password: q}}]}}"
    );
    for program in programs() {
        let server = start(&program, &conf);
        let mut quick = log_in(&server, "quick", "q");
        quick.ping();
        let attempts: Vec<_> = (0..40)
            .map(|number| log_in(&server, ["slow", "nobody"][number % 2], "wrong"))
            .collect();
        let mut pings = 0;
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            quick.ping();
            pings += 1;
        }
        assert!(pings > 20, "{pings} pings in 300 ms");
        for mut attempt in attempts {
            expect_violation(&mut attempt);
        }
        // What was sent behind a CONNECT waits for its outcome, however much it is.
        let large = "x".repeat(100_000);
        let behind = format!("SUB a 1\r\nPUB a 100000\r\n{large}\r\nPING\r\n");
        for _ in 0..2 {
            let mut right = server.connect();
            right.expect_info();
            let connect = "CONNECT {\"user\":\"slow\",\"pass\":\"secret\"}\r\n";
            right.send(format!("{connect}{behind}").as_bytes());
            let answer = format!("+OK\r\n+OK\r\n+OK\r\nMSG a 1 100000\r\n{large}\r\nPONG\r\n");
            right.expect(answer.as_bytes());
        }
    }
}

#[test]
fn a_password_that_was_right_is_not_computed_again_unless_that_is_off() {
    let hash = bcrypt::hash("secret", 8).expect("a cost there is");
    let time_of = |option: &str| {
        let conf = format!("authorization {{user: u, password: \"{hash}\"}}\n{option}");
        let mut server = start(&midge(), &conf);
        log_in(&server, "u", "secret").ping();
        let before = server.process().cpu_time();
        for _ in 0..40 {
            log_in(&server, "u", "secret").ping();
        }
        let mut wrong = log_in(&server, "u", "Secret");
        expect_violation(&mut wrong);
        server.process().cpu_time() - before
    };
    let (remembered, computed) = (time_of(""), time_of("password_cache: 0s"));
    assert!(
        remembered * 3 < computed,
        "{remembered:?} against {computed:?}"
    );
}

#[test]
fn a_key_user_signs_the_nonce_of_its_connection() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("any seed will do");
    let public = pair.public_key().as_ref().try_into().expect("32 bytes");
    let key = midge::nkey::encode(midge::nkey::Kind::User, &public);
    let conf = format!("accounts {{A {{users: [{{nkey: {key}}}, {{user: u, password: p}}]}}}}");
    for program in programs() {
        let mut server = start(&program, &conf);
        let nonce_of = |connection: &mut Connection| {
            let info = connection.expect_info();
            info["nonce"].as_str().expect("a nonce").to_owned()
        };
        let mut member = server.connect();
        let nonce = nonce_of(&mut member);
        assert_eq!(nonce.len(), 15);
        let signature = base64(pair.sign(nonce.as_bytes()).as_ref());
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"protocol\":1,\"nkey\":\"{key}\",\"sig\":\"{signature}\"}}\r\n"
        );
        member.send(connect.as_bytes());
        member.ping();
        let info = member.expect_info();
        assert_eq!(
            (&info["remote_account"], &info["nonce"]),
            (&"A".into(), &Value::Null)
        );
        // The same bytes are worth nothing where another nonce was given, and neither is no signature.
        let mut thief = server.connect();
        assert_ne!(nonce_of(&mut thief), nonce);
        thief.send(connect.as_bytes());
        expect_violation(&mut thief);
        let mut lazy = server.client(&format!(
            ",\"nkey\":\"{key}\",\"user\":\"u\",\"pass\":\"p\""
        ));
        expect_violation(&mut lazy);
        // The connection has to end for its label to be logged.
        drop(member);
        let failure = format!("authentication error - Nkey \"{key}\"\n");
        let logged = server.process().wait_for_log(|log| {
            log.matches(&failure).count() == 2
                && log.contains(" - Signature not verified\n")
                && log.contains(" - Signature missing\n")
                && log.contains(&format!(" - \"A/nkey:{key}\" - "))
        });
        assert_eq!(logged, Ok(()));
    }
}

/// For URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(three);
        for at in 0..=chunk.len() {
            let six = bits >> (18 - 6 * at) & 63;
            text.push(char::from(LETTERS[usize::try_from(six).expect("six bits")]));
        }
    }
    text
}

const ACCOUNTS: &str = r#"
authorization { users: [{user: g, password: p}] }
accounts {
  A { users: [{user: a, password: p}, {user: aa, password: p}], limits: {max_subs: 2, max_payload: 100} }
  B { users: [{user: b, password: p}], limits: {max_conn: 2} }
  $SYS { users: [{user: s, password: p}] }
}
"#;

#[test]
fn accounts_do_not_hear_each_other() {
    for program in programs() {
        let server = start(&program, ACCOUNTS);
        let mut all = ["g", "a", "aa", "b", "s"].map(|user| log_in(&server, user, "p"));
        for connection in &mut all {
            says(connection, "SUB x.> 1\nSUB x.q g 2\n", "");
        }
        let [g, a, aa, b, s] = &mut all;
        says(a, "PUB x.1 r 1\na\n", "MSG x.1 1 r 1\na\n");
        aa.expect(b"MSG x.1 1 r 1\r\na\r\n");
        for (connection, name) in [(g, "g"), (b, "b"), (s, "s")] {
            says(
                connection,
                &format!("PUB x.2 1\n{name}\n"),
                &format!("MSG x.2 1 1\n{name}\n"),
            );
        }
        says(aa, "", "");
        // Nobody in B listens, whoever does in A.
        let mut requestor =
            server.client(r#","user":"b","pass":"p","headers":true,"no_responders":true"#);
        says(
            &mut requestor,
            "SUB r 1\nPUB only.in.a r 0\n\n",
            "HMSG r 1 41 41\nNATS/1.0 503\nNats-Subject: only.in.a\n\n\n",
        );
    }
}

#[test]
fn an_account_has_limits_of_its_own() {
    for program in programs() {
        let mut server = start(&program, ACCOUNTS);
        let mut a = log_in(&server, "a", "p");
        says(
            &mut a,
            "SUB a 1\nSUB b 2\nSUB c 3\nUNSUB 1\nSUB c 3\n",
            "-ERR 'maximum subscriptions exceeded'\n",
        );
        a.send(b"PUB z 101\r\n");
        a.expect(b"-ERR 'Maximum Payload Violation'\r\n");
        a.expect_eof();
        let mut one = log_in(&server, "b", "p");
        let mut two = log_in(&server, "b", "p");
        one.ping();
        two.ping();
        let mut three = server.connect();
        three.expect_info();
        three.send(b"CONNECT {\"verbose\":true,\"user\":\"b\",\"pass\":\"p\"}\r\n");
        three.expect(b"-ERR 'maximum account active connections exceeded'\r\n");
        three.expect_eof();
        // Logging in again takes no second place, and leaving gives one back.
        one.send(b"CONNECT {\"user\":\"b\"}\r\n");
        one.ping();
        drop(two);
        let taken = support::wait_for(|| {
            let mut next = log_in(&server, "b", "p");
            next.send(b"PING\r\n");
            next.take(b"PONG\r\n").ok()
        });
        assert!(taken.is_some());
        one.ping();
        let text = " - maximum account active connections exceeded\n";
        let logged = server.process().wait_for_log(|log| log.contains(text));
        assert_eq!(logged, Ok(()));
    }
}

#[test]
fn a_client_learns_where_it_is() {
    for program in programs() {
        let server = start(&program, ACCOUNTS);
        for (user, account, max_payload, is_system) in [
            ("g", "$G", 1 << 20, false),
            ("a", "A", 100, false),
            ("s", "$SYS", 1 << 20, true),
        ] {
            let mut connection = server.connect();
            let first = connection.expect_info();
            assert_eq!(
                (&first["max_payload"], &first["nonce"]),
                (&(1 << 20).into(), &Value::Null)
            );
            let connect = format!(
                "CONNECT {{\"verbose\":false,\"protocol\":1,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n"
            );
            connection.send(connect.as_bytes());
            connection.ping();
            let info = connection.expect_info();
            assert_eq!(info["remote_account"], account);
            assert_eq!(info["max_payload"], max_payload);
            assert_eq!(info["auth_required"], true);
            assert_eq!(info.get("acc_is_sys").is_some(), is_system);
            connection.send(b"SUB r 1\r\nPUB $SYS.REQ.USER.INFO r 0\r\n\r\n");
            let data = user_info(&mut connection);
            assert_eq!(
                data,
                serde_json::json!({"user": user, "account": account, "account_name": account})
            );
        }
    }
}

/// What the server says of a client, in an answer on `r`, subscribed to as 1.
fn user_info(connection: &mut Connection) -> Value {
    let line = String::from_utf8(connection.expect_line()).expect("UTF-8");
    let size = line.strip_prefix("MSG r 1 ").expect(&line).trim_end();
    let body = connection.expect_bytes(size.parse().expect("a size"));
    connection.expect(b"\r\n");
    let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(
        answer["server"]["id"]
            .as_str()
            .is_some_and(|id| id.starts_with('N'))
    );
    let time = answer["server"]["time"].as_str().unwrap_or_default();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{answer}");
    answer["data"].take()
}

#[test]
fn a_client_learns_what_it_may_do() {
    let conf = r#"authorization {users: [{user: u, password: p, permissions: {
        publish: {allow: "$SYS.REQ.USER.INFO", deny: x}, subscribe: ["r", "foo q"],
        allow_responses: {max: 5, expires: "1m"}}}, {user: v, password: p, permissions: {publish: x}}]}"#;
    for program in programs() {
        let server = start(&program, conf);
        let mut u = log_in(&server, "u", "p");
        u.send(b"SUB r 1\r\nPUB $SYS.REQ.USER.INFO r 0\r\n\r\n");
        let mut permissions = user_info(&mut u)["permissions"].take();
        let allowed = permissions["subscribe"]["allow"]
            .as_array_mut()
            .expect("a list");
        allowed.sort_by_key(Value::to_string);
        assert_eq!(
            permissions,
            serde_json::json!({
                "publish": {"allow": ["$SYS.REQ.USER.INFO"], "deny": ["x"]},
                "subscribe": {"allow": ["foo q", "r"]},
                "responses": {"max": 5, "ttl": 60_000_000_000_u64},
            })
        );
        let mut v = log_in(&server, "v", "p");
        let question = "SUB r 1\nPUB $SYS.REQ.USER.INFO r 0\n\n";
        says(&mut v, question, &refused("Publish", "$SYS.REQ.USER.INFO"));
    }
}

#[test]
fn a_connection_that_becomes_someone_else_leaves_everything_behind() {
    for program in programs() {
        let server = start(&program, ACCOUNTS);
        let mut wanderer = log_in(&server, "a", "p");
        let mut stays = log_in(&server, "a", "p");
        says(&mut wanderer, "SUB x 1\nPUB x 1\n1\n", "MSG x 1 1\n1\n");
        says(&mut wanderer, "CONNECT {\"user\":\"b\"}\nPUB x 1\n2\n", "");
        says(&mut stays, "PUB x 1\n3\n", "");
        says(&mut wanderer, "SUB x 1\nPUB x 1\n4\n", "MSG x 1 1\n4\n");
        wanderer.send(b"CONNECT {\"pass\":\"wrong\"}\r\n");
        expect_violation(&mut wanderer);
    }
}

#[test]
fn nameless_clients_are_the_user_that_the_configuration_says() {
    let conf = r#"authorization {users: [{user: n, password: p, permissions: {publish: ok}}, {user: u, password: p}]}
        no_auth_user: n"#;
    for program in programs() {
        let server = start(&program, conf);
        let mut nameless = server.connect();
        assert_eq!(nameless.expect_info().get("auth_required"), None);
        let answer = format!("+OK\n{}+OK\nMSG ok 1 1\nx\n", refused("Publish", "no"));
        says(
            &mut nameless,
            "SUB ok 1\nPUB no 0\n\nPUB ok 1\nx\n",
            &answer,
        );
        // Whoever shows up later as somebody starts anew.
        let connect = "CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"p\"}\n";
        says(
            &mut nameless,
            &format!("{connect}PUB ok 1\nx\nPUB no 0\n\n"),
            "",
        );
    }
}

#[test]
fn answers_are_allowed_wherever_the_responder_is_served() {
    let conf = r#"workers: 3
        authorization {users: [{user: u, password: p}
          {user: s, password: p, permissions: {subscribe: {deny: "svc.*.no"}, allow_responses: true}}]}"#;
    let server = start(&midge(), conf);
    let mut requestor = log_in(&server, "u", "p");
    says(&mut requestor, "SUB r.> 1\n", "");
    let mut responders: Vec<_> = (0..6).map(|_| log_in(&server, "s", "p")).collect();
    for (number, responder) in responders.iter_mut().enumerate() {
        // It gets each request twice, and may still answer it once.
        says(
            responder,
            &format!("SUB svc.{number}.* 1\nSUB svc.{number}.> 2\n"),
            "",
        );
        let requests = format!("PUB svc.{number}.no r.no 0\n\nPUB svc.{number}.x r.{number} 0\n\n");
        says(&mut requestor, &requests, "");
        for _ in 0..2 {
            let line = responder.expect_line();
            let expected = [1, 2].map(|sid| format!("MSG svc.{number}.x {sid} r.{number} 0\r\n"));
            let is_it = expected.iter().any(|it| it.as_bytes() == line);
            assert!(is_it, "{}", line.escape_ascii());
            responder.expect(b"\r\n");
        }
        let answer = format!("PUB r.{number} 1\n!\n");
        says(responder, &answer, "");
        says(
            responder,
            &answer,
            &refused("Publish", &format!("r.{number}")),
        );
        says(responder, "PUB r.no 0\n\n", &refused("Publish", "r.no"));
        requestor.expect(format!("MSG r.{number} 1 1\r\n!\r\n").as_bytes());
    }
}

#[test]
fn no_secret_reaches_the_log() {
    let hash = bcrypt::hash("hush-hashed", 4).expect("a cost there is");
    let conf = format!(
        "authorization {{users: [{{user: u, password: hush-plain}}, {{user: h, password: \"{hash}\"}}]}}"
    );
    let start = Start::new(&midge()).conf(&conf).arg("-DV");
    let mut server = start.run().expect("it starts");
    for keys in [
        r#","user":"u","pass":"hush-plain""#,
        r#","user":"h","pass":"hush-hashed""#,
        r#","user":"u","PASS":"hush-wrong""#,
        r#","user":"h","pass":"hush\"wrong""#,
        r#","auth_token":"hush-token""#,
        r#","user":"x\n[ERR] forged","pass":"hush","sig":"hush","jwt":"hush","nkey":"U""#,
        r#","user":"u","pass":["hush"]"#,
    ] {
        let mut connection = server.client(keys);
        connection.send(b"PING\r\n");
        connection.look(6, Duration::from_secs(5));
    }
    let ended = |log: &str| log.matches("Authentication Failure").count() >= 4;
    assert_eq!(server.process().wait_for_log(ended), Ok(()));
    // Neither does what is wrong with a configuration, or what changes.
    for wrong in [
        "authorization {users: [{user: u, password: [hush]}]}",
        "authorization {user: u, password: {a: hush}}",
        "authorization {token: hush, user: hush-user, password: hush}",
        "authorization {user: u, password: \"$2a$11$hush\"}",
        "authorization {users: [{user: u, password: hush}, {user: u, password: hush}]}",
        "authorization {user: u, passwort: hush}",
        "authorization {password: hush}",
        "authorization {user: u, password: hush hush}",
        "cluster {port: -1, routes: [\"nats://u:hush@\", \"http://u:hush@127.0.0.1:1\"]}",
        "remote_syslog: \"tcp://u:hush@\"",
    ] {
        let failed = server.process().log().matches("Failed to reload").count();
        let is_more = |log: &str| log.matches("Failed to reload").count() > failed;
        std::fs::write(server.dir().join("server.conf"), wrong).expect("it is the test's own");
        server.process().signal(rustix::process::Signal::HUP);
        assert_eq!(server.process().wait_for_log(is_more), Ok(()), "{wrong}");
    }
    let conf = "authorization {users: [{user: u, password: hush-new}, {user: v, password: hush}]}";
    server.reload(conf).expect("a good one");
    let log = server.process().log();
    assert!(!log.contains("hush") && !log.contains(&hash), "{log}");
    assert!(!log.contains("\n[ERR] forged"), "{log}");
    assert!(
        log.contains("- authentication error - Token \"[REDACTED]\"\n"),
        "{log}"
    );
}

#[test]
fn a_configuration_that_protects_nothing_is_refused() {
    for (conf, why) in [
        ("authorization {password: hush}", "a password needs a user"),
        (
            "authorization {user: u, password: \"$2a$11$hush\"}",
            "the bcrypt hash of the password is broken, so that nothing matches it",
        ),
        (
            "accounts {A {imports: [{service: {account: B, subject: s}}]}, B {}}",
            "Error adding service import \"s\": service import not authorized",
        ),
    ] {
        let dir = ScratchDir::new();
        let path = dir.path().join("bad.conf");
        std::fs::write(&path, conf).expect("a scratch directory is writable");
        let mut command = std::process::Command::new(midge());
        command
            .args(["-a", "127.0.0.1", "-p", "-1", "-c"])
            .arg(&path);
        let mut process = Process::spawn(command).expect("it can be run");
        assert!(!process.wait().success(), "{conf}");
        let log = process.log();
        assert!(log.contains(why) && !log.contains("hush"), "{conf}: {log}");
    }
}

#[test]
fn lower_limits_of_an_account_end_what_is_beyond_them() {
    let conf = |limits: &str| {
        format!("accounts {{\n A {{\n users: [{{user: a, password: p}}]\n {limits}\n }}\n }}\n")
    };
    for program in programs() {
        let mut server = start(&program, &conf(""));
        let mut clients = [(); 4].map(|()| log_in(&server, "a", "p"));
        clients[0].send(b"SUB x 1\r\nSUB y 2\r\nSUB z 3\r\n");
        clients[1].send(b"SUB x 1\r\n");
        for client in &mut clients {
            client.ping();
        }
        server
            .reload(&conf("limits: {max_subscriptions: 2}"))
            .expect("a reload");
        let [beyond, rest @ ..] = &mut clients;
        beyond.expect(b"-ERR 'maximum subscriptions exceeded'\r\n");
        beyond.expect_eof();
        for client in rest.iter_mut() {
            client.ping();
        }
        server
            .reload(&conf("limits: {max_connections: 1}"))
            .expect("a reload");
        let told = b"-ERR 'maximum account active connections exceeded'\r\n";
        let is_closed = |client: &mut Connection| {
            // Asked only if it has heard nothing: an answer shall not cross a question.
            if client.look(1, support::QUIET).is_empty() {
                client.send(b"PING\r\n");
            }
            client.expect_line() == told
        };
        let closed = rest.iter_mut().map(is_closed).filter(|closed| *closed);
        assert_eq!(closed.count(), 2, "{}", program.display());
    }
}
