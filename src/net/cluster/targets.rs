//! Which servers to dial, and when.
//!
//! A server that the configuration names is dialled until there is a connection to it, and again when there is none any
//! more. One that another server told of is given up after a few attempts. What is missing of a pool is dialled as long
//! as there is any connection to its server.

use std::time::{Duration, Instant};

use super::members::Place;
use crate::config::options::{Cluster, RouteUrl};
use crate::rng::Rng;

/// Time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest, where it doubles.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What is added at random after a connection was lost, so that two servers do not dial each other in step.
const JITTER_MS: usize = 100;
/// Servers heard of that are dialled at a time.
const HEARD_MAX: usize = 1024;

/// Why a server is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The configuration names it.
    Configured,
    /// Another server told of the one with this id.
    Heard(String),
    /// There is a connection to the one with this id, and this one is missing.
    Missing(String, Place),
}

/// How far that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The next attempt is due then.
    Waiting(Instant),
    /// An attempt is under way.
    Dialling,
    /// There is a connection to the server with this id.
    Up(String),
    /// It is this very server.
    Itself,
}

/// A server to dial.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: RouteUrl,
    pub(super) goal: Goal,
    pub(super) state: State,
    /// Attempts in a row that failed.
    pub(super) attempts: u32,
    /// There was a connection to it once.
    pub(super) was_up: bool,
    /// The number of the last attempt.
    pub(super) dial: u64,
    /// What to say about telling others of it.
    pub(super) gossip_mode: u8,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Targets {
    list: Vec<Target>,
    last_dial: u64,
}

impl Target {
    fn new(url: RouteUrl, goal: Goal, now: Instant) -> Self {
        Target {
            url,
            goal,
            state: State::Waiting(now),
            attempts: 0,
            was_up: false,
            dial: 0,
            gossip_mode: 0,
        }
    }

    /// Whether the configuration names it.
    pub(super) fn is_explicit(&self) -> bool {
        self.goal == Goal::Configured
    }

    /// The place that a connection takes.
    pub(super) fn place(&self) -> Place {
        match &self.goal {
            Goal::Missing(_, place) => place.clone(),
            _ => Place::Pool(0),
        }
    }
}

impl Targets {
    /// Goes over to these configured servers; gives the ones that are not named any longer.
    pub(super) fn configure(&mut self, routes: &[RouteUrl], now: Instant) -> Vec<Target> {
        let is_gone = |it: &Target| it.is_explicit() && !routes.contains(&it.url);
        let (gone, kept): (Vec<Target>, _) = self.list.drain(..).partition(is_gone);
        self.list = kept;
        // What is under way to complete a pool is not wanted any longer either.
        let is_left = |id: &String| gone.iter().any(|it| it.state == State::Up(id.clone()));
        self.list
            .retain(|it| !matches!(&it.goal, Goal::Missing(of, _) if is_left(of)));
        for url in routes {
            let is_known = |it: &Target| it.is_explicit() && it.url == *url;
            if !self.list.iter().any(is_known) {
                let target = Target::new(url.clone(), Goal::Configured, now);
                self.list.push(target);
            }
        }
        gone
    }

    /// Another server has told of one.
    pub(super) fn hear(&mut self, id: &str, url: RouteUrl, gossip_mode: u8, now: Instant) {
        let heard = |it: &&Target| matches!(it.goal, Goal::Heard(_));
        let is_known = self.list.iter().any(|it| {
            let is_it = it.goal == Goal::Heard(id.into());
            is_it || (it.is_explicit() && it.url.host == url.host && it.url.port == url.port)
        });
        if is_known || self.list.iter().filter(heard).count() >= HEARD_MAX {
            return;
        }
        self.list.push(Target {
            gossip_mode,
            ..Target::new(url, Goal::Heard(id.into()), now)
        });
    }

    /// These connections to a server are missing: they are dialled `at` then, if that is not under way.
    pub(super) fn miss(&mut self, id: &str, url: &RouteUrl, places: Vec<Place>, at: Instant) {
        for place in places {
            let goal = Goal::Missing(id.into(), place);
            match self.list.iter_mut().find(|it| it.goal == goal) {
                None => self.list.push(Target::new(url.clone(), goal, at)),
                Some(target) if matches!(target.state, State::Up(_)) => {
                    target.state = State::Waiting(at);
                }
                Some(_) => {}
            }
        }
    }

    /// The next target that is due; an attempt to dial it is under way then.
    pub(super) fn due(&mut self, now: Instant) -> Option<&Target> {
        let is_due = |it: &&mut Target| matches!(it.state, State::Waiting(at) if at <= now);
        let target = self.list.iter_mut().find(is_due)?;
        self.last_dial += 1;
        target.dial = self.last_dial;
        target.state = State::Dialling;
        Some(target)
    }

    /// When the next one is.
    pub(super) fn next(&self) -> Option<Instant> {
        let at = self.list.iter().filter_map(|it| match it.state {
            State::Waiting(at) => Some(at),
            _ => None,
        });
        at.min()
    }

    /// What that attempt was for.
    pub(super) fn by_dial(&mut self, dial: u64) -> Option<&mut Target> {
        self.list.iter_mut().find(|it| it.dial == dial)
    }

    /// What that attempt was for is not wanted any more.
    pub(super) fn forget(&mut self, dial: u64) {
        self.list.retain(|it| it.dial != dial);
    }

    /// That attempt has failed, or its connection was lost before anything came of it.
    pub(super) fn failed(&mut self, dial: u64, options: &Cluster, now: Instant) {
        let Some(target) = self.by_dial(dial).filter(|it| it.state == State::Dialling) else {
            return;
        };
        target.attempts += 1;
        let is_heard = matches!(target.goal, Goal::Heard(_));
        if is_heard && target.attempts > options.connect_retries {
            return self.forget(dial);
        }
        let mut pause = PAUSE;
        if options.connect_backoff {
            let doublings = (target.attempts - 1).min(5);
            pause = (PAUSE * (1 << doublings)).min(PAUSE_MAX);
        }
        target.state = State::Waiting(now + pause);
    }

    /// That attempt has led to a connection, or to one that there is already.
    pub(super) fn succeeded(&mut self, dial: u64, id: &str) {
        let Some(target) = self.by_dial(dial) else {
            return;
        };
        let up = State::Up(id.into());
        target.state = up.clone();
        target.attempts = 0;
        target.was_up = true;
        if matches!(target.goal, Goal::Heard(_)) {
            // It was heard of under an earlier id too: once is enough.
            let url = target.url.clone();
            self.list.retain(|it| {
                let is_heard = matches!(it.goal, Goal::Heard(_)) && it.state == up;
                it.dial == dial || !is_heard || it.url != url
            });
        }
    }

    /// There is no connection to this server any more.
    pub(super) fn lost(&mut self, id: &str, rng: &mut Rng, now: Instant) {
        self.list
            .retain(|it| !matches!(&it.goal, Goal::Missing(of, _) if of == id));
        let jitter = jitter(rng);
        for target in &mut self.list {
            if target.state == State::Up(id.into()) {
                let pause = if target.is_explicit() {
                    PAUSE
                } else {
                    Duration::ZERO
                };
                target.state = State::Waiting(now + pause + jitter);
                target.attempts = 0;
            }
        }
    }

    /// When to dial again what was lost just now, while there are other connections to its server.
    pub(super) fn soon(rng: &mut Rng, now: Instant) -> Instant {
        now + PAUSE + jitter(rng)
    }

    /// The URL that has led to this server.
    pub(super) fn url_of(&self, id: &str) -> Option<RouteUrl> {
        let mut list = self.list.iter();
        let found = list.find(|it| it.state == State::Up(id.into()));
        found.map(|it| it.url.clone())
    }

    /// Whether the configuration names the server that this one has a connection to.
    pub(super) fn names(&self, id: &str) -> bool {
        let mut list = self.list.iter();
        list.any(|it| it.is_explicit() && it.state == State::Up(id.into()))
    }
}

fn jitter(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.below(JITTER_MS) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(port: u16) -> RouteUrl {
        RouteUrl::parse(&format!("nats://127.0.0.1:{port}")).expect("a URL")
    }

    fn due(targets: &mut Targets, now: Instant) -> Vec<(u64, u16)> {
        std::iter::from_fn(|| targets.due(now).map(|it| (it.dial, it.url.port))).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn configured_servers_are_dialled_for_ever_and_others_a_few_times() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        targets.configure(&[url(1)], now);
        targets.hear("B", url(2), 1, now);
        targets.hear("B", url(2), 1, now);
        targets.hear("A", url(1), 1, now);
        assert_eq!(due(&mut targets, now), [(1, 1), (2, 2)]);
        let options = Cluster {
            connect_retries: 1,
            ..Cluster::default()
        };
        targets.failed(1, &options, now);
        targets.failed(2, &options, now);
        assert_eq!(
            (targets.next(), due(&mut targets, now).len()),
            (Some(now + SECOND), 0)
        );
        assert_eq!(due(&mut targets, now + SECOND), [(3, 1), (4, 2)]);
        targets.failed(3, &options, now);
        targets.failed(4, &options, now);
        assert_eq!(due(&mut targets, now + SECOND), [(5, 1)]);
    }

    #[test]
    fn what_is_missing_of_a_pool_is_dialled_as_long_as_its_server_is_there() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        let options = Cluster::default();
        let miss = |targets: &mut Targets, at| targets.miss("B", &url(1), vec![Place::Pool(1)], at);
        miss(&mut targets, now);
        for attempt in 1..=3 {
            let then = now + attempt * SECOND;
            assert_eq!(due(&mut targets, then).len(), 1, "attempt {attempt}");
            miss(&mut targets, then);
            assert!(due(&mut targets, then).is_empty(), "one at a time");
            targets.failed(u64::from(attempt), &options, then);
        }
        let then = now + 4 * SECOND;
        assert_eq!(due(&mut targets, then), [(4, 1)]);
        targets.succeeded(4, "B");
        assert_eq!(targets.next(), None);
        // It is lost, and others to the same server are not.
        miss(&mut targets, then + SECOND);
        assert_eq!(targets.next(), Some(then + SECOND));
        targets.lost("B", &mut Rng::seeded(1), then);
        assert_eq!(targets.next(), None);
    }

    #[test]
    fn a_server_that_was_heard_of_under_several_ids_is_dialled_once() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        let mut rng = Rng::seeded(1);
        for (id, dial) in [("B", 1), ("C", 2)] {
            targets.hear(id, url(1), 1, now);
            assert_eq!(due(&mut targets, now), [(dial, 1)]);
            targets.succeeded(dial, id);
        }
        // It was started again, and that was heard of before its end was noticed.
        targets.lost("B", &mut rng, now);
        assert_eq!(due(&mut targets, now + SECOND), [(3, 1)]);
        targets.succeeded(3, "C");
        // What completes its pool does not replace it.
        targets.miss("C", &url(1), vec![Place::Pool(1)], now);
        assert_eq!(due(&mut targets, now), [(4, 1)]);
        targets.succeeded(4, "C");
        targets.lost("C", &mut rng, now + SECOND);
        assert_eq!(due(&mut targets, now + 2 * SECOND), [(5, 1)]);
    }

    #[test]
    fn pauses_double_where_that_is_wanted() {
        let (mut targets, mut now) = (Targets::default(), Instant::now());
        targets.configure(&[url(1)], now);
        let options = Cluster {
            connect_backoff: true,
            ..Cluster::default()
        };
        let pauses = [1, 2, 4, 8, 16, 30, 30].map(|pause| {
            let [(dial, _)] = due(&mut targets, now)[..] else {
                panic!("one is due");
            };
            targets.failed(dial, &options, now);
            let next = targets.next().expect("another attempt");
            let span = next - now;
            now = next;
            (span, SECOND * pause)
        });
        assert!(
            pauses.iter().all(|(span, expected)| span == expected),
            "{pauses:?}"
        );
    }

    #[test]
    fn what_is_lost_is_dialled_again_and_what_was_missing_goes_with_it() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        let mut rng = Rng::seeded(1);
        targets.configure(&[url(1)], now);
        let [(dial, _)] = due(&mut targets, now)[..] else {
            panic!("one is due");
        };
        targets.succeeded(dial, "B");
        assert!(targets.names("B") && targets.next().is_none());
        let places = vec![Place::Pool(1), Place::Account("A".into())];
        targets.miss("B", &url(1), places.clone(), now);
        targets.miss("B", &url(1), places, now);
        assert_eq!(due(&mut targets, now).len(), 2);
        targets.lost("B", &mut rng, now);
        let next = targets.next().expect("again");
        assert!(next >= now + SECOND && next < now + SECOND + SECOND / 10);
        assert_eq!(due(&mut targets, next).len(), 1);
        assert_eq!(targets.configure(&[url(2)], now).len(), 1);
    }
}
