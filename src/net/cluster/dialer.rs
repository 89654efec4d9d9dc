//! Opens connections without waiting for any: names are looked up by helper threads, and sockets connect by themselves.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::{DIALS, Happening};
use crate::config::options::RouteUrl;
use crate::log::debug;
use crate::net::shared::Shared;

/// Time for an attempt on one address.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Names that are looked up at a time.
const LOOKUPS_MAX: usize = 64;

/// An attempt on one address, with those that come after it.
struct Attempt {
    /// Host and port, as they were given.
    name: String,
    socket: TcpStream,
    addr: SocketAddr,
    rest: Vec<SocketAddr>,
    until: Instant,
    /// The socket has something to say.
    is_ready: bool,
}

/// What came of an attempt: a connection, or the reason why there is none.
type Outcome = Result<(TcpStream, SocketAddr), String>;

/// See the module's documentation.
pub(super) struct Dialer {
    shared: Arc<Shared>,
    attempts: HashMap<u64, Attempt>,
    outcomes: Vec<(u64, Outcome)>,
    /// Lookups under way: host and port, as they were given.
    lookups: HashMap<u64, String>,
    /// Registrations go by the attempts' numbers, which do not come again for a while.
    registry: Option<Registry>,
}

impl Dialer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Dialer {
            shared,
            attempts: HashMap::new(),
            outcomes: Vec::new(),
            lookups: HashMap::new(),
            registry: None,
        }
    }

    /// Starts an attempt.
    pub(super) fn dial(&mut self, dial: u64, url: &RouteUrl, registry: &Registry, now: Instant) {
        let name = format!("{}:{}", url.host, url.port);
        if let Ok(ip) = url.host.parse::<IpAddr>() {
            return self.connect((dial, name), vec![(ip, url.port).into()], registry, now);
        }
        if self.lookups.len() >= LOOKUPS_MAX {
            let error = "too many names are being looked up".into();
            return self.outcomes.push((dial, Err(error)));
        }
        let (shared, host, port) = (Arc::clone(&self.shared), url.host.clone(), url.port);
        let body = move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let result = found.map(|it| it.take(ADDRESSES_MAX).collect());
            shared.desk.post(Happening::Resolved { dial, result });
        };
        match thread::Builder::new().name("resolver".into()).spawn(body) {
            Ok(_) => drop(self.lookups.insert(dial, name)),
            Err(error) => self.outcomes.push((dial, Err(error.to_string()))),
        }
    }

    /// A name was looked up.
    pub(super) fn on_resolved(
        &mut self,
        dial: u64,
        result: io::Result<Vec<SocketAddr>>,
        registry: &Registry,
        now: Instant,
    ) {
        let Some(name) = self.lookups.remove(&dial) else {
            return;
        };
        match result {
            Ok(addrs) => self.connect((dial, name), addrs, registry, now),
            Err(error) => self.outcomes.push((dial, Err(error.to_string()))),
        }
    }

    fn connect(
        &mut self,
        (dial, name): (u64, String),
        mut addrs: Vec<SocketAddr>,
        registry: &Registry,
        now: Instant,
    ) {
        if self.registry.is_none() {
            self.registry = registry.try_clone().ok();
        }
        let mut last = String::from("no address");
        while !addrs.is_empty() {
            let addr = addrs.remove(0);
            let log = &self.shared.log;
            debug!(log, "Trying to connect to route on {name} ({addr})");
            let socket = TcpStream::connect(addr).and_then(|mut socket| {
                registry.register(&mut socket, token(dial), Interest::WRITABLE)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => {
                    let attempt = Attempt {
                        name,
                        socket,
                        addr,
                        rest: addrs,
                        until: now + TIMEOUT,
                        is_ready: false,
                    };
                    self.attempts.insert(dial, attempt);
                    return;
                }
                Err(error) => last = error.to_string(),
            }
        }
        self.outcomes.push((dial, Err(last)));
    }

    /// A socket has something to say.
    pub(super) fn on_writable(&mut self, at: Token) {
        for (_, attempt) in self
            .attempts
            .iter_mut()
            .filter(|(dial, _)| token(**dial) == at)
        {
            attempt.is_ready = true;
        }
    }

    /// When the next attempt has taken too long.
    pub(super) fn next(&self) -> Option<Instant> {
        let until = self.attempts.values().map(|it| it.until).min();
        match self.outcomes.is_empty() {
            true => until,
            false => Some(Instant::now()),
        }
    }

    /// The attempts that have come to an end.
    pub(super) fn finished(&mut self, now: Instant) -> Vec<(u64, Outcome)> {
        let is_over = |it: &Attempt| it.is_ready || it.until <= now;
        let all = self.attempts.iter();
        let over: Vec<u64> = all
            .filter(|(_, it)| is_over(it))
            .map(|(dial, _)| *dial)
            .collect();
        for dial in over {
            let Some(mut attempt) = self.attempts.remove(&dial) else {
                continue;
            };
            let error = match attempt.socket.take_error() {
                Ok(None) if attempt.is_ready => match attempt.socket.peer_addr() {
                    Ok(_) => None,
                    Err(error) if attempt.until > now && is_pending(&error) => {
                        attempt.is_ready = false;
                        self.attempts.insert(dial, attempt);
                        continue;
                    }
                    Err(error) => Some(error.to_string()),
                },
                Ok(Some(error)) | Err(error) => Some(error.to_string()),
                Ok(None) => Some("timed out".into()),
            };
            let registry = self.registry.as_ref().and_then(|it| it.try_clone().ok());
            if let Some(registry) = &registry {
                // It goes to another poll, or nowhere.
                let _ = registry.deregister(&mut attempt.socket);
            }
            match (error, registry) {
                (None, _) => self
                    .outcomes
                    .push((dial, Ok((attempt.socket, attempt.addr)))),
                (Some(_), Some(registry)) if !attempt.rest.is_empty() => {
                    self.connect((dial, attempt.name), attempt.rest, &registry, now);
                }
                (Some(error), _) => self.outcomes.push((dial, Err(error))),
            }
        }
        std::mem::take(&mut self.outcomes)
    }
}

/// Whether it is not known yet.
fn is_pending(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

/// The token of an attempt's socket.
fn token(dial: u64) -> Token {
    const TOKENS: u64 = 1 << 20;
    Token(DIALS + usize::try_from(dial % TOKENS).unwrap_or(0))
}
