//! Protocol lines for the log, at level TRC.

use crate::log::{Logger, quote, redact_connect, trace};
use crate::proto::encode::Message;
use crate::proto::frame::Frame;
use crate::session::Client;

/// Logs an operation that came in.
pub(super) fn inbound(
    log: &Logger,
    session: &Client,
    frame: &Frame<'_>,
    payload_max: Option<usize>,
) {
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
        payload(log, session, "<<-", publish.body, payload_max);
    }
}

/// Logs a message that went out.
pub(super) fn delivered(
    log: &Logger,
    to: &str,
    sid: &[u8],
    headers: bool,
    message: &Message<'_>,
    max: Option<usize>,
) {
    let mut bytes = Vec::new();
    let rest = message.head(sid, headers, &mut bytes);
    bytes.extend_from_slice(rest);
    let line = bytes
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    trace!(log, "{to} - ->> [{}]", String::from_utf8_lossy(line));
    let with_headers = if headers { 0 } else { message.header_len() };
    let body = message.body().get(with_headers..).unwrap_or_default();
    if body.len() > 2 {
        let body = body.strip_suffix(b"\r\n").unwrap_or(body);
        trace!(log, "{to} - ->> MSG_PAYLOAD: [{}]", quote(body, max));
    }
}

/// Logs lines that were written to a peer for itself alone.
pub(super) fn answered(log: &Logger, session: &str, bytes: &[u8]) {
    for line in bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let line = line.trim_end().trim_start_matches('+');
        trace!(
            log,
            "{session} - ->> [{}]",
            line.replacen("-ERR '", "-ERR ", 1).trim_end_matches('\'')
        );
    }
}

fn payload(log: &Logger, session: &Client, arrow: &str, body: &[u8], max: Option<usize>) {
    let body = body.strip_suffix(b"\r\n").unwrap_or(body);
    if !body.is_empty() {
        trace!(
            log,
            "{session} - {arrow} MSG_PAYLOAD: [{}]",
            quote(body, max)
        );
    }
}
