//! Compressed routes: what servers agree on and that everything arrives, of midge alone and mixed with the reference server;
//! and what comes of peers that do not keep to it.

mod support;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use midge::s2::{Encoder, Level, Packer, Unpacker};

use support::cluster::{self, Node, expect_interest, expect_mesh, node, route_port, routez};
use support::connection::Connection;
use support::server::Server;
use support::{DEADLINE, Program, wait_for};

const M: Program = Program::Midge;
const R: Program = Program::Reference;

/// The second one dials the first.
const MIXES: [[Program; 2]; 3] = [[M, M], [R, M], [M, R]];
/// What `s2_auto` may come to.
const LEVELS: [&str; 4] = ["s2_uncompressed", "s2_fast", "s2_better", "s2_best"];

/// Two servers of these modes, or whatever stands behind `compression:`.
fn pair(mix: [Program; 2], modes: [&str; 2], more: &str) -> Option<[Server; 2]> {
    let block = |mode: &str| format!("compression: {mode}\n{more}");
    let mores = modes.map(block);
    let servers = cluster::pair(mix, [""; 2], mores.each_ref().map(String::as_str))?;
    expect_mesh(&servers);
    Some(servers)
}

/// What its routes show, each once.
fn shown(server: &Server, key: &str) -> BTreeSet<String> {
    let page = routez(server, "");
    let routes = page["routes"].as_array().cloned().unwrap_or_default();
    let values = routes.iter().map(|route| route[key].to_string());
    values.map(|it| it.trim_matches('"').to_owned()).collect()
}

/// Waits until all its routes, the whole pool, are compressed like this.
fn expect_compression(server: &Server, mode: &str) {
    let is_there = || {
        let is_full = routez(server, "")["num_routes"] == 4;
        let is_it = shown(server, "compression") == BTreeSet::from([mode.to_owned()]);
        (is_full && is_it).then_some(())
    };
    let found = wait_for(is_there);
    assert!(found.is_some(), "{mode}: {}", routez(server, ""));
}

fn client(server: &Server) -> Connection {
    let mut client = server.client(",\"headers\":true,\"no_responders\":true");
    client.ping();
    client
}

/// What a server shows that has this mode, when the other one has that.
fn agreed<'a>(own: &'a str, other: &'a str) -> Vec<&'a str> {
    match (own, other) {
        ("off", _) | (_, "off") | ("accept", "accept") => vec!["off"],
        ("accept", "s2_auto") => vec!["s2_fast"],
        ("accept", mode) => vec![mode],
        ("s2_auto", _) => LEVELS.to_vec(),
        (mode, _) => vec![mode],
    }
}

#[test]
fn servers_agree_on_what_both_of_their_modes_allow() {
    let pairs = [
        ["off", "s2_fast"],
        ["accept", "accept"],
        ["accept", "s2_better"],
        ["accept", "s2_auto"],
        ["s2_fast", "s2_fast"],
        ["s2_fast", "s2_auto"],
        ["s2_better", "s2_best"],
        ["s2_auto", "s2_auto"],
    ];
    for mix in MIXES {
        for modes in pairs
            .into_iter()
            .flat_map(|[one, other]| [[one, other], [other, one]])
        {
            let Some(servers) = pair(mix, modes, "") else {
                continue;
            };
            for (server, [own, other]) in servers.iter().zip([modes, [modes[1], modes[0]]]) {
                let allowed = agreed(own, other);
                let found = shown(server, "compression");
                assert!(
                    found.iter().all(|it| allowed.contains(&it.as_str())),
                    "{found:?} with {own} and {other} in {mix:?}"
                );
            }
        }
    }
}

#[test]
fn the_thresholds_of_round_trip_times_choose_the_level() {
    for (mode, level) in [
        ("{mode: s2_auto, rtt_thresholds: [1h]}", "s2_uncompressed"),
        ("{mode: auto, rtt: [0s, 1h]}", "s2_fast"),
        ("{mode: auto, rtts: [0s, 0s, 1h]}", "s2_better"),
        ("{mode: auto, thresholds: [0s, 0s, 0s, 1h]}", "s2_best"),
    ] {
        for mix in MIXES {
            let Some(servers) = pair(mix, [mode, mode], "") else {
                continue;
            };
            for server in &servers {
                expect_compression(server, level);
            }
        }
    }
}

#[test]
fn a_server_may_know_nothing_of_compression() {
    for mix in MIXES {
        let Some(servers) = pair(mix, ["\"not supported\"", "s2_fast"], "") else {
            continue;
        };
        for server in &servers {
            expect_compression(server, "not supported");
        }
    }
}

/// As many bytes that cannot be compressed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len / 8 + 1).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

/// Messages to `subject` of all kinds: a crowd of small ones, with headers, large ones that can be compressed and that
/// cannot; and the same as subscription 1 gets them.
fn traffic(subject: &str, count: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for number in 0..count {
        sent.extend_from_slice(format!("PUB {subject} 5\r\n{number:05}\r\n").as_bytes());
        expected.extend_from_slice(format!("MSG {subject} 1 5\r\n{number:05}\r\n").as_bytes());
    }
    let headers = "23 28\r\nNATS/1.0\r\nA: b c d \r\n\r\nhello\r\n";
    sent.extend_from_slice(format!("HPUB {subject} reply {headers}").as_bytes());
    expected.extend_from_slice(format!("HMSG {subject} 1 reply {headers}").as_bytes());
    let text = "All work and no play makes Jack a dull boy. ".repeat(24_000);
    for large in [&text.as_bytes()[..1 << 20], &noise(1 << 20), b""] {
        let len = large.len();
        sent.extend_from_slice(format!("PUB {subject} {len}\r\n").as_bytes());
        expected.extend_from_slice(format!("MSG {subject} 1 {len}\r\n").as_bytes());
        for bytes in [&mut sent, &mut expected] {
            bytes.extend_from_slice(large);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    (sent, expected)
}

/// Sends traffic both ways between two servers.
fn expect_traffic(servers: &[Server; 2], count: usize) {
    let mut clients = servers.each_ref().map(client);
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(format!("SUB to.{at} 1\r\n").as_bytes());
        client.ping();
        expect_interest(&servers[1 - at], &format!("to.{at}"), 1);
    }
    let both = [0, 1].map(|at| traffic(&format!("to.{at}"), count));
    for (at, (sent, _)) in both.iter().enumerate() {
        clients[1 - at].send(sent);
    }
    for (client, (_, expected)) in clients.iter_mut().zip(&both) {
        client.expect(expected);
        client.ping();
    }
}

#[test]
fn everything_arrives_in_order_however_it_is_compressed() {
    for modes in [
        ["s2_fast", "accept"],
        ["s2_better", "s2_best"],
        ["s2_auto", "s2_auto"],
    ] {
        for mix in MIXES {
            if let Some(servers) = pair(mix, modes, "") {
                expect_traffic(&servers, 20_000);
            }
        }
    }
}

#[test]
fn what_is_compressed_can_be_encrypted_too() {
    let certs = format!("{}/certs", env!("CARGO_MANIFEST_DIR"));
    let files = format!(
        "cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", ca_file: \"{certs}/ca.pem\""
    );
    let tls = format!("tls {{ {files} }}");
    for mix in MIXES {
        if let Some(servers) = pair(mix, ["s2_fast", "s2_better"], &tls) {
            expect_compression(&servers[0], "s2_fast");
            expect_traffic(&servers, 2000);
        }
    }
}

#[test]
fn a_reload_changes_compression_at_once_or_by_new_connections() {
    for mix in [[M, M], [M, R]] {
        let Some([mut first, second]) = pair(mix, ["s2_fast", "accept"], "") else {
            continue;
        };
        for server in [&first, &second] {
            expect_compression(server, "s2_fast");
        }
        let change = |server: &mut Server, mode: &str| {
            let node = Node {
                more: &format!("compression: {mode}\n"),
                ..Node::new(M, "n0")
            };
            server.reload(&node.conf()).expect("a reload");
        };
        let before = shown(&first, "rid");
        change(&mut first, "s2_best");
        expect_compression(&first, "s2_best");
        expect_compression(&second, "s2_fast");
        assert_eq!(shown(&first, "rid"), before);
        for (mode, there) in [
            ("off", "off"),
            ("s2_better", "s2_better"),
            ("accept", "off"),
        ] {
            let before = shown(&first, "rid");
            change(&mut first, mode);
            for server in [&first, &second] {
                expect_compression(server, there);
            }
            assert!(shown(&first, "rid").is_disjoint(&before));
        }
        expect_traffic(&[first, second], 10);
    }
}

/// A server that is none: it says what it is told to.
struct Fake {
    stream: TcpStream,
    packer: Packer,
    encoder: Encoder,
    unpacker: Unpacker,
    /// What it was told, compressed or not.
    heard: Vec<u8>,
}

impl Fake {
    /// Dials a server, and agrees with it to compress.
    fn dial(server: &Server) -> Fake {
        let address = ([127, 0, 0, 1], route_port(server)).into();
        let mut connection = Connection::open(address).expect("it accepts");
        let info = connection.expect_info();
        assert_eq!(info["compression"], "s2_fast");
        let stream = connection.stream().try_clone().expect("a socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time");
        let mut fake = Fake {
            stream,
            packer: Packer::new(Level::Fast),
            encoder: Encoder::default(),
            unpacker: Unpacker::default(),
            heard: Vec::new(),
        };
        fake.send(b"CONNECT {\"cluster\":\"C1\"}\r\n");
        fake.send(INFO);
        fake
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it takes that");
    }

    /// Says something, compressed.
    fn say(&mut self, text: &[u8]) {
        let mut wire = Vec::new();
        for piece in text.chunks(Packer::BYTES_MAX) {
            self.packer.pack(piece, &mut self.encoder, &mut wire);
        }
        self.send(&wire);
    }

    /// Hears more, compressed; false if there is no more.
    fn hear_more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let len = match self.stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            read => read.expect("something in time"),
        };
        self.unpacker.push(&buffer[..len]);
        loop {
            let said = self.unpacker.take(&mut buffer).expect("good chunks");
            self.heard.extend_from_slice(&buffer[..said]);
            if said == 0 {
                return len > 0;
            }
        }
    }

    /// Hears until that comes, and forgets what came with it.
    fn hear(&mut self, text: &str) {
        let is_there = |heard: &[u8]| heard.windows(text.len()).any(|it| it == text.as_bytes());
        while !is_there(&self.heard) {
            assert!(self.hear_more(), "{}", self.heard.escape_ascii());
        }
        self.heard.clear();
    }

    /// Hears so many bytes.
    fn hear_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.heard.len() < count {
            assert!(self.hear_more(), "{} of {count}", self.heard.len());
        }
        self.heard.drain(..count).collect()
    }

    /// Hears a line that is no PING.
    fn hear_line(&mut self) -> String {
        loop {
            while !self.heard.contains(&b'\n') {
                assert!(self.hear_more(), "{}", self.heard.escape_ascii());
            }
            let end = self.heard.iter().position(|&byte| byte == b'\n');
            let line = self.hear_bytes(end.map_or(0, |at| at + 1));
            if line != b"PING\r\n" {
                return String::from_utf8(line).expect("text");
            }
        }
    }

    /// Becomes part of the cluster.
    fn join(&mut self) {
        self.hear("\"compression\":\"s2_fast\"");
        self.say(INFO);
        self.say(b"PING\r\n");
        self.hear("PONG\r\n");
    }
}

const INFO: &[u8] =
    b"INFO {\"server_id\":\"F\",\"server_name\":\"f\",\"port\":1,\"headers\":true,\"compression\":\"accept\"}\r\n";

#[test]
fn who_does_not_keep_to_what_was_agreed_on_is_let_go() {
    let server = node(M, "n0", None, "", "compression: s2_fast").expect("midge is there");
    let header = b"\xff\x06\0\0S2sTwO";
    for (bytes, why) in [
        (INFO, "s2: not a stream of chunks"),
        (b"\xff\x06\0\0S2sTwo", "s2: not a stream of chunks"),
        (b"\x02\0\0\0", "s2: a chunk of unknown type 0x02"),
        (b"\x01\x05\0\0abcdx", "s2: the checksum of a chunk is wrong"),
        (b"\0\x08\0\0abcd\x03\x00aa", "s2: a block is cut short"),
        (
            b"\0\xff\xff\xff",
            "s2: a chunk of type 0x00 with 16777215 bytes",
        ),
        (
            b"\0\x08\0\0abcd\xff\xff\xff\x7f",
            "s2: a block of 268435455 bytes exceeds the maximum of 4194304",
        ),
    ] {
        for joins in [false, true] {
            let mut fake = Fake::dial(&server);
            if joins {
                fake.join();
            } else if bytes[0] != b'I' && bytes[0] != 0xff {
                fake.send(header);
            }
            // Inside a stream, what begins like an operation is a chunk of a strange type.
            let why = match joins && bytes == INFO {
                true => "s2: a chunk of unknown type 0x49",
                false => why,
            };
            let before = server.log().matches(why).count();
            fake.send(bytes);
            while fake.hear_more() {}
            let told = wait_for(|| (server.log().matches(why).count() > before).then_some(()));
            assert!(told.is_some(), "{why}: {}", server.log());
        }
    }
    assert_eq!(
        wait_for(|| (routez(&server, "")["num_routes"] == 0).then_some(())),
        Some(())
    );
    client(&server);
}

#[test]
fn what_a_slow_server_does_not_take_waits_for_it_as_a_whole() {
    let server = node(M, "n0", None, "", "compression: s2_fast").expect("midge is there");
    let mut fake = Fake::dial(&server);
    fake.join();
    fake.say(b"RS+ $G big\r\nPING\r\n");
    fake.hear("PONG\r\n");
    let (large, count) = (noise(256 * 1024), 64);
    let mut publisher = client(&server);
    for number in 0..count {
        let tail = format!("{number:02}");
        publisher.send(format!("PUB big {}\r\n", large.len() + 2).as_bytes());
        publisher.send(&large);
        publisher.send(format!("{tail}\r\n").as_bytes());
    }
    publisher.ping();
    for number in 0..count {
        let len = large.len() + 2;
        assert_eq!(fake.hear_line(), format!("RMSG $G big {len}\r\n"));
        let payload = fake.hear_bytes(len + 2);
        let expected = [&large, format!("{number:02}\r\n").as_bytes()].concat();
        assert!(payload == expected, "message {number}");
    }
}
