//! The server as a process: how it starts, stops, fails, and what it does when clients are slow, many or odd.

mod support;

use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use support::connection::Connection;
use support::server::{Process, Server, Start};
use support::{Program, ScratchDir, midge, say_left_out, wait_for};

/// A test for each server of what both must do.
macro_rules! both {
    ($($name:ident,)*) => {
        mod midge {
            $(#[test] fn $name() { crate::run(crate::Program::Midge, crate::$name); })*
        }

        mod reference {
            $(#[test] fn $name() { crate::run(crate::Program::Reference, crate::$name); })*
        }
    };
}

both! {
    sigterm_sends_what_is_queued_and_exits_with_0,
    sigint_sends_what_is_queued_and_exits_with_0,
    a_port_in_use_ends_it_with_1,
    its_ports_file_says_what_is_where,
    it_writes_its_pid_and_its_ports,
    operations_do_not_depend_on_where_reads_split,
    operations_arrive_byte_by_byte,
    a_control_line_may_be_longer_than_a_read,
    a_pause_of_the_reader_loses_nothing,
    a_reader_that_never_reads_is_closed_and_named,
    a_reader_that_never_reads_is_closed_by_a_lower_max_pending,
    it_survives_running_out_of_descriptors,
}

fn run(program: Program, test: fn(&Path)) {
    if let Some(path) = program.path() {
        test(&path);
    }
}

/// Message `n` of a series: `size` bytes, a multiple of 8, that no other message has.
fn numbered(n: usize, size: usize) -> Vec<u8> {
    format!("{n:08}").repeat(size / 8).into_bytes()
}

/// Publishes a series on `a`.
fn publish_series(publisher: &mut Connection, count: usize, size: usize) {
    for n in 0..count {
        let line = format!("PUB a {size}\r\n").into_bytes();
        publisher.send(&[line, numbered(n, size), b"\r\n".to_vec()].concat());
    }
}

/// Takes a series from the subscription `1` on `a`, whole and in order.
fn expect_series(subscriber: &mut Connection, count: usize, size: usize) {
    for n in 0..count {
        let line = format!("MSG a 1 {size}\r\n").into_bytes();
        subscriber.expect(&[line, numbered(n, size), b"\r\n".to_vec()].concat());
    }
}

/// A client with the subscription `1` on `a` in force.
fn subscriber(server: &Server) -> Connection {
    let mut subscriber = server.client("");
    subscriber.send(b"SUB a 1\r\n");
    subscriber.ping();
    subscriber
}

fn sigterm_sends_what_is_queued_and_exits_with_0(program: &Path) {
    stops_in_order(program, Signal::TERM);
}

fn sigint_sends_what_is_queued_and_exits_with_0(program: &Path) {
    stops_in_order(program, Signal::INT);
}

fn stops_in_order(program: &Path, signal: Signal) {
    // More than the sockets hold, so that the server has a part of it queued when the signal comes.
    const COUNT: usize = 512;
    const SIZE: usize = 16 * 1024;
    let mut server = Server::start(program);
    let mut subscriber = subscriber(&server);
    let mut publisher = server.client("");
    publish_series(&mut publisher, COUNT, SIZE);
    publisher.ping();
    thread::scope(|scope| {
        scope.spawn(|| {
            expect_series(&mut subscriber, COUNT, SIZE);
            subscriber.expect_eof();
        });
        server.process().signal(signal);
    });
    publisher.expect_eof();
    assert_eq!(server.process().wait().code(), Some(0));
    assert!(Connection::open(server.address()).is_err(), "still there");
}

fn a_port_in_use_ends_it_with_1(program: &Path) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address");
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-p", &address.port().to_string()]);
    let (code, log) = outcome(command);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("Error listening on port"), "{log}");
    assert!(log.contains(&address.to_string()), "{log}");
    let log = log.to_lowercase();
    assert!(log.contains("address already in use"), "{log}");
}

/// The exit code of a server that must end by itself, and what it wrote to standard error.
fn outcome(command: Command) -> (Option<i32>, String) {
    let mut process = Process::spawn(command).expect("the program can be run");
    let code = process.wait().code();
    (code, process.log())
}

#[test]
fn an_unknown_flag_ends_midge_with_2_and_is_named() {
    let mut command = Command::new(midge());
    command.args(["-a", "127.0.0.1", "-p", "-1", "--no_such_flag"]);
    let (code, log) = outcome(command);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("no_such_flag"), "{log}");
}

#[test]
fn a_bad_flag_value_ends_midge_with_2_and_is_named_with_its_limit() {
    // What is no number at all has no limit to name.
    for (flag, value, limit) in [("-p", "99999", "65535"), ("-p", "abc", "")] {
        let mut command = Command::new(midge());
        command.args(["-a", "127.0.0.1", flag, value]);
        let (code, log) = outcome(command);
        assert_eq!(code, Some(2), "{log}");
        for part in [flag, value, limit] {
            assert!(log.contains(part), "{part} is missing in: {log}");
        }
    }
}

fn its_ports_file_says_what_is_where(program: &Path) {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let tls = format!(
        "tls {{cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\"}}"
    );
    for (conf, start) in [
        (tls.clone(), "tls://127.0.0.1:"),
        (format!("{tls}\nallow_non_tls: true"), "nats://127.0.0.1:"),
        (
            "cluster {listen: \"127.0.0.1:-1\"}".into(),
            "\"cluster\":[\"nats://127.0.0.1:",
        ),
    ] {
        let server = Start::new(program).conf(&conf).run().expect("it starts");
        let files = std::fs::read_dir(server.dir()).expect("a readable directory");
        let paths = files.map(|entry| entry.expect("an entry").path());
        let mut ports = paths.filter(|path| path.extension().is_some_and(|it| it == "ports"));
        let text = std::fs::read_to_string(ports.next().expect("one")).expect("text");
        assert!(text.contains(start), "{text}");
    }
}

fn it_writes_its_pid_and_its_ports(program: &Path) {
    let dir = ScratchDir::new();
    let pid_file = dir.path().join("pid");
    let start = Start::new(program).arg("-P").arg(&pid_file);
    let mut server = start.run().expect("it starts");
    let pid = std::fs::read_to_string(&pid_file).expect("the pid file is there");
    assert_eq!(pid, server.process().id().to_string());
    // The server was found by its ports file, so that is there too; it goes when the server does.
    let files = |server: &Server| {
        let files = std::fs::read_dir(server.dir());
        files.expect("a readable directory").count()
    };
    assert_eq!(files(&server), 1);
    server.process().signal(Signal::TERM);
    assert_eq!(server.process().wait().code(), Some(0));
    assert_eq!(files(&server), 0);
    // Nobody should take another process for this one; the reference server leaves that to chance.
    assert_eq!(pid_file.exists(), program != midge());
}

/// Some operations of every kind, and what comes back.
const SCRIPT: &[u8] =
    b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB a.* 1\r\nPUB a.b r 2\r\nhi\r\n\
    HPUB a.c 12 14\r\nNATS/1.0\r\n\r\nho\r\nUNSUB 1\r\nPUB a.d 0\r\n\r\n+OK\r\nPONG\r\nPING\r\n";
const ANSWER: &[u8] = b"MSG a.b 1 r 2\r\nhi\r\nHMSG a.c 1 12 14\r\nNATS/1.0\r\n\r\nho\r\nPONG\r\n";

fn operations_do_not_depend_on_where_reads_split(program: &Path) {
    let server = Server::start(program);
    for cut in 1..SCRIPT.len() {
        let (head, tail) = SCRIPT.split_at(cut);
        let mut connection = server.connect();
        connection.expect_info();
        connection.send(head);
        connection.wait_until_read();
        connection.send(tail);
        let answer = connection.take(ANSWER);
        assert_eq!(answer, Ok(()), "cut at byte {cut}");
    }
}

fn operations_arrive_byte_by_byte(program: &Path) {
    let server = Server::start(program);
    let mut connection = server.connect();
    connection.expect_info();
    for byte in SCRIPT {
        connection.send(&[*byte]);
        connection.wait_until_read();
    }
    connection.expect(ANSWER);
}

fn a_control_line_may_be_longer_than_a_read(program: &Path) {
    let start = Start::new(program).conf("max_control_line: 1MB");
    let server = start.run().expect("it starts");
    let mut connection = server.client("");
    let subject = "s".repeat(500_000);
    connection.send(format!("SUB * 1\r\nPUB {subject} 2\r\nhi\r\n").as_bytes());
    connection.expect(format!("MSG {subject} 1 2\r\nhi\r\n").as_bytes());
}

fn a_pause_of_the_reader_loses_nothing(program: &Path) {
    // 32 MiB: half of what may be queued for one connection by default.
    const COUNT: usize = 2048;
    const SIZE: usize = 16 * 1024;
    /// The longest that the reader pauses: a fraction of the time after which it would be a slow consumer.
    const PAUSE: Duration = Duration::from_secs(2);
    let server = Server::start(program);
    let mut subscriber = subscriber(&server);
    let mut publisher = server.client("");
    let (through, all_is_routed) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            publish_series(&mut publisher, COUNT, SIZE);
            publisher.ping();
            // Nobody listens any more if the pause has ended before.
            let _ = through.send(());
        });
        // A server may take all of it meanwhile, or have the publisher wait.
        let _ = all_is_routed.recv_timeout(PAUSE);
        expect_series(&mut subscriber, COUNT, SIZE);
    });
    subscriber.ping();
}

fn a_reader_that_never_reads_is_closed_and_named(program: &Path) {
    closes_the_slow_one(Start::new(program), 160, 1024 * 1024);
}

fn a_reader_that_never_reads_is_closed_by_a_lower_max_pending(program: &Path) {
    let start = Start::new(program).conf("max_pending: 2MB\nmax_payload: 64KB\n");
    closes_the_slow_one(start, 512, 64 * 1024);
}

/// Publishes a series to a subscriber that never reads and to one that does.
fn closes_the_slow_one(start: Start, count: usize, size: usize) {
    let mut server = start.run().expect("it starts");
    let mut slow = subscriber(&server);
    let mut reader = subscriber(&server);
    let mut publisher = server.client("");
    thread::scope(|scope| {
        scope.spawn(|| expect_series(&mut reader, count, size));
        publish_series(&mut publisher, count, size);
    });
    let named = |log: &str| log.contains("Slow Consumer Detected");
    let logged = server.process().wait_for_log(named);
    assert_eq!(logged, Ok(()));
    // What the sockets held can still be read; then it ends, early.
    let mut received = 0;
    while !slow.look(1, support::DEADLINE).is_empty() {
        let available = slow.look(0, Duration::ZERO).len();
        received += slow.expect_bytes(available).len();
    }
    slow.expect_eof();
    assert!(received < count * size, "nothing was withheld");
    // Nobody else noticed.
    publisher.ping();
    reader.ping();
}

fn it_survives_running_out_of_descriptors(program: &Path) {
    const LIMIT: u32 = 64;
    const CONNECTIONS: usize = 200;
    /// How long it is watched while it can accept nobody.
    const WATCHED: Duration = Duration::from_secs(1);
    let start = Start::new(program).descriptors(LIMIT);
    let mut server = start.run().expect("it starts");
    let mut first = subscriber(&server);
    let crowd: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    first.ping();
    let before = server.process().cpu_time();
    server.process().expect_alive_for(WATCHED);
    let used = server.process().cpu_time() - before;
    assert!(
        used < WATCHED / 2,
        "{used:?} of work in {WATCHED:?}, to accept nobody"
    );
    first.ping();
    drop(crowd);
    let mut late = server.client("");
    late.send(b"PUB a 2\r\nhi\r\n");
    late.ping();
    first.expect(b"MSG a 1 2\r\nhi\r\n");
}

#[test]
fn memory_comes_back_when_ten_thousand_connections_have_left() {
    const CONNECTIONS: usize = 10_000;
    if let Err(why) = support::raise_descriptor_limit(CONNECTIONS) {
        return say_left_out(&why);
    }
    let mut server = Server::start(&midge());
    subscriber(&server).ping();
    let start = server.process().resident_kib();
    let crowd: Vec<_> = (0..CONNECTIONS).map(|_| subscriber(&server)).collect();
    let peak = server.process().resident_kib();
    leave(crowd);
    expect_memory_back(&mut server, start, peak);
}

#[test]
fn memory_comes_back_when_a_busy_crowd_has_left() {
    const CONNECTIONS: usize = 500;
    const SUBSCRIPTIONS: usize = 20_000;
    const MESSAGES: usize = 100;
    const SIZE: usize = 1024;
    let mut server = Server::start(&midge());
    subscriber(&server).ping();
    let start = server.process().resident_kib();
    let mut crowd: Vec<_> = (0..CONNECTIONS).map(|_| subscriber(&server)).collect();
    let mut many = server.client("");
    for sid in 0..SUBSCRIPTIONS {
        many.send(format!("SUB many.{sid} {sid}\r\n").as_bytes());
    }
    many.ping();
    // What is not read yet fills queues.
    let mut publisher = server.client("");
    publish_series(&mut publisher, MESSAGES, SIZE);
    publisher.ping();
    let peak = server.process().resident_kib();
    for subscriber in &mut crowd {
        expect_series(subscriber, MESSAGES, SIZE);
    }
    crowd.extend([many, publisher]);
    leave(crowd);
    expect_memory_back(&mut server, start, peak);
}

/// Closes our side of each connection, and waits for the server to close its own.
fn leave(mut crowd: Vec<Connection>) {
    for connection in &crowd {
        let shut = connection.stream().shutdown(Shutdown::Write);
        assert!(shut.is_ok(), "the server has closed a connection");
    }
    for connection in &mut crowd {
        connection.expect_eof();
    }
}

/// Waits until no more than a tenth of what the server had at its start has come on top of that.
fn expect_memory_back(server: &mut Server, start: u64, peak: u64) {
    // Another C library than glibc keeps what it thinks it will need again: half of it must do.
    let kept_max = if cfg!(target_env = "gnu") {
        start / 10
    } else {
        (peak - start) / 2
    };
    assert!(
        peak > start + kept_max,
        "{start} KiB, and {peak} KiB at the peak"
    );
    let mut after = peak;
    let back = wait_for(|| {
        after = server.process().resident_kib();
        (after <= start + kept_max).then_some(())
    });
    assert!(
        back.is_some(),
        "{start} KiB at the start, {peak} KiB at the peak, {after} KiB in the end"
    );
}
