//! Clusters whose nodes are killed and stopped, and whose links are cut and held, under traffic.
//!
//! Three nodes are processes; what goes between two of them goes through a [`network`] of this test. On each node there
//! are a publisher that numbers its messages and never rests, a plain subscriber, a member of a queue group that works
//! for all of them, and a client that subscribes and unsubscribes at random. A run goes through rounds:
//!
//! ```text
//! trouble: kill, stop, cut, hold … ▶ repair ▶ everyone knows what everyone wants ▶ a batch arrives whole ▶ again
//! ```
//!
//! What must hold at any time: no subscription gets a message twice, or those of one publisher's connection in another
//! order; and no message for a queue group is delivered twice. What must hold after each repair, within the deadline:
//! each server has its whole pool of routes to each other one, tells clients of all servers, and knows of exactly the
//! subjects and groups that the clients there are subscribed to. From then on, as long as no route ends, nothing may be missing, and each member of
//! a queue group gets its share, wherever it is. A message published at any other time may be lost: nothing is sent again.
//!
//! A run is a seed, which is printed when it fails. The seed makes the decisions; when the servers notice what was done
//! to them is up to the machine. Some minutes of new seeds, and one of them again:
//!
//! ```sh
//! MIDGE_CHAOS_SECONDS=300 MIDGE_SEED=$RANDOM cargo test --test chaos rounds
//! ```

mod support;

#[path = "chaos/client.rs"]
mod client;
#[path = "chaos/network.rs"]
mod network;
#[path = "chaos/node.rs"]
mod node;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use midge::rng::Rng;

use client::{Client, Delivery, Stamp, message};
use network::{Link, Network};
use node::{ALL, GROUPS, Known, Node, ONE, RESTLESS, STEADY, one_subject};
use support::cluster::{self, expect_interest, route_port, routez};
use support::connection::Connection;
use support::http::get;
use support::server::Server;
use support::{DEADLINE, Program, wait_for};

const M: Program = Program::Midge;
const R: Program = Program::Reference;

/// How long the rounds of a usual run go on.
const SECONDS: u64 = 5;
/// The seed of a usual run.
const SEED: u64 = 1;
/// The links between three nodes.
const LINKS: [Link; 3] = [(0, 1), (0, 2), (1, 2)];
/// What the nodes want of the pools of connections between them, and none that wants one connection for everything.
const POOLS: [[Option<usize>; 3]; 4] = [
    [Some(3), Some(3), Some(3)],
    [Some(5), Some(3), Some(1)],
    [None, Some(3), Some(3)],
    [Some(1), Some(1), None],
];
/// The most connections between two of them: those of the largest pool, and those of two accounts.
const CONNECTIONS_MAX: usize = 7;
/// How they compress.
const COMPRESSIONS: [[&str; 3]; 4] = [
    ["accept", "accept", "accept"],
    ["s2_fast", "accept", "s2_auto"],
    ["off", "s2_best", "s2_best"],
    ["s2_better", "s2_fast", "not supported"],
];
/// Numbered messages of each publisher that must arrive whole.
const BATCH: u64 = 60;
/// Messages by which the shares of a queue group are measured.
const SHARED: u64 = 300;
/// How often a batch may be disturbed by a route that ended, as happens on a machine that has no time for a PING.
const DISTURBED_MAX: usize = 5;
/// Time between two changes of what the restless clients want.
const TICK: Duration = Duration::from_millis(10);

/// How the nodes find each other.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// The configuration of each names all, itself too.
    All,
    /// The others know the first one alone.
    Seed,
}

/// Three nodes and what is done to them.
struct World {
    seed: u64,
    rng: Rng,
    // Before the network: the nodes end first.
    nodes: Vec<Node>,
    layout: Layout,
    pools: [Option<usize>; 3],
    compressions: [&'static str; 3],
    /// Whether the restless clients' account has connections of its own.
    is_pinned: bool,
    network: Network,
    steps: Vec<String>,
    /// How often each message for the queue group was delivered.
    worked: HashMap<Stamp, u32>,
    /// What each node's plain subscriber got in this round.
    plain: Vec<Vec<Delivery>>,
    start: Instant,
}

impl World {
    /// Three nodes; `None` where one of them cannot be had.
    fn new(seed: u64, programs: [Program; 3], layout: Layout) -> Option<World> {
        programs.iter().try_for_each(|it| it.path().map(drop))?;
        let mut rng = Rng::seeded(seed);
        let pools = POOLS[rng.below(POOLS.len())];
        let compressions = COMPRESSIONS[rng.below(COMPRESSIONS.len())];
        let is_pinned = rng.below(2) == 0;
        let workers = 1 + rng.below(4);
        let network = Network::new(3);
        let nodes = (0..3).map(|at| {
            let args = match programs[at] {
                M => vec!["--workers".to_owned(), workers.to_string()],
                R => Vec::new(),
            };
            Node::new(at, programs[at], args)
        });
        let mut world = World {
            seed,
            rng,
            nodes: nodes.collect(),
            layout,
            pools,
            compressions,
            is_pinned,
            network,
            steps: Vec::new(),
            worked: HashMap::new(),
            plain: vec![Vec::new(); 3],
            start: Instant::now(),
        };
        world.note(format!("{programs:?} {layout:?} {workers} workers"));
        world.note(format!("{pools:?} {compressions:?} pinned: {is_pinned}"));
        (0..3).for_each(|at| world.start(at));
        Some(world)
    }

    /// What a node is configured to.
    fn conf(&self, at: usize) -> String {
        let url = |node| format!("\"nats-route://{}\"", self.network.gate(node));
        let routes = match (self.layout, at) {
            (Layout::All, _) => format!("{}, {}, {}", url(0), url(1), url(2)),
            (Layout::Seed, 0) => String::new(),
            (Layout::Seed, _) => url(0),
        };
        // Only who is not named by the configuration needs more than one attempt.
        let retries = match self.layout {
            Layout::All => 0,
            Layout::Seed => 1_000_000,
        };
        let pool = self.pools[at].map_or_else(|| "-1".to_owned(), |it| it.to_string());
        let pins = match (self.is_pinned, self.pools[at]) {
            (true, Some(_)) => format!("accounts: [{RESTLESS}],"),
            _ => String::new(),
        };
        let (name, gate, compression) =
            (Node::name(at), self.network.gate(at), self.compressions[at]);
        let user = |name| format!("{name}: {{ users: [{{ user: {name}, password: {name} }}] }}");
        let (steady, restless) = (user(STEADY), user(RESTLESS));
        format!(
            "server_name: {name}\nhttp: \"127.0.0.1:-1\"\naccounts {{\n{steady}\n{restless}\n}}\n\
             cluster {{ name: C1, listen: \"127.0.0.1:-1\", advertise: \"{gate}\", routes: [{routes}]\n\
             connect_retries: {retries}, ping_interval: \"1s\", ping_max: 2, write_deadline: \"1s\"\n\
             {pins} pool_size: {pool}, compression: \"{compression}\" }}\n"
        )
    }

    fn start(&mut self, at: usize) {
        let conf = self.conf(at);
        self.nodes[at].start(&conf, &self.network);
    }

    /// Has a node want another pool, or compress in another way.
    fn reload(&mut self, at: usize) {
        match (self.rng.below(2), self.pools[at]) {
            (0, Some(_)) => self.pools[at] = Some(1 + self.rng.below(5)),
            _ => self.compressions[at] = COMPRESSIONS[self.rng.below(COMPRESSIONS.len())][at],
        }
        self.note(format!(
            "reload {at}: {:?} {}",
            self.pools[at], self.compressions[at]
        ));
        let conf = self.conf(at);
        if let Some(life) = self.nodes[at].life.as_mut() {
            if let Err(why) = life.server.reload(&conf) {
                panic!("{why}");
            }
        }
    }

    fn note(&mut self, step: String) {
        let at = self.start.elapsed().as_secs_f64();
        self.steps.push(format!("{at:7.3} {step}"));
    }

    /// Lets time pass, in which the restless clients go on.
    fn pass(&mut self, span: Duration) {
        let until = Instant::now() + span;
        let ticks = span.as_millis() / TICK.as_millis();
        for _ in 0..ticks {
            let at = self.rng.below(3);
            self.nodes[at].be_restless(&mut self.rng);
            let left = until.saturating_duration_since(Instant::now());
            thread::park_timeout(left.min(TICK));
        }
        self.look();
    }

    /// One more trouble.
    fn trouble(&mut self) {
        let at = self.rng.below(3);
        let link = LINKS[self.rng.below(3)];
        let resets = self.rng.below(2) == 0;
        match self.rng.below(12) {
            0 | 1 => {
                self.note(format!("kill {at}"));
                self.take_from(at);
                self.nodes[at].kill(&self.network);
            }
            2 => {
                self.note(format!("kill {at} and start it again"));
                self.take_from(at);
                self.nodes[at].kill(&self.network);
                self.start(at);
            }
            3 | 4 => {
                self.note(format!("stop {at}"));
                self.nodes[at].stop(true);
            }
            5 | 6 => {
                self.note(format!("cut {link:?}, reset: {resets}"));
                self.network.cut(link, resets);
            }
            7 => {
                let which = self.rng.below(CONNECTIONS_MAX);
                self.note(format!("cut one of {link:?}: {which}, reset: {resets}"));
                self.network.cut_one(link, which, resets);
            }
            8 => {
                let which = self.rng.below(CONNECTIONS_MAX);
                self.note(format!(
                    "cut one of {link:?}: {which}, and let none through"
                ));
                self.network.cut_one(link, which, resets);
                self.network.refuse(link);
            }
            9 => {
                self.note(format!("hold {link:?}"));
                self.network.hold(link.0, link.1);
                self.network.hold(link.1, link.0);
            }
            10 if self.nodes[at].life.is_some() && !self.nodes[at].is_stopped => self.reload(at),
            _ => {
                self.note(format!("hold {link:?} in one direction"));
                self.network.hold(link.0, link.1);
            }
        }
    }

    /// Undoes all trouble.
    fn repair(&mut self) {
        self.note("repair".into());
        self.network.heal();
        for at in 0..3 {
            if self.nodes[at].is_stopped {
                self.nodes[at].stop(false);
            }
            if self.nodes[at].life.is_none() {
                self.start(at);
            }
        }
    }

    /// Takes what was delivered at one node.
    fn take_from(&mut self, at: usize) {
        let Some(life) = &mut self.nodes[at].life else {
            return;
        };
        self.plain[at].extend(life.plain.take());
        for delivery in life.worker.take_any() {
            let count = self.worked.entry(delivery.stamp).or_default();
            *count += 1;
            assert!(
                *count == 1,
                "work was done twice: {delivery:?} at node {at}"
            );
        }
    }

    /// Takes what was delivered anywhere.
    fn look(&mut self) {
        (0..3).for_each(|at| self.take_from(at));
    }

    /// How many connections there should be between two nodes.
    fn connections(&self, one: usize, other: usize) -> usize {
        match (self.pools[one], self.pools[other]) {
            // And those of the system account and of the pinned one.
            (Some(one), Some(other)) => one.max(other) + 1 + usize::from(self.is_pinned),
            _ => 1,
        }
    }

    /// Waits until each server has all its routes and knows what is wanted at the others.
    fn expect_agreement(&mut self) {
        for node in &mut self.nodes {
            node.settle();
        }
        let wanted: Vec<Vec<Known>> = self
            .nodes
            .iter()
            .map(|it| it.interest().into_iter().collect())
            .collect();
        let lives = self.nodes.iter_mut().map(Node::life);
        let urls: BTreeSet<String> = lives.map(|it| it.server.address().to_string()).collect();
        for at in 0..3 {
            let node = &self.nodes[at];
            let others = (0..3).filter(|&other| other != at);
            let others: BTreeMap<String, Vec<Known>> = others
                .map(|it| (Node::name(it), wanted[it].clone()))
                .collect();
            let found = wait_for(|| {
                let routes = node.route_ids();
                let is_whole = (0..3).filter(|&other| other != at).all(|other| {
                    let found = routes.get(&Node::name(other)).map_or(0, BTreeSet::len);
                    found == self.connections(at, other)
                });
                let tells = node.client_urls() == urls;
                (is_whole && tells && node.knowledge() == others).then_some(())
            });
            if found.is_none() {
                let (routes, known, told) =
                    (node.route_ids(), node.knowledge(), node.client_urls());
                panic!(
                    "node {at} has routes {routes:?}, tells clients of {told:?}, not {urls:?}, \
                     and knows {known:?}, not {others:?}"
                );
            }
        }
        self.note("agreement".into());
    }

    fn route_ids(&self) -> Vec<BTreeMap<String, BTreeSet<u64>>> {
        self.nodes.iter().map(Node::route_ids).collect()
    }

    /// Has each publisher send a batch, and checks that all of it arrives; false if a route has ended meanwhile.
    fn is_batch_whole(&mut self) -> bool {
        let routes = self.route_ids();
        self.look();
        self.plain.iter_mut().for_each(Vec::clear);
        let batches: Vec<Vec<Stamp>> = self
            .nodes
            .iter_mut()
            .map(|node| {
                let publisher = &node.life().publisher;
                let numbers = publisher.batch(BATCH);
                let stamp = |number| Stamp {
                    publisher: publisher.id,
                    connection: publisher.connection,
                    number,
                };
                numbers.map(stamp).collect()
            })
            .collect();
        let mut missing = None;
        let found = wait_for(|| {
            self.look();
            missing = self.missing(&batches);
            missing.is_none().then_some(())
        });
        if found.is_some() {
            return true;
        }
        assert!(
            routes != self.route_ids(),
            "{}",
            missing.unwrap_or_default()
        );
        false
    }

    /// The first thing that is missing of what was published.
    fn missing(&self, batches: &[Vec<Stamp>]) -> Option<String> {
        for (at, deliveries) in self.plain.iter().enumerate() {
            let got: BTreeSet<(u32, Stamp)> =
                deliveries.iter().map(|it| (it.sid, it.stamp)).collect();
            let one = one_subject(at);
            for stamp in batches.iter().flatten() {
                let subject = format!("plain.{}.{}", stamp.publisher, stamp.number % 3);
                let is_missing = |sid| !got.contains(&(sid, *stamp));
                if is_missing(ALL) || (subject == one && is_missing(ONE)) {
                    return Some(format!("node {at} did not get {stamp:?}"));
                }
            }
        }
        let mut all = batches.iter().flatten();
        let lost = all.find(|stamp| !self.worked.contains_key(stamp))?;
        Some(format!("nobody did the work {lost:?}"))
    }

    /// Publishes to a subject of the restless clients: each plain subscription gets everything, and each group shares it
    /// out among its members evenly.
    fn are_shares_even(&mut self) -> bool {
        let routes = self.route_ids();
        let (from, subject) = (self.rng.below(3), format!("rest.{}", self.rng.below(4)));
        self.note(format!("shares of {subject} from {from}"));
        for node in &mut self.nodes {
            node.life().restless.take_any();
        }
        let mut publisher = Client::open(self.nodes[from].life().server.address(), RESTLESS);
        let stamp = |number| Stamp {
            publisher: 9,
            connection: 0,
            number,
        };
        let text: String = (0..SHARED)
            .map(|it| message(&subject, stamp(it), 0))
            .collect();
        publisher.send(&text);
        publisher.settle();
        let members = self.members(&subject);
        let mut got: BTreeMap<(usize, u32), u64> = BTreeMap::new();
        let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
        let found = wait_for(|| {
            for node in &mut self.nodes {
                for delivery in node.life().restless.take_any() {
                    *got.entry((node.at, delivery.sid)).or_default() += 1;
                }
            }
            groups.clear();
            let mut is_whole = true;
            for (key, group) in &members {
                let count = got.get(key).copied().unwrap_or(0);
                match group {
                    None => is_whole &= count >= SHARED,
                    Some(group) => *groups.entry(group).or_default() += count,
                }
            }
            (is_whole && groups.values().all(|&count| count >= SHARED)).then_some(())
        });
        let counts = format!("{subject} from {from}: {members:?} got {got:?}");
        if found.is_none() {
            assert!(routes != self.route_ids(), "{counts}");
            return false;
        }
        let is_exact = |(key, group): (&(usize, u32), &Option<String>)| {
            group.is_some() || got.get(key) == Some(&SHARED)
        };
        assert!(
            members.iter().all(is_exact) && groups.values().all(|&count| count == SHARED),
            "{counts}"
        );
        for group in GROUPS {
            let of_group: Vec<&(usize, u32)> = members
                .iter()
                .filter(|(_, it)| it.as_deref() == Some(group))
                .map(|(key, _)| key)
                .collect();
            for at in 0..3 {
                let here = of_group.iter().filter(|(node, _)| *node == at);
                let (mut count, mut weight) = (0, 0);
                here.for_each(|key| {
                    count += got.get(key).copied().unwrap_or(0);
                    weight += 1;
                });
                let share = f64::from(weight) / of_group.len().max(1) as f64;
                let (all, expected) = (SHARED as f64, SHARED as f64 * share);
                let deviation = (all * share * (1.0 - share)).sqrt();
                let off = (count as f64 - expected).abs();
                assert!(
                    off <= 6.0 * deviation + 0.5,
                    "node {at} got {count}, not {expected}: {counts}"
                );
            }
        }
        true
    }

    /// The subscriptions of the restless clients to a subject, by node and sid, with their groups.
    fn members(&self, subject: &str) -> BTreeMap<(usize, u32), Option<String>> {
        let mut members = BTreeMap::new();
        for node in &self.nodes {
            for (&sid, (filter, group)) in &node.wishes {
                if midge::subject::matches(filter.as_bytes(), subject.as_bytes()) {
                    members.insert((node.at, sid), group.clone());
                }
            }
        }
        members
    }

    /// What must hold when all is repaired.
    fn expect_peace(&mut self) {
        for _ in 0..DISTURBED_MAX {
            self.expect_agreement();
            if !self.is_batch_whole() || !self.are_shares_even() {
                self.note("disturbed".into());
                continue;
            }
            // News that routes carry while all is well.
            for _ in 0..20 {
                let at = self.rng.below(3);
                self.nodes[at].be_restless(&mut self.rng);
            }
            return self.expect_agreement();
        }
        panic!("routes do not stay");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let mut text = format!(
            "MIDGE_SEED={} failed:\n  {}\n",
            self.seed,
            self.steps.join("\n  ")
        );
        for node in &self.nodes {
            let now = node.life.as_ref().map(|life| life.server.log());
            let path = std::env::temp_dir().join(format!(
                "midge-chaos-{}-n{}.log",
                std::process::id(),
                node.at
            ));
            let log = node.past.clone() + &now.unwrap_or_default();
            if std::fs::write(&path, log).is_ok() {
                text += &format!("log of node {}: {}\n", node.at, path.display());
            }
        }
        // Nothing can be done if even this fails.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

/// Goes through rounds until the time is up.
fn play(programs: [Program; 3], layout: Layout) {
    let seed = variable("MIDGE_SEED").unwrap_or(SEED);
    let span = Duration::from_secs(variable("MIDGE_CHAOS_SECONDS").unwrap_or(SECONDS));
    let Some(mut world) = World::new(seed, programs, layout) else {
        return;
    };
    world.expect_peace();
    while world.start.elapsed() < span {
        for _ in 0..=world.rng.below(4) {
            world.trouble();
            let most = [50, 300, 1500, 4000][world.rng.below(4)];
            let span = world.rng.below(most);
            world.pass(Duration::from_millis(span as u64));
        }
        world.repair();
        world.expect_peace();
    }
}

#[test]
fn rounds_of_three_that_know_each_other() {
    play([M, M, M], Layout::All);
}

#[test]
fn rounds_of_three_that_know_one() {
    play([M, M, M], Layout::Seed);
}

#[test]
fn rounds_with_the_reference_server() {
    play([M, M, R], Layout::All);
}

#[test]
fn rounds_with_the_reference_server_as_the_one_that_is_known() {
    play([R, M, M], Layout::Seed);
}

/// Mixes of the node that something is done to, the one that watches it, and a third one.
const MIXES: [[Program; 3]; 3] = [[M, M, M], [R, M, M], [M, R, M]];

/// Waits until a node has no route to another one any more, and with the routes no interest.
fn expect_given_up(node: &Node, other: usize) {
    let name = Node::name(other);
    let given_up = wait_for(|| (!node.knowledge().contains_key(&name)).then_some(()));
    assert!(given_up.is_some(), "node {} keeps {name}", node.at);
}

#[test]
fn a_node_that_stands_still_is_given_up_and_found_again() {
    for mix in MIXES {
        let Some(mut world) = World::new(SEED, mix, Layout::All) else {
            continue;
        };
        world.expect_peace();
        world.nodes[0].stop(true);
        for watching in [1, 2] {
            expect_given_up(&world.nodes[watching], 0);
        }
        // What it does not hear of until it goes on.
        world.pass(20 * TICK);
        world.repair();
        world.expect_peace();
    }
}

#[test]
fn a_partition_heals_with_what_has_changed_meanwhile() {
    for (mix, layout) in MIXES
        .into_iter()
        .zip([Layout::Seed, Layout::All, Layout::All])
    {
        let Some(mut world) = World::new(SEED + 1, mix, layout) else {
            continue;
        };
        world.expect_peace();
        // Nothing tells the first one and the others that they do not hear each other.
        for link in [(0, 1), (0, 2)] {
            world.network.hold(link.0, link.1);
            world.network.hold(link.1, link.0);
        }
        for (here, there) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
            expect_given_up(&world.nodes[here], there);
        }
        assert_eq!(
            world.nodes[1].knowledge().keys().collect::<Vec<_>>(),
            ["n2"]
        );
        world.pass(20 * TICK);
        world.repair();
        world.expect_peace();
    }
}

#[test]
fn a_killed_node_is_forgotten_and_its_successor_known() {
    for mix in MIXES {
        for layout in [Layout::All, Layout::Seed] {
            let Some(mut world) = World::new(SEED + 2, mix, layout) else {
                continue;
            };
            world.expect_peace();
            world.take_from(0);
            world.nodes[0].kill(&world.network);
            expect_given_up(&world.nodes[1], 0);
            expect_given_up(&world.nodes[2], 0);
            world.repair();
            world.expect_peace();
        }
    }
}

/// A connection to the port for routes, by which a server introduces itself that is none.
fn introduce(server: &Server) -> Connection {
    let mut peer =
        Connection::open(([127, 0, 0, 1], route_port(server)).into()).expect("it listens");
    peer.expect_info();
    peer.send(b"CONNECT {\"cluster\":\"C1\"}\r\nINFO {\"server_id\":\"X1\",\"port\":1,\"headers\":true}\r\n");
    peer.send(b"RS+ $G left\r\nRS+ $G left q 3\r\n");
    peer
}

#[test]
fn a_server_that_ends_within_a_message_leaves_nothing_behind() {
    for program in [M, R] {
        let Some(server) = cluster::node(program, "n0", None, "", "") else {
            continue;
        };
        let mut subscriber = server.client("");
        subscriber.send(b"SUB x 1\r\n");
        subscriber.ping();
        let total = || get(server.monitor(), "/subsz").json()["num_subscriptions"].clone();
        let before = total();
        for (part, resets) in [
            ("x 4\r\nha", false),
            ("x 4\r\nhalf", true),
            ("x", false),
            ("x 4\r\nhalf\r", true),
        ] {
            let mut peer = introduce(&server);
            // In a group and without.
            expect_interest(&server, "left", 2);
            peer.send(format!("RMSG $G {part}").as_bytes());
            peer.wait_until_read();
            if resets {
                let _ =
                    rustix::net::sockopt::set_socket_linger(peer.stream(), Some(Duration::ZERO));
            }
            drop(peer);
            let is_forgotten =
                || (routez(&server, "")["num_routes"] == 0 && total() == before).then_some(());
            assert!(
                wait_for(is_forgotten).is_some(),
                "{} {}",
                routez(&server, ""),
                total()
            );
        }
        let mut peer = introduce(&server);
        peer.send(b"RMSG $G x 5\r\nwhole\r\n");
        subscriber.expect(b"MSG x 1 5\r\nwhole\r\n");
    }
}

#[test]
fn what_a_group_has_left_behind_goes_to_no_server_with_plain_subscribers() {
    let server = cluster::node(M, "n0", None, "", "").expect("midge");
    let mut peer = introduce(&server);
    peer.send(b"RS+ $G both\r\nRS+ $G both q 1\r\nRS+ $G group q 1\r\nPING\r\n");
    expect_within(&mut peer, b"PONG\r\n");
    // Nobody here is a member: what comes from a server with members goes back, unless others there have it already.
    peer.send(b"RMSG $G both | q 3\r\none\r\nRMSG $G group | q 3\r\ntwo\r\nPING\r\n");
    peer.expect(b"RMSG $G group | q 3\r\ntwo\r\nPONG\r\n");
}

/// Takes a dialler in, as a server that is interested in everything large.
fn take_in(listener: &TcpListener) -> Connection {
    let port = listener.local_addr().expect("it is bound").port();
    let about = format!("\"server_id\":\"X1\",\"host\":\"127.0.0.1\",\"port\":{port}");
    let info = format!("INFO {{{about},\"cluster\":\"C1\",\"headers\":true}}\r\n");
    loop {
        let dialled = wait_for(|| listener.accept().ok());
        let (socket, _) = dialled.expect("it is dialled");
        socket.set_nonblocking(false).expect("a socket");
        let mut peer = Connection::over(socket).expect("a socket");
        peer.send(info.as_bytes());
        assert!(peer.expect_line().starts_with(b"CONNECT "));
        // The reference server tries to have one more, for the system account.
        if peer.expect_line().starts_with(b"INFO ") {
            peer.send(b"RS+ $G large\r\nPING\r\n");
            return peer;
        }
    }
}

#[test]
fn a_server_that_stops_reading_is_closed_and_dialled_again_while_the_others_get_everything() {
    const COUNT: usize = 40;
    let text = |number: usize| {
        const LEN: usize = 1 << 20;
        format!("{LEN}\r\n{number:04}{}\r\n", "x".repeat(LEN - 4))
    };
    // That clients are given more time is of no help to a server.
    for (program, top) in [
        (M, ""),
        (R, ""),
        (M, "write_timeout: retry"),
        (R, "write_timeout: retry"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let more = format!("routes: [\"nats-route://{address}\"], write_deadline: \"1s\"");
        let Some(mut server) = cluster::node(program, "n0", None, top, &more) else {
            continue;
        };
        let mut deaf = take_in(&listener);
        let mut subscriber = server.client("");
        subscriber.send(b"SUB large 1\r\n");
        subscriber.ping();
        expect_interest(&server, "large", 1);
        let mut publisher = server.client("");
        publisher.ping();
        let publishing = thread::spawn(move || {
            (0..COUNT).for_each(|number| {
                publisher.send(format!("PUB large {}", text(number)).as_bytes())
            });
            publisher.ping();
        });
        for number in 0..COUNT {
            subscriber.expect(format!("MSG large 1 {}", text(number)).as_bytes());
        }
        publishing.join().expect("all was taken");
        // It is dialled again once it has been closed, and not before.
        let mut again = take_in(&listener);
        for line in [
            "Slow Consumer Detected: WriteDeadline of 1s exceeded",
            "Router connection closed: Slow Consumer (Write Deadline)",
        ] {
            let logged = server.process().wait_for_log(|log| log.contains(line));
            assert_eq!(logged, Ok(()), "{line}");
        }
        let mut publisher = server.client("");
        expect_interest(&server, "large", 1);
        publisher.send(b"PUB large 3\r\nend\r\n");
        subscriber.expect(b"MSG large 1 3\r\nend\r\n");
        expect_within(&mut again, b"RMSG $G large 3\r\nend\r\n");
        assert!(deaf.is_over(DEADLINE));
    }
}

/// Reads until it has read `wanted`.
fn expect_within(peer: &mut Connection, wanted: &[u8]) {
    let mut seen = Vec::new();
    while !seen.ends_with(wanted) {
        seen.extend(peer.expect_line());
    }
}
