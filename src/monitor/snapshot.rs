//! What pages are made of: plain values that were copied out of the threads that own them.
//!
//! The control thread puts a [`Question`] to each worker, which answers it between its turns, a slice at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::query::Listing;
use super::time::Moment;
use crate::session::CloseReason;
pub use crate::stats::{ByKind, Durations, TlsHandshakes, Traffic};
pub use crate::sublist::CacheFigures;

/// A worker's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// From clients.
    pub from_clients: Traffic,
    /// From routes and leaf nodes.
    pub from_servers: Traffic,
    /// To clients.
    pub to_clients: Traffic,
    /// To routes and leaf nodes.
    pub to_servers: Traffic,
    /// How often a producer was made to wait for a consumer.
    pub stalls: u64,
    /// The cache of matches.
    pub cache: CacheFigures,
    /// Turns of the loop, by the time from waking up to falling asleep or to the next turn.
    pub turns: Durations,
    /// Slices of answers for monitoring, by the CPU time that they took.
    pub slices: Durations,
    /// TLS handshakes.
    pub handshakes: TlsHandshakes,
    /// CPU time of the thread.
    pub cpu: Duration,
    /// Connections that it serves.
    pub connections: usize,
    /// Bytes that wait for its sockets.
    pub pending_bytes: usize,
}

/// What waits in a worker's mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Batches of messages and commands that were not taken out.
    pub entries: usize,
    /// Bytes of messages that were not worked off.
    pub bytes: usize,
}

/// Something to be found out about a worker.
#[derive(Clone, Debug)]
pub enum Question {
    /// Its counters.
    Totals,
    /// Its connections, in brief.
    Briefs(Arc<Selection>),
    /// Everything about some of its connections.
    Details(Arc<Detailed>),
    /// Its subscriptions, a page of them.
    Subscriptions(Box<SubscriptionFilter>),
    /// Counts by account and state.
    Census,
    /// Its connections to other servers, with what those are interested in if that is wanted.
    Routes(bool),
    /// Whether it has a client of this number; if so, the client is done something to.
    Act(Act, u64),
}

/// What the system account can have done to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// End its connection.
    Kick,
    /// Tell it, by an INFO, that it had better go elsewhere.
    Warn,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Question::Totals`].
    Totals(Box<Totals>),
    /// To [`Question::Briefs`].
    Briefs(Briefs),
    /// To [`Question::Details`]: those that still exist.
    Details(Vec<ConnectionSnapshot>),
    /// To [`Question::Subscriptions`]: how many there are in all, and the page.
    Subscriptions(usize, Vec<SubscriptionSnapshot>),
    /// To [`Question::Census`].
    Census(Census),
    /// To [`Question::Routes`].
    Routes(Vec<RouteSnapshot>),
    /// To [`Question::Act`]: whether it has that client.
    Acted(bool),
}

/// Which connections a page is about, and in what order it has them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The order.
    pub sort: Sort,
    /// Only this account's.
    pub account: Option<u32>,
    /// Only this one.
    pub cid: Option<u64>,
    /// Only this user's.
    pub user: Option<String>,
    /// Only those with a subscription that this subject could meet; needs `account`.
    pub subject: Option<String>,
}

/// A connection in brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// What to sort by, in rising order.
    pub key: u64,
    /// Its number.
    pub cid: u64,
    /// Its slot at its worker.
    pub conn: u32,
    /// Tells it from earlier ones in that slot.
    pub serial: u32,
}

/// The connections of a worker that a [`Selection`] is about.
#[derive(Clone, Debug, Default)]
pub struct Briefs {
    /// Those of the account, whatever else was selected.
    pub total: usize,
    /// The selected ones.
    pub list: Vec<Brief>,
}

/// The order of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As they came.
    #[default]
    Cid,
    /// The same.
    Start,
    /// Most subscriptions first.
    Subs,
    /// Most pending bytes first.
    Pending,
    /// Most messages delivered first.
    MsgsTo,
    /// Most messages received first.
    MsgsFrom,
    /// Most bytes delivered first.
    BytesTo,
    /// Most bytes received first.
    BytesFrom,
    /// Latest activity first.
    Last,
    /// Longest idle first.
    Idle,
    /// Shortest life first.
    Uptime,
    /// Latest end first.
    Stop,
    /// By the text of the reason.
    Reason,
    /// Longest round trip first.
    Rtt,
}

/// What connections are sorted by.
#[derive(Clone, Copy, Debug, Default)]
pub struct SortFacts {
    /// Its number.
    pub cid: u64,
    /// Subscriptions.
    pub subs: usize,
    /// Bytes that wait for its socket.
    pub pending: usize,
    /// From it.
    pub received: Traffic,
    /// To it.
    pub sent: Traffic,
    /// When it came.
    pub start: Moment,
    /// When it last did something.
    pub active: Moment,
    /// When it went.
    pub stop: Moment,
    /// Round-trip time.
    pub rtt: Duration,
}

impl Sort {
    /// The order of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Sort> {
        Some(match name {
            "" | "cid" => Sort::Cid,
            "start" => Sort::Start,
            "subs" => Sort::Subs,
            "pending" => Sort::Pending,
            "msgs_to" => Sort::MsgsTo,
            "msgs_from" => Sort::MsgsFrom,
            "bytes_to" => Sort::BytesTo,
            "bytes_from" => Sort::BytesFrom,
            "last" => Sort::Last,
            "idle" => Sort::Idle,
            "uptime" => Sort::Uptime,
            "stop" => Sort::Stop,
            "reason" => Sort::Reason,
            "rtt" => Sort::Rtt,
            _ => return None,
        })
    }

    /// A number that rises in this order. Texts have none: [`Sort::Reason`] is up to the caller.
    #[must_use]
    pub fn key(self, facts: &SortFacts) -> u64 {
        let falling = |number: u64| u64::MAX - number;
        match self {
            Sort::Cid | Sort::Start | Sort::Reason => facts.cid,
            Sort::Subs => falling(facts.subs as u64),
            Sort::Pending => falling(facts.pending as u64),
            Sort::MsgsTo => falling(facts.sent.msgs),
            Sort::MsgsFrom => falling(facts.received.msgs),
            Sort::BytesTo => falling(facts.sent.bytes),
            Sort::BytesFrom => falling(facts.received.bytes),
            Sort::Last => falling(facts.active.0),
            Sort::Idle => facts.active.0,
            Sort::Uptime => {
                u64::try_from(facts.stop.since(facts.start).as_micros()).unwrap_or(u64::MAX)
            }
            Sort::Stop => falling(facts.stop.0),
            Sort::Rtt => falling(u64::try_from(facts.rtt.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

/// Which connections to tell everything about.
#[derive(Clone, Debug, Default)]
pub struct Detailed {
    /// Slots and serials.
    pub connections: Vec<(u32, u32)>,
    /// Whether their subscriptions are wanted too.
    pub listing: Listing,
}

/// Everything about a connection.
#[derive(Clone, Debug)]
pub struct ConnectionSnapshot {
    /// Its number.
    pub cid: u64,
    /// What kind of peer it is.
    pub kind: Kind,
    /// The peer's address.
    pub addr: SocketAddr,
    /// When it came.
    pub start: Moment,
    /// When it last did something.
    pub active: Moment,
    /// When and why it went.
    pub end: Option<(Moment, CloseReason)>,
    /// Round-trip time; 0 while it is not known.
    pub rtt: Duration,
    /// Bytes that wait for its socket.
    pub pending: usize,
    /// From it.
    pub received: Traffic,
    /// To it.
    pub sent: Traffic,
    /// How often producers waited for it.
    pub stalls: u32,
    /// Subscriptions.
    pub subs: usize,
    /// What CONNECT said of the application; empty if nothing.
    pub name: Box<str>,
    /// The library's language; empty if unknown.
    pub lang: Box<str>,
    /// The library's version; empty if unknown.
    pub version: Box<str>,
    /// Its TLS session, if it has one.
    pub tls: Option<Box<TlsSnapshot>>,
    /// The user, key, or `[REDACTED]` for a token; empty if it named none.
    pub user: Box<str>,
    /// Whether the user is known by a key.
    pub has_nkey: bool,
    /// Whether it has shown who it is.
    pub is_known: bool,
    /// Its account.
    pub account: Arc<str>,
    /// Its subscriptions, if they were asked for.
    pub listed: Vec<SubscriptionSnapshot>,
}

/// What kind of peer a connection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An application.
    #[default]
    Client,
    /// A leaf node.
    Leafnode,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Client => "Client",
            Kind::Leafnode => "Leafnode",
        }
    }
}

/// A TLS session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSnapshot {
    /// `1.3` or `1.2`.
    pub version: &'static str,
    /// IANA's name of the cipher suite.
    pub cipher_suite: String,
    /// The handshake came before INFO.
    pub is_first: bool,
    /// The certificates that the peer showed, its own first.
    pub peer_certs: Vec<CertificateSnapshot>,
}

/// A certificate that a peer showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateSnapshot {
    /// Its subject, as RFC 2253 has it.
    pub subject: String,
    /// SHA-256 of its public key, in lowercase hexadecimal.
    pub spki_sha256: String,
    /// SHA-256 of all of it.
    pub cert_sha256: String,
}

impl ConnectionSnapshot {
    /// What it is sorted by, as of `now`.
    #[must_use]
    pub fn sort_facts(&self, now: Moment) -> SortFacts {
        SortFacts {
            cid: self.cid,
            subs: self.subs,
            pending: self.pending,
            received: self.received,
            sent: self.sent,
            start: self.start,
            active: self.active,
            stop: self.end.map_or(now, |(stop, _)| stop),
            rtt: self.rtt,
        }
    }

    /// Bytes that it takes, more or less.
    #[must_use]
    pub fn memory(&self) -> usize {
        let texts = [&self.name, &self.lang, &self.version, &self.user];
        let listed = self.listed.iter().map(SubscriptionSnapshot::memory);
        let tls = self.tls.as_ref().map_or(0, |tls| {
            let certs = tls.peer_certs.iter();
            size_of::<TlsSnapshot>() + certs.map(|it| 256 + it.subject.len()).sum::<usize>()
        });
        size_of::<Self>()
            + texts.map(|it| it.len()).iter().sum::<usize>()
            + listed.sum::<usize>()
            + tls
    }
}

/// Which subscriptions a page is about.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    /// Only this account's.
    pub account: Option<u32>,
    /// Only those that a message with this subject would reach.
    pub test: Option<String>,
    /// Entries to leave out at the start.
    pub skip: usize,
    /// Entries to give.
    pub take: usize,
}

/// A subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionSnapshot {
    /// Its account.
    pub account: Arc<str>,
    /// Its subject.
    pub subject: String,
    /// Its queue group; empty if it has none.
    pub queue: String,
    /// The peer's name for it.
    pub sid: String,
    /// Messages delivered.
    pub delivered: u64,
    /// Deliveries after which it ends; 0 is never.
    pub max: u32,
    /// Its connection's number; 0 is the server itself.
    pub cid: u64,
}

impl SubscriptionSnapshot {
    /// Bytes that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.subject.len() + self.queue.len() + self.sid.len()
    }
}

/// Counts of a worker's connections.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// By account, in the broker's order.
    pub accounts: Vec<AccountTraffic>,
    /// Those that have yet to show who they are.
    pub strangers: usize,
    /// Those that are not read from, for the sake of a slow consumer.
    pub stalled: usize,
    /// Those that are on their way out.
    pub closing: usize,
    /// All of them.
    pub all: usize,
}

/// What an account's connections have sent and taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccountTraffic {
    /// Client connections.
    pub connections: usize,
    /// Connections of leaf nodes.
    pub leafnodes: usize,
    /// From its connections.
    pub received: Traffic,
    /// To its connections.
    pub sent: Traffic,
    /// Its slow consumers.
    pub slow_consumers: u64,
}

impl Census {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Census) {
        let len = self.accounts.len().max(other.accounts.len());
        self.accounts.resize(len, AccountTraffic::default());
        for (own, other) in self.accounts.iter_mut().zip(&other.accounts) {
            own.connections += other.connections;
            own.leafnodes += other.leafnodes;
            own.received.add(other.received);
            own.sent.add(other.sent);
            own.slow_consumers += other.slow_consumers;
        }
        self.strangers += other.strangers;
        self.stalled += other.stalled;
        self.closing += other.closing;
        self.all += other.all;
    }
}

/// An account, as the threads share it.
#[derive(Clone, Debug, Default)]
pub struct AccountSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is the system account.
    pub is_system: bool,
    /// Client connections.
    pub connections: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Subscriptions that ever came.
    pub inserts: u64,
    /// Subscriptions that went.
    pub removes: u64,
}

/// A route to another server.
#[derive(Clone, Debug)]
pub struct RouteSnapshot {
    /// Its number.
    pub rid: u64,
    /// The other server's id.
    pub remote_id: String,
    /// The other server's name.
    pub remote_name: String,
    /// Whether this side dialled, or did while the other one did.
    pub did_solicit: bool,
    /// Whether it is in the configuration, and not only heard of.
    pub is_configured: bool,
    /// The other side's address.
    pub addr: SocketAddr,
    /// When it was set up.
    pub start: Moment,
    /// When it last did something.
    pub active: Moment,
    /// Round-trip time; 0 while it is not known.
    pub rtt: Duration,
    /// Bytes that wait for its socket.
    pub pending: usize,
    /// From it.
    pub received: Traffic,
    /// To it.
    pub sent: Traffic,
    /// Subscriptions that the other side told of.
    pub subs: usize,
    /// These, if they were asked for.
    pub listed: Vec<SubscriptionSnapshot>,
    /// The account that it is for alone.
    pub account: Option<Arc<str>>,
    /// Its compression, such as `off`.
    pub compression: &'static str,
}
