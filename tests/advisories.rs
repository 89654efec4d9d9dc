//! What has gone wrong in servers of this kind before: one test for each class of published advisories that can apply here,
//! named by what must hold. Those about TLS and clusters stand with the tests of these.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use support::connection::Connection;
use support::server::{Process, Server};
use support::{ScratchDir, midge, start_midge};

fn log_in(server: &Server, user: &str) -> Connection {
    server.client(&format!(
        r#","headers":true,"no_responders":true,"user":"{user}","pass":"p""#
    ))
}

/// Sends lines and a PING, of which exactly `answer` and a PONG must come.
fn says(connection: &mut Connection, lines: &str, answer: &str) {
    connection.send(lines.replace('\n', "\r\n").as_bytes());
    connection.send(b"PING\r\n");
    connection.expect(answer.replace('\n', "\r\n").as_bytes());
    connection.expect(b"PONG\r\n");
}

fn no_responders(subject: &str, sid: &str) -> String {
    let len = 32 + subject.len();
    format!("HMSG in.1 {sid} {len} {len}\nNATS/1.0 503\nNats-Subject: {subject}\n\n\n")
}

/// What a start with this configuration says; it must fail.
fn refusal(conf: &str) -> String {
    let dir = ScratchDir::new();
    let path = dir.path().join("bad.conf");
    std::fs::write(&path, conf).expect("a scratch directory is writable");
    let mut command = Command::new(midge());
    command
        .args(["-a", "127.0.0.1", "-p", "-1", "-c"])
        .arg(&path);
    let mut process = Process::spawn(command).expect("it can be run");
    assert!(!process.wait().success(), "{conf}");
    process.log()
}

/// CVE-2019-13126: a size that overflowed.
#[test]
fn no_size_is_too_large_to_be_refused() {
    let server = start_midge("");
    for size in [
        "2147483647",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "-1",
    ] {
        for line in [
            format!("PUB a {size}\r\n"),
            format!("HPUB a 12 {size}\r\n"),
            format!("HPUB a {size} {size}\r\n"),
            format!("HPUB a {size} 1\r\n"),
        ] {
            let mut connection = server.client(r#","headers":true"#);
            connection.send(line.as_bytes());
            connection.send(b"NATS/1.0\r\n\r\nx\r\n");
            connection.expect_eof();
        }
    }
    says(
        &mut log_in(&server, "u"),
        "SUB a 1\nPUB a 1\nx\n",
        "MSG a 1 1\nx\n",
    );
}

/// CVE-2020-28466, CVE-2022-42709: imports in a circle took all there was of processor and memory.
#[test]
fn imports_in_a_circle_are_refused_with_their_way_and_importing_from_oneself_ends() {
    for kind in ["service", "stream"] {
        for (there, here) in [("x", "x"), ("x.*", "x.$1"), ("x.>", "x.>")] {
            for len in 2..=5 {
                let account = |at: usize| {
                    let from = (at + 1) % len;
                    format!(
                        "A{at} {{ exports = [{{{kind}: \"{there}\"}}], imports = [{{{kind}: {{account: A{from}, subject: \"{there}\"}}, to: \"{here}\"}}] }}"
                    )
                };
                let accounts: Vec<String> = (0..len).map(account).collect();
                let log = refusal(&format!("accounts {{ {} }}", accounts.join(", ")));
                let way = format!(
                    "import forms a cycle: A0 \"{}\" <- A1",
                    here.replace("$1", "*")
                );
                let is_named =
                    log.contains(&way) || log.contains(&way.replace(".*\" <-", ".$1\" <-"));
                assert!(is_named, "{log}");
            }
        }
    }
    let server = start_midge(
        r#"accounts { A {
             users = [{user: a, password: p}]
             exports = [{service: "x.>"}, {stream: "x.>"}]
             imports = [{service: {account: A, subject: "x.>"}, to: "x.x.>"}
                        {stream: {account: A, subject: "x.>"}, to: "x.>"}]
           } }"#,
    );
    let mut a = log_in(&server, "a");
    says(&mut a, "SUB done 1\nSUB x.> 2\n", "");
    a.send(b"PUB x.x.x.x 1\r\nq\r\nPUB done 0\r\n\r\n");
    let mut copies = 0;
    loop {
        let line = a.expect_line();
        match line.starts_with(b"MSG done") {
            true => break,
            false => {
                copies += usize::from(line.starts_with(b"MSG x") || line.starts_with(b"HMSG x"))
            }
        }
    }
    assert!((1..=8).contains(&copies), "{copies}");
}

/// CVE-2022-24450: CONNECT could name the account to be in.
#[test]
fn nobody_chooses_his_account() {
    let server = start_midge("accounts { A { users = [{user: a, password: p}] }, B {} }");
    for wish in [
        r#""account":"B""#,
        r#""new_account":true"#,
        r#""account":"$SYS""#,
    ] {
        let mut connection = server.client(&format!(r#",{wish},"user":"a","pass":"p""#));
        connection.expect(b"-ERR 'Authorization Violation'\r\n");
        connection.expect_eof();
    }
}

/// CVE-2022-26652, CVE-2022-28357: the name of an account became a path.
#[test]
fn the_name_of_an_account_is_no_path() {
    let name = "../../../escaped";
    let server = start_midge(&format!(
        "accounts {{ \"{name}\" {{ users = [{{user: a, password: p}}] }} }}"
    ));
    let files = || -> BTreeSet<_> {
        let files = std::fs::read_dir(server.dir()).expect("it is there");
        files
            .map(|it| it.expect("a readable entry").file_name())
            .collect()
    };
    let before = files();
    says(
        &mut log_in(&server, "a"),
        "SUB a 1\nPUB a 0\n\n",
        "MSG a 1 0\n\n",
    );
    assert_eq!(files(), before);
    assert!(!server.dir().join(name).exists());
}

/// CVE-2022-29946, 2026-17, 2026-18: a queue subscription, or one with wildcards, passed by what was denied.
#[test]
fn what_is_denied_is_not_delivered_in_any_way() {
    let server = start_midge(
        r#"authorization { users = [
             {user: r, password: p, permissions: {subscribe: {deny: ["secret", "*.secret", "open q"]}}}
             {user: w, password: p}
           ] }"#,
    );
    let (mut r, mut w) = (log_in(&server, "r"), log_in(&server, "w"));
    let subscriptions =
        "SUB > 1\nSUB > q 2\nSUB * 3\nSUB * q 4\nSUB *.* 5\nSUB a.* q 6\nSUB *.> q 7\n";
    says(&mut r, subscriptions, "");
    says(
        &mut r,
        "SUB secret q 8\n",
        "-ERR 'Permissions Violation for Subscription to \"secret\" using queue \"q\"'\n",
    );
    says(&mut w, "PUB secret 1\n1\nPUB a.secret 1\n2\n", "");
    says(&mut r, "", "");
    says(&mut w, "PUB open 1\n3\n", "");
    // Nobody in q, and each other subscription once.
    let mut got = BTreeSet::new();
    for _ in 0..2 {
        got.insert(String::from_utf8(r.expect_line()).expect("text"));
        r.expect(b"3\r\n");
    }
    let expected = ["MSG open 1 1\r\n", "MSG open 3 1\r\n"].map(String::from);
    assert_eq!(got, BTreeSet::from(expected));
    says(&mut r, "", "");
}

/// CVE-2023-47090: users of the system account alone let everybody in.
#[test]
fn users_of_the_system_account_open_nothing() {
    for conf in [
        "authorization { users = [{user: a, password: p}] }, accounts { $SYS { users = [{user: s, password: p}] } }",
        "authorization { user: a, password: p }",
        "authorization { token: t }, accounts { SYS {} }, system_account: SYS",
    ] {
        let server = start_midge(conf);
        for keys in ["", r#","user":"""#, r#","user":"s","pass":"""#] {
            let mut connection = server.client(keys);
            connection.expect(b"-ERR 'Authorization Violation'\r\n");
            connection.expect_eof();
        }
        let mut connection = server.connect();
        connection.expect_info();
        connection.send(b"PING\r\n");
        connection.expect(b"-ERR 'Authorization Violation'\r\n");
        connection.expect_eof();
    }
}

/// CVE-2025-30215, CVE-2026-33222: requests of one account reached what belongs to another.
#[test]
fn requests_to_the_server_stay_in_their_account() {
    let server = start_midge(
        r#"accounts {
             A { users = [{user: a, password: p}] }
             B { users = [{user: b, password: p}] }
             SYS { users = [{user: s, password: p}] }
           }
           system_account: SYS"#,
    );
    let mut b = log_in(&server, "b");
    says(&mut b, "SUB > 1\n", "");
    let mut a = log_in(&server, "a");
    says(&mut a, "SUB in.1 7\n", "");
    for subject in [
        "$SYS.REQ.USER.B.INFO",
        "$SYS.REQ.ACCOUNT.B.CONNZ",
        "$SYS.REQ.ACCOUNT.B.SUBSZ",
        "$SYS.REQ.SERVER.PING.VARZ",
        "$SYS.REQ.SERVER.X.RELOAD",
        "$SYS.REQ.SERVER.X.KICK",
        "$SYS.REQ.CLAIMS.UPDATE",
    ] {
        let lines = format!("PUB {subject} in.1 2\n{{}}\n");
        says(&mut a, &lines, &no_responders(subject, "7"));
    }
    says(&mut b, "", "");
}

/// CVE-2026-33246, CVE-2026-33223: a client told a service that it was somebody else.
#[test]
fn only_the_server_says_who_asks() {
    let server = start_midge(
        r#"accounts {
             A { users = [{user: a, password: p}], imports = [{service: {account: B, subject: svc}}] }
             B { users = [{user: b, password: p}], exports = [{service: svc}] }
           }"#,
    );
    let (mut a, mut b) = (log_in(&server, "a"), log_in(&server, "b"));
    says(&mut b, "SUB svc 1\n", "");
    for spoofed in [
        "NATS/1.0\r\nNats-Request-Info: {\"acc\":\"SPOOFED\"}\r\n\r\n",
        "NATS/1.0\r\nNats-Request-Info: SPOOFED\r\nNats-Request-Info: SPOOFED\r\n\r\n",
        "NATS/1.0\r\nnats-request-info: SPOOFED\r\n\r\n",
        "NATS/1.0\r\nNATS-Request-Info : SPOOFED\r\n\r\n",
        "NATS/1.0\nNats-Request-Info: SPOOFED\n\n",
        "Nats-Request-Info: SPOOFED\r\n\r\n",
    ] {
        let len = spoofed.len();
        a.send(format!("HPUB svc {len} {}\r\n{spoofed}hi\r\n", len + 2).as_bytes());
        a.ping();
        let line = String::from_utf8(b.expect_line()).expect("text");
        let total: usize = line
            .trim_end()
            .rsplit(' ')
            .next()
            .and_then(|it| it.parse().ok())
            .expect("a size");
        let body = String::from_utf8(b.expect_bytes(total + 2)).expect("text");
        assert!(!body.contains("SPOOFED"), "{spoofed:?}: {body:?}");
        assert!(
            body.contains("\r\nNats-Request-Info: {\"acc\":\"A\""),
            "{spoofed:?}: {body:?}"
        );
        assert!(body.ends_with("\r\n\r\nhi\r\n"), "{body:?}");
    }
}

/// CVE-2026-33249, 2026-20: a header had the server publish what its sender must not.
#[test]
fn no_header_publishes_anything() {
    let server = start_midge(
        r#"authorization { users = [
             {user: a, password: p, permissions: {publish: ok}}
             {user: w, password: p}
           ] }"#,
    );
    let (mut a, mut w) = (log_in(&server, "a"), log_in(&server, "w"));
    says(&mut w, "SUB > 1\n", "");
    let headers = "NATS/1.0\r\nNats-Trace-Dest: forbidden\r\nNats-Trace-Only: true\r\n\r\n";
    let sizes = format!("{} {}", headers.len(), headers.len() + 2);
    says(
        &mut a,
        &format!("HPUB ok {sizes}\n{headers}hi\n").replace('\r', ""),
        "-ERR 'Permissions Violation for Publish to \"forbidden\"'\n",
    );
    says(&mut w, "", "");
}

/// 2026-16, 2026-24: who came without CONNECT passed by what was required of that user.
#[test]
fn the_way_in_without_credentials_has_the_same_conditions() {
    let server = start_midge(
        r#"authorization { users = [{user: n, password: p, allowed_connection_types: [WEBSOCKET]}] }
           no_auth_user: n"#,
    );
    for first in [
        "PING\r\n",
        "SUB a 1\r\n",
        "CONNECT {}\r\n",
        "PUB a 0\r\n\r\n",
    ] {
        let mut connection = server.connect();
        connection.expect_info();
        connection.send(first.as_bytes());
        connection.expect(b"-ERR 'Authorization Violation'\r\n");
        connection.expect_eof();
    }
}

/// 2026-23: a key that was too short ended the server.
#[test]
fn keys_and_signatures_of_any_length_are_refused() {
    let key = "UCNGL4W5QX66CFX6A6DCBVDH5VOHMI7B2UZZU7TXAUQQSI2JPHULCKBR";
    let server = start_midge(&format!("authorization {{ users = [{{nkey: {key}}}] }}"));
    let lengths = (0..=90)
        .step_by(6)
        .chain([1, 43, 55, 57, 63, 64, 65, 85, 86, 87, 88, 400]);
    for len in lengths {
        let cut: String = key.chars().cycle().take(len).collect();
        for (nkey, sig) in [
            (cut.as_str(), "AAAA"),
            (key, &*"A".repeat(len)),
            (key, &*"=".repeat(len)),
        ] {
            let mut connection = server.client(&format!(r#","nkey":"{nkey}","sig":"{sig}""#));
            connection.expect(b"-ERR 'Authorization Violation'\r\n");
            connection.expect_eof();
        }
    }
}

/// The last one: whatever was sent, who comes now is served.
#[test]
fn bytes_of_other_protocols_end_their_own_connection_alone() {
    let server = start_midge("");
    let mut witness = log_in(&server, "u");
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"RS+ A foo\r\n",
        b"RMSG A foo 1\r\nx\r\n",
        b"LMSG foo 1\r\nx\r\n",
        b"A+ A\r\n",
        b"MSG a 1 1\r\nx\r\n",
        b"-ERR 'x'\r\n",
        &[0; 64],
        &[0xff; 64],
    ] {
        let mut connection = server.connect();
        connection.expect_info();
        connection.send(bytes);
        if !bytes.starts_with(b"-ERR") {
            connection.expect(b"-ERR 'Unknown Protocol Operation'\r\n");
        }
        connection.expect_eof();
    }
    says(&mut witness, "SUB a 1\nPUB a 1\nx\n", "MSG a 1 1\nx\n");
}
