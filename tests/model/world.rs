//! The real code, driven at random, and compared with the rules step by step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use midge::Options;
use midge::broker::Broker;
use midge::engine::{End, Engine, Peer};
use midge::net::mailbox::Origin;
use midge::proto::info::ServerInfo;
use midge::rng::Rng;
use midge::session::{Authenticator, Client, Context};

use crate::operation::Operation;
use crate::outlets::{Addressees, Forwarded, Outlets, Place};
use crate::rules::{Client as Who, Message, Rules, Subscription};
use crate::tunnel::{Contexts, Tunnel};

type Outcome = Result<(), String>;

pub(crate) struct World {
    rng: Rng,
    broker: Arc<Broker>,
    engines: Vec<Engine>,
    connections: BTreeMap<Place, Connection>,
    /// What is on its way, by the workers it is between.
    mail: BTreeMap<(u16, u16), VecDeque<(Forwarded, Letter)>>,
    outlets: Outlets,
    /// Clients come by TLS.
    tls: Option<Rc<Contexts>>,
    rules: Rules,
    options: Options,
    info: ServerInfo,
    auth: Authenticator,
    now: Instant,
    /// The last message that each plain subscription had of each publisher.
    last: BTreeMap<(u64, u64), u64>,
    ids: u64,
    history: Vec<String>,
}

/// A connection, and its client's side of it.
struct Connection {
    peer: Peer,
    /// Written by the client and not read yet.
    written: Vec<u8>,
    /// Read and not consumed.
    kept: Vec<u8>,
    /// Where each operation ends, counted in bytes since the connection was opened.
    operations: VecDeque<(usize, Operation)>,
    written_len: usize,
    consumed_len: usize,
    /// What the last CONNECT that was written says.
    takes_headers: bool,
}

/// What the rules know of a letter.
struct Letter {
    message: Rc<Message>,
    /// The plain subscriptions it is for.
    keys: Vec<u64>,
}

/// What is left to explain of what one message caused.
struct Evidence {
    deliveries: Vec<(Place, Vec<u8>)>,
    letters: Vec<Forwarded>,
}

impl World {
    pub(crate) fn new(seed: u64, tls: Option<Rc<Contexts>>) -> Self {
        let mut rng = Rng::seeded(seed);
        let broker = Arc::new(Broker::default());
        let workers = [1, 2, 3, 4][rng.below(4)];
        let max_subscriptions = (rng.below(4) == 0).then_some(3);
        let engine = |worker| Engine::new(Arc::clone(&broker), worker, seed);
        let mut world = World {
            engines: (0..workers).map(engine).collect(),
            broker,
            connections: BTreeMap::new(),
            mail: BTreeMap::new(),
            outlets: Outlets::new(seed),
            tls,
            rules: Rules::new(max_subscriptions),
            options: Options {
                max_subscriptions,
                ..Options::default()
            },
            info: ServerInfo::default(),
            auth: Authenticator::new(&Options::default()),
            now: Instant::now(),
            last: BTreeMap::new(),
            ids: 0,
            history: Vec::new(),
            rng,
        };
        for worker in 0..workers {
            for conn in 0..=u32::try_from(world.rng.below(3)).expect("small") {
                world.open((worker, conn));
            }
        }
        world
    }

    /// What has happened, one line each.
    pub(crate) fn history(&self) -> &[String] {
        &self.history
    }

    /// One random thing happens.
    pub(crate) fn step(&mut self) {
        let place = self.any_place();
        let outcome = match self.rng.below(20) {
            0..9 => {
                self.write(place);
                Ok(())
            }
            9..15 => self.read(place),
            15..18 => self.deliver_any(),
            18 if self.rng.below(4) == 0 => {
                self.note(|| format!("{place:?} leaves"));
                self.reopen(place);
                Ok(())
            }
            _ => {
                // Connections are more often ready than not.
                let refuses = self.rng.below(3) == 0 && self.outlets.refusing.insert(place);
                if !refuses {
                    self.outlets.refusing.remove(&place);
                }
                self.note(|| format!("{place:?} refuses messages: {refuses}"));
                Ok(())
            }
        };
        self.conclude(outcome);
    }

    /// Everything that was written is read, everything on its way arrives, and then all leave.
    pub(crate) fn settle(&mut self) {
        for place in self.places() {
            let outcome = self.read_up_to(place, usize::MAX);
            self.conclude(outcome);
        }
        while self.mail.values().any(|letters| !letters.is_empty()) {
            let outcome = self.deliver_any();
            self.conclude(outcome);
        }
        for place in self.places() {
            assert!(self.connections[&place].operations.is_empty());
            self.reopen(place);
        }
        self.conclude(Ok(()));
        assert_eq!(self.trie_len(), 0);
    }

    // ---- what happens ----

    fn open(&mut self, place: Place) {
        self.rules.open(place);
        let number = self.rules.clients[&place].number;
        let session = Client::new(number, ([127, 0, 0, 1], 1).into());
        let connection = Connection {
            peer: Peer::client(place.1, session),
            written: Vec::new(),
            kept: Vec::new(),
            operations: VecDeque::new(),
            written_len: 0,
            consumed_len: 0,
            takes_headers: false,
        };
        self.connections.insert(place, connection);
        if let Some(contexts) = &self.tls {
            self.outlets.tunnels.insert(place, Tunnel::new(contexts));
        }
    }

    /// Whoever is there leaves, and somebody else comes.
    fn reopen(&mut self, place: Place) {
        let mut gone = self
            .connections
            .remove(&place)
            .expect("every place is taken");
        self.engines[usize::from(place.0)].part(&mut gone.peer);
        self.rules.forget(place);
        self.open(place);
    }

    /// A client writes a few operations.
    fn write(&mut self, place: Place) {
        for _ in 0..=self.rng.below(3) {
            self.ids += 1;
            let connection = self.connections.get_mut(&place).expect("it is there");
            let operation = Operation::random(&mut self.rng, self.ids, connection.takes_headers);
            if let Operation::Connect(wishes) = operation {
                connection.takes_headers = wishes.headers;
            }
            let wire = operation.wire(&mut self.rng);
            connection.written_len += wire.len();
            match self.outlets.tunnels.get_mut(&place) {
                Some(tunnel) => tunnel.write(&wire),
                None => connection.written.extend_from_slice(&wire),
            }
            let end = connection.written_len;
            connection.operations.push_back((end, operation));
        }
    }

    /// A part of what a client wrote is read.
    fn read(&mut self, place: Place) -> Outcome {
        let tunnel = self.outlets.tunnels.get(&place);
        let written = match tunnel {
            Some(tunnel) => tunnel.on_the_way(),
            None => self.connections[&place].written.len(),
        };
        let len = if self.rng.below(3) == 0 {
            written
        } else {
            self.rng.below(written + 1)
        };
        self.read_up_to(place, len)
    }

    fn read_up_to(&mut self, place: Place, len: usize) -> Outcome {
        self.outlets.worker = place.0;
        let connection = self.connections.get_mut(&place).expect("it is there");
        self.outlets.origin = connection.origin(place.0);
        let len = match self.outlets.tunnels.get_mut(&place) {
            Some(tunnel) => {
                let plain = tunnel.arrive(len);
                connection.kept.extend_from_slice(&plain);
                plain.len()
            }
            None => {
                let len = len.min(connection.written.len());
                connection.kept.extend(connection.written.drain(..len));
                len
            }
        };
        self.note(|| format!("{place:?} is read, {len} bytes"));
        loop {
            let connection = self.connections.get_mut(&place).expect("it is there");
            let context = Context {
                options: &self.options,
                info: &self.info,
                auth: &self.auth,
                now: self.now,
            };
            let engine = &mut self.engines[usize::from(place.0)];
            let fed = engine.feed(
                &mut connection.peer,
                &connection.kept,
                &context,
                &mut self.outlets,
            );
            connection.kept.drain(..fed.consumed);
            connection.consumed_len += fed.consumed;
            let closed = matches!(fed.end, End::Close(_));
            if self.operated(place, closed)? {
                self.reopen(place);
                return Ok(());
            }
            if fed.end == End::Starved {
                return Ok(());
            }
        }
    }

    /// Checks the operations that have just been carried out; tells whether the last one ended the connection.
    fn operated(&mut self, place: Place, closed: bool) -> Result<bool, String> {
        loop {
            let connection = self.connections.get_mut(&place).expect("it is there");
            let consumed = connection.consumed_len;
            let next = connection.operations.front();
            let whole = next.is_some_and(|&(end, _)| end <= consumed);
            if !whole && !closed {
                return Ok(false);
            }
            // What ends a connection need not have been consumed.
            let Some((_, operation)) = connection.operations.pop_front() else {
                return Err(format!("{place:?} was closed for no operation"));
            };
            self.note(|| format!("  {place:?} has sent {operation:?}"));
            let outcome = self.rules.operate(place, &operation);
            self.outlets.take_reply(place, &outcome.reply)?;
            if let Some(message) = &outcome.message {
                self.published(message)?;
            }
            if outcome.closes || !whole {
                let same = outcome.closes && closed;
                return if same {
                    Ok(true)
                } else {
                    Err(format!(
                        "{place:?} was closed: {closed}, and should: {same}"
                    ))
                };
            }
        }
    }

    /// The next letter between two workers arrives.
    fn deliver_any(&mut self) -> Outcome {
        let waiting = self.mail.iter().filter(|(_, letters)| !letters.is_empty());
        let waiting: Vec<_> = waiting.map(|(&way, _)| way).collect();
        let Some(way) = waiting.get(self.rng.below(waiting.len())) else {
            return Ok(());
        };
        let letters = self.mail.get_mut(way).expect("it was found there");
        let Some((forwarded, letter)) = letters.pop_front() else {
            return Ok(());
        };
        self.note(|| {
            let (id, to) = (forwarded.id, &forwarded.addressees);
            format!("{way:?} letter about {id} for {to:?} arrives")
        });
        let worker = forwarded.to;
        self.outlets.worker = worker;
        let engine = &mut self.engines[usize::from(worker)];
        forwarded.batch.for_each(|from, letter| {
            self.outlets.origin = from;
            let there = self.connections.get(&(worker, from.conn));
            let is_publisher = there.is_some_and(|it| it.origin(worker) == from);
            let publisher = is_publisher.then_some(from.conn);
            engine.receive(letter, publisher, self.now, &mut self.outlets);
        });
        self.received(&forwarded, &letter)
    }

    // ---- what must have come of it ----

    /// Checks what a message caused at its publisher's worker.
    fn published(&mut self, message: &Rc<Message>) -> Outcome {
        let worker = message.place.0;
        let mut evidence = self.evidence(message.publish.id);
        let reached = !evidence.is_empty();
        let mut elsewhere: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        let mut workers = BTreeSet::new();
        for it in self.rules.plain(&message.publish.subject) {
            workers.insert(it.place.0);
            if it.place.0 != worker {
                elsewhere.entry(it.place.0).or_default().push(it.key);
            } else if it.takes(message, &self.outlets.refusing) {
                self.plain_delivered(&it, message, &mut evidence)?;
            }
        }
        let groups = self.rules.groups(&message.publish.subject);
        let asks = message.asks && workers.len() + groups.len() == 1;
        for (to, keys) in elsewhere {
            let letter = evidence.take_letter(&Addressees::Each(keys.len()), (0, asks), Some(to));
            let letter = letter.ok_or_else(|| format!("no letter to {to} for {keys:?}"))?;
            self.post(letter, message, keys);
        }
        for (queue, members) in groups {
            self.one_of(
                worker,
                (&queue, &members),
                message,
                (0, asks),
                &mut evidence,
            )?;
        }
        if !reached && message.asks {
            self.told_so(message)?;
        }
        evidence.must_be_empty()
    }

    /// Checks what a letter caused.
    fn received(&mut self, forwarded: &Forwarded, letter: &Letter) -> Outcome {
        let message = &letter.message;
        let mut evidence = self.evidence(forwarded.id);
        let is_there = |it: &Who| it.number == message.publisher;
        let publisher = self.rules.clients.get(&message.place);
        let publisher = publisher.is_some_and(is_there);
        let worker = forwarded.to;
        if forwarded.asks && evidence.is_in_vain() {
            if worker != message.place.0 {
                let letter =
                    evidence.take_letter(&Addressees::Nobody, (forwarded.tried, false), None);
                let letter = letter.ok_or("nobody got it, and nobody says so")?;
                self.post(letter, message, Vec::new());
            } else if publisher {
                self.told_so(message)?;
            }
        }
        match &forwarded.addressees {
            Addressees::Nobody if publisher => self.told_so(message)?,
            Addressees::Nobody => {}
            Addressees::Each(_) => {
                let standing = self.rules.subscriptions.iter();
                let standing = standing.filter(|it| letter.keys.contains(&it.key));
                let takes = |it: &&Subscription| it.takes(message, &self.outlets.refusing);
                for it in standing.filter(takes).cloned().collect::<Vec<_>>() {
                    self.plain_delivered(&it, message, &mut evidence)?;
                }
            }
            Addressees::Member(queue) => {
                let mut groups = self.rules.groups(&message.publish.subject);
                let members = groups.remove(queue).unwrap_or_default();
                let terms = (forwarded.tried | 1 << worker, forwarded.asks);
                self.one_of(worker, (queue, &members), message, terms, &mut evidence)?;
            }
        }
        evidence.must_be_empty()
    }

    fn plain_delivered(
        &mut self,
        to: &Subscription,
        message: &Message,
        evidence: &mut Evidence,
    ) -> Outcome {
        let expected = self.rules.delivery(to, message);
        if !evidence.take_delivery(to.place, &expected) {
            let expected = expected.escape_ascii();
            return Err(format!("{to:?} did not get {expected}"));
        }
        let id = message.publish.id;
        let last = self.last.insert((to.key, message.publisher), id);
        if last.is_some_and(|last| last >= id) {
            return Err(format!("{to:?} got {id} after {last:?}"));
        }
        self.rules.delivered(to.key);
        Ok(())
    }

    /// Exactly one member of a group got the message, or it is on its way to one: here first if it comes from elsewhere,
    /// and then where it has not been. Nobody got it, if there is nobody.
    fn one_of(
        &mut self,
        worker: u16,
        (queue, members): (&str, &[Subscription]),
        message: &Rc<Message>,
        (tried, asks): (u64, bool),
        evidence: &mut Evidence,
    ) -> Outcome {
        let (here, there): (Vec<_>, Vec<_>) = members.iter().partition(|it| it.place.0 == worker);
        let here = here
            .into_iter()
            .filter(|it| it.takes(message, &self.outlets.refusing));
        let here: Vec<_> = here.collect();
        let got = here.iter().find(|it| {
            let expected = self.rules.delivery(it, message);
            evidence.take_delivery(it.place, &expected)
        });
        if let Some(it) = got {
            self.rules.delivered(it.key);
            return Ok(());
        }
        let there = there.into_iter().map(|it| it.place.0);
        let there: BTreeSet<u16> = there.filter(|it| tried & 1 << it == 0).collect();
        let addressees = Addressees::Member(queue.into());
        if let Some(letter) = evidence.take_letter(&addressees, (tried, asks), None) {
            if !there.contains(&letter.to) {
                return Err(format!("a letter to {}, where nobody is", letter.to));
            }
            if tried != 0 && !here.is_empty() {
                return Err(format!("a letter to {} in spite of {here:?}", letter.to));
            }
            self.post(letter, message, Vec::new());
            return Ok(());
        }
        if here.is_empty() && there.is_empty() {
            Ok(())
        } else {
            Err(format!("nobody of {queue} got {}", message.publish.id))
        }
    }

    /// A publisher that asked for it learns that nobody got its message, if it listens.
    fn told_so(&mut self, message: &Message) -> Outcome {
        let plain = self.rules.plain(&message.publish.reply);
        let own: Vec<_> = plain
            .iter()
            .filter(|it| it.place == message.place)
            .collect();
        let mut outcome = Ok(());
        for it in own {
            let expected = message.publish.no_responders(&it.sid);
            outcome = self.outlets.take_reply(message.place, &expected);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    // ---- odds and ends ----

    fn evidence(&mut self, id: u64) -> Evidence {
        Evidence {
            deliveries: self.outlets.take_deliveries(id),
            letters: self.outlets.take_letters(id),
        }
    }

    fn post(&mut self, forwarded: Forwarded, message: &Rc<Message>, keys: Vec<u64>) {
        let letter = Letter {
            message: Rc::clone(message),
            keys,
        };
        let way = (forwarded.from, forwarded.to);
        let letters = self.mail.entry(way).or_default();
        letters.push_back((forwarded, letter));
    }

    /// Nothing went wrong, nothing was sent beside what the rules ask for, and the tables hold what they should.
    fn conclude(&mut self, outcome: Outcome) {
        if let Err(why) = outcome {
            panic!("{why}");
        }
        self.outlets.sent.retain(|_, sent| !sent.is_empty());
        assert!(self.outlets.sent.is_empty(), "{:?}", self.outlets.sent);
        assert!(self.outlets.forwarded.is_empty());
        for &(worker, conn) in self.connections.keys() {
            let subscriptions = &self.engines[usize::from(worker)].subscriptions;
            let expected = self.rules.count_of((worker, conn));
            assert_eq!(subscriptions.count_of(conn), expected);
        }
        assert_eq!(self.trie_len(), self.rules.subscriptions.len());
    }

    fn trie_len(&self) -> usize {
        let account = self.broker.account(0).expect("there is one");
        account.trie.read().expect("nobody panicked").len()
    }

    fn places(&self) -> Vec<Place> {
        self.connections.keys().copied().collect()
    }

    fn any_place(&mut self) -> Place {
        let places = self.places();
        places[self.rng.below(places.len())]
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.history.push(line());
    }
}

impl Connection {
    /// It, as workers name it.
    fn origin(&self, worker: u16) -> Origin {
        Origin {
            worker,
            conn: self.peer.conn(),
            serial: u32::try_from(self.peer.id()).expect("clients are few"),
        }
    }
}

impl Evidence {
    fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.letters.is_empty()
    }

    fn take_delivery(&mut self, place: Place, bytes: &[u8]) -> bool {
        let is_it = |(at, got): &(Place, Vec<u8>)| *at == place && got == bytes;
        let at = self.deliveries.iter().position(is_it);
        at.map(|at| self.deliveries.swap_remove(at)).is_some()
    }

    /// Whether nobody got it, and it is under way to nobody.
    fn is_in_vain(&self) -> bool {
        let is_back = |it: &Forwarded| it.addressees == Addressees::Nobody;
        self.deliveries.is_empty() && self.letters.iter().all(is_back)
    }

    fn take_letter(
        &mut self,
        to: &Addressees,
        terms: (u64, bool),
        worker: Option<u16>,
    ) -> Option<Forwarded> {
        let is_it = |letter: &Forwarded| {
            letter.addressees == *to
                && (letter.tried, letter.asks) == terms
                && worker.is_none_or(|worker| letter.to == worker)
        };
        let at = self.letters.iter().position(is_it)?;
        Some(self.letters.swap_remove(at))
    }

    fn must_be_empty(&self) -> Outcome {
        if self.is_empty() {
            return Ok(());
        }
        let letters: Vec<_> = self.letters.iter().map(|it| &it.addressees).collect();
        let deliveries: Vec<_> = self
            .deliveries
            .iter()
            .map(|(place, bytes)| format!("{place:?} {}", bytes.escape_ascii()))
            .collect();
        Err(format!("too much: {deliveries:?}, letters {letters:?}"))
    }
}
