//! A non-blocking connection to a syslog server that may be slow, full or gone.
//!
//! Sending never waits. A stream keeps a bounded backlog for what its peer does not take at once; everything beyond is
//! refused, and the caller counts it. A broken connection is made anew, at most once a second.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};

/// Bytes a stream's peer may lag behind.
const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// Time a remote server has to accept the first connection, at start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between attempts to connect anew.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A datagram that its socket finds too long is cut to this.
const DATAGRAM_BYTES_SAFE: usize = 1024;

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    UnixDatagram(PathBuf),
    UnixStream(PathBuf),
}

/// A connection that sends and never waits.
pub(super) struct Outlet {
    peer: Peer,
    socket: Option<OwnedFd>,
    /// The socket is still connecting: it takes nothing yet, and may never.
    is_pending: bool,
    /// Of a stream: lines that the socket has not taken yet; the first may be the rest of one.
    backlog: Vec<u8>,
    /// Lines that were in the backlog when the connection broke.
    lost: u64,
    retry_at: Instant,
}

impl Outlet {
    /// Connects, and waits for that: the server has not started yet.
    pub(super) fn open(peer: Peer) -> io::Result<Outlet> {
        let socket = match &peer {
            Peer::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
            other => connect(other)?,
        };
        Ok(Outlet {
            peer,
            socket: Some(socket),
            is_pending: false,
            backlog: Vec::new(),
            lost: 0,
            retry_at: Instant::now(),
        })
    }

    /// Sends one line; false if it had to be dropped.
    pub(super) fn send(&mut self, line: &[u8]) -> bool {
        match self.peer {
            Peer::Tcp(_) | Peer::UnixStream(_) => self.send_on_stream(line),
            Peer::Udp(_) | Peer::UnixDatagram(_) => self.send_datagram(line),
        }
    }

    /// The number of lines lost after they had been taken, and zero it.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn send_datagram(&mut self, line: &[u8]) -> bool {
        // The second attempt is for a server that was restarted: the first one only tells.
        for _ in 0..2 {
            self.connect_if_due();
            let Some(socket) = &self.socket else {
                return false;
            };
            let mut result = rustix::io::write(socket, line);
            if result == Err(rustix::io::Errno::MSGSIZE) {
                result = rustix::io::write(socket, cut(line, DATAGRAM_BYTES_SAFE));
            }
            match result {
                Ok(_) => return true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.socket = None,
            }
        }
        false
    }

    fn send_on_stream(&mut self, line: &[u8]) -> bool {
        self.connect_if_due();
        // A line that waits for a connection which then fails would be lost uncounted, if it is the one that counts.
        if self.socket.is_none() || self.is_pending {
            return false;
        }
        if self.backlog.len() + line.len() > BACKLOG_BYTES_MAX {
            self.flush();
        }
        // Even the first line may exceed the limit; nothing else is waiting then, and it has a limit of its own.
        if !self.backlog.is_empty() && self.backlog.len() + line.len() > BACKLOG_BYTES_MAX {
            return false;
        }
        self.backlog.extend_from_slice(line);
        self.flush();
        true
    }

    /// Writes as much of the backlog as the socket takes.
    fn flush(&mut self) {
        let mut sent = 0;
        while let (Some(socket), Some(rest)) = (
            &self.socket,
            self.backlog.get(sent..).filter(|rest| !rest.is_empty()),
        ) {
            match rustix::io::write(socket, rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Not connected yet counts as full, too.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    break;
                }
                Err(_) => {
                    let lines = rest.iter().filter(|byte| **byte == b'\n').count();
                    self.lost = self.lost.saturating_add(lines as u64);
                    sent = self.backlog.len();
                    self.socket = None;
                }
            }
        }
        self.backlog.drain(..sent);
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
        }
    }

    fn connect_if_due(&mut self) {
        let now = Instant::now();
        if self.socket.is_none() && now >= self.retry_at {
            self.retry_at = now + RETRY_INTERVAL;
            self.socket = connect(&self.peer).ok();
            self.is_pending = true;
        }
        let Some(socket) = self.socket.as_ref().filter(|_| self.is_pending) else {
            return;
        };
        if rustix::net::getpeername(socket).is_ok() {
            self.is_pending = false;
        } else if !matches!(sockopt::socket_error(socket), Ok(Ok(()))) {
            self.socket = None;
        }
    }
}

/// Begins to connect, without waiting.
fn connect(peer: &Peer) -> io::Result<OwnedFd> {
    match peer {
        Peer::Udp(address) => {
            let local: SocketAddr = match address {
                SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                SocketAddr::V6(_) => ([0u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(local)?;
            socket.connect(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }
        Peer::UnixDatagram(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }
        // The standard library can only connect streams with waiting: to a full backlog, a Unix one waits for ever.
        Peer::Tcp(address) => {
            let family = if address.is_ipv4() {
                AddressFamily::INET
            } else {
                AddressFamily::INET6
            };
            let stream = TcpStream::from(rustix::net::socket(family, SocketType::STREAM, None)?);
            stream.set_nonblocking(true)?;
            begin(rustix::net::connect(&stream, address))?;
            Ok(stream.into())
        }
        Peer::UnixStream(path) => {
            let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(true)?;
            begin(rustix::net::connect(&stream, &SocketAddrUnix::new(path)?))?;
            Ok(stream.into())
        }
    }
}

fn begin(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The first `max` bytes at the most, without half a character at their end.
fn cut(line: &[u8], max: usize) -> &[u8] {
    let mut end = max.min(line.len());
    while end > 0 && line.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    line.get(..end).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_stream_whose_peer_does_not_read_never_waits_and_stays_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outlet = Outlet::open(Peer::Tcp(listener.local_addr().unwrap())).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let taken = (0..40_000).take_while(|_| outlet.send(&line)).count();
        assert!(
            taken < 40_000,
            "the peer never read, and still every line was taken"
        );
        assert!(outlet.backlog.len() <= BACKLOG_BYTES_MAX);
        // Once it reads, what was taken arrives whole and in order.
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut received = 0;
        let mut buffer = vec![0; 65536];
        while received < taken * line.len() {
            received += peer.read(&mut buffer).unwrap();
            outlet.flush();
        }
        assert!(outlet.backlog.is_empty());
        assert!(outlet.send(b"last\n"));
        let count = peer.read(&mut buffer).unwrap();
        assert_eq!(buffer.get(..count).unwrap(), b"last\n");
    }

    #[test]
    fn a_stream_connects_anew_and_counts_what_was_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outlet = Outlet::open(Peer::Tcp(listener.local_addr().unwrap())).unwrap();
        drop(listener.accept().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while outlet.take_lost() == 0 {
            assert!(
                Instant::now() < deadline,
                "the broken connection was never noticed"
            );
            outlet.send(b"into the void\n");
        }
        assert!(outlet.socket.is_none());
        outlet.retry_at = Instant::now();
        while !outlet.send(b"again\n") {
            assert!(
                Instant::now() < deadline,
                "the connection was never made anew"
            );
        }
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut line = [0; 6];
        peer.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"again\n");
    }

    #[test]
    fn lines_are_refused_until_a_connection_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outlet = Outlet::open(Peer::Tcp(listener.local_addr().unwrap())).unwrap();
        drop(listener);
        // Nobody listens any more: however often it tries, it never takes a line.
        outlet.socket = None;
        for _ in 0..10 {
            outlet.retry_at = Instant::now();
            assert!(!outlet.send(b"line\n"));
        }
        assert_eq!(outlet.take_lost(), 0);
    }

    #[test]
    fn a_datagram_socket_finds_a_restarted_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut outlet = Outlet::open(Peer::UnixDatagram(path.clone())).unwrap();
        assert!(outlet.send(b"one\n"));
        drop(server);
        assert!(!outlet.send(b"two\n"), "nobody is there");
        std::fs::remove_file(&path).unwrap();
        let server = UnixDatagram::bind(&path).unwrap();
        assert!(
            !outlet.send(b"three\n"),
            "it is too early for another attempt"
        );
        outlet.retry_at = Instant::now();
        assert!(outlet.send(b"four\n"));
        let mut buffer = [0; 16];
        let count = server.recv(&mut buffer).unwrap();
        assert_eq!(buffer.get(..count).unwrap(), b"four\n");
    }

    #[test]
    fn a_datagram_that_is_too_long_is_cut_between_characters() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut outlet = Outlet::open(Peer::Udp(server.local_addr().unwrap())).unwrap();
        let long = format!("x{}", "ü".repeat(40_000));
        assert!(outlet.send(long.as_bytes()));
        let mut buffer = [0; 2048];
        let count = server.recv(&mut buffer).unwrap();
        assert_eq!(count, DATAGRAM_BYTES_SAFE - 1);
        assert!(std::str::from_utf8(buffer.get(..count).unwrap()).is_ok());
    }
}
