//! The monitor without its loop.

use mio::Poll;

use super::*;
use crate::config::options::Options;
use crate::monitor::system::SystemRequest;
use crate::net::acceptor::{Acceptor, Listener};
use crate::net::fixture;

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
