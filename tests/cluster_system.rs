//! What the system account sees of a cluster: requests reach every server, and events are heard at every other one.

mod support;

use serde_json::{Value, json};

use rustix::process::Signal;
use support::cluster::{self, expect_interest, expect_mesh, node, route_port, routez};
use support::connection::Connection;
use support::http::get;
use support::server::Server;
use support::{Program, wait_for};

const M: Program = Program::Midge;
const R: Program = Program::Reference;
const MIXES: [[Program; 2]; 3] = [[M, M], [R, M], [M, R]];

/// A system account, and one that is none.
const ACCOUNTS: &str =
    "accounts { A { users: [{user: a, password: p}] }, SYS { users: [{user: s, password: p}] } }
system_account: SYS";

/// The same, with room for two connections in A.
const LIMITED: &str = "accounts { A { users: [{user: a, password: p}], limits: {max_connections: 2} }, SYS { users: [{user: s, password: p}] } }
system_account: SYS";

/// A cluster of two servers with these accounts; `None` where one of them cannot be had.
fn pair(mix: [Program; 2], more: &str) -> Option<[Server; 2]> {
    let servers = cluster::pair(mix, [ACCOUNTS; 2], [more; 2])?;
    expect_mesh(&servers);
    Some(servers)
}

fn client(server: &Server, user: &str) -> Connection {
    let keys =
        format!(",\"headers\":true,\"no_responders\":true,\"user\":\"{user}\",\"pass\":\"p\"");
    let mut client = server.client(&keys);
    client.ping();
    client
}

/// The subject and the payload of the next message.
fn next_message(client: &mut Connection) -> (String, String) {
    loop {
        let line = String::from_utf8(client.expect_line()).expect("UTF-8");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["MSG" | "HMSG", subject, .., size] = words.as_slice() {
            let size: usize = size.parse().expect("a size");
            let payload = client.expect_bytes(size + 2);
            return (
                (*subject).into(),
                String::from_utf8(payload).expect("UTF-8"),
            );
        }
    }
}

/// Waits for a message to a subject that ends so, and gives it as JSON.
fn heard(client: &mut Connection, end: &str) -> (String, Value) {
    loop {
        let (subject, text) = next_message(client);
        if subject.ends_with(end) {
            let value = serde_json::from_str(&text);
            return (subject, value.unwrap_or_else(|why| panic!("{why}: {text}")));
        }
    }
}

/// Makes a request that each of two servers answers; gives the answers, in the order of the servers' names.
fn ask_both(client: &mut Connection, subject: &str, payload: &str) -> [Value; 2] {
    let size = payload.len();
    client.send(format!("PUB {subject} reply {size}\r\n{payload}\r\n").as_bytes());
    let mut answers = [(); 2].map(|()| heard(client, "reply").1);
    answers.sort_by_key(|answer| {
        let server = answer.get("server").unwrap_or(answer);
        server["name"].to_string()
    });
    answers
}

/// Waits until the server that this client of the system account is at counts so many servers.
fn expect_count(client: &mut Connection, wanted: u64) {
    client.send(b"SUB count 9\r\n");
    let found = wait_for(|| {
        let ask = "PUB $SYS.REQ.SERVER.PING count 20\r\n{\"server_name\":\"n0\"}\r\n";
        client.send(ask.as_bytes());
        let (_, answer) = heard(client, "count");
        (answer["statsz"]["active_servers"] == wanted).then_some(())
    });
    assert_eq!(found, Some(()), "{wanted} servers");
    client.send(b"UNSUB 9\r\n");
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().expect("an object").keys().collect()
}

#[test]
fn every_server_answers_requests_that_come_from_another_one() {
    for mix in MIXES {
        let Some(servers) = pair(mix, "") else {
            continue;
        };
        for (at, server) in servers.iter().enumerate() {
            let mut system = client(server, "s");
            system.send(b"SUB reply 1\r\n");
            system.ping();
            expect_interest(&servers[1 - at], "reply", 1);
            // Each counts the other one as soon as it has heard from it.
            let both_count_two = || {
                let answers = ask_both(&mut system, "$SYS.REQ.SERVER.PING", "");
                let count = |it: &Value| it["statsz"]["active_servers"] == 2;
                answers.iter().all(count).then_some(answers)
            };
            let [one, other] = wait_for(both_count_two).expect("both count two servers");
            assert_eq!(
                (&one["server"]["name"], &other["server"]["name"]),
                (&json!("n0"), &json!("n1"))
            );
            for answer in [&one, &other] {
                assert_eq!(answer["server"]["cluster"], "C1", "{answer}");
                let routes = answer["statsz"]["routes"].as_array().expect("routes");
                let names = routes.iter().map(|it| it["name"].as_str().expect("a name"));
                let remote = if answer["server"]["name"] == "n0" {
                    "n1"
                } else {
                    "n0"
                };
                assert_eq!(names.collect::<Vec<_>>(), [remote; 4]);
                assert_eq!(
                    keys(&routes[0]),
                    ["name", "pending", "received", "rid", "sent"]
                );
            }
            let ids = ask_both(&mut system, "$SYS.REQ.SERVER.PING.IDZ", "");
            for id in ids.map(|it| it["id"].as_str().expect("an id").to_owned()) {
                // One server, wherever it is, by its id.
                system
                    .send(format!("PUB $SYS.REQ.SERVER.{id}.VARZ reply 2\r\n{{}}\r\n").as_bytes());
                let (_, varz) = heard(&mut system, "reply");
                let shown = (
                    &varz["data"]["server_id"],
                    &varz["data"]["remotes"],
                    &varz["data"]["routes"],
                );
                assert_eq!(shown, (&json!(id), &json!(1), &json!(4)));
            }
            for name in [
                "STATSZ", "VARZ", "CONNZ", "SUBSZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ",
                "JSZ", "HEALTHZ",
            ] {
                ask_both(&mut system, &format!("$SYS.REQ.SERVER.PING.{name}"), "");
            }
            for name in ["CONNZ", "SUBSZ", "INFO"] {
                ask_both(&mut system, &format!("$SYS.REQ.ACCOUNT.A.{name}"), "");
            }
            // Only where the account has any connection.
            system.send(b"PUB $SYS.REQ.ACCOUNT.SYS.CONNS reply 13\r\n{\"acc\":\"SYS\"}\r\n");
            let (_, conns) = heard(&mut system, "reply");
            assert_eq!((&conns["acc"], &conns["conns"]), (&json!("SYS"), &json!(1)));
            assert_eq!(conns["server"]["name"], json!(format!("n{at}")));
            // Who is left out keeps silent, at either server.
            system.send(b"PUB $SYS.REQ.SERVER.PING reply 20\r\n{\"server_name\":\"n1\"}\r\n");
            assert_eq!(heard(&mut system, "reply").1["server"]["name"], "n1");
            system.send(b"PUB $SYS.REQ.SERVER.NOBODY.VARZ reply 0\r\n\r\n");
            assert!(next_message(&mut system).1.contains("503"));
        }
    }
}

#[test]
fn an_account_hears_of_itself_from_every_server() {
    for mix in MIXES {
        let Some(servers) = pair(mix, "") else {
            continue;
        };
        let mut clients = [client(&servers[0], "a"), client(&servers[1], "a")];
        for (at, asking) in clients.iter_mut().enumerate() {
            asking.send(b"SUB reply 1\r\n");
            asking.ping();
            for subject in ["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"] {
                for answer in ask_both(asking, subject, "{\"auth\":true,\"acc\":\"SYS\"}") {
                    let connections = answer["data"]["connections"].as_array().expect("a list");
                    let accounts = connections.iter().map(|it| it["account"].as_str());
                    assert_eq!(
                        accounts.collect::<Vec<_>>(),
                        [Some("A")],
                        "{subject} at {at}"
                    );
                }
            }
            for answer in ask_both(asking, "$SYS.REQ.ACCOUNT.PING.STATZ", "") {
                let account = answer.to_string();
                assert!(
                    account.contains("\"acc\":\"A\"") && !account.contains("\"acc\":\"SYS\""),
                    "{account}"
                );
            }
            asking.send(b"UNSUB 1\r\n");
            asking.ping();
        }
    }
}

#[test]
fn what_happens_at_one_server_is_heard_at_the_others() {
    for mix in MIXES {
        let Some([first, mut second]) = pair(mix, "") else {
            continue;
        };
        let mut system = client(&first, "s");
        system.send(b"SUB $SYS.SERVER.*.* 1\r\nSUB $SYS.ACCOUNT.*.CONNECT 2\r\nSUB $SYS.ACCOUNT.*.DISCONNECT 3\r\nSUB $SYS.SERVER.*.CLIENT.AUTH.ERR 4\r\nSUB $SYS.ACCOUNT.*.SERVER.CONNS 5\r\n");
        // It may be told of itself first.
        system.send(b"PING\r\n");
        while system.expect_line() != b"PONG\r\n" {}
        expect_interest(&second, "$SYS.SERVER.*.CLIENT.AUTH.ERR", 1);
        let id = get(second.monitor(), "/varz").json()["server_id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let is_second = |event: &Value| {
            let server = event.get("server").unwrap_or(event);
            assert_eq!(
                (&server["name"], &server["id"], &server["cluster"]),
                (&json!("n1"), &json!(id), &json!("C1"))
            );
        };
        drop(client(&second, "a"));
        let (_, event) = heard(&mut system, ".A.CONNECT");
        is_second(&event);
        assert_eq!(event["client"]["user"], "a");
        is_second(&heard(&mut system, ".A.DISCONNECT").1);
        let held = client(&second, "a");
        let conns = loop {
            let (_, conns) = heard(&mut system, ".A.SERVER.CONNS");
            if conns["conns"] == 1 {
                break conns;
            }
        };
        is_second(&conns);
        assert_eq!(
            (&conns["acc"], &conns["total_conns"]),
            (&json!("A"), &json!(1))
        );
        drop(held);
        drop(second.client(",\"user\":\"a\",\"pass\":\"wrong\""));
        is_second(&heard(&mut system, ".CLIENT.AUTH.ERR").1);
        let (subject, statsz) = loop {
            let (subject, statsz) = heard(&mut system, ".STATSZ");
            if subject.contains(&id) {
                break (subject, statsz);
            }
        };
        assert_eq!(subject, format!("$SYS.SERVER.{id}.STATSZ"));
        is_second(&statsz);
        let mut counting = client(&first, "s");
        expect_count(&mut counting, 2);
        second.process().signal(Signal::TERM);
        let (subject, end) = heard(&mut system, ".SHUTDOWN");
        assert_eq!(subject, format!("$SYS.SERVER.{id}.SHUTDOWN"));
        is_second(&end);
        second.process().wait();
        // Nobody is counted who has ended.
        expect_count(&mut counting, 1);
    }
}

#[test]
fn a_lame_duck_is_heard_of_and_not_counted() {
    for mix in MIXES {
        let Some([first, mut second]) = pair(mix, "") else {
            continue;
        };
        let mut counting = client(&first, "s");
        expect_count(&mut counting, 2);
        let mut system = client(&first, "s");
        system.send(b"SUB $SYS.SERVER.*.LAMEDUCK 1\r\n");
        system.ping();
        expect_interest(&second, "$SYS.SERVER.*.LAMEDUCK", 1);
        // Without any client it would just end.
        let _held = client(&second, "a");
        second.process().signal(Signal::USR2);
        let (_, duck) = heard(&mut system, ".LAMEDUCK");
        assert_eq!(duck["name"], "n1");
        expect_count(&mut counting, 1);
        assert!(second.process().ended().is_none());
    }
}

#[test]
fn interest_of_the_server_itself_outlives_that_of_its_clients() {
    for mix in [[M, M], [R, M]] {
        let Some(servers) = pair(mix, "") else {
            continue;
        };
        let asked = "$SYS.REQ.SERVER.PING.VARZ";
        expect_interest(&servers[0], asked, 1);
        let mut nosy = client(&servers[1], "s");
        nosy.send(format!("SUB {asked} 1\r\nSUB told 2\r\n").as_bytes());
        nosy.ping();
        expect_interest(&servers[0], "told", 1);
        nosy.send(b"UNSUB 1\r\nUNSUB 2\r\n");
        nosy.ping();
        expect_interest(&servers[0], "told", 0);
        expect_interest(&servers[0], asked, 1);
    }
}

#[test]
fn permissions_of_routes_hold_back_what_is_asked_of_servers_too() {
    for mix in MIXES {
        let mores = ["", "permissions { import: [\"in.>\"] }"];
        let Some(servers) = cluster::pair(mix, [ACCOUNTS; 2], mores) else {
            continue;
        };
        expect_mesh(&servers);
        let mut marker = client(&servers[1], "s");
        marker.send(b"SUB in.a 1\r\n");
        marker.ping();
        expect_interest(&servers[0], "in.a", 1);
        let page = routez(&servers[0], "?subs=1").to_string();
        assert!(!page.contains("$SYS.REQ"), "{page}");
    }
}

#[test]
fn the_limit_of_an_accounts_connections_holds_for_all_servers_together() {
    for mix in [[R, R], [M, M], [R, M], [M, R]] {
        let Some(servers) = cluster::pair(mix, [LIMITED; 2], [""; 2]) else {
            continue;
        };
        expect_mesh(&servers);
        for server in &servers {
            expect_interest(server, "$SYS.SERVER.ACCOUNT.*.CONNS", 1);
        }
        let enters = |server: &Server| {
            let mut client = server.client(",\"user\":\"a\",\"pass\":\"p\"");
            client.send(b"PING\r\n");
            let answer = client.expect_line();
            let text = b"-ERR 'maximum account active connections exceeded'\r\n";
            assert!(
                answer == b"PONG\r\n" || answer == text,
                "{mix:?} {answer:?}"
            );
            (answer == b"PONG\r\n").then_some(client)
        };
        // Two at one server fill the account, as soon as the other one has heard of them; until then it may let one in, for
        // which the reference server closes others.
        let fill = |held: &mut Vec<Connection>, here: &Server, there: &Server| {
            let is_full = || {
                held.retain_mut(|client| {
                    client.send(b"PING\r\n");
                    client.take_line().is_ok_and(|line| line == b"PONG\r\n")
                });
                held.extend((held.len()..2).filter_map(|_| enters(here)));
                (held.len() == 2 && enters(there).is_none()).then_some(())
            };
            assert_eq!(wait_for(is_full), Some(()), "{mix:?}");
        };
        let mut held = Vec::new();
        for (here, there) in [(0, 1), (1, 0)] {
            fill(&mut held, &servers[here], &servers[there]);
            held.pop();
            let again = wait_for(|| enters(&servers[there]));
            assert!(again.is_some(), "{mix:?} {here}");
            held.clear();
        }
        // Who is killed leaves room; the reference server waits for minutes.
        let [first, second] = servers;
        fill(&mut held, &second, &first);
        if mix[0] == M {
            drop(second);
            assert!(wait_for(|| enters(&first)).is_some(), "{mix:?}");
        }
    }
}

#[test]
fn a_server_that_joins_learns_how_many_connections_accounts_have_at_the_others() {
    for mix in [[M, M], [R, M], [M, R]] {
        let Some(first) = node(mix[0], "n0", None, LIMITED, "") else {
            continue;
        };
        let _held = [client(&first, "a"), client(&first, "a")];
        let seed = Some(route_port(&first));
        let Some(second) = node(mix[1], "n1", seed, LIMITED, "") else {
            continue;
        };
        // One too many would have the reference server close those that it has.
        let mut system = client(&second, "s");
        system.send(b"SUB $SYS.SERVER.ACCOUNT.A.CONNS 1\r\n");
        let (_, told) = heard(&mut system, ".CONNS");
        assert_eq!(
            (&told["server"]["name"], &told["conns"]),
            (&json!("n0"), &json!(2))
        );
        let is_full = || {
            let mut client = second.client(",\"user\":\"a\",\"pass\":\"p\"");
            client.send(b"PING\r\n");
            (client.expect_line() != b"PONG\r\n").then_some(())
        };
        assert_eq!(wait_for(is_full), Some(()), "{mix:?} {}", second.log());
    }
}

#[test]
fn a_client_of_another_server_can_be_kicked() {
    for mix in MIXES {
        let Some([first, second]) = pair(mix, "") else {
            continue;
        };
        let id = get(second.monitor(), "/varz").json()["server_id"].clone();
        let kick = format!("$SYS.REQ.SERVER.{}.KICK", id.as_str().expect("an id"));
        expect_interest(&first, &kick, 1);
        let mut system = client(&first, "s");
        system.send(b"SUB reply 1\r\n");
        system.ping();
        expect_interest(&second, "reply", 1);
        let mut victim = second.connect();
        victim.expect_info();
        victim.send(
            b"CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"p\",\"name\":\"victim\"}\r\n",
        );
        victim.ping();
        let page = get(second.monitor(), "/connz").json();
        let connections = page["connections"].as_array().expect("a list");
        let it = connections.iter().find(|it| it["name"] == "victim");
        let body = format!("{{\"cid\":{}}}", it.expect("it is there")["cid"]);
        system.send(format!("PUB {kick} reply {}\r\n{body}\r\n", body.len()).as_bytes());
        let (_, answer) = heard(&mut system, "reply");
        assert_eq!(
            (&answer["server"]["name"], &answer["error"]),
            (&json!("n1"), &Value::Null)
        );
        victim.expect_eof();
    }
}
