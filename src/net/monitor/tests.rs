//! The monitor without its loop.

use std::net::{TcpListener, TcpStream};

use mio::Poll;

use super::listener::Stream;
use super::*;
use crate::config::options::Options;
use crate::monitor::system::SystemRequest;
use crate::net::acceptor::{Acceptor, Listener};
use crate::net::fixture;
use crate::net::tls::{Listening, TlsClient, TlsServer};
use crate::net::transport::{Inflow, Scratch, Transport};

/// A monitor without listeners; what it needs to be there lasts as long as the rest does.
fn monitor() -> (Monitor, impl Sized) {
    let (polls, shared) = fixture::shared(1);
    let settings = fixture::settings(Options::default());
    let listener = Listener::bind("127.0.0.1", 0).expect("a port");
    let monitors = MonitorListeners::default();
    let acceptor = Acceptor::new(
        listener,
        monitors,
        Arc::clone(&shared),
        Arc::clone(&settings),
        64,
        None,
    );
    let (acceptor, control) = acceptor.expect("a control thread");
    let poll = Poll::new().expect("a descriptor");
    let monitors = MonitorListeners::default();
    let monitor = Monitor::new(monitors, poll.registry(), shared, settings, control, 64);
    (monitor.expect("a monitor"), (polls, acceptor, poll))
}

#[test]
fn requests_that_come_faster_than_they_are_answered_are_not_all_kept() {
    let (mut monitor, _rest) = monitor();
    for _ in 0..3 {
        let request = || SystemRequest {
            subject: b"$SYS.REQ.SERVER.PING.VARZ".into(),
            reply: b"inbox".into(),
            account: 0,
            is_system: true,
            payload: Vec::new(),
        };
        let requests = std::iter::repeat_with(request).take(limits::SYSTEM_REQUESTS_MAX);
        monitor.on_requests(requests.collect());
        // No worker answers.
        monitor.work();
    }
    assert!(monitor.active.is_some());
    assert_eq!(monitor.jobs.len(), limits::SYSTEM_REQUESTS_MAX);
}

#[test]
fn an_answer_that_no_server_would_take_is_an_error() {
    let (mut monitor, _rest) = monitor();
    assert_eq!(monitor.within(10, "ten bytes.".into()), "ten bytes.");
    let error = monitor.within(10, "eleven byte".into());
    assert!(error.contains(r#""error":{"code":500,"description":"the answer has 11 bytes"#));
}

/// A connection to the monitoring port, with the poll that tells of it.
struct Visit {
    monitor: Monitor,
    poll: Poll,
    near: Transport,
    /// How often it was somebody else's turn.
    nudges: usize,
    got: Vec<u8>,
}

impl Visit {
    fn new(monitor: Monitor, tls: Option<Arc<TlsServer>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address"));
        let (far, _) = listener.accept().expect("a socket");
        let plain = |socket: TcpStream| {
            socket.set_nonblocking(true).expect("a socket");
            Transport::plain(mio::net::TcpStream::from_std(socket))
        };
        let mut visit = Visit {
            monitor,
            poll: Poll::new().expect("a descriptor"),
            near: plain(near.expect("a socket")),
            nudges: 0,
            got: Vec::new(),
        };
        let far = Stream::Tcp(plain(far));
        let mut connection = Connection::new(far, tls, 1, Instant::now());
        let entry = visit.monitor.connections.vacant_entry();
        let token = Token(FIRST_TOKEN + LISTENERS_MAX + entry.key());
        let registered = connection.register(visit.poll.registry(), token);
        registered.expect("a poll that takes it");
        entry.insert(connection);
        visit
    }

    /// One turn of the control thread, as far as it concerns the monitor, and what came of it at the other end.
    fn turn(&mut self) {
        let mut events = mio::Events::with_capacity(8);
        let polled = self.poll.poll(&mut events, Some(Duration::ZERO));
        polled.expect("a poll");
        events.iter().for_each(|event| self.monitor.on_event(event));
        let nudges = self.monitor.control.take_nudges();
        self.nudges += nudges.len();
        self.monitor.on_nudges(nudges);
        let mut buffer = vec![0; Transport::READ_BYTES_MIN];
        if let Ok(Inflow::Bytes { len, .. }) = self.near.read(&mut buffer, usize::MAX) {
            self.got.extend_from_slice(&buffer[..len]);
        }
    }

    /// As many as it takes.
    fn turns_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_done(self) {
            assert!(Instant::now() < deadline, "got {}", self.text());
            self.turn();
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut scratch = Scratch::default();
        self.near.write([bytes].into_iter(), &mut scratch)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.got).into_owned()
    }
}

#[test]
fn whoever_ends_behind_a_request_is_gone_after_the_response() {
    let (monitor, _rest) = monitor();
    let mut visit = Visit::new(monitor, None);
    let request = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n";
    visit.write(request).expect("room");
    visit.near.finish().expect("a socket");
    visit.turns_until(|it| it.monitor.connections.is_empty());
    assert!(
        visit.text().starts_with("HTTP/1.1 404 "),
        "{}",
        visit.text()
    );
}

#[test]
fn whoever_has_much_to_ask_lets_others_have_their_turn() {
    const REQUESTS: usize = 100;
    let (monitor, _rest) = monitor();
    let mut visit = Visit::new(monitor, None);
    let requests = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n".repeat(REQUESTS);
    assert_eq!(visit.write(&requests).expect("room"), requests.len());
    visit.turns_until(|it| it.text().matches("HTTP/1.1 404 ").count() == REQUESTS);
    assert!(visit.nudges > 1, "{} nudges", visit.nudges);
}

#[test]
fn what_comes_behind_the_end_of_a_session_is_read() {
    let (monitor, _rest) = monitor();
    let tls = fixture::tls();
    let server = TlsServer::new(&tls, Listening::Monitoring, None).expect("certificates");
    let client = TlsClient::new(&tls, None).expect("certificates");
    let mut visit = Visit::new(monitor, Some(Arc::new(server)));
    visit.near.connect(&client, "localhost").expect("a hello");
    visit.turns_until(|it| !it.near.is_handshaking());
    let request = b"POST /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    visit.write(request).expect("room");
    visit.turns_until(|it| it.text().contains("404 page not found\n"));
    // More than fits between the two: closing a socket with unread bytes may cost the response.
    let mut left = 32 * 1024 * 1024_usize;
    while left > 0 {
        match visit.write(&[b'x'; 10_000]) {
            Ok(len) => left = left.saturating_sub(len),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        visit.turn();
        assert_eq!(visit.monitor.connections.len(), 1);
    }
}
