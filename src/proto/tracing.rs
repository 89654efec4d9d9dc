//! Headers by which a message asks to be traced.
//!
//! ```text
//! NATS/1.0
//! Nats-Trace-Dest: where.to.tell     every server that it comes to tells there what became of it
//! Nats-Trace-Only: true              and does not deliver it; also "1" and "on", in any case
//! Nats-Trace-Hop: 2.1                which server of its way this is: set from one to the next, never by clients
//! Nats-Trace-Origin-Account: A       from elsewhere: nothing is to be told
//! ```
//!
//! Read as the reference server does: names as they are spelled, the first value where there are several, nothing behind an
//! empty line, and a line without its CRLF is none. Source: NATS ADR-41.

use memchr::{memchr, memchr_iter, memmem};
use serde_json::{Map, Value};

use super::encode::{Parts, compose};
use super::frame::Publish;
use super::headers::{self, VERSION};
use crate::subject;

/// Where to tell what became of the message.
pub const DESTINATION: &[u8] = b"Nats-Trace-Dest";
/// Which server of its way a message has come to.
pub const HOP: &[u8] = b"Nats-Trace-Hop";
/// The destination of a message that is not traced any further.
pub const DISABLED: &[u8] = b"trace disabled";

/// What a message wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Where; empty if no message can be sent there.
    pub destination: &'a [u8],
    /// Whether it is not to be delivered.
    pub only: bool,
    /// Whether it comes from where nothing of this server is to be told.
    pub is_foreign: bool,
    /// Which server of its way this one is; empty if it is the first.
    pub hop: &'a [u8],
}

/// Whether a message may ask to be traced: cheap, and mostly right.
#[inline]
#[must_use]
pub fn may_ask(publish: &Publish<'_>) -> bool {
    const LEN_MIN: usize = "NATS/1.0\r\nNats-Trace-Dest:x\r\n".len();
    publish.header_len >= LEN_MIN && seems_to_ask(block(publish))
}

/// Most blocks do not even have the rarest letter of the name where it can be.
#[inline(never)]
fn seems_to_ask(headers: &[u8]) -> bool {
    const BEFORE: usize = "NATS/1.0\r\nNats-Trace-".len();
    const BEHIND: usize = "est:x\r\n".len();
    let place = headers.get(BEFORE..headers.len().saturating_sub(BEHIND));
    memchr(b'D', place.unwrap_or_default()).is_some() && names_destination(headers)
}

/// A large block can be made to consist of that letter: it is searched in a way whose time has a bound.
#[cold]
#[inline(never)]
fn names_destination(headers: &[u8]) -> bool {
    const SMALL: usize = 4096;
    if headers.len() > SMALL {
        return memmem::find(headers, DESTINATION).is_some();
    }
    let before = |at: usize| headers.get(..at).unwrap_or_default();
    memchr_iter(b'D', headers).any(|at| before(at).ends_with(b"\nNats-Trace-"))
}

impl<'a> Wish<'a> {
    /// What a message with these headers asks for.
    #[must_use]
    pub fn of(headers: &'a [u8]) -> Option<Self> {
        let [mut destination, mut only, mut origin, mut hop] = [&[][..]; 4];
        for (name, value) in fields(headers) {
            let place = match name {
                DESTINATION => &mut destination,
                b"Nats-Trace-Only" => &mut only,
                b"Nats-Trace-Origin-Account" => &mut origin,
                HOP => &mut hop,
                _ => continue,
            };
            if place.is_empty() {
                *place = value;
            }
        }
        if destination.is_empty() || destination == DISABLED {
            return None;
        }
        // Nothing in it may end a word, or a line, of what it is sent on in.
        let is_word = !destination.iter().any(u8::is_ascii_whitespace);
        let can_be_told = is_word && subject::is_valid_literal(destination);
        let yes = [&b"1"[..], b"true", b"on"];
        Some(Wish {
            destination: if can_be_told { destination } else { b"" },
            only: yes.iter().any(|yes| only.eq_ignore_ascii_case(yes)),
            is_foreign: !origin.is_empty(),
            hop,
        })
    }
}

/// All headers: the values of each name.
#[must_use]
pub fn headers_of(block: &[u8]) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in fields(block) {
        let [name, value] = [name, value].map(|it| String::from_utf8_lossy(it).into_owned());
        let values = all.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(Value::String(value));
        }
    }
    all
}

/// The headers of a message, as they came.
#[must_use]
pub fn block<'a>(publish: &Publish<'a>) -> &'a [u8] {
    publish.body.get(..publish.header_len).unwrap_or_default()
}

/// Appends the line of a message with one header set.
pub fn with_header(publish: &Publish<'_>, name: &[u8], value: &[u8], line: &mut Vec<u8>) -> Parts {
    let mut body = Vec::with_capacity(publish.body.len() + name.len() + value.len() + 4);
    headers::set(block(publish), name, value, &mut body);
    let header_len = body.len();
    let payload = publish.body.get(publish.header_len..).unwrap_or_default();
    body.extend_from_slice(payload.strip_suffix(b"\r\n").unwrap_or(payload));
    compose(publish.subject, publish.reply, header_len, &body, line)
}

/// Names and values, without lines that have no name or no value.
fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = block.strip_prefix(VERSION).unwrap_or_default();
    let lines = std::iter::from_fn(move || {
        let (line, behind) = rest.split_at_checked(memmem::find(rest, b"\r\n")?)?;
        rest = behind.get(2..)?;
        Some(line).filter(|line| !line.is_empty())
    });
    lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
        let value = value.get(1..)?.trim_ascii();
        (!name.is_empty() && !value.is_empty()).then_some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(body: &str) -> Publish<'_> {
        Publish {
            subject: b"a",
            reply: b"",
            sizes: b"",
            body: body.as_bytes(),
            header_len: body.len(),
            line: None,
        }
    }

    fn wish(lines: &str) -> Option<(String, bool, bool)> {
        let block = format!("NATS/1.0\r\n{lines}");
        let publish = publish(&block);
        let wish = Wish::of(block.as_bytes());
        assert!(wish.is_none() || may_ask(&publish), "{lines:?}");
        let shown = |it: &[u8]| it.escape_ascii().to_string();
        wish.map(|it| (shown(it.destination), it.only, it.is_foreign))
    }

    #[test]
    fn headers_are_read_as_the_reference_server_does() {
        let plain = || Some(("t.1".to_owned(), false, false));
        for lines in [
            "Nats-Trace-Dest: t.1\r\n\r\n",
            "Nats-Trace-Dest:t.1\r\n\r\n",
            "A: 1\r\nNats-Trace-Dest:  t.1  \r\nB:2\r\n\r\n",
            "Nats-Trace-Dest: t.1\r\n",
            "Nats-Trace-Dest: t.1\r\nNats-Trace-Dest: t.2\r\n\r\n",
            "Nats-Trace-Dest: \r\nNats-Trace-Dest: t.1\r\n\r\n",
            "Nats-Trace-Dest: t.1\r\nNats-Trace-Only: yes\r\n\r\n",
            "Nats-Trace-Dest: t.1\r\nNats-Trace-Only: no\r\nNats-Trace-Only: 1\r\n\r\n",
            "Nats-Trace-Dest: t.1\r\nnats-trace-only: 1\r\n\r\n",
            "Nats-Trace-Dest: t.1\r\nNats-Trace-Origin-Account: \r\n\r\n",
        ] {
            assert_eq!(wish(lines), plain(), "{lines:?}");
        }
        for lines in [
            "",
            "\r\n",
            "nats-trace-dest: t.1\r\n\r\n",
            "Nats-Trace-Dest: t.1",
            "Nats-Trace-Dest: \r\n\r\n",
            "Nats-Trace-Dest: trace disabled\r\n\r\n",
            "Nats-Trace-Dest-X: t.1\r\nX-Nats-Trace-Dest: t.1\r\n\r\n",
            "A: Nats-Trace-Dest: t.1\r\n\r\n",
            "A: 1\r\n\r\nNats-Trace-Dest: t.1\r\n\r\n",
            "Nats-Trace-Only: 1\r\n\r\n",
        ] {
            assert_eq!(wish(lines), None, "{lines:?}");
        }
        for yes in ["1", "true", "On", "TRUE"] {
            let lines = format!("Nats-Trace-Dest: t\r\nNats-Trace-Only: {yes}\r\n\r\n");
            assert_eq!(wish(&lines), Some(("t".into(), true, false)));
        }
        let foreign = "Nats-Trace-Dest: t\r\nNats-Trace-Origin-Account: A\r\n\r\n";
        assert_eq!(wish(foreign), Some(("t".into(), false, true)));
        for nowhere in ["t.*", "t..a", "t.", "t.a b", "t\tb", "t\nPING", "t\rPING"] {
            let lines = format!("Nats-Trace-Dest: {nowhere}\r\n\r\n");
            assert_eq!(wish(&lines), Some((String::new(), false, false)));
        }
        for block in [
            "NATS/1.0 503\r\nNats-Trace-Dest: t\r\n\r\n",
            "Nats-Trace-Dest: t\r\n\r\n",
        ] {
            assert_eq!(Wish::of(block.as_bytes()), None, "{block:?}");
        }
    }

    #[test]
    fn headers_are_told_by_name() {
        let block = b"NATS/1.0\r\nB: 1\r\nA:2\r\nB: \xff\r\nC:\r\n: 4\r\nnonsense\r\n\r\nD: 1\r\n";
        let all = serde_json::json!({"A": ["2"], "B": ["1", "\u{fffd}"]});
        assert_eq!(Value::Object(headers_of(block)), all);
    }

    #[test]
    fn a_destination_is_seen_in_a_block_of_any_size() {
        for filler in [0, 100, 5000] {
            let lines = format!("Date: {}\r\nNats-Trace-Dest: t\r\n\r\n", "D".repeat(filler));
            assert_eq!(wish(&lines), Some(("t".into(), false, false)));
        }
    }

    #[test]
    fn a_header_is_set_and_the_sizes_are_right() {
        let mut publish = publish("NATS/1.0\r\nA: 1\r\n\r\nhi\r\n");
        publish.header_len -= 4;
        let mut line = b"".to_vec();
        let parts = with_header(&publish, HOP, b"1", &mut line);
        let text = String::from_utf8(line).unwrap();
        assert_eq!(
            text,
            "a 37 39\r\nNATS/1.0\r\nA: 1\r\nNats-Trace-Hop: 1\r\n\r\nhi\r\n"
        );
        assert_eq!((parts.body_at, parts.header_len), (9, 37));
    }
}
