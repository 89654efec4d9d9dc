//! Messages that ask to be traced: who is told what, and who gets them.
//!
//! Every expectation is put to the reference server too. Who is told what stands in short: `in pub x` for a message to `x` from
//! the client or server of the name `pub`, `eg a x.* [q]` for one that went to a subscription of `a` in the group `q`.

mod support;

use serde_json::Value;

use support::cluster::{expect_interest, expect_mesh, pair, route_port};
use support::connection::Connection;
use support::server::{Server, Start};
use support::{Program, programs, start};

const M: Program = Program::Midge;
const R: Program = Program::Reference;

const TOLD: &str = "Nats-Trace-Dest: t.1";
const ONLY: &str = "Nats-Trace-Only: true";
const DENIED: &str = "Not delivered because subscription denies this subject";

/// A client of this name, and with this more in its CONNECT.
fn client(server: &Server, name: &str, more: &str) -> Connection {
    let connect = format!(r#","headers":true,"no_responders":true,"name":"{name}"{more}"#);
    let mut client = server.client(&connect);
    client.ping();
    client
}

/// The same as a user, whose name is its name.
fn user(server: &Server, name: &str) -> Connection {
    client(server, name, &format!(r#","user":"{name}","pass":"p""#))
}

/// What a message with these headers and the payload `hi` is as it is sent, and as it is delivered.
fn message(subject: &str, headers: &[&str]) -> String {
    let mut block = "NATS/1.0\r\n".to_owned();
    for line in headers {
        block += &format!("{line}\r\n");
    }
    block += "\r\n";
    let len = block.len();
    format!("{subject} {len} {}\r\n{block}hi\r\n", len + 2)
}

fn publish(connection: &mut Connection, subject: &str, headers: &[&str]) {
    let message = message(subject, headers);
    connection.send(format!("HPUB {message}").as_bytes());
}

/// A delivery to a subject and sid.
fn expect(connection: &mut Connection, to: &str, headers: &[&str]) {
    connection.expect(format!("HMSG {}", message(to, headers)).as_bytes());
}

fn subscribe(connection: &mut Connection, lines: &[&str]) {
    for line in lines {
        connection.send(format!("SUB {line}\r\n").as_bytes());
    }
    connection.ping();
}

/// The next event that a connection is told.
fn event(connection: &mut Connection) -> Value {
    let line = String::from_utf8(connection.expect_line()).expect("text");
    assert!(line.starts_with("MSG t.1 "), "{line}");
    let size = line.trim_end().rsplit(' ').next().expect("a size");
    let text = connection.expect_bytes(size.parse::<usize>().expect("a size") + 2);
    serde_json::from_slice(&text).expect("an event is JSON")
}

/// What an event tells, in short; all but how the message came in the order of the alphabet.
fn in_short(event: &Value) -> Vec<String> {
    let steps = event["events"].as_array().expect("a list of events");
    let mut told: Vec<String> = steps.iter().map(step_in_short).collect();
    told[1..].sort_unstable();
    told
}

fn step_in_short(step: &Value) -> String {
    let mut words = Vec::new();
    for (key, around) in [
        ("type", ("", "")),
        ("name", ("", "")),
        ("hop", ("hop ", "")),
        ("acc", ("in ", ":")),
        ("from", ("", "")),
        ("subj", ("", "")),
        ("to", ("-> ", "")),
        ("sub", ("", "")),
        ("queue", ("[", "]")),
        ("error", ("(", ")")),
    ] {
        if let Some(text) = step[key].as_str() {
            words.push(format!("{}{text}{}", around.0, around.1));
        }
    }
    words.join(" ")
}

/// Reads on until as many events are there as servers have a part in the message: by the name of the server.
fn events_of(connection: &mut Connection, servers: &[&str]) -> Vec<Value> {
    let mut events: Vec<Value> = servers.iter().map(|_| event(connection)).collect();
    let name = |it: &Value| it["server"]["name"].as_str().unwrap_or_default().to_owned();
    events.sort_by_key(name);
    let names: Vec<String> = events.iter().map(name).collect();
    assert_eq!(names, servers);
    events
}

/// What `tap` is told of a message.
fn told(
    tap: &mut Connection,
    from: &mut Connection,
    subject: &str,
    headers: &[&str],
) -> Vec<String> {
    publish(from, subject, headers);
    in_short(&event(tap))
}

/// Servers for expectations that hold however many workers there are.
fn servers(conf: &str) -> Vec<Server> {
    let several = Start::new(&support::midge()).conf(&format!("workers: 4\n{conf}"));
    let mut servers: Vec<Server> = programs().map(|program| start(&program, conf)).collect();
    servers.push(several.started());
    servers
}

#[test]
fn a_message_that_asks_for_it_is_told_of() {
    for server in servers("server_name: n") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut a = client(&server, "a", "");
        subscribe(&mut a, &["x 1", "* 2", "x q1 3"]);
        let mut b = client(&server, "b", "");
        subscribe(&mut b, &["x 1", "x q2 2"]);
        // The message ends this one.
        b.send(b"SUB > 3\r\nUNSUB 3 1\r\n");
        b.ping();
        let mut nameless = server.client(",\"headers\":true");
        subscribe(&mut nameless, &["x q3 1"]);
        let mut publisher = client(&server, "pub", "");
        publish(&mut publisher, "x", &["A: 1", TOLD, "A:2"]);
        let event = event(&mut tap);
        assert_eq!(
            in_short(&event),
            [
                "in pub in $G: x",
                "eg a *",
                "eg a x",
                "eg a x [q1]",
                "eg b >",
                "eg b x",
                "eg b x [q2]",
                "eg x [q3]",
            ]
        );
        assert_eq!(event["server"]["name"], "n");
        let id = event["server"]["id"].as_str().expect("an id");
        assert_eq!(id.len(), 56);
        let headers = serde_json::json!({"A": ["1", "2"], "Nats-Trace-Dest": ["t.1"]});
        assert_eq!(event["request"]["header"], headers);
        assert_eq!(event["request"]["msgsize"], 47);
        assert!(
            event.get("hops").is_none() && event.get("type").is_none(),
            "{event}"
        );
        let steps = event["events"].as_array().expect("a list");
        for step in steps {
            assert_eq!(step["kind"], 0, "{event}");
            assert!(step["cid"].as_u64().is_some_and(|cid| cid > 0), "{event}");
            assert!(
                step["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')),
                "{event}"
            );
        }
        // It is delivered as ever.
        expect(&mut nameless, "x 1", &["A: 1", TOLD, "A:2"]);

        assert_eq!(
            told(&mut tap, &mut publisher, "no.body", &[TOLD]),
            ["in pub in $G: no.body"]
        );
    }
}

#[test]
fn what_is_only_traced_is_delivered_to_nobody() {
    for server in servers("") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut a = client(&server, "a", "");
        subscribe(&mut a, &["x 1", "x q 2"]);
        a.send(b"SUB x 3\r\nUNSUB 3 1\r\n");
        a.ping();
        let mut publisher = client(&server, "pub", "");
        let all = ["in pub in $G: x", "eg a x", "eg a x", "eg a x [q]"];
        for yes in ["1", "true", "on", "True", "ON"] {
            let only = format!("Nats-Trace-Only: {yes}");
            assert_eq!(told(&mut tap, &mut publisher, "x", &[TOLD, &only]), all);
            assert_eq!(told(&mut tap, &mut publisher, "x", &[&only, TOLD]), all);
        }
        // Nothing has come to it, and nothing has ended.
        a.ping();
        for no in ["yes", "0", "false", "2"] {
            let only = format!("Nats-Trace-Only: {no}");
            publish(&mut publisher, "z", &[TOLD, &only]);
            assert_eq!(in_short(&event(&mut tap)), ["in pub in $G: z"]);
        }
        subscribe(&mut a, &["y 4"]);
        for headers in [
            &[TOLD, "Nats-Trace-Only: yes"][..],
            &[TOLD, "nats-trace-only: 1"],
        ] {
            assert_eq!(told(&mut tap, &mut publisher, "y", headers).len(), 2);
            expect(&mut a, "y 4", headers);
        }
        // Neither does the server have somebody answer, nor is it said that nobody does.
        publisher.send(b"SUB inbox 9\r\n");
        let request = |subject: &str| format!("HPUB {}", message(subject, &[TOLD, ONLY]));
        publisher.send(request("x inbox").as_bytes());
        publisher.ping();
        assert_eq!(in_short(&event(&mut tap)), all);
        publisher.send(request("nobody inbox").as_bytes());
        let status = "NATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n";
        publisher.expect(format!("HMSG inbox 9 38 38\r\n{status}").as_bytes());
        assert_eq!(in_short(&event(&mut tap)), ["in pub in $G: nobody"]);
        a.ping();
    }
}

#[test]
fn messages_that_do_not_ask_for_it_are_not_told_of() {
    for server in servers("") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut a = client(&server, "a", "");
        subscribe(&mut a, &["x 1"]);
        let mut publisher = client(&server, "pub", "");
        let parent = "traceparent: 00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
        for headers in [
            &["A: 1"][..],
            &[ONLY],
            &["nats-trace-dest: t.1"],
            &["Nats-Trace-Dest: "],
            &["Nats-Trace-Dest: trace disabled", ONLY],
            &["A: Nats-Trace-Dest: t.1"],
            &["A: 1", "", "Nats-Trace-Dest: t.1"],
            &["Nats-Trace-Origin-Account: A"],
            &[parent],
            // Nothing can be sent there.
            &["Nats-Trace-Dest: t.*"],
            &["Nats-Trace-Dest: t..1"],
            &["Nats-Trace-Dest: t.1 1"],
        ] {
            publish(&mut publisher, "x", headers);
            expect(&mut a, "x 1", headers);
        }
        publish(&mut publisher, "x", &["Nats-Trace-Dest: t.*", ONLY]);
        // From another account, so to speak.
        let foreign = "Nats-Trace-Origin-Account: A";
        publish(&mut publisher, "x", &[TOLD, foreign, "B: 2"]);
        expect(
            &mut a,
            "x 1",
            &[foreign, "B: 2", "Nats-Trace-Dest: trace disabled"],
        );
        publish(&mut publisher, "x", &[TOLD, ONLY, foreign]);
        publisher.ping();
        a.ping();
        tap.ping();
        assert_eq!(
            told(&mut tap, &mut publisher, "x", &[TOLD, parent]).len(),
            2
        );
    }
}

#[test]
fn nothing_in_a_destination_reads_as_an_operation() {
    for server in servers("") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["> 1"]);
        let mut publisher = client(&server, "pub", "");
        for (at, end) in ["\n", "\r", "\t", " "].into_iter().enumerate() {
            let headers = [
                &*format!("Nats-Trace-Dest: t{end}PING"),
                ONLY,
                &at.to_string(),
            ];
            publish(&mut publisher, "x", &headers);
        }
        publisher.ping();
        tap.ping();
    }
}

#[test]
fn refusals_are_told() {
    let conf = r#"
        accounts { A { users = [
            {user: tap, password: p}
            {user: pub, password: p, permissions: {publish: {deny: ["no.>", "t.no"]}}}
            {user: few, password: p, permissions: {publish: {allow: ["x.>"]}}}
            {user: sub, password: p, permissions: {subscribe: {deny: ["x.no"]}}}
        ] } }"#;
    for server in servers(conf) {
        let mut tap = user(&server, "tap");
        subscribe(&mut tap, &["t.> 1"]);
        let mut publisher = user(&server, "pub");
        let mut sub = user(&server, "sub");
        subscribe(&mut sub, &["x.* 1", "x.* q 2"]);
        let violation = "Permissions Violation for Publish to \"no.1\"";
        for headers in [&[TOLD][..], &[TOLD, ONLY]] {
            let told = told(&mut tap, &mut publisher, "no.1", headers);
            assert_eq!(told, [format!("in pub in A: no.1 ({violation})")]);
            publisher.expect(format!("-ERR '{violation}'\r\n").as_bytes());
            let told = self::told(&mut tap, &mut publisher, "x.no", headers);
            let denied = [
                format!("eg sub x.* ({DENIED})"),
                format!("eg sub x.* [q] ({DENIED})"),
            ];
            assert_eq!(told, ["in pub in A: x.no", &denied[0], &denied[1]]);
        }
        publisher.send(format!("HPUB {}", message("x.1 _R_.1", &[TOLD])).as_bytes());
        let violation = "Permissions Violation for Publish with Reply of \"_R_.1\"";
        publisher.expect(format!("-ERR '{violation}'\r\n").as_bytes());
        assert_eq!(
            in_short(&event(&mut tap)),
            [format!("in pub in A: x.1 ({violation})")]
        );

        // Who may not publish there has nothing told there, nor delivered.
        let elsewhere = [
            &["Nats-Trace-Dest: t.no"][..],
            &["Nats-Trace-Dest: t.no", ONLY],
        ];
        for headers in elsewhere {
            publish(&mut publisher, "x.1", headers);
            publisher.expect(b"-ERR 'Permissions Violation for Publish to \"t.no\"'\r\n");
        }
        let mut few = user(&server, "few");
        publish(&mut few, "y", &[TOLD]);
        few.expect(b"-ERR 'Permissions Violation for Publish to \"t.1\"'\r\n");
        sub.ping();
        tap.ping();
    }
}

#[test]
fn an_own_message_that_is_not_wanted_back_is_told_of_as_such() {
    for server in servers("") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut publisher = client(&server, "pub", ",\"echo\":false");
        subscribe(&mut publisher, &["x 1", "x q 2"]);
        let why = "(Not delivered because of no echo)";
        assert_eq!(
            told(&mut tap, &mut publisher, "x", &[TOLD]),
            [
                "in pub in $G: x",
                &format!("eg pub x {why}"),
                &format!("eg pub x [q] {why}")
            ]
        );
        // A member that does not take it is told of if it was asked before the one that does.
        let mut other = client(&server, "other", "");
        subscribe(&mut other, &["x q 2"]);
        let told = told(&mut tap, &mut publisher, "x", &[TOLD]);
        assert!(told.contains(&"eg other x [q]".to_owned()), "{told:?}");
        publisher.ping();
        expect(&mut other, "x 2", &[TOLD]);
        other.ping();
    }
}

#[test]
fn mappings_are_told() {
    for server in servers("mappings { foo: bar, \"m.*\": \"n.$1\" }") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut a = client(&server, "a", "");
        subscribe(&mut a, &["n.* 1"]);
        let mut publisher = client(&server, "pub", "");
        assert_eq!(
            told(&mut tap, &mut publisher, "m.1", &[TOLD]),
            ["in pub in $G: m.1", "eg a n.*", "sm -> n.1"]
        );
        expect(&mut a, "n.1 1", &[TOLD]);
        assert_eq!(
            told(&mut tap, &mut publisher, "foo", &[TOLD, ONLY]),
            ["in pub in $G: foo", "sm -> bar"]
        );
    }
}

const ACCOUNTS: &str = r#"
    accounts {
        A { users = [{user: a, password: p}, {user: ta, password: p}]
            exports = [{service: "svc.*"}, {stream: "st.>"}] }
        B { users = [{user: b, password: p}, {user: tb, password: p}]
            imports = [
                {service: {account: A, subject: "svc.one"}, to: ask}
                {stream: {account: A, subject: "st.>"}, prefix: from}
            ] } }"#;

#[test]
fn a_trace_ends_where_another_account_begins() {
    for server in servers(ACCOUNTS) {
        let [mut ta, mut tb] = ["ta", "tb"].map(|name| user(&server, name));
        subscribe(&mut ta, &["t.> 1"]);
        subscribe(&mut tb, &["t.> 1"]);
        let [mut a, mut b] = ["a", "b"].map(|name| user(&server, name));
        subscribe(&mut a, &["svc.one 1"]);
        subscribe(&mut b, &["inbox 1", "from.st.* 2", "from.st.* q 3"]);

        // A request to the service of another account.
        let ask = ["in b in B: ask", "si in A: ask -> svc.one"];
        publish(&mut b, "ask inbox", &[TOLD]);
        assert_eq!(in_short(&event(&mut tb)), ask);
        let line = String::from_utf8(a.expect_line()).expect("text");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "svc.one", "1", reply, _, size] = words[..] else {
            panic!("{line}");
        };
        let body = a.expect_bytes(size.parse::<usize>().expect("a size") + 2);
        let body = String::from_utf8(body).expect("text");
        assert!(
            body.contains("Nats-Trace-Dest: trace disabled\r\n"),
            "{body}"
        );

        // The answer.
        publish(&mut a, reply, &[TOLD]);
        let back = format!("si in B: {reply} -> inbox");
        assert_eq!(
            in_short(&event(&mut ta)),
            [format!("in a in A: {reply}"), back]
        );
        expect(&mut b, "inbox 1", &["Nats-Trace-Dest: trace disabled"]);

        // Nobody would have got it, as far as is to be known.
        publish(&mut b, "ask inbox", &[TOLD, ONLY]);
        assert_eq!(in_short(&event(&mut tb)), ask);
        let status = "NATS/1.0 503\r\nNats-Subject: ask\r\n\r\n\r\n";
        b.expect(format!("HMSG inbox 1 35 35\r\n{status}").as_bytes());

        // Streams.
        let export = "se in B: -> from.st.1";
        let all = ["in a in A: st.1", export, export];
        assert_eq!(told(&mut ta, &mut a, "st.1", &[TOLD, ONLY]), all);
        b.ping();
        assert_eq!(told(&mut ta, &mut a, "st.1", &[TOLD]), all);
        b.expect(b"HMSG from.st.1 ");
        for connection in [&mut a, &mut ta, &mut tb] {
            connection.ping();
        }
    }
}

/// Every mix of two servers; the first is dialled by the second.
const MIXES: [[Program; 2]; 4] = [[R, R], [M, M], [R, M], [M, R]];

#[test]
fn each_server_of_a_cluster_tells_of_its_part() {
    for mix in MIXES {
        let Some(servers) = pair(mix, ["", ""], ["", ""]) else {
            continue;
        };
        expect_mesh(&servers);
        let [here, there] = &servers;
        let mut tap = client(here, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut a = client(there, "a", "");
        subscribe(&mut a, &["x 1", "x q 2", "only.queue q 3"]);
        expect_interest(here, "x", 2);
        expect_interest(here, "only.queue", 1);
        expect_interest(there, "t.>", 1);
        let mut publisher = client(here, "pub", "");

        // What a client says of its way is nothing to go by.
        for hop in [None, Some("Nats-Trace-Hop: 7")] {
            let headers: Vec<&str> = [TOLD].into_iter().chain(hop).collect();
            publish(&mut publisher, "x", &headers);
            let events = events_of(&mut tap, &["n0", "n1"]);
            let [first, second] = [0, 1].map(|at| in_short(&events[at]));
            assert_eq!(first, ["in pub in $G: x", "eg n1 hop 1"], "{mix:?}");
            assert_eq!(second[0], "in n0 in $G: x");
            assert_eq!(second[1..], ["eg a x", "eg a x [q]"]);
            assert_eq!(events[0]["hops"], 1);
            assert_eq!(events[1]["request"]["header"]["Nats-Trace-Hop"][0], "1");
            assert!(events[1].get("hops").is_none());
            let kinds = events.iter().flat_map(|event| {
                let steps = event["events"].as_array().expect("a list");
                steps.iter().map(|step| step["kind"].as_u64())
            });
            let kinds: Vec<u64> = kinds.map(|kind| kind.expect("a number")).collect();
            assert_eq!(kinds, [0, 1, 1, 0, 0], "{mix:?}");
            for _ in 0..2 {
                let line = String::from_utf8(a.expect_line()).expect("text");
                assert!(line.ends_with(" 53 55\r\n"), "{line}");
                a.expect(b"NATS/1.0\r\nNats-Trace-Dest: t.1\r\nNats-Trace-Hop: 1\r\n\r\nhi\r\n");
            }
        }

        // Other servers are told, and deliver nothing either.
        for subject in ["x", "only.queue"] {
            publish(&mut publisher, subject, &[TOLD, ONLY]);
            let events = events_of(&mut tap, &["n0", "n1"]);
            assert_eq!(in_short(&events[0])[1..], ["eg n1 hop 1"], "{mix:?}");
            let egresses = if subject == "x" { 2 } else { 1 };
            assert_eq!(in_short(&events[1]).len(), 1 + egresses);
        }
        a.ping();
        publish(
            &mut publisher,
            "x",
            &[TOLD, "Nats-Trace-Origin-Account: A", ONLY],
        );
        publisher.ping();
        publish(&mut publisher, "only.queue", &[TOLD]);
        events_of(&mut tap, &["n0", "n1"]);
        expect(&mut a, "only.queue 3", &[TOLD, "Nats-Trace-Hop: 1"]);
        a.ping();
    }
}

#[test]
fn a_trace_ends_where_another_account_begins_on_another_server() {
    for mix in MIXES {
        let top = ACCOUNTS;
        let Some(servers) = pair(mix, [top, top], ["", ""]) else {
            continue;
        };
        expect_mesh(&servers);
        let [here, there] = &servers;
        let [mut ta, mut tb] = ["ta", "tb"].map(|name| user(here, name));
        subscribe(&mut ta, &["t.> 1"]);
        subscribe(&mut tb, &["t.> 1"]);
        let [mut service, mut importer] = ["a", "b"].map(|name| user(there, name));
        subscribe(&mut service, &["svc.one 1"]);
        subscribe(&mut importer, &["from.st.* 1"]);
        expect_interest(here, "svc.one", 1);
        expect_interest(here, "st.*", 1);
        expect_interest(there, "t.>", 2);

        let mut b = user(here, "b");
        let ask = ["in b in B: ask", "si in A: ask -> svc.one"];
        assert_eq!(told(&mut tb, &mut b, "ask", &[TOLD, ONLY]), ask, "{mix:?}");
        assert_eq!(told(&mut tb, &mut b, "ask", &[TOLD]), ask, "{mix:?}");
        service.expect(b"HMSG svc.one 1 ");

        let mut a = user(here, "a");
        for (headers, is_delivered) in [(&[TOLD, ONLY][..], false), (&[TOLD], true)] {
            publish(&mut a, "st.1", headers);
            let events = events_of(&mut ta, &["n0", "n1"]);
            assert_eq!(
                in_short(&events[0]),
                ["in a in A: st.1", "eg n1 hop 1"],
                "{mix:?}"
            );
            assert_eq!(
                in_short(&events[1]),
                ["in n0 in A: st.1", "se in B: -> from.st.1"]
            );
            if is_delivered {
                expect(&mut importer, "from.st.1 1", &[TOLD, "Nats-Trace-Hop: 1"]);
            }
        }
        importer.ping();
        tb.ping();
    }
}

#[test]
fn a_server_that_does_not_trace_delivers_nothing_that_is_only_traced() {
    for server in servers("cluster { name: c, listen: \"127.0.0.1:-1\", pool_size: -1 }") {
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let mut publisher = client(&server, "pub", "");
        let port = route_port(&server);
        let mut route = Connection::open(([127, 0, 0, 1], port).into()).expect("it accepts routes");
        route.expect_info();
        let id = format!("N{}", "X".repeat(55));
        let info = format!(
            r#"{{"server_id":"{id}","server_name":"old","version":"2.10.0","proto":2,"headers":true,"max_payload":1048576,"host":"127.0.0.1","port":1,"cluster":"c"}}"#
        );
        let connect = format!(
            r#"{{"echo":true,"verbose":false,"pedantic":false,"tls_required":false,"name":"{id}","cluster":"c"}}"#
        );
        route.send(
            format!("CONNECT {connect}\r\nINFO {info}\r\nRS+ $G x\r\nRS+ $G y q 1\r\nPING\r\n")
                .as_bytes(),
        );
        while route.expect_line() != b"PONG\r\n" {}
        let why = "remote does not support message tracing";
        assert_eq!(
            told(&mut tap, &mut publisher, "x", &[TOLD, ONLY]),
            [
                "in pub in $G: x",
                &format!("eg old hop 1 (Not delivered because {why})")
            ]
        );
        assert_eq!(
            told(&mut tap, &mut publisher, "x", &[TOLD]),
            [
                "in pub in $G: x",
                &format!(
                    "eg old hop 1 (Message delivered but {why} so no trace event generated from there)"
                )
            ]
        );
        let mut member = client(&server, "member", "");
        subscribe(&mut member, &["y q 1"]);
        for _ in 0..16 {
            let told = told(&mut tap, &mut publisher, "y", &[TOLD, ONLY]);
            assert_eq!(told.len(), 2, "{told:?}");
        }
        member.ping();
        let delivered = message("$G x", &[TOLD, "Nats-Trace-Hop: 1"]);
        let mut line = route.expect_line();
        while !line.starts_with(b"HMSG") {
            line = route.expect_line();
        }
        assert_eq!(
            line,
            format!("HMSG {}\r\n", delivered.lines().next().expect("a line")).into_bytes()
        );
    }
}

#[test]
fn what_is_told_has_a_bound() {
    const COUNT: usize = 500;
    const BYTES_MAX: usize = 256 * 1024;
    let subject = format!("x.{}", "y".repeat(2000));
    let publishing = |more: &str| {
        let server = start(&support::midge(), more);
        let mut tap = client(&server, "tap", "");
        subscribe(&mut tap, &["t.> 1"]);
        let lines: Vec<_> = (0..COUNT).map(|sid| format!("{subject} {sid}")).collect();
        let mut crowd = client(&server, "crowd", "");
        subscribe(
            &mut crowd,
            &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        publish(&mut tap, &subject, &[TOLD, "Nats-Trace-Only: 1"]);
        let event = event(&mut tap);
        (
            event.to_string().len(),
            event["events"].as_array().map_or(0, Vec::len),
        )
    };
    for more in ["workers: 1", "workers: 4"] {
        let (bytes, steps) = publishing(more);
        assert!(
            bytes <= BYTES_MAX && bytes > BYTES_MAX / 2 && steps > 100,
            "{bytes} bytes, {steps} steps"
        );
    }
}
