//! How bytes reach the server: one implementation of [`Wire`] per transport.
//!
//! Everything above reads and writes through the trait, so a further transport is a variant of [`Transport`] and the
//! type it dials.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::net::sockopt::{self, Timeout};

use crate::tls::{self, Tls};

/// A connected byte stream over a socket that mio can watch.
///
/// Blocking at first, for the handshake; [`set_nonblocking`] changes it for a poll loop.
pub(crate) trait Wire: Read + Write + Send {
    /// The socket underneath, to register and to configure.
    fn socket(&mut self) -> &mut TcpStream;

    /// Whether a read of `count` bytes into `room` shows that nothing is left, so that the next readiness event is
    /// sure to come. If false the reader goes on until it would block.
    fn is_drained(&self, count: usize, room: usize) -> bool;
}

/// What a connection of a workload runs over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// Bare TCP.
    Plain,
    /// TLS 1.3, after an INFO in clear.
    Tls,
}

impl Transport {
    /// Connects, waiting as long as it takes.
    pub(crate) fn dial(self, address: SocketAddr) -> io::Result<Box<dyn Wire>> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Left in blocking mode on purpose: mio does not care until it is registered.
        let stream = TcpStream::from_std(stream);
        match self {
            Transport::Plain => Ok(Box::new(Plain(stream))),
            Transport::Tls => Ok(Box::new(Tls::connect(stream)?)),
        }
    }

    /// What the server's command line needs besides address and port.
    pub(crate) fn server_args(self) -> &'static [&'static str] {
        match self {
            Transport::Plain => &[],
            Transport::Tls => tls::SERVER_ARGS,
        }
    }
}

/// Switches between waiting calls and `WouldBlock`.
pub(crate) fn set_nonblocking(wire: &mut dyn Wire, is_nonblocking: bool) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(wire.socket(), is_nonblocking)?)
}

/// Bounds how long a blocking read waits.
pub(crate) fn set_read_timeout(wire: &mut dyn Wire, timeout: Duration) -> io::Result<()> {
    Ok(sockopt::set_socket_timeout(
        wire.socket(),
        Timeout::Recv,
        Some(timeout),
    )?)
}

/// Bare TCP.
struct Plain(TcpStream);

impl Wire for Plain {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.0
    }

    fn is_drained(&self, count: usize, room: usize) -> bool {
        count < room
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
