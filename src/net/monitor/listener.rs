//! Where the monitoring port listens: TCP, and a socket of the file system.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::FIRST_TOKEN;

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
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl MonitorListeners {
    /// Listens at a host, a name or an address with or without brackets.
    ///
    /// # Errors
    ///
    /// What the system says of the last of its addresses.
    pub fn bind(&mut self, host: &str, port: u16) -> io::Result<SocketAddr> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "no address");
        for addr in (bare.unwrap_or(host), port).to_socket_addrs()? {
            match TcpListener::bind(addr) {
                Ok(listener) => {
                    let addr = listener.local_addr()?;
                    self.list.push(Listener::Tcp(listener));
                    self.addrs.http = Some(addr);
                    return Ok(addr);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Listens at a socket in the file system. One that a server left behind is replaced, one that answers is not.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn bind_file(&mut self, path: &Path) -> io::Result<()> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
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
                Listener::Tcp(listener) => listener,
                Listener::Unix(listener) => listener,
            };
            registry.register(source, Token(at), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The next connection of a listener, if one waits.
    pub(super) fn accept(&self, at: usize) -> Option<Stream> {
        loop {
            let accepted = match self.list.get(at)? {
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| {
                    // Without it all works, only later.
                    let _ = stream.set_nodelay(true);
                    Stream::Tcp(stream)
                }),
                Listener::Unix(listener) => {
                    listener.accept().map(|(stream, _)| Stream::Unix(stream))
                }
            };
            match accepted {
                Ok(stream) => return Some(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Without descriptors it stays in the system's queue, and comes with the next event.
                Err(_) => return None,
            }
        }
    }
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
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    /// Closes our side.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
