//! Official clients of a cluster that is started by command lines alone, each server given the seed and nothing else: they
//! are told of all servers, and go on at another one when theirs is killed.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use futures_util::StreamExt;
use rustix::process::Signal;

use support::server::{Server, Start};
use support::{Program, wait_for};

/// How long one step may take: only a failure takes that long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Three servers of this program; `None` where it cannot be had.
fn three(program: Program) -> Option<Vec<Server>> {
    let path = program.path()?;
    let mut servers: Vec<Server> = Vec::new();
    for _ in 0..3 {
        let mut start = Start::new(&path)
            .arg("-D")
            .arg("-cluster")
            .arg("nats://localhost:-1");
        if let Some(seed) = servers.first() {
            let port = route_port(seed);
            start = start.arg("-routes").arg(format!("nats://localhost:{port}"));
        }
        servers.push(start.run().expect("a server that starts"));
    }
    Some(servers)
}

/// The port on which it accepts routes.
fn route_port(server: &Server) -> String {
    let port = wait_for(|| {
        let log = server.log();
        let (_, rest) = log.split_once("Listening for route connections on localhost:")?;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    });
    port.expect("it listens for routes")
}

fn id(server: &Server) -> String {
    server.connect().expect_info()["server_id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// Waits until every server tells clients of all of them.
fn expect_all_told(servers: &[Server]) {
    for server in servers {
        let told = wait_for(|| {
            let info = server.connect().expect_info();
            let urls = info["connect_urls"]
                .as_array()?
                .iter()
                .filter_map(|it| it.as_str());
            let urls: BTreeSet<String> = urls.map(str::to_owned).collect();
            let wanted = servers.iter().map(|it| it.address().to_string()).collect();
            (urls == wanted).then_some(())
        });
        assert_eq!(told, Some(()), "{}", server.log());
    }
}

fn expect_lines(server: &Server, lines: &[String]) {
    for line in lines {
        let is_there = || server.log().contains(line).then_some(());
        assert_eq!(wait_for(is_there), Some(()), "{line} in {}", server.log());
    }
}

fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(scenario);
}

async fn connect(server: &Server) -> Client {
    let options = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(10));
    options
        .connect(server.address().to_string())
        .await
        .expect("a connection")
}

/// Publishes on one connection until the subscriber of another one has had it.
async fn until_heard(publisher: &Client, subject: &str, text: &str, subscriber: &mut Subscriber) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while tokio::time::Instant::now() < end {
        publisher
            .publish(subject.to_owned(), text.to_owned().into())
            .await
            .expect("it publishes");
        publisher.flush().await.expect("it flushes");
        let wait = tokio::time::timeout(Duration::from_millis(50), subscriber.next());
        match wait.await {
            Ok(Some(message)) if message.payload == text.as_bytes() => return,
            // What was published before came more than once.
            _ => {}
        }
    }
    panic!("{text} was not heard");
}

#[test]
fn the_log_tells_how_servers_find_each_other() {
    for program in [Program::Reference, Program::Midge] {
        let Some(servers) = three(program) else {
            continue;
        };
        expect_all_told(&servers);
        let ids: Vec<String> = servers.iter().map(id).collect();
        let seed = route_port(&servers[0]);
        for (at, server) in servers.iter().enumerate() {
            let others = ids.iter().enumerate().filter(|(other, _)| *other != at);
            let mut lines: Vec<String> = others
                .map(|(_, id)| format!("Registering remote route \"{id}\""))
                .collect();
            lines.push("Sent local subscriptions to route".into());
            lines.push("Route connection created".into());
            lines.push("Cluster name is ".into());
            if at > 0 {
                lines.push(format!(
                    "Trying to connect to route on localhost:{seed} (127.0.0.1:{seed})"
                ));
                lines.push(format!("127.0.0.1:{seed} - rid:"));
                lines.push("Route connect msg sent".into());
            }
            expect_lines(server, &lines);
        }
    }
}

#[test]
fn messages_go_from_any_server_to_any_and_a_group_spans_them() {
    for program in [Program::Reference, Program::Midge] {
        let Some(servers) = three(program) else {
            continue;
        };
        expect_all_told(&servers);
        run(async {
            let mut clients = Vec::new();
            for server in &servers {
                let client = connect(server).await;
                let all = client.subscribe("all.*").await.expect("a subscription");
                let member = client
                    .queue_subscribe("work", "q".into())
                    .await
                    .expect("a subscription");
                client.flush().await.expect("it flushes");
                clients.push((client, all, member));
            }
            for from in 0..clients.len() {
                for to in 0..clients.len() {
                    // Interest may still be on its way.
                    let publisher = clients[from].0.clone();
                    let subject = format!("all.{from}{to}");
                    until_heard(&publisher, &subject, &subject, &mut clients[to].1).await;
                }
            }
            const COUNT: usize = 300;
            for number in 0..COUNT {
                let publisher = &clients[number % 3].0;
                publisher
                    .publish("work", number.to_string().into())
                    .await
                    .expect("it publishes");
            }
            for (client, _, _) in &clients {
                client.flush().await.expect("it flushes");
            }
            let mut got = BTreeSet::new();
            let mut shares = [0; 3];
            let end = tokio::time::Instant::now() + DEADLINE;
            while got.len() < COUNT && tokio::time::Instant::now() < end {
                for (share, (_, _, member)) in shares.iter_mut().zip(&mut clients) {
                    let wait = tokio::time::timeout(Duration::from_millis(5), member.next());
                    if let Ok(Some(message)) = wait.await {
                        assert!(got.insert(message.payload.to_vec()), "one came twice");
                        *share += 1;
                    }
                }
            }
            assert_eq!(got.len(), COUNT);
            assert!(shares.iter().all(|&share| share > COUNT / 6), "{shares:?}");
        });
    }
}

#[test]
fn a_client_goes_on_at_a_server_that_it_was_told_of() {
    for program in [Program::Reference, Program::Midge] {
        let Some(mut servers) = three(program) else {
            continue;
        };
        expect_all_told(&servers);
        run(async {
            let client = connect(&servers[0]).await;
            let first = client.server_info().server_id;
            let mut subscriber = client.subscribe("news").await.expect("a subscription");
            client.flush().await.expect("it flushes");
            // Killed, not told to stop.
            drop(servers.remove(0));
            let end = tokio::time::Instant::now() + DEADLINE;
            while client.server_info().server_id == first {
                assert!(
                    tokio::time::Instant::now() < end,
                    "it found no other server"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let known: Vec<String> = servers.iter().map(id).collect();
            assert!(known.contains(&client.server_info().server_id));
            for server in &servers {
                let publisher = connect(server).await;
                until_heard(&publisher, "news", &id(server), &mut subscriber).await;
            }
            // It can be asked there, too.
            let mut requests = client.subscribe("ask").await.expect("a subscription");
            client.flush().await.expect("it flushes");
            let asking = connect(&servers[1]).await;
            let mut heard = asking.subscribe("ready").await.expect("a subscription");
            asking.flush().await.expect("it flushes");
            until_heard(&client, "ready", "now", &mut heard).await;
            let answering = client.clone();
            tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    let reply = request.reply.expect("a reply subject");
                    answering
                        .publish(reply, "yes".into())
                        .await
                        .expect("it answers");
                    answering.flush().await.expect("it flushes");
                }
            });
            let end = tokio::time::Instant::now() + DEADLINE;
            let answer = loop {
                match asking.request("ask", "?".into()).await {
                    Ok(answer) => break answer,
                    Err(error) => assert!(tokio::time::Instant::now() < end, "{error}"),
                }
            };
            assert_eq!(answer.payload, "yes".as_bytes());
        });
    }
}

#[test]
fn a_server_that_is_stopped_loses_its_clients_to_the_others() {
    for program in [Program::Reference, Program::Midge] {
        let Some(mut servers) = three(program) else {
            continue;
        };
        expect_all_told(&servers);
        run(async {
            let client = connect(&servers[0]).await;
            let mut subscriber = client.subscribe("news").await.expect("a subscription");
            client.flush().await.expect("it flushes");
            servers[0].process().signal(Signal::TERM);
            servers[0].process().wait();
            let publisher = connect(&servers[2]).await;
            until_heard(&publisher, "news", "again", &mut subscriber).await;
        });
    }
}
