//! The threads that compute password hashes, so that no worker has to.
//!
//! ```text
//! worker ─ submit ─► queue of each address, served in turn ─► thread ─ Verified ─► the worker's mailbox
//!               └► remembered: answered at once
//! ```
//!
//! An address with a thousand attempts waiting delays another one's by a single hash for each thread; those of an IPv6
//! network, in which a host picks addresses as it likes, are one. Threads are started when there is work and end when
//! there has been none for a while. A pair of hash and password that was found right is remembered for a while by a keyed
//! hash of both, so that a crowd that reconnects costs one computation for each user.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use ring::hmac;

use super::addresses::Network;
use super::mailbox::{Command, Origin};
use super::shared::Shared;
use crate::id;
use crate::limits;
use crate::session::{Challenge, Verdict};

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub struct Verifier {
    queue: Mutex<Queue>,
    filled: Condvar,
    memory: Mutex<Memory>,
}

/// What waits.
#[derive(Debug, Default)]
struct Queue {
    jobs: HashMap<Network, VecDeque<Job>>,
    /// Addresses that have jobs, in the order they are served.
    turns: VecDeque<Network>,
    waiting: usize,
    threads: usize,
    idle: usize,
    stopping: bool,
}

#[derive(Debug)]
struct Job {
    origin: Origin,
    challenge: Box<Challenge>,
    /// How long a right password is remembered.
    life: Duration,
}

/// What was right lately.
struct Memory {
    key: hmac::Key,
    /// When it is forgotten, by keyed hash.
    known: HashMap<[u8; 32], Instant>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Default for Verifier {
    fn default() -> Self {
        let secret: [u8; 32] = id::random();
        let memory = Memory {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            known: HashMap::new(),
        };
        Verifier {
            queue: Mutex::default(),
            filled: Condvar::new(),
            memory: Mutex::new(memory),
        }
    }
}

impl Verifier {
    /// Answers from memory, or takes the challenge on: its answer comes as [`Command::Verified`].
    ///
    /// `life` is how long a right password is remembered.
    pub(super) fn submit(
        shared: &Arc<Shared>,
        addr: IpAddr,
        origin: Origin,
        challenge: Box<Challenge>,
        life: Duration,
    ) -> Option<Verdict> {
        let verifier = &shared.verifier;
        if !life.is_zero() && verifier.lock_memory().recalls(&challenge, Instant::now()) {
            return Some(challenge.settle(true));
        }
        let mut queue = verifier.lock_queue();
        let job = Job {
            origin,
            challenge,
            life,
        };
        queue.push(addr, job);
        let dropped = queue.drop_surplus();
        if queue.lacks_threads() && queue.threads < threads_max() {
            queue.threads += 1;
            let shared = Arc::clone(shared);
            let body = move || shared.verifier.work(&shared);
            let spawned = thread::Builder::new().name("verifier".into()).spawn(body);
            if spawned.is_err() {
                // Whoever waits is served by the threads there are; if there is none, by the next one that starts.
                queue.threads -= 1;
            }
        }
        drop(queue);
        verifier.filled.notify_one();
        if let Some(job) = dropped {
            answer(shared, job.origin, None);
        }
        None
    }

    /// Ends the threads as soon as they have finished what they are at.
    pub fn stop(&self) {
        let mut queue = self.lock_queue();
        queue.stopping = true;
        queue.jobs = HashMap::new();
        drop(queue);
        self.filled.notify_all();
    }

    /// A thread's life.
    fn work(&self, shared: &Shared) {
        stand_back();
        while let Some(job) = self.next() {
            let is_remembered = !job.life.is_zero();
            // A crowd of one user's connections waits for the first of them only.
            let recalls = || self.lock_memory().recalls(&job.challenge, Instant::now());
            let is_known = is_remembered && recalls();
            let is_right = is_known || job.challenge.is_right();
            if is_right && is_remembered && !is_known {
                let now = Instant::now();
                self.lock_memory().remember(&job.challenge, now, job.life);
            }
            answer(shared, job.origin, Some(job.challenge.settle(is_right)));
        }
    }

    /// Waits for a job; none is the end.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock_queue();
        queue.idle += 1;
        let is_idle = |queue: &mut Queue| !queue.stopping && queue.waiting == 0;
        let waited = self.filled.wait_timeout_while(queue, IDLE, is_idle);
        let (mut queue, _) = waited.expect("no thread panics and lives on");
        queue.idle -= 1;
        let job = queue.pop();
        if job.is_none() {
            queue.threads -= 1;
        }
        job
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics and lives on")
    }

    fn lock_memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no thread panics and lives on")
    }
}

/// Tells the worker; no verdict means that there was no time for one.
fn answer(shared: &Shared, origin: Origin, verdict: Option<Verdict>) {
    if let Some(mailbox) = shared.mailboxes.get(usize::from(origin.worker)) {
        mailbox.command(Command::Verified { origin, verdict });
    }
}

/// Lets whoever handles messages go first where they share a core with this thread.
fn stand_back() {
    /// Enough that a worker which wakes up is served at once, not so much that a busy server lets nobody in.
    #[cfg(target_os = "linux")]
    const NICENESS: i32 = 10;
    // On Linux this is about the calling thread alone; elsewhere it would slow the whole process down. Whether it is
    // allowed or not, the hashes are computed.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// One core is left for the messages, where there are several.
fn threads_max() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).clamp(1, limits::VERIFIERS_MAX)
}

impl Queue {
    /// Whether more waits than there are threads that wait for it: one that has been notified may take a while to wake up.
    fn lacks_threads(&self) -> bool {
        self.waiting > self.idle
    }

    fn push(&mut self, addr: IpAddr, job: Job) {
        let addr = Network::of(addr);
        let own = self.jobs.entry(addr).or_default();
        if own.is_empty() {
            self.turns.push_back(addr);
        }
        own.push_back(job);
        self.waiting += 1;
    }

    /// The first job of the address whose turn it is.
    fn pop(&mut self) -> Option<Job> {
        let addr = self.turns.pop_front()?;
        let own = self.jobs.get_mut(&addr)?;
        let job = own.pop_front()?;
        if own.is_empty() {
            self.jobs.remove(&addr);
        } else {
            self.turns.push_back(addr);
        }
        self.waiting -= 1;
        Some(job)
    }

    /// Where too much waits, the newest of the address that has most waiting.
    fn drop_surplus(&mut self) -> Option<Job> {
        if self.waiting <= limits::VERIFICATIONS_MAX {
            return None;
        }
        let (&addr, own) = self.jobs.iter_mut().max_by_key(|(_, own)| own.len())?;
        let job = own.pop_back()?;
        if own.is_empty() {
            self.jobs.remove(&addr);
            self.turns.retain(|&turn| turn != addr);
        }
        self.waiting -= 1;
        Some(job)
    }
}

impl Memory {
    fn recalls(&self, challenge: &Challenge, now: Instant) -> bool {
        let until = self.known.get(&self.fingerprint(challenge));
        until.is_some_and(|&until| now < until)
    }

    fn remember(&mut self, challenge: &Challenge, now: Instant, life: Duration) {
        if self.known.len() >= limits::VERIFIED_MAX {
            self.known.retain(|_, until| now < *until);
        }
        if self.known.len() < limits::VERIFIED_MAX {
            let fingerprint = self.fingerprint(challenge);
            self.known.insert(fingerprint, now + life);
        }
    }

    fn fingerprint(&self, challenge: &Challenge) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in challenge.pair() {
            // With its length, so that no two pairs are the same bytes.
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref()
            .try_into()
            .expect("the tag of HMAC-SHA256 is 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Options, Secret};
    use crate::proto::connect::Connect;
    use crate::session::Authenticator;

    /// The challenge that a password makes where the user's is `p`, hashed.
    fn challenge(password: &str) -> Box<Challenge> {
        let options = Options {
            user: Some("u".into()),
            password: Some(Secret::new(bcrypt::hash("p", 4).expect("a cost there is"))),
            ..Options::default()
        };
        let mut connect = Connect::default();
        let credentials = connect.credentials_mut();
        credentials.user = Some("u".into());
        credentials.pass = Some(password.into());
        match Authenticator::new(&options).judge(&connect, None, None) {
            Verdict::Verify(challenge) => challenge,
            other => panic!("{other:?}"),
        }
    }

    fn job(conn: u32) -> Job {
        let origin = Origin {
            worker: 0,
            conn,
            serial: 0,
        };
        Job {
            origin,
            challenge: challenge("p"),
            life: Duration::ZERO,
        }
    }

    #[test]
    fn addresses_take_turns() {
        let [one, other] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        let mut queue = Queue::default();
        (0..3).for_each(|conn| queue.push(one, job(conn)));
        (3..5).for_each(|conn| queue.push(other, job(conn)));
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop())
            .map(|job| job.origin.conn)
            .collect();
        assert_eq!(order, [0, 3, 1, 4, 2]);
        assert!(queue.waiting == 0 && queue.jobs.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_host_with_many_addresses_has_the_turns_of_one() {
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let mut queue = Queue::default();
        (0..3).for_each(|conn| queue.push(host(if conn == 0 { 1 } else { 2 }), job(conn)));
        queue.push(IpAddr::from([127, 0, 0, 1]), job(3));
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop())
            .map(|job| job.origin.conn)
            .collect();
        assert_eq!(order, [0, 3, 1, 2]);
    }

    #[test]
    fn one_thread_that_has_yet_to_wake_up_is_not_enough_for_several() {
        let addr = IpAddr::from([127, 0, 0, 1]);
        let mut queue = Queue {
            threads: 1,
            idle: 1,
            ..Queue::default()
        };
        queue.push(addr, job(0));
        assert!(!queue.lacks_threads());
        queue.push(addr, job(1));
        assert!(queue.lacks_threads());
    }

    #[test]
    fn of_too_many_the_newest_of_the_busiest_address_is_dropped() {
        let [one, other] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        let mut queue = Queue::default();
        queue.push(other, job(9));
        for conn in 0..3 {
            queue.push(one, job(conn));
        }
        assert!(queue.drop_surplus().is_none());
        queue.waiting += limits::VERIFICATIONS_MAX;
        assert_eq!(queue.drop_surplus().map(|job| job.origin.conn), Some(2));
        assert_eq!(queue.jobs[&Network::of(other)].len(), 1);
    }

    #[test]
    fn a_right_password_is_remembered_for_a_while_and_no_other() {
        let verifier = Verifier::default();
        let (now, life) = (Instant::now(), Duration::from_secs(9));
        let mut memory = verifier.lock_memory();
        let known = challenge("p");
        assert!(known.is_right() && !memory.recalls(&known, now));
        memory.remember(&known, now, life);
        assert!(memory.recalls(&known, now) && !memory.recalls(&known, now + life));
        // Another hash of the same password has another salt.
        assert!(!memory.recalls(&challenge("p"), now) && !memory.recalls(&challenge("q"), now));
        for _ in 0..3 {
            let number = memory.known.len();
            let filler = (0..limits::VERIFIED_MAX).map(|it| [it, number].map(usize::to_le_bytes));
            let filler: Vec<[u8; 32]> = filler
                .map(|it| {
                    let mut bytes = [0; 32];
                    bytes[..16].copy_from_slice(it.as_flattened());
                    bytes
                })
                .collect();
            memory.known.extend(filler.into_iter().map(|it| (it, now)));
            memory.remember(&challenge("p"), now, life);
            assert!(memory.known.len() <= limits::VERIFIED_MAX);
        }
    }
}
