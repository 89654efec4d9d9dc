//! The control thread: accepts connections and hands them to the workers.
//!
//! When descriptors run out, a connection cannot even be refused, and would stay in the system's queue to be reported
//! over and over. A spare descriptor, given up for the moment, lets it be accepted and closed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::mailbox::{Command, Settings};
use super::worker::Shared;
use crate::config::options::Options;
use crate::limits;
use crate::log::{error, warn};
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
}

impl Listener {
    /// Binds to the first address of `host`, a name or an address with or without brackets, that can be had.
    ///
    /// # Errors
    ///
    /// What the system says of the last one.
    pub fn bind(options: &Options) -> io::Result<Listener> {
        let host = options.host.as_str();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "no address");
        for addr in (bare, options.port).to_socket_addrs()? {
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
        // It may have ended already, in which case nobody has to be woken.
        let _ = self.waker.wake();
        true
    }
}

/// The control thread's state.
pub struct Acceptor {
    poll: Poll,
    listener: TcpListener,
    shared: Arc<Shared>,
    control: Arc<Control>,
    connections_max: usize,
    spare: Option<File>,
    last_id: u64,
    /// Descriptors have run out, and the log says so.
    exhausted: bool,
}

impl Acceptor {
    /// An acceptor that has not started, and the way to stop it. `descriptors` is how many the process may open.
    ///
    /// # Errors
    ///
    /// If the system refuses what it needs.
    pub fn new(
        listener: Listener,
        shared: Arc<Shared>,
        settings: &Settings,
        descriptors: usize,
    ) -> io::Result<(Self, Arc<Control>)> {
        let Listener(mut listener) = listener;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), CONTROL)?;
        let control = Arc::new(Control {
            waker,
            stopping: AtomicBool::new(false),
        });
        let possible = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1);
        let wanted = settings.options.max_connections.unwrap_or(usize::MAX);
        if wanted > possible && settings.options.max_connections.is_some() {
            let why = format!("the descriptor limit is {descriptors}");
            warn!(
                shared.log,
                "max_connections of {wanted} lowered to {possible}: {why}"
            );
        }
        let acceptor = Acceptor {
            poll,
            listener,
            shared,
            control: Arc::clone(&control),
            connections_max: wanted.min(possible),
            spare: File::open("/dev/null").ok(),
            last_id: 0,
            exhausted: false,
        };
        Ok((acceptor, control))
    }

    /// Accepts until the server stops.
    ///
    /// # Panics
    ///
    /// If the system refuses to poll, which ends the process.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(8);
        while !self.control.stopping.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    panic!("cannot poll: {error}")
                }
                _ => {}
            }
            if events.iter().any(|event| event.token() == LISTENER) {
                self.accept_all();
            }
        }
    }

    fn accept_all(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((socket, addr)) => self.place(socket, addr),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_exhaustion(&error) => {
                    if !self.shed(&error) {
                        return;
                    }
                }
                // The peer was gone before it was accepted, or a signal came.
                Err(_) => {}
            }
        }
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
        let session = Box::new(Client::new(self.last_id, addr));
        let refuse = (all >= self.connections_max).then_some(CloseReason::Connections);
        if refuse.is_some() {
            error!(self.shared.log, "{session} - maximum connections exceeded");
        }
        // Small messages must not wait for an acknowledgement of earlier ones. Without it all works, only later.
        let _ = socket.set_nodelay(true);
        self.shared.connections[worker].fetch_add(1, Ordering::Relaxed);
        self.shared.mailboxes[worker].command(Command::Adopt {
            socket,
            session,
            refuse,
        });
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
        let shed = self.listener.accept().is_ok();
        self.spare = File::open("/dev/null").ok();
        had_spare && shed
    }
}

/// Whether the process or the system has run out of descriptors or memory for sockets.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|one| errno == Some(one.raw_os_error()))
}
