//! Starts servers and reads what the operating system says about them.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Outcome;
use crate::wire::{Transport, Wire};

/// A server that can be started.
pub(crate) struct Program {
    /// How tables call it.
    pub(crate) name: &'static str,
    path: PathBuf,
    /// Arguments besides those that every server gets.
    arguments: Vec<String>,
}

impl Program {
    /// # Errors
    ///
    /// Nothing at `path`.
    pub(crate) fn new(name: &'static str, path: PathBuf, arguments: Vec<String>) -> Outcome<Self> {
        let path = path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            name,
            path,
            arguments,
        })
    }
}

impl Program {
    /// The same with a configuration file.
    pub(crate) fn with_conf(&self, path: &Path) -> Self {
        self.with_arguments(["-c".to_owned(), path.display().to_string()])
    }

    /// The same with a monitoring port.
    pub(crate) fn with_monitoring(&self) -> Self {
        self.with_arguments(["-m".to_owned(), "-1".to_owned()])
    }

    fn with_arguments(&self, more: [String; 2]) -> Self {
        Self {
            name: self.name,
            path: self.path.clone(),
            arguments: self.arguments.iter().cloned().chain(more).collect(),
        }
    }
}

/// A running server with a directory of its own; killed and cleared away when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Where other servers connect, if it is one of a cluster.
    cluster: Option<SocketAddr>,
    transport: Transport,
    directory: PathBuf,
}

impl Server {
    /// Starts a server on a free port and waits until its ports file says which.
    ///
    /// # Errors
    ///
    /// It ended, or wrote no ports file in time; with the end of what it logged.
    pub(crate) fn start(program: &Program, transport: Transport) -> Outcome<Self> {
        let mut server = Self::spawn(program, transport, ([127, 0, 0, 1], 0).into())?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(address) = server.announced("nats") {
                (server.address, server.cluster) = (address, server.announced("cluster"));
                return Ok(server);
            }
            server.check_alive(deadline)?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts a server and measures how long it takes until it greets a client.
    pub(crate) fn start_timed(program: &Program) -> Outcome<Duration> {
        let reserved = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let start = Instant::now();
        let mut server = Self::spawn(program, Transport::Plain, reserved)?;
        loop {
            match server.dial() {
                Ok(mut wire) => {
                    let mut first = [0; 1];
                    wire.read_exact(&mut first)?;
                    return Ok(start.elapsed());
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    server.check_alive(start + START_TIMEOUT)?;
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where it accepts clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it accepts routes, if it is one of a cluster.
    pub(crate) fn cluster(&self) -> Option<SocketAddr> {
        self.cluster
    }

    /// One more connection to it.
    pub(crate) fn dial(&self) -> io::Result<Box<dyn Wire>> {
        self.transport.dial(self.address)
    }

    /// CPU time so far.
    pub(crate) fn usage(&self) -> Outcome<Usage> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // The second field is the name in parentheses; utime and stime are fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = fields
            .split_whitespace()
            .skip(11)
            .map_while(|field| field.parse::<f64>().ok());
        let (Some(user_ticks), Some(system_ticks)) = (ticks.next(), ticks.next()) else {
            return Err(format!("{}: no CPU times", self.proc("stat").display()).into());
        };
        let mut total_ns = 0.0;
        for task in self.tasks()? {
            // A thread may end between listing and reading.
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let nanoseconds = text
                .split_whitespace()
                .next()
                .and_then(|field| field.parse::<f64>().ok());
            total_ns += nanoseconds.unwrap_or(0.0);
        }
        Ok(Usage {
            total_ns,
            user_ticks,
            system_ticks,
        })
    }

    /// Memory now.
    pub(crate) fn memory(&self) -> Outcome<Memory> {
        let status = fs::read_to_string(self.proc("status"))?;
        Ok(Memory {
            resident_kib: field(&status, "VmRSS:")?,
            peak_kib: field(&status, "VmHWM:")?,
            anonymous_kib: field(&status, "RssAnon:")?,
        })
    }

    /// How often its threads have gone to sleep of their own accord, which is how often they were woken.
    pub(crate) fn wakeups(&self) -> Outcome<f64> {
        let mut sum = 0.0;
        for task in self.tasks()? {
            // A thread may end between listing and reading.
            let Ok(status) = fs::read_to_string(task.join("status")) else {
                continue;
            };
            sum += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(sum)
    }

    fn spawn(program: &Program, transport: Transport, address: SocketAddr) -> Outcome<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let serial = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("broker-{}-{serial}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let log = File::create(directory.join(LOG))?;
        let port = match address.port() {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let child = Command::new(&program.path)
            .args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"])
            .arg(&directory)
            .args(transport.server_args())
            .args(&program.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.path.display()))?;
        Ok(Self {
            child,
            address,
            cluster: None,
            transport,
            directory,
        })
    }

    /// Where its monitoring pages are.
    ///
    /// # Errors
    ///
    /// It was started without.
    pub(crate) fn monitor(&self) -> Outcome<SocketAddr> {
        let address = self.announced("monitoring");
        address.ok_or_else(|| "the server has no monitoring port".into())
    }

    /// The first address of this kind from `<name>_<pid>.ports`, once the file is complete.
    fn announced(&self, kind: &str) -> Option<SocketAddr> {
        let end = format!("_{}.ports", self.child.id());
        let file = fs::read_dir(&self.directory)
            .ok()?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().ends_with(&end))?;
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        let url = ports.get(kind)?.get(0)?.as_str()?;
        let (_, address) = url.split_once("://")?;
        address.parse().ok()
    }

    /// Fails if the server has ended or `deadline` has passed.
    fn check_alive(&mut self, deadline: Instant) -> Outcome<()> {
        let what = match self.child.try_wait()? {
            Some(status) => format!("the server ended with {status}"),
            None if Instant::now() > deadline => "the server did not get ready".to_owned(),
            None => return Ok(()),
        };
        let log = fs::read_to_string(self.directory.join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        Err(format!("{what}; its log ends:\n{}", lines.join("\n")).into())
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    fn tasks(&self) -> Outcome<Vec<PathBuf>> {
        let entries = fs::read_dir(self.proc("task"))?;
        Ok(entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Best effort: it may have ended by itself, and a directory left behind is under the target directory.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// CPU time of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Of all live threads, in nanoseconds, from their `schedstat`; 0 where the kernel does not keep it.
    total_ns: f64,
    user_ticks: f64,
    system_ticks: f64,
}

impl Usage {
    /// That of two processes together.
    pub(crate) fn and(&self, other: &Usage) -> Usage {
        Usage {
            total_ns: self.total_ns + other.total_ns,
            user_ticks: self.user_ticks + other.user_ticks,
            system_ticks: self.system_ticks + other.system_ticks,
        }
    }

    /// What was spent since `earlier`. The total is exact; ticks are coarse, and only part it into user and system.
    pub(crate) fn since(&self, earlier: &Usage) -> Spent {
        let user_ticks = self.user_ticks - earlier.user_ticks;
        let ticks = user_ticks + self.system_ticks - earlier.system_ticks;
        let total_ns = if self.total_ns > 0.0 {
            self.total_ns - earlier.total_ns
        } else {
            ticks * TICK_NS
        };
        let user_ns = if ticks > 0.0 {
            total_ns * user_ticks / ticks
        } else {
            0.0
        };
        Spent { total_ns, user_ns }
    }
}

/// CPU time between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// User and system.
    pub(crate) total_ns: f64,
    /// The user part of it.
    pub(crate) user_ns: f64,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident_kib: f64,
    /// The most that was ever resident.
    pub(crate) peak_kib: f64,
    /// The part of `resident_kib` that no file backs.
    pub(crate) anonymous_kib: f64,
}

/// Lets this process, and the servers it starts, open as many files as the system allows; gives that number.
pub(crate) fn raise_file_limit() -> Outcome<u64> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(FILES_WANTED).min(FILES_WANTED);
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| format!("raising the file limit to {most}: {error}"))?;
    Ok(most)
}

/// The number behind `name` in a `/proc/<pid>/status` text.
fn field(status: &str, name: &str) -> Outcome<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("no {name} in /proc status").into())
}

const LOG: &str = "log";
const START_TIMEOUT: Duration = Duration::from_secs(10);
const FILES_WANTED: u64 = 65_536;
/// A clock tick of `/proc/<pid>/stat`: 100 a second on every Linux in use.
const TICK_NS: f64 = 1e7;
