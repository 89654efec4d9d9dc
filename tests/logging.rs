//! Where the log goes, and that nothing that happens to it stops the server.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use support::http::get_until;
use support::server::{Server, Start};
use support::{DEADLINE, ScratchDir, programs, start_midge, wait_for};

/// Clients come and go, which the log hears of at its most talkative.
fn chatter(server: &Server) {
    let payload = "x".repeat(4000);
    for _ in 0..50 {
        let mut client = server.client("");
        client.send(format!("SUB a 1\r\nPUB a 4000\r\n{payload}\r\n").as_bytes());
        client.expect(format!("MSG a 1 4000\r\n{payload}\r\n").as_bytes());
        client.ping();
    }
}

fn ends_with_0(mut server: Server) {
    server.process().signal(Signal::TERM);
    assert_eq!(server.process().wait().code(), Some(0));
}

/// The files in a directory that begin with `name`, oldest first: their names sort by time.
fn files(dir: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("it is the test's own");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|it| it.to_string_lossy().starts_with(name))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_log_file_is_put_aside_when_it_is_large_and_the_oldest_go() {
    const LIMIT: u64 = 20_000;
    let dir = ScratchDir::new();
    let file = dir.path().join("log");
    let conf = format!(
        "log_file: {:?}\nlog_size_limit: {LIMIT}\nlog_max_num: 3\ndebug: true\ntrace: true",
        file.display()
    );
    let server = start_midge(&conf);
    chatter(&server);
    ends_with_0(server);
    let found = files(dir.path(), "log");
    assert_eq!(found.len(), 3, "{found:?}");
    let (live, backups) = found.split_first().expect("three of them");
    assert_eq!(live, &file);
    for backup in backups {
        // log.YYYY.MM.DD.hh.mm.ss.nnnnnnnnn
        let name = backup.file_name().expect("a name").to_string_lossy();
        let lengths: Vec<_> = name.split('.').skip(1).map(str::len).collect();
        assert_eq!(lengths, [4, 2, 2, 2, 2, 2, 9], "{name}");
        assert!(fs::metadata(backup).expect("it is there").len() > LIMIT);
    }
    for path in &found {
        let text = fs::read_to_string(path).expect("text");
        assert!(text.lines().all(|line| line.starts_with('[')), "{text}");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.contains("[INF] Rotated log, backup saved as \"") || path != live,
            "{first}"
        );
    }
}

#[test]
fn the_same_conf_with_files_to_keep_for_ever_keeps_every_line() {
    let dir = ScratchDir::new();
    let file = dir.path().join("log");
    let conf = format!(
        "log_file: {:?}\nlog_size_limit: 20000\ndebug: true",
        file.display()
    );
    let server = start_midge(&conf);
    for _ in 0..200 {
        server.client("").ping();
    }
    ends_with_0(server);
    let found = files(dir.path(), "log");
    assert!(found.len() > 2, "{found:?}");
    let texts = found
        .iter()
        .map(|path| fs::read_to_string(path).expect("text"));
    let created = texts.map(|text| text.matches(" - Client connection created").count());
    assert_eq!(created.sum::<usize>(), 200);
}

#[test]
fn lines_go_to_a_syslog_server_in_datagrams() {
    let syslog = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    syslog.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let address = syslog.local_addr().expect("it is bound");
    let server = start_midge(&format!("remote_syslog: \"udp://{address}\"\ndebug: true"));
    let hear = |wanted: &str| {
        let mut buffer = [0; 2048];
        loop {
            let count = syslog.recv(&mut buffer).expect("a line in time");
            let line = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if line.contains(wanted) {
                return line;
            }
        }
    };
    let ready = hear("Server is ready");
    // <PRI>TIME HOST PROGRAM[PID]: TEXT, without a label for the level.
    let words: Vec<&str> = ready.trim_end().splitn(4, ' ').collect();
    assert!(
        words[0].starts_with("<5>") && words[0].ends_with('Z'),
        "{ready}"
    );
    assert!(
        words[2].starts_with("midge[") && words[2].ends_with("]:"),
        "{ready}"
    );
    assert_eq!(words[3], "Server is ready");
    server.client("").ping();
    assert!(hear("Client connection created").starts_with("<7>"));
    ends_with_0(server);
}

#[test]
fn a_syslog_server_that_goes_does_not_matter_and_is_found_again() {
    let syslog = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = syslog.local_addr().expect("it is bound");
    let server = start_midge(&format!("remote_syslog: \"tcp://{address}\"\ndebug: true"));
    let (stream, _) = syslog.accept().expect("it connects at start");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut lines = BufReader::new(stream).lines();
    let mut heard = || lines.next().expect("a line").expect("in time");
    while !heard().contains("Server is ready") {}
    drop(lines);
    drop(syslog);
    chatter(&server);
    let syslog = wait_for(|| TcpListener::bind(address).ok()).expect("the port is free again");
    syslog.set_nonblocking(true).expect("a socket of ours");
    let stream = wait_for(|| {
        chatter(&server);
        syslog.accept().ok()
    });
    let (mut stream, _) = stream.expect("it connects anew");
    stream.set_nonblocking(false).expect("a socket of ours");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut first = [0; 3];
    chatter(&server);
    stream.read_exact(&mut first).expect("a line in time");
    assert_eq!(first[0], b'<');
    ends_with_0(server);
}

#[test]
fn levels_change_while_the_syslog_server_is_gone() {
    let syslog = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = syslog.local_addr().expect("it is bound");
    let conf = format!("remote_syslog: \"tcp://{address}\"\nhttp: \"127.0.0.1:-1\"\n");
    let mut server = start_midge(&conf);
    drop(syslog.accept().expect("it connects at start"));
    drop(syslog);
    let debugging = format!("{conf}debug: true\nmax_payload: 5000\n");
    fs::write(server.dir().join("server.conf"), debugging).expect("it is ours");
    server.process().signal(Signal::HUP);
    let is_in_force = |varz: &serde_json::Value| varz["max_payload"] == 5000;
    get_until(server.monitor(), "/varz", is_in_force);
    // It is told what there is to tell as soon as it is back.
    let syslog = wait_for(|| TcpListener::bind(address).ok()).expect("the port is free again");
    syslog.set_nonblocking(true).expect("a socket of ours");
    let stream = wait_for(|| {
        chatter(&server);
        syslog.accept().ok()
    });
    let (stream, _) = stream.expect("it connects anew");
    stream.set_nonblocking(false).expect("a socket of ours");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    chatter(&server);
    let mut lines = BufReader::new(stream).lines();
    let mut heard = || lines.next().expect("a line").expect("in time");
    while !heard().contains("Client connection created") {}
    ends_with_0(server);
}

#[test]
fn a_syslog_server_that_takes_nothing_stops_nobody() {
    let syslog = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = syslog.local_addr().expect("it is bound");
    let conf = format!("remote_syslog: \"tcp://{address}\"\ndebug: true\ntrace: true");
    let server = start_midge(&conf);
    let _deaf = syslog.accept().expect("it connects at start");
    // Far more than the system keeps for a reader that does not read.
    for _ in 0..50 {
        chatter(&server);
    }
    ends_with_0(server);
}

#[test]
fn a_full_disk_stops_nobody() {
    let server = start_midge("log_file: \"/dev/full\"\ndebug: true\ntrace: true");
    chatter(&server);
    ends_with_0(server);
}

#[test]
fn a_limit_on_the_size_of_files_stops_nobody() {
    let dir = ScratchDir::new();
    let file = dir.path().join("log");
    for program in programs() {
        let conf = format!("log_file: {:?}\ndebug: true\ntrace: true", file.display());
        let server = Start::new(&program).conf(&conf).file_blocks(20).started();
        chatter(&server);
        ends_with_0(server);
        // It has come to its limit.
        let bytes = fs::metadata(&file).expect("a file").len();
        assert!([10_240, 20_480].contains(&bytes), "{bytes}");
        fs::remove_file(&file).expect("it is there");
    }
}

#[test]
fn a_pipe_whose_reader_has_gone_stops_nobody() {
    let dir = ScratchDir::new();
    let pipe = dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|it| it.success()));
    let conf = format!("log_file: {:?}", pipe.display());
    // Open for both, it is there at once.
    let mut reader = File::options();
    let reader = reader.read(true).write(true).open(&pipe);
    let reader = reader.expect("a pipe of the test's own");
    let mut server = start_midge(&conf);
    drop(reader);
    server.process().signal(Signal::USR1);
    chatter(&server);
    ends_with_0(server);
    // Nor does a reload wait for one to come.
    let mut server = start_midge("");
    let refused = format!(
        "[ERR] Failed to reload server configuration: error opening file: open {}: it is a pipe that nobody reads",
        pipe.display()
    );
    assert_eq!(server.reload_until(&conf, &refused), Ok(()));
    ends_with_0(server);
}
