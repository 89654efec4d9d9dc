//! Frames a route's byte stream into operations.
//!
//! As the parser of clients, it borrows, copies nothing and does not care where reads are split. Each operation is one
//! line, and a message has a body behind it; an unfinished one stays with the caller from its first byte on:
//!
//! ```text
//! Line ──┬────────▶ frame
//!        └▶ Body ─▶ frame     RMSG, HMSG: waits for the payload and its CRLF
//! ```
//!
//! What a caller has to keep is bounded by the limits of a control line and of a payload.

use super::frame::{RouteFrame, RouteMessage};
use crate::proto::error::ParseError;
use crate::proto::frame::Publish;
use crate::proto::parser::{self, is_blank, line_end, quick_message, size, word_len};

/// What a route may send.
#[derive(Clone, Copy, Debug)]
pub struct RouteLimits {
    /// Bytes of arguments in a control line.
    pub max_control_line: usize,
    /// Bytes of headers and payload in a message.
    pub max_payload: usize,
    /// Whether the connection serves one account alone, whose name no operation has then.
    pub is_pinned: bool,
}

/// What one call found.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteStep<'a> {
    /// Bytes at the start of the buffer that the caller may forget, once it is done with the frame.
    pub consumed: usize,
    /// The operation, or `None` when more bytes are needed.
    pub frame: Option<RouteFrame<'a>>,
}

/// The state between two calls.
#[derive(Clone, Debug, Default)]
pub struct RouteParser {
    /// Bytes of the unfinished line that are known to hold no LF.
    scanned: usize,
    /// The message whose body is not complete.
    head: Option<Head>,
}

/// Where the parts of a message are, counted from its verb.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    account: Option<Span>,
    subject: Span,
    reply: Span,
    groups: Span,
    sizes: Span,
    header_len: usize,
    /// Up to and with the LF.
    line_len: usize,
    total_len: usize,
}

/// Offset and length.
type Span = (usize, usize);

/// The longest verb, with the blank behind it.
const VERB_BYTES_MAX: usize = "CONNECT ".len();
/// Bytes of the input that an error quotes.
const QUOTED_MAX: usize = 128;

impl RouteParser {
    /// Takes the next operation from the front of `buf`.
    ///
    /// # Errors
    ///
    /// [`ParseError`] when the bytes are no operation; the connection cannot go on after that.
    #[inline]
    pub fn next<'a>(
        &mut self,
        buf: &'a [u8],
        limits: &RouteLimits,
    ) -> Result<RouteStep<'a>, ParseError> {
        if self.head.is_none() {
            if let Some((message, consumed)) = quick(buf, limits) {
                self.scanned = 0;
                let frame = Some(RouteFrame::Message(message));
                return Ok(RouteStep { consumed, frame });
            }
        }
        self.next_of_any_kind(buf, limits)
    }

    /// Bytes that the unfinished frame will have in all; 0 while that is not known.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.head.as_ref().map_or(0, Head::frame_len)
    }

    fn next_of_any_kind<'a>(
        &mut self,
        buf: &'a [u8],
        limits: &RouteLimits,
    ) -> Result<RouteStep<'a>, ParseError> {
        if let Some(head) = self.head {
            return self.body(buf, &head);
        }
        let max = limits.max_control_line.saturating_add(VERB_BYTES_MAX);
        let end = line_end(buf, self.scanned, max).map_err(|_| ParseError::ControlLine {
            limit: limits.max_control_line,
        })?;
        let Some(end) = end else {
            self.scanned = buf.len();
            return Ok(RouteStep {
                consumed: 0,
                frame: None,
            });
        };
        self.scanned = 0;
        let with_cr = buf.get(..end).unwrap_or_default();
        let line = with_cr.strip_suffix(b"\r").unwrap_or(with_cr);
        let verb_len = line.iter().position(|&byte| is_blank(byte));
        let (verb, arguments) = line.split_at(verb_len.unwrap_or(line.len()));
        if arguments.trim_ascii().len() > limits.max_control_line {
            return Err(ParseError::ControlLine {
                limit: limits.max_control_line,
            });
        }
        let mut upper = [0; VERB_BYTES_MAX];
        let known = upper.get_mut(..verb.len()).ok_or_else(|| unknown(buf))?;
        known.copy_from_slice(verb);
        known.make_ascii_uppercase();
        let frame = match &*known {
            b"RMSG" | b"HMSG" => {
                let mut head = message_head(line, verb.len(), &*known == b"HMSG", limits)?;
                head.line_len = end + 1;
                self.head = Some(head);
                return self.body(buf, &head);
            }
            b"RS+" => interest(arguments, limits)?,
            b"RS-" => no_interest(arguments, limits)?,
            b"PING" => RouteFrame::Ping,
            b"PONG" => RouteFrame::Pong,
            b"+OK" => RouteFrame::Ok,
            b"INFO" => RouteFrame::Info(arguments.trim_ascii()),
            b"CONNECT" => RouteFrame::Connect(arguments.trim_ascii()),
            b"-ERR" => RouteFrame::Err(arguments.trim_ascii()),
            b"A+" | b"A-" => RouteFrame::Account,
            _ => return Err(unknown(buf)),
        };
        Ok(RouteStep {
            consumed: end + 1,
            frame: Some(frame),
        })
    }

    /// The message at the front, if all of it has come.
    fn body<'a>(&mut self, buf: &'a [u8], head: &Head) -> Result<RouteStep<'a>, ParseError> {
        let end = head.line_len + head.total_len;
        let tail = buf.get(end..).unwrap_or_default();
        match tail {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => {
                return Ok(RouteStep {
                    consumed: 0,
                    frame: None,
                });
            }
            _ => return Err(unknown(tail)),
        }
        self.head = None;
        let part = |(at, len): Span| buf.get(at..at + len).unwrap_or_default();
        let publish = Publish {
            subject: part(head.subject),
            reply: part(head.reply),
            sizes: part(head.sizes),
            body: buf.get(head.line_len..end + 2).unwrap_or_default(),
            header_len: head.header_len,
            line: None,
        };
        let message = RouteMessage {
            account: head.account.map(part),
            publish,
            groups: part(head.groups),
        };
        Ok(RouteStep {
            consumed: head.frame_len(),
            frame: Some(RouteFrame::Message(message)),
        })
    }
}

impl Head {
    fn frame_len(&self) -> usize {
        self.line_len + self.total_len + 2
    }
}

/// A message without queue groups that has come whole and is written the usual way.
#[inline]
fn quick<'a>(buf: &'a [u8], limits: &RouteLimits) -> Option<(RouteMessage<'a>, usize)> {
    let (with_headers, rest) = match buf {
        [b'R', b'M', b'S', b'G', b' ', rest @ ..] => (false, rest),
        [b'H', b'M', b'S', b'G', b' ', rest @ ..] => (true, rest),
        _ => return None,
    };
    let (account, line) = if limits.is_pinned {
        (None, rest)
    } else {
        let len = word_len(rest)?;
        (rest.get(..len), rest.get(len + 1..)?)
    };
    let limits = parser::Limits {
        max_control_line: limits.max_control_line,
        max_payload: limits.max_payload,
        headers: true,
    };
    let (publish, len) = quick_message(line, with_headers, &limits)?;
    let message = RouteMessage {
        account,
        publish,
        groups: b"",
    };
    Some((message, buf.len() - line.len() + len))
}

/// The words of a line from `at` on, as offset and length.
fn words(line: &[u8], at: usize) -> impl DoubleEndedIterator<Item = Span> + '_ {
    let rest = line.get(at..).unwrap_or_default();
    let base = line.as_ptr() as usize;
    let words = rest.split(|&byte| is_blank(byte));
    words
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - base, word.len()))
}

/// The arguments of `RMSG` and `HMSG`.
fn message_head(
    line: &[u8],
    verb_len: usize,
    with_headers: bool,
    limits: &RouteLimits,
) -> Result<Head, ParseError> {
    let what = if with_headers {
        "processRoutedHeaderMsgArgs Parse Error"
    } else {
        "processRoutedMsgArgs Parse Error"
    };
    let bad = || bad_arguments(what, line.get(verb_len..).unwrap_or_default());
    let mut words = words(line, verb_len);
    let account = match limits.is_pinned {
        true => None,
        false => Some(words.next().ok_or_else(bad)?),
    };
    let subject = words.next().ok_or_else(bad)?;
    let total = words.next_back().ok_or_else(bad)?;
    let headers = match with_headers {
        true => Some(words.next_back().ok_or_else(bad)?),
        false => None,
    };
    let part = |(at, len): Span| line.get(at..at + len).unwrap_or_default();
    let number = |span| size(part(span)).map(|it| it as usize).ok_or_else(bad);
    let total_len = number(total)?;
    let header_len = headers.map_or(Ok(0), number)?;
    if header_len > total_len {
        return Err(bad());
    }
    if total_len > limits.max_payload {
        return Err(ParseError::Payload {
            size: total_len,
            limit: limits.max_payload,
        });
    }
    let sizes = headers.filter(|_| header_len > 0).unwrap_or(total);
    let mut head = Head {
        account,
        subject,
        sizes: (sizes.0, total.0 + total.1 - sizes.0),
        header_len,
        total_len,
        ..Head::default()
    };
    let (Some(third), fourth) = (words.next(), words.next()) else {
        return Ok(head);
    };
    // By itself it is a reply, which a client may have given a name like that of a mark.
    let Some(fourth) = fourth else {
        head.reply = third;
        return Ok(head);
    };
    let first = match part(third) {
        b"|" => Some(fourth),
        b"+" => {
            head.reply = fourth;
            words.next()
        }
        _ => return Err(bad()),
    };
    if let Some(first) = first {
        let last = words.next_back().unwrap_or(first);
        head.groups = (first.0, last.0 + last.1 - first.0);
    }
    Ok(head)
}

/// The arguments of `RS+`.
fn interest<'a>(arguments: &'a [u8], limits: &RouteLimits) -> Result<RouteFrame<'a>, ParseError> {
    let bad = || bad_arguments("processRemoteSub Parse Error", arguments);
    let (account, [subject, queue, weight, rest]) = fields(arguments, limits);
    let queue = match (queue, weight) {
        (None, None) => None,
        (Some(queue), Some(weight)) => Some((queue, size(weight).ok_or_else(bad)?)),
        _ => return Err(bad()),
    };
    match (subject, rest, account) {
        (Some(subject), None, account) if account.is_some() != limits.is_pinned => {
            Ok(RouteFrame::Interest {
                account,
                subject,
                queue,
            })
        }
        _ => Err(bad()),
    }
}

/// The arguments of `RS-`.
fn no_interest<'a>(
    arguments: &'a [u8],
    limits: &RouteLimits,
) -> Result<RouteFrame<'a>, ParseError> {
    match fields(arguments, limits) {
        (account, [Some(subject), queue, None, _]) if account.is_some() != limits.is_pinned => {
            Ok(RouteFrame::NoInterest {
                account,
                subject,
                queue,
            })
        }
        _ => Err(bad_arguments("processRemoteUnsub Parse Error", arguments)),
    }
}

/// The account, if the connection has them in its lines, and up to four further words.
fn fields<'a>(
    arguments: &'a [u8],
    limits: &RouteLimits,
) -> (Option<&'a [u8]>, [Option<&'a [u8]>; 4]) {
    let words = arguments.split(|&byte| is_blank(byte));
    let mut words = words.filter(|word| !word.is_empty());
    let account = if limits.is_pinned { None } else { words.next() };
    (account, std::array::from_fn(|_| words.next()))
}

fn bad_arguments(what: &'static str, arguments: &[u8]) -> ParseError {
    let shown = arguments.trim_ascii().iter().take(QUOTED_MAX);
    ParseError::Arguments(what, shown.copied().collect())
}

fn unknown(at: &[u8]) -> ParseError {
    ParseError::unknown("Router", at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RouteLimits = RouteLimits {
        max_control_line: 64,
        max_payload: 100,
        is_pinned: false,
    };

    /// All frames of the pieces, written out; the last one is the error, if there is one.
    fn frames(pieces: &[&[u8]], limits: &RouteLimits) -> Vec<String> {
        let (mut parser, mut kept, mut found) = (RouteParser::default(), Vec::new(), Vec::new());
        for piece in pieces {
            kept.extend_from_slice(piece);
            loop {
                match parser.next(&kept, limits) {
                    Ok(step) => {
                        let Some(frame) = step.frame else { break };
                        found.push(shown(&frame));
                        kept.drain(..step.consumed);
                    }
                    Err(error) => {
                        found.push(error.to_string());
                        return found;
                    }
                }
            }
        }
        found
    }

    fn shown(frame: &RouteFrame<'_>) -> String {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        match frame {
            RouteFrame::Message(message) => {
                let names: Vec<String> = message.group_names().map(text).collect();
                let publish = &message.publish;
                let parts = [publish.subject, publish.reply, publish.sizes, publish.body];
                let [subject, reply, sizes, body] = parts.map(text);
                let account = message.account.map(text);
                format!("{account:?} {subject} {reply} {names:?} {sizes} {body}")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn messages_have_a_reply_and_groups_or_not() {
        let account = "Some(\"$G\")";
        for (wire, expected) in [
            (
                "RMSG $G t 2\r\nhi\r\n",
                format!("{account} t  [] 2 hi\\r\\n"),
            ),
            (
                "rmsg\t$G  t r 2\nhi\r\n",
                format!("{account} t r [] 2 hi\\r\\n"),
            ),
            (
                "RMSG $G t | g1 2\r\nhi\r\n",
                format!("{account} t  [\"g1\"] 2 hi\\r\\n"),
            ),
            (
                "RMSG $G t | 1 2\r\nhi\r\n",
                format!("{account} t  [\"1\"] 2 hi\\r\\n"),
            ),
            (
                "RMSG $G t + r g1 g2 2\r\nhi\r\n",
                format!("{account} t r [\"g1\", \"g2\"] 2 hi\\r\\n"),
            ),
            (
                "HMSG $G t r 2 4\r\nhhhi\r\n",
                format!("{account} t r [] 2 4 hhhi\\r\\n"),
            ),
            (
                "HMSG $G t + r g 2 4\r\nhhhi\r\n",
                format!("{account} t r [\"g\"] 2 4 hhhi\\r\\n"),
            ),
            (
                "HMSG $G t 0 2\r\nhi\r\n",
                format!("{account} t  [] 2 hi\\r\\n"),
            ),
            ("RMSG $G t 0\r\n\r\n", format!("{account} t  [] 0 \\r\\n")),
            // What stands alone there is a reply, whatever it is: any client can give that.
            (
                "RMSG $G t | 2\r\nhi\r\n",
                format!("{account} t | [] 2 hi\\r\\n"),
            ),
            (
                "rmsg $G t + 2\r\nhi\r\n",
                format!("{account} t + [] 2 hi\\r\\n"),
            ),
            (
                "HMSG $G t | 2 4\r\nhhhi\r\n",
                format!("{account} t | [] 2 4 hhhi\\r\\n"),
            ),
            (
                "RMSG $G t + | g 2\r\nhi\r\n",
                format!("{account} t | [\"g\"] 2 hi\\r\\n"),
            ),
            (
                "RMSG $G t + r 2\r\nhi\r\n",
                format!("{account} t r [] 2 hi\\r\\n"),
            ),
        ] {
            assert_eq!(frames(&[wire.as_bytes()], &LIMITS), [expected], "{wire}");
        }
        let pinned = RouteLimits {
            is_pinned: true,
            ..LIMITS
        };
        let found = frames(
            &[b"RMSG t 2\r\nhi\r\nRMSG t r 2\r\nhi\r\nRS+ a\r\nRS+ a q 1\r\n"],
            &pinned,
        );
        assert_eq!(
            found[..2],
            ["None t  [] 2 hi\\r\\n", "None t r [] 2 hi\\r\\n"]
        );
        assert!(found[2].contains("account: None") && found[3].contains("account: None"));
    }

    #[test]
    fn frames_do_not_depend_on_where_reads_split() {
        let wire = b"INFO {} \r\nRS+ $G a q 3\r\nRS+ A b\r\nRS- A b\r\nRS- $G a q\r\nPING\r\nHMSG $G t + r g 2 4\r\nhhhi\r\n\
            RMSG $G t 2\r\nhi\r\nPONG\r\n+OK\r\nA- x\r\n-ERR 'no'\r\nnonsense\r\n";
        let whole = frames(&[wire], &LIMITS);
        assert_eq!(whole.len(), 13);
        for cut in 0..=wire.len() {
            let (head, tail) = wire.split_at(cut);
            let found = frames(&[head, tail], &LIMITS);
            assert_eq!(
                found.get(..12),
                whole.get(..12),
                "cut at byte {cut}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let long = [&b"RS+ $G "[..], &[b'a'; 80]].concat();
        for wire in [
            &b"RS+ $G\r\n"[..],
            b"RS+ $G a q\r\n",
            b"RS+ $G a q x\r\n",
            b"RS+ $G a q 1 2\r\n",
            b"RS- $G\r\n",
            b"RS- $G a q 1\r\n",
            b"RMSG $G 2\r\n",
            b"RMSG $G a b c 2\r\n",
            b"RMSG $G a x\r\n",
            b"RMSG $G a 101\r\n",
            b"RMSG $G a 2\r\nhiXX",
            b"HMSG $G a 5 2\r\n",
            b"MSG a 1 2\r\n",
            b"SUB a 1\r\n",
            b"\r\n",
            b"A_VERY_LONG_VERB\r\n",
            &long,
        ] {
            let found = frames(&[wire], &LIMITS);
            assert_eq!(found.len(), 1, "{}: {found:?}", wire.escape_ascii());
        }
    }
}
