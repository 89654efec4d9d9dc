//! Messages to a crowd, between messages to one of it: everybody gets what it subscribed to, in order.

mod support;

use support::connection::Connection;
use support::http::get;
use support::server::Server;
use support::tls::Tls;
use support::{programs, start};

/// More than a server takes for a few, on each of two workers.
const CROWD: usize = 80;
const MESSAGES: usize = 700;
const HEADERS: &str = "NATS/1.0\r\nA: b\r\n\r\n";

/// One of the crowd.
struct Member {
    connection: Connection,
    number: usize,
}

impl Member {
    fn join(mut connection: Connection, number: usize) -> Member {
        let headers = Member::takes_headers(number);
        connection.send(format!("CONNECT {{\"headers\":{headers}}}\r\n").as_bytes());
        let sid = Member::sid(number);
        connection.send(format!("SUB all.> {sid}\r\nSUB own.{number} own\r\n").as_bytes());
        if let Some(max) = Member::max(number) {
            connection.send(format!("UNSUB {sid} {max}\r\n").as_bytes());
        }
        if Member::is_twice(number) {
            connection.send(b"SUB all.a again\r\n");
        }
        connection.send(b"PING\r\n");
        while connection.expect_line() != b"PONG\r\n" {}
        Member { connection, number }
    }

    fn takes_headers(number: usize) -> bool {
        number % 5 != 0
    }

    /// Short ones of different lengths, and one that is long.
    fn sid(number: usize) -> String {
        match number % 8 {
            0 => format!("a-sid-of-more-than-sixteen-bytes-{number}"),
            1 | 2 => number.to_string(),
            _ => "7".into(),
        }
    }

    fn max(number: usize) -> Option<usize> {
        (number % 16 == 6).then_some(3 * number)
    }

    fn is_twice(number: usize) -> bool {
        number % 10 == 9
    }

    /// What it must get of a message: several, if it has several subscriptions for it.
    fn share(&self, message: &Message, had: &mut usize) -> Vec<String> {
        let number = self.number;
        let headers = Member::takes_headers(number);
        let mut share = Vec::new();
        if message.subject == format!("own.{number}") {
            share.push(message.delivered("own", headers));
        }
        if message.subject.starts_with("all.") && Member::max(number).is_none_or(|max| *had < max) {
            *had += 1;
            share.push(message.delivered(&Member::sid(number), headers));
        }
        if message.subject == "all.a" && Member::is_twice(number) {
            share.push(message.delivered("again", headers));
        }
        share.sort();
        share
    }

    /// Takes a delivery.
    fn take(&mut self) -> String {
        let line = String::from_utf8(self.connection.expect_line()).expect("text");
        let size = line.split_whitespace().last().expect("a word");
        let size: usize = size.parse().expect("a size");
        let body = self.connection.expect_bytes(size + 2);
        line + std::str::from_utf8(&body).expect("text")
    }
}

struct Message {
    subject: String,
    reply: &'static str,
    headers: &'static str,
    payload: String,
}

impl Message {
    /// Mostly for all, and one now and then that is for one alone, has headers, a reply, or is large.
    fn number(n: usize) -> Message {
        let one = n * 31 % CROWD;
        let (subject, reply, headers, size) = match n % 20 {
            3 | 4 => (format!("own.{one}"), "", "", 8),
            7 => ("all.h".into(), "", HEADERS, 16),
            9 => ("all.r".into(), "back.to.me ", "", 0),
            11 => ("all.large".into(), "", "", 9_000),
            12 => (format!("own.{one}"), "", HEADERS, 0),
            _ => ("all.a".into(), "", "", 120),
        };
        let payload = format!("{n:08}").repeat(size / 8);
        Message {
            subject,
            reply,
            headers,
            payload,
        }
    }

    fn published(&self) -> String {
        self.line("PUB", "", true)
    }

    fn delivered(&self, sid: &str, headers: bool) -> String {
        self.line("MSG", &format!("{sid} "), headers)
    }

    fn line(&self, verb: &str, sid: &str, with_headers: bool) -> String {
        let Message {
            subject,
            reply,
            headers,
            payload,
        } = self;
        if headers.is_empty() || !with_headers {
            let size = payload.len();
            return format!("{verb} {subject} {sid}{reply}{size}\r\n{payload}\r\n");
        }
        let (part, size) = (headers.len(), headers.len() + payload.len());
        format!("H{verb} {subject} {sid}{reply}{part} {size}\r\n{headers}{payload}\r\n")
    }
}

fn connected(server: &Server, tls: Option<&Tls>) -> Connection {
    let mut connection = server.connect();
    connection.expect_info();
    if let Some(tls) = tls {
        connection.upgrade(tls).expect("a handshake");
    }
    connection
}

#[test]
fn everybody_of_a_crowd_gets_its_own_in_order() {
    let certificate =
        "tls {cert_file: \"certs/server-cert.pem\", key_file: \"certs/server-key.pem\"}
        allow_non_tls: true";
    let tls = Tls::new();
    for program in programs() {
        let server = start(&program, &format!("http: \"127.0.0.1:-1\"\n{certificate}"));
        let crowd = (0..CROWD).map(|number| {
            let tls = (number % 13 == 2).then_some(&tls);
            Member::join(connected(&server, tls), number)
        });
        let mut crowd: Vec<Member> = crowd.collect();
        let messages: Vec<Message> = (0..MESSAGES).map(Message::number).collect();
        let mut publisher = server.client(",\"headers\":true");
        let text: String = messages.iter().map(Message::published).collect();
        publisher.send(text.as_bytes());
        publisher.ping();

        let mut delivered = 0;
        for member in &mut crowd {
            let mut had = 0;
            for (n, message) in messages.iter().enumerate() {
                let wanted = member.share(message, &mut had);
                let mut got: Vec<String> = wanted.iter().map(|_| member.take()).collect();
                got.sort();
                assert!(
                    got == wanted,
                    "message {n} for {}: {got:?} is not {wanted:?}",
                    member.number
                );
                delivered += wanted.len();
            }
            member.connection.ping();
        }
        let varz = get(server.monitor(), "/varz").json();
        assert_eq!(varz["out_msgs"], delivered);
    }
}
