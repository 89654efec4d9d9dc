//! Accounts that share streams and services at random, against the rules written down naively.
//!
//! Each round is a small world: accounts with random imports, mappings and permissions, connections on several workers with
//! random subscriptions, plain and in groups, and messages of which each copy, each answer and each notice of a missing
//! responder must be what the rules say. What one subscription gets or does not get of one message is one check.
//!
//! `MIDGE_SEED=<number>` plays one round alone, `MIDGE_ROUNDS=<count>` as many as that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use midge::Options;
use midge::broker::Broker;
use midge::config;
use midge::engine::{Delivery, End, Engine, Letter, Peer, Sink};
use midge::net::mailbox::{Batch, Origin};
use midge::proto::encode::Message;
use midge::proto::error::ParseError;
use midge::proto::frame::Frame;
use midge::proto::info::ServerInfo;
use midge::rng::Rng;
use midge::session::{Authenticator, Client, Context, Violation};

/// Rounds of a usual run.
const ROUNDS: u64 = 300;
/// Messages of a round.
const MESSAGES: usize = 40;
/// The subscription to answers.
const INBOX: usize = 99_999;
const WORKERS: u16 = 3;
const ACCOUNTS: [&str; 4] = ["A", "B", "C", "D"];

#[test]
fn accounts_get_of_each_other_what_they_import() {
    let variable = |name| {
        let text = std::env::var(name).ok();
        text.map(|it| it.parse::<u64>().expect("the variable is a number"))
    };
    let checks: u64 = match variable("MIDGE_SEED") {
        Some(seed) => play(seed),
        None => (0..variable("MIDGE_ROUNDS").unwrap_or(ROUNDS))
            .map(play)
            .sum(),
    };
    assert!(checks > 0);
    // Written to the stream itself: the harness shows what a passing test prints to nobody.
    let _ = writeln!(std::io::stderr(), "{checks} checks");
}

fn play(seed: u64) -> u64 {
    let world = Rules::random(&mut Rng::seeded(seed));
    let mut round = Round {
        real: Real::new(&world, seed),
        rules: world,
        rng: Rng::seeded(seed ^ 0x5eed),
        checks: 0,
        seed,
    };
    for id in MESSAGES..MESSAGES + 4 {
        round.change(id);
    }
    for id in 0..MESSAGES {
        round.publish(id);
        if round.rng.below(4) == 0 {
            round.change(id);
        }
    }
    let checks = round.checks;
    round.real.leave();
    checks
}

// ---- the rules ----

#[derive(Debug, Clone)]
struct Import {
    from: usize,
    there: Vec<String>,
    /// For each token: itself, or the number of the wildcard there; `>` is plain.
    here: Vec<Result<usize, String>>,
}

#[derive(Debug, Clone)]
struct Sub {
    conn: usize,
    sid: usize,
    subject: String,
    queue: Option<String>,
}

#[derive(Debug)]
struct Rules {
    streams: Vec<Vec<Import>>,
    services: Vec<Vec<Import>>,
    mappings: Vec<Option<(String, String)>>,
    /// The account and the denied subjects of each connection's user.
    conns: Vec<(usize, Vec<String>)>,
    subs: Vec<Sub>,
}

/// One copy of a message that somebody may get.
#[derive(Debug, Clone)]
struct Copy {
    sub: Sub,
    subject: String,
    /// The import by which the request left its account, if it did: its reply is a way back then.
    crossed: Option<usize>,
    /// Whether it is published in the subscription's own account.
    native: bool,
}

impl Rules {
    fn random(rng: &mut Rng) -> Rules {
        let imports = |rng: &mut Rng| {
            let mut all = Vec::new();
            for importer in 0..ACCOUNTS.len() {
                let mut own: Vec<Import> = Vec::new();
                // From accounts before it, so that there is no circle.
                for _ in 0..rng.below(5).min(importer * 3) {
                    let import = {
                        let from = rng.below(importer);
                        Import::random(rng, from)
                    };
                    let is_known = |it: &Import| {
                        it.from == import.from
                            && (it.there == import.there || it.here() == import.here())
                    };
                    if !own.iter().any(is_known) {
                        own.push(import);
                    }
                }
                all.push(own);
            }
            all
        };
        let (streams, services) = (imports(rng), imports(rng));
        let mapping = |rng: &mut Rng| {
            let from = literal(rng);
            let to = literal(rng);
            (rng.below(3) == 0).then_some((from, to))
        };
        let mappings = ACCOUNTS.iter().map(|_| mapping(rng)).collect();
        let conns = (0..8).map(|_| {
            let account = rng.below(ACCOUNTS.len());
            let deny = (0..rng.below(3)).map(|_| pattern(rng)).collect();
            (account, if rng.below(2) == 0 { deny } else { Vec::new() })
        });
        Rules {
            streams,
            services,
            mappings,
            conns: conns.collect(),
            subs: Vec::new(),
        }
    }

    fn conf(&self) -> String {
        let mut text = String::from("accounts {\n");
        for (index, name) in ACCOUNTS.iter().enumerate() {
            text += &format!(
                "{name} {{ exports = [{{stream: \">\"}}, {{service: \">\"}}]\n imports = [\n"
            );
            for (kind, imports) in [("stream", &self.streams), ("service", &self.services)] {
                for import in &imports[index] {
                    let (from, there, here) =
                        (ACCOUNTS[import.from], import.there.join("."), import.here());
                    text += &format!(
                        "{{{kind}: {{account: {from}, subject: \"{there}\"}}, to: \"{here}\"}}\n"
                    );
                }
            }
            text += "]\n users = [\n";
            for (conn, (account, deny)) in self.conns.iter().enumerate() {
                if *account == index {
                    text += &format!(
                        "{{user: u{conn}, password: p, permissions: {{subscribe: {{deny: {deny:?}}}}}}}\n"
                    );
                }
            }
            text += "]\n";
            if let Some((from, to)) = &self.mappings[index] {
                text += &format!("mappings = {{\"{from}\": \"{to}\"}}\n");
            }
            text += "}\n";
        }
        text + "}\n"
    }

    fn mapped(&self, account: usize, subject: &str) -> String {
        match &self.mappings[account] {
            Some((from, to)) if from == subject => to.clone(),
            _ => subject.into(),
        }
    }

    fn is_denied(&self, conn: usize, subject: &str) -> bool {
        self.conns[conn].1.iter().any(|it| matches(it, subject))
    }

    /// The plain copies of a message in an account, and the possible copies for each queue group.
    fn copies(
        &self,
        account: usize,
        subject: &str,
        crossed: Option<usize>,
        plain: &mut Vec<Copy>,
        groups: &mut Vec<Vec<Copy>>,
    ) {
        let mut named: BTreeMap<&str, Vec<Copy>> = BTreeMap::new();
        let mut visit = |account: usize, subject: &str, native: bool| {
            for sub in &self.subs {
                if self.conns[sub.conn].0 != account || !matches(&sub.subject, subject) {
                    continue;
                }
                let copy = Copy {
                    sub: sub.clone(),
                    subject: subject.into(),
                    crossed,
                    native,
                };
                match &sub.queue {
                    None => plain.push(copy),
                    Some(queue) => named.entry(queue).or_default().push(copy),
                }
            }
        };
        visit(account, subject, true);
        for (importer, imports) in self.streams.iter().enumerate() {
            for import in imports.iter().filter(|it| it.from == account) {
                if let Some(here) = import.name_here(subject) {
                    visit(importer, &here, false);
                }
            }
        }
        groups.extend(named.into_values());
        for (number, import) in self.services[account].iter().enumerate() {
            if let Some(there) = import.name_there(subject) {
                let there = self.mapped(import.from, &there);
                let crossed = crossed.or(Some(number));
                self.copies(import.from, &there, crossed, plain, groups);
            }
        }
    }
}

impl Import {
    fn random(rng: &mut Rng, from: usize) -> Import {
        let mut there: Vec<String> = pattern(rng).split('.').map(Into::into).collect();
        let full = there
            .last()
            .is_some_and(|it| it == ">")
            .then(|| there.pop())
            .flatten();
        let wildcards = there.iter().filter(|it| *it == "*").count();
        let mut here: Vec<_> = (0..wildcards).map(Ok).collect();
        for _ in 0..=rng.below(2) {
            here.insert(
                rng.below(here.len() + 1),
                Err(pick(rng, &["a", "b", "x"]).into()),
            );
        }
        if wildcards > 1 && rng.below(2) == 0 {
            here.reverse();
        }
        if let Some(full) = full {
            there.push(full.clone());
            here.push(Err(full));
        }
        Import { from, there, here }
    }

    fn here(&self) -> String {
        let token = |it: &Result<usize, String>| match it {
            Ok(number) => format!("${}", number + 1),
            Err(text) => text.clone(),
        };
        self.here.iter().map(token).collect::<Vec<_>>().join(".")
    }

    fn name_here(&self, subject: &str) -> Option<String> {
        if !matches(&self.there.join("."), subject) {
            return None;
        }
        let given: Vec<&str> = subject.split('.').collect();
        let places: Vec<usize> = (0..self.there.len())
            .filter(|&at| self.there[at] == "*")
            .collect();
        let mut name = Vec::new();
        for token in &self.here {
            match token {
                Ok(number) => name.push(given[places[*number]]),
                Err(text) if text == ">" => name.extend(&given[self.there.len() - 1..]),
                Err(text) => name.push(text),
            }
        }
        Some(name.join("."))
    }

    fn name_there(&self, subject: &str) -> Option<String> {
        let token =
            |it: &Result<usize, String>| it.clone().map_or_else(|text| text, |_| "*".into());
        let pattern: Vec<String> = self.here.iter().map(token).collect();
        if !matches(&pattern.join("."), subject) {
            return None;
        }
        let given: Vec<&str> = subject.split('.').collect();
        let mut number = 0..;
        let mut name = Vec::new();
        for token in &self.there {
            match token.as_str() {
                "*" => {
                    let number = number.next();
                    let at = self
                        .here
                        .iter()
                        .position(|it| it.as_ref().ok() == number.as_ref());
                    name.push(given[at.expect("each wildcard is used")]);
                }
                ">" => name.extend(&given[self.here.len() - 1..]),
                text => name.push(text),
            }
        }
        Some(name.join("."))
    }
}

fn matches(pattern: &str, subject: &str) -> bool {
    match (pattern.split_once('.'), subject.split_once('.')) {
        _ if pattern == ">" => true,
        (Some((p, pattern)), Some((s, subject))) => {
            (p == "*" || p == s) && matches(pattern, subject)
        }
        (None, None) => pattern == "*" || pattern == subject,
        _ => false,
    }
}

// ---- the real thing ----

struct Real {
    engines: Vec<Engine>,
    broker: Arc<Broker>,
    options: Options,
    auth: Authenticator,
    info: ServerInfo,
    now: Instant,
    peers: Vec<(u16, Peer)>,
    outlets: Outlets,
}

#[derive(Default)]
struct Outlets {
    worker: u16,
    from: u32,
    sent: BTreeMap<(u16, u32), Vec<u8>>,
    mail: VecDeque<(u16, Batch)>,
}

/// One delivery, as a client reads it.
#[derive(Debug)]
struct Got {
    conn: usize,
    sid: usize,
    subject: String,
    reply: String,
    body: String,
}

impl Real {
    fn new(rules: &Rules, seed: u64) -> Real {
        let conf = rules.conf();
        let loaded = config::parse_str("c", &conf, &config::Nothing);
        let options = loaded
            .unwrap_or_else(|errors| panic!("{errors:?}\n{conf}"))
            .options;
        let auth = Authenticator::new(&options);
        let broker = Arc::new(Broker::new(auth.names_and_limits()).planned(&options));
        let mut real = Real {
            engines: (0..WORKERS)
                .map(|worker| Engine::new(Arc::clone(&broker), worker, seed))
                .collect(),
            broker,
            options,
            auth,
            info: ServerInfo::default(),
            now: Instant::now(),
            peers: Vec::new(),
            outlets: Outlets::default(),
        };
        let mut rng = Rng::seeded(seed);
        for conn in 0..rules.conns.len() {
            let worker = u16::try_from(rng.below(usize::from(WORKERS))).expect("few");
            let slot = u32::try_from(conn).expect("few");
            let session = Client::new(slot.into(), ([127, 0, 0, 1], 1).into());
            real.peers.push((worker, Peer::client(slot, session)));
            let echo = rng.below(3) > 0;
            real.feed(conn, &format!(
                "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"echo\":{echo},\"user\":\"u{conn}\",\"pass\":\"p\"}}\r\n"
            ));
        }
        real
    }

    fn echoes(&self, conn: usize) -> bool {
        let client = self.peers[conn].1.as_client().expect("all are clients");
        client.echo
    }

    /// Feeds bytes, and has all that they cause arrive.
    fn feed(&mut self, conn: usize, text: &str) {
        let (worker, peer) = &mut self.peers[conn];
        (self.outlets.worker, self.outlets.from) = (*worker, peer.conn());
        let context = Context {
            options: &self.options,
            info: &self.info,
            auth: &self.auth,
            now: self.now,
        };
        let engine = &mut self.engines[usize::from(*worker)];
        let fed = engine.feed(peer, text.as_bytes(), &context, &mut self.outlets);
        assert_eq!((fed.consumed, fed.end), (text.len(), End::Starved));
        while let Some((worker, batch)) = self.outlets.mail.pop_front() {
            self.outlets.worker = worker;
            batch.for_each(|from, letter| {
                self.outlets.from = from.conn;
                let is_own = self.peers[from.conn as usize].0 == worker;
                let publisher = is_own.then_some(from.conn);
                self.engines[usize::from(worker)].receive(
                    letter,
                    publisher,
                    self.now,
                    &mut self.outlets,
                );
            });
        }
    }

    /// What all have been sent, and who was told that nobody is there.
    fn take(&mut self) -> (Vec<Got>, Vec<usize>) {
        let (mut got, mut told) = (Vec::new(), Vec::new());
        for ((_, conn), bytes) in std::mem::take(&mut self.outlets.sent) {
            let conn = conn as usize;
            let text = String::from_utf8(bytes).expect("text");
            let mut rest = text.as_str();
            while let Some((line, behind)) = rest.split_once("\r\n") {
                let words: Vec<&str> = line.split(' ').collect();
                let sizes = if words[0] == "HMSG" { 2 } else { 1 };
                assert!(matches!(words[0], "MSG" | "HMSG"), "{text}");
                let total: usize = words[words.len() - 1].parse().expect("a size");
                let header: usize = match sizes {
                    2 => words[words.len() - 2].parse().expect("a size"),
                    _ => 0,
                };
                let (head, body) = behind.split_at(header);
                if head.starts_with("NATS/1.0 503") {
                    told.push(conn);
                } else {
                    got.push(Got {
                        conn,
                        sid: words[2].parse().expect("a number"),
                        subject: words[1].into(),
                        reply: if words.len() == 4 + sizes {
                            words[3].into()
                        } else {
                            String::new()
                        },
                        body: body[..total - header].into(),
                    });
                }
                rest = &behind[total + 2..];
            }
        }
        (got, told)
    }

    /// All leave, and leave nothing behind but the wildcards of ways back and the services.
    fn leave(&mut self) {
        for (worker, peer) in &mut self.peers {
            self.engines[usize::from(*worker)].part(peer);
        }
        for engine in &mut self.engines {
            assert!(engine.subscriptions.is_empty() && engine.subscriptions.shadows.is_empty());
        }
        for index in 0..ACCOUNTS.len() + 2 {
            let index = u32::try_from(index).expect("few");
            let Some(account) = self.broker.account(index) else {
                continue;
            };
            let services = self
                .broker
                .plan(index)
                .map_or(0, |plan| plan.services.len());
            let left = account.trie.read().expect("nobody panicked").len() - services;
            assert!(left <= usize::from(WORKERS), "{left} in account {index}");
            assert!(account.denials.is_empty());
        }
    }
}

impl Sink for Outlets {
    fn reply(&mut self, conn: u32, bytes: &[u8]) {
        self.sent
            .entry((self.worker, conn))
            .or_default()
            .extend_from_slice(bytes);
    }
    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery {
        let out = self.sent.entry((self.worker, conn)).or_default();
        let rest = message.head(sid, headers, out);
        out.extend_from_slice(rest);
        Delivery::Taken
    }
    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery {
        let mut batch = Batch::default();
        let origin = Origin {
            worker: self.worker,
            conn: self.from,
            serial: 0,
        };
        batch.push(origin, letter);
        self.mail.push_back((worker, batch));
        Delivery::Taken
    }
    fn give_back(&mut self, _: &Letter<'_>) {}
    fn on_frame(&mut self, _: &Client, _: &Frame<'_>) {}
    fn on_refusal(&mut self, _: &Client, _: &Violation<'_>) {}
    fn on_parse_error(&mut self, _: &dyn fmt::Display, _: &ParseError) {}
}

// ---- one against the other ----

struct Round {
    rules: Rules,
    real: Real,
    rng: Rng,
    checks: u64,
    seed: u64,
}

impl Round {
    /// Somebody subscribes, unsubscribes, or everything is planned anew.
    fn change(&mut self, id: usize) {
        let rng = &mut self.rng;
        if rng.below(3) == 0 && !self.rules.subs.is_empty() {
            let sub = self
                .rules
                .subs
                .swap_remove(rng.below(self.rules.subs.len()));
            return self.real.feed(sub.conn, &format!("UNSUB {}\r\n", sub.sid));
        }
        if rng.below(8) == 0 {
            for (worker, peer) in &mut self.real.peers {
                self.real.engines[usize::from(*worker)].replan(peer);
            }
        }
        for sid in 0..4 {
            let rng = &mut self.rng;
            let sub = Sub {
                conn: rng.below(self.rules.conns.len()),
                sid: id * 10 + sid,
                subject: pattern(rng),
                queue: (rng.below(3) == 0).then(|| pick(rng, &["q", "r"]).into()),
            };
            let queue = sub.queue.as_deref().unwrap_or_default();
            self.real.feed(
                sub.conn,
                &format!("SUB {} {queue} {}\r\n", sub.subject, sub.sid),
            );
            if self.real.outlets.sent.is_empty() {
                self.rules.subs.push(sub);
            } else {
                // The deny of the connection covers it.
                self.real.outlets.sent.clear();
            }
        }
    }

    fn publish(&mut self, id: usize) {
        let from = self.rng.below(self.rules.conns.len());
        let account = self.rules.conns[from].0;
        let subject = literal(&mut self.rng);
        let inbox = format!("inbox.{id}");
        // The one way to hear of it, and of answers.
        let asks = self.rng.below(2) == 0 && !self.rules.is_denied(from, &inbox);
        if asks {
            self.real.feed(from, &format!("SUB {inbox} {INBOX}\r\n"));
        }
        let asks = asks && self.real.outlets.sent.is_empty();
        self.real.outlets.sent.clear();
        let reply = if asks { inbox.as_str() } else { "" };
        self.real
            .feed(from, &format!("PUB {subject} {reply} 2\r\nhi\r\n"));
        let (got, told) = self.real.take();
        let (mut plain, mut groups) = (Vec::new(), Vec::new());
        let mapped = self.rules.mapped(account, &subject);
        self.rules
            .copies(account, &mapped, None, &mut plain, &mut groups);
        let echoes = self.real.echoes(from);
        let can = |copy: &Copy| {
            let is_own = copy.sub.conn == from && !echoes;
            !is_own && !self.rules.is_denied(copy.sub.conn, &copy.subject)
        };
        self.checks += plain.len() as u64 + self.rules.subs.len() as u64;
        let mut left: Vec<&Got> = got.iter().collect();
        let mut reached = false;
        let is_it = |copy: &Copy, got: &Got| {
            let same =
                got.conn == copy.sub.conn && got.sid == copy.sub.sid && got.subject == copy.subject;
            let way_back = got.reply.starts_with("_R_.");
            same && got.body == "hi"
                && if copy.crossed.is_some() && asks {
                    way_back
                } else {
                    got.reply == reply
                }
        };
        let why = format!("seed {}: message {id} for {subject} from {from}", self.seed);
        let mut requests = Vec::new();
        for copy in plain.iter().filter(|copy| can(copy)) {
            let at = left.iter().position(|got| is_it(copy, got));
            let at = at.unwrap_or_else(|| panic!("{why}: missing {copy:?}, got {got:#?}"));
            requests.push((left.swap_remove(at), copy.crossed.filter(|_| copy.native)));
            reached = true;
        }
        for group in &groups {
            let able: Vec<&Copy> = group.iter().filter(|copy| can(copy)).collect();
            if able.is_empty() {
                continue;
            }
            let found = left.iter().enumerate().find_map(|(at, got)| {
                let copy = able.iter().find(|copy| is_it(copy, got))?;
                Some((at, copy.crossed.filter(|_| copy.native)))
            });
            let (at, way) =
                found.unwrap_or_else(|| panic!("{why}: none of {able:?}, got {got:#?}"));
            requests.push((left.swap_remove(at), way));
            reached = true;
        }
        assert!(
            left.is_empty(),
            "{why}: too much: {left:#?}\n{:#?}",
            self.rules
        );
        let expected: &[usize] = if asks && !reached { &[from] } else { &[] };
        assert_eq!(
            told, expected,
            "{why}: told that nobody is there\n{:#?}",
            self.rules
        );
        requests.retain(|(it, _)| it.reply.starts_with("_R_."));
        self.answer(&requests, from, reply, &why);
        if asks {
            self.real.feed(from, &format!("UNSUB {INBOX}\r\n"));
        }
    }

    /// Whoever got a request by way of an import answers, twice. An answer counts if it comes from the service's own
    /// account, and it is the first to what left the requester's by one import.
    fn answer(&mut self, requests: &[(&Got, Option<usize>)], from: usize, reply: &str, why: &str) {
        let ways: BTreeSet<usize> = requests.iter().filter_map(|(_, way)| *way).collect();
        let who = |request: &Got| (request.conn, request.sid, request.subject.clone());
        let distinct: BTreeSet<_> = requests.iter().map(|(request, _)| who(request)).collect();
        let mut answers = Vec::new();
        for (request, _) in requests {
            let wire = format!("PUB {} 3\r\nyes\r\n", request.reply);
            self.real.feed(request.conn, &wire.repeat(2));
            let (got, told) = self.real.take();
            assert!(told.is_empty(), "{why}: {told:?}");
            let is_own = |it: &Got| it.conn == from && it.sid == INBOX;
            answers.extend(got.into_iter().filter(is_own));
        }
        for answer in &answers {
            let shown = (answer.subject.as_str(), answer.body.as_str());
            assert_eq!(shown, (reply, "yes"), "{why}");
        }
        // Two requests that look the same, by two imports, cannot be told apart.
        if distinct.len() == requests.len() {
            self.checks += requests.len() as u64;
            assert_eq!(answers.len(), ways.len(), "{why}: answers to {requests:#?}");
        }
    }
}

// ---- chance ----

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len())]
}

fn literal(rng: &mut Rng) -> String {
    let tokens: Vec<_> = (0..=rng.below(3)).map(|_| pick(rng, &["a", "b"])).collect();
    tokens.join(".")
}

fn pattern(rng: &mut Rng) -> String {
    let mut tokens: Vec<_> = (0..=rng.below(3))
        .map(|_| pick(rng, &["a", "b", "*", "*"]))
        .collect();
    if rng.below(4) == 0 {
        tokens.push(">");
    }
    tokens.join(".")
}
