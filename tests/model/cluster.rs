//! Several servers, each of a few workers, with routes between them: real engines and real bytes, all of which arrive in
//! order, but when chance says, in pieces cut anywhere. Clients subscribe, unsubscribe and publish; routes end, for one
//! side before the other, and are opened anew.
//!
//! At any time no subscription gets a message twice, and no queue group does. When everything has arrived and all servers
//! are connected, what each has told the others, and what each knows of them, is what its clients are subscribed to, with
//! as many members as a group has there; and then each message reaches every plain subscription once, and of each group
//! one, wherever they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use midge::Options;
use midge::broker::{Broker, Mark};
use midge::engine::{Delivery, End, Engine, Letter, Peer, Sink};
use midge::net::mailbox::{Batch, Origin};
use midge::proto::encode::Message;
use midge::proto::error::ParseError;
use midge::proto::frame::Frame;
use midge::proto::info::ServerInfo;
use midge::proto::route::{RouteInfo, message_head};
use midge::rng::Rng;
use midge::session::{Authenticator, Client, ClusterFacts, Context, Route, Side, Violation};
use midge::subject;

/// A connection: its server, its worker, and its slot there.
type Place = (usize, u16, u32);
/// A subscription's connection and sid.
type Key = (Place, u64);
/// The subject of a subscription, and its group.
type Wish = (String, Option<String>);

/// Who gets a message once at the most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Receiver {
    Subscription(Key),
    Group(String),
}

/// Servers.
const SERVERS: usize = 3;
/// Clients of each worker.
const CLIENTS: u32 = 2;
/// Slots of routes begin here.
const ROUTES: u32 = 100;
/// Messages that must arrive once all is quiet.
const PROBES: usize = 6;
const PATTERNS: [&str; 6] = ["a", "b", "a.b", "a.*", "*", ">"];
const SUBJECTS: [&str; 3] = ["a", "b", "a.b"];
const GROUPS: [Option<&str>; 3] = [None, Some("q"), Some("r")];

pub(crate) struct Cluster {
    rng: Rng,
    servers: Vec<Server>,
    peers: BTreeMap<Place, Peer>,
    /// Read and not consumed.
    kept: BTreeMap<Place, Vec<u8>>,
    /// Of a route, the other end; gone once that has ended.
    ends: BTreeMap<Place, Place>,
    outlets: Outlets,
    wishes: BTreeMap<Key, Wish>,
    /// Those of all times.
    ever: BTreeMap<Key, Wish>,
    /// Which messages have come to whom.
    received: BTreeSet<(u64, Receiver)>,
    last: u64,
    next_slot: u32,
    options: Options,
    info: ServerInfo,
    auth: Authenticator,
    now: Instant,
    history: Vec<String>,
}

struct Server {
    engines: Vec<Engine>,
    facts: Arc<ClusterFacts>,
}

/// Where the engines' output goes.
#[derive(Default)]
struct Outlets {
    server: usize,
    origin: Option<Origin>,
    worker: u16,
    /// Written by the route at this place, and not read at the other end.
    written: BTreeMap<Place, Vec<u8>>,
    /// What a route has been told: the members of each group, and none for plain interest.
    told: BTreeMap<Place, BTreeMap<Wish, u32>>,
    /// From worker to worker of a server.
    mail: BTreeMap<(usize, u16, u16), VecDeque<Batch>>,
    delivered: Vec<(Key, u64)>,
    /// The servers where messages were published, and whether all workers there knew what the others did.
    published: BTreeMap<u64, (usize, bool)>,
    /// Messages that another server has handed on for a queue group whose members there had left.
    passed_on: BTreeSet<u64>,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let mut cluster = Cluster {
            servers: Vec::new(),
            peers: BTreeMap::new(),
            kept: BTreeMap::new(),
            ends: BTreeMap::new(),
            outlets: Outlets::default(),
            wishes: BTreeMap::new(),
            ever: BTreeMap::new(),
            received: BTreeSet::new(),
            last: 0,
            next_slot: ROUTES,
            options: Options::default(),
            info: ServerInfo::default(),
            auth: Authenticator::new(&Options::default()),
            now: Instant::now(),
            history: Vec::new(),
            rng: Rng::seeded(!seed),
        };
        for at in 0..SERVERS {
            let broker = Arc::new(Broker::default());
            let facts = Arc::new(ClusterFacts {
                info: RouteInfo {
                    server_id: format!("N{at}"),
                    cluster: Some("C".into()),
                    ..RouteInfo::own()
                },
                ..ClusterFacts::default()
            });
            let workers = 1 + u16::try_from(rng.below(3)).expect("few");
            let engines = (0..workers).map(|worker| {
                let mut engine = Engine::new(Arc::clone(&broker), worker, rng.next_u64());
                engine.set_facts(Arc::clone(&facts));
                engine
            });
            let engines = engines.collect();
            cluster.servers.push(Server { engines, facts });
            for worker in 0..workers {
                for conn in 0..CLIENTS {
                    let session = Client::new(1, ([127, 0, 0, 1], 1).into());
                    let place = (at, worker, conn);
                    cluster.peers.insert(place, Peer::client(conn, session));
                }
            }
        }
        cluster
    }

    /// What has happened, one line each.
    pub(crate) fn history(&self) -> &[String] {
        &self.history
    }

    /// One random thing happens.
    pub(crate) fn step(&mut self) {
        match self.rng.below(20) {
            0..7 => self.operate(),
            7..11 => drop(self.take_mail()),
            11..18 => drop(self.read()),
            18 => self.connect(),
            _ => self.disconnect(),
        }
        self.check_deliveries();
    }

    /// Everything arrives, all servers are connected, and then all must be as the rules say.
    pub(crate) fn settle(&mut self) {
        while self.open_one() || self.arrive() {}
        for at in 0..SERVERS {
            let wanted = self.wanted(at);
            for place in self.routes().into_iter().filter(|place| place.0 == at) {
                let told = self.outlets.told.remove(&place).unwrap_or_default();
                assert_eq!(told, wanted, "{place:?} has told");
                self.outlets.told.insert(place, told);
                let other = self.ends[&place];
                let known = self.known(other);
                let all: Vec<Wish> = wanted.keys().cloned().collect();
                assert_eq!(known, all, "{other:?} knows of server {at}");
            }
        }
        for _ in 0..PROBES {
            let at = self.any_client();
            let subject = SUBJECTS[self.rng.below(SUBJECTS.len())];
            let number = self.publish(at, subject);
            while self.arrive() {}
            self.check_deliveries();
            self.check_arrived(subject, number);
        }
    }

    // ---- what happens ----

    fn operate(&mut self) {
        let place = self.any_client();
        let own: Vec<u64> = self
            .wishes
            .keys()
            .filter(|key| key.0 == place)
            .map(|key| key.1)
            .collect();
        match self.rng.below(5) {
            0 | 1 if !own.is_empty() => {
                let sid = own[self.rng.below(own.len())];
                self.wishes.remove(&(place, sid));
                self.feed(place, format!("UNSUB {sid}\r\n").as_bytes());
            }
            0..4 => {
                self.last += 1;
                let (sid, group) = (self.last, GROUPS[self.rng.below(GROUPS.len())]);
                let subject = PATTERNS[self.rng.below(PATTERNS.len())];
                let wish = (subject.to_owned(), group.map(Into::into));
                self.wishes.insert((place, sid), wish.clone());
                self.ever.insert((place, sid), wish);
                let line = format!("SUB {subject} {} {sid}\r\n", group.unwrap_or_default());
                self.feed(place, line.as_bytes());
            }
            _ => {
                let subject = SUBJECTS[self.rng.below(SUBJECTS.len())];
                self.publish(place, subject);
            }
        }
    }

    fn publish(&mut self, place: Place, subject: &str) -> u64 {
        self.last += 1;
        let number = self.last;
        let mut mail = self.outlets.mail.iter();
        let is_settled = mail.all(|(way, it)| way.0 != place.0 || it.is_empty());
        let published = &mut self.outlets.published;
        published.insert(number, (place.0, is_settled));
        let body = number.to_string();
        let line = format!("PUB {subject} {}\r\n{body}\r\n", body.len());
        self.feed(place, line.as_bytes());
        number
    }

    /// A worker takes something that another one of its server has handed over; false if there is nothing.
    fn take_mail(&mut self) -> bool {
        let mail = &self.outlets.mail;
        let filled: Vec<_> = mail
            .iter()
            .filter(|(_, it)| !it.is_empty())
            .map(|(way, _)| *way)
            .collect();
        let Some(&way) = filled.get(self.rng.below(filled.len())) else {
            return false;
        };
        let batch = self
            .outlets
            .mail
            .get_mut(&way)
            .and_then(VecDeque::pop_front);
        let batch = batch.expect("it was found there");
        let (at, _, worker) = way;
        self.note(format!("{way:?} hands over"));
        (self.outlets.server, self.outlets.worker) = (at, worker);
        let engine = &mut self.servers[at].engines[usize::from(worker)];
        batch.for_each_mark(|mark| engine.hear(mark, &mut self.outlets));
        batch.for_each(|from, letter| {
            self.outlets.origin = Some(from);
            let publisher = (from.worker == worker).then_some(from.conn);
            engine.receive(letter, publisher, self.now, &mut self.outlets);
        });
        true
    }

    /// A part of what is under way between two servers arrives; false if there is nothing.
    fn read(&mut self) -> bool {
        let written = &self.outlets.written;
        let filled: Vec<Place> = written
            .iter()
            .filter(|(_, it)| !it.is_empty())
            .map(|(place, _)| *place)
            .collect();
        let Some(&from) = filled.get(self.rng.below(filled.len())) else {
            return false;
        };
        let Some(&to) = self.ends.get(&from) else {
            // Nobody is there any more.
            self.outlets.written.remove(&from);
            return true;
        };
        let bytes = self
            .outlets
            .written
            .get_mut(&from)
            .expect("it was found there");
        let len = 1 + self.rng.below(bytes.len());
        let bytes: Vec<u8> = bytes.drain(..len).collect();
        self.note(format!("{to:?} reads {}", bytes.escape_ascii()));
        self.feed(to, &bytes);
        true
    }

    fn arrive(&mut self) -> bool {
        self.take_mail() || self.read()
    }

    /// Two servers are connected, if they are not.
    fn connect(&mut self) {
        let one = self.rng.below(SERVERS);
        let other = (one + 1 + self.rng.below(SERVERS - 1)) % SERVERS;
        self.open(one, other);
    }

    /// Any two that are not connected are; false if all are.
    fn open_one(&mut self) -> bool {
        let pairs = (0..SERVERS).flat_map(|one| (0..one).map(move |other| (one, other)));
        let mut pairs = pairs.collect::<Vec<_>>().into_iter();
        pairs.any(|(one, other)| self.open(one, other))
    }

    fn open(&mut self, one: usize, other: usize) -> bool {
        let is_between = |place: &Place, end: &Place| place.0 == one && end.0 == other;
        if self.ends.iter().any(|(place, end)| is_between(place, end)) {
            return false;
        }
        // As the control thread has it, one that still waits for what is under way is in the way.
        let mut all = self.routes().into_iter();
        if all.any(|place| !self.ends.contains_key(&place) && [one, other].contains(&place.0)) {
            return self.end_all_halves();
        }
        self.next_slot += 1;
        let slot = self.next_slot;
        let ends = [one, other].map(|at| {
            let workers = self.servers[at].engines.len();
            let worker = u16::try_from(self.rng.below(workers)).expect("few");
            (at, worker, slot)
        });
        self.note(format!("{ends:?} are connected"));
        let sides = [Side::Dialled(Box::default()), Side::Accepted];
        for (place, side) in ends.into_iter().zip(sides) {
            let mut route = Route::new(1, ([127, 0, 0, 1], 1).into(), side, "n");
            let written = self.outlets.written.entry(place).or_default();
            route.greet(&self.servers[place.0].facts, self.now, written);
            self.peers.insert(place, Peer::route(slot, route));
        }
        let [one, other] = ends;
        self.ends.extend([(one, other), (other, one)]);
        true
    }

    /// A route ends, for one side now and for the other one later.
    fn disconnect(&mut self) {
        let routes = self.routes();
        let Some(&place) = routes.get(self.rng.below(routes.len())) else {
            return;
        };
        self.end(place);
    }

    fn end(&mut self, place: Place) {
        self.note(format!("{place:?} ends"));
        self.ends.retain(|_, end| *end != place);
        self.ends.remove(&place);
        self.kept.remove(&place);
        self.outlets.written.remove(&place);
        self.outlets.told.remove(&place);
        let mut peer = self.peers.remove(&place).expect("it is there");
        let (at, worker, _) = place;
        (self.outlets.server, self.outlets.worker) = (at, worker);
        let engine = &mut self.servers[at].engines[usize::from(worker)];
        engine.part(&mut peer);
        engine.tell_news(&mut self.outlets);
    }

    /// Routes end whose other ends have; false if there are none.
    fn end_all_halves(&mut self) -> bool {
        let mut halves = self.routes();
        halves.retain(|place| !self.ends.contains_key(place));
        halves.iter().for_each(|&place| self.end(place));
        !halves.is_empty()
    }

    fn feed(&mut self, place: Place, bytes: &[u8]) {
        let (at, worker, conn) = place;
        (self.outlets.server, self.outlets.worker) = (at, worker);
        self.outlets.origin = Some(Origin {
            worker,
            conn,
            serial: 0,
        });
        if conn < ROUTES {
            self.note(format!("{place:?} sends {}", bytes.escape_ascii()));
        }
        let kept = self.kept.entry(place).or_default();
        kept.extend_from_slice(bytes);
        let context = Context {
            options: &self.options,
            info: &self.info,
            auth: &self.auth,
            now: self.now,
        };
        let peer = self.peers.get_mut(&place).expect("it is there");
        let engine = &mut self.servers[at].engines[usize::from(worker)];
        loop {
            let fed = engine.feed(peer, kept, &context, &mut self.outlets);
            kept.drain(..fed.consumed);
            match (fed.end, &mut *peer) {
                (End::Starved, _) => return,
                (End::Pause, _) => {}
                (End::Wait, Peer::Route(route)) => {
                    engine.admit(route, &context, &mut self.outlets);
                }
                (end, _) => panic!("{place:?} ends with {end:?}"),
            }
        }
    }

    // ---- what must hold ----

    /// Nothing comes twice.
    fn check_deliveries(&mut self) {
        for (key, number) in std::mem::take(&mut self.outlets.delivered) {
            let (_, group) = &self.ever[&key];
            let receiver = match group {
                None => Receiver::Subscription(key),
                Some(group) => Receiver::Group(group.clone()),
            };
            let is_new = self.received.insert((number, receiver));
            // A server that hands it on may not have heard yet of plain subscribers to whom it was sent: of those of a third
            // server, or such that came at another worker in the same moment.
            let (server, is_settled) = self.outlets.published[&number];
            let may_come_twice = group.is_none()
                && (server != key.0.0 || !is_settled)
                && self.outlets.passed_on.contains(&number);
            assert!(
                is_new || may_come_twice,
                "{key:?}, of group {group:?}, got {number}, which had come already"
            );
        }
    }

    /// Everyone who should has got this message, and nobody else.
    fn check_arrived(&self, subject: &str, number: u64) {
        let matching = self
            .wishes
            .iter()
            .filter(|(_, (pattern, _))| subject::matches(pattern.as_bytes(), subject.as_bytes()));
        let wanted = matching.map(|(key, (_, group))| match group {
            None => Receiver::Subscription(*key),
            Some(group) => Receiver::Group(group.clone()),
        });
        let of_it = self.received.iter().filter(|(its, _)| *its == number);
        let got: BTreeSet<Receiver> = of_it.map(|(_, receiver)| receiver.clone()).collect();
        assert_eq!(got, wanted.collect(), "{number} on {subject}");
    }

    /// What the clients of a server are subscribed to: of each group so many, and plainly 0.
    fn wanted(&self, at: usize) -> BTreeMap<Wish, u32> {
        let mut wanted = BTreeMap::new();
        for (_, wish) in self.wishes.iter().filter(|(key, _)| key.0.0 == at) {
            let count = wanted.entry(wish.clone()).or_default();
            *count += u32::from(wish.1.is_some());
        }
        wanted
    }

    /// What the server at this end of a route knows of the other one.
    fn known(&self, place: Place) -> Vec<Wish> {
        let engine = &self.servers[place.0].engines[usize::from(place.1)];
        let Some(Peer::Route(peer)) = self.peers.get(&place) else {
            return Vec::new();
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut known = Vec::new();
        engine.for_each_interest(peer, |_, subject, queue| {
            known.push((text(subject), queue.map(text)));
        });
        known.sort_unstable();
        known
    }

    // ---- where ----

    fn any_client(&mut self) -> Place {
        let all = self.peers.keys().filter(|place| place.2 < ROUTES);
        let all: Vec<Place> = all.copied().collect();
        all[self.rng.below(all.len())]
    }

    fn routes(&self) -> Vec<Place> {
        let all = self.peers.keys().filter(|place| place.2 >= ROUTES);
        all.copied().collect()
    }

    fn note(&mut self, line: String) {
        self.history.push(line);
    }
}

impl Sink for Outlets {
    fn reply(&mut self, conn: u32, bytes: &[u8]) {
        let place = (self.server, self.worker, conn);
        if conn < ROUTES {
            return;
        }
        self.written
            .entry(place)
            .or_default()
            .extend_from_slice(bytes);
        let told = self.told.entry(place).or_default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let wish =
                |subject: &str, group: Option<&str>| (subject.to_owned(), group.map(Into::into));
            match words[..] {
                ["RS+", _, subject] => drop(told.insert(wish(subject, None), 0)),
                ["RS+", _, subject, group, weight] => {
                    let weight = weight.parse().expect("a weight");
                    told.insert(wish(subject, Some(group)), weight);
                }
                ["RS-", _, subject] => drop(told.remove(&wish(subject, None))),
                ["RS-", _, subject, group] => drop(told.remove(&wish(subject, Some(group)))),
                _ => {}
            }
        }
    }

    fn deliver(&mut self, conn: u32, sid: &[u8], _: bool, message: &Message<'_>) -> Delivery {
        let place = (self.server, self.worker, conn);
        let sid = String::from_utf8_lossy(sid).parse().expect("a number");
        self.delivered.push(((place, sid), number_of(message)));
        Delivery::Taken
    }

    fn deliver_routed(
        &mut self,
        conn: u32,
        account: Option<&[u8]>,
        groups: &[u8],
        headers: bool,
        message: &Message<'_>,
    ) -> Delivery {
        let place = (self.server, self.worker, conn);
        let written = self.written.entry(place).or_default();
        let rest = message_head(account, message, groups, headers, written);
        written.extend_from_slice(rest);
        let number = number_of(message);
        if self.published[&number].0 != self.server {
            self.passed_on.insert(number);
        }
        Delivery::Taken
    }

    fn announce(&mut self, mark: &Mark<'_>, worker: u16) {
        let mut batch = Batch::default();
        batch.push_mark(mark);
        let way = (self.server, self.worker, worker);
        self.mail.entry(way).or_default().push_back(batch);
    }

    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery {
        let mut batch = Batch::default();
        batch.push(self.origin.expect("somebody has sent it"), letter);
        let way = (self.server, self.worker, worker);
        self.mail.entry(way).or_default().push_back(batch);
        Delivery::Taken
    }

    fn give_back(&mut self, _: &Letter<'_>) {
        unreachable!("nobody wants to know");
    }

    fn on_frame(&mut self, _: &Client, _: &Frame<'_>) {}

    fn on_refusal(&mut self, _: &Client, _: &Violation<'_>) {}

    fn on_parse_error(&mut self, _: &dyn fmt::Display, error: &ParseError) {
        panic!("{error}");
    }
}

fn number_of(message: &Message<'_>) -> u64 {
    let body = String::from_utf8_lossy(message.body());
    body.trim_end().parse().expect("a number")
}
