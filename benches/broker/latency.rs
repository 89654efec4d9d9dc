//! Request and reply, one in flight.
//!
//! One thread plays both sides: nothing else can run between the steps anyway, and so no scheduling among the
//! generator's own threads is measured.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::process::{Program, Server};
use crate::wire::Transport;
use crate::{Figures, Outcome};

/// Sends requests one after the other for `duration` and gives the latencies.
pub(crate) fn request_reply(program: &Program, duration: Duration) -> Outcome<Figures> {
    let server = Server::start(program, Transport::Plain)?;
    let mut responder = Client::connect(&server, b"SUB bench.request 1\r\n")?;
    // As client libraries do it: one wildcard subscription, a fresh reply subject for each request.
    let mut requester = Client::connect(&server, b"SUB _INBOX.bench.* 1\r\n")?;

    let mut serial = 0;
    let mut exchange = || -> Outcome<Duration> {
        serial += 1;
        let inbox = format!("_INBOX.bench.{serial:010}");
        let request = format!("PUB bench.request {inbox} 16\r\n{PAYLOAD}\r\n");
        let requested = format!("MSG bench.request 1 {inbox} 16\r\n{PAYLOAD}\r\n").len();
        let reply = format!("PUB {inbox} 16\r\n{PAYLOAD}\r\n");
        let replied = format!("MSG {inbox} 1 16\r\n{PAYLOAD}\r\n").len();
        let start = Instant::now();
        requester.send(request.as_bytes())?;
        responder.receive(requested)?;
        responder.send(reply.as_bytes())?;
        requester.receive(replied)?;
        Ok(start.elapsed())
    };
    for _ in 0..WARM_UP {
        exchange()?;
    }
    let before = server.usage()?;
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < duration {
        latencies.push(exchange()?);
    }
    let elapsed = start.elapsed();
    let spent = server.usage()?.since(&before);
    latencies.sort_unstable();
    let rank = |percent: usize| {
        let latency = latencies.get(latencies.len() * percent / 100);
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(Figures::from([
        ("latency_p50_us", rank(50)),
        ("latency_p99_us", rank(99)),
        (
            "request_cpu_us",
            spent.total_ns / latencies.len() as f64 / 1e3,
        ),
        (
            "request_rate",
            latencies.len() as f64 / elapsed.as_secs_f64(),
        ),
    ]))
}

const PAYLOAD: &str = "................";
const WARM_UP: u32 = 1_000;
