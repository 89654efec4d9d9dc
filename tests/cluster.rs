//! Clusters of several server processes: of midge alone and, where the reference server is there, mixed with it.

mod support;

use support::cluster::{cluster, expect_interest, expect_mesh, node, remotes, route_port, routez};
use support::connection::Connection;
use support::http::get;
use support::server::Server;
use support::{Program, wait_for};

const M: Program = Program::Midge;
const R: Program = Program::Reference;

/// Who is in a cluster.
const MIXES: [&[Program]; 6] = [
    &[M, M, M],
    &[R, M],
    &[M, R],
    &[R, M, M],
    &[M, R, R],
    &[M, M, R],
];

/// A client that answers PINGs and gets no INFO but the first.
fn client(server: &Server) -> Connection {
    let mut client = server.client(",\"headers\":true,\"no_responders\":true");
    client.ping();
    client
}

#[test]
fn messages_go_from_any_server_to_any_once_and_in_order() {
    for mix in MIXES {
        let Some(servers) = cluster(mix, "", "") else {
            continue;
        };
        let mut clients: Vec<Connection> = servers.iter().map(client).collect();
        for client in &mut clients {
            client.send(b"SUB plain.> 1\r\nSUB big 2\r\n");
            client.ping();
        }
        for server in &servers {
            expect_interest(server, "plain.>", servers.len() - 1);
            expect_interest(server, "big", servers.len() - 1);
        }
        let large = "x".repeat(1 << 20);
        for from in 0..clients.len() {
            let mut text = String::new();
            for number in 0..50 {
                text += &format!("PUB plain.{from} r.{number} 2\r\n{:02}\r\n", number);
                text += &format!(
                    "HPUB plain.{from} 12 14\r\nNATS/1.0\r\n\r\n{:02}\r\n",
                    number
                );
            }
            text += &format!("PUB big {}\r\n{large}\r\n", large.len());
            clients[from].send(text.as_bytes());
            for client in &mut clients {
                for number in 0..50 {
                    client.expect(
                        format!("MSG plain.{from} 1 r.{number} 2\r\n{number:02}\r\n").as_bytes(),
                    );
                    let headers =
                        format!("HMSG plain.{from} 1 12 14\r\nNATS/1.0\r\n\r\n{number:02}\r\n");
                    client.expect(headers.as_bytes());
                }
                client.expect(format!("MSG big 2 {}\r\n{large}\r\n", large.len()).as_bytes());
            }
        }
        for client in &mut clients {
            client.send(b"PING\r\n");
            client.expect(b"PONG\r\n");
        }
    }
}

#[test]
fn a_queue_group_is_one_group_over_all_servers() {
    for mix in MIXES {
        let Some(servers) = cluster(mix, "", "") else {
            continue;
        };
        let mut members: Vec<Connection> = servers.iter().map(client).collect();
        for member in &mut members {
            member.send(b"SUB work q 1\r\n");
            member.ping();
        }
        for server in &servers {
            expect_interest(server, "work", servers.len() - 1);
        }
        const COUNT: usize = 600;
        for server in &servers {
            let mut publisher = client(server);
            publisher.send("PUB work 1\r\nx\r\n".repeat(COUNT).as_bytes());
            publisher.ping();
        }
        // Each member ends its subscription, and counts what it had until then.
        let all = COUNT * servers.len();
        let mut counts = vec![0; members.len()];
        let took_all = wait_for(|| {
            for (member, count) in members.iter_mut().zip(&mut counts) {
                member.send(b"PING\r\n");
                loop {
                    match member.expect_line().as_slice() {
                        b"PONG\r\n" => break,
                        b"x\r\n" => *count += 1,
                        _ => {}
                    }
                }
            }
            (counts.iter().sum::<usize>() >= all).then_some(())
        });
        assert!(
            took_all.is_some() && counts.iter().sum::<usize>() == all,
            "{counts:?}"
        );
        let share = all / servers.len();
        for count in counts {
            assert!(
                count > share / 2 && count < share * 3 / 2,
                "{count} of {all}"
            );
        }
    }
}

#[test]
fn requests_are_answered_across_servers_or_have_no_responder() {
    for mix in MIXES {
        let Some(servers) = cluster(mix, "", "") else {
            continue;
        };
        for (at, server) in servers.iter().enumerate() {
            let mut responder = client(server);
            responder.send(format!("SUB svc.{at} 1\r\n").as_bytes());
            responder.ping();
            let others = servers.iter().enumerate().filter(|&(other, _)| other != at);
            for (other, asking) in others {
                expect_interest(asking, &format!("svc.{at}"), 1);
                let mut requester = client(asking);
                requester.send(
                    format!("SUB in.{at}.{other} 7\r\nPUB svc.{at} in.{at}.{other} 2\r\nhi\r\n")
                        .as_bytes(),
                );
                responder.expect(format!("MSG svc.{at} 1 in.{at}.{other} 2\r\nhi\r\n").as_bytes());
                responder.send(format!("PUB in.{at}.{other} 3\r\nyes\r\n").as_bytes());
                requester.expect(format!("MSG in.{at}.{other} 7 3\r\nyes\r\n").as_bytes());
                requester.send(format!("PUB nobody in.{at}.{other} 0\r\n\r\n").as_bytes());
                requester.expect(format!("HMSG in.{at}.{other} 7 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n").as_bytes());
            }
            responder.send(b"UNSUB 1\r\n");
            responder.ping();
            for (_, asking) in servers.iter().enumerate().filter(|&(other, _)| other != at) {
                expect_interest(asking, &format!("svc.{at}"), 0);
            }
        }
    }
}

/// A cluster of two in which account B has a connection of its own.
fn pinned_cluster(mix: &[Program], accounts: &str) -> Option<Vec<Server>> {
    let first = node(mix[0], "n0", None, accounts, "accounts: [B]")?;
    let second = node(
        mix[1],
        "n1",
        Some(route_port(&first)),
        accounts,
        "accounts: [B]",
    )?;
    let servers = vec![first, second];
    for server in &servers {
        let count = || routez(server, "")["num_routes"].as_u64();
        assert_eq!(wait_for(|| count().filter(|&it| it == 5)), Some(5));
    }
    Some(servers)
}

#[test]
fn accounts_do_not_mix_across_servers() {
    let accounts =
        "accounts { A { users: [{user: a, password: a}] }, B { users: [{user: b, password: b}] } }";
    for mix in [&[M, M][..], &[R, M], &[M, R]] {
        let Some(servers) = pinned_cluster(mix, accounts) else {
            continue;
        };
        let user = |server: &Server, name: &str| {
            let mut client = server.client(&format!(",\"user\":\"{name}\",\"pass\":\"{name}\""));
            client.ping();
            client
        };
        let (mut a, mut b) = (user(&servers[0], "a"), user(&servers[0], "b"));
        a.send(b"SUB x 1\r\n");
        a.ping();
        b.send(b"SUB x 2\r\n");
        b.ping();
        expect_interest(&servers[1], "x", 2);
        user(&servers[1], "a").send(b"PUB x 1\r\na\r\nPING\r\n");
        user(&servers[1], "b").send(b"PUB x 1\r\nb\r\nPING\r\n");
        a.expect(b"MSG x 1 1\r\na\r\n");
        b.expect(b"MSG x 2 1\r\nb\r\n");
    }
}

#[test]
fn a_server_that_is_killed_leaves_nothing_behind_and_is_found_again() {
    for mix in [&[M, M][..], &[R, M], &[M, R]] {
        let Some(mut servers) = cluster(mix, "", "") else {
            continue;
        };
        let last = servers.pop().expect("two servers");
        let mut subscriber = client(&last);
        subscriber.send(b"SUB left 1\r\n");
        subscriber.ping();
        expect_interest(&servers[0], "left", 1);
        // Clients of the first are told where the other one takes clients.
        let urls = |server: &Server| {
            let info = server.connect().expect_info();
            info["connect_urls"].as_array().map_or(0, Vec::len)
        };
        assert_eq!(
            wait_for(|| (urls(&servers[0]) == 2).then_some(())),
            Some(())
        );
        drop(last);
        expect_interest(&servers[0], "left", 0);
        assert_eq!(
            wait_for(|| remotes(&servers[0]).is_empty().then_some(())),
            Some(())
        );
        assert_eq!(
            wait_for(|| (urls(&servers[0]) == 1).then_some(())),
            Some(())
        );
        let seed = route_port(&servers[0]);
        servers.push(node(mix[1], "again", Some(seed), "", "").expect("as before"));
        expect_mesh(&servers);
    }
}

#[test]
fn who_does_not_belong_is_turned_away() {
    for mix in [[M, M], [R, M], [M, R]] {
        let login = "authorization { user: u, password: p }";
        let Some(first) = node(mix[0], "one", None, "", login) else {
            continue;
        };
        let seed = route_port(&first);
        let Some(stranger) = node(mix[1], "two", Some(seed), "", "") else {
            continue;
        };
        let is_told = |text: &str| stranger.log().contains(text).then_some(());
        assert!(
            wait_for(|| is_told("Route Error 'Authorization Violation'")).is_some(),
            "{}",
            stranger.log()
        );
        assert!(remotes(&first).is_empty() && remotes(&stranger).is_empty());
    }
}

#[test]
fn route_permissions_hold_interest_back() {
    for mix in [&[M, M][..], &[R, M], &[M, R]] {
        let Some(first) = node(mix[0], "n0", None, "", "") else {
            continue;
        };
        let more = "permissions { import: [\"in.>\"], export: [\"out.>\"] }";
        let seed = route_port(&first);
        let Some(second) = node(mix[1], "n1", Some(seed), "", more) else {
            continue;
        };
        let servers = [first, second];
        expect_mesh(&servers);
        let mut clients: Vec<Connection> = servers.iter().map(client).collect();
        for client in &mut clients {
            client.send(b"SUB in.a 1\r\nSUB out.a 2\r\nSUB other 3\r\n");
            client.ping();
        }
        // The second one tells of `in.a` alone, and takes notice of `out.a` alone.
        expect_interest(&servers[0], "in.a", 1);
        expect_interest(&servers[1], "out.a", 1);
        for (server, subject) in [(0, "out.a"), (0, "other"), (1, "in.a"), (1, "other")] {
            expect_interest(&servers[server], subject, 0);
        }
    }
}

#[test]
fn routes_use_tls_in_both_directions() {
    let certs = format!("{}/certs", env!("CARGO_MANIFEST_DIR"));
    let file = |name: &str| format!("\"{certs}/{name}\"");
    let (cert, key, ca) = (
        file("server-cert.pem"),
        file("server-key.pem"),
        file("ca.pem"),
    );
    let tls = format!("tls {{ cert_file: {cert}, key_file: {key}, ca_file: {ca} }}");
    for mix in [&[M, M][..], &[R, M], &[M, R]] {
        let Some(servers) = cluster(mix, "", &tls) else {
            continue;
        };
        let mut subscriber = client(&servers[0]);
        subscriber.send(b"SUB x 1\r\n");
        subscriber.ping();
        expect_interest(&servers[1], "x", 1);
        client(&servers[1]).send(b"PUB x 1\r\na\r\nPING\r\n");
        subscriber.expect(b"MSG x 1 1\r\na\r\n");
        // Whoever shows no certificate does not even hear INFO.
        let port = route_port(&servers[0]);
        let mut stranger = Connection::open(([127, 0, 0, 1], port).into()).expect("a connection");
        stranger.send(b"CONNECT {\"cluster\":\"C1\"}\r\n");
        stranger.take_end().expect("the end");
        expect_handshakes(&servers, mix);
    }
}

/// What the first server, which is not told of others, and the second one count of their handshakes.
fn expect_handshakes(servers: &[Server], mix: &[Program]) {
    for (at, server) in servers.iter().enumerate().filter(|(at, _)| mix[*at] == M) {
        let page = get(server.monitor(), "/metrics").body;
        let count = |direction: &str, result: &str| -> u64 {
            let labels = format!("peer=\"route\",direction=\"{direction}\",result=\"{result}\"");
            let sample = format!("midge_tls_handshakes_total{{{labels}}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&sample));
            value.and_then(|it| it.parse().ok()).expect("a count")
        };
        let way = if at == 0 { "accepted" } else { "dialed" };
        assert!(count(way, "done") >= 4, "{page}");
        assert_eq!(count("accepted", "failed"), u64::from(at == 0), "{page}");
    }
}
