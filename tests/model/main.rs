//! Random operations over several connections and workers, against the rules of NATS written down as naively as can be.
//!
//! Each round is a small world of its own: engines that share a broker, connections that send what [`operation`] makes
//! up, in reads cut anywhere, and letters between workers that arrive in order, but when chance says. After each step
//! [`rules`] says what must have been sent to whom.
//!
//! The same is done once more with TLS between clients and connections, which must change nothing.
//!
//! A round is a number and nothing else. `MIDGE_SEED=<number>` plays that one alone, `MIDGE_ROUNDS=<count>` as many as
//! that.

mod operation;
mod outlets;
mod rules;
mod tunnel;
mod world;

use std::io::Write;
use std::rc::Rc;

use tunnel::Contexts;
use world::World;

/// Rounds of a usual run: a few seconds without optimisation.
const ROUNDS: u64 = 2000;
/// Steps of a round.
const STEPS: usize = 120;
/// Steps that a failure shows.
const SHOWN: usize = 40;

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
        if !std::thread::panicking() {
            return;
        }
        let history = self.world.history();
        let shown = history.get(history.len().saturating_sub(SHOWN)..);
        let lines = shown.unwrap_or_default().join("\n  ");
        let seed = self.seed;
        // Nothing can be done if even this fails.
        let _ = writeln!(
            std::io::stderr(),
            "the last steps:\n  {lines}\nplay it again with MIDGE_SEED={seed} cargo test --test model"
        );
    }
}
