//! A raw connection: bytes out, bytes in, every wait with a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::tls::Tls;
use super::{DEADLINE, ESCAPED_MAX, QUIET, escaped, wait_for};

/// One TCP connection to a server, and what it has sent that no expectation has used up.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What everything goes through, once it was upgraded.
    tls: Option<Box<rustls::ClientConnection>>,
    unread: Vec<u8>,
    at_end: bool,
    pings: PingFilter,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Connection> {
        Connection::over(TcpStream::connect_timeout(&address, DEADLINE)?)
    }

    /// The same on a connection that the server has opened.
    pub(crate) fn over(stream: TcpStream) -> std::io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Connection {
            stream,
            tls: None,
            unread: Vec::new(),
            at_end: false,
            pings: PingFilter::default(),
        })
    }

    /// Lets the server's PINGs through to the expectations.
    ///
    /// Without this they are dropped: a server sends the first one about two seconds after CONNECT, and no
    /// expectation shall depend on how fast the machine is.
    pub(crate) fn keep_pings(&mut self) {
        self.pings.keep = true;
    }

    /// The socket itself, for what the methods here do not do.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Goes on with TLS.
    ///
    /// # Errors
    ///
    /// What the handshake failed for.
    pub(crate) fn upgrade(&mut self, tls: &Tls) -> std::io::Result<()> {
        self.tls = Some(Box::new(tls.connect(&self.stream)?));
        Ok(())
    }

    /// Sends all of `bytes`.
    ///
    /// A server that has closed the connection is not an error here: what comes back is what a test looks at.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let sent = match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).write_all(bytes),
        };
        if let Err(error) = sent {
            let gone = matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            );
            assert!(gone, "the server does not take what is sent: {error}");
        }
    }

    /// Ends the sending direction.
    pub(crate) fn finish_sending(&mut self) {
        // Refused only when the other end has reset the connection.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the server has taken everything sent so far from its socket.
    ///
    /// The kernel's table tells: the queue of the other end is empty. Where there is no such table, this does nothing.
    pub(crate) fn wait_until_read(&self) {
        let (Ok(here), Ok(there)) = (self.stream.local_addr(), self.stream.peer_addr()) else {
            return;
        };
        wait_for(|| (unread_by_peer(here, there) == 0).then_some(()));
    }

    /// Takes `wanted` from what arrives.
    ///
    /// # Errors
    ///
    /// What arrived instead: as soon as it differs, the connection ends, or nothing more comes.
    pub(crate) fn take(&mut self, wanted: &[u8]) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while wanted.starts_with(&self.unread) && self.unread.len() < wanted.len() {
            if !self.fill(deadline) {
                break;
            }
        }
        if !self.unread.starts_with(wanted) {
            return Err(self.difference(wanted));
        }
        self.unread.drain(..wanted.len());
        Ok(())
    }

    /// Takes `count` bytes, whatever they are.
    ///
    /// # Errors
    ///
    /// What arrived, if it is less.
    pub(crate) fn take_bytes(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + DEADLINE;
        while self.unread.len() < count {
            if !self.fill(deadline) {
                return Err(self.instead_of(&format!("{count} bytes")));
            }
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Takes one line, its LF included.
    ///
    /// # Errors
    ///
    /// What arrived, if no line did.
    pub(crate) fn take_line(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = 0;
        loop {
            let new = self.unread.get(seen..).unwrap_or_default();
            if let Some(at) = new.iter().position(|&byte| byte == b'\n') {
                return Ok(self.unread.drain(..=seen + at).collect());
            }
            seen = self.unread.len();
            if !self.fill(deadline) {
                return Err(self.instead_of("a line"));
            }
        }
    }

    /// Takes what comes up to the next blank or line end.
    ///
    /// # Errors
    ///
    /// What arrived, if there is no such end.
    pub(crate) fn take_word(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + DEADLINE;
        let is_end = |&byte: &u8| byte == b' ' || byte == b'\r';
        loop {
            if let Some(at) = self.unread.iter().position(is_end) {
                return Ok(self.unread.drain(..at).collect());
            }
            if !self.fill(deadline) {
                return Err(self.instead_of("a word"));
            }
        }
    }

    /// Takes one INFO line and gives its JSON.
    ///
    /// # Errors
    ///
    /// What arrived, if that is not an INFO of the form the protocol has.
    pub(crate) fn take_info(&mut self) -> Result<Value, String> {
        let line = self.take_line()?;
        line.strip_prefix(b"INFO ")
            .and_then(|rest| rest.strip_suffix(b" \r\n"))
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or_else(|| format!("wanted an INFO line, got {}", escaped(&line)))
    }

    /// Checks that the server closes the connection and sends nothing more before it does.
    ///
    /// # Errors
    ///
    /// What arrived instead.
    pub(crate) fn take_end(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while self.unread.is_empty() && self.fill(deadline) {}
        match self.nothing_unread() && self.at_end {
            true => Ok(()),
            false => Err(self.instead_of("the end of the connection")),
        }
    }

    /// Checks that for a while nothing arrives, and that the connection stays open.
    ///
    /// # Errors
    ///
    /// What arrived.
    pub(crate) fn take_nothing(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + QUIET;
        while self.unread.is_empty() && self.fill(deadline) {}
        match self.nothing_unread() && !self.at_end {
            true => Ok(()),
            false => Err(self.instead_of("nothing")),
        }
    }

    /// Waits for more bytes, if there are fewer than `count` unread; gives what is there, without taking it.
    pub(crate) fn look(&mut self, count: usize, within: Duration) -> &[u8] {
        let deadline = Instant::now() + within;
        while self.unread.len() < count && self.fill(deadline) {}
        &self.unread
    }

    /// Whether the server has closed the connection, or does so within that time.
    pub(crate) fn is_over(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.fill(deadline) {}
        self.at_end
    }

    /// [`take`](Self::take), for tests that end with the first disappointment.
    pub(crate) fn expect(&mut self, wanted: &[u8]) {
        or_panic(self.take(wanted));
    }

    /// [`take_info`](Self::take_info), the same way.
    pub(crate) fn expect_info(&mut self) -> Value {
        or_panic(self.take_info())
    }

    /// [`take_end`](Self::take_end), the same way.
    pub(crate) fn expect_eof(&mut self) {
        or_panic(self.take_end());
    }

    /// [`take_line`](Self::take_line), the same way.
    pub(crate) fn expect_line(&mut self) -> Vec<u8> {
        or_panic(self.take_line())
    }

    /// [`take_bytes`](Self::take_bytes), the same way.
    pub(crate) fn expect_bytes(&mut self, count: usize) -> Vec<u8> {
        or_panic(self.take_bytes(count))
    }

    /// Sends a PING and takes its PONG: what was sent before is in force.
    pub(crate) fn ping(&mut self) {
        self.send(b"PING\r\n");
        self.expect(b"PONG\r\n");
    }

    /// Reads once; false when `deadline` has passed or the connection has ended.
    fn fill(&mut self, deadline: Instant) -> bool {
        let mut part = [0; 64 * 1024];
        while !self.at_end {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.stream
                .set_read_timeout(Some(left))
                .expect("a read timeout above zero is valid");
            let read = match &mut self.tls {
                None => self.stream.read(&mut part),
                Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).read(&mut part),
            };
            match read {
                Ok(0) => self.end(),
                Ok(n) => {
                    let part = part.get(..n).unwrap_or(&[]);
                    self.pings.pass(part, &mut self.unread);
                    return true;
                }
                Err(e) => match e.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => self.end(),
                },
            }
        }
        false
    }

    fn end(&mut self) {
        self.at_end = true;
        self.unread.append(&mut self.pings.line);
    }

    fn nothing_unread(&self) -> bool {
        self.unread.is_empty() && self.pings.line.is_empty()
    }

    fn instead_of(&self, wanted: &str) -> String {
        format!("wanted {wanted}, got {}", self.rest_after(0))
    }

    /// Tells how what arrived differs from `wanted`; of something long, from the first byte that does.
    fn difference(&self, wanted: &[u8]) -> String {
        let got = [self.unread.as_slice(), &self.pings.line].concat();
        let same = got.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        if same < ESCAPED_MAX {
            return self.instead_of(&escaped(wanted));
        }
        let wanted = escaped(wanted.get(same..).unwrap_or_default());
        let got = self.rest_after(same);
        format!("{same} bytes are right, then wanted {wanted}, got {got}")
    }

    /// What arrived after the first `count` bytes, for people.
    fn rest_after(&self, count: usize) -> String {
        let got = [self.unread.as_slice(), &self.pings.line].concat();
        let end = if self.at_end { ", then the end" } else { "" };
        format!("{}{end}", escaped(got.get(count..).unwrap_or_default()))
    }
}

fn or_panic<T>(result: Result<T, String>) -> T {
    match result {
        Ok(value) => value,
        Err(why) => panic!("{why}"),
    }
}

/// Takes the server's PINGs out of what it sends; follows sizes, so that a payload that looks like one stays.
#[derive(Debug, Default)]
struct PingFilter {
    keep: bool,
    /// The line so far, from its first byte to its LF.
    line: Vec<u8>,
    /// Bytes of payload and CRLF still to come before the next line.
    payload: usize,
}

impl PingFilter {
    fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        const PING: &[u8] = b"PING\r\n";
        while !bytes.is_empty() {
            let (payload, rest) = bytes.split_at(self.payload.min(bytes.len()));
            out.extend_from_slice(payload);
            self.payload -= payload.len();
            let end = rest.iter().position(|&byte| byte == b'\n');
            let (line, rest) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            self.line.extend_from_slice(line);
            if self.line.ends_with(b"\n") {
                self.payload = payload_size(&self.line);
                if self.keep || self.line != PING {
                    out.append(&mut self.line);
                }
                self.line.clear();
            }
            bytes = rest;
        }
    }
}

/// The bytes that follow this line from a server: those of a message and of its CRLF.
fn payload_size(line: &[u8]) -> usize {
    if !line.starts_with(b"MSG ") && !line.starts_with(b"HMSG ") {
        return 0;
    }
    let size = line.trim_ascii().rsplit(|&byte| byte == b' ').next();
    let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse::<usize>().ok());
    size.map_or(0, |size| size + b"\r\n".len())
}

/// Bytes that the process at the other end of `here` – `there` has not read yet; 0 when its socket is gone.
fn unread_by_peer(here: SocketAddr, there: SocketAddr) -> u64 {
    let Ok(table) = File::open("/proc/net/tcp") else {
        return 0;
    };
    // A row: number, local address, remote address, state, bytes unsent:unread.
    let (local, remote) = (hex_port(there), hex_port(here));
    let mut rows = BufReader::new(table).lines().skip(1).map_while(Result::ok);
    let queues = rows.find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let ours = fields.next()?.ends_with(&local) && fields.next()?.ends_with(&remote);
        ours.then(|| Some(fields.nth(1)?.to_owned())).flatten()
    });
    queues
        .and_then(|queues| u64::from_str_radix(queues.split_once(':')?.1, 16).ok())
        .unwrap_or(0)
}

fn hex_port(address: SocketAddr) -> String {
    format!(":{:04X}", address.port())
}
