//! What a page over ten thousand connections takes from the messages beside it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::client::Client;
use crate::process::{Program, Server};
use crate::wire::Transport;
use crate::{Figures, Outcome};

/// Asks for `/connz` with everything it can tell of ten thousand connections, beside a publisher and a subscriber in full
/// flow.
///
/// A worker takes part in a page by slices at the end of its turns, so a message comes later by one slice for each turn
/// that it waits for. Histograms of midge's own tell how much CPU time each slice took, which does not depend on who else
/// is on the machine, and how long turns were, which does.
pub(crate) fn page(program: &Program, _: Duration) -> Outcome<Figures> {
    let server = Server::start(&program.with_monitoring(), Transport::Plain)?;
    let clients: Outcome<Vec<Client>> = (0..CONNECTIONS)
        .map(|serial| Client::connect(&server, format!("SUB idle.{serial:06} 1\r\n").as_bytes()))
        .collect();
    let clients = clients?;
    sleep(SETTLE);

    let usage = server.usage()?;
    ask(&server)?;
    let usage = server.usage()?.since(&usage);
    let mut figures = Figures::from([("connz_cpu_ms", usage.total_ns / 1e6 / f64::from(REQUESTS))]);

    let is_over = AtomicBool::new(false);
    let spans = thread::scope(|scope| {
        let flow = scope.spawn(|| flow(&server, &is_over).map_err(|error| error.to_string()));
        let measured = (|| {
            let start = Histograms::of(&server)?;
            sleep(FLOW_ALONE);
            let alone = Histograms::of(&server)?;
            ask(&server)?;
            Ok::<_, Box<dyn std::error::Error>>((start, alone, Histograms::of(&server)?))
        })();
        is_over.store(true, Ordering::Relaxed);
        flow.join().map_err(|_| "the flow panicked")??;
        measured
    })?;
    if let (Some(start), Some(alone), Some(end)) = spans {
        let slices = end.slices.since(&alone.slices);
        figures.extend([
            ("slice_mean_us", slices.seconds / slices.count() * 1e6),
            ("slice_longest_us", slices.quantile(1.0) * 1e6),
            ("slices", slices.count() / f64::from(REQUESTS)),
            (
                "turn_p99_us",
                alone.turns.since(&start.turns).quantile(0.99) * 1e6,
            ),
            (
                "connz_turn_p99_us",
                end.turns.since(&alone.turns).quantile(0.99) * 1e6,
            ),
        ]);
    }
    drop(clients);
    Ok(figures)
}

/// Asks for the page, time and again, and sees that it is whole.
fn ask(server: &Server) -> Outcome<()> {
    for _ in 0..REQUESTS {
        let page = get(server, "/connz?subs=detail&auth=1&limit=10002")?;
        let count = memchr::memmem::find_iter(&page, b"\"cid\":").count();
        if count < CONNECTIONS as usize {
            return Err(format!("the page has {count} connections").into());
        }
    }
    Ok(())
}

/// Messages, a block at a time, until `is_over`.
fn flow(server: &Server, is_over: &AtomicBool) -> Outcome<()> {
    let mut subscriber = Client::connect(server, b"SUB flow 1\r\n")?;
    let mut publisher = Client::connect(server, b"")?;
    let block = b"PUB flow 16\r\n0123456789abcdef\r\n".repeat(BLOCK);
    let delivered = b"MSG flow 1 16\r\n0123456789abcdef\r\n".len() * BLOCK;
    while !is_over.load(Ordering::Relaxed) {
        publisher.send(&block)?;
        subscriber.receive(delivered)?;
    }
    Ok(())
}

/// What midge tells of the turns of its workers, all of them together.
struct Histograms {
    turns: Histogram,
    slices: Histogram,
}

/// How often something took how long.
#[derive(Default)]
struct Histogram {
    seconds: f64,
    /// How often it took at most so many seconds, by rising bounds.
    within: Vec<(f64, f64)>,
}

impl Histograms {
    /// `None` for a server that does not tell.
    fn of(server: &Server) -> Outcome<Option<Histograms>> {
        let page = String::from_utf8(get(server, "/metrics")?)?;
        let of = |name| Histogram::of(&page, name);
        Ok(page.contains("midge_info").then(|| Histograms {
            turns: of("midge_worker_turn_seconds"),
            slices: of("midge_worker_monitoring_slice_seconds"),
        }))
    }
}

impl Histogram {
    fn of(page: &str, name: &str) -> Histogram {
        let mut found = Histogram::default();
        for line in page.lines() {
            let Some((sample, value)) = line.strip_prefix(name).and_then(|it| it.rsplit_once(' '))
            else {
                continue;
            };
            let value: f64 = value.parse().unwrap_or_default();
            if sample.starts_with("_sum{") {
                found.seconds += value;
            } else if let Some((_, bound)) = sample.split_once("le=\"") {
                let bound = bound
                    .trim_end_matches("\"}")
                    .parse()
                    .unwrap_or(f64::INFINITY);
                match found.within.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, count)) => *count += value,
                    None => found.within.push((bound, value)),
                }
            }
        }
        found
    }

    /// What has come since `earlier`.
    fn since(&self, earlier: &Histogram) -> Histogram {
        let pairs = self.within.iter().zip(&earlier.within);
        Histogram {
            seconds: self.seconds - earlier.seconds,
            within: pairs.map(|(now, then)| (now.0, now.1 - then.1)).collect(),
        }
    }

    fn count(&self) -> f64 {
        self.within.last().map_or(0.0, |(_, count)| *count)
    }

    /// The least bound, in seconds, that this part of all kept to.
    fn quantile(&self, part: f64) -> f64 {
        let needed = self.count() * part;
        let kept = self.within.iter().find(|(_, count)| *count >= needed);
        kept.map_or(f64::INFINITY, |(bound, _)| *bound)
    }
}

fn get(server: &Server, target: &str) -> Outcome<Vec<u8>> {
    let mut stream = TcpStream::connect(server.monitor()?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

const CONNECTIONS: u32 = 10_000;
const REQUESTS: u32 = 20;
/// Messages in a block.
const BLOCK: usize = 2_000;
const FLOW_ALONE: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
