//! The monitor without its loop.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use mio::Poll;

use super::listener::Stream;
use super::*;
use crate::config::options::Options;
use crate::monitor::system::SystemRequest;
use crate::net::acceptor::{Acceptor, Listener};
use crate::net::fixture;
use crate::net::tls::TlsServer;
use crate::net::transport::Transport;

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

/// The other end of a connection that the monitor has at this key, and its slot.
fn connected(monitor: &mut Monitor, tls: Option<Arc<TlsServer>>) -> (TcpStream, usize) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a socket");
    let (far, _) = listener.accept().expect("a socket");
    far.set_nonblocking(true)
        .expect("a socket that does not block");
    let far = Transport::plain(mio::net::TcpStream::from_std(far));
    let connection = Connection::new(Stream::Tcp(far), tls, 1, Instant::now());
    (near, monitor.connections.insert(connection))
}

/// As if the event had come that all this tells of.
fn on_event(monitor: &mut Monitor, key: usize, closed: bool) {
    monitor.connections[key].on_event(true, true, closed);
    monitor.serve(key);
}

#[test]
fn whoever_ends_behind_a_request_is_gone_after_the_response() {
    let (mut monitor, _rest) = monitor();
    let (mut near, key) = connected(&mut monitor, None);
    near.write_all(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("room");
    near.shutdown(Shutdown::Write).expect("a socket");
    on_event(&mut monitor, key, true);
    assert!(monitor.connections.is_empty());
    let mut response = String::new();
    near.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
}
