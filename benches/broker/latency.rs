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
    let mut exchange = Exchange::new(&server)?;
    let before = server.usage()?;
    let start = Instant::now();
    let latencies = exchange.latencies(duration)?;
    let elapsed = start.elapsed();
    let spent = server.usage()?.since(&before);
    Ok(Figures::from([
        ("latency_p50_us", percentile_us(&latencies, 50)),
        ("latency_p99_us", percentile_us(&latencies, 99)),
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

/// A requester and a responder.
pub(crate) struct Exchange {
    requester: Client,
    responder: Client,
    serial: u64,
}

impl Exchange {
    /// Connects both, and warms the server up.
    pub(crate) fn new(server: &Server) -> Outcome<Self> {
        let mut exchange = Exchange {
            responder: Client::connect(server, b"SUB bench.request 1\r\n")?,
            // As client libraries do it: one wildcard subscription, a fresh reply subject for each request.
            requester: Client::connect(server, b"SUB _INBOX.bench.* 1\r\n")?,
            serial: 0,
        };
        for _ in 0..WARM_UP {
            exchange.once()?;
        }
        Ok(exchange)
    }

    /// Requests for `duration`; gives how long each took, the shortest first.
    pub(crate) fn latencies(&mut self, duration: Duration) -> Outcome<Vec<Duration>> {
        let start = Instant::now();
        let mut latencies = Vec::new();
        while start.elapsed() < duration {
            latencies.push(self.once()?);
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    fn once(&mut self) -> Outcome<Duration> {
        self.serial += 1;
        let inbox = format!("_INBOX.bench.{:010}", self.serial);
        let request = format!("PUB bench.request {inbox} 16\r\n{PAYLOAD}\r\n");
        let requested = format!("MSG bench.request 1 {inbox} 16\r\n{PAYLOAD}\r\n").len();
        let reply = format!("PUB {inbox} 16\r\n{PAYLOAD}\r\n");
        let replied = format!("MSG {inbox} 1 16\r\n{PAYLOAD}\r\n").len();
        let start = Instant::now();
        self.requester.send(request.as_bytes())?;
        self.responder.receive(requested)?;
        self.responder.send(reply.as_bytes())?;
        self.requester.receive(replied)?;
        Ok(start.elapsed())
    }
}

/// The latency that so many per cent of `sorted` do not exceed, in microseconds.
pub(crate) fn percentile_us(sorted: &[Duration], percent: usize) -> f64 {
    let latency = sorted.get(sorted.len() * percent / 100);
    latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}

const PAYLOAD: &str = "................";
const WARM_UP: u32 = 1_000;
