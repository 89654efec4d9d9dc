//! What the tests of a running server share: server processes that end with their owner, and raw connections.
//!
//! Nothing here waits for a span of time. It waits for a condition, until a deadline that a loaded machine does not
//! reach and that only a failure meets.

#![allow(
    dead_code,
    reason = "each test binary compiles this module and uses a part of it"
)]

pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod http;
pub(crate) mod server;
pub(crate) mod tls;

use std::ffi::OsString;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Features that tests need and midge does not have yet, each with the reason that is printed where one is missed.
///
/// The reference server takes those tests all the same. A transcript needs the blocks of this name that are in its
/// configuration, and can name other features.
pub(crate) const LEFT_OUT: &[(&str, &str)] = &[];

/// How long anything that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How long nothing must happen for a test to believe that nothing does.
pub(crate) const QUIET: Duration = Duration::from_millis(250);
/// How many bytes a message of failure shows of what differs.
pub(crate) const ESCAPED_MAX: usize = 600;
/// Time between two looks at a condition that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A server program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The one this package builds, or the build that the variable `MIDGE` names.
    Midge,
    /// The reference server, where the variable `NATS_SERVER` names it.
    Reference,
}

impl Program {
    /// The executable; `None` for a reference server that is not there, which is said on standard error.
    pub(crate) fn path(self) -> Option<PathBuf> {
        match self {
            Program::Midge => {
                let built = || OsString::from(env!("CARGO_BIN_EXE_midge"));
                Some(std::env::var_os("MIDGE").unwrap_or_else(built).into())
            }
            Program::Reference => {
                let path = std::env::var_os("NATS_SERVER").map(PathBuf::from);
                if path.is_none() {
                    say_left_out("the reference server: NATS_SERVER is not set");
                }
                path
            }
        }
    }

    /// Why it can't do what needs `feature`, if it can't.
    pub(crate) fn lacks(self, feature: &str) -> Option<&'static str> {
        let lacking = LEFT_OUT.iter().find(|(name, _)| *name == feature);
        let (_, why) = lacking.filter(|_| self == Program::Midge)?;
        Some(why)
    }
}

/// The servers that an expectation is put to: midge, and the reference server where it is there.
pub(crate) fn programs() -> impl Iterator<Item = PathBuf> {
    let all = [Program::Midge, Program::Reference];
    all.into_iter().filter_map(Program::path)
}

/// The one that an expectation is put to in which midge differs.
pub(crate) fn midge() -> PathBuf {
    Program::Midge.path().expect("the package builds it")
}

/// How often a client may try a handshake that has too little time before it must have been kept out. The time limit of the
/// reference server runs beside its handshake, which wins the race every few times.
pub(crate) fn tries_in_a_time_too_short(program: &Path) -> usize {
    if program == midge() { 1 } else { 100 }
}

/// Starts `program` with this configuration, and debugging output in its log.
pub(crate) fn start(program: &Path, conf: &str) -> server::Server {
    server::Start::new(program).conf(conf).arg("-D").started()
}

/// Starts midge with this configuration.
pub(crate) fn start_midge(conf: &str) -> server::Server {
    server::Start::new(&midge()).conf(conf).started()
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Program::Midge => "midge",
            Program::Reference => "the reference server",
        })
    }
}

/// Says on standard error what the running test does not cover.
///
/// Written to the stream itself: the test harness shows what a passing test prints to nobody.
pub(crate) fn say_left_out(what: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("?");
    // A test does not fail for want of somebody to tell.
    let _ = writeln!(std::io::stderr(), "left out in {test}: {what}");
}

/// Waits until `condition` gives a value; `None` after [`DEADLINE`].
pub(crate) fn wait_for<T>(condition: impl FnMut() -> Option<T>) -> Option<T> {
    wait_until(Instant::now() + DEADLINE, condition)
}

/// Waits until `condition` gives a value; `None` once `deadline` has passed.
pub(crate) fn wait_until<T>(
    deadline: Instant,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// Bytes as a reader wants them: printable ASCII as it is, the rest escaped, long runs shortened.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let head = bytes.get(..ESCAPED_MAX).unwrap_or(bytes);
    let mut text = format!("\"{}\"", head.escape_ascii());
    if bytes.len() > head.len() {
        text.push_str(&format!(" and {} bytes more", bytes.len() - head.len()));
    }
    text
}

/// A directory of the test's own, gone with its owner.
#[derive(Debug)]
pub(crate) struct ScratchDir(PathBuf);

impl ScratchDir {
    pub(crate) fn new() -> ScratchDir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("midge-test-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return ScratchDir(path),
                // One that was killed had our process id, and has left its files.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot make {}: {error}", path.display()),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Left behind at worst: a test must not fail, or panic twice, over its litter.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Lets this process, and those it starts from now on, open at least `count` descriptors.
///
/// # Errors
///
/// What the limit is, if it can't be raised that far.
pub(crate) fn raise_descriptor_limit(count: usize) -> Result<(), String> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    let wanted = count as u64 + 100;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, limit).expect("a soft limit can be raised to the hard one");
    }
    let current = getrlimit(Resource::Nofile).current;
    match current {
        Some(current) if current < wanted => Err(format!(
            "{wanted} descriptors are needed, the limit is {current}"
        )),
        _ => Ok(()),
    }
}
