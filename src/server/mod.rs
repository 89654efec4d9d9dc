//! The life of a server: start, accept, reload, lame duck, stop.
//!
//! [`Server::start`] binds, starts the workers and the control thread, and returns once clients can connect. The
//! control thread accepts connections and gives each to the worker that has the fewest.

mod error;
mod files;
mod greeting;
mod lame_duck;
mod reload;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::broker::Broker;
use crate::config::Loaded;
use crate::config::options::{LogFormat, Options};
use crate::id;
use crate::limits;
use crate::log::{LineFormat, LogOptions, Logger, debug, info};
use crate::net::acceptor::{Acceptor, Control, Listener};
use crate::net::mailbox::{Command, Mailbox, Settings};
use crate::net::monitor::MonitorListeners;
use crate::net::shared::Shared;
use crate::net::tls::TlsContexts;
use crate::net::worker::Worker;
use crate::proto::info::ServerInfo;
use crate::session::Authenticator;
use files::{Files, PidFile, Ports};

pub use crate::net::acceptor::Heartbeat;
pub use crate::net::monitor::MonitorAddrs;
pub use error::{ReloadError, ServerError};

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    monitor_addrs: MonitorAddrs,
    route_addr: Option<SocketAddr>,
    shared: Arc<Shared>,
    control: Arc<Control>,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
    control_thread: Option<JoinHandle<()>>,
    /// Present in lame duck mode; dropping it ends that early.
    lame_duck: Option<Sender<()>>,
}

/// What a reload replaces.
#[derive(Debug)]
struct State {
    settings: Arc<Settings>,
    files: Files,
    /// Present while files are watched; dropping it ends that.
    watch: Option<Sender<()>>,
}

/// A server to start, and what it should know beside its options.
#[derive(Debug)]
pub struct Setup {
    /// The options, with the warnings and the digest that came with them.
    pub loaded: Loaded,
    /// Where they come from, if that is a file.
    pub config_file: Option<PathBuf>,
    /// Where to log.
    pub log: Logger,
    /// What the control thread does now and then, if anything.
    pub heartbeat: Option<Heartbeat>,
}

impl Server {
    /// Whether a server could start with these options, as far as that can be told without starting: the files that
    /// TLS needs are loaded.
    ///
    /// # Errors
    ///
    /// [`ServerError::Option`] and [`ServerError::Tls`]
    pub fn check(options: &Options) -> Result<(), ServerError> {
        check(options)?;
        TlsContexts::load(options)?;
        Ok(())
    }

    /// What a server that starts with these options has its doubts about: the texts of the warnings in its log, beside
    /// those that come with the options.
    #[must_use]
    pub fn doubts(options: &Options) -> Vec<String> {
        greeting::doubts(options)
    }

    /// Starts a server that logs where the options say.
    ///
    /// # Errors
    ///
    /// [`ServerError`] if it cannot start; nothing is left running then.
    pub fn start(options: Options) -> Result<Server, ServerError> {
        let log = Server::open_log(&options)?;
        Server::start_with_log(options, log)
    }

    /// Starts a server that logs to `log`.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_with_log(options: Options, log: Logger) -> Result<Server, ServerError> {
        Server::start_with(Setup {
            loaded: Loaded {
                options,
                digest: String::new(),
                warnings: Vec::new(),
            },
            config_file: None,
            log,
            heartbeat: None,
        })
    }

    /// Opens the log that the options ask for.
    ///
    /// # Errors
    ///
    /// [`ServerError::Log`]
    pub fn open_log(options: &Options) -> Result<Logger, ServerError> {
        Logger::new(&log_options(options)).map_err(ServerError::Log)
    }

    /// Starts a server.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_with(setup: Setup) -> Result<Server, ServerError> {
        check(&setup.loaded.options)?;
        let server_id = id::server_id();
        let cluster_name = cluster_name(&setup.loaded.options);
        greeting::greet(&setup, &server_id, cluster_name.as_deref());
        let Setup {
            loaded: Loaded {
                options, digest, ..
            },
            log,
            heartbeat,
            ..
        } = setup;
        let tls = Arc::new(TlsContexts::load(&options)?);
        // Before the clients' port, so that whoever watches sees the server come.
        let monitors = monitor(&options, &log)?;
        let monitor_addrs = monitors.addrs();
        let listener = listen(&options)?;
        let addr = listener.local_addr()?;
        let routes = listen_for_routes(&options)?;
        let descriptors = raise_descriptor_limit();
        let workers = options
            .workers
            .unwrap_or_else(|| cores().min(limits::WORKERS_MAX));
        let mailboxes: Vec<_> = (0..workers)
            .map(|_| Mailbox::open())
            .collect::<io::Result<_>>()?;
        let (polls, mailboxes): (Vec<_>, Vec<_>) = mailboxes.into_iter().unzip();
        let auth = Authenticator::new(&options);
        let shared = Arc::new(Shared::new(mailboxes, log, cores()));
        let mut files = Files::default();
        if let Some(path) = &options.pid_file {
            files.write_pid(PidFile::prepare(path)?)?;
        }
        let ports_file_dir = options.ports_file_dir.clone();
        let info = server_info(&options, server_id, addr.port());
        let broker = Broker::new(auth.names_and_limits()).planned(&options);
        let settings = Arc::new(Settings {
            options,
            info,
            broker: Arc::new(broker),
            auth: Arc::new(auth),
            tls,
            digest,
            loaded: Instant::now(),
        });
        let (mut acceptor, control) = Acceptor::new(
            listener,
            monitors,
            Arc::clone(&shared),
            Arc::clone(&settings),
            descriptors,
            heartbeat,
        )?;
        let cluster = match routes.zip(cluster_name) {
            Some((listener, name)) => {
                let addr = listener.local_addr()?;
                acceptor.join_cluster(listener, name.clone())?;
                Some((addr, name))
            }
            None => None,
        };
        let state = State {
            settings: Arc::clone(&settings),
            files,
            watch: None,
        };
        let mut server = Server {
            addr,
            monitor_addrs,
            route_addr: cluster.as_ref().map(|(addr, _)| *addr),
            shared,
            control,
            state: Arc::new(Mutex::new(state)),
            threads: Vec::new(),
            control_thread: None,
            lame_duck: None,
        };
        for (index, poll) in (0..).zip(polls) {
            let (shared, settings) = (Arc::clone(&server.shared), Arc::clone(&settings));
            let worker = Worker::new(index, poll, shared, settings, id::seed());
            server.spawn(format!("worker-{index}"), move || worker.run())?;
        }
        server.spawn("control".into(), move || acceptor.run())?;
        server.control_thread = server.threads.pop();
        server.watch_files(&mut lock(&server.state), &settings.options)?;
        let log = &server.shared.log;
        info!(log, "Listening for client connections on {addr}");
        greeting::announce_tls(log, &settings.options);
        info!(log, "Server is ready");
        if let Some((addr, name)) = &cluster {
            greeting::announce_cluster(log, &settings.options, *addr, name);
        }
        if let Some(dir) = &ports_file_dir {
            lock(&server.state)
                .files
                .write_ports(dir, server.ports(&settings.options), log);
        }
        Ok(server)
    }

    /// The address that clients connect to, with the port that the system chose.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.addr
    }

    fn ports(&self, options: &Options) -> Ports {
        Ports {
            clients: self.addr,
            is_tls_required: options.tls.is_some() && !options.allow_non_tls,
            monitor: self.monitor_addrs,
            routes: self.route_addr,
        }
    }

    /// The addresses of the monitoring port, with the port that the system chose.
    #[must_use]
    pub fn monitor_addrs(&self) -> MonitorAddrs {
        self.monitor_addrs
    }

    /// The address that other servers of the cluster connect to, if this one is in a cluster.
    #[must_use]
    pub fn route_addr(&self) -> Option<SocketAddr> {
        self.route_addr
    }

    /// Connections to other servers that are part of the cluster.
    #[must_use]
    pub fn routes(&self) -> usize {
        lock(&self.state).settings.broker.routes.count()
    }

    /// The log, to change its levels or to write to it.
    #[must_use]
    pub fn log(&self) -> &Logger {
        &self.shared.log
    }

    /// Connections that were closed because they did not take what was sent to them.
    #[must_use]
    pub fn slow_consumers(&self) -> usize {
        self.shared.slow_consumers.sum()
    }

    /// Connections that were refused because of the limits of their address.
    #[must_use]
    pub fn address_refusals(&self) -> usize {
        self.shared.address_refusals.load(Ordering::Relaxed)
    }

    /// Connections at this moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connection_count()
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
        let is_accepting = self.lame_duck.take().is_none();
        lock(&self.state).watch = None;
        if !self.control.stop() {
            return;
        }
        info!(self.shared.log, "Initiating Shutdown...");
        self.shared.verifier.stop();
        // The control thread has something to say before the workers end.
        let control = self.control_thread.take();
        if let Some(thread) = control {
            // A thread that panicked has taken the process with it.
            let _ = thread.join();
        }
        let log = &self.shared.log;
        if is_accepting {
            debug!(log, "Client accept loop exiting..");
        }
        if self.route_addr.is_some() {
            debug!(log, "Route accept loop exiting..");
        }
        if let Some(mailbox) = self.shared.mailboxes.first() {
            mailbox.command(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let has_system_account = {
            let mut state = lock(&self.state);
            state.files.remove();
            state.settings.options.system_account().is_some()
        };
        if has_system_account {
            let text = "System connection closed: Client Closed";
            debug!(self.shared.log, "SYSTEM - {text}");
        }
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

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics and lives on")
}

/// Goes over to other settings, in every worker and in the control thread.
fn distribute(shared: &Shared, control: &Control, settings: &Arc<Settings>, inform: bool) {
    for mailbox in &shared.mailboxes {
        mailbox.command(Command::Settings {
            settings: Arc::clone(settings),
            inform,
        });
    }
    control.settings(Arc::clone(settings));
}

/// The part of the options that a logger needs.
fn log_options(options: &Options) -> LogOptions {
    LogOptions {
        debug: options.debug,
        trace: options.trace,
        time: options.logtime,
        utc: options.logtime_utc,
        format: match options.log_format {
            LogFormat::Json => LineFormat::Json,
            LogFormat::Text => LineFormat::Text,
        },
        file: options.log_file.clone(),
        file_bytes_max: options.log_size_limit.unwrap_or(0),
        files_max: options.log_max_num.unwrap_or(0),
        remote_syslog: options.remote_syslog.clone(),
        syslog: options.syslog,
    }
}

/// What INFO says of a server with these options.
fn server_info(options: &Options, server_id: String, port: u16) -> ServerInfo {
    let (host, port) = options
        .advertised_address(port)
        .unwrap_or_else(|| (options.host.clone(), port));
    let name = options.server_name.clone();
    ServerInfo {
        server_name: name.unwrap_or_else(|| server_id.clone()),
        server_id,
        host,
        port,
        headers: !options.no_header_support,
        // One without a port for routes is no member, but may have a name all the same.
        cluster: options.cluster.name.clone(),
        max_payload: options.max_payload,
        tls_required: options.tls.is_some() && !options.takes_plain_clients(),
        tls_verify: options.tls.as_ref().is_some_and(|tls| tls.verify),
        tls_available: options.tls.is_some() && options.takes_plain_clients(),
        ..ServerInfo::default()
    }
}

/// What no server can start with: the options came from anywhere, not necessarily by way of a file.
fn check(options: &Options) -> Result<(), ServerError> {
    let problems: Vec<String> = options.check().into_iter().map(|it| it.text).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ServerError::Option(problems.join("; ")))
    }
}

fn listen(options: &Options) -> Result<Listener, ServerError> {
    Listener::bind(&options.host, options.port).map_err(|cause| {
        let addr = with_port(&options.host, options.port);
        ServerError::Listen { addr, cause }
    })
}

/// Opens the monitoring port, if there is to be one.
fn monitor(options: &Options, log: &Logger) -> Result<MonitorListeners, ServerError> {
    let mut listeners = MonitorListeners::default();
    let host = options.http_host.as_deref().unwrap_or(&options.host);
    let plain = options.http_port.map(|port| ("http", port));
    let secure = options.https_port.map(|port| ("https", port));
    for (scheme, port) in plain.into_iter().chain(secure) {
        let bound = listeners.bind(host, port, scheme == "https");
        let addr = bound.map_err(|cause| ServerError::Monitor {
            network: "tcp",
            addr: with_port(host, port),
            cause,
        })?;
        info!(
            log,
            "Starting {scheme} monitor on {}",
            with_port(host, addr.port())
        );
    }
    if let Some(path) = &options.http_socket {
        let bound = listeners.bind_file(path);
        bound.map_err(|cause| ServerError::Monitor {
            network: "unix",
            addr: path.display().to_string(),
            cause,
        })?;
        info!(log, "Starting http monitor on {}", path.display());
    }
    Ok(listeners)
}

/// `host:port`, an IPv6 address in brackets.
fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The socket for other servers, if there is to be a cluster.
fn listen_for_routes(options: &Options) -> Result<Option<Listener>, ServerError> {
    let Some(port) = options.cluster.port else {
        return Ok(None);
    };
    let host = &options.cluster.host;
    let listener = Listener::bind(host, port).map_err(|cause| ServerError::ListenForRoutes {
        port,
        addr: with_port(host, port),
        cause,
    });
    listener.map(Some)
}

/// The name of the cluster, if there is to be one; made up if it has none.
fn cluster_name(options: &Options) -> Option<String> {
    options.cluster.port?;
    let name = options.cluster.name.clone();
    Some(name.unwrap_or_else(id::cluster_name))
}

/// The cores that this process may use.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
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
