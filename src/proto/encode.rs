//! What the server writes: deliveries, errors.
//!
//! A message is put into delivery form once and then written to any number of subscribers:
//!
//! ```text
//! MSG  orders.eu 42 inbox.7 5␍␊hello␍␊
//! └──────head──────┘└─────rest───────┘     the head differs by sid only, the rest is the same for all
//! ```

use std::cell::OnceCell;
use std::io::Write as _;
use std::sync::Arc;

use super::frame::Publish;

/// A message in delivery form.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Where it goes.
    pub subject: &'a [u8],
    /// `[reply ]sizes CRLF body`, one run of bytes; the body ends in CRLF.
    pub rest: &'a [u8],
    /// Bytes of the reply subject at the start of `rest`, 0 if there is none.
    pub reply_len: usize,
    /// Bytes from the start of `rest` to the start of the body.
    pub body_at: usize,
    /// Bytes of headers at the start of the body.
    pub header_len: usize,
    /// A copy of `rest` that queues can share, once one wanted it.
    shared: OnceCell<Arc<[u8]>>,
}

impl<'a> Message<'a> {
    /// Puts a publish into delivery form; `scratch` holds the bytes if they have to be written anew.
    pub fn from_publish(publish: &Publish<'a>, scratch: &'a mut Vec<u8>) -> Self {
        let reply_len = publish.reply.len();
        if let Some(rest) = publish.rest {
            let body_at = reply_len + usize::from(reply_len > 0) + publish.sizes.len() + 2;
            return Message::new(
                publish.subject,
                rest,
                reply_len,
                body_at,
                publish.header_len,
            );
        }
        scratch.clear();
        if reply_len > 0 {
            scratch.extend_from_slice(publish.reply);
            scratch.push(b' ');
        }
        let mut sizes = publish
            .sizes
            .split(|&byte| byte == b' ' || byte == b'\t')
            .filter(|size| !size.is_empty());
        scratch.extend_from_slice(sizes.next().unwrap_or_default());
        for size in sizes {
            scratch.push(b' ');
            scratch.extend_from_slice(size);
        }
        scratch.extend_from_slice(b"\r\n");
        let body_at = scratch.len();
        scratch.extend_from_slice(publish.body);
        Message::new(
            publish.subject,
            scratch,
            reply_len,
            body_at,
            publish.header_len,
        )
    }

    /// A message from its parts.
    #[must_use]
    pub fn new(
        subject: &'a [u8],
        rest: &'a [u8],
        reply_len: usize,
        body_at: usize,
        header_len: usize,
    ) -> Self {
        Message {
            subject,
            rest,
            reply_len,
            body_at,
            header_len,
            shared: OnceCell::new(),
        }
    }

    /// The same with a copy of `rest` that is shared already.
    #[must_use]
    pub fn sharing(self, rest: &Arc<[u8]>) -> Self {
        Message {
            shared: OnceCell::from(Arc::clone(rest)),
            ..self
        }
    }

    /// `rest` to keep and to share: copied once, however many ask.
    #[must_use]
    pub fn shared_rest(&self) -> &Arc<[u8]> {
        self.shared.get_or_init(|| Arc::from(self.rest))
    }

    /// The reply subject, empty if there is none.
    #[must_use]
    pub fn reply(&self) -> &'a [u8] {
        self.rest.get(..self.reply_len).unwrap_or_default()
    }

    /// Headers and payload, with the CRLF behind them.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.rest.get(self.body_at..).unwrap_or_default()
    }

    /// Bytes of headers and payload.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body().len().saturating_sub(2)
    }

    /// Bytes that one delivery takes at the most.
    #[must_use]
    pub fn len_for(&self, sid: &[u8]) -> usize {
        const VERB_AND_BLANKS: usize = "HMSG   ".len();
        VERB_AND_BLANKS + self.subject.len() + sid.len() + self.rest.len()
    }

    /// Appends the head for one subscriber and gives what has to follow it.
    ///
    /// A subscriber without header support gets the payload alone, with its own size.
    #[inline]
    pub fn head(&self, sid: &[u8], headers: bool, out: &mut Vec<u8>) -> &'a [u8] {
        out.extend_from_slice(if self.header_len > 0 && headers {
            b"HMSG "
        } else {
            b"MSG "
        });
        out.extend_from_slice(self.subject);
        out.push(b' ');
        out.extend_from_slice(sid);
        out.push(b' ');
        if self.header_len == 0 || headers {
            return self.rest;
        }
        if self.reply_len > 0 {
            out.extend_from_slice(self.reply());
            out.push(b' ');
        }
        let payload = self.body().get(self.header_len..).unwrap_or_default();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}\r\n", payload.len() - 2);
        payload
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
        assert!(out.len() <= message.len_for(b"7"));
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
