//! Frames a client's byte stream into protocol operations.
//!
//! Borrows from the caller's buffer and copies nothing. Every call gets the bytes that earlier calls did not consume,
//! with what has come since behind them; what a frame is does not depend on where the reads were split:
//!
//! ```text
//! Verb ──▶ Blanks ──▶ Line ──┬──────────▶ frame          all but the ones below
//!   │                        ├──▶ Body ─▶ frame          PUB, HPUB: waits for the payload and its CRLF
//!   │                        └──▶ Trailer ▶ frame        HMSG
//!   └────────────▶ Skip ────────────────▶ frame          PING, PONG, +OK: anything up to LF
//! ```
//!
//! What a caller has to keep for an unfinished frame is bounded: verbs, blanks and skipped bytes are consumed as they
//! come, arguments by `max_control_line`, a body by `max_payload`.

use super::error::ParseError;
use super::frame::{Frame, Publish};

/// What this connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of arguments in a control line.
    pub max_control_line: usize,
    /// Bytes of headers and payload in a message.
    pub max_payload: usize,
    /// Whether HPUB was agreed on.
    pub headers: bool,
}

/// What one call found.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes at the start of the buffer that the caller may forget, once it is done with the frame.
    pub consumed: usize,
    /// The operation, or `None` when more bytes are needed.
    pub frame: Option<Frame<'a>>,
}

/// The state between two calls.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// At the first byte of an operation.
    #[default]
    Verb,
    /// Behind a verb, before the first byte of its arguments.
    Blanks(Verb),
    /// At the first byte of the arguments, of which so many are known to hold no LF.
    Line(Verb, usize),
    /// At the first byte of the arguments of a message whose body is not complete. Apart, as few connections are there.
    Body(Box<Head>),
    /// Behind the line of an HMSG: CRLF must follow.
    Trailer,
    /// Behind the verb of an operation whose arguments mean nothing.
    Skip(Verb),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Pub,
    Hpub,
    Ping,
    Pong,
    Sub,
    Unsub,
    Connect,
    Info,
    Ok,
    Err,
    Hmsg,
}

impl Verb {
    /// Bytes at the start of its arguments that do not end the line, whatever they are: the reference server does not look
    /// at the first one. A message would take an LF there along into its subject, which then looks like the end of a
    /// line to its receivers.
    fn unseen(self) -> usize {
        usize::from(!matches!(self, Verb::Pub | Verb::Hpub))
    }
}

/// The verbs by name, the most frequent ones first, and whether a blank must follow.
const VERBS: [(&[u8], Verb, bool); 11] = [
    (b"PUB", Verb::Pub, true),
    (b"HPUB", Verb::Hpub, true),
    (b"PING", Verb::Ping, false),
    (b"PONG", Verb::Pong, false),
    (b"SUB", Verb::Sub, true),
    (b"UNSUB", Verb::Unsub, true),
    (b"CONNECT", Verb::Connect, false),
    (b"INFO", Verb::Info, false),
    (b"+OK", Verb::Ok, false),
    (b"-ERR", Verb::Err, true),
    (b"HMSG", Verb::Hmsg, true),
];

/// Where the parts of a message's control line are, counted from its first argument byte (where the subject starts).
#[derive(Clone, Copy, Debug)]
struct Head {
    subject_len: usize,
    reply_at: usize,
    reply_len: usize,
    sizes_at: usize,
    sizes_len: usize,
    /// Up to and with the LF.
    line_len: usize,
    header_len: usize,
    total_len: usize,
    /// Single spaces between arguments and CRLF at the end.
    canonical: bool,
}

/// Digits of a size at the most.
const SIZE_DIGITS_MAX: usize = 9;

impl Parser {
    /// Takes the next operation from the front of `buf`.
    ///
    /// # Errors
    ///
    /// [`ParseError`] when the bytes are no operation; the connection cannot go on after that.
    #[inline]
    pub fn next<'a>(&mut self, buf: &'a [u8], limits: &Limits) -> Result<Step<'a>, ParseError> {
        if let Some((publish, consumed)) = self.quick_publish(buf, limits) {
            return Ok(Step {
                consumed,
                frame: Some(Frame::Publish(publish)),
            });
        }
        self.next_of_any_kind(buf, limits)
    }

    /// Takes a message from the front of `buf`, with the bytes it has there, if it has come whole and is written the way
    /// client libraries write it. Whatever is not may be a message all the same: [`Parser::next`] tells.
    #[inline(always)]
    #[must_use]
    pub fn quick_publish<'a>(
        &self,
        buf: &'a [u8],
        limits: &Limits,
    ) -> Option<(Publish<'a>, usize)> {
        match self.state {
            State::Verb => quick_publish(buf, limits),
            _ => None,
        }
    }

    fn next_of_any_kind<'a>(
        &mut self,
        buf: &'a [u8],
        limits: &Limits,
    ) -> Result<Step<'a>, ParseError> {
        let mut at = 0;
        loop {
            let rest = buf.get(at..).unwrap_or_default();
            match &self.state {
                State::Verb => {
                    let Some((verb, len)) = recognise(rest)? else {
                        return Ok(more(at));
                    };
                    at += len;
                    self.state = match verb {
                        Verb::Ping | Verb::Pong | Verb::Ok => State::Skip(verb),
                        _ => State::Blanks(verb),
                    };
                }
                &State::Blanks(verb) => {
                    at += rest.iter().take_while(|&&byte| is_blank(byte)).count();
                    if at == buf.len() {
                        return Ok(more(at));
                    }
                    self.state = State::Line(verb, 0);
                }
                &State::Line(verb, scanned) => {
                    let scanned = scanned.max(verb.unseen());
                    let Some(end) = line_end(rest, scanned, limits.max_control_line)? else {
                        self.state = State::Line(verb, rest.len());
                        return Ok(more(at));
                    };
                    let with_cr = rest.get(..end).unwrap_or_default();
                    let line = with_cr.strip_suffix(b"\r").unwrap_or(with_cr);
                    match verb {
                        Verb::Pub | Verb::Hpub => {
                            let mut head = message_head(verb, line, limits)?;
                            head.line_len = end + 1;
                            head.canonical &= line.len() + 2 == head.line_len;
                            let step = body(rest, at, &head)?;
                            self.state = match step.frame {
                                Some(_) => State::Verb,
                                None => State::Body(Box::new(head)),
                            };
                            return Ok(step);
                        }
                        Verb::Hmsg => {
                            at += end + 1;
                            self.state = State::Trailer;
                        }
                        _ => {
                            self.state = State::Verb;
                            let frame = line_frame(verb, line)?;
                            return Ok(Step {
                                consumed: at + end + 1,
                                frame: Some(frame),
                            });
                        }
                    }
                }
                State::Body(head) => {
                    let step = body(rest, at, head)?;
                    if step.frame.is_some() {
                        self.state = State::Verb;
                    }
                    return Ok(step);
                }
                State::Trailer => match rest {
                    [b'\r', b'\n', ..] => {
                        self.state = State::Verb;
                        return Ok(Step {
                            consumed: at + 2,
                            frame: Some(Frame::Hmsg),
                        });
                    }
                    [] | [b'\r'] => return Ok(more(at)),
                    _ => return Err(unknown(rest)),
                },
                &State::Skip(verb) => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        return Ok(more(buf.len()));
                    };
                    self.state = State::Verb;
                    let frame = match verb {
                        Verb::Ping => Frame::Ping,
                        Verb::Pong => Frame::Pong,
                        _ => Frame::Ok,
                    };
                    return Ok(Step {
                        consumed: at + end + 1,
                        frame: Some(frame),
                    });
                }
            }
        }
    }

    /// Bytes that the unfinished frame will have in all, from the first one not consumed; 0 while that is not known.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match &self.state {
            State::Body(head) => head.frame_len(),
            _ => 0,
        }
    }

    /// Whether the next byte starts an operation.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Verb)
    }
}

impl Head {
    /// Arguments, body and both line ends.
    fn frame_len(&self) -> usize {
        self.line_len + self.total_len + 2
    }
}

/// A message that has come whole and is written the way client libraries write it: a shortcut through the states for
/// what most of the traffic is. Whatever looks different in the least is left to them.
#[inline(always)]
fn quick_publish<'a>(buf: &'a [u8], limits: &Limits) -> Option<(Publish<'a>, usize)> {
    let (with_headers, line) = match buf {
        [b'P', b'U', b'B', b' ', line @ ..] => (false, line),
        [b'H', b'P', b'U', b'B', b' ', line @ ..] if limits.headers => (true, line),
        _ => return None,
    };
    let (publish, len) = quick_message(line, with_headers, limits)?;
    Some((publish, buf.len() - line.len() + len))
}

/// The same from the subject on, and its length up to there.
#[inline(always)]
pub(super) fn quick_message<'a>(
    line: &'a [u8],
    with_headers: bool,
    limits: &Limits,
) -> Option<(Publish<'a>, usize)> {
    let subject_len = word_len(line)?;
    let arguments = line.get(subject_len + 1..)?;
    let (mut reply_len, mut sizes_at) = (0, 0);
    let (mut size, mut digits) = decimal(arguments);
    if arguments.get(digits) != Some(if with_headers { &b' ' } else { &b'\r' }) {
        reply_len = word_len(arguments)?;
        sizes_at = reply_len + 1;
        (size, digits) = decimal(arguments.get(sizes_at..)?);
    }
    let mut header_len = 0;
    let mut sizes_len = digits;
    if with_headers {
        // `0` is a plain message in disguise, and a second number that is none may be the one after a reply.
        if digits == 0 || size == 0 || arguments.get(sizes_at + digits) != Some(&b' ') {
            return None;
        }
        header_len = size;
        (size, digits) = decimal(arguments.get(sizes_at + sizes_len + 1..)?);
        sizes_len += 1 + digits;
    }
    let line_len = sizes_at + sizes_len;
    let body_at = line_len + 2;
    let fits = subject_len + 1 + line_len <= limits.max_control_line && size <= limits.max_payload;
    if digits == 0 || subject_len == 0 || header_len > size || !fits {
        return None;
    }
    let rest = arguments.get(..body_at + size + 2)?;
    if rest.get(line_len..body_at) != Some(b"\r\n") || !rest.ends_with(b"\r\n") {
        return None;
    }
    let publish = Publish {
        subject: line.get(..subject_len)?,
        reply: arguments.get(..reply_len)?,
        sizes: arguments.get(sizes_at..line_len)?,
        body: rest.get(body_at..)?,
        header_len,
        line: line.get(..subject_len + 1 + rest.len()),
    };
    Some((publish, subject_len + 1 + rest.len()))
}

/// Bytes up to a single space; `None` if another control character comes first, or none.
#[inline(always)]
pub(super) fn word_len(text: &[u8]) -> Option<usize> {
    let mut len = 0;
    // Eight bytes at a time: the top bit of each byte that is a blank or below; the first of them is exact.
    while let Some(eight) = text.get(len..)?.first_chunk() {
        let bytes = u64::from_le_bytes(*eight);
        let found = bytes.wrapping_sub(eight_of(b' ' + 1)) & !bytes & eight_of(0x80);
        if found != 0 {
            len += found.trailing_zeros() as usize / 8;
            return (text.get(len) == Some(&b' ') && len > 0).then_some(len);
        }
        len += eight.len();
    }
    len += text.get(len..)?.iter().position(|&byte| byte <= b' ')?;
    (text.get(len) == Some(&b' ') && len > 0).then_some(len)
}

const fn eight_of(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The number at the front, and its digits; none if there are too many of them.
#[inline(always)]
fn decimal(text: &[u8]) -> (usize, usize) {
    let (mut value, mut digits) = (0, 0);
    while let Some(digit) = text
        .get(digits)
        .map(|byte| byte.wrapping_sub(b'0'))
        .filter(|&digit| digit <= 9)
    {
        if digits == SIZE_DIGITS_MAX {
            return (0, 0);
        }
        value = value * 10 + usize::from(digit);
        digits += 1;
    }
    (value, digits)
}

fn more(consumed: usize) -> Step<'static> {
    Step {
        consumed,
        frame: None,
    }
}

fn unknown(at: &[u8]) -> ParseError {
    ParseError::unknown("Client", at)
}

pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Parts arguments of operations other than messages.
fn is_gap(byte: u8) -> bool {
    is_blank(byte) || byte == b'\r' || byte == b'\n'
}

/// The verb at the front, and its length with the blank that some need behind them; `None` if it is cut off.
fn recognise(buf: &[u8]) -> Result<Option<(Verb, usize)>, ParseError> {
    for (name, verb, blank) in VERBS {
        let Some(start) = buf.get(..name.len()) else {
            if name
                .get(..buf.len())
                .is_some_and(|prefix| buf.eq_ignore_ascii_case(prefix))
            {
                return Ok(None);
            }
            continue;
        };
        if !start.eq_ignore_ascii_case(name) {
            continue;
        }
        return match buf.get(name.len()) {
            _ if !blank => Ok(Some((verb, name.len()))),
            Some(&byte) if is_blank(byte) => Ok(Some((verb, name.len() + 1))),
            Some(_) => Err(unknown(buf)),
            None => Ok(None),
        };
    }
    Err(unknown(buf))
}

/// Where the LF is, if it has come; an error as soon as the arguments are too long, LF or not.
pub(super) fn line_end(
    args: &[u8],
    scanned: usize,
    limit: usize,
) -> Result<Option<usize>, ParseError> {
    let too_long = || ParseError::ControlLine { limit };
    // CR and LF do not count, so the LF of a line at the limit is at `limit + 1` at the latest.
    let window = args.get(..limit.saturating_add(2)).unwrap_or(args);
    let found = window
        .get(scanned..)
        .and_then(|part| memchr::memchr(b'\n', part))
        .map(|at| at + scanned);
    let line = window
        .get(..found.unwrap_or(window.len()))
        .unwrap_or_default();
    if line.strip_suffix(b"\r").unwrap_or(line).len() > limit {
        return Err(too_long());
    }
    if found.is_none() && args.len() > window.len() {
        return Err(too_long());
    }
    Ok(found)
}

/// Up to `N` arguments as offset and length, how many there are in all, and whether single spaces part them.
fn arguments<const N: usize>(
    line: &[u8],
    is_gap: impl Fn(u8) -> bool,
) -> ([(usize, usize); N], usize, bool) {
    let mut found = [(0, 0); N];
    let (mut count, mut canonical, mut at) = (0, true, 0);
    while at < line.len() {
        let rest = line.get(at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|&byte| is_gap(byte))
            .unwrap_or(rest.len());
        if let Some(slot) = found.get_mut(count) {
            *slot = (at, len);
        }
        count += 1;
        let gap = rest.get(len..).unwrap_or_default();
        let blanks = gap.iter().take_while(|&&byte| is_gap(byte)).count();
        at += len + blanks;
        // One space, and something behind it; or nothing at all.
        canonical &= blanks == usize::from(at < line.len()) && gap.first() != Some(&b'\t');
    }
    (found, count, canonical)
}

fn slice(bytes: &[u8], (at, len): (usize, usize)) -> &[u8] {
    bytes.get(at..at + len).unwrap_or_default()
}

/// A size: one to nine decimal digits.
pub(super) fn size(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > SIZE_DIGITS_MAX {
        return None;
    }
    text.iter().try_fold(0_u32, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u32::from(byte - b'0'))
    })
}

/// The arguments of `PUB <subject> [reply] <size>` and `HPUB <subject> [reply] <header size> <total size>`.
fn message_head(verb: Verb, line: &[u8], limits: &Limits) -> Result<Head, ParseError> {
    let with_headers = verb == Verb::Hpub;
    if with_headers && !limits.headers {
        return Err(ParseError::Headers);
    }
    let bad = |what| ParseError::Arguments(what, line.to_vec());
    let sizes = if with_headers { 2 } else { 1 };
    let (fields, count, mut canonical) = arguments::<4>(line, is_blank);
    let (subject, reply, first, last) = match (count - sizes.min(count), fields) {
        (1, [subject, first, second, _]) => (
            subject,
            (0, 0),
            first,
            if with_headers { second } else { first },
        ),
        (2, [subject, reply, first, second]) => (
            subject,
            reply,
            first,
            if with_headers { second } else { first },
        ),
        _ if with_headers => return Err(bad("processHeaderPub Parse Error")),
        _ => return Err(bad("processPub Parse Error")),
    };
    let number =
        |at, what| size(slice(line, at)).map_or_else(|| Err(bad(what)), |it| Ok(it as usize));
    let (header_len, total_len) = if with_headers {
        (
            number(first, "processHeaderPub Bad or Missing Header Size")?,
            number(last, "processHeaderPub Bad or Missing Total Size")?,
        )
    } else {
        (0, number(last, "processPub Bad or Missing Size")?)
    };
    if header_len > total_len {
        // As the reference server spells it.
        return Err(bad("processHeaderPub Header Size larger then TotalSize"));
    }
    if total_len > limits.max_payload {
        return Err(ParseError::Payload {
            size: total_len,
            limit: limits.max_payload,
        });
    }
    // Without headers the total alone is passed on, so the run of bytes for a delivery starts elsewhere.
    let sizes_at = if header_len == 0 { last.0 } else { first.0 };
    canonical &= !with_headers || header_len > 0;
    Ok(Head {
        subject_len: subject.1,
        reply_at: reply.0,
        reply_len: reply.1,
        sizes_at,
        sizes_len: last.0 + last.1 - sizes_at,
        line_len: 0,
        header_len,
        total_len,
        canonical,
    })
}

/// The message whose arguments start at the front of `rest`, after `at` bytes that are consumed.
fn body<'a>(rest: &'a [u8], at: usize, head: &Head) -> Result<Step<'a>, ParseError> {
    Ok(match message(rest, head)? {
        Some(publish) => Step {
            consumed: at + head.frame_len(),
            frame: Some(Frame::Publish(publish)),
        },
        None => more(at),
    })
}

/// The message at the front of `buf`, where its arguments start, if all of it has come.
fn message<'a>(buf: &'a [u8], head: &Head) -> Result<Option<Publish<'a>>, ParseError> {
    let end = head.line_len + head.total_len;
    let Some((frame, _)) = buf.split_at_checked(end + 2) else {
        return match buf.get(end) {
            Some(&byte) if byte != b'\r' => Err(unknown(buf.get(end..).unwrap_or_default())),
            _ => Ok(None),
        };
    };
    if !frame.ends_with(b"\r\n") {
        return Err(unknown(buf.get(end..).unwrap_or_default()));
    }
    Ok(Some(Publish {
        subject: slice(frame, (0, head.subject_len)),
        reply: slice(frame, (head.reply_at, head.reply_len)),
        sizes: slice(frame, (head.sizes_at, head.sizes_len)),
        body: frame.get(head.line_len..).unwrap_or_default(),
        header_len: head.header_len,
        line: head.canonical.then_some(frame),
    }))
}

/// The frames that are one line.
fn line_frame(verb: Verb, line: &[u8]) -> Result<Frame<'_>, ParseError> {
    let bad = |what| Err(ParseError::Arguments(what, line.to_vec()));
    let start = line.iter().take_while(|&&byte| is_gap(byte)).count();
    let fields = line.get(start..).unwrap_or_default();
    match verb {
        Verb::Sub => match arguments::<3>(fields, is_gap) {
            ([subject, sid, _], 2, _) => Ok(Frame::Subscribe {
                subject: slice(fields, subject),
                queue: None,
                sid: slice(fields, sid),
            }),
            ([subject, queue, sid], 3, _) => Ok(Frame::Subscribe {
                subject: slice(fields, subject),
                queue: Some(slice(fields, queue)),
                sid: slice(fields, sid),
            }),
            _ => bad("processSub Parse Error"),
        },
        Verb::Unsub => match arguments::<2>(fields, is_gap) {
            ([sid, _], 1, _) => Ok(Frame::Unsubscribe {
                sid: slice(fields, sid),
                max: 0,
            }),
            ([sid, max], 2, _) => {
                let max = size(slice(fields, max)).unwrap_or(0);
                Ok(Frame::Unsubscribe {
                    sid: slice(fields, sid),
                    max,
                })
            }
            _ => bad("processUnsub Parse Error"),
        },
        Verb::Connect => Ok(Frame::Connect(line)),
        Verb::Info => Ok(Frame::Info(line)),
        _ => Ok(Frame::Err(line)),
    }
}

#[cfg(test)]
mod tests;
