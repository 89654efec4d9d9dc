//! Lines of the log that operators and tools look for: the same in both servers.

mod support;

use std::net::TcpListener;

use rustix::process::Signal;

use support::server::{Server, Start};
use support::{programs, start};

/// A user who can be told apart in the log, and may subscribe to these subjects.
fn one_user(subjects: &str) -> String {
    format!(
        "accounts {{ A {{ users: [ {{user: a, password: p, permissions: {{subscribe: [{subjects}]}}}} ] }} }}\n"
    )
}

/// What CONNECT of that user has besides, and how the log names it then.
const USER: &str =
    ",\"user\":\"a\",\"pass\":\"p\",\"name\":\"app\",\"lang\":\"go\",\"version\":\"9\"";
const LABEL: &str = r#" - "v9:go:app" - "A/user:a" - "#;

/// Waits for the log to have this text so many times.
fn expect_times(server: &mut Server, text: &str, count: usize) {
    let process = server.process();
    let found = process.wait_for_log(|log| log.matches(text).count() >= count);
    found.unwrap_or_else(|log| panic!("no {text:?} in {log}"));
}

/// Waits for the log to have all of these lines about that user.
fn expect_log(server: &mut Server, lines: &[&str]) {
    for line in lines {
        expect_times(server, &format!("{LABEL}{line}\n"), 1);
    }
}

/// What the log says, in its order, without what stands before the level.
fn lines(log: &str) -> Vec<&str> {
    let texts = log.lines().filter_map(|line| line.split_once(" ["));
    texts.map(|(_, text)| text).collect()
}

#[test]
fn a_member_of_a_cluster_tells_what_it_starts_and_stops() {
    const CONF: &str = "cluster {name: C, listen: \"127.0.0.1:-1\"}\n";
    for program in programs() {
        let mut server = start(&program, CONF);
        expect_times(&mut server, "Listening for route connections on", 1);
        let renamed = CONF.replace("name: C", "name: D");
        server.reload(&renamed).unwrap();
        server.process().signal(Signal::INT);
        server.process().wait();
        let log = server.log();
        let mut found = lines(&log).into_iter();
        for line in [
            "INF]   Cluster:  C",
            "DBG] Created system account: \"$SYS\"",
            "INF] Cluster name is C",
            "INF] Cluster name updated to D",
            "INF] Initiating Shutdown...",
            "DBG] SYSTEM - System connection closed: Client Closed",
            "INF] Server Exiting..",
        ] {
            assert!(found.any(|it| it == line), "no {line:?} in {log}");
        }
        for line in [
            "DBG] Client accept loop exiting..",
            "DBG] Route accept loop exiting..",
        ] {
            assert!(lines(&log).contains(&line), "no {line:?} in {log}");
        }
    }
}

#[test]
fn there_is_no_talk_of_a_system_account_where_none_is_made() {
    const OWN: &str = "accounts {A {users: [{user: a, password: p}]}}\nsystem_account: A";
    for program in programs() {
        for conf in [OWN, "no_system_account: true"] {
            let mut server = start(&program, conf);
            server.process().signal(Signal::INT);
            server.process().wait();
            let log = server.log();
            assert!(!log.contains("Created system account"), "{log}");
            let is_there = log.contains("SYSTEM - System connection closed");
            assert_eq!(is_there, conf == OWN, "{log}");
        }
    }
}

#[test]
fn a_taken_route_port_is_told_with_its_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address");
    let port = address.port();
    for program in programs() {
        let conf = format!("cluster {{name: C, listen: \"{address}\"}}");
        let start = Start::new(&program).conf(&conf);
        let why = start.run().expect_err("the port is taken");
        let text = format!(
            "[FTL] Error listening on router port: {port} - listen tcp {address}: bind: address already in use\n"
        );
        assert!(why.contains(&text), "{why}");
    }
}

#[test]
fn whoever_was_refused_and_lingers_is_not_pinged() {
    const PINGS: usize = 5;
    for program in programs() {
        let conf = format!("{}ping_interval: \"50ms\"\nping_max: 1000", one_user("foo"));
        let mut server = start(&program, &conf);
        // It does not close its side, so that it is there for a while.
        let mut refused = server.client("");
        refused.expect(b"-ERR 'Authorization Violation'\r\n");
        expect_times(&mut server, "Client connection closed: Auth", 1);
        let before = server.log().matches("Client Ping Timer").count();
        let _other = server.client(USER);
        expect_times(&mut server, "Client Ping Timer", before + PINGS);
        let log = server.log();
        let (_, after) = log.split_once("Client connection closed").expect("it was");
        let own = |line: &&str| line.ends_with("Client Ping Timer") && !line.contains(LABEL);
        assert_eq!(after.lines().find(own), None);
    }
}

#[test]
fn traced_lines_name_the_client_both_ways_and_tell_of_the_end_of_subscriptions() {
    for program in programs() {
        let start = Start::new(&program).conf(&one_user("foo, bar")).arg("-DV");
        let mut server = start.started();
        let mut client = server.client(USER);
        client.send(b"SUB foo 1\r\nSUB bar q 2\r\nPUB foo 2\r\nhi\r\nUNSUB 1\r\nPING\r\n");
        client.expect(b"MSG foo 1 2\r\nhi\r\nPONG\r\n");
        let lines = [
            "<<- [PUB foo 2]",
            "->> [MSG foo 1 2]",
            "->> MSG_PAYLOAD: [\"hi\"]",
            "->> [PONG]",
            "<-> [DELSUB 1]",
        ];
        expect_log(&mut server, &lines);
        client.send(b"SUB foo 3\r\nUNSUB 3 1\r\nPUB foo 0\r\n\r\nSUB foo 4\r\n");
        expect_log(&mut server, &["->> [MSG foo 3 0]", "<-> [DELSUB 3]"]);
        server.reload(&one_user("foo")).unwrap();
        let removed =
            "Removed sub \"bar\" using queue \"q\" (sid \"2\") for User \"a\" - not authorized";
        let found = server.process().wait_for_log(|log| log.contains(removed));
        found.unwrap_or_else(|log| panic!("{log}"));
        expect_log(&mut server, &["<-> [DELSUB 2]"]);
        drop(client);
        expect_log(&mut server, &["<-> [DELSUB 4]"]);
    }
}

#[test]
fn who_was_in_before_is_named_when_tracing_begins() {
    for program in programs() {
        let conf = one_user("foo");
        let mut server = start(&program, &conf);
        let mut client = server.client(USER);
        client.send(b"SUB foo 1\r\n");
        client.ping();
        server.reload(&format!("{conf}trace: true")).unwrap();
        client.send(b"PUB foo 0\r\n\r\n");
        client.expect(b"MSG foo 1 0\r\n\r\n");
        expect_log(&mut server, &["<<- [PUB foo 0]", "->> [MSG foo 1 0]"]);
    }
}

#[test]
fn what_a_client_gets_wrong_is_logged() {
    const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
    for program in programs() {
        let mut server = start(&program, "");
        for (wire, line) in [
            (
                "FOO bar\r\n",
                r#"- Client parser ERROR, state=0, i=0: proto='"FOO bar\r"...'"#,
            ),
            (
                "PUB foo abc\r\n",
                r#"- processPub Bad or Missing Size: "foo abc""#,
            ),
            (
                "HPUB foo 9 5\r\n",
                r#"- processHeaderPub Header Size larger then TotalSize: "foo 9 5""#,
            ),
            ("SUB foo\r\n", r#"- processSub Parse Error: "foo""#),
            ("UNSUB a b c\r\n", r#"- processUnsub Parse Error: "a b c""#),
            ("CONNECT {\"name\":\r\n", "- unexpected end of JSON input"),
            ("INFO {\r\n", "- unexpected end of JSON input"),
            ("-ERR 'it\\'s off'\r\n", "- Client Error 'it"),
            ("CONNECT {\"protocol\":2}\r\n", "- invalid client protocol"),
            (
                "CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
                "- no responders requires headers support",
            ),
        ] {
            let known = server.log().matches(line).count();
            let mut client = server.connect();
            client.expect_info();
            // The second number tells where in what was read: it is 0 at the start of that alone.
            if !wire.starts_with("FOO") {
                client.send(CONNECT.as_bytes());
            }
            client.send(wire.as_bytes());
            let found = server
                .process()
                .wait_for_log(|log| log.matches(line).count() > known);
            found.unwrap_or_else(|log| panic!("no {line:?} in {log}"));
        }
    }
}
