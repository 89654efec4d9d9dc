//! The queue between threads: whole batches of messages, and commands.
//!
//! A worker collects what it has for another one in a [`Batch`] and hands it over in one go, with one wake-up, at the
//! end of its turn. The receiver is woken only if it sleeps; batches that it has emptied go back to whoever sends next.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::net::TcpStream;
use mio::{Poll, Token, Waker};

use super::acceptor::Control;
use super::addresses::Place;
use super::tls::TlsContexts;
use crate::broker::{Broker, Mark};
use crate::config::options::Options;
use crate::engine::{Letter, SharedTrace, To};
use crate::limits;
use crate::monitor::snapshot::{Answer, Backlog, Question};
use crate::proto::encode::{Message, Parts};
use crate::proto::info::ServerInfo;
use crate::session::{Authenticator, Client, CloseReason, ClusterFacts, Route, Verdict};
use crate::sublist::SubRef;

/// A connection of some worker, as others may name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The worker.
    pub worker: u16,
    /// The connection's slot there.
    pub conn: u32,
    /// Tells it from earlier connections in that slot.
    pub serial: u32,
}

/// What all sessions need to know, replaced as a whole when the configuration changes.
#[derive(Debug)]
pub struct Settings {
    /// The options.
    pub options: Options,
    /// What INFO says of the server.
    pub info: ServerInfo,
    /// Who may come in.
    pub auth: Arc<Authenticator>,
    /// The digest of the configuration; empty without one.
    pub digest: String,
    /// When it was taken over.
    pub loaded: Instant,
    /// The accounts that they come into, in the same order.
    pub broker: Arc<Broker>,
    /// Certificates, keys and what else TLS needs.
    pub tls: Arc<TlsContexts>,
}

/// Where the answer to a question goes.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The control thread.
    pub control: Arc<Control>,
    /// The job that the question belongs to.
    pub job: u64,
    /// The worker that is asked.
    pub worker: usize,
}

impl Ticket {
    /// Gives the answer.
    pub(super) fn answer(self, answer: Answer) {
        let Ticket {
            control,
            job,
            worker,
        } = self;
        control.answer(job, worker, answer);
    }
}

/// Something for a worker to do.
#[derive(Debug)]
pub enum Command {
    /// Serve a connection.
    Adopt {
        /// Its socket, not registered anywhere.
        socket: TcpStream,
        /// Its fresh session.
        session: Arrival,
        /// Greet it, and then end it for this reason.
        refuse: Option<CloseReason>,
        /// Where it is counted, if its address has limits.
        place: Option<Place>,
    },
    /// One of the worker's connections sends to a consumer that is filling up: stop reading from it for so long.
    Stall(Origin, Duration),
    /// Whatever it was stalled for has drained.
    Resume(Origin),
    /// A password was checked.
    Verified {
        /// The connection that gave it.
        origin: Origin,
        /// What came of it; `None` if there was no time for it.
        verdict: Option<Verdict>,
    },
    /// Send a text of the server's own to whoever is subscribed in an account.
    Announce {
        /// The account.
        account: u32,
        /// Where to.
        subject: Vec<u8>,
        /// Where answers go; empty if none are wanted.
        reply: Vec<u8>,
        /// The text.
        text: String,
    },
    /// Find something out, and tell the control thread.
    Survey {
        /// What.
        question: Question,
        /// Where the answer goes.
        ticket: Ticket,
    },
    /// End that many connections, picked at random, for this reason.
    Close {
        /// How many.
        count: usize,
        /// Why.
        reason: CloseReason,
    },
    /// From now on these apply.
    Settings {
        /// What applies.
        settings: Arc<Settings>,
        /// Tell the clients, by an INFO.
        inform: bool,
    },
    /// Show that it still takes its turns.
    Beat,
    /// Another server is part of the cluster now.
    Admit(Origin),
    /// Tell another server something, or end the connection to it, or both.
    Route {
        /// The connection.
        origin: Origin,
        /// Whole lines.
        line: Vec<u8>,
        /// Why to end it, if it is to end.
        end: Option<CloseReason>,
    },
    /// From now on this is what the server says of itself to others of its cluster.
    Facts {
        /// What it says.
        facts: Arc<ClusterFacts>,
        /// Tell the clients, by an INFO, where they can connect.
        inform: bool,
        /// Tell the other servers, by an INFO, and all interest anew.
        tell: bool,
    },
    /// Write what is queued, and end. The first worker is told, and tells the others when it has handed over what it has
    /// for them.
    Stop,
}

/// Who has come.
#[derive(Debug)]
pub enum Arrival {
    /// A client.
    Client(Box<Client>),
    /// Another server, dialled or not.
    Route(Box<Route>),
}

/// Messages for one worker.
#[derive(Debug, Default)]
pub struct Batch {
    /// Messages and group names, one behind the other.
    bytes: Vec<u8>,
    parcels: Vec<Parcel>,
    subs: Vec<SubRef>,
    /// Changes of interest, which come before all messages.
    marks: Vec<Noted>,
    mark_bytes: Vec<u8>,
    /// Traces in the making, which come before the messages that they are of.
    traces: Vec<SharedTrace>,
    /// Bytes in it, shared ones included.
    weight: usize,
    /// Who waits for it to be worked off.
    waiting: Vec<Origin>,
}

/// One letter; its bytes are in the batch.
#[derive(Debug)]
struct Parcel {
    from: Origin,
    account: u32,
    tried: u64,
    asks: bool,
    echo: bool,
    line_len: usize,
    /// The message, if it is too large to copy.
    shared: Option<Arc<[u8]>>,
    parts: Parts,
    kind: Kind,
    /// Bytes of the names of queue groups.
    group_len: usize,
    /// Where its addressees are: successive messages of one subject have them in common.
    subs: Range<usize>,
}

/// The kinds of addressees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Each,
    Member,
    Routes,
    Groups,
    Nobody,
}

/// A change of interest; its bytes are in the batch.
#[derive(Clone, Copy, Debug)]
struct Noted {
    account: u32,
    subject_len: usize,
    queue_len: Option<usize>,
}

impl Batch {
    /// Whether there is nothing to hand over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
            && self.waiting.is_empty()
            && self.marks.is_empty()
            && self.traces.is_empty()
    }

    /// Bytes in it.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Adds a trace that takes so much memory.
    pub fn push_trace(&mut self, trace: &SharedTrace, weight: usize) {
        self.traces.push(Arc::clone(trace));
        self.weight += weight;
    }

    /// Traces in the making.
    pub fn traces(&self) -> &[SharedTrace] {
        &self.traces
    }

    /// Adds a letter that `from` caused.
    pub fn push(&mut self, from: Origin, letter: &Letter<'_>) {
        let message = letter.message;
        let shared = (message.line().len() >= limits::SHARE_BYTES_MIN)
            .then(|| Arc::clone(message.shared_line()));
        if shared.is_none() {
            self.bytes.extend_from_slice(message.line());
        }
        let (kind, subs, group) = match &letter.to {
            To::Each(subs) => (Kind::Each, *subs, &[][..]),
            To::Member { sub, group } => (Kind::Member, std::slice::from_ref(sub), *group),
            To::Routes(routes) => (Kind::Routes, *routes, &[][..]),
            To::Groups { route, groups } => (Kind::Groups, std::slice::from_ref(route), *groups),
            To::Nobody => (Kind::Nobody, &[][..], &[][..]),
        };
        self.bytes.extend_from_slice(group);
        self.weight += message.line().len();
        let last = self.parcels.last().map(|last| last.subs.clone());
        let subs = match last.filter(|last| self.subs.get(last.clone()) == Some(subs)) {
            Some(same) => same,
            None => {
                let start = self.subs.len();
                self.subs.extend_from_slice(subs);
                self.weight += size_of_val(subs);
                start..self.subs.len()
            }
        };
        self.parcels.push(Parcel {
            from,
            account: letter.account,
            tried: letter.tried,
            asks: letter.asks,
            echo: letter.echo,
            line_len: if shared.is_some() {
                0
            } else {
                message.line().len()
            },
            shared,
            parts: message.parts(),
            kind,
            group_len: group.len(),
            subs,
        });
    }

    /// Adds a change of interest.
    pub fn push_mark(&mut self, mark: &Mark<'_>) {
        self.mark_bytes.extend_from_slice(mark.subject);
        self.mark_bytes
            .extend_from_slice(mark.queue.unwrap_or_default());
        self.weight += mark.subject.len() + size_of::<Noted>();
        self.marks.push(Noted {
            account: mark.account,
            subject_len: mark.subject.len(),
            queue_len: mark.queue.map(<[u8]>::len),
        });
    }

    /// Gives each change of interest.
    pub fn for_each_mark(&self, mut read: impl FnMut(&Mark<'_>)) {
        let mut bytes = self.mark_bytes.as_slice();
        for noted in &self.marks {
            let subject = take(&mut bytes, noted.subject_len);
            let queue = noted.queue_len.map(|len| take(&mut bytes, len));
            read(&Mark {
                account: noted.account,
                subject,
                queue,
            });
        }
    }

    /// Asks for word when the receiver has worked it off.
    pub fn push_waiting(&mut self, origin: Origin) {
        if self.waiting.last() != Some(&origin) {
            self.waiting.push(origin);
        }
    }

    /// Those who asked.
    #[must_use]
    pub fn waiting(&self) -> &[Origin] {
        &self.waiting
    }

    /// Gives each letter, with who caused it.
    pub fn for_each(&self, mut read: impl FnMut(Origin, &Letter<'_>)) {
        let mut bytes = self.bytes.as_slice();
        for parcel in &self.parcels {
            let copied = take(&mut bytes, parcel.line_len);
            let group = take(&mut bytes, parcel.group_len);
            let own = self.subs.get(parcel.subs.clone()).unwrap_or_default();
            let line = parcel.shared.as_deref().unwrap_or(copied);
            let mut message = Message::new(line, parcel.parts);
            if let Some(shared) = &parcel.shared {
                message = message.sharing(shared);
            }
            let to = match (parcel.kind, own.first()) {
                (Kind::Member, Some(&sub)) => To::Member { sub, group },
                (Kind::Groups, Some(&route)) => To::Groups {
                    route,
                    groups: group,
                },
                (Kind::Routes, _) => To::Routes(own),
                (Kind::Nobody, _) => To::Nobody,
                _ => To::Each(own),
            };
            read(
                parcel.from,
                &Letter {
                    account: parcel.account,
                    tried: parcel.tried,
                    asks: parcel.asks,
                    echo: parcel.echo,
                    message: &message,
                    to,
                },
            );
        }
    }

    /// Empties it; its buffers stay, unless a burst made them large.
    fn clear(&mut self) {
        if self.bytes.capacity() > 2 * limits::BATCH_BYTES_MAX {
            *self = Batch::default();
        }
        self.bytes.clear();
        self.parcels.clear();
        self.subs.clear();
        self.marks.clear();
        self.mark_bytes.clear();
        self.traces.clear();
        self.waiting.clear();
        self.weight = 0;
    }
}

/// The front of what is left.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, back) = rest.split_at_checked(len).unwrap_or_default();
    *rest = back;
    front
}

/// A worker's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    /// Something is in it.
    filled: AtomicBool,
    /// The owner is about to sleep, or does.
    asleep: AtomicBool,
    /// Bytes in batches that were handed over and not worked off.
    backlog: AtomicUsize,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Inner {
    mail: Mail,
    spare: Vec<Batch>,
}

/// What was in a mailbox.
#[derive(Debug, Default)]
pub struct Mail {
    /// Messages, in the order they were handed over.
    pub batches: Vec<Batch>,
    /// Commands, in the order they were given.
    pub commands: Vec<Command>,
}

/// The token of a mailbox's wake-ups.
pub const WAKE: Token = Token(usize::MAX);

impl Mailbox {
    /// An empty mailbox, and the poll that it wakes, which its owner sleeps on.
    ///
    /// # Errors
    ///
    /// If the system refuses a descriptor.
    pub fn open() -> io::Result<(Poll, Mailbox)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok((poll, Mailbox::new(waker)))
    }

    /// An empty mailbox whose owner `waker` wakes.
    fn new(waker: Waker) -> Self {
        Mailbox {
            inner: Mutex::default(),
            filled: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
            waker,
        }
    }

    /// Hands a batch over and leaves an empty one in its place.
    pub fn hand_over(&self, batch: &mut Batch) {
        self.backlog.fetch_add(batch.weight, Ordering::Relaxed);
        {
            let mut inner = self.lock();
            let empty = inner.spare.pop().unwrap_or_default();
            inner.mail.batches.push(mem::replace(batch, empty));
        }
        self.wake();
    }

    /// Gives a command.
    pub fn command(&self, command: Command) {
        self.lock().mail.commands.push(command);
        self.wake();
    }

    /// Bytes that wait to be worked off.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// What waits, for monitoring.
    #[must_use]
    pub fn depth(&self) -> Backlog {
        let entries = {
            let mail = &self.lock().mail;
            mail.batches.len() + mail.commands.len()
        };
        Backlog {
            entries,
            bytes: self.backlog(),
        }
    }

    /// Whether there is anything to take. For the owner.
    #[inline]
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Takes everything out, into an empty `mail`. For the owner.
    pub fn take(&self, mail: &mut Mail) {
        self.filled.store(false, Ordering::SeqCst);
        mem::swap(&mut self.lock().mail, mail);
    }

    /// Gives back a batch that was worked off. For the owner.
    pub fn give_back(&self, mut batch: Batch) {
        /// Batches on the way at once, more or less: one filling, one waiting, one being read.
        const SPARE_MAX: usize = 3;
        self.backlog.fetch_sub(batch.weight, Ordering::Relaxed);
        batch.clear();
        let mut inner = self.lock();
        if inner.spare.len() < SPARE_MAX {
            inner.spare.push(batch);
        }
    }

    /// Frees what is kept for next time. For the owner.
    pub fn trim(&self) {
        let mut inner = self.lock();
        inner.spare = Vec::new();
        if inner.mail.batches.is_empty() && inner.mail.commands.is_empty() {
            inner.mail = Mail::default();
        }
    }

    /// Says that the owner is about to sleep; false if it must not, because something has come.
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let clear = !self.filled.load(Ordering::SeqCst);
        if !clear {
            self.asleep.store(false, Ordering::SeqCst);
        }
        clear
    }

    /// Says that the owner is awake.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        self.filled.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.waker
                .wake()
                .expect("a wake-up descriptor takes a write");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics and lives on")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Origin = Origin {
        worker: 1,
        conn: 2,
        serial: 3,
    };

    #[test]
    fn letters_come_out_as_they_went_in() {
        let subs: Vec<SubRef> = (0..3)
            .map(|slot| SubRef {
                worker: 0,
                slot,
                serial: 9,
            })
            .collect();
        let large = [
            b"c 70000\r\n".to_vec(),
            vec![b'x'; 70_000],
            b"\r\n".to_vec(),
        ]
        .concat();
        let parts = |subject_len, reply_len, body_at| Parts {
            subject_len,
            reply_len,
            body_at,
            header_len: 0,
        };
        let small = Message::new(b"a.b r 2\r\nhi\r\n", parts(3, 1, 9));
        let big = Message::new(&large, parts(1, 0, 9));
        let mut batch = Batch::default();
        batch.push(
            FROM,
            &Letter {
                account: 4,
                tried: 0,
                asks: false,
                echo: false,
                message: &small,
                to: To::Each(&subs),
            },
        );
        batch.push(
            FROM,
            &Letter {
                account: 5,
                tried: 1 << 63,
                asks: true,
                echo: true,
                message: &big,
                to: To::Member {
                    sub: subs[1],
                    group: b"q",
                },
            },
        );
        let last = Letter {
            account: 4,
            tried: 0,
            asks: false,
            echo: false,
            message: &small,
            to: To::Each(&subs[2..]),
        };
        batch.push(FROM, &last);
        // The same addressees once more take no room.
        let weight = batch.weight();
        batch.push(FROM, &last);
        assert_eq!(batch.weight(), weight + small.line().len());
        let mut seen = Vec::new();
        batch.for_each(|from, letter| {
            assert_eq!(from, FROM);
            let subject = String::from_utf8_lossy(letter.message.subject()).into_owned();
            seen.push((
                letter.account,
                (letter.tried, letter.asks, letter.echo),
                subject,
                letter.message.line().len(),
                format!("{:?}", letter.to),
            ));
        });
        assert_eq!(
            seen[0],
            (
                4,
                (0, false, false),
                "a.b".into(),
                13,
                format!("{:?}", To::Each(&subs))
            )
        );
        assert_eq!((seen[1].1, seen[1].3), ((1 << 63, true, true), large.len()));
        assert_eq!(
            seen[1].4,
            format!(
                "{:?}",
                To::Member {
                    sub: subs[1],
                    group: b"q"
                }
            )
        );
        for one in &seen[2..] {
            assert_eq!(one.4, format!("{:?}", To::Each(&subs[2..])));
        }
        assert_eq!(seen.len(), 4);
        assert!(batch.weight() > large.len());
    }
}
