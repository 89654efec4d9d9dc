//! Clients that note what they get, and publishers that never stop.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::node::STEADY;
use crate::support::{DEADLINE, escaped};

/// What a publisher writes into a message: who it is, its connection's number, and the message's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) publisher: usize,
    pub(crate) connection: u32,
    pub(crate) number: u64,
}

/// A message as it was delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) sid: u32,
    pub(crate) stamp: Stamp,
}

/// A connection whose inbox a thread fills.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    inbox: Arc<Inbox>,
    pings: u64,
    /// The last number that each subscription got from each publisher's connection.
    last: HashMap<(u32, usize, u32), u64>,
}

#[derive(Debug, Default)]
struct Inbox {
    received: Mutex<Received>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Received {
    pongs: u64,
    is_over: bool,
    deliveries: Vec<Delivery>,
    /// What should not have come.
    odd: Vec<String>,
}

impl Client {
    /// A client of the account of this name, which has a user of that name too.
    pub(crate) fn open(address: SocketAddr, account: &str) -> Client {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        let inbox = Arc::new(Inbox::default());
        let (source, kept) = (stream.try_clone().expect("a socket"), Arc::clone(&inbox));
        thread::spawn(move || kept.fill(&source));
        let mut client = Client {
            stream,
            inbox,
            pings: 0,
            last: HashMap::new(),
        };
        let login = format!("\"user\":\"{account}\",\"pass\":\"{account}\"");
        client.send(&format!(
            "CONNECT {{\"verbose\":false,\"protocol\":1,{login}}}\r\n"
        ));
        client
    }

    /// Sends `text`; what a server that was killed does not take is lost.
    pub(crate) fn send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// Waits until all that was sent is in force.
    pub(crate) fn settle(&mut self) {
        self.pings += 1;
        let pings = self.pings;
        self.send("PING\r\n");
        let done = self
            .inbox
            .wait(DEADLINE, |it| it.pongs >= pings || it.is_over);
        assert!(done.pongs >= pings, "no PONG: {done:?}");
    }

    /// Takes out what was delivered since the last time, and checks that nothing came twice or out of order.
    pub(crate) fn take(&mut self) -> Vec<Delivery> {
        let deliveries = self.take_any();
        for delivery in &deliveries {
            let stamp = delivery.stamp;
            let from = (delivery.sid, stamp.publisher, stamp.connection);
            let last = self.last.insert(from, stamp.number);
            assert!(
                last.is_none_or(|last| last < stamp.number),
                "{delivery:?} came after {last:?}"
            );
        }
        deliveries
    }

    /// The same for members of queue groups, for which there is no order.
    pub(crate) fn take_any(&mut self) -> Vec<Delivery> {
        let mut received = self.inbox.lock();
        assert!(received.odd.is_empty(), "{:?}", received.odd);
        std::mem::take(&mut received.deliveries)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().expect("no holder of this lock panics")
    }

    fn wait(&self, span: Duration, done: impl Fn(&Received) -> bool) -> MutexGuard<'_, Received> {
        let waited = self
            .more
            .wait_timeout_while(self.lock(), span, |it| !done(it));
        waited.expect("no holder of this lock panics").0
    }

    fn fill(&self, stream: &TcpStream) {
        let mut source = BufReader::new(stream);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            let mut sink = stream;
            match self.take_line(&line, &mut source) {
                Some(true) => drop(sink.write_all(b"PONG\r\n")),
                Some(false) => {}
                None => break,
            }
            line.clear();
        }
        self.lock().is_over = true;
        self.more.notify_all();
    }

    /// Takes a line in, and what belongs to it; says whether it was a PING, or nothing if the connection has ended.
    fn take_line(&self, line: &[u8], source: &mut impl Read) -> Option<bool> {
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let mut odd = None;
        match words[..] {
            ["PING"] => return Some(true),
            ["PONG"] => self.lock().pongs += 1,
            ["INFO", ..] => {}
            ["MSG", _, sid, .., len] => {
                let mut body = vec![0; len.parse::<usize>().ok()? + 2];
                source.read_exact(&mut body).ok()?;
                match (sid.parse(), stamp(&body)) {
                    (Ok(sid), Some(stamp)) if body.ends_with(b"\r\n") => {
                        self.lock().deliveries.push(Delivery { sid, stamp });
                    }
                    _ => odd = Some([line, &body].concat()),
                }
            }
            _ => odd = Some(line.to_vec()),
        }
        if let Some(odd) = odd {
            self.lock().odd.push(escaped(&odd));
        }
        self.more.notify_all();
        Some(false)
    }
}

/// The stamp at the front of a message.
fn stamp(body: &[u8]) -> Option<Stamp> {
    let text = std::str::from_utf8(body).ok()?;
    let mut words = text.split_ascii_whitespace();
    let stamp = Stamp {
        publisher: words.next()?.parse().ok()?,
        connection: words.next()?.parse().ok()?,
        number: words.next()?.parse().ok()?,
    };
    (words.next()? == ".").then_some(stamp)
}

/// A message with a stamp, made larger by so many bytes.
pub(crate) fn message(subject: &str, stamp: Stamp, padding: usize) -> String {
    let Stamp {
        publisher,
        connection,
        number,
    } = stamp;
    let body = format!(
        "{publisher} {connection} {number} . {}",
        "x".repeat(padding)
    );
    format!("PUB {subject} {}\r\n{body}\r\n", body.len())
}

/// A connection on which a thread publishes numbered messages all along, to `plain.<publisher>.<0..3>` and
/// `work.<publisher>`.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) id: usize,
    pub(crate) connection: u32,
    inner: Arc<PublisherInner>,
}

#[derive(Debug, Default)]
struct PublisherInner {
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// The number of the next message.
    next: u64,
    is_over: bool,
}

/// Time between two messages.
const PACE: Duration = Duration::from_millis(3);
/// One in so many messages is large.
const LARGE_EVERY: u64 = 50;
/// Bytes that a large one has more.
const LARGE: usize = 20_000;

impl Publisher {
    pub(crate) fn start(id: usize, connection: u32, address: SocketAddr) -> Publisher {
        let inner = Arc::new(PublisherInner::default());
        let (shared, mut client) = (Arc::clone(&inner), Client::open(address, STEADY));
        thread::spawn(move || {
            let mut progress = shared.lock();
            while !progress.is_over {
                let number = progress.next;
                drop(progress);
                let stamp = Stamp {
                    publisher: id,
                    connection,
                    number,
                };
                let padding = match number % LARGE_EVERY {
                    0 => LARGE,
                    _ => 0,
                };
                let plain = message(&format!("plain.{id}.{}", number % 3), stamp, padding);
                let work = message(&format!("work.{id}"), stamp, 0);
                client.send(&(plain + &work));
                progress = shared.lock();
                progress.next += 1;
                shared.moved.notify_all();
                let paced = shared
                    .moved
                    .wait_timeout_while(progress, PACE, |it| !it.is_over);
                progress = paced.expect("no holder of this lock panics").0;
            }
        });
        Publisher {
            id,
            connection,
            inner,
        }
    }

    /// Waits until `count` more messages were sent, and gives their numbers.
    pub(crate) fn batch(&self, count: u64) -> std::ops::Range<u64> {
        let deadline = Instant::now() + DEADLINE;
        // The next one may be on its way already, and have arrived.
        let first = self.inner.lock().next + 1;
        let progress = self.inner.moved.wait_timeout_while(
            self.inner.lock(),
            deadline.saturating_duration_since(Instant::now()),
            |it| it.next < first + count,
        );
        let next = progress.expect("no holder of this lock panics").0.next;
        assert!(
            next >= first + count,
            "publisher {} is stuck at {next}",
            self.id
        );
        first..next
    }
}

impl PublisherInner {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.inner.lock().is_over = true;
        self.inner.moved.notify_all();
    }
}
