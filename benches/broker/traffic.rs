//! The poll loop of the generator: writes pre-encoded blocks, counts what comes back.
//!
//! One thread serves every connection of a round, so that it takes as little as possible from the server on a small
//! machine. A flow writes whole blocks only, and starts one only while what its subscribers have yet to receive stays
//! within its window:
//!
//! ```text
//!            received                 expected           expected + block
//!  ─────────────┼────────────────────────┼───────────────────────┼───────▶ bytes at the subscribers
//!               └──────────── at most the window ────────────────┘
//! ```

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::Outcome;
use crate::client::{Client, PING, pings};
use crate::wire::Wire;

/// What a publisher writes, over and over, in blocks of equal length.
pub(crate) struct Script {
    /// The blocks, one behind the other.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes each has.
    pub(crate) block_bytes: usize,
    /// How many messages each has.
    pub(crate) block_messages: u64,
    /// How many bytes the subscribers together receive for each.
    pub(crate) block_received: u64,
}

/// One publisher and its subscribers.
pub(crate) struct Flow {
    publisher: Box<dyn Wire>,
    subscribers: Vec<Box<dyn Wire>>,
    script: Script,
    window: u64,
    /// Where in the script the publisher goes on: `0..script.bytes.len()`.
    at: usize,
    /// Whether the last write left room in the socket.
    is_writable: bool,
    /// Blocks written whole.
    blocks: u64,
    /// Bytes counted by the subscribers.
    received: u64,
    /// What the server sent to the publisher: PONGs, PINGs, errors.
    answers: Vec<u8>,
}

/// Writes `script` at a fixed rate, whatever the flows do.
pub(crate) struct Pacer {
    wire: Box<dyn Wire>,
    script: Script,
    blocks_per_second: f64,
    at: usize,
    blocks: f64,
    started: Option<Instant>,
}

/// What one run of the loop moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// Messages published, each of them received by all that had to.
    pub(crate) messages: f64,
    /// From the first byte written to the last received.
    pub(crate) elapsed: Duration,
}

/// All connections of a round.
pub(crate) struct Traffic {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    flows: Vec<Flow>,
    pacer: Option<Pacer>,
    /// Where each token leads; the token is the index.
    ends: Vec<End>,
}

/// What a socket is to the loop.
#[derive(Clone, Copy, Debug)]
enum End {
    Publisher { flow: usize },
    Subscriber { flow: usize, index: usize },
    Pacer,
}

impl Tally {
    /// Messages published a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages / self.elapsed.as_secs_f64()
    }
}

impl Flow {
    /// `window` is in bytes at the subscribers; one block is always allowed.
    pub(crate) fn new(
        publisher: Client,
        subscribers: Vec<Client>,
        script: Script,
        window: u64,
    ) -> Outcome<Self> {
        let subscribers: Outcome<_> = subscribers.into_iter().map(Client::into_wire).collect();
        Ok(Self {
            publisher: publisher.into_wire()?,
            subscribers: subscribers?,
            script,
            window,
            at: 0,
            is_writable: true,
            blocks: 0,
            received: 0,
            answers: Vec::new(),
        })
    }

    /// Writes until the socket is full, the window is, or the turn is over; true if it could go on at once.
    fn pump(&mut self, is_stopping: bool) -> io::Result<bool> {
        for _ in 0..BLOCKS_PER_TURN {
            let written = self.at % self.script.block_bytes;
            if written == 0 && (is_stopping || !self.has_room()) {
                return Ok(false);
            }
            let block_end = self.at - written + self.script.block_bytes;
            let block = self
                .script
                .bytes
                .get(self.at..block_end)
                .unwrap_or_default();
            let count = match self.publisher.write(block) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_writable = false;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            self.at += count;
            if self.at == block_end {
                self.blocks += 1;
                self.at %= self.script.bytes.len();
            }
        }
        Ok(true)
    }

    fn expected(&self) -> u64 {
        self.blocks * self.script.block_received
    }

    fn missing(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    fn has_room(&self) -> bool {
        let missing = self.missing();
        missing == 0 || missing + self.script.block_received <= self.window
    }

    fn is_mid_block(&self) -> bool {
        self.at % self.script.block_bytes != 0
    }

    /// Sends a PING behind the last block; false if the socket is still full of blocks.
    fn ask(&mut self) -> io::Result<bool> {
        match self.publisher.write(PING) {
            Ok(count) => Ok(count == PING.len()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the server has confirmed that it processed all that was published.
    fn is_confirmed(&self) -> bool {
        memchr::memmem::find(&self.answers, b"PONG\r\n").is_some()
    }

    /// # Errors
    ///
    /// More bytes than were to come, beyond the server's PINGs.
    fn check_surplus(&self) -> Outcome<()> {
        let surplus = self.received.saturating_sub(self.expected());
        let pings_most = PING.len() * self.subscribers.len() * PINGS_MAX;
        if surplus % PING.len() as u64 == 0 && surplus <= pings_most as u64 {
            return Ok(());
        }
        Err(format!("the subscribers received {surplus} bytes more than they should").into())
    }
}

impl Pacer {
    /// Writes `blocks_per_second` blocks of `script` a second on `client`.
    pub(crate) fn new(client: Client, script: Script, blocks_per_second: f64) -> Outcome<Self> {
        Ok(Self {
            wire: client.into_wire()?,
            script,
            blocks_per_second,
            at: 0,
            blocks: 0.0,
            started: None,
        })
    }

    /// Writes what is due; what the socket does not take is caught up with later.
    fn pump(&mut self, now: Instant) -> io::Result<()> {
        let started = *self.started.get_or_insert(now);
        let due = (now - started).as_secs_f64() * self.blocks_per_second;
        while self.blocks < due {
            let block_end = self.at - self.at % self.script.block_bytes + self.script.block_bytes;
            let block = self
                .script
                .bytes
                .get(self.at..block_end)
                .unwrap_or_default();
            match self.wire.write(block) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.at == block_end {
                self.blocks += 1.0;
                self.at %= self.script.bytes.len();
            }
        }
        Ok(())
    }

    /// # Errors
    ///
    /// Less than nine tenths of the rate was kept: the server did not read.
    fn check_rate(&self, now: Instant) -> Outcome<()> {
        let seconds = self
            .started
            .map_or(0.0, |started| (now - started).as_secs_f64());
        let due = seconds * self.blocks_per_second;
        if self.blocks >= due * 0.9 {
            return Ok(());
        }
        Err(format!(
            "the paced connection got only {:.0} of {due:.0} blocks through",
            self.blocks
        )
        .into())
    }
}

impl Traffic {
    /// Watches the connections of `flows` and `pacer`.
    pub(crate) fn new(mut flows: Vec<Flow>, mut pacer: Option<Pacer>) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut ends = Vec::new();
        let mut watch = |wire: &mut dyn Wire, interest: Interest, end: End| {
            ends.push(end);
            poll.registry()
                .register(wire.socket(), Token(ends.len() - 1), interest)
        };
        for (flow, parts) in flows.iter_mut().enumerate() {
            let both = Interest::READABLE | Interest::WRITABLE;
            watch(parts.publisher.as_mut(), both, End::Publisher { flow })?;
            for (index, subscriber) in parts.subscribers.iter_mut().enumerate() {
                watch(
                    subscriber.as_mut(),
                    Interest::READABLE,
                    End::Subscriber { flow, index },
                )?;
            }
        }
        if let Some(pacer) = &mut pacer {
            watch(pacer.wire.as_mut(), Interest::READABLE, End::Pacer)?;
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            flows,
            pacer,
            ends,
        })
    }

    /// Publishes for `duration`, then waits until everything has arrived and every publisher has its PONG.
    ///
    /// # Errors
    ///
    /// The server closed a connection, or nothing arrived for a while though something was missing.
    pub(crate) fn run(&mut self, duration: Duration) -> Outcome<Tally> {
        let start = Instant::now();
        let blocks_before: Vec<u64> = self.flows.iter().map(|flow| flow.blocks).collect();
        while start.elapsed() < duration {
            let timeout = if self.pump(false)? {
                Duration::ZERO
            } else {
                self.pause()
            };
            self.turn(timeout)?;
        }
        self.drain()?;
        let messages = self.flows.iter().zip(blocks_before);
        let messages =
            messages.map(|(flow, before)| (flow.blocks - before) * flow.script.block_messages);
        if let Some(pacer) = &self.pacer {
            pacer.check_rate(Instant::now())?;
        }
        Ok(Tally {
            messages: messages.sum::<u64>() as f64,
            elapsed: start.elapsed(),
        })
    }

    /// Checks, after a pause, that nobody received more than was published for them.
    pub(crate) fn check_surplus(&mut self) -> Outcome<()> {
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end {
            self.turn(Duration::from_millis(10))?;
        }
        self.flows.iter().try_for_each(Flow::check_surplus)
    }

    /// Finishes the blocks under way and waits for the rest of the bytes.
    fn drain(&mut self) -> Outcome<()> {
        let mut progress = (Instant::now(), u64::MAX);
        while self.missing() > 0 || self.flows.iter().any(Flow::is_mid_block) {
            self.pump(true)?;
            self.turn(self.pause())?;
            self.check_progress(&mut progress)?;
        }
        for flow in &mut self.flows {
            flow.answers.clear();
        }
        let mut asked = vec![false; self.flows.len()];
        while !self.flows.iter().all(Flow::is_confirmed) {
            for (flow, is_asked) in self.flows.iter_mut().zip(&mut asked) {
                *is_asked = *is_asked || flow.ask()?;
            }
            self.turn(self.pause())?;
            self.check_progress(&mut progress)?;
        }
        Ok(())
    }

    fn missing(&self) -> u64 {
        self.flows.iter().map(Flow::missing).sum()
    }

    /// Fails if the bytes missing have not become fewer for a while; `progress` is when they last did, and to how many.
    fn check_progress(&self, progress: &mut (Instant, u64)) -> Outcome<()> {
        let missing = self.missing();
        let now = Instant::now();
        if missing < progress.1 {
            *progress = (now, missing);
        }
        if now - progress.0 < STUCK_AFTER {
            return Ok(());
        }
        let expected: u64 = self.flows.iter().map(Flow::expected).sum();
        let unconfirmed = self
            .flows
            .iter()
            .filter(|flow| !flow.is_confirmed())
            .count();
        let stuck = STUCK_AFTER.as_secs();
        Err(format!(
            "{missing} of {expected} bytes missing and {unconfirmed} publishers without a PONG after {stuck} s of silence"
        )
        .into())
    }

    /// How long a turn may sleep.
    fn pause(&self) -> Duration {
        let milliseconds = if self.pacer.is_some() { 1 } else { 50 };
        Duration::from_millis(milliseconds)
    }

    /// Lets every flow write; true if one of them stopped only because its turn was over.
    fn pump(&mut self, is_stopping: bool) -> Outcome<bool> {
        let mut is_eager = false;
        for flow in self.flows.iter_mut().filter(|flow| flow.is_writable) {
            is_eager |= flow
                .pump(is_stopping)
                .map_err(|error| format!("publishing: {error} {}", answered(&flow.answers)))?;
        }
        Ok(is_eager)
    }

    /// Waits for events once and serves them, then the pacer.
    fn turn(&mut self, timeout: Duration) -> Outcome<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            match self.ends.get(event.token().0).copied() {
                Some(End::Subscriber { flow, index }) => {
                    let Some(flow) = self.flows.get_mut(flow) else {
                        continue;
                    };
                    let Some(subscriber) = flow.subscribers.get_mut(index) else {
                        continue;
                    };
                    let received = read_all(subscriber.as_mut(), &mut self.buffer, |_| ());
                    flow.received +=
                        received.map_err(|error| format!("subscriber {index}: {error}"))?;
                }
                Some(End::Publisher { flow }) => {
                    let Some(flow) = self.flows.get_mut(flow) else {
                        continue;
                    };
                    if event.is_writable() {
                        flow.is_writable = true;
                        flow.publisher.flush()?;
                    }
                    let answers = &mut flow.answers;
                    let result = read_all(flow.publisher.as_mut(), &mut self.buffer, |bytes| {
                        answers.extend_from_slice(bytes);
                    });
                    result.map_err(|error| {
                        format!("publisher: {error} {}", answered(&flow.answers))
                    })?;
                }
                Some(End::Pacer) => {
                    let Some(pacer) = &mut self.pacer else {
                        continue;
                    };
                    let result = read_all(pacer.wire.as_mut(), &mut self.buffer, |_| ());
                    result.map_err(|error| format!("paced connection: {error}"))?;
                }
                None => {}
            }
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.pump(Instant::now())?;
        }
        Ok(())
    }
}

/// Reads what there is, shows it to `sink`, and counts it.
fn read_all(
    wire: &mut dyn Wire,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let mut total = 0;
    loop {
        match wire.read(buffer) {
            Ok(0) => {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "closed by the server",
                ));
            }
            Ok(count) => {
                sink(buffer.get(..count).unwrap_or_default());
                total += count as u64;
                if wire.is_drained(count, buffer.len()) {
                    return Ok(total);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}

/// What the server said to a publisher, for an error message.
fn answered(answers: &[u8]) -> String {
    if answers.len() == pings(answers) * PING.len() {
        return String::new();
    }
    format!("(the server said {:?})", String::from_utf8_lossy(answers))
}

/// More than the receive buffer of a socket holds most of the time, so that one read empties it.
const READ_BYTES: usize = 256 * 1024;
/// After so many blocks a flow lets the loop look at the others, and at the clock.
const BLOCKS_PER_TURN: usize = 16;
/// So many PINGs of the server per connection are no surplus: one soon after CONNECT, one every two minutes.
const PINGS_MAX: usize = 4;
const STUCK_AFTER: Duration = Duration::from_secs(10);
