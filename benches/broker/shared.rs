//! What one subscriber that never reads does to the connections beside it.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::client::Client;
use crate::load::Load;
use crate::process::{Program, Server};
use crate::{Figures, Outcome};

/// Measures fifty pairs in full flow alone, then beside a subscriber that never reads and the publisher that feeds it.
///
/// The pairs keep their connections; the ratio of their two rates is what the subscriber costs them.
pub(crate) fn interference(program: &Program, duration: Duration) -> Outcome<Figures> {
    let pairs = Load {
        flows: 50,
        block: 16 * 1024,
        window: 256 * 1024,
        ..Load::BASE
    };
    let server = Server::start(program, pairs.transport)?;
    let mut traffic = pairs.connect(&server)?;
    traffic.run(duration / 4)?;
    let alone = traffic.run(duration)?;
    let is_over = AtomicBool::new(false);
    let (beside, cuts) = thread::scope(|scope| {
        let stalled = scope.spawn(|| stall(&server, &is_over).map_err(|error| error.to_string()));
        let beside = traffic.run(duration);
        is_over.store(true, Ordering::Relaxed);
        (beside, stalled.join())
    });
    let beside = beside?;
    let cuts = cuts.map_err(|_| "the stalled pair panicked")??;

    let rate = |messages: f64, elapsed: Duration| messages / elapsed.as_secs_f64();
    let (rate_alone, rate_beside) = (
        rate(alone.messages, alone.elapsed),
        rate(beside.messages, beside.elapsed),
    );
    Ok(Figures::from([
        ("pairs_rate", rate_alone),
        ("pairs_kept_percent", rate_beside / rate_alone * 100.0),
        ("stalled_cuts", f64::from(cuts)),
    ]))
}

/// Keeps a subscriber that never reads and a publisher at full speed connected until `is_over`.
///
/// A server may cut the subscriber off; it comes back after a while, as clients do. Gives how often that was.
fn stall(server: &Server, is_over: &AtomicBool) -> Outcome<u32> {
    let message = format!("PUB stalled 1024\r\n{}\r\n", ".".repeat(1024));
    let block = message.repeat(64);
    let mut cuts = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut subscriber = Client::connect(server, b"SUB stalled 1\r\n")?.into_wire()?;
        let mut publisher = Client::connect(server, b"")?.into_wire()?;
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        poll.registry()
            .register(subscriber.socket(), SUBSCRIBER, Interest::READABLE)?;
        poll.registry()
            .register(publisher.socket(), PUBLISHER, Interest::WRITABLE)?;
        let mut at = 0;
        let mut timeout = Duration::ZERO;
        while !is_over.load(Ordering::Relaxed) {
            poll.poll(&mut events, Some(timeout))?;
            if events
                .iter()
                .any(|event| event.token() == SUBSCRIBER && event.is_read_closed())
            {
                cuts += 1;
                sleep(RECONNECT_AFTER);
                break;
            }
            timeout = Duration::ZERO;
            match publisher.write(block.as_bytes().get(at..).unwrap_or_default()) {
                Ok(count) => at = (at + count) % block.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    timeout = Duration::from_millis(20)
                }
                // The publisher was cut off: start again with both.
                Err(_) => break,
            }
        }
    }
    Ok(cuts)
}

const SUBSCRIBER: Token = Token(0);
const PUBLISHER: Token = Token(1);
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
