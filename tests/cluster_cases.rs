//! Clusters out of the ordinary: strangers, names that nobody has given, pools of different sizes, addresses that come and
//! go. Each case in every mix of two servers, so that the reference server shows first what is to be expected.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};

use support::cluster::{
    Node, cluster, expect_interest, expect_mesh, node, pair, remotes, route_port, routez,
};
use support::connection::Connection;
use support::http::{get, get_until};
use support::server::{Server, Start};
use support::{Program, wait_for};

const M: Program = Program::Midge;
const R: Program = Program::Reference;
/// The first one is dialled by the second one.
const MIXES: [[Program; 2]; 4] = [[R, R], [M, M], [R, M], [M, R]];

fn expect(what: &str, condition: impl FnMut() -> Option<()>, detail: impl Fn() -> String) {
    let found = wait_for(condition);
    assert_eq!(found, Some(()), "{what}:\n{}", detail());
}

fn expect_log(server: &Server, text: &str) {
    let is_there = || server.log().contains(text).then_some(());
    expect(text, is_there, || server.log());
}

/// A client that takes INFO at any time.
fn client(server: &Server) -> Connection {
    let mut client = server.client(",\"protocol\":1,\"headers\":true,\"no_responders\":true");
    client.send(b"PING\r\n");
    while client.expect_line() != b"PONG\r\n" {}
    client
}

/// One that has been told all that INFO has to say, and gets messages alone.
fn plain_client(server: &Server) -> Connection {
    let mut client = server.client(",\"headers\":true,\"no_responders\":true");
    client.ping();
    client
}

/// Reads until INFO says that clients can connect to these servers and no others.
fn expect_urls(client: &mut Connection, servers: &[&Server]) -> Value {
    let mut wanted: Vec<String> = servers.iter().map(|it| it.address().to_string()).collect();
    wanted.sort_unstable();
    loop {
        let line = client.expect_line();
        let Some(json) = line.strip_prefix(b"INFO ") else {
            continue;
        };
        let info: Value = serde_json::from_slice(json).expect("JSON");
        let urls = info["connect_urls"].as_array().cloned().unwrap_or_default();
        let mut urls: Vec<&str> = urls.iter().filter_map(Value::as_str).collect();
        urls.sort_unstable();
        if urls == wanted {
            return info;
        }
    }
}

/// The URLs that a new client is told.
fn told(server: &Server) -> Value {
    server.connect().expect_info()["connect_urls"].clone()
}

#[test]
fn another_cluster_is_turned_away_again_and_again() {
    for mix in MIXES {
        let Some(first) = Node::new(mix[0], "n0").start() else {
            continue;
        };
        let other = Node {
            cluster: Some("C2"),
            seed: Some(route_port(&first)),
            ..Node::new(mix[1], "n1")
        };
        let Some(second) = other.start() else {
            continue;
        };
        let text = "Rejecting connection, cluster name \"C2\" does not match \"C1\"";
        expect_log(&first, text);
        // Who dialled is told, or finds out by itself if it reads INFO first.
        let is_said = || {
            let log = second.log();
            let found_out = log.contains("cluster name \"C1\" does not match \"C2\"");
            (found_out || log.contains(&format!("Route Error '{text}'"))).then_some(())
        };
        expect("the other cluster's name", is_said, || second.log());
        let tries = || first.log().matches("Route connection created").count();
        expect(
            "a second attempt",
            || (tries() > 1).then_some(()),
            || first.log(),
        );
        assert!(remotes(&first).is_empty() && remotes(&second).is_empty());
        expect_log(&first, "Cluster Name Conflict");
    }
}

#[test]
fn a_wrong_password_is_told_on_both_sides() {
    let login = "authorization { user: u, password: p }";
    for mix in MIXES {
        let Some(first) = node(mix[0], "n0", None, "", login) else {
            continue;
        };
        if mix[1].path().is_none() {
            continue;
        }
        let seed = Some(route_port(&first));
        for url in ["", "u:wrong@", "x:p@"] {
            let stranger = Node {
                seed,
                login: url,
                ..Node::new(mix[1], "n1")
            };
            let Some(stranger) = stranger.start() else {
                continue;
            };
            expect_log(&stranger, "Route Error 'Authorization Violation'");
            assert!(remotes(&first).is_empty());
        }
        expect_log(&first, "authentication error - User \"x\"");
        let friend = Node {
            seed,
            login: "u:p@",
            more: login,
            ..Node::new(mix[1], "n1")
        };
        if let Some(friend) = friend.start() {
            expect_mesh(&[first, friend]);
        }
    }
}

#[test]
fn a_server_of_the_same_name_is_not_let_in() {
    for mix in MIXES {
        let Some(first) = node(mix[0], "same", None, "", "") else {
            continue;
        };
        let Some(second) = node(mix[1], "same", Some(route_port(&first)), "", "") else {
            continue;
        };
        expect_log(&first, "Remote server has a duplicate name: \"same\"");
        expect_log(&first, "Duplicate Server Name");
        let is_alone = || remotes(&first).is_empty() && remotes(&second).is_empty();
        expect(
            "both are alone",
            || is_alone().then_some(()),
            || second.log(),
        );
    }
}

#[test]
fn clusters_without_a_name_agree_on_one() {
    let begins_with = |server: &Server| {
        let name = wait_for(|| {
            let log = server.log();
            let (_, name) = log.split_once("Cluster name is ")?;
            Some(name.split_once('\n')?.0.trim().to_owned())
        });
        name.expect("it tells")
    };
    for mix in MIXES {
        for given in [[None, None], [Some("C1"), None], [None, Some("C1")]] {
            let first = Node {
                cluster: given[0],
                ..Node::new(mix[0], "n0")
            };
            let Some(first) = first.start() else {
                continue;
            };
            let second = Node {
                cluster: given[1],
                seed: Some(route_port(&first)),
                ..Node::new(mix[1], "n1")
            };
            let Some(second) = second.start() else {
                continue;
            };
            let wanted = match given {
                [None, None] => begins_with(&first).max(begins_with(&second)),
                _ => "C1".into(),
            };
            let servers = [first, second];
            expect_mesh(&servers);
            for server in &servers {
                let told = server.connect().expect_info();
                assert_eq!(told["cluster"], json!(wanted), "{mix:?} {given:?}");
            }
        }
    }
}

#[test]
fn messages_larger_than_this_server_takes_from_clients_pass_over_routes() {
    for mix in MIXES {
        let Some(servers) = pair(mix, ["max_payload: 4MB", ""], ["", ""]) else {
            continue;
        };
        expect_mesh(&servers);
        let mut subscriber = plain_client(&servers[1]);
        subscriber.send(b"SUB big 1\r\n");
        subscriber.ping();
        expect_interest(&servers[0], "big", 1);
        let payload = "x".repeat(2_000_000);
        let mut publisher = plain_client(&servers[0]);
        publisher
            .send(format!("PUB big 2000000\r\n{payload}\r\nPUB big 5\r\nsmall\r\n").as_bytes());
        subscriber.expect(
            format!("MSG big 1 2000000\r\n{payload}\r\nMSG big 1 5\r\nsmall\r\n").as_bytes(),
        );
        assert_eq!(routez(&servers[0], "")["num_routes"], 4);
    }
}

#[test]
fn clients_are_told_of_servers_that_come_and_go() {
    for mix in MIXES {
        let Some(first) = node(mix[0], "n0", None, "", "") else {
            continue;
        };
        let mut watching = client(&first);
        let Some(mut second) = node(mix[1], "n1", Some(route_port(&first)), "", "") else {
            continue;
        };
        expect_urls(&mut watching, &[&first, &second]);
        expect_urls(&mut client_that_asks(&second), &[&first, &second]);
        second.process().signal(Signal::TERM);
        second.process().wait();
        expect_urls(&mut watching, &[&first]);
        // A lame duck is not where to go, long before it ends.
        let Some(mut third) = node(mix[1], "n2", Some(route_port(&first)), "", "") else {
            continue;
        };
        expect_urls(&mut watching, &[&first, &third]);
        let mut leaving = client(&third);
        third.process().signal(Signal::USR2);
        expect_urls(&mut watching, &[&first]);
        let info = expect_urls(&mut leaving, &[&first]);
        assert_eq!(info["ldm"], true);
        assert!(third.process().ended().is_none());
    }
}

#[test]
fn a_reload_tells_clients_nothing_that_they_know() {
    for mix in MIXES {
        let Some(other) = node(mix[1], "n1", None, "", "") else {
            continue;
        };
        let before = Node {
            seed: Some(route_port(&other)),
            ..Node::new(mix[0], "n0")
        };
        let Some(server) = before.start() else {
            continue;
        };
        let mut servers = [server, other];
        expect_mesh(&servers);
        let mut client = client_that_asks(&servers[0]);
        expect_urls(&mut client, &[&servers[0], &servers[1]]);
        // The first answer may come with an INFO of its own.
        client.send(b"PING\r\n");
        for _ in 0..2 {
            while client.expect_line() != b"PONG\r\n" {}
        }
        let top = "ping_max: 5";
        let after = Node { top, ..before };
        servers[0].reload(&after.conf()).expect("a reload");
        // An INFO would come between them, or before.
        client.ping();
        client.ping();
    }
}

/// A client whose first INFO has not been read.
fn client_that_asks(server: &Server) -> Connection {
    let mut client = server.connect();
    client.send(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    client
}

#[test]
fn what_is_advertised_is_what_is_told() {
    for mix in MIXES {
        for (more, top) in [
            ("no_advertise: true", ""),
            ("", "client_advertise: \"pub.example:4333\""),
            ("", "client_advertise: \"pub.example\""),
            ("advertise: \"127.0.0.1:1\"", ""),
        ] {
            let Some(servers) = pair(mix, ["", top], ["", more]) else {
                continue;
            };
            expect_mesh(&servers);
            let [first, second] = &servers;
            let (own, other) = (first.address().to_string(), second.address().to_string());
            let advertised = match top {
                "" => other.clone(),
                _ if top.contains(":4333") => "pub.example:4333".into(),
                _ => format!("pub.example:{}", second.address().port()),
            };
            let both = |urls: [&str; 2]| json!(urls);
            if more.contains("no_advertise") {
                assert_eq!(
                    (told(first), told(second)),
                    (Value::Null, Value::Null),
                    "{mix:?}"
                );
            } else {
                assert_eq!(
                    (told(first), told(second)),
                    (both([&own, &advertised]), both([&advertised, &own])),
                    "{mix:?} {top}"
                );
            }
            // What it says of itself to other servers.
            let mut peer = Peer::dial(second, "F");
            let info = &peer.info;
            let host = if top.is_empty() {
                None
            } else {
                Some(advertised)
            };
            let port = route_port(second);
            let (shown, ip) = match more.contains("127.0.0.1:1") {
                true => (1, json!("nats-route://127.0.0.1:1/")),
                false => (u64::from(port), Value::Null),
            };
            assert_eq!(
                (&info["port"], &info["ip"]),
                (&json!(shown), &ip),
                "{mix:?} {info}"
            );
            let urls = match more.contains("no_advertise") {
                true => Value::Null,
                false => json!([host.unwrap_or(other)]),
            };
            assert_eq!(info["connect_urls"], urls, "{mix:?} {top}");
            peer.connection.finish_sending();
        }
    }
}

/// A bare peer of ours: another server of the cluster, without a pool.
struct Peer {
    connection: Connection,
    /// What the server says of itself.
    info: Value,
}

impl Peer {
    /// Dials a server, and becomes a part of its cluster.
    fn dial(server: &Server, id: &str) -> Peer {
        let address = ([127, 0, 0, 1], route_port(server)).into();
        let mut connection = Connection::open(address).expect("a connection");
        let info = connection.expect_info();
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"echo\":true,\"headers\":true,\"name\":\"{id}\",\"cluster\":\"C1\"}}\r\nINFO {{\"server_id\":\"{id}\",\"server_name\":\"{id}\",\"host\":\"127.0.0.1\",\"port\":1,\"headers\":true,\"cluster\":\"C1\"}}\r\nPING\r\n"
        );
        connection.send(hello.as_bytes());
        let mut peer = Peer { connection, info };
        peer.settle();
        peer
    }

    /// Waits until all that it has sent is done, and passes over what comes meanwhile.
    fn settle(&mut self) {
        self.connection.send(b"PING\r\n");
        while self.connection.expect_line() != b"PONG\r\n" {}
    }

    /// The next line that is not about interest, nor a PING or a PONG.
    fn next_line(&mut self) -> String {
        loop {
            let line = String::from_utf8(self.connection.expect_line()).expect("UTF-8");
            let is_other = ["RS", "PING", "PONG", "INFO"]
                .iter()
                .all(|it| !line.starts_with(it));
            if is_other {
                return line;
            }
        }
    }
}

#[test]
fn a_message_for_a_group_that_has_left_goes_to_another_member_once() {
    for mix in MIXES {
        let Some(servers) = cluster(&mix, "", "") else {
            continue;
        };
        let [first, second] = servers.as_slice() else {
            unreachable!("two servers")
        };
        let mut peer = Peer::dial(first, "F");
        let mut gone = plain_client(first);
        gone.send(b"SUB work q 1\r\n");
        gone.ping();
        let mut member = plain_client(second);
        member.send(b"SUB work q 1\r\n");
        member.ping();
        expect_interest(first, "work", 1);
        gone.send(b"UNSUB 1\r\n");
        gone.ping();
        // The peer has not taken notice yet.
        peer.connection.send(b"RMSG $G work | q 1\r\n1\r\n");
        member.expect(b"MSG work 1 1\r\n1\r\n");
        member.send(b"UNSUB 1\r\n");
        member.ping();
        expect_interest(first, "work", 0);
        // Nobody at all: it is dropped, and the route stays.
        peer.connection.send(b"RMSG $G work | q 1\r\n2\r\n");
        peer.settle();
        // The peer itself: it may come back, once.
        peer.connection
            .send(b"RS+ $G work q 1\r\nRMSG $G work | q 1\r\n3\r\n");
        assert_eq!(peer.next_line(), "RMSG $G work | q 1\r\n");
        peer.connection.expect(b"3\r\n");
        peer.settle();
        let mut publisher = plain_client(first);
        publisher.send(b"SUB done 1\r\nPUB work 1\r\n4\r\n");
        publisher.ping();
        assert_eq!(peer.next_line(), "RMSG $G work | q 1\r\n");
        peer.connection.expect(b"4\r\n");
        peer.settle();
    }
}

/// Accounts enough to fall to every place of a pool.
const ACCOUNTS: usize = 12;

fn accounts() -> String {
    let account = |at: usize| format!("A{at} {{ users: [{{user: u{at}, password: p}}] }}");
    let accounts: Vec<String> = (0..ACCOUNTS).map(account).collect();
    format!("accounts {{ {} }}", accounts.join(", "))
}

#[test]
fn pools_of_different_sizes_carry_every_account_both_ways() {
    let accounts = accounts();
    for mix in MIXES {
        for sizes in [[3, 3], [5, 3], [3, 5], [1, 3], [3, 1], [-1, 3], [3, -1]] {
            let more = sizes.map(|size| format!("pool_size: {size}"));
            let Some(servers) = pair(mix, [&accounts, &accounts], [&more[0], &more[1]]) else {
                continue;
            };
            let routes = match sizes {
                [-1, _] | [_, -1] => 1,
                [one, other] => i64::from(one.max(other)) + 1,
            };
            for server in &servers {
                let is_complete = || (routez(server, "")["num_routes"] == routes).then_some(());
                let what = format!("{mix:?} {sizes:?}");
                expect(&what, is_complete, || routez(server, "").to_string());
            }
            let user = |server: &Server, at: usize| {
                let mut client = server.client(&format!(",\"user\":\"u{at}\",\"pass\":\"p\""));
                client.ping();
                client
            };
            let mut subscribers = Vec::new();
            for at in 0..ACCOUNTS {
                for (here, server) in servers.iter().enumerate() {
                    let mut subscriber = user(server, at);
                    subscriber.send(format!("SUB to.{here} 1\r\n").as_bytes());
                    subscriber.ping();
                    subscribers.push((at, here, subscriber));
                }
            }
            expect_interest(&servers[0], "to.1", ACCOUNTS);
            expect_interest(&servers[1], "to.0", ACCOUNTS);
            for (at, here, subscriber) in &mut subscribers {
                let mut publisher = user(&servers[1 - *here], *at);
                publisher.send(format!("PUB to.{here} 2\r\n{at:02}\r\n").as_bytes());
                subscriber.expect(format!("MSG to.{here} 1 2\r\n{at:02}\r\n").as_bytes());
            }
            for (_, _, subscriber) in &mut subscribers {
                subscriber.ping();
            }
        }
    }
}

#[test]
fn servers_that_dial_each_other_both_count_as_dialled_and_configured() {
    for mix in MIXES {
        let alone = Node::new(mix[0], "n0");
        let Some(first) = alone.start() else {
            continue;
        };
        let second = Node {
            seed: Some(route_port(&first)),
            ..Node::new(mix[1], "n1")
        };
        let Some(second) = second.start() else {
            continue;
        };
        let mut servers = [first, second];
        expect_mesh(&servers);
        let mutual = Node {
            seed: Some(route_port(&servers[1])),
            ..alone
        };
        servers[0].reload(&mutual.conf()).expect("a reload");
        let are_marked = || {
            let mut all = servers.iter().map(|server| {
                let page = routez(server, "");
                let routes = page["routes"].as_array().expect("routes").clone();
                let is_marked =
                    |it: &Value| it["did_solicit"] == true && it["is_configured"] == true;
                routes.len() == 4 && routes.iter().all(is_marked)
            });
            all.all(|it| it).then_some(())
        };
        let pages = || {
            format!(
                "{mix:?} {} {}",
                routez(&servers[0], ""),
                routez(&servers[1], "")
            )
        };
        expect("both dialled", are_marked, pages);
        expect_mesh(&servers);
    }
}

#[test]
fn routes_are_listed_with_what_the_other_server_is_interested_in() {
    let accounts =
        "accounts { A { users: [{user: a, password: p}] }, B { users: [{user: b, password: p}] } }";
    for mix in MIXES {
        let more = "accounts: [B]\npermissions { import: { deny: \"no.in\" }, export: { allow: \">\", deny: \"no.out\" } }";
        let Some(first) = node(mix[0], "n0", None, accounts, more) else {
            continue;
        };
        let Some(second) = node(mix[1], "n1", Some(route_port(&first)), accounts, more) else {
            continue;
        };
        let mut clients = Vec::new();
        for user in ["a", "b"] {
            let mut client = first.client(&format!(",\"user\":\"{user}\",\"pass\":\"p\""));
            client.send(format!("SUB {user}.x 1\r\nSUB {user}.y q 2\r\n").as_bytes());
            client.ping();
            clients.push(client);
        }
        for subject in ["a.x", "a.y", "b.x", "b.y"] {
            expect_interest(&second, subject, 1);
        }
        let is_complete = || (routez(&second, "")["num_routes"] == 5).then_some(());
        expect("all routes", is_complete, || second.log());
        if mix[1] == M {
            let page = get(second.monitor(), "/metrics").body;
            for sample in ["midge_routes 5\n", "midge_remotes 1\n"] {
                assert!(page.contains(sample), "{sample} in {page}");
            }
        }
        let page = routez(&second, "?subs=detail");
        let permissions = json!({"allow": [">"], "deny": ["no.out"]});
        assert_eq!(
            (&page["export"], &page["import"]["deny"]),
            (&permissions, &json!(["no.in"]))
        );
        let mut seen = Vec::new();
        for route in page["routes"].as_array().expect("routes") {
            assert_eq!(
                (&route["remote_name"], &route["did_solicit"]),
                (&json!("n0"), &json!(true))
            );
            assert_eq!(route["export"], permissions);
            for it in route["subscriptions_list_detail"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let subject = it["subject"].as_str().expect("a subject");
                if subject.starts_with("$SYS") || subject.starts_with("_R_") {
                    continue;
                }
                assert_eq!(it["cid"], route["rid"]);
                let account = route["account"].as_str().unwrap_or("-");
                let sid = it["sid"].as_str().expect("a sid");
                // The reference server leaves the letter out for those who tell it nothing of leaf nodes.
                let sid = if mix == [M, R] {
                    format!("R {sid}")
                } else {
                    sid.into()
                };
                seen.push(format!(
                    "{account} {} {}",
                    json!(sid),
                    it["qgroup"].as_str().unwrap_or("-")
                ));
            }
        }
        seen.sort_unstable();
        let wanted = [
            "- \"R A a.x\" -",
            "- \"R A a.y q\" q",
            "B \"R b.x\" -",
            "B \"R b.y q\" q",
        ];
        assert_eq!(seen, wanted, "{mix:?}");
    }
}

/// Publishes that many messages of half a megabyte, each on a connection of its own: so the server has taken each of
/// them before it could make their producer pause.
fn flood(server: &Server, count: usize) -> Vec<Connection> {
    let message = format!("PUB big 500000\r\n{}\r\n", "x".repeat(500_000));
    let publish = |_| {
        let mut publisher = plain_client(server);
        publisher.send(message.as_bytes());
        publisher
    };
    (0..count).map(publish).collect()
}

#[test]
fn more_may_wait_for_another_server_than_for_a_client() {
    for program in [R, M] {
        let more = "write_deadline: \"60s\"";
        let Some(server) = node(program, "n0", None, "max_pending: 1MB", more) else {
            continue;
        };
        let mut peer = Peer::dial(&server, "F");
        peer.connection.send(b"RS+ $G big\r\n");
        peer.settle();
        const COUNT: usize = 40;
        let _publishers = flood(&server, COUNT);
        let is_over = || {
            let pending = routez(&server, "")["routes"][0]["pending_size"].as_u64()?;
            (pending > 2 << 20).then_some(())
        };
        expect("more than two MiB pending", is_over, || {
            routez(&server, "").to_string()
        });
        let payload = "x".repeat(500_000) + "\r\n";
        for _ in 0..COUNT {
            assert_eq!(peer.next_line(), "RMSG $G big 500000\r\n", "{program}");
            peer.connection.expect(payload.as_bytes());
        }
        peer.settle();
    }
}

#[test]
fn a_server_that_takes_nothing_is_given_up_and_counted_as_a_route() {
    for program in [R, M] {
        for top in ["", "write_timeout: retry"] {
            let Some(server) = node(program, "n0", None, top, "write_deadline: \"1s\"") else {
                continue;
            };
            let mut peer = Peer::dial(&server, "F");
            peer.connection.send(b"RS+ $G big\r\n");
            peer.settle();
            let _publishers = flood(&server, 40);
            let is_gone = || (routez(&server, "")["num_routes"] == 0).then_some(());
            expect("the route's end", is_gone, || server.log());
            let counts = get(server.monitor(), "/varz").json()["slow_consumer_stats"].clone();
            assert!(
                counts["routes"].as_u64() >= Some(1),
                "{program} {counts} {}",
                server.log()
            );
            assert_eq!(counts["clients"], 0);
            expect_log(&server, "Slow Consumer");
            if program == M {
                let page = get(server.monitor(), "/metrics").body;
                let sample = |peer: &str| format!("midge_slow_consumers_total{{peer=\"{peer}\"}} ");
                let count = format!("{}{}\n", sample("route"), counts["routes"]);
                assert!(page.contains(&count), "{page}");
                assert!(page.contains(&format!("{}0\n", sample("client"))), "{page}");
            }
        }
    }
}

#[test]
fn a_peer_that_answers_no_ping_is_stale_and_counted_as_a_route() {
    for program in [R, M] {
        let more = "ping_interval: \"1s\", ping_max: 1";
        let Some(server) = node(program, "n0", None, "", more) else {
            continue;
        };
        let mut peer = Peer::dial(&server, "F");
        peer.connection.keep_pings();
        while peer.connection.expect_line() != b"-ERR 'Stale Connection'\r\n" {}
        peer.connection.expect_eof();
        let counts = get_until(server.monitor(), "/varz", |it| {
            it["stale_connection_stats"]["routes"] == 1
        });
        assert_eq!(
            (
                &counts["stale_connections"],
                &counts["stale_connection_stats"]["clients"]
            ),
            (&json!(1), &json!(0))
        );
    }
}

#[test]
fn a_reload_of_permissions_withdraws_interest_and_gives_it_back() {
    for mix in MIXES {
        let Some(first) = node(mix[0], "n0", None, "", "") else {
            continue;
        };
        let before = Node {
            seed: Some(route_port(&first)),
            ..Node::new(mix[1], "n1")
        };
        let Some(second) = before.start() else {
            continue;
        };
        let mut servers = [first, second];
        expect_mesh(&servers);
        let mut clients = servers.each_ref().map(plain_client);
        for client in &mut clients {
            client.send(b"SUB in.a 1\r\nSUB out.a 2\r\nSUB other.* q 3\r\n");
            client.ping();
        }
        let expect_all = |servers: &[Server; 2], counts: [[usize; 3]; 2]| {
            for (server, counts) in servers.iter().zip(counts) {
                for (subject, count) in ["in.a", "out.a", "other.*"].iter().zip(counts) {
                    expect_interest(server, subject, count);
                }
            }
        };
        let pings = |server: &Server| {
            let page = routez(server, "?subs=1").to_string();
            page.matches("\"$SYS.REQ.SERVER.PING\"").count()
        };
        expect_all(&servers, [[1; 3], [1; 3]]);
        assert_eq!((pings(&servers[0]), pings(&servers[1])), (1, 1));
        let routes = routez(&servers[1], "")["routes"][0]["rid"].clone();
        let more = "permissions { import: [\"in.>\"], export: { deny: \"in.>\", allow: [\"out.>\", \"in.>\"] } }";
        let after = Node { more, ..before };
        servers[1].reload(&after.conf()).expect("a reload");
        // The second one tells of `in.a` alone, and takes notice of `out.a` alone; of what servers are asked, of nothing.
        expect_all(&servers, [[1, 0, 0], [0, 1, 0]]);
        let is_gone = || (pings(&servers[0]) == 0).then_some(());
        expect("no requests to the second one", is_gone, || {
            routez(&servers[0], "?subs=1").to_string()
        });
        let shown = routez(&servers[1], "");
        assert_eq!(shown["import"], json!({"allow": ["in.>"]}));
        plain_client(&servers[0]).send(b"PUB in.a 1\r\na\r\nPING\r\n");
        clients[1].expect(b"MSG in.a 1 1\r\na\r\n");
        let more =
            "permissions { import: [\"in.>\", \"other.>\"], export: [\"out.>\", \"other.>\"] }";
        let wider = Node { more, ..before };
        servers[1].reload(&wider.conf()).expect("a reload");
        expect_all(&servers, [[1, 0, 1], [0, 1, 1]]);
        servers[1].reload(&before.conf()).expect("a reload");
        expect_all(&servers, [[1; 3], [1; 3]]);
        let are_back = || ((pings(&servers[0]), pings(&servers[1])) == (1, 1)).then_some(());
        expect("requests to both", are_back, || {
            routez(&servers[0], "?subs=1").to_string()
        });
        assert_eq!(
            routez(&servers[1], "")["routes"][0]["rid"],
            routes,
            "the routes stay"
        );
    }
}

#[test]
fn a_route_by_tls_goes_to_the_host_that_its_url_names_and_no_other() {
    let certs = format!("{}/certs", env!("CARGO_MANIFEST_DIR"));
    let tls = format!(
        "tls {{ cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", ca_file: \"{certs}/ca.pem\" }}"
    );
    for mix in MIXES {
        let first = Node {
            more: &tls,
            ..Node::new(mix[0], "n0")
        };
        // All of this machine's addresses, of which the certificate names the first one.
        let conf = first
            .conf()
            .replace("127.0.0.1:-1\"\n\ntls", "0.0.0.0:-1\"\n\ntls");
        let (Some(path), Some(other)) = (mix[0].path(), mix[1].path()) else {
            continue;
        };
        let first = Start::new(&path)
            .conf(&conf)
            .arg("-D")
            .run()
            .expect("it starts");
        let port = wait_for(|| {
            let log = first.log();
            let (_, rest) = log.split_once("Listening for route connections on 0.0.0.0:")?;
            rest.split_once('\n')?.0.trim().parse().ok()
        });
        let port: u16 = port.expect("it listens for routes");
        let dialling = |host: &str| {
            let second = Node {
                seed: Some(port),
                more: &tls,
                ..Node::new(mix[1], "n1")
            };
            let conf = second
                .conf()
                .replace(&format!("127.0.0.1:{port}"), &format!("{host}:{port}"));
            Start::new(&other)
                .conf(&conf)
                .arg("-D")
                .run()
                .expect("it starts")
        };
        let stranger = dialling("127.0.0.2");
        expect_log(&stranger, "TLS route handshake error");
        expect_log(&stranger, "TLS Handshake Failure");
        assert!(remotes(&stranger).is_empty() && remotes(&first).is_empty());
        drop(stranger);
        for host in ["127.0.0.1", "localhost"] {
            let friend = dialling(host);
            let is_there = || (remotes(&friend) == ["n0"]).then_some(());
            expect(host, is_there, || friend.log());
        }
    }
}

#[test]
fn a_certificate_must_be_that_of_a_known_host_where_that_is_asked_for() {
    let certs = format!("{}/certs", env!("CARGO_MANIFEST_DIR"));
    let tls = |more: &str| {
        format!(
            "tls {{ cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", ca_file: \"{certs}/ca.pem\", {more} }}"
        )
    };
    for mix in MIXES {
        for (host, is_known) in [("localhost", true), ("elsewhere.invalid", false)] {
            // Nobody listens there: what counts is that the URL is in the configuration.
            let (seed, more) = (Some(1), tls("verify_cert_and_check_known_urls: true"));
            let first = Node {
                seed,
                more: &more,
                ..Node::new(mix[0], "n0")
            };
            let conf = first
                .conf()
                .replace("route://127.0.0.1:", &format!("route://{host}:"));
            let (Some(path), Some(_)) = (mix[0].path(), mix[1].path()) else {
                continue;
            };
            let first = Start::new(&path)
                .conf(&conf)
                .arg("-D")
                .run()
                .expect("it starts");
            let more = tls("");
            let second = Node {
                seed: Some(route_port(&first)),
                more: &more,
                ..Node::new(mix[1], "n1")
            };
            let second = second.start().expect("it is there");
            if is_known {
                expect_mesh(&[first, second]);
                continue;
            }
            expect_log(&first, "authentication error");
            expect_log(&second, "Route Error 'Authorization Violation'");
            assert!(remotes(&first).is_empty());
        }
    }
}

/// Connections to the route port that come while there is no descriptor left wait for one, though nobody else comes.
#[test]
fn servers_that_come_when_descriptors_run_out_are_served_later() {
    const LIMIT: u32 = 64;
    let Some(path) = M.path() else { return };
    let conf = Node::new(M, "n0").conf();
    let server = Start::new(&path).conf(&conf).descriptors(LIMIT).started();
    let address = ([127, 0, 0, 1], route_port(&server)).into();
    let open = || Connection::open(address).expect("a connection");
    let mut first: Vec<_> = (0..LIMIT / 4).map(|_| open()).collect();
    for one in &mut first {
        one.expect_info();
    }
    let mut later: Vec<_> = (0..LIMIT).map(|_| open()).collect();
    // So many cannot be open at the same time. Each that has been served makes room for another one.
    drop(first);
    for mut one in later.drain(..) {
        one.expect_info();
    }
}

#[test]
fn what_is_mapped_for_a_cluster_follows_its_name() {
    let top = "mappings { a: [ {destination: x, weight: 100%, cluster: X}, \
               {destination: y, weight: 100%, cluster: Y} ] }";
    for program in [R, M] {
        let node = |cluster| Node {
            cluster: Some(cluster),
            top,
            ..Node::new(program, "n0")
        };
        let Some(mut server) = node("X").start() else {
            continue;
        };
        let mut client = plain_client(&server);
        client.send(b"SUB * 1\r\nPUB a 1\r\n1\r\n");
        client.expect(b"MSG x 1 1\r\n1\r\n");
        server.reload(&node("Y").conf()).expect("a reload");
        client.send(b"PUB a 1\r\n2\r\n");
        client.expect(b"MSG y 1 1\r\n2\r\n");
    }
}

#[test]
fn a_reply_that_looks_like_a_mark_of_groups_is_a_reply() {
    for mix in MIXES {
        let Some(servers) = pair(mix, ["", ""], ["", ""]) else {
            continue;
        };
        expect_mesh(&servers);
        let mut receiver = plain_client(&servers[0]);
        receiver.send(b"SUB t 1\r\nSUB q g 2\r\n");
        receiver.ping();
        expect_interest(&servers[1], "t", 1);
        expect_interest(&servers[1], "q", 1);
        let mut sender = plain_client(&servers[1]);
        for reply in ["|", "+"] {
            sender.send(format!("PUB t {reply} 2\r\nhi\r\nPUB q {reply} 2\r\nho\r\n").as_bytes());
            receiver.expect(
                format!("MSG t 1 {reply} 2\r\nhi\r\nMSG q 2 {reply} 2\r\nho\r\n").as_bytes(),
            );
        }
    }
}

#[test]
fn more_groups_than_a_line_can_name_are_no_end_of_a_route() {
    const GROUPS: usize = 40;
    // The reference server writes them all into one line, which closes the route.
    for mix in MIXES.into_iter().filter(|[_, sender]| *sender == M) {
        let Some(servers) = pair(mix, ["", ""], ["", ""]) else {
            continue;
        };
        expect_mesh(&servers);
        let mut receiver = plain_client(&servers[0]);
        let name = "x".repeat(3900);
        for sid in 10..10 + GROUPS {
            receiver.send(format!("SUB q {name}{sid} {sid}\r\n").as_bytes());
        }
        receiver.ping();
        expect_interest(&servers[1], "q", GROUPS);
        let mut sender = plain_client(&servers[1]);
        sender.send(b"PUB q 2\r\nhi\r\n");
        let all = receiver.expect_bytes(GROUPS * b"MSG q 10 2\r\nhi\r\n".len());
        for sid in 10..10 + GROUPS {
            let one = format!("MSG q {sid} 2\r\nhi\r\n");
            assert!(String::from_utf8_lossy(&all).contains(&one), "{one}");
        }
    }
}
