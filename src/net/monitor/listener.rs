//! Where the monitoring port listens: TCP, and a socket of the file system.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::FIRST_TOKEN;
use crate::net::acceptor::is_exhaustion;
use crate::net::tls::TlsServer;
use crate::net::transport::{Inflow, Scratch, Transport};

/// All places where the monitoring port listens.
#[derive(Debug, Default)]
pub struct MonitorListeners {
    list: Vec<Listener>,
    /// The file of the socket, to be removed at the end.
    file: Option<PathBuf>,
    addrs: MonitorAddrs,
}

/// The addresses of the monitoring port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MonitorAddrs {
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<SocketAddr>,
}

#[derive(Debug)]
enum Listener {
    /// Whether it is HTTPS.
    Tcp(TcpListener, bool),
    Unix(UnixListener),
}

/// A connection's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(Transport),
    Unix(UnixStream),
}

impl MonitorListeners {
    /// Listens at a host, with or without TLS: a name or an address with or without brackets.
    ///
    /// # Errors
    ///
    /// What the system says of the last of its addresses.
    pub fn bind(&mut self, host: &str, port: u16, is_tls: bool) -> io::Result<SocketAddr> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "no address");
        for addr in (bare.unwrap_or(host), port).to_socket_addrs()? {
            match TcpListener::bind(addr) {
                Ok(listener) => {
                    let addr = listener.local_addr()?;
                    self.list.push(Listener::Tcp(listener, is_tls));
                    if is_tls {
                        self.addrs.https = Some(addr);
                    } else {
                        self.addrs.http = Some(addr);
                    }
                    return Ok(addr);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Listens at a socket in the file system. One that a server left behind is replaced; one that answers is not, nor
    /// what is no socket.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn bind_file(&mut self, path: &Path) -> io::Result<()> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !is_left_behind(path) {
                    return Err(error);
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            other => other?,
        };
        self.list.push(Listener::Unix(listener));
        self.file = Some(path.to_owned());
        Ok(())
    }

    /// Whether nobody can ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The addresses that it listens at.
    #[must_use]
    pub fn addrs(&self) -> MonitorAddrs {
        self.addrs
    }

    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (listener, at) in self.list.iter_mut().zip(FIRST_TOKEN..) {
            let source: &mut dyn Source = match listener {
                Listener::Tcp(listener, _) => listener,
                Listener::Unix(listener) => listener,
            };
            registry.register(source, Token(at), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The next connection of a listener, if one waits, and whether it is to speak TLS.
    ///
    /// # Errors
    ///
    /// If there is no descriptor for it: it stays in the system's queue.
    pub(super) fn accept(&self, at: usize) -> io::Result<Option<(Stream, bool)>> {
        loop {
            let Some(listener) = self.list.get(at) else {
                return Ok(None);
            };
            let accepted = match listener {
                Listener::Tcp(listener, is_tls) => listener.accept().map(|(stream, _)| {
                    // Without it all works, only later.
                    let _ = stream.set_nodelay(true);
                    (Stream::Tcp(Transport::plain(stream)), *is_tls)
                }),
                Listener::Unix(listener) => {
                    let accepted = listener.accept();
                    accepted.map(|(stream, _)| (Stream::Unix(stream), false))
                }
            };
            match accepted {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_exhaustion(&error) => return Err(error),
                // The peer was gone before it was accepted, or a signal came.
                Err(_) => {}
            }
        }
    }
}

/// Whether there is a socket at which nobody listens any more.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let connected = std::os::unix::net::UnixStream::connect(path);
    is_socket && connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Drop for MonitorListeners {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            // Somebody may have removed it before.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Stream {
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(transport) => transport.socket(),
            Stream::Unix(stream) => stream,
        }
    }

    /// Closes our side.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(transport) => transport.finish(),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Looks at the first byte that comes, which tells a handshake from a request.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        let mut first = [0];
        match self {
            Stream::Tcp(transport) => {
                let len = transport.socket().peek(&mut first)?;
                Ok(first.first().copied().filter(|_| len > 0))
            }
            Stream::Unix(_) => Ok(None),
        }
    }

    /// Speaks TLS from now on.
    pub(super) fn start_tls(&mut self, tls: &TlsServer) -> io::Result<()> {
        match self {
            Stream::Tcp(transport) => transport.accept(tls),
            Stream::Unix(_) => Ok(()),
        }
    }

    /// Whether nothing can be written yet.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tcp(transport) if transport.is_handshaking())
    }

    /// Whether bytes that count as written wait for the socket.
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Stream::Tcp(transport) if transport.wants_write())
    }

    /// Reads once, into a buffer of [`READ_BYTES`].
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Inflow> {
        match self {
            Stream::Tcp(transport) => transport.read(buffer, usize::MAX),
            Stream::Unix(stream) => match stream.read(buffer)? {
                0 => Ok(Inflow::End),
                len => Ok(Inflow::Bytes { len, more: true }),
            },
        }
    }

    /// Reads to throw away what comes behind our end, whatever it is: false if the peer is done.
    pub(super) fn drain(&mut self) -> io::Result<bool> {
        match self {
            Stream::Tcp(transport) => transport.drain(),
            Stream::Unix(stream) => Ok(stream.read(&mut [0; 4096])? > 0),
        }
    }

    /// Writes once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(transport) => transport.write([bytes].into_iter(), &mut Scratch::default()),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    /// Writes what waits for the socket.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(transport) => transport.flush(&mut Scratch::default()),
            Stream::Unix(_) => Ok(()),
        }
    }
}

/// Bytes that a buffer for [`Stream::read`] must have.
pub(super) const READ_BYTES: usize = Transport::READ_BYTES_MIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("midge.sock");
        let bind = || {
            let mut listeners = MonitorListeners::default();
            listeners.bind_file(&path).map(|()| listeners)
        };
        drop(UnixListener::bind(&path).unwrap());
        let listeners = bind().unwrap();
        assert_eq!(bind().unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listeners);
        assert!(!path.exists());
        std::fs::write(&path, "a text").unwrap();
        assert_eq!(bind().unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a text");
    }
}
