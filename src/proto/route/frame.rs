//! One operation of a route, borrowed from the buffer it was read into.

use crate::proto::frame::Publish;

/// What another server sent.
///
/// An account is absent on a connection that serves one account alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFrame<'a> {
    /// `CONNECT {…}`: the JSON text.
    Connect(&'a [u8]),
    /// `INFO {…}`: the JSON text.
    Info(&'a [u8]),
    /// `RS+ [account] <subject> [queue weight]`: someone there is interested.
    Interest {
        /// The account's name.
        account: Option<&'a [u8]>,
        /// What to match.
        subject: &'a [u8],
        /// The queue group and how many members it has there.
        queue: Option<(&'a [u8], u32)>,
    },
    /// `RS- [account] <subject> [queue]`: nobody there is interested any more.
    NoInterest {
        /// The account's name.
        account: Option<&'a [u8]>,
        /// What was to match.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
    },
    /// `RMSG` or `HMSG`, with its body.
    Message(RouteMessage<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR …`: the text.
    Err(&'a [u8]),
    /// `A+ <account>` or `A- <account>`: news about an account that concern other kinds of links.
    Account,
}

/// A message from another server.
///
/// ```text
/// RMSG $G orders.eu 5␍␊hello␍␊                 plain
/// RMSG $G orders.eu inbox.7 5␍␊hello␍␊         with a reply subject
/// RMSG $G orders.eu | q1 q2 5␍␊hello␍␊         for plain subscribers and one member of each group
/// RMSG $G orders.eu + inbox.7 q1 5␍␊hello␍␊    both
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMessage<'a> {
    /// The account's name; absent where the connection serves one account alone.
    pub account: Option<&'a [u8]>,
    /// The message.
    pub publish: Publish<'a>,
    /// The queue groups of which a member gets it: names, parted by blanks.
    pub groups: &'a [u8],
}

impl<'a> RouteMessage<'a> {
    /// The names of the queue groups.
    pub fn group_names(&self) -> impl Iterator<Item = &'a [u8]> {
        let words = self.groups.split(|&byte| byte == b' ' || byte == b'\t');
        words.filter(|word| !word.is_empty())
    }
}
