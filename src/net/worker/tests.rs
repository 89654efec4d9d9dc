//! A worker without its loop: what one step after the other comes to.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::config::options::{AddressLimits, Options, Secret};
use crate::engine::{Letter, To};
use crate::net::fixture;
use crate::net::mailbox::{Arrival, Batch, Command};
use crate::proto::encode::{Message, Parts};
use crate::session::Client;
use crate::sublist::SubRef;

/// The first of two workers.
pub(super) fn worker(options: Options) -> Worker {
    let (mut polls, shared) = fixture::shared(2);
    Worker::new(
        0,
        polls.swap_remove(0),
        shared,
        fixture::settings(options),
        1,
    )
}

/// A connection of a client: its end, and what hands the other one to a worker.
fn client() -> (TcpStream, Command) {
    static LAST_ID: AtomicU64 = AtomicU64::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let peer = TcpStream::connect(addr).expect("a connection");
    let (socket, addr) = listener.accept().expect("its other end");
    socket.set_nonblocking(true).expect("a flag");
    let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
    let adopt = Command::Adopt {
        socket: mio::net::TcpStream::from_std(socket),
        session: Arrival::Client(Box::new(Client::new(id, addr))),
        refuse: None,
        place: None,
    };
    (peer, adopt)
}

/// Has a worker serve a client; gives the client's end, and its connection's slot and serial.
pub(super) fn adopted(worker: &mut Worker) -> (TcpStream, u32, u32) {
    let (peer, adopt) = client();
    let known: Vec<u32> = worker.slots();
    worker.shared.connections[0].fetch_add(1, Ordering::Relaxed);
    worker.obey(adopt);
    let conn = worker.slots().into_iter().find(|it| !known.contains(it));
    let conn = conn.expect("a connection");
    (peer, conn, worker.connections[conn as usize].serial)
}

/// Clients that all get what is published to `news`, as many as it takes for a message to be kept for them.
fn crowd(worker: &mut Worker) -> Vec<(TcpStream, u32, u32)> {
    let mut clients = Vec::new();
    for _ in 0..limits::FAN_OUT_MIN {
        let client = adopted(worker);
        worker.feed(client.1, b"SUB news 1\r\n");
        clients.push(client);
    }
    clients
}

#[test]
fn what_was_read_is_not_for_whoever_has_the_slot_now() {
    let mut worker = worker(Options::default());
    let (_first, conn, serial) = adopted(&mut worker);
    // Its peer has gone, so that nothing is waited for when the connection ends.
    worker.connections[conn as usize].hung_up = true;
    let (_second, adopt) = client();
    let mailbox = &worker.shared.mailboxes[0];
    mailbox.command(Command::Close {
        count: 1,
        reason: CloseReason::Kicked,
    });
    mailbox.command(adopt);
    worker.feed(conn, b"PUB a 2\r\nhi\r\n");
    let second = &worker.connections[conn as usize];
    assert_ne!(second.serial, serial);
    assert_eq!(second.peer.received().msgs, 0);
}

#[test]
fn whoever_is_given_up_as_memory_is_given_back_is_not_forgotten() {
    let mut worker = worker(Options::default());
    let (_peer, conn, _) = adopted(&mut worker);
    worker
        .outlets
        .give_up(conn, CloseReason::SlowConsumerMemory);
    worker.trim_at = Some(worker.outlets.now);
    worker.fire_timers();
    assert!(worker.connections.is_empty());
}

#[test]
fn a_socket_that_takes_nothing_is_watched_before_the_worker_sleeps() {
    let mut worker = worker(Options::default());
    let (_peer, conn, _) = adopted(&mut worker);
    worker.finish_turn();
    // What a timer has to say is too much for the socket.
    worker.send(conn, &vec![b'x'; 16 * 1024 * 1024]);
    worker.fire_timers();
    let outlet = worker.outlets.get(conn).expect("an outlet");
    assert!(outlet.blocked_since().is_some() && outlet.watched);
    let deadline = worker.settings.options.write_deadline;
    assert_eq!(worker.timers.next(), Some(worker.outlets.now + deadline));
}

#[test]
fn of_a_crowd_that_leaves_at_once_no_more_is_kept_than_can_be_shown() {
    let mut worker = worker(Options::default());
    worker.shared.start_remembering();
    let name = "x".repeat(3000);
    let connect = format!("CONNECT {{\"name\":\"{name}\"}}\r\n");
    for _ in 0..limits::CLOSED_BYTES_MAX / name.len() + 100 {
        let (_peer, conn, _) = adopted(&mut worker);
        worker.feed(conn, connect.as_bytes());
        worker.begin_closing(conn, CloseReason::ClientClosed);
    }
    // The control thread has not looked.
    let closed = worker.shared.take_closed();
    assert!(closed.iter().next().is_some());
    let bytes: usize = closed.iter().map(|it| it.memory()).sum();
    assert!(bytes <= limits::CLOSED_BYTES_MAX, "{bytes}");
}

#[test]
fn what_many_are_to_get_is_written_before_memory_is_given_back() {
    let mut worker = worker(Options::default());
    let clients = crowd(&mut worker);
    worker.finish_turn();
    // As when somebody is given up above `memory_limit`, which others hear of.
    worker.announce(0, (b"news", b""), "x");
    worker.trim_at = Some(worker.outlets.now);
    worker.fire_timers();
    for (_, conn, _) in clients {
        let delivered = worker.outlets.get(conn).expect("an outlet").delivered;
        assert_eq!((delivered.msgs, delivered.bytes), (1, 1));
    }
}

#[test]
fn whoever_has_many_subscriptions_to_a_subject_has_max_pending_all_the_same() {
    let mut worker = worker(Options {
        max_pending: 1024 * 1024,
        ..Options::default()
    });
    let (_subscriber, conn, _) = adopted(&mut worker);
    let subscriptions: String = (0..8000).map(|sid| format!("SUB a {sid}\r\n")).collect();
    worker.feed(conn, subscriptions.as_bytes());
    let (_publisher, publisher, _) = adopted(&mut worker);
    let message = format!("PUB a 8000\r\n{}\r\n", "x".repeat(8000));
    worker.feed(publisher, message.as_bytes());
    worker.finish_turn();
    assert!(worker.outlets.get(conn).is_none());
    assert_eq!(worker.shared.slow_consumers.sum(), 1);
}

#[test]
fn what_ends_a_connection_is_not_for_whoever_has_the_slot_then() {
    let mut worker = worker(Options::default());
    let (_first, conn, _) = adopted(&mut worker);
    worker
        .outlets
        .give_up(conn, CloseReason::SlowConsumerPending);
    // Before that is seen to, its peer goes, and another one comes.
    worker.connections[conn as usize].hung_up = true;
    worker.begin_closing(conn, CloseReason::ClientClosed);
    let (_second, next, _) = adopted(&mut worker);
    assert_eq!(next, conn);
    worker.finish_turn();
    assert_eq!(worker.connections[conn as usize].closing, None);
    assert_eq!(worker.shared.slow_consumers.sum(), 0);
}

#[test]
fn events_of_a_connection_are_not_for_whoever_has_the_slot_next() {
    let mut worker = worker(Options::default());
    let (first, conn, serial) = adopted(&mut worker);
    worker.finish_turn();
    drop(first);
    let mut events = Events::with_capacity(EVENTS);
    while !events.iter().any(mio::event::Event::is_read_closed) {
        worker.take_events(&mut events, Some(Duration::from_secs(10)));
    }
    // Before the events are looked at, the connection ends for another reason.
    let (_second, adopt) = client();
    let mailbox = &worker.shared.mailboxes[0];
    mailbox.command(Command::Close {
        count: 1,
        reason: CloseReason::Kicked,
    });
    mailbox.command(adopt);
    worker.turn(&events);
    let second = &worker.connections[conn as usize];
    assert_ne!(second.serial, serial);
    assert!(!second.hung_up);
}

#[test]
fn mail_that_comes_while_a_lot_is_worked_off_is_for_the_next_turn() {
    let mut worker = worker(Options::default());
    let (_peer, conn, _) = adopted(&mut worker);
    worker.feed(conn, b"SUB a 1\r\n");
    let sub = worker.engine.subscriptions.first_of(conn);
    let sub = sub.expect("a subscription");
    let publisher = worker.origin(conn).expect("a connection");
    let shared = Arc::clone(&worker.shared);
    shared.mailboxes[0].hand_over(&mut letter(publisher, &"x".repeat(16 * 1024 * 1024), sub));
    worker.take_mail();
    // Its peer takes nothing: whoever sent that is told to pause, which is this one.
    assert!(shared.mailboxes[0].is_filled());
    let stalled = |worker: &Worker| worker.connections[conn as usize].stalled.is_some();
    assert!(!stalled(&worker));
    worker.work = Work::default();
    worker.take_mail();
    assert!(!shared.mailboxes[0].is_filled() && stalled(&worker));
}

#[test]
fn whoever_was_accepted_before_addresses_had_limits_is_counted_at_its_own() {
    let mut worker = worker(Options {
        address_limits: AddressLimits {
            max_connections: Some(9),
            ..AddressLimits::default()
        },
        ..Options::default()
    });
    // As from a control thread that has yet to go over to these options.
    let (_peer, conn, _) = adopted(&mut worker);
    assert!(worker.connections[conn as usize].place.is_some());
}

/// A batch with a message of subject `a` for a subscription.
fn letter(from: Origin, payload: &str, sub: SubRef) -> Batch {
    let line = format!("a {}\r\n{payload}\r\n", payload.len());
    let parts = Parts {
        subject_len: 1,
        reply_len: 0,
        body_at: line.len() - payload.len() - 2,
        header_len: 0,
    };
    let (line, subs) = (line.as_bytes(), [sub]);
    let message = Message::new(line, parts);
    let letter = Letter {
        account: 0,
        tried: 0,
        asks: false,
        echo: true,
        message: &message,
        to: To::Each(&subs),
    };
    let mut batch = Batch::default();
    batch.push(from, &letter);
    batch
}

/// Waits for mail, and takes it.
fn wait_for_mail(worker: &mut Worker) {
    let mut events = Events::with_capacity(EVENTS);
    while !worker.mailbox().is_filled() {
        let now = Instant::now();
        worker.sleep(&mut events, now, Some(now + Duration::from_secs(10)));
    }
    worker.take_mail();
}

/// Options by which a password is needed, of which the hash takes so long.
fn with_password(cost: u32) -> Options {
    Options {
        user: Some("u".into()),
        password: Some(Secret::new(
            bcrypt::hash("p", cost).expect("a cost there is"),
        )),
        ..Options::default()
    }
}

/// A worker where a password is needed, and a client that has shown that it knows it.
fn with_known_client() -> (Worker, TcpStream, u32) {
    let mut worker = worker(with_password(4));
    let (peer, conn, _) = adopted(&mut worker);
    worker.feed(conn, b"CONNECT {\"user\":\"u\",\"pass\":\"p\"}\r\n");
    wait_for_mail(&mut worker);
    assert!(worker.connections[conn as usize].peer.is_known());
    (worker, peer, conn)
}

/// What the next settings of a worker are, by a reload of these options.
fn renewed(worker: &Worker, options: Options) -> Command {
    let old = &worker.settings;
    let settings = Arc::new(Settings {
        auth: Arc::new(old.auth.renewed(&options)),
        broker: Arc::clone(&old.broker),
        tls: Arc::clone(&old.tls),
        info: old.info.clone(),
        digest: String::new(),
        loaded: old.loaded,
        options,
    });
    Command::Settings {
        settings,
        inform: false,
    }
}

#[test]
fn nothing_is_fed_while_a_password_is_checked_anew() {
    let (mut worker, _peer, conn) = with_known_client();
    // What comes in is read while other settings are on their way, with another hash.
    let settings = renewed(&worker, with_password(8));
    worker.mailbox().command(settings);
    worker.feed(conn, b"PUB a 2\r\nhi\r\n");
    let published = |worker: &Worker| worker.connections[conn as usize].peer.received().msgs;
    // The answer may be there already.
    if worker.connections[conn as usize].peer.is_waiting() {
        assert_eq!(published(&worker), 0);
        wait_for_mail(&mut worker);
    }
    worker.serve_ready();
    assert_eq!(published(&worker), 1);
}

#[test]
fn what_many_get_counts_for_whoever_leaves_in_the_same_turn() {
    let mut worker = worker(Options::default());
    let clients = crowd(&mut worker);
    let (_publisher, publisher, _) = adopted(&mut worker);
    worker.feed(publisher, b"PUB news 2\r\nhi\r\n");
    for &(_, conn, _) in &clients {
        worker.begin_closing(conn, CloseReason::ClientClosed);
    }
    let sent = worker.departed[0].sent;
    assert_eq!(sent, worker.outlets.pool.delivered);
    assert_eq!(sent.msgs, limits::FAN_OUT_MIN as u64);
}

#[test]
fn interest_that_a_letter_ends_is_told_in_the_same_turn() {
    let mut worker = worker(Options::default());
    // The other worker has a route.
    worker.settings.broker.routes.add(1);
    let (_peer, conn, _) = adopted(&mut worker);
    worker.feed(conn, b"SUB a 1\r\nUNSUB 1 1\r\n");
    worker.finish_turn();
    let shared = Arc::clone(&worker.shared);
    let marks = || {
        let (mut mail, mut marks) = (Mail::default(), Vec::new());
        shared.mailboxes[1].take(&mut mail);
        for batch in &mail.batches {
            batch.for_each_mark(|mark| marks.push(mark.subject.to_vec()));
        }
        marks
    };
    assert_eq!(marks(), [b"a"]);
    let sub = worker.engine.subscriptions.first_of(conn);
    let publisher = Origin {
        worker: 1,
        conn: 0,
        serial: 0,
    };
    let sub = sub.expect("a subscription");
    shared.mailboxes[0].hand_over(&mut letter(publisher, "x", sub));
    worker.take_mail();
    worker.finish_turn();
    assert!(worker.engine.subscriptions.is_empty());
    assert_eq!(marks(), [b"a"]);
}

#[test]
fn a_client_comes_once_however_often_its_password_is_checked() {
    let (mut worker, _peer, conn) = with_known_client();
    let broker = &worker.settings.broker;
    let system = broker.account_named("$SYS").expect("an account");
    let listener = SubRef {
        worker: 1,
        slot: 0,
        serial: 0,
    };
    system.subscribe(b"$SYS.ACCOUNT.>", None, listener);
    let settings = renewed(&worker, with_password(4));
    worker.obey(settings);
    assert!(worker.connections[conn as usize].peer.is_waiting());
    wait_for_mail(&mut worker);
    assert!(!worker.connections[conn as usize].peer.is_waiting());
    assert_eq!(worker.events, 0);
}

#[test]
fn nothing_is_answered_to_whoever_was_given_up() {
    let mut worker = worker(Options::default());
    let (_peer, conn, _) = adopted(&mut worker);
    worker.send(conn, &vec![b'x'; 16 * 1024 * 1024]);
    worker.finish_turn();
    worker
        .outlets
        .give_up(conn, CloseReason::SlowConsumerPending);
    // What was queued has been thrown away in the middle of something.
    worker.feed(conn, b"PING\r\n");
    worker.finish_turn();
    assert!(worker.connections.is_empty());
}
