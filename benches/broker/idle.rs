//! What a server costs when nothing moves: at start, per connection, per subscription, and afterwards.

use std::thread::sleep;
use std::time::Duration;

use crate::client::Client;
use crate::load::Load;
use crate::process::{Program, Server};
use crate::site::Site;
use crate::wire::Transport;
use crate::{Figures, Outcome};

/// A server that nobody has connected to: time to start, memory, wake-ups.
pub(crate) fn start(program: &Program, _: Duration) -> Outcome<Figures> {
    let times: Outcome<Vec<Duration>> = (0..STARTS).map(|_| Server::start_timed(program)).collect();
    let mut times = times?;
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();

    let server = Server::start(program, Transport::Plain)?;
    sleep(SETTLE);
    let memory = server.memory()?;
    let wakeups = server.wakeups()?;
    sleep(WAKEUPS_OVER);
    let wakeups = server.wakeups()? - wakeups;
    Ok(Figures::from([
        ("start_ms", median.as_secs_f64() * 1e3),
        ("start_resident_mib", memory.resident_kib / 1024.0),
        ("start_anonymous_mib", memory.anonymous_kib / 1024.0),
        ("wakeups", wakeups / WAKEUPS_OVER.as_secs_f64()),
    ]))
}

/// Connections with one subscription each and no traffic.
pub(crate) fn connections(program: &Program, _: Duration) -> Outcome<Figures> {
    let kib = connection_kib(program, Transport::Plain, CONNECTIONS)?;
    Ok(Figures::from([("connection_kib", kib)]))
}

/// The same over TLS.
pub(crate) fn tls_connections(program: &Program, _: Duration) -> Outcome<Figures> {
    let kib = connection_kib(program, Transport::Tls, TLS_CONNECTIONS)?;
    Ok(Figures::from([("tls_connection_kib", kib)]))
}

/// What each of `count` connections takes.
fn connection_kib(program: &Program, transport: Transport, count: u32) -> Outcome<f64> {
    let server = Server::start(program, transport)?;
    // The first one pays for what all share.
    let mut clients = vec![idle_client(&server, 0)?];
    sleep(SETTLE);
    let before = server.memory()?.resident_kib;
    for serial in 1..=count {
        clients.push(idle_client(&server, serial)?);
    }
    sleep(SETTLE);
    let grown = server.memory()?.resident_kib - before;
    Ok(grown / f64::from(count))
}

/// Further subscriptions of one connection, to a literal subject each.
pub(crate) fn subscriptions(program: &Program, _: Duration) -> Outcome<Figures> {
    let server = Server::start(program, Transport::Plain)?;
    let mut client = idle_client(&server, 0)?;
    sleep(SETTLE);
    let before = server.memory()?.resident_kib;
    client.send(subscribe(SUBSCRIPTIONS).as_bytes())?;
    client.flush()?;
    sleep(SETTLE);
    let grown = server.memory()?.resident_kib - before;
    Ok(Figures::from([(
        "subscription_b",
        grown * 1024.0 / f64::from(SUBSCRIPTIONS),
    )]))
}

/// What stays when, after a fan-out and many subscriptions, everyone has left.
pub(crate) fn leave(program: &Program, _: Duration) -> Outcome<Figures> {
    let site = Site::single(program, Transport::Plain)?;
    sleep(SETTLE);
    let before = site.memory()?.resident_kib;
    let load = Load {
        subscribers: 1_000,
        payload: 128,
        window: 32 << 20,
        ..Load::BASE
    };
    let mut traffic = load.connect(&site)?;
    let subscriber = Client::connect(site.subscribers(), subscribe(SUBSCRIPTIONS).as_bytes())?;
    traffic.run(Duration::from_secs(1))?;
    drop(traffic);
    drop(subscriber);
    sleep(LEFT_FOR);
    let memory = site.memory()?;
    Ok(Figures::from([
        ("left_percent", memory.resident_kib / before * 100.0),
        ("left_peak_mib", memory.peak_kib / 1024.0),
    ]))
}

fn idle_client(server: &Server, serial: u32) -> Outcome<Client> {
    let client = Client::connect(server, format!("SUB idle.{serial:06} 1\r\n").as_bytes());
    client.map_err(|error| format!("connection {serial}: {error}").into())
}

/// SUB lines for `count` distinct subjects.
fn subscribe(count: u32) -> String {
    (0..count)
        .map(|serial| format!("SUB sub.{serial:06} {}\r\n", serial + 2))
        .collect()
}

const STARTS: u32 = 11;
const CONNECTIONS: u32 = 10_000;
const TLS_CONNECTIONS: u32 = 2_000;
const SUBSCRIPTIONS: u32 = 100_000;
/// Until timers and clean-up right after a change are through.
const SETTLE: Duration = Duration::from_secs(1);
const WAKEUPS_OVER: Duration = Duration::from_secs(3);
const LEFT_FOR: Duration = Duration::from_secs(5);
