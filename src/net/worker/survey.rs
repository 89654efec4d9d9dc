//! Answers to the control thread's questions: what this worker's connections and subscriptions look like.
//!
//! One slice is done at the end of a turn, and ends by the clock, so that messages never wait for more than that, however
//! many connections there are and however slow the machine is. Nothing that grows with their number is done at once:
//! what is collected has its room from the start. Between two slices connections come and go: a survey sees each of those
//! that were there all the time, once.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::{Connection, Worker, context, slot};
use crate::broker::Subscription;
use crate::certificate::{Certificate, fingerprint};
use crate::limits;
use crate::log::debug;
use crate::monitor::snapshot::{
    AccountTraffic, Act, Answer, Brief, Briefs, Census, CertificateSnapshot, ConnectionSnapshot,
    Detailed, Kind, Question, Selection, SortFacts, SubscriptionFilter, SubscriptionSnapshot,
    TlsSnapshot, Totals,
};
use crate::monitor::{Listing, Moment, Tick};
use crate::net::mailbox::Ticket;
use crate::net::outlet::Outlet;
use crate::session::CloseReason;
use crate::stats::Traffic;
use crate::subject;

/// What a connection's owner notes for monitoring alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// When it came.
    start: Tick,
    /// When its peer last did something.
    active: Tick,
    /// Round-trip time in microseconds; 0 while it is not known.
    rtt: u32,
    /// When it came, or was last pinged: the low bits of a moment.
    pinged: u32,
}

impl Facts {
    pub(super) fn new(now: Moment) -> Self {
        Facts {
            start: now.tick(),
            active: now.tick(),
            rtt: 0,
            pinged: low_bits(now),
        }
    }

    /// When it came.
    pub(super) fn start_moment(&self) -> Moment {
        self.start.moment()
    }

    /// When its peer last did something.
    pub(super) fn active_moment(&self) -> Moment {
        self.active.moment()
    }

    /// Its peer did something.
    pub(super) fn touch(&mut self, now: Tick) {
        self.active = now;
    }

    /// A PING goes out.
    pub(super) fn pinged(&mut self, now: Moment) {
        self.pinged = low_bits(now);
    }

    /// What was asked, by the PING or by being there, is answered.
    pub(super) fn answered(&mut self, now: Moment) {
        self.rtt = low_bits(now).wrapping_sub(self.pinged).max(1);
    }
}

/// Differences of these are right for over an hour, and no peer has so long for an answer.
fn low_bits(moment: Moment) -> u32 {
    let [a, b, c, d, ..] = moment.0.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A question that is being answered.
#[derive(Debug)]
pub(super) struct Survey {
    ticket: Ticket,
    question: Question,
    /// The slot where the next slice begins.
    at: usize,
    stage: Stage,
}

/// What has been found so far.
#[derive(Debug)]
enum Stage {
    /// Which connections have a subscription to the subject asked for.
    Interested(Slots),
    Briefs(Briefs, Option<Slots>),
    /// And where each connection's snapshot is.
    Details(Vec<ConnectionSnapshot>, HashMap<u32, usize>),
    /// Their subscriptions are being added.
    Listing(Vec<ConnectionSnapshot>, HashMap<u32, usize>),
    Subscriptions(usize, Vec<SubscriptionSnapshot>),
    Census(Census),
}

/// A set of slots of connections.
#[derive(Debug, Default)]
struct Slots(Vec<u64>);

impl Slots {
    /// With room for the slots below `end`.
    fn new(end: usize) -> Self {
        Slots(vec![0; end.div_ceil(64)])
    }

    fn insert(&mut self, conn: u32) {
        let (word, bit) = (conn as usize / 64, conn % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn remove(&mut self, conn: u32) {
        if let Some(word) = self.0.get_mut(conn as usize / 64) {
            *word &= !(1 << (conn % 64));
        }
    }

    fn contains(&self, conn: u32) -> bool {
        let word = self.0.get(conn as usize / 64);
        word.is_some_and(|word| word >> (conn % 64) & 1 == 1)
    }
}

impl Worker {
    /// The time of the turn.
    pub(super) fn moment(&self) -> Moment {
        self.shared.moment(self.outlets.now)
    }

    /// Begins to answer.
    pub(super) fn survey(&mut self, question: Question, ticket: Ticket) {
        let stage = match &question {
            Question::Totals => {
                let answer = Answer::Totals(Box::new(self.totals()));
                return ticket.answer(answer);
            }
            Question::Routes(listed) => {
                let routes = self.routes(*listed);
                return ticket.answer(Answer::Routes(routes));
            }
            Question::Act(act, cid) => {
                let has_acted = self.act(*act, *cid);
                return ticket.answer(Answer::Acted(has_acted));
            }
            Question::Briefs(selection) if selection.subject.is_some() => {
                Stage::Interested(Slots::new(self.connections.capacity()))
            }
            Question::Briefs(_) => Stage::Briefs(self.no_briefs(), None),
            Question::Details(detailed) => {
                let count = detailed.connections.len();
                Stage::Details(Vec::with_capacity(count), HashMap::with_capacity(count))
            }
            Question::Subscriptions(_) => Stage::Subscriptions(0, Vec::new()),
            Question::Census => Stage::Census(Census {
                accounts: self.departed.clone(),
                ..Census::default()
            }),
        };
        self.surveys.push_back(Survey {
            ticket,
            question,
            at: 0,
            stage,
        });
    }

    /// Another connection has come into a slot: what was found of the one before says nothing of it.
    pub(super) fn forget_found(&mut self, conn: u32) {
        for survey in &mut self.surveys {
            if let Stage::Interested(found) | Stage::Briefs(_, Some(found)) = &mut survey.stage {
                found.remove(conn);
            }
        }
    }

    /// A connection is about to be gone, whose traffic a census that began before has neither among those who had left by
    /// then nor, if it has not come to its slot, among those that are there.
    fn count_departing(&mut self, conn: u32, account: u32, received: Traffic, sent: Traffic) {
        for survey in &mut self.surveys {
            match &mut survey.stage {
                Stage::Census(census) if survey.at <= conn as usize => {
                    let traffic = account_traffic(&mut census.accounts, account);
                    traffic.received.add(received);
                    traffic.sent.add(sent);
                }
                _ => {}
            }
        }
    }

    /// Goes on with the surveys until they are done or the slice is over.
    pub(super) fn survey_slice(&mut self) {
        let (began, before) = (Instant::now(), cpu_time());
        while !self.surveys.is_empty() {
            self.survey_step();
            if began.elapsed() >= limits::SURVEY_SLICE {
                break;
            }
        }
        self.slices.add(cpu_time().saturating_sub(before));
    }

    /// Does something to the client of this number; false if it is not here.
    fn act(&mut self, act: Act, cid: u64) -> bool {
        let mut connections = self.connections.iter();
        let is_it = |it: &Connection| {
            it.peer.as_client().is_some() && it.peer.id() == cid && it.closing.is_none()
        };
        let Some((key, connection)) = connections.find(|(_, it)| is_it(it)) else {
            return false;
        };
        let conn = slot(key);
        match act {
            Act::Kick => self.begin_closing(conn, CloseReason::Kicked),
            Act::Warn => {
                let (peer, log) = (&connection.peer, &self.shared.log);
                debug!(log, "{peer} - Sending Lame Duck Mode info to client");
                let mut line = Vec::new();
                let context = context(&self.settings, &self.info, self.outlets.now);
                if let Some(client) = peer.as_client() {
                    client.notify(&context, true, &mut line);
                }
                self.send(conn, &line);
            }
        }
        true
    }

    fn no_briefs(&self) -> Briefs {
        Briefs {
            total: 0,
            list: Vec::with_capacity(self.connections.len()),
        }
    }

    /// Does one step of the first survey.
    fn survey_step(&mut self) {
        let Some(mut survey) = self.surveys.pop_front() else {
            return;
        };
        let (from, question) = (survey.at, &survey.question);
        let (next, stage, is_done) = match (
            mem::replace(&mut survey.stage, Stage::Subscriptions(0, Vec::new())),
            question,
        ) {
            (Stage::Interested(found), Question::Briefs(selection)) => {
                self.find_interested(from, selection, found)
            }
            (Stage::Briefs(briefs, only), Question::Briefs(selection)) => {
                self.add_briefs(from, selection, briefs, only)
            }
            (Stage::Details(list, places), Question::Details(detailed)) => {
                self.add_details(from, detailed, list, places)
            }
            (Stage::Listing(list, places), Question::Details(_)) => {
                self.add_listings(from, list, places)
            }
            (Stage::Subscriptions(count, list), Question::Subscriptions(filter)) => {
                self.add_subscriptions(from, filter, count, list)
            }
            (Stage::Census(census), _) => self.add_census(from, census),
            (stage, _) => (from, stage, true),
        };
        survey.stage = stage;
        survey.at = next;
        if is_done {
            survey.ticket.answer(match survey.stage {
                Stage::Interested(_) => Answer::Briefs(Briefs::default()),
                Stage::Briefs(briefs, _) => Answer::Briefs(briefs),
                Stage::Details(list, _) | Stage::Listing(list, _) => Answer::Details(list),
                Stage::Subscriptions(count, list) => Answer::Subscriptions(count, list),
                Stage::Census(census) => Answer::Census(census),
            });
        } else {
            self.surveys.push_front(survey);
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            from_clients: self.engine.received,
            from_servers: self.engine.received_routed,
            to_servers: self.outlets.pool.routed,
            to_clients: self.outlets.pool.delivered,
            stalls: self.outlets.pool.stalls,
            cache: self.engine.cache.figures(),
            turns: self.turns,
            handshakes: self.handshakes,
            slices: self.slices,
            cpu: cpu_time(),
            connections: self.connections.len(),
            pending_bytes: self.outlets.pool.pending,
        }
    }

    fn find_interested(
        &self,
        from: usize,
        selection: &Selection,
        mut found: Slots,
    ) -> (usize, Stage, bool) {
        let to = from + limits::SURVEY_SLOTS;
        let wanted = selection.subject.as_deref().unwrap_or_default();
        for subscription in (from..to).filter_map(|at| self.engine.subscriptions.at(at)) {
            let text = self.subject_of(subscription);
            if subject::overlap(text.as_bytes(), wanted.as_bytes()) {
                found.insert(subscription.conn);
            }
        }
        if to < self.engine.subscriptions.slots_end() {
            return (to, Stage::Interested(found), false);
        }
        (0, Stage::Briefs(self.no_briefs(), Some(found)), false)
    }

    fn add_briefs(
        &mut self,
        from: usize,
        selection: &Selection,
        mut briefs: Briefs,
        only: Option<Slots>,
    ) -> (usize, Stage, bool) {
        let to = from + limits::SURVEY_SLOTS;
        let now = self.moment();
        for at in from..to {
            let Some(connection) = self.connections.get(at) else {
                continue;
            };
            let conn = slot(at);
            let is_listed = selection
                .account
                .is_none_or(|it| it == connection.peer.account());
            let is_interested = only.as_ref().is_none_or(|only| only.contains(conn));
            let is_client = connection.peer.as_client().is_some();
            if connection.closing.is_some() || !is_listed || !is_interested || !is_client {
                continue;
            }
            briefs.total += 1;
            let cid = connection.peer.id();
            let user = connection
                .peer
                .as_client()
                .map_or("", |client| client.claimed_user());
            let is_selected = selection.cid.is_none_or(|it| it == cid)
                && selection.user.as_deref().is_none_or(|it| it == user);
            let serial = connection.serial;
            if let Some(facts) = self.sort_facts(conn, now).filter(|_| is_selected) {
                let key = selection.sort.key(&facts);
                briefs.list.push(Brief {
                    key,
                    cid,
                    conn,
                    serial,
                });
            }
        }
        let is_done = to >= self.connections.capacity();
        (to, Stage::Briefs(briefs, only), is_done)
    }

    fn sort_facts(&mut self, conn: u32, now: Moment) -> Option<SortFacts> {
        let outlet = self.outlets.get(conn)?;
        let connection = self.connections.get(conn as usize)?;
        Some(SortFacts {
            cid: connection.peer.id(),
            subs: self.engine.subscriptions.count_of(conn),
            pending: outlet.pending(),
            received: connection.peer.received(),
            sent: outlet.delivered,
            start: connection.facts.start.moment(),
            active: connection.facts.active.max(outlet.active).moment(),
            stop: now,
            rtt: Duration::from_micros(connection.facts.rtt.into()),
        })
    }

    fn add_details(
        &mut self,
        from: usize,
        detailed: &Detailed,
        mut list: Vec<ConnectionSnapshot>,
        mut places: HashMap<u32, usize>,
    ) -> (usize, Stage, bool) {
        let to = from + limits::SURVEY_DETAILS;
        let all = &detailed.connections;
        for &(conn, serial) in all.get(from..to.min(all.len())).unwrap_or_default() {
            let connection = self.connections.get(conn as usize);
            let is_it = connection.is_some_and(|it| it.serial == serial && it.closing.is_none());
            if let Some(snapshot) = self.snapshot(conn).filter(|_| is_it) {
                places.insert(conn, list.len());
                list.push(snapshot);
            }
        }
        if to < all.len() {
            return (to, Stage::Details(list, places), false);
        }
        if detailed.listing == Listing::None {
            return (0, Stage::Details(list, places), true);
        }
        (0, Stage::Listing(list, places), false)
    }

    fn add_listings(
        &self,
        from: usize,
        mut list: Vec<ConnectionSnapshot>,
        places: HashMap<u32, usize>,
    ) -> (usize, Stage, bool) {
        let to = from + limits::SURVEY_SLOTS;
        for at in from..to {
            let Some(subscription) = self.engine.subscriptions.at(at) else {
                continue;
            };
            let place = places.get(&subscription.conn);
            let connection = self.connections.get(subscription.conn as usize);
            // Another connection may have got the slot meanwhile.
            let is_it = |it: &&mut ConnectionSnapshot| {
                connection.is_some_and(|conn| conn.peer.id() == it.cid)
            };
            if let Some(snapshot) = place.and_then(|&at| list.get_mut(at)).filter(is_it) {
                let listed = self.subscription(subscription, snapshot.cid);
                snapshot.listed.push(listed);
            }
        }
        let is_done = to >= self.engine.subscriptions.slots_end();
        (to, Stage::Listing(list, places), is_done)
    }

    fn add_subscriptions(
        &self,
        from: usize,
        filter: &SubscriptionFilter,
        mut count: usize,
        mut list: Vec<SubscriptionSnapshot>,
    ) -> (usize, Stage, bool) {
        let to = from + limits::SURVEY_SLOTS;
        for subscription in (from..to).filter_map(|at| self.engine.subscriptions.at(at)) {
            let connection = self.connections.get(subscription.conn as usize);
            let account = connection.map(|it| it.peer.account());
            if filter.account.is_some() && account != filter.account {
                continue;
            }
            let cid = connection.map_or(0, |it| it.peer.id());
            let snapshot = self.subscription(subscription, cid);
            let is_wanted = filter
                .test
                .as_deref()
                .is_none_or(|test| subject::matches(snapshot.subject.as_bytes(), test.as_bytes()));
            if is_wanted {
                if count >= filter.skip && list.len() < filter.take {
                    list.push(snapshot);
                }
                count += 1;
            }
        }
        let is_done = to >= self.engine.subscriptions.slots_end();
        (to, Stage::Subscriptions(count, list), is_done)
    }

    fn add_census(&mut self, from: usize, mut census: Census) -> (usize, Stage, bool) {
        let to = from + limits::SURVEY_SLOTS;
        for at in from..to {
            let Some(connection) = self.connections.get(at) else {
                continue;
            };
            census.all += 1;
            if connection.closing.is_some() {
                census.closing += 1;
                // What it has sent and taken is with those who left.
                continue;
            }
            census.stalled += usize::from(connection.stalled.is_some());
            if connection.peer.as_route().is_some() {
                continue;
            }
            let is_stranger = connection.peer.is_stranger(&self.settings.auth);
            census.strangers += usize::from(is_stranger);
            let (account, received) = (connection.peer.account(), connection.peer.received());
            let sent = self.outlets.get(slot(at)).map(|outlet| outlet.delivered);
            let traffic = account_traffic(&mut census.accounts, account);
            traffic.connections += 1;
            traffic.received.add(received);
            traffic.sent.add(sent.unwrap_or_default());
        }
        let is_done = to >= self.connections.capacity();
        (to, Stage::Census(census), is_done)
    }

    /// Everything about a connection but its subscriptions.
    pub(super) fn snapshot(&mut self, conn: u32) -> Option<ConnectionSnapshot> {
        let subs = self.engine.subscriptions.count_of(conn);
        let broker = &self.settings.broker;
        let outlet = self.outlets.get(conn)?;
        let connection = self.connections.get(conn as usize)?;
        let client = connection.peer.as_client();
        let connect = client.and_then(|client| client.connect());
        let text = |text: Option<&Box<str>>| text.cloned().unwrap_or_default();
        let identity = client.and_then(|client| client.identity());
        let account = broker.account(connection.peer.account());
        let has_nkey = identity.is_some_and(|it| matches!(it.who, crate::session::Who::Nkey(_)));
        Some(ConnectionSnapshot {
            cid: connection.peer.id(),
            kind: Kind::Client,
            addr: outlet.label.addr,
            start: connection.facts.start.moment(),
            active: connection.facts.active.max(outlet.active).moment(),
            end: None,
            rtt: Duration::from_micros(connection.facts.rtt.into()),
            pending: outlet.pending().max(outlet.lost),
            received: connection.peer.received(),
            sent: outlet.delivered,
            stalls: outlet.stalls,
            subs,
            name: text(connect.and_then(|it| it.name.as_ref())),
            lang: text(connect.and_then(|it| it.lang.as_ref())),
            version: text(connect.and_then(|it| it.version.as_ref())),
            tls: tls(outlet, connection.tls_first),
            user: client.map_or("", |client| client.claimed_user()).into(),
            has_nkey,
            is_known: identity.is_some(),
            account: account.map_or_else(|| "".into(), |it| it.name.as_str().into()),
            listed: Vec::new(),
        })
    }

    /// Notes a connection that is about to be gone, with its subscriptions, as far as there is room for them.
    pub(super) fn remember(&mut self, conn: u32, reason: CloseReason) {
        let now = self.moment();
        let Some(connection) = self.connections.get(conn as usize) else {
            return;
        };
        if connection.peer.as_route().is_some() {
            return;
        }
        let account = connection.peer.account();
        let received = connection.peer.received();
        let sent = self.outlets.get(conn).map(|outlet| outlet.delivered);
        let sent = sent.unwrap_or_default();
        let traffic = account_traffic(&mut self.departed, account);
        traffic.received.add(received);
        traffic.sent.add(sent);
        traffic.slow_consumers += u64::from(reason.is_slow_consumer());
        self.count_departing(conn, account, received, sent);
        let remembers = self.shared.remembers_closed();
        if !remembers && !self.is_end_heard(account) {
            return;
        }
        let Some(mut snapshot) = self.snapshot(conn) else {
            return;
        };
        snapshot.end = Some((now, reason));
        self.report_end(&snapshot, reason);
        if !remembers {
            return;
        }
        let mut bytes = 0;
        let mut at = self.engine.subscriptions.first_of(conn);
        while let Some(subscription) =
            at.and_then(|it| self.engine.subscriptions.at(it.slot as usize))
        {
            let mut listed = self.subscription(subscription, snapshot.cid);
            listed.account = std::sync::Arc::clone(&snapshot.account);
            bytes += listed.memory();
            if bytes > limits::CLOSED_LISTING_BYTES_MAX {
                break;
            }
            at = self.engine.subscriptions.next_of(subscription);
            snapshot.listed.push(listed);
        }
        self.shared.remember(snapshot);
    }

    fn subject_of(&self, subscription: &Subscription) -> String {
        let connection = self.connections.get(subscription.conn as usize);
        let account = connection.and_then(|it| self.settings.broker.account(it.peer.account()));
        let mut text = Vec::new();
        if let (Some(account), Some(node)) = (account, subscription.node) {
            account.subject_of(node, &mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn subscription(&self, subscription: &Subscription, cid: u64) -> SubscriptionSnapshot {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let connection = self.connections.get(subscription.conn as usize);
        let account = connection.and_then(|it| self.settings.broker.account(it.peer.account()));
        SubscriptionSnapshot {
            account: account.map_or_else(|| "".into(), |it| it.name.as_str().into()),
            subject: self.subject_of(subscription),
            queue: text(subscription.queue().unwrap_or_default()),
            sid: text(subscription.sid.as_bytes()),
            delivered: subscription.delivered,
            max: subscription.max,
            cid,
        }
    }

    /// What a peer did in this turn is noted.
    pub(super) fn note_activity(connection: &mut Connection, now: Moment) {
        if connection.peer.take_active() {
            connection.facts.touch(now.tick());
        }
        if connection.peer.keepalive().take_answered() {
            connection.facts.answered(now);
        }
    }
}

/// What this thread has had of the processor.
fn cpu_time() -> Duration {
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(cpu.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(cpu.tv_sec).unwrap_or_default(), nanos)
}

/// The entry of an account.
fn account_traffic(accounts: &mut Vec<AccountTraffic>, account: u32) -> &mut AccountTraffic {
    let at = account as usize;
    if accounts.len() <= at {
        accounts.resize(at + 1, AccountTraffic::default());
    }
    &mut accounts[at]
}

fn tls(outlet: &Outlet, is_first: bool) -> Option<Box<TlsSnapshot>> {
    let session = outlet.transport.session()?;
    let certificate = |der: &[u8]| {
        let parsed = Certificate::parse(der);
        CertificateSnapshot {
            subject: parsed.as_ref().map(|it| it.subject()).unwrap_or_default(),
            spki_sha256: parsed.map(|it| it.key_id).unwrap_or_default(),
            cert_sha256: fingerprint(der),
        }
    };
    Some(Box::new(TlsSnapshot {
        version: session.version()?,
        cipher_suite: session.cipher_suite()?.into(),
        is_first,
        peer_certs: session.peer_certificates().map(certificate).collect(),
    }))
}

#[cfg(test)]
mod tests;
