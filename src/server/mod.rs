//! The life of a server: start, accept, stop.
//!
//! [`Server::start`] binds, starts the workers and the control thread, and returns once clients can connect. The
//! control thread accepts connections and gives each to the worker that has the fewest.

mod files;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::{fmt, process};

use crate::broker::Broker;
use crate::cause::cause;
use crate::config::options::Options;
use crate::id;
use crate::limits;
use crate::log::{LogError, LogOptions, Logger, info, warn};
use crate::net::acceptor::{Acceptor, Control, Listener};
use crate::net::mailbox::{Command, Mailbox, Settings};
use crate::net::verifier::Verifier;
use crate::net::worker::{Shared, Worker};
use crate::proto::info::{PROTOCOL_VERSION, ServerInfo};
use crate::session::Authenticator;
use files::Files;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    files: Files,
}

/// Why a server could not start.
#[derive(Debug)]
pub enum ServerError {
    /// An option that no server could start with.
    Option(String),
    /// The address to listen on has no meaning, or is taken.
    Listen {
        /// `host:port`.
        addr: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The log cannot be opened.
    Log(LogError),
    /// A file that was asked for cannot be written.
    File {
        /// What it is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The system refuses what a server needs: a thread, a descriptor.
    System(io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Option(text) => f.write_str(text),
            ServerError::Listen { addr, cause: error } => {
                write!(
                    f,
                    "Error listening on port: {addr}, \"listen tcp {addr}: bind: {}\"",
                    cause(error)
                )
            }
            ServerError::Log(error) => error.fmt(f),
            ServerError::File {
                what,
                path,
                cause: error,
            } => {
                write!(
                    f,
                    "Could not write {what}: open {}: {}",
                    path.display(),
                    cause(error)
                )
            }
            ServerError::System(error) => write!(f, "cannot start: {}", cause(error)),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        ServerError::System(error)
    }
}

impl Server {
    /// Starts a server that logs where the options say.
    ///
    /// # Errors
    ///
    /// [`ServerError`] if it cannot start; nothing is left running then.
    pub fn start(options: Options) -> Result<Server, ServerError> {
        let log = Logger::new(&log_options(&options)).map_err(ServerError::Log)?;
        Server::start_with_log(options, log)
    }

    /// Starts a server that logs to `log`.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_with_log(options: Options, log: Logger) -> Result<Server, ServerError> {
        check(&options)?;
        let server_id = id::server_id();
        greet(&options, &server_id, &log);
        let listener = Listener::bind(&options).map_err(|cause| {
            let (host, port) = (&options.host, options.port);
            let bare = host.contains(':') && !host.starts_with('[');
            let addr = if bare {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            ServerError::Listen { addr, cause }
        })?;
        let addr = listener.local_addr()?;
        let descriptors = raise_descriptor_limit();
        let workers = options.workers.unwrap_or_else(default_workers);
        let mailboxes: Vec<_> = (0..workers)
            .map(|_| Mailbox::open())
            .collect::<io::Result<_>>()?;
        let (polls, mailboxes): (Vec<_>, Vec<_>) = mailboxes.into_iter().unzip();
        let auth = Authenticator::new(&options);
        let accounts = auth.accounts().iter();
        let accounts = accounts.map(|it| (&*it.name, it.limits.max_connections));
        let shared = Arc::new(Shared {
            broker: Arc::new(Broker::new(accounts)),
            mailboxes,
            log,
            connections: polls.iter().map(|_| AtomicUsize::new(0)).collect(),
            slow_consumers: AtomicUsize::new(0),
            verifier: Verifier::default(),
        });
        let info = ServerInfo {
            server_name: options
                .server_name
                .clone()
                .unwrap_or_else(|| server_id.clone()),
            server_id,
            host: options.host.clone(),
            port: addr.port(),
            headers: !options.no_header_support,
            max_payload: options.max_payload,
            ..ServerInfo::default()
        };
        let files = Files::write(&options, addr)?;
        let settings = Arc::new(Settings {
            options,
            info,
            auth,
        });
        let (acceptor, control) =
            Acceptor::new(listener, Arc::clone(&shared), &settings, descriptors)?;
        let mut server = Server {
            addr,
            shared,
            control,
            threads: Vec::new(),
            files,
        };
        for (index, poll) in (0..).zip(polls) {
            let (shared, settings) = (Arc::clone(&server.shared), Arc::clone(&settings));
            let worker = Worker::new(index, poll, shared, settings, id::seed());
            server.spawn(format!("worker-{index}"), move || worker.run())?;
        }
        server.spawn("control".into(), move || acceptor.run())?;
        info!(
            server.shared.log,
            "Listening for client connections on {addr}"
        );
        info!(server.shared.log, "Server is ready");
        Ok(server)
    }

    /// The address that clients connect to, with the port that the system chose.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The log, to change its levels or to write to it.
    #[must_use]
    pub fn log(&self) -> &Logger {
        &self.shared.log
    }

    /// Connections that were closed because they did not take what was sent to them.
    #[must_use]
    pub fn slow_consumers(&self) -> usize {
        self.shared.slow_consumers.load(Ordering::Relaxed)
    }

    /// Connections at this moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared
            .connections
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Stops: no new connections, what is queued is written within a few seconds, everything is closed.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _guard = AbortOnPanic;
            body();
        })?;
        self.threads.push(thread);
        Ok(())
    }

    fn shut_down(&mut self) {
        if !self.control.stop() {
            return;
        }
        info!(self.shared.log, "Initiating Shutdown...");
        self.shared.verifier.stop();
        for mailbox in &self.shared.mailboxes {
            mailbox.command(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has taken the process with it.
            let _ = thread.join();
        }
        self.files.remove();
        info!(self.shared.log, "Server Exiting..");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// A thread of a server that panics takes the process down: the others cannot do its work.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}

/// The part of the options that a logger needs.
fn log_options(options: &Options) -> LogOptions {
    LogOptions {
        debug: options.debug,
        trace: options.trace,
        time: options.logtime,
        utc: options.logtime_utc,
        file: options.log_file.clone(),
        ..LogOptions::default()
    }
}

fn check(options: &Options) -> Result<(), ServerError> {
    if let Some(problem) = options.check().into_iter().next() {
        return Err(ServerError::Option(problem.text));
    }
    for account in &options.accounts {
        let shares = !(account.exports.is_empty() && account.imports.is_empty());
        let what = match account.mappings.is_empty() {
            _ if shares => "exports and imports",
            false => "mappings",
            true => continue,
        };
        let name = &account.name;
        let text = format!("account \"{name}\": {what} are not supported");
        return Err(ServerError::Option(text));
    }
    if !options.mappings.is_empty() {
        return Err(ServerError::Option("mappings are not supported".into()));
    }
    let max = limits::WORKERS_MAX;
    match options.workers {
        Some(workers) if !(1..=max).contains(&workers) => Err(ServerError::Option(format!(
            "workers ({workers}) must be between 1 and {max}"
        ))),
        _ => Ok(()),
    }
}

fn greet(options: &Options, server_id: &str, log: &Logger) {
    info!(log, "Starting midge");
    info!(
        log,
        "  Version:  {} (NATS protocol {PROTOCOL_VERSION})",
        env!("CARGO_PKG_VERSION")
    );
    info!(
        log,
        "  Name:     {}",
        options.server_name.as_deref().unwrap_or(server_id)
    );
    info!(log, "  ID:       {server_id}");
    let users = options.accounts.iter().flat_map(|account| &account.users);
    let listed = users.chain(&options.users).map(|user| &user.password);
    let single = options.user.as_ref().map(|_| options.password.as_ref());
    let has_plain_single = single.is_some_and(|it| it.is_none_or(|it| !it.is_hash()));
    if has_plain_single || listed.into_iter().any(|password| !password.is_hash()) {
        warn!(log, "Plaintext passwords detected, use nkeys or bcrypt");
    }
    if options.max_payload > limits::MAX_PAYLOAD_ADVISED {
        let advised = limits::MAX_PAYLOAD_ADVISED >> 20;
        let text = "are generally discouraged and could lead to poor performance";
        warn!(log, "Maximum payloads over {advised}.00 MB {text}");
    }
}

fn default_workers() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(limits::WORKERS_MAX)
}

/// Raises the limit of open descriptors as far as it goes, and gives it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    current
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(usize::MAX)
}
