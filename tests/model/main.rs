//! Random operations over several connections and workers, against the rules of NATS written down as naively as can be.
//!
//! Each round is a small world of its own: engines that share a broker, connections that send what [`operation`] makes
//! up, in reads cut anywhere, and letters between workers that arrive in order, but when chance says. After each step
//! [`rules`] says what must have been sent to whom.
//!
//! The same is done once more with TLS between clients and connections, which must change nothing. And there are rounds of
//! several servers with routes between them, which [`cluster`] describes.
//!
//! A round is a number and nothing else. `MIDGE_SEED=<number>` plays that one alone, `MIDGE_ROUNDS=<count>` as many as
//! that.

mod cluster;
mod operation;
mod outlets;
mod rules;
mod tunnel;
mod world;

use std::io::Write;
use std::rc::Rc;

use cluster::Cluster;
use tunnel::Contexts;
use world::World;

/// Rounds of a usual run: a few seconds without optimisation.
const ROUNDS: u64 = 2000;
/// Steps of a round.
const STEPS: usize = 120;
/// Steps that a failure shows.
const SHOWN: usize = 40;

/// Those of several servers.
const CLUSTER_ROUNDS: u64 = 1000;

/// Those of a run through TLS, where each connection costs a handshake.
const TLS_ROUNDS: u64 = 100;

#[test]
fn engines_follow_the_rules_whatever_the_timing() {
    match variable("MIDGE_SEED") {
        Some(seed) => play(seed, None),
        None => (0..variable("MIDGE_ROUNDS").unwrap_or(ROUNDS)).for_each(|seed| play(seed, None)),
    }
}

#[test]
fn engines_follow_the_rules_through_tls() {
    let contexts = Rc::new(Contexts::new());
    let play = |seed| play(seed, Some(Rc::clone(&contexts)));
    match variable("MIDGE_SEED") {
        Some(seed) => play(seed),
        None => (0..variable("MIDGE_ROUNDS").unwrap_or(TLS_ROUNDS)).for_each(play),
    }
}

#[test]
fn servers_know_what_the_others_want_whatever_the_timing() {
    match variable("MIDGE_SEED") {
        Some(seed) => play_cluster(seed),
        None => (0..variable("MIDGE_ROUNDS").unwrap_or(CLUSTER_ROUNDS)).for_each(play_cluster),
    }
}

fn play_cluster(seed: u64) {
    let mut round = ClusterRound {
        seed,
        cluster: Cluster::new(seed),
    };
    for _ in 0..STEPS {
        round.cluster.step();
    }
    round.cluster.settle();
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

/// Plays one round, through TLS if there are contexts for it.
fn play(seed: u64, tls: Option<Rc<Contexts>>) {
    let mut round = Round {
        seed,
        world: World::new(seed, tls),
    };
    for _ in 0..STEPS {
        round.world.step();
    }
    round.world.settle();
}

/// Says, when a round fails, which one it was and what led to it.
struct Round {
    seed: u64,
    world: World,
}

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(self.seed, self.world.history());
        }
    }
}

/// The same of a cluster.
struct ClusterRound {
    seed: u64,
    cluster: Cluster,
}

impl Drop for ClusterRound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(self.seed, self.cluster.history());
        }
    }
}

fn tell(seed: u64, history: &[String]) {
    let shown = history.get(history.len().saturating_sub(SHOWN)..);
    let lines = shown.unwrap_or_default().join("\n  ");
    // Nothing can be done if even this fails.
    let _ = writeln!(
        std::io::stderr(),
        "the last steps:\n  {lines}\nplay it again with MIDGE_SEED={seed} cargo test --test model"
    );
}
