//! What one subscriber that never reads does to the connections beside it.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::client::Client;
use crate::load::Load;
use crate::process::{Program, Server};
use crate::site::Site;
use crate::{Figures, Outcome};

/// Measures fifty pairs in full flow: alone, beside a subscriber that never reads and the publisher that feeds it, and
/// alone again.
///
/// The pairs keep their connections; their rate beside the subscriber, as a part of the mean of the other two, is what
/// it leaves them.
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
    let alone_before = traffic.run(duration)?.rate();
    let is_over = AtomicBool::new(false);
    let (beside, turns) = thread::scope(|scope| {
        let stalled =
            scope.spawn(|| stall(site.publishers(), &is_over).map_err(|error| error.to_string()));
        let beside = traffic.run(duration);
        is_over.store(true, Ordering::Relaxed);
        (beside, stalled.join())
    });
    let beside = beside?.rate();
    let turns = turns.map_err(|_| "the stalled pair panicked")??;
    let alone_after = traffic.run(duration)?.rate();

    let alone = (alone_before + alone_after) / 2.0;
    Ok(Figures::from([
        ("pairs_rate", alone),
        ("pairs_kept_percent", beside / alone * 100.0),
        ("stalled_turns", f64::from(turns)),
    ]))
}

/// Keeps a subscriber that never reads and a publisher at full speed connected until `is_over`.
///
/// The server may hold the publisher back, or cut the subscriber off. The latter cannot be seen, for the end of the
/// stream waits behind all that was not read; but then the publisher gets more through than a subscriber may have
/// pending. The subscriber comes back after a while, as clients do. Gives how often that was.
fn stall(server: &Server, is_over: &AtomicBool) -> Outcome<u32> {
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
                    poll.poll(&mut events, Some(Duration::from_millis(20)))?;
                }
                // The publisher was cut off instead: start again with both.
                Err(_) => break,
            }
        }
        turns += 1;
        sleep(RECONNECT_AFTER);
    }
}

/// More than the default limit of what a subscriber may have pending, 64 MiB, and what the sockets hold.
const CUT_OFF_AFTER: usize = 96 << 20;
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
