//! One node: its process, its clients, and what these are subscribed to.

use std::collections::{BTreeMap, BTreeSet};

use midge::rng::Rng;
use rustix::process::Signal;
use serde_json::Value;

use super::client::{Client, Publisher};
use super::network::Network;
use crate::support::Program;
use crate::support::cluster::{route_port, routez};
use crate::support::server::{Server, Start};

/// The account of all clients but the restless ones.
pub(crate) const STEADY: &str = "A";
/// Theirs.
pub(crate) const RESTLESS: &str = "B";
/// The sid of the subscription that gets everything of all publishers.
pub(crate) const ALL: u32 = 1;
/// The sid of the one that gets a third of what one of them publishes.
pub(crate) const ONE: u32 = 2;
/// Subjects of the restless client.
const SUBJECTS: [&str; 8] = [
    "rest.0", "rest.1", "rest.2", "rest.3", "rest.*", "rest.>", "rest.4.x", "rest.*.x",
];
/// Its groups.
pub(crate) const GROUPS: [&str; 2] = ["g", "h"];
/// How many subscriptions it has at the most.
const RESTLESS_MAX: usize = 40;

/// A subscription: the subject, and the group.
pub(crate) type Wish = (String, Option<String>);
/// What others know of: the account, and the subscription.
pub(crate) type Known = (String, Wish);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    program: Program,
    args: Vec<String>,
    /// While it lives.
    pub(crate) life: Option<Life>,
    /// Whether it is stopped.
    pub(crate) is_stopped: bool,
    /// How many lives it has had.
    lives: u32,
    /// What its restless client wants, by sid.
    pub(crate) wishes: BTreeMap<u32, Wish>,
    last_sid: u32,
    /// What the logs of its former lives said.
    pub(crate) past: String,
}

/// A node's process and its clients.
#[derive(Debug)]
pub(crate) struct Life {
    // Clients first, so that they end first.
    pub(crate) plain: Client,
    pub(crate) worker: Client,
    pub(crate) restless: Client,
    pub(crate) publisher: Publisher,
    pub(crate) server: Server,
    /// The sids of its worker's subscriptions.
    pub(crate) jobs: BTreeSet<u32>,
}

impl Node {
    pub(crate) fn new(at: usize, program: Program, args: Vec<String>) -> Node {
        Node {
            at,
            program,
            args,
            life: None,
            is_stopped: false,
            lives: 0,
            wishes: BTreeMap::new(),
            last_sid: 0,
            past: String::new(),
        }
    }

    pub(crate) fn name(at: usize) -> String {
        format!("n{at}")
    }

    /// Starts it, and its clients, which subscribe to what they were subscribed to before.
    pub(crate) fn start(&mut self, conf: &str, network: &Network) {
        let program = self.program.path().expect("it was there before");
        let start = Start::new(&program).conf(conf).arg("-D");
        let start = self.args.iter().fold(start, Start::arg);
        let server = start.run().expect("a server that starts");
        let info = server.connect().expect_info();
        let id = info["server_id"].as_str().expect("an id");
        network.register(self.at, id, ([127, 0, 0, 1], route_port(&server)).into());
        self.lives += 1;
        let address = server.address();
        let mut life = Life {
            plain: Client::open(address, STEADY),
            worker: Client::open(address, STEADY),
            restless: Client::open(address, RESTLESS),
            publisher: Publisher::start(self.at, self.lives, address),
            server,
            jobs: BTreeSet::from([1]),
        };
        let one = one_subject(self.at);
        life.plain
            .send(&format!("SUB plain.> {ALL}\r\nSUB {one} {ONE}\r\n"));
        life.worker.send("SUB work.* crew 1\r\n");
        for (sid, wish) in &self.wishes {
            life.restless.send(&subscribe(*sid, wish));
        }
        self.life = Some(life);
        // Whoever is stopped before they are in has no time left for them when it goes on.
        self.settle();
    }

    /// Kills it.
    pub(crate) fn kill(&mut self, network: &Network) {
        network.unregister(self.at);
        self.is_stopped = false;
        if let Some(life) = self.life.take() {
            self.past += &life.server.log();
            self.past += "--- killed\n";
        }
    }

    /// Stops it, or lets it go on.
    pub(crate) fn stop(&mut self, stops: bool) {
        if let Some(life) = &mut self.life {
            let signal = if stops { Signal::STOP } else { Signal::CONT };
            life.server.process().signal(signal);
            self.is_stopped = stops;
        }
    }

    /// Subscribes to something, or ends a subscription.
    pub(crate) fn be_restless(&mut self, rng: &mut Rng) {
        let Some(life) = &mut self.life else {
            return;
        };
        if rng.below(8) == 0 {
            // Somebody always does the work, so that what is sent to who has just left can be handed on.
            let sid = if self.at == 0 {
                2
            } else {
                [1, 2][rng.below(2)]
            };
            if life.jobs.remove(&sid) {
                life.worker.send(&format!("UNSUB {sid}\r\n"));
            } else {
                life.jobs.insert(sid);
                life.worker.send(&format!("SUB work.* crew {sid}\r\n"));
            }
            return;
        }
        if self.wishes.is_empty() || rng.below(RESTLESS_MAX) >= self.wishes.len() {
            let subject = SUBJECTS[rng.below(SUBJECTS.len())];
            let group = GROUPS.get(rng.below(GROUPS.len() + 1));
            let wish = (subject.to_owned(), group.map(|&it| it.to_owned()));
            self.last_sid += 1;
            life.restless.send(&subscribe(self.last_sid, &wish));
            self.wishes.insert(self.last_sid, wish);
        } else {
            let which = rng.below(self.wishes.len());
            let sid = *self.wishes.keys().nth(which).expect("it is one of them");
            self.wishes.remove(&sid);
            life.restless.send(&format!("UNSUB {sid}\r\n"));
        }
    }

    /// Waits until everything that its clients subscribed to is in force.
    pub(crate) fn settle(&mut self) {
        let life = self.life();
        life.plain.settle();
        life.worker.settle();
        life.restless.settle();
    }

    /// Its process and clients.
    ///
    /// # Panics
    ///
    /// If it does not live.
    pub(crate) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("it lives")
    }

    /// What the others must know of it.
    pub(crate) fn interest(&self) -> BTreeSet<Known> {
        let mut fixed = vec![("plain.>".to_owned(), None), (one_subject(self.at), None)];
        if self.life.as_ref().is_some_and(|life| !life.jobs.is_empty()) {
            fixed.push(("work.*".to_owned(), Some("crew".to_owned())));
        }
        let fixed = fixed.into_iter().map(|wish| (STEADY.to_owned(), wish));
        let wishes = self.wishes.values().cloned();
        let wishes = wishes.map(|wish| (RESTLESS.to_owned(), wish));
        fixed.chain(wishes).collect()
    }

    /// What it knows of the others, by name, each entry as often as it has it; of the system account nothing.
    pub(crate) fn knowledge(&self) -> BTreeMap<String, Vec<Known>> {
        let mut known: BTreeMap<String, Vec<Known>> = BTreeMap::new();
        for route in self.routes("?subs=detail") {
            let name = route["remote_name"].as_str().unwrap_or_default();
            let entry = known.entry(name.into()).or_default();
            let list = route["subscriptions_list_detail"].as_array();
            for sub in list.into_iter().flatten() {
                // The account is the route's own, or stands in front, behind the kind where the peer tells kinds apart.
                let sid = sub["sid"].as_str().unwrap_or_default();
                let mut words = sid.strip_prefix("R ").unwrap_or(sid).split(' ');
                let account = route["account"].as_str().or_else(|| words.next());
                let account = account.unwrap_or_default();
                let text = |key: &str| sub[key].as_str().map(str::to_owned);
                let wish = (text("subject").unwrap_or_default(), text("qgroup"));
                if account != "$SYS" {
                    entry.push((account.to_owned(), wish));
                }
            }
        }
        known.values_mut().for_each(|list| list.sort_unstable());
        known
    }

    /// Where it tells clients to connect.
    pub(crate) fn client_urls(&self) -> BTreeSet<String> {
        let Some(life) = &self.life else {
            return BTreeSet::new();
        };
        let info = life.server.connect().expect_info();
        let urls = info["connect_urls"].as_array().cloned().unwrap_or_default();
        urls.iter()
            .filter_map(|it| it.as_str())
            .map(Into::into)
            .collect()
    }

    /// The numbers of its routes, by the name of who is at their other end.
    pub(crate) fn route_ids(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut ids: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for route in self.routes("") {
            let name = route["remote_name"].as_str().unwrap_or_default();
            let id = route["rid"].as_u64().unwrap_or_default();
            ids.entry(name.into()).or_default().insert(id);
        }
        ids
    }

    pub(crate) fn routes(&self, query: &str) -> Vec<Value> {
        let Some(life) = &self.life else {
            return Vec::new();
        };
        let page = routez(&life.server, query);
        page["routes"].as_array().cloned().unwrap_or_default()
    }
}

/// What the subscription [`ONE`] of a node is to.
pub(crate) fn one_subject(at: usize) -> String {
    format!("plain.{}.{}", (at + 1) % 3, at % 3)
}

fn subscribe(sid: u32, (subject, group): &Wish) -> String {
    let group = group
        .as_ref()
        .map_or_else(String::new, |it| format!("{it} "));
    format!("SUB {subject} {group}{sid}\r\n")
}
