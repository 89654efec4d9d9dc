//! The server as a process: how it starts, stops, fails, and what it does when clients are slow, many or odd.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use support::connection::Connection;
use support::http::get_until;
use support::server::{Process, Server, Start};
use support::{Program, ScratchDir, midge, say_left_out, start_midge, wait_for};

/// As many connections as one worker is given in a row, so that the next one is another's.
const TOGETHER: usize = 16;

#[test]
fn a_message_to_another_worker_arrives_whether_that_polls_or_sleeps() {
    const ROUNDS: usize = 1000;
    for busy_poll in ["0s", "30us", "1ms"] {
        let server = start_midge(&format!("workers: 2\nbusy_poll: \"{busy_poll}\""));
        let mut near: Vec<_> = (0..TOGETHER).map(|_| server.client("")).collect();
        let mut far = server.client("");
        near[0].send(b"SUB near 1\r\n");
        near[0].ping();
        far.send(b"SUB far 1\r\n");
        far.ping();
        for _ in 0..ROUNDS {
            near[0].send(b"PUB far 0\r\n\r\n");
            far.expect(b"MSG far 1 0\r\n\r\n");
            far.send(b"PUB near 0\r\n\r\n");
            near[0].expect(b"MSG near 1 0\r\n\r\n");
        }
    }
}

#[test]
fn whoever_keeps_reading_is_never_too_slow_for_a_producer_of_another_worker() {
    const SIZE: usize = 1000;
    const COUNT: usize = 100_000;
    for max_pending in ["64KB", "1MB", "4MB"] {
        let conf = format!("workers: 2\nmax_payload: 32KB\nmax_pending: {max_pending}");
        let server = start_midge(&conf);
        let mut reader = subscriber(&server);
        let _rest: Vec<_> = (1..TOGETHER).map(|_| server.client("")).collect();
        let mut publisher = server.client("");
        thread::scope(|scope| {
            scope.spawn(|| publish_series(&mut publisher, COUNT, SIZE));
            expect_series(&mut reader, COUNT, SIZE);
        });
        assert!(!server.log().contains("Slow Consumer"), "{}", server.log());
    }
}

#[test]
fn a_request_is_answered_if_all_responders_of_another_worker_have_left_meanwhile() {
    for (subscribe, is_group) in [("SUB s 1\r\n", false), ("SUB s q 1\r\n", true)] {
        let server = start_midge("workers: 2");
        let mut near: Vec<_> = (0..TOGETHER).map(|_| server.client("")).collect();
        let mut far = [0; 2].map(|_| server.client(r#","headers":true,"no_responders":true"#));
        let (responder, [requester, neighbour]) = (&mut near[0], &mut far);
        for member in [responder, neighbour]
            .into_iter()
            .take(1 + usize::from(is_group))
        {
            member.send(format!("{subscribe}UNSUB 1 1\r\n").as_bytes());
            member.ping();
        }
        let requests = b"PUB s r 0\r\n\r\n".repeat(4);
        requester.send(&[&b"SUB r 2\r\n"[..], &requests].concat());
        for _ in 0..(if is_group { 2 } else { 3 }) {
            requester.expect(b"HMSG r 2 33 33\r\nNATS/1.0 503\r\nNats-Subject: s\r\n\r\n\r\n");
        }
        requester.ping();
        near[0].expect(b"MSG s 1 r 0\r\n\r\n");
    }
}

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
    a_subscriber_that_is_stopped_and_goes_on_gets_everything,
    a_reader_that_never_reads_is_closed_and_named,
    a_reader_that_never_reads_takes_nothing_from_others,
    a_reader_that_never_reads_does_not_keep_messages_from_another,
    a_connection_gets_whatever_it_sends_itself,
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
        publish_one(publisher, n, size);
    }
}

fn publish_one(publisher: &mut Connection, n: usize, size: usize) {
    publisher.send(&published(n, size));
}

fn published(n: usize, size: usize) -> Vec<u8> {
    let line = format!("PUB a {size}\r\n").into_bytes();
    [line, numbered(n, size), b"\r\n".to_vec()].concat()
}

/// Takes a series from the subscription `1` on `a`, whole and in order.
fn expect_series(subscriber: &mut Connection, count: usize, size: usize) {
    for n in 0..count {
        expect_one(subscriber, n, size);
    }
}

fn expect_one(subscriber: &mut Connection, n: usize, size: usize) {
    let line = format!("MSG a 1 {size}\r\n").into_bytes();
    subscriber.expect(&[line, numbered(n, size), b"\r\n".to_vec()].concat());
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

/// A subscriber that is a process of its own: what it takes off its connection comes out of it.
struct Relay {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Relay {
    /// Hands the connection of `subscriber` over to it.
    fn new(subscriber: Connection) -> Relay {
        let stream = subscriber.stream().try_clone().expect("a descriptor");
        let mut command = Command::new("cat");
        command.stdin(OwnedFd::from(stream)).stdout(Stdio::piped());
        let mut process = command.spawn().expect("there is a cat");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Relay { process, output }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        let pid = pid.expect("a process id of the system");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Stops it, and sees that it is stopped.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.process.id());
        let is_stopped = || {
            let stat = std::fs::read_to_string(&stat).expect("the process is there");
            stat.contains(") T ").then_some(())
        };
        wait_for(is_stopped).expect("it stops");
    }

    /// Takes message `n` of a series from the subscription `1` on `a`.
    fn expect(&mut self, n: usize, size: usize) {
        let wanted = format!("MSG a 1 {size}\r\n");
        let mut line = String::new();
        while line.is_empty() || line == "PING\r\n" {
            line.clear();
            self.output.read_line(&mut line).expect("a line");
        }
        assert_eq!(line, wanted, "message {n}");
        let mut payload = vec![0; size + 2];
        self.output.read_exact(&mut payload).expect("a payload");
        assert!(payload.starts_with(&numbered(n, size)), "message {n}");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn a_subscriber_that_is_stopped_and_goes_on_gets_everything(program: &Path) {
    /// Before it is stopped, and while it is: more than sockets hold, less than what may be queued.
    const COUNTS: [usize; 2] = [512, 3072];
    const SIZE: usize = 8 * 1024;
    // However slow the machine is, it is not for this that it is given up.
    let start = Start::new(program).conf("write_deadline: \"60s\"\n");
    let server = start.arg("-m").arg("-1").run().expect("it starts");
    let mut relay = Relay::new(subscriber(&server));
    let mut publisher = server.client("");
    let (stopped, is_stopped) = mpsc::channel();
    let (total, mut taken) = (COUNTS.iter().sum(), 0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..total {
                if n == COUNTS[0] {
                    is_stopped.recv().expect("it is stopped");
                }
                publish_one(&mut publisher, n, SIZE);
            }
            publisher.ping();
        });
        while taken < COUNTS[0] / 2 {
            relay.expect(taken, SIZE);
            taken += 1;
        }
        relay.stop();
        stopped.send(()).expect("the publisher waits for it");
        get_until(server.monitor(), "/connz", |page| {
            let pending = &page["connections"][0]["pending_bytes"];
            pending.as_u64().is_some_and(|bytes| bytes > 1 << 20)
        });
        relay.signal(Signal::CONT);
        while taken < total {
            relay.expect(taken, SIZE);
            taken += 1;
        }
    });
    assert!(!server.log().contains("Slow Consumer"), "{}", server.log());
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

fn a_reader_that_never_reads_takes_nothing_from_others(program: &Path) {
    const PAIRS: usize = 50;
    const ROUNDS: usize = 10;
    /// Messages that a pair has under way at once.
    const WINDOW: usize = 100;
    let start = Start::new(program).conf("max_pending: 2MB\nmax_payload: 64KB\n");
    let mut server = start.run().expect("it starts");
    let slow = subscriber(&server);
    let slow_name = slow
        .stream()
        .local_addr()
        .expect("it is connected")
        .to_string();
    let mut feeder = server.client("");
    let pairs: Vec<_> = (0..PAIRS)
        .map(|pair| {
            let mut subscriber = server.client("");
            subscriber.send(format!("SUB pair.{pair} 1\r\n").as_bytes());
            subscriber.ping();
            (pair, server.client(""), subscriber)
        })
        .collect();
    let named = |log: &str| {
        let mut lines = log.lines();
        lines.any(|line| line.contains(&slow_name) && line.contains("Slow Consumer Detected"))
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flows: Vec<_> = pairs
            .into_iter()
            .map(|(pair, mut publisher, mut subscriber)| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut round = 0;
                    // Beside the slow one from beginning to end.
                    while round < ROUNDS || !is_over.load(Ordering::Relaxed) {
                        let series = (0..WINDOW).map(|n| round * WINDOW + n);
                        let payloads = series.map(|n| format!("16\r\n{n:016}\r\n"));
                        let (mut sent, mut due) = (String::new(), String::new());
                        for payload in payloads {
                            sent += &format!("PUB pair.{pair} {payload}");
                            due += &format!("MSG pair.{pair} 1 {payload}");
                        }
                        publisher.send(sent.as_bytes());
                        subscriber.expect(due.as_bytes());
                        round += 1;
                    }
                    subscriber.ping();
                })
            })
            .collect();
        let mut n = 0;
        while !named(&server.log()) {
            publish_one(&mut feeder, n, 32 * 1024);
            n += 1;
            assert!(n < 10_000, "nobody is named: {}", server.log());
        }
        is_over.store(true, Ordering::Relaxed);
        for flow in flows {
            flow.join().expect("every message of the pair, in order");
        }
    });
    let log = server.process().log();
    assert_eq!(log.matches("Slow Consumer Detected").count(), 1, "{log}");
    drop(slow);
}

fn a_reader_that_never_reads_does_not_keep_messages_from_another(program: &Path) {
    const SIZE: usize = 1000;
    // Less than makes anyone a slow consumer, and much more than sockets hold.
    const COUNT: usize = 20_000;
    let start = Start::new(program).conf("write_deadline: \"10m\"");
    let server = start.run().expect("it starts");
    let mut stopped = subscriber(&server);
    let mut reader = subscriber(&server);
    let mut publisher = server.client("");
    let deadline = Instant::now() + support::DEADLINE;
    thread::scope(|scope| {
        scope.spawn(|| publish_series(&mut publisher, COUNT, SIZE));
        for n in 0..COUNT {
            expect_one(&mut reader, n, SIZE);
            assert!(Instant::now() < deadline, "{n} messages have come");
        }
    });
    expect_series(&mut stopped, COUNT, SIZE);
}

fn a_connection_gets_whatever_it_sends_itself(program: &Path) {
    const SIZE: usize = 1000;
    const COUNT: usize = 100_000;
    let start = Start::new(program).conf("max_pending: 2MB\nmax_payload: 64KB\n");
    let server = start.run().expect("it starts");
    let mut own = subscriber(&server);
    let mut sending = own.stream().try_clone().expect("a socket");
    thread::scope(|scope| {
        // At once, so that it is faster than whoever reads.
        let all: Vec<u8> = (0..COUNT).flat_map(|n| published(n, SIZE)).collect();
        scope.spawn(move || sending.write_all(&all).expect("it is read"));
        expect_series(&mut own, COUNT, SIZE);
    });
    own.ping();
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
    // Those that left count until the server has noticed.
    let late = wait_for(|| {
        let mut late = server.client("");
        late.send(b"PUB a 2\r\nhi\r\nPING\r\n");
        late.take(b"PONG\r\n").ok().map(|()| late)
    });
    assert!(late.is_some(), "nobody is let in once the crowd has left");
    first.expect(b"MSG a 1 2\r\nhi\r\n");
}

#[test]
fn peers_that_do_not_close_what_was_closed_take_no_descriptors_from_others() {
    const LIMIT: u32 = 64;
    const CONNECTIONS: usize = 200;
    let start = Start::new(&midge())
        .conf("max_connections: 4")
        .descriptors(LIMIT);
    let mut server = start.run().expect("it starts");
    let open = |_| {
        let mut connection = server.connect();
        connection.expect_info();
        connection.send(b"FOO\r\n");
        // That it is unknown, or that there are too many.
        connection.expect_line();
        connection
    };
    let crowd: Vec<_> = (0..CONNECTIONS).map(open).collect();
    drop(crowd);
    let log = server.process().log();
    assert!(!log.contains("Cannot accept"), "{log}");
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
