//! A cluster without its loop: what its workers tell it, and what it has them do.

use mio::Poll;

use super::*;
use crate::config::options::Options;
use crate::net::fixture;
use crate::net::mailbox::Mail;

/// A cluster with these servers to dial; what it needs to be there lasts as long as the rest does.
fn cluster(routes: &[&str]) -> (Cluster, impl Sized) {
    let (polls, shared) = fixture::shared(1);
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let poll = Poll::new().expect("a descriptor");
    let settings = settings(routes);
    let cluster = Cluster::new(listener, "c".into(), shared, settings, poll.registry());
    (cluster.expect("a cluster"), (polls, poll))
}

fn settings(routes: &[&str]) -> Arc<Settings> {
    let mut options = Options::default();
    options.cluster.name = Some("c".into());
    let urls = routes.iter().map(|it| RouteUrl::parse(it).expect("a URL"));
    options.cluster.routes = urls.collect();
    fixture::settings(options)
}

fn origin(conn: u32) -> Origin {
    Origin {
        worker: 0,
        conn,
        serial: conn,
    }
}

/// A server with this id, as the answer to the attempt of this number.
fn introduced(id: &str, dial: u64, pool_index: u32) -> RouteEvent {
    RouteEvent::Introduced(Box::new(Hello {
        info: RouteInfo {
            server_id: id.into(),
            server_name: id.into(),
            pool_size: Some(3),
            ..RouteInfo::default()
        },
        addr: ([127, 0, 0, 1], 40000).into(),
        dial: Some(dial),
        pool_index,
        account: None,
        cluster: "c".into(),
        is_dynamic: false,
    }))
}

/// What the worker has been told of its routes: those that are admitted, and those that end.
fn told(cluster: &Cluster) -> (Vec<Origin>, Vec<(Origin, CloseReason)>) {
    let mut mail = Mail::default();
    cluster.shared.mailboxes[0].take(&mut mail);
    let (mut admitted, mut ended) = (Vec::new(), Vec::new());
    for command in mail.commands {
        match command {
            Command::Admit(origin) => admitted.push(origin),
            Command::Route { origin, end, .. } => ended.extend(end.map(|end| (origin, end))),
            _ => {}
        }
    }
    (admitted, ended)
}

/// The number of the next attempt.
fn dialled(cluster: &mut Cluster) -> u64 {
    let due = cluster.targets.due(Instant::now());
    due.expect("a target").dial
}

#[test]
fn a_server_that_is_not_to_be_dialled_any_longer_is_not_let_in_when_it_answers() {
    let now = Instant::now();
    let (mut cluster, _rest) = cluster(&["nats://127.0.0.1:1", "nats://127.0.0.1:2"]);
    let (first, second) = (dialled(&mut cluster), dialled(&mut cluster));
    cluster.on_event(origin(1), introduced("B", first, 0), now);
    assert_eq!(told(&cluster), (vec![origin(1)], vec![]));
    // The rest of the pool is being dialled.
    cluster.on_event(origin(1), RouteEvent::Answered, now);
    let third = dialled(&mut cluster);
    cluster.go_over(settings(&[]));
    let removed = |conn| (origin(conn), CloseReason::RouteRemoved);
    assert_eq!(told(&cluster), (vec![], vec![removed(1)]));
    cluster.on_event(origin(2), introduced("C", second, 0), now);
    cluster.on_event(origin(3), introduced("B", third, 1), now);
    assert_eq!(told(&cluster), (vec![], vec![removed(2), removed(3)]));
    for conn in 1..=3 {
        cluster.on_closed(origin(conn), None, now);
    }
    assert!(cluster.remotes().is_empty() && cluster.targets.next().is_none());
}

#[test]
fn whoever_tells_of_this_server_by_other_names_does_not_keep_it_from_hearing_of_others() {
    let now = Instant::now();
    let (mut cluster, _rest) = cluster(&["nats://127.0.0.1:1"]);
    let first = dialled(&mut cluster);
    cluster.on_event(origin(1), introduced("B", first, 0), now);
    let own = cluster.facts.info.server_id.clone();
    let hear = |cluster: &mut Cluster, id: String, port: u16| {
        let info = RouteInfo {
            server_id: id,
            ip: Some(format!("nats-route://127.0.0.1:{port}")),
            ..RouteInfo::default()
        };
        cluster.on_event(origin(1), RouteEvent::Heard(Box::new(info)), now);
        dialled(cluster)
    };
    for name in 0..2000 {
        let dial = hear(&mut cluster, format!("X{name}"), 6222);
        cluster.on_event(origin(2), introduced(&own, dial, 0), now);
        cluster.on_closed(origin(2), Some(dial), now);
    }
    hear(&mut cluster, "C".into(), 3);
}

/// Whether the workers were told that clients have to hear of something.
fn informs(cluster: &Cluster) -> bool {
    let mut mail = Mail::default();
    cluster.shared.mailboxes[0].take(&mut mail);
    let informs = |it: &Command| matches!(it, Command::Facts { inform: true, .. });
    mail.commands.iter().any(informs)
}

#[test]
fn clients_hear_of_other_servers_when_there_is_something_new() {
    let now = Instant::now();
    let (mut cluster, _rest) = cluster(&["nats://127.0.0.1:1"]);
    let dial = dialled(&mut cluster);
    let at = |event, url: &str| match event {
        RouteEvent::Introduced(mut hello) => {
            hello.info.connect_urls = vec![url.into()];
            RouteEvent::Introduced(hello)
        }
        other => other,
    };
    cluster.on_event(origin(1), at(introduced("B", dial, 0), "b:1"), now);
    assert!(informs(&cluster));
    cluster.on_event(origin(1), RouteEvent::Answered, now);
    let dial = dialled(&mut cluster);
    cluster.on_event(origin(2), at(introduced("B", dial, 1), "b:2"), now);
    assert!(informs(&cluster) && cluster.facts.peer_urls == ["b:2"]);
    cluster.go_over(settings(&["nats://127.0.0.1:1"]));
    assert!(!informs(&cluster) && cluster.facts.peer_urls == ["b:2"]);
    let mut other = settings(&["nats://127.0.0.1:1"]).options.clone();
    other.cluster.no_advertise = true;
    cluster.go_over(fixture::settings(other));
    assert!(informs(&cluster) && cluster.facts.peer_urls.is_empty());
}
