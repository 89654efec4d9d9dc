//! The control thread: accepts connections and hands them to the workers.
//!
//! When descriptors run out, a connection cannot even be refused, and would stay in the system's queue to be reported
//! over and over. A spare descriptor, given up for the moment, lets it be accepted and closed. What comes to the other
//! ports, those for routes and for monitoring, stays in the queue: no event tells of it again, so that it is looked for
//! after a while.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::addresses::{Network, Place};
use super::cluster::{self, Cluster};
use super::mailbox::{Arrival, Command, Settings};
use super::monitor::{Monitor, MonitorListeners};
use super::shared::Shared;
use crate::id;
use crate::limits;
use crate::log::{error, info, warn};
use crate::monitor::snapshot::Answer;
use crate::monitor::system::SystemRequest;
use crate::rng::Rng;
use crate::session::{Client, CloseReason};

const LISTENER: Token = Token(0);
const CONTROL: Token = Token(1);
/// Descriptors that are not for clients: standard streams, log, epoll and wake-ups, listeners, files being read.
const DESCRIPTORS_RESERVED: usize = 32;

/// A bound socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// What the control thread is told.
#[derive(Debug)]
pub struct Control {
    waker: Waker,
    stopping: AtomicBool,
    orders: Mutex<Vec<(Order, Sender<()>)>>,
    /// What workers have found out: the job, the worker and the answer.
    answers: Mutex<Vec<(u64, usize, Answer)>>,
    /// Connections to the monitoring port that have been put off.
    nudges: Mutex<Vec<u64>>,
    /// Requests to the server over its own protocol.
    requests: Mutex<Vec<SystemRequest>>,
    reloader: OnceLock<Reloader>,
    /// Those who want the configuration to be read again.
    reload_askers: Mutex<Vec<ReloadAsker>>,
}

/// Who wants to know what came of a reload: the account, and where the answer goes.
pub type ReloadAsker = (u32, Vec<u8>);

/// What has the configuration read again.
struct Reloader(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloader")
    }
}

#[derive(Debug)]
enum Order {
    CloseListener,
    Settings(Arc<Settings>),
    AnswerReloads(Vec<ReloadAsker>, Result<(), String>),
}

/// What the control thread does again and again to show that it and the workers are alive.
pub struct Heartbeat {
    /// The time between two beats.
    pub interval: Duration,
    /// One beat.
    pub beat: Box<dyn FnMut() + Send>,
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Heartbeat every {:?}", self.interval)
    }
}

impl Listener {
    /// Binds to the first address of `host`, a name or an address with or without brackets, that can be had.
    ///
    /// # Errors
    ///
    /// What the system says of the last one.
    pub fn bind(host: &str, port: u16) -> io::Result<Listener> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "no address");
        for addr in (bare, port).to_socket_addrs()? {
            match TcpListener::bind(addr) {
                Ok(listener) => return Ok(Listener(listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The address it got.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Control {
    /// Stops the control thread; false if that was done before.
    pub fn stop(&self) -> bool {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.look();
        true
    }

    /// Stops accepting. Whoever connects after this is refused by the system.
    pub fn close_listener(&self) {
        self.order(Order::CloseListener);
    }

    /// Goes over to other limits. Connections beyond them are on their way out after this.
    pub fn settings(&self, settings: Arc<Settings>) {
        self.order(Order::Settings(settings));
    }

    /// Sets what has the configuration read again when the system account asks for it. Only the first one counts.
    pub fn set_reloader(&self, reload: impl Fn() + Send + Sync + 'static) {
        let _ = self.reloader.set(Reloader(Box::new(reload)));
    }

    /// Takes those who have asked for the reload that begins now.
    #[must_use]
    pub fn take_reload_askers(&self) -> Vec<ReloadAsker> {
        mem::take(&mut *self.reload_askers())
    }

    /// Tells them what came of it.
    pub fn answer_reloads(&self, askers: Vec<ReloadAsker>, outcome: Result<(), String>) {
        if !askers.is_empty() {
            self.order(Order::AnswerReloads(askers, outcome));
        }
    }

    /// Has the configuration read again.
    ///
    /// # Errors
    ///
    /// The asker, if nothing can do that.
    pub(super) fn ask_for_reload(&self, asker: ReloadAsker) -> Result<(), ReloadAsker> {
        let Some(Reloader(reload)) = self.reloader.get() else {
            return Err(asker);
        };
        self.reload_askers().push(asker);
        reload();
        Ok(())
    }

    fn reload_askers(&self) -> MutexGuard<'_, Vec<ReloadAsker>> {
        let askers = self.reload_askers.lock();
        askers.expect("no thread panics and lives on")
    }

    /// Brings a worker's answer to a question of the monitoring port.
    pub(super) fn answer(&self, job: u64, worker: usize, answer: Answer) {
        let answers = self.answers.lock();
        let answers = &mut *answers.expect("no thread panics and lives on");
        answers.push((job, worker, answer));
        self.look();
    }

    /// Has a request answered. One too many is not: whoever asks so much has to ask again.
    pub(super) fn request(&self, request: SystemRequest) {
        let requests = self.requests.lock();
        let requests = &mut *requests.expect("no thread panics and lives on");
        if requests.len() < limits::SYSTEM_REQUESTS_MAX {
            requests.push(request);
            self.look();
        }
    }

    /// Has the control thread look whether there is anything to do.
    pub(super) fn look(&self) {
        // It may have ended already, in which case nobody has to be woken.
        let _ = self.waker.wake();
    }

    /// Has a connection to the monitoring port served in the next turn.
    pub(super) fn nudge(&self, key: u64) {
        let nudges = self.nudges.lock();
        nudges.expect("no thread panics and lives on").push(key);
        self.look();
    }

    /// Takes the connections that have been put off.
    pub(super) fn take_nudges(&self) -> Vec<u64> {
        let nudges = self.nudges.lock();
        mem::take(&mut *nudges.expect("no thread panics and lives on"))
    }

    /// Gives an order, and waits until it is carried out, or nobody is left to do so.
    fn order(&self, order: Order) {
        let (done, is_done) = mpsc::channel();
        {
            let mut orders = self.orders();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            orders.push((order, done));
        }
        self.look();
        // An error is the end of the control thread, which carries nothing out any more.
        let _ = is_done.recv();
    }

    fn orders(&self) -> MutexGuard<'_, Vec<(Order, Sender<()>)>> {
        self.orders.lock().expect("no thread panics and lives on")
    }
}

/// The control thread's state.
pub struct Acceptor {
    poll: Poll,
    /// Absent once nobody is to be accepted any more.
    listener: Option<TcpListener>,
    /// The cluster, if this server is to be in one.
    cluster: Option<Cluster>,
    shared: Arc<Shared>,
    control: Arc<Control>,
    settings: Arc<Settings>,
    /// Descriptors that the process may open.
    descriptors: usize,
    connections_max: usize,
    heartbeat: Option<Heartbeat>,
    spare: Option<File>,
    last_id: u64,
    /// When to look for connections that were left in a queue for want of a descriptor.
    accept_at: Option<Instant>,
    /// Descriptors have run out, and the log says so.
    exhausted: bool,
    monitor: Monitor,
}

impl Acceptor {
    /// An acceptor that has not started, and the way to stop it. `descriptors` is how many the process may open.
    ///
    /// # Errors
    ///
    /// If the system refuses what it needs.
    pub fn new(
        listener: Listener,
        monitors: MonitorListeners,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        descriptors: usize,
        heartbeat: Option<Heartbeat>,
    ) -> io::Result<(Self, Arc<Control>)> {
        let Listener(mut listener) = listener;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), CONTROL)?;
        let control = Arc::new(Control {
            waker,
            stopping: AtomicBool::new(false),
            orders: Mutex::default(),
            answers: Mutex::default(),
            nudges: Mutex::default(),
            requests: Mutex::default(),
            reloader: OnceLock::new(),
            reload_askers: Mutex::default(),
        });
        // Nobody else sets it.
        let _ = shared.control.set(Arc::clone(&control));
        let monitor = Monitor::new(
            monitors,
            poll.registry(),
            Arc::clone(&shared),
            Arc::clone(&settings),
            Arc::clone(&control),
            descriptors,
        )?;
        let mut acceptor = Acceptor {
            poll,
            listener: Some(listener),
            cluster: None,
            shared,
            control: Arc::clone(&control),
            settings,
            descriptors,
            connections_max: 0,
            heartbeat,
            spare: File::open("/dev/null").ok(),
            last_id: 0,
            accept_at: None,
            exhausted: false,
            monitor,
        };
        acceptor.shared.desk.open(Arc::clone(&control));
        acceptor.limit_connections();
        Ok((acceptor, control))
    }

    /// Has it look after a cluster with this name, whose servers come to `listener`.
    ///
    /// # Errors
    ///
    /// If the system refuses what that needs.
    pub fn join_cluster(&mut self, listener: Listener, name: String) -> io::Result<()> {
        let (shared, settings) = (Arc::clone(&self.shared), Arc::clone(&self.settings));
        let registry = self.poll.registry();
        let cluster = Cluster::new(listener.0, name, shared, settings, registry)?;
        self.cluster = Some(cluster);
        Ok(())
    }

    /// Accepts until the server stops.
    ///
    /// # Panics
    ///
    /// If the system refuses to poll, which ends the process.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut next_beat = Instant::now();
        while !self.control.stopping.load(Ordering::SeqCst) {
            let beat_in = self.heartbeat.as_mut().map(|heartbeat| {
                let now = Instant::now();
                if next_beat <= now {
                    next_beat = now + beat(heartbeat, &self.shared);
                }
                next_beat - now
            });
            let due = self.monitor.next_deadline();
            let due = due.map(|at| at.saturating_duration_since(Instant::now()));
            let cluster_at = self.cluster.as_ref().and_then(Cluster::next);
            let cluster_in = cluster_at.map(|at| at.saturating_duration_since(Instant::now()));
            let accept_in = self.accept_at;
            let accept_in = accept_in.map(|at| at.saturating_duration_since(Instant::now()));
            let timeouts = [beat_in, cluster_in, due, accept_in];
            let timeout = timeouts.into_iter().flatten().min();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    panic!("cannot poll: {error}")
                }
                _ => {}
            }
            self.accept_everywhere(&events);
            for event in &events {
                self.monitor.on_event(event);
            }
            self.look_after_cluster(&events);
            self.obey();
            self.serve_monitor();
        }
        self.monitor.announce_shutdown();
        // Whoever waits for an order to be carried out need not any longer.
        self.control.orders().clear();
    }

    /// Accepts what these events tell of at each port, and what was left in the queues if that is due.
    fn accept_everywhere(&mut self, events: &Events) {
        let now = Instant::now();
        let is_due = self.accept_at.take_if(|at| *at <= now).is_some();
        let has_come = |token| is_due || events.iter().any(|event| event.token() == token);
        let mut is_short = has_come(LISTENER) && !self.accept_all();
        if has_come(cluster::LISTENER) {
            if let Some(cluster) = &mut self.cluster {
                is_short |= !cluster.accept_all(&mut self.last_id);
            }
        }
        let registry = self.poll.registry();
        is_short |= !self.monitor.accept_everywhere(registry, has_come);
        if is_short {
            self.accept_at = Some(now + limits::ACCEPT_PAUSE);
        }
    }

    /// Gives the monitoring port what came for it.
    fn serve_monitor(&mut self) {
        let take = "no thread panics and lives on";
        let nudges = self.control.take_nudges();
        let answers = mem::take(&mut *self.control.answers.lock().expect(take));
        let requests = mem::take(&mut *self.control.requests.lock().expect(take));
        if let Some(cluster) = &mut self.cluster {
            if cluster.take_changed() {
                self.monitor.see_cluster(cluster.facts(), cluster.remotes());
            }
        }
        self.monitor.on_requests(requests);
        self.monitor.on_nudges(nudges);
        self.monitor.on_answers(answers);
        self.monitor.tick(Instant::now());
    }

    fn look_after_cluster(&mut self, events: &Events) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for event in events {
            if event.token().0 >= cluster::DIALS {
                cluster.on_writable(event.token());
            }
        }
        cluster.tick(self.poll.registry(), &mut self.last_id);
    }

    fn obey(&mut self) {
        let orders = mem::take(&mut *self.control.orders());
        for (order, done) in orders {
            match order {
                Order::AnswerReloads(askers, outcome) => {
                    self.monitor.answer_reloads(askers, outcome);
                }
                Order::CloseListener => {
                    self.listener = None;
                    self.monitor.set_closing();
                }
                Order::Settings(settings) => {
                    let ducks = settings.info.lame_duck && !self.settings.info.lame_duck;
                    self.monitor.set_settings(Arc::clone(&settings));
                    if ducks {
                        self.monitor.announce_lame_duck();
                    }
                    if let Some(cluster) = &mut self.cluster {
                        cluster.go_over(Arc::clone(&settings));
                        if ducks {
                            cluster.announce_lame_duck();
                        }
                    }
                    let old = mem::replace(&mut self.settings, settings);
                    let now = self.settings.options.max_connections;
                    if old.options.max_connections != now {
                        self.limit_connections();
                        self.close_surplus();
                    }
                }
            }
            // Whoever gave it may have lost interest.
            let _ = done.send(());
        }
    }

    /// Connections that there are descriptors for.
    fn connections_possible(&self) -> usize {
        self.descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1)
    }

    /// Works out how many connections there may be.
    fn limit_connections(&mut self) {
        let possible = self.connections_possible();
        self.connections_max = possible;
        if let Some(wanted) = self.settings.options.max_connections {
            self.connections_max = wanted.min(possible);
            if wanted > possible {
                let why = format!("the descriptor limit is {}", self.descriptors);
                warn!(
                    self.shared.log,
                    "max_connections of {wanted} lowered to {possible}: {why}"
                );
            }
        }
    }

    /// Closes connections that there may not be any longer.
    fn close_surplus(&self) {
        let count = self.shared.connection_count();
        let surplus = count.saturating_sub(self.connections_max);
        if surplus > 0 {
            let mut rng = Rng::seeded(id::seed());
            self.shared
                .close_some(surplus, CloseReason::Connections, &mut rng);
            info!(
                self.shared.log,
                "Closed {surplus} connections to fall within max_connections"
            );
        }
    }

    /// Accepts all connections of clients; false if some had to be left in the queue.
    fn accept_all(&mut self) -> bool {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((socket, addr)) => self.place(socket, addr),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if is_exhaustion(&error) => {
                    if !self.shed(&error) {
                        return false;
                    }
                }
                // The peer was gone before it was accepted, or a signal came.
                Err(_) => {}
            }
        }
        true
    }

    /// Gives a connection to the worker that has the fewest, by blocks.
    fn place(&mut self, socket: TcpStream, addr: SocketAddr) {
        self.exhausted = false;
        let counts = self
            .shared
            .connections
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let all: usize = counts.clone().sum();
        let Some((worker, _)) = counts
            .enumerate()
            .min_by_key(|&(_, count)| count / limits::CONNECTIONS_TOGETHER)
        else {
            return;
        };
        self.last_id += 1;
        self.monitor.count_accepted();
        let session = Box::new(Client::new(self.last_id, addr));
        let parting = self.shared.parting.load(Ordering::Relaxed);
        let is_full = all >= self.connections_max || all + parting >= self.connections_possible();
        let admitted = if is_full {
            error!(self.shared.log, "{session} - maximum connections exceeded");
            Err(CloseReason::Connections)
        } else if self.is_short_of_memory() {
            let text = "memory limit exceeded, no new connections";
            error!(self.shared.log, "{session} - {text}");
            Err(CloseReason::Connections)
        } else {
            self.admit(&session)
        };
        let refuse = admitted.as_ref().err().copied();
        let (worker, count) = match refuse {
            None => (worker, &self.shared.connections[worker]),
            // It takes up nobody's place, but a descriptor for a moment.
            Some(_) => (self.turn_of(self.last_id), &self.shared.parting),
        };
        count.fetch_add(1, Ordering::Relaxed);
        // Small messages must not wait for an acknowledgement of earlier ones. Without it all works, only later.
        let _ = socket.set_nodelay(true);
        self.shared.mailboxes[worker].command(Command::Adopt {
            socket,
            session: Arrival::Client(session),
            refuse,
            place: admitted.ok().flatten(),
        });
    }

    /// The worker whose turn it is with a connection of this number, if all take turns.
    fn turn_of(&self, id: u64) -> usize {
        let workers = self.shared.mailboxes.len() as u64;
        usize::try_from(id % workers.max(1)).unwrap_or(0)
    }

    /// Sees to the limits of the address that a connection comes from.
    fn admit(&self, session: &Client) -> Result<Option<Place>, CloseReason> {
        let limits = &self.settings.options.address_limits;
        if !limits.is_on() {
            return Ok(None);
        }
        let addr = session.addr().ip();
        let addresses = self.shared.addresses.lock();
        let mut addresses = addresses.expect("no thread panics and lives on");
        let excess = match addresses.admit(addr, limits, Instant::now()) {
            Ok(place) => return Ok(Some(place)),
            Err(excess) => excess,
        };
        drop(addresses);
        self.shared.address_refusals.fetch_add(1, Ordering::Relaxed);
        if let Some(untold) = excess.untold {
            let text = excess.reason.wire_text().unwrap_or_default();
            let (network, log) = (Network::of(addr), &self.shared.log);
            error!(log, "{session} - {text}: {network}, {untold} refused");
        }
        Err(excess.reason)
    }

    fn is_short_of_memory(&self) -> bool {
        let limit = self.settings.options.memory_limit;
        limit.is_some_and(|limit| self.shared.buffered_bytes() > limit)
    }

    /// Accepts one connection on the spare descriptor, to close it; false if even that cannot be done.
    fn shed(&mut self, cause: &io::Error) -> bool {
        if !self.exhausted {
            self.exhausted = true;
            error!(
                self.shared.log,
                "Cannot accept connections: {cause}; closing new ones until descriptors are free"
            );
        }
        let had_spare = self.spare.take().is_some();
        let listener = self.listener.as_ref();
        let shed = listener.is_some_and(|listener| listener.accept().is_ok());
        self.spare = File::open("/dev/null").ok();
        had_spare && shed
    }
}

/// Beats if all workers have answered since the last time, and asks them again; gives the time to the next attempt.
fn beat(heartbeat: &mut Heartbeat, shared: &Shared) -> Duration {
    /// Looks at a worker that is late, in the time between two beats.
    const LOOKS: u32 = 4;
    if !shared.pulse.is_regular() {
        return heartbeat.interval / LOOKS;
    }
    (heartbeat.beat)();
    for mailbox in &shared.mailboxes {
        mailbox.command(Command::Beat);
    }
    heartbeat.interval
}

/// Whether the process or the system has run out of descriptors or memory for sockets.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|one| errno == Some(one.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Options;
    use crate::net::fixture;
    use crate::net::worker::Worker;

    /// An acceptor, a worker, and what they share.
    fn acceptor(options: Options) -> (Acceptor, Worker, Arc<Shared>) {
        let (mut polls, shared) = fixture::shared(1);
        let settings = fixture::settings(options);
        let listener = Listener::bind("127.0.0.1", 0).expect("a port");
        let acceptor = Acceptor::new(
            listener,
            MonitorListeners::default(),
            Arc::clone(&shared),
            Arc::clone(&settings),
            64,
            None,
        );
        let (acceptor, _) = acceptor.expect("a control thread");
        let worker = Worker::new(0, polls.remove(0), Arc::clone(&shared), settings, 1);
        (acceptor, worker, shared)
    }

    /// The peer of a connection that was accepted.
    fn accepted(acceptor: &mut Acceptor) -> std::net::TcpStream {
        let listener = acceptor.listener.as_ref().expect("a listener");
        let addr = listener.local_addr().expect("its address");
        let peer = std::net::TcpStream::connect(addr).expect("a connection");
        let (mut events, last_id) = (Events::with_capacity(8), acceptor.last_id);
        while acceptor.last_id == last_id {
            let wait = Some(Duration::from_secs(10));
            acceptor.poll.poll(&mut events, wait).expect("an event");
            acceptor.accept_all();
        }
        peer
    }

    #[test]
    fn whoever_is_refused_takes_up_nobodys_place() {
        let (mut acceptor, worker, shared) = acceptor(Options {
            max_connections: Some(1),
            ..Options::default()
        });
        let peers = [(); 3].map(|()| accepted(&mut acceptor));
        let counts = || {
            (
                shared.connection_count(),
                shared.parting.load(Ordering::Relaxed),
            )
        };
        assert_eq!(counts(), (1, 2));
        drop(peers);
        shared.mailboxes[0].command(Command::Stop);
        worker.run();
        assert_eq!(counts(), (0, 0));
    }
}
