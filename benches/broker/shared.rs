//! What one subscriber that never reads does to the connections beside it.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, sleep};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::client::Client;
use crate::load::Load;
use crate::process::{Program, Server};
use crate::site::Site;
use crate::traffic::Traffic;
use crate::{Figures, Outcome};

/// Measures fifty pairs in full flow, in turn alone and beside a subscriber that never reads and the publisher that feeds
/// it.
///
/// What counts is the CPU time of the server for each message of the pairs: beside the subscriber it has in it what the
/// subscriber and its publisher cost, which is next to nothing once that one waits. Medians of several turns.
pub(crate) fn interference(program: &Program, duration: Duration) -> Outcome<Figures> {
    let pairs = Load {
        flows: 50,
        block: 16 * 1024,
        window: 256 * 1024,
        ..Load::BASE
    };
    let site = Site::single(program, pairs.transport)?;
    let mut traffic = pairs.connect(&site)?;
    traffic.run(duration / 2)?;
    let (mut alone, mut beside, mut turns) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        alone.push(Cost::of(&mut traffic, &site, duration / 2)?);
        let is_over = AtomicBool::new(false);
        let (sender, is_stalled) = mpsc::channel();
        let (cost, given_up) = thread::scope(|scope| {
            let stalled = scope.spawn(|| {
                stall(site.publishers(), &is_over, sender).map_err(|error| error.to_string())
            });
            // An error of its thread comes out below.
            let _ = is_stalled.recv();
            let cost = Cost::of(&mut traffic, &site, duration / 2);
            is_over.store(true, Ordering::Relaxed);
            (cost, stalled.join())
        });
        turns += given_up.map_err(|_| "the stalled pair panicked")??;
        beside.push(cost?);
    }
    let middle = |costs: &[Cost], value: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let cost = |costs: &[Cost]| middle(costs, |it| it.cpu_ns);
    let rate = |costs: &[Cost]| middle(costs, |it| it.rate);
    Ok(Figures::from([
        ("pairs_alone_ns", cost(&alone)),
        ("pairs_cost_percent", cost(&beside) / cost(&alone) * 100.0),
        ("pairs_rate", rate(&alone)),
        ("pairs_kept_percent", rate(&beside) / rate(&alone) * 100.0),
        ("stalled_turns", f64::from(turns)),
    ]))
}

/// What messages came to.
struct Cost {
    /// CPU time of the server for each.
    cpu_ns: f64,
    /// Messages a second.
    rate: f64,
}

impl Cost {
    fn of(traffic: &mut Traffic, site: &Site, duration: Duration) -> Outcome<Cost> {
        let before = site.usage()?;
        let tally = traffic.run(duration)?;
        let spent = site.usage()?.since(&before);
        Ok(Cost {
            cpu_ns: spent.total_ns / tally.messages,
            rate: tally.rate(),
        })
    }
}

/// Keeps a subscriber that never reads and a publisher at full speed connected until `is_over`.
///
/// The server may hold the publisher back, or cut the subscriber off. The latter cannot be seen, for the end of the
/// stream waits behind all that was not read; but then the publisher gets more through than a subscriber may have
/// pending. The subscriber comes back after a while, as clients do. Tells `stalled` when the publisher has to wait for the
/// first time, and gives how often the subscriber was given up.
fn stall(server: &Server, is_over: &AtomicBool, stalled: Sender<()>) -> Outcome<u32> {
    let message = format!("PUB stalled 1024\r\n{}\r\n", ".".repeat(1024));
    let block = message.repeat(64);
    let mut turns = 0;
    loop {
        let _subscriber = Client::connect(server, b"SUB stalled 1\r\n")?;
        let mut publisher = Client::connect(server, b"")?.into_wire()?;
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        poll.registry()
            .register(publisher.socket(), Token(0), Interest::WRITABLE)?;
        let mut written = 0;
        while written < CUT_OFF_AFTER {
            if is_over.load(Ordering::Relaxed) {
                return Ok(turns);
            }
            let at = written % block.len();
            match publisher.write(block.as_bytes().get(at..).unwrap_or_default()) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Whoever listened may have heard enough.
                    let _ = stalled.send(());
                    poll.poll(&mut events, Some(Duration::from_millis(20)))?;
                }
                // The publisher was cut off instead: start again with both.
                Err(_) => break,
            }
        }
        turns += 1;
        let _ = stalled.send(());
        sleep(RECONNECT_AFTER);
    }
}

/// More than the default limit of what a subscriber may have pending, 64 MiB, and what the sockets hold.
const CUT_OFF_AFTER: usize = 96 << 20;
/// Turns alone and beside it.
const ROUNDS: usize = 5;
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
