//! Protocol lines for the log, at level TRC.

use std::fmt;

use crate::config::options::Options;
use crate::log::{Logger, quote, redact_connect, trace};
use crate::proto::encode::Message;
use crate::proto::frame::Frame;
use crate::proto::route::{self, RouteFrame};
use crate::session::{Client, Route};

/// Logs an operation that came in.
pub(super) fn inbound(log: &Logger, session: &Client, frame: &Frame<'_>, options: &Options) {
    let line = match *frame {
        Frame::Connect(json) => format!("CONNECT {}", redact_connect(json)),
        Frame::Info(json) => format!("INFO {}", text(json)),
        Frame::Publish(publish) => {
            let verb = if publish.header_len > 0 {
                "HPUB"
            } else {
                "PUB"
            };
            let parts = [publish.subject, publish.reply, publish.sizes];
            format!("{verb} {}", words(&parts))
        }
        Frame::Subscribe {
            subject,
            queue,
            sid,
        } => {
            let parts = [subject, queue.unwrap_or_default(), sid];
            format!("SUB {}", words(&parts))
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
        let body = (publish.body, publish.header_len);
        payload(log, &format_args!("{session} - <<-"), body, options);
    }
}

/// Logs a message of the server's own, as if its system account had a client.
pub(super) fn own(log: &Logger, message: &Message<'_>, options: &Options) {
    let size = message.body().len().saturating_sub(2).to_string();
    let parts = [message.subject(), message.reply(), size.as_bytes()];
    trace!(log, "SYSTEM - <<- [PUB {}]", words(&parts));
    let body = (message.body(), message.header_len());
    payload(log, &"SYSTEM - <<-", body, options);
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
    outbound(log, to, &bytes, headers, message, options);
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
    let line = match *frame {
        RouteFrame::Connect(json) => format!("CONNECT {}", redact_connect(json)),
        RouteFrame::Info(json) => format!("INFO {}", text(json)),
        RouteFrame::Interest {
            account,
            subject,
            queue,
        } => {
            let weight = queue.map_or_else(String::new, |(_, weight)| weight.to_string());
            let queue = queue.map_or(&b""[..], |(name, _)| name);
            let parts = [
                account.unwrap_or_default(),
                subject,
                queue,
                weight.as_bytes(),
            ];
            format!("RS+ {}", words(&parts))
        }
        RouteFrame::NoInterest {
            account,
            subject,
            queue,
        } => {
            let [account, queue] = [account, queue].map(Option::unwrap_or_default);
            format!("RS- {}", words(&[account, subject, queue]))
        }
        RouteFrame::Message(ref message) => {
            let publish = &message.publish;
            let has_headers = publish.header_len > 0;
            let verb = if has_headers { "HMSG" } else { "RMSG" };
            let mark: &[u8] = match (message.groups, publish.reply) {
                (b"", _) => b"",
                (_, b"") => b"|",
                _ => b"+",
            };
            let account = message.account.unwrap_or_default();
            let (subject, reply) = (publish.subject, publish.reply);
            let parts = [account, subject, mark, reply, message.groups, publish.sizes];
            format!("{verb} {}", words(&parts))
        }
        RouteFrame::Ping => "PING".into(),
        RouteFrame::Pong => "PONG".into(),
        RouteFrame::Ok => "OK".into(),
        RouteFrame::Err(error) => format!("-ERR {}", text(error)),
        RouteFrame::Account => "A".into(),
    };
    trace!(log, "{session} - <<- [{line}]");
    if let RouteFrame::Message(message) = frame {
        let body = (message.publish.body, message.publish.header_len);
        payload(log, &format_args!("{session} - <<-"), body, options);
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
    outbound(log, to, &bytes, headers, message, options);
}

/// Logs the first line of these bytes, and of the message that they are of what the receiver gets.
fn outbound(
    log: &Logger,
    to: &str,
    bytes: &[u8],
    headers: bool,
    message: &Message<'_>,
    options: &Options,
) {
    let line = bytes.split(|&byte| byte == b'\r').next();
    trace!(log, "{to} - ->> [{}]", text(line.unwrap_or_default()));
    let (skipped, header_len) = if headers {
        (0, message.header_len())
    } else {
        (message.header_len(), 0)
    };
    let body = message.body().get(skipped..).unwrap_or_default();
    let body = (body, header_len);
    payload(log, &format_args!("{to} - ->>"), body, options);
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

/// Logs what is shown of a message's body, which begins with so many bytes of headers and ends with CRLF, unless that is
/// empty. `what` is who had it, and in which direction.
fn payload(
    log: &Logger,
    what: &dyn fmt::Display,
    (body, header_len): (&[u8], usize),
    options: &Options,
) {
    let shown = if options.trace_headers {
        body.get(..header_len).unwrap_or_default().trim_ascii_end()
    } else {
        body.strip_suffix(b"\r\n").unwrap_or(body)
    };
    if !shown.is_empty() {
        let shown = quote(shown, options.max_traced_msg_len);
        trace!(log, "{what} MSG_PAYLOAD: [{shown}]");
    }
}

/// Those of these that are not empty, parted by blanks.
fn words(parts: &[&[u8]]) -> String {
    let parts = parts.iter().filter(|part| !part.is_empty());
    let parts: Vec<String> = parts.map(|part| text(part)).collect();
    parts.join(" ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
