//! What the server writes: deliveries, errors.
//!
//! A message is put into delivery form once and then written to any number of subscribers:
//!
//! ```text
//! MSG  orders.eu  42  inbox.7 5␍␊hello␍␊
//!      └──────── line ─────────────────┘     all but verb and sid is the same for everyone
//! ```

use std::cell::{Cell, OnceCell};
use std::io::Write as _;
use std::sync::Arc;

use super::frame::Publish;

/// A message in delivery form.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// `subject [reply ]sizes CRLF body`, one run of bytes; the body ends in CRLF.
    line: &'a [u8],
    /// Where the parts of `line` are.
    parts: Parts,
    /// A copy of `line` that queues can share, once one wanted it.
    shared: OnceCell<Arc<[u8]>>,
    spread: Cell<Spread>,
}

/// To how many a message goes, and what has been done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// To a few: each gets a copy.
    #[default]
    Few,
    /// To so many that it pays to keep it for all of them.
    Many,
    /// It is kept.
    Kept {
        /// By a keeper that had been emptied so often.
        emptied: u32,
        /// Where it is there.
        at: u32,
    },
}

/// Where the parts of a message's line are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Bytes of the subject, with which the line starts.
    pub subject_len: usize,
    /// Bytes of the reply subject, 0 if there is none.
    pub reply_len: usize,
    /// Bytes up to the body.
    pub body_at: usize,
    /// Bytes of headers at the start of the body.
    pub header_len: usize,
}

impl<'a> Message<'a> {
    /// Puts a publish into delivery form; `scratch` holds the bytes if they have to be written anew.
    #[inline]
    pub fn from_publish(publish: &Publish<'a>, scratch: &'a mut Vec<u8>) -> Self {
        let line = publish.line.unwrap_or_else(|| rewritten(publish, scratch));
        let parts = Parts {
            subject_len: publish.subject.len(),
            reply_len: publish.reply.len(),
            body_at: line.len() - publish.body.len(),
            header_len: publish.header_len,
        };
        Message::new(line, parts)
    }

    /// A message from its line.
    #[must_use]
    #[inline]
    pub fn new(line: &'a [u8], parts: Parts) -> Self {
        Message {
            line,
            parts,
            shared: OnceCell::new(),
            spread: Cell::new(Spread::Few),
        }
    }

    /// The same with a copy of its line that is shared already.
    #[must_use]
    pub fn sharing(self, line: &Arc<[u8]>) -> Self {
        Message {
            shared: OnceCell::from(Arc::clone(line)),
            ..self
        }
    }

    /// The line, to keep and to share: copied once, however many ask.
    #[must_use]
    pub fn shared_line(&self) -> &Arc<[u8]> {
        self.shared.get_or_init(|| Arc::from(self.line))
    }

    /// To how many it goes.
    #[must_use]
    #[inline]
    pub fn spread(&self) -> Spread {
        self.spread.get()
    }

    /// Says to how many it goes, or where it is kept for them.
    #[inline]
    pub fn set_spread(&self, spread: Spread) {
        self.spread.set(spread);
    }

    /// All but verb and sid.
    #[must_use]
    pub fn line(&self) -> &'a [u8] {
        self.line
    }

    /// Where its parts are.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// Where it goes.
    #[must_use]
    pub fn subject(&self) -> &'a [u8] {
        self.line.get(..self.parts.subject_len).unwrap_or_default()
    }

    /// The reply subject, empty if there is none.
    #[must_use]
    pub fn reply(&self) -> &'a [u8] {
        let start = self.parts.subject_len + 1;
        self.line
            .get(start..start + self.parts.reply_len)
            .unwrap_or_default()
    }

    /// Headers and payload, with the CRLF behind them.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.line.get(self.parts.body_at..).unwrap_or_default()
    }

    /// Bytes of headers at the start of the body.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.parts.header_len
    }

    /// Bytes that a delivery's verb, subject, sid, reply and sizes take at the most.
    #[must_use]
    #[inline]
    pub fn head_len_max(&self, sid: &[u8]) -> usize {
        const VERB_AND_BLANK: usize = "HMSG  ".len();
        VERB_AND_BLANK + sid.len() + self.parts.body_at
    }

    /// Appends what comes before the rest of a delivery to one subscriber, and gives that rest, a part of the line.
    ///
    /// A subscriber without header support gets the payload alone, with its own size.
    #[inline]
    pub fn head(&self, sid: &[u8], headers: bool, out: &mut Vec<u8>) -> &'a [u8] {
        let Parts {
            subject_len,
            header_len,
            ..
        } = self.parts;
        out.extend_from_slice(verb(header_len > 0 && headers));
        out.extend_from_slice(self.line.get(..=subject_len).unwrap_or_default());
        out.extend_from_slice(sid);
        if header_len > 0 && !headers {
            return self.head_without_headers(out);
        }
        // The space behind the subject once more: it parts the sid from the rest as well.
        self.line.get(subject_len..).unwrap_or_default()
    }

    fn head_without_headers(&self, out: &mut Vec<u8>) -> &'a [u8] {
        out.push(b' ');
        if self.parts.reply_len > 0 {
            out.extend_from_slice(self.reply());
            out.push(b' ');
        }
        let payload = self.body().get(self.parts.header_len..).unwrap_or_default();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}\r\n", payload.len().saturating_sub(2));
        payload
    }
}

/// How a delivery begins.
#[must_use]
#[inline]
pub fn verb(headers: bool) -> &'static [u8] {
    if headers { b"HMSG " } else { b"MSG " }
}

/// The line of a message whose arguments came with other blanks than single spaces.
fn rewritten<'s>(publish: &Publish<'_>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    scratch.clear();
    scratch.extend_from_slice(publish.subject);
    for word in [publish.reply]
        .into_iter()
        .chain(publish.sizes.split(is_blank))
        .filter(|word| !word.is_empty())
    {
        scratch.push(b' ');
        scratch.extend_from_slice(word);
    }
    scratch.extend_from_slice(b"\r\n");
    scratch.extend_from_slice(publish.body);
    scratch
}

/// Appends the line of a message of the server's own making: `body` is headers, of which there are so many bytes, and
/// payload, without the CRLF behind them.
pub fn compose(
    subject: &[u8],
    reply: &[u8],
    header_len: usize,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Parts {
    let start = out.len();
    out.extend_from_slice(subject);
    out.push(b' ');
    if !reply.is_empty() {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    // Writing to a Vec cannot fail.
    let _ = match header_len {
        0 => write!(out, "{}\r\n", body.len()),
        _ => write!(out, "{header_len} {}\r\n", body.len()),
    };
    let body_at = out.len() - start;
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
    Parts {
        subject_len: subject.len(),
        reply_len: reply.len(),
        body_at,
        header_len,
    }
}

/// Appends `-ERR 'text'`.
pub fn error_line(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"-ERR '");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"'\r\n");
}

/// Appends the reply to a request that nobody got.
pub fn no_responders(reply: &[u8], sid: &[u8], subject: &[u8], out: &mut Vec<u8>) {
    const STATUS: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const END: &[u8] = b"\r\n\r\n";
    out.extend_from_slice(b"HMSG ");
    out.extend_from_slice(reply);
    out.push(b' ');
    out.extend_from_slice(sid);
    let len = STATUS.len() + subject.len() + END.len();
    let _ = write!(out, " {len} {len}\r\n");
    out.extend_from_slice(STATUS);
    out.extend_from_slice(subject);
    out.extend_from_slice(END);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::super::parser::{Limits, Parser};
    use super::*;

    fn delivered(wire: &[u8], headers: bool) -> String {
        let limits = Limits {
            max_control_line: 100,
            max_payload: 100,
            headers: true,
        };
        let Frame::Publish(publish) = Parser::default()
            .next(wire, &limits)
            .unwrap()
            .frame
            .unwrap()
        else {
            panic!()
        };
        let mut scratch = Vec::new();
        let message = Message::from_publish(&publish, &mut scratch);
        let mut out = Vec::new();
        let rest = message.head(b"7", headers, &mut out);
        out.extend_from_slice(rest);
        assert!(out.len() - rest.len() <= message.head_len_max(b"7"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn however_it_was_written_a_delivery_has_single_spaces_and_crlf() {
        assert_eq!(
            delivered(b"PUB a 002\r\nhi\r\n", true),
            "MSG a 7 002\r\nhi\r\n"
        );
        assert_eq!(
            delivered(b"pub \ta \t r\t2 \nhi\r\n", true),
            "MSG a 7 r 2\r\nhi\r\n"
        );
        assert_eq!(
            delivered(b"HPUB a\tr 1 \t 3\r\nhi!\r\n", true),
            "HMSG a 7 r 1 3\r\nhi!\r\n"
        );
        assert_eq!(
            delivered(b"HPUB a 0 2\r\nhi\r\n", true),
            "MSG a 7 2\r\nhi\r\n"
        );
    }

    #[test]
    fn headers_are_cut_off_for_who_cannot_take_them() {
        assert_eq!(
            delivered(b"HPUB a r 2 5\r\nhhabc\r\n", false),
            "MSG a 7 r 3\r\nabc\r\n"
        );
        assert_eq!(
            delivered(b"HPUB a 2 2\r\nhh\r\n", false),
            "MSG a 7 0\r\n\r\n"
        );
    }

    #[test]
    fn the_reply_for_no_responders_names_the_subject() {
        let mut out = Vec::new();
        no_responders(b"r", b"7", b"svc", &mut out);
        assert_eq!(
            out,
            b"HMSG r 7 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n"
        );
    }
}
