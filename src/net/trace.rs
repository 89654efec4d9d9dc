//! Protocol lines for the log, at level TRC.

use crate::config::options::Options;
use crate::log::{Logger, quote, redact_connect, trace};
use crate::proto::encode::Message;
use crate::proto::frame::Frame;
use crate::proto::route::{self, RouteFrame};
use crate::session::{Client, Route};

/// Logs an operation that came in.
pub(super) fn inbound(log: &Logger, session: &Client, frame: &Frame<'_>, options: &Options) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = match *frame {
        Frame::Connect(json) => format!("CONNECT {}", redact_connect(json)),
        Frame::Info(json) => format!("INFO {}", text(json)),
        Frame::Publish(publish) => {
            let verb = if publish.header_len > 0 {
                "HPUB"
            } else {
                "PUB"
            };
            let words = [publish.subject, publish.reply, publish.sizes].map(text);
            let words: Vec<&str> = words
                .iter()
                .map(String::as_str)
                .filter(|word| !word.is_empty())
                .collect();
            format!("{verb} {}", words.join(" "))
        }
        Frame::Subscribe {
            subject,
            queue: None,
            sid,
        } => format!("SUB {} {}", text(subject), text(sid)),
        Frame::Subscribe {
            subject,
            queue: Some(queue),
            sid,
        } => {
            format!("SUB {} {} {}", text(subject), text(queue), text(sid))
        }
        Frame::Unsubscribe { sid, max: 0 } => format!("UNSUB {}", text(sid)),
        Frame::Unsubscribe { sid, max } => format!("UNSUB {} {max}", text(sid)),
        Frame::Ping => "PING".into(),
        Frame::Pong => "PONG".into(),
        Frame::Ok => "OK".into(),
        Frame::Err(error) => format!("-ERR {}", text(error)),
        Frame::Hmsg => "HMSG".into(),
    };
    trace!(log, "{session} - <<- [{line}]");
    if let Frame::Publish(publish) = frame {
        let (body, header_len) = (publish.body, publish.header_len);
        if let Some(shown) = payload(body, header_len, options) {
            trace!(log, "{session} - <<- MSG_PAYLOAD: [{shown}]");
        }
    }
}

/// Logs a message of the server's own, as if its system account had a client.
pub(super) fn own(log: &Logger, message: &Message<'_>, options: &Options) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let size = message.body().len().saturating_sub(2).to_string();
    let words = [text(message.subject()), text(message.reply()), size];
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty())
        .collect();
    trace!(log, "SYSTEM - <<- [PUB {}]", words.join(" "));
    if let Some(shown) = payload(message.body(), message.header_len(), options) {
        trace!(log, "SYSTEM - <<- MSG_PAYLOAD: [{shown}]");
    }
}

/// Logs a message that went out.
pub(super) fn delivered(
    log: &Logger,
    to: &str,
    sid: &[u8],
    headers: bool,
    message: &Message<'_>,
    options: &Options,
) {
    let mut bytes = Vec::new();
    let rest = message.head(sid, headers, &mut bytes);
    bytes.extend_from_slice(rest);
    let line = bytes
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    trace!(log, "{to} - ->> [{}]", String::from_utf8_lossy(line));
    let (skipped, header_len) = if headers {
        (0, message.header_len())
    } else {
        (message.header_len(), 0)
    };
    let body = message.body().get(skipped..).unwrap_or_default();
    if let Some(shown) = payload(body, header_len, options) {
        trace!(log, "{to} - ->> MSG_PAYLOAD: [{shown}]");
    }
}

/// Logs that a subscription has ended.
pub(super) fn ended(log: &Logger, client: &str, sid: &[u8]) {
    trace!(
        log,
        "{client} - <-> [DELSUB {}]",
        String::from_utf8_lossy(sid)
    );
}

/// Logs an operation that came from another server.
pub(super) fn inbound_routed(
    log: &Logger,
    session: &Route,
    frame: &RouteFrame<'_>,
    options: &Options,
) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words = |words: &[Option<&[u8]>]| {
        let words: Vec<String> = words.iter().flatten().map(|word| text(word)).collect();
        words.join(" ")
    };
    let line = match *frame {
        RouteFrame::Connect(json) => format!("CONNECT {}", redact_connect(json)),
        RouteFrame::Info(json) => format!("INFO {}", text(json)),
        RouteFrame::Interest {
            account,
            subject,
            queue,
        } => {
            let weight = queue.map(|(_, weight)| weight.to_string());
            let weight = weight.as_deref().map(str::as_bytes);
            let queue = queue.map(|(name, _)| name);
            format!("RS+ {}", words(&[account, Some(subject), queue, weight]))
        }
        RouteFrame::NoInterest {
            account,
            subject,
            queue,
        } => format!("RS- {}", words(&[account, Some(subject), queue])),
        RouteFrame::Message(ref message) => {
            let publish = &message.publish;
            let has_headers = publish.header_len > 0;
            let verb = if has_headers { "HMSG" } else { "RMSG" };
            let named = |bytes| Some(bytes).filter(|bytes: &&[u8]| !bytes.is_empty());
            let mark: &[u8] = if publish.reply.is_empty() { b"|" } else { b"+" };
            let groups = named(message.groups);
            let mark = groups.map(|_| mark);
            let (subject, reply) = (Some(publish.subject), named(publish.reply));
            let sizes = Some(publish.sizes);
            let account = message.account;
            format!(
                "{verb} {}",
                words(&[account, subject, mark, reply, groups, sizes])
            )
        }
        RouteFrame::Ping => "PING".into(),
        RouteFrame::Pong => "PONG".into(),
        RouteFrame::Ok => "OK".into(),
        RouteFrame::Err(error) => format!("-ERR {}", text(error)),
        RouteFrame::Account => "A".into(),
    };
    trace!(log, "{session} - <<- [{line}]");
    if let RouteFrame::Message(message) = frame {
        let (body, header_len) = (message.publish.body, message.publish.header_len);
        if let Some(shown) = payload(body, header_len, options) {
            trace!(log, "{session} - <<- MSG_PAYLOAD: [{shown}]");
        }
    }
}

/// Logs a message that went to another server.
pub(super) fn routed(
    log: &Logger,
    to: &str,
    (account, groups, headers): (Option<&[u8]>, &[u8], bool),
    message: &Message<'_>,
    options: &Options,
) {
    let mut bytes = Vec::new();
    let rest = route::message_head(account, message, groups, headers, &mut bytes);
    bytes.extend_from_slice(rest);
    let line = bytes.split(|&byte| byte == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    trace!(log, "{to} - ->> [{line}]");
    if let Some(shown) = payload(message.body(), message.header_len(), options) {
        trace!(log, "{to} - ->> MSG_PAYLOAD: [{shown}]");
    }
}

/// Logs lines that were written to a peer for itself alone.
pub(super) fn answered(log: &Logger, session: &str, bytes: &[u8]) {
    for line in bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = match line.strip_prefix(b"CONNECT ") {
            Some(json) => format!("CONNECT {}", redact_connect(json)),
            None => String::from_utf8_lossy(line).into_owned(),
        };
        let line = line.trim_end().trim_start_matches('+');
        trace!(
            log,
            "{session} - ->> [{}]",
            line.replacen("-ERR '", "-ERR ", 1).trim_end_matches('\'')
        );
    }
}

/// What is shown of a message's body, which begins with its headers and ends with CRLF; nothing if that is empty.
fn payload(body: &[u8], header_len: usize, options: &Options) -> Option<String> {
    let shown = if options.trace_headers {
        body.get(..header_len).unwrap_or_default().trim_ascii_end()
    } else {
        body.strip_suffix(b"\r\n").unwrap_or(body)
    };
    (!shown.is_empty()).then(|| quote(shown, options.max_traced_msg_len))
}
