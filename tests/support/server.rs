//! A server process: started on a port that the system picks, killed when its owner is dropped.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::connection::Connection;
use super::{DEADLINE, ScratchDir, wait_for};

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Start {
    program: PathBuf,
    conf: Option<String>,
    args: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    /// Commands of a shell.
    limits: Vec<String>,
    folder: Option<PathBuf>,
}

impl Start {
    /// Starts `program` with its defaults: 127.0.0.1, a free port, no configuration file.
    pub(crate) fn new(program: &Path) -> Start {
        Start {
            program: program.to_owned(),
            conf: None,
            args: Vec::new(),
            variables: Vec::new(),
            limits: Vec::new(),
            folder: None,
        }
    }

    /// With a configuration file of this text.
    pub(crate) fn conf(mut self, text: &str) -> Start {
        self.conf = Some(text.to_owned());
        self
    }

    /// With one more argument.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Start {
        self.args.push(arg.into());
        self
    }

    /// With one more variable in its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Start {
        self.variables.push((name, value.into()));
        self
    }

    /// With at most this many open descriptors.
    pub(crate) fn descriptors(mut self, limit: u32) -> Start {
        self.limits.push(format!("ulimit -n {limit}"));
        self
    }

    /// With files of at most so many blocks, of 512 or 1024 bytes as the shell has it.
    pub(crate) fn file_blocks(mut self, limit: u32) -> Start {
        self.limits.push(format!("ulimit -f {limit}"));
        self
    }

    /// In this directory.
    pub(crate) fn folder(mut self, folder: &Path) -> Start {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Runs it until it listens, or panics with what it logged.
    pub(crate) fn started(self) -> Server {
        match self.run() {
            Ok(server) => server,
            Err(why) => panic!("{why}"),
        }
    }

    /// Runs it until it listens.
    ///
    /// # Errors
    ///
    /// What the server logged, if it ended or did not get that far in time.
    pub(crate) fn run(self) -> Result<Server, String> {
        let dir = ScratchDir::new();
        let conf = dir.path().join("server.conf");
        let mut command = self.command();
        command.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"]);
        command.arg(dir.path());
        if let Some(text) = &self.conf {
            std::fs::write(&conf, text).map_err(|e| e.to_string())?;
            command.arg("-c").arg(&conf);
        }
        command.args(&self.args);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut server = Server {
            process: Process::spawn(command)?,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            monitor: None,
            conf,
            dir,
        };
        let name = self.program.file_name().unwrap_or_default();
        let ports = format!("{}_{}.ports", name.to_string_lossy(), server.process.id());
        let path = server.dir.path().join(ports);
        // The file can be seen half-written: what does not parse is looked at again.
        let address = wait_for(|| match server.process.ended() {
            Some(_) => Some(None),
            None => addresses(&std::fs::read_to_string(&path).ok()?).map(Some),
        });
        (server.address, server.monitor) = address
            .flatten()
            .ok_or_else(|| format!("the server did not start: {}", server.process.log()))?;
        Ok(server)
    }

    fn command(&self) -> Command {
        if self.limits.is_empty() {
            return Command::new(&self.program);
        }
        let mut command = Command::new("sh");
        let script = format!("{}; exec \"$0\" \"$@\"", self.limits.join("; "));
        command.arg("-c").arg(script).arg(&self.program);
        command
    }
}

/// The first client address in the text of a ports file, and that of the monitoring port if there is one.
fn addresses(ports: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let ports: serde_json::Value = serde_json::from_str(ports).ok()?;
    let address = |kind: &str| {
        let url = ports.get(kind)?.get(0)?.as_str()?;
        url.split_once("://")?.1.parse().ok()
    };
    Some((address("nats")?, address("monitoring")))
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    monitor: Option<SocketAddr>,
    conf: PathBuf,
    dir: ScratchDir,
}

impl Server {
    /// Starts `program` with its defaults.
    pub(crate) fn start(program: &Path) -> Server {
        Start::new(program).started()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its monitoring pages are, if it has been told to have any.
    pub(crate) fn monitor(&self) -> SocketAddr {
        self.monitor.expect("it was started with a monitoring port")
    }

    /// The directory that holds its configuration and its ports file.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A new connection, its first INFO still unread.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address).expect("a listening server accepts")
    }

    /// A new connection that has sent `CONNECT`, neither verbose nor pedantic, with these further keys.
    pub(crate) fn client(&self, keys: &str) -> Connection {
        let mut connection = self.connect();
        connection.expect_info();
        connection
            .send(format!("CONNECT {{\"verbose\":false,\"pedantic\":false{keys}}}\r\n").as_bytes());
        connection
    }

    /// Replaces the configuration and waits until the server has taken it over.
    pub(crate) fn reload(&mut self, conf: &str) -> Result<(), String> {
        self.reload_until(conf, "Reloaded server configuration")
    }

    /// Replaces the configuration and waits until the server has logged `outcome` once more.
    pub(crate) fn reload_until(&mut self, conf: &str, outcome: &str) -> Result<(), String> {
        let before = self.process.log().matches(outcome).count();
        // At once as a whole: a server that still reads the old one for an earlier signal must not see half of this.
        let fresh = self.conf.with_extension("new");
        let written = std::fs::write(&fresh, conf);
        let replaced = written.and_then(|()| std::fs::rename(&fresh, &self.conf));
        replaced.map_err(|e| e.to_string())?;
        self.process.signal(Signal::HUP);
        self.process
            .wait_for_log(|log| log.matches(outcome).count() > before)
            .map_err(|log| format!("no reload: {log}"))
    }
}

/// A child process whose standard error is kept, and which does not outlive its owner.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with its standard error kept.
    ///
    /// # Errors
    ///
    /// If the program can't be run.
    pub(crate) fn spawn(mut command: Command) -> Result<Process, String> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let stderr = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Log::default());
        let kept = Arc::clone(&log);
        let reader = thread::spawn(move || kept.keep(BufReader::new(stderr)));
        Ok(Process {
            child,
            log,
            reader: Some(reader),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Waits until the log fulfils `condition`.
    ///
    /// # Errors
    ///
    /// The whole log, if it never did.
    pub(crate) fn wait_for_log(&self, condition: impl Fn(&str) -> bool) -> Result<(), String> {
        let (log, timeout) = self
            .log
            .more
            .wait_timeout_while(self.log.lock(), DEADLINE, |log| !condition(log))
            .expect("no holder of the log's lock panics");
        match timeout.timed_out() {
            true => Err(log.clone()),
            false => Ok(()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process id of the system");
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child can be waited for");
        if status.is_some() {
            // The log is whole once its reader has met the end.
            if let Some(reader) = self.reader.take() {
                reader.join().expect("reading a log does not panic");
            }
        }
        status
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        match wait_for(|| self.ended()) {
            Some(status) => status,
            None => panic!("the process has not ended; it logged: {}", self.log()),
        }
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("a live process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse().ok())
            .expect("VmRSS is a number of kB")
    }

    /// The processor time it has used: user and system.
    pub(crate) fn cpu_time(&self) -> Duration {
        /// Ticks a second of the times in `/proc`, the same on every Linux in use.
        const TICKS: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))
            .expect("a live process has a stat");
        // The second field, the name, can hold blanks; it ends at the last parenthesis.
        let (_, rest) = stat.rsplit_once(") ").expect("stat holds a name");
        let ticks: u64 = rest
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("times are numbers"))
            .sum();
        Duration::from_millis(ticks * 1000 / TICKS)
    }

    /// Asserts that it is running and goes on to for `span`.
    pub(crate) fn expect_alive_for(&mut self, span: Duration) {
        let ended = super::wait_until(Instant::now() + span, || self.ended());
        assert!(ended.is_none(), "it ended: {ended:?}: {}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process writes, and a way to wait for more of it.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<String>,
    more: Condvar,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().expect("no holder of this lock panics")
    }

    fn keep(&self, mut from: impl BufRead) {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            self.lock().push_str(&String::from_utf8_lossy(&line));
            self.more.notify_all();
            line.clear();
        }
    }
}
