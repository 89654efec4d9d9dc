//! One protocol operation, borrowed from the buffer it was read into.

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `CONNECT {…}`: the JSON text.
    Connect(&'a [u8]),
    /// `INFO {…}`: the JSON text.
    Info(&'a [u8]),
    /// `PUB` or `HPUB`, with its body.
    Publish(Publish<'a>),
    /// `SUB <subject> [queue] <sid>`.
    Subscribe {
        /// What to match.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
        /// The client's name for it.
        sid: &'a [u8],
    },
    /// `UNSUB <sid> [max]`.
    Unsubscribe {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// Deliveries after which it ends; 0 is at once.
        max: u32,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR …`: the text.
    Err(&'a [u8]),
    /// `HMSG …`: accepted and without effect, as in the reference server.
    Hmsg,
}

/// A message to be routed.
///
/// ```text
/// PUB  orders.eu inbox.7 5␍␊hello␍␊
///      └───────────line───────────┘
/// ```
///
/// `line` is what the reader wrote when its arguments were parted by single spaces and ended by CRLF, which is how
/// every client library writes them; a delivery then is the bytes as they came, with another verb and the sid between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where it goes.
    pub subject: &'a [u8],
    /// Where answers go; empty when there is no reply subject.
    pub reply: &'a [u8],
    /// The size arguments as text: one for a plain message, header size and total for one with headers.
    pub sizes: &'a [u8],
    /// Headers, payload and the CRLF behind it.
    pub body: &'a [u8],
    /// Bytes of headers at the start of `body`; 0 makes it a plain message.
    pub header_len: usize,
    /// From the subject to the end of `body`, if that is one run of bytes in delivery form.
    pub line: Option<&'a [u8]>,
}
