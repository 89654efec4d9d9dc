//! The other end of a connection, by its role.
//!
//! What a role means is in the role's own files; whoever only needs to know what all of them have asks [`Peer`].

use std::fmt;

use crate::proto::parser::Parser;
use crate::session::{Authenticator, Client, Keepalive};
use crate::stats::Traffic;

/// Everything of a connection that is not its socket.
#[derive(Debug)]
pub enum Peer {
    /// An application.
    Client(ClientPeer),
}

/// A client, as the engine has it.
#[derive(Debug)]
pub struct ClientPeer {
    /// The connection's slot at its worker.
    pub conn: u32,
    /// Its account; the default one until it is known.
    pub account: u32,
    /// Whether it is counted in there.
    pub(super) counted: bool,
    /// Whether it has permissions, and the engine a guard for it.
    pub(super) guarded: bool,
    /// Whether its account may have mappings; that is asked when it sends something.
    pub(super) maybe_mapped: bool,
    /// It has done something since that was last asked; PING and PONG do not count.
    pub(super) active: bool,
    /// What it has published, refused messages counted in.
    pub received: Traffic,
    /// Its protocol state.
    pub session: Client,
    pub(super) parser: Parser,
}

impl ClientPeer {
    /// A fresh connection of a client.
    #[must_use]
    pub fn new(conn: u32, session: Client) -> Self {
        ClientPeer {
            conn,
            account: 0,
            counted: false,
            guarded: false,
            maybe_mapped: true,
            active: false,
            received: Traffic::default(),
            session,
            parser: Parser::default(),
        }
    }
}

impl Peer {
    /// A fresh connection of a client.
    #[must_use]
    pub fn client(conn: u32, session: Client) -> Self {
        Peer::Client(ClientPeer::new(conn, session))
    }

    /// The connection's slot at its worker.
    #[must_use]
    pub fn conn(&self) -> u32 {
        match self {
            Peer::Client(client) => client.conn,
        }
    }

    /// The connection's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Peer::Client(client) => client.session.id(),
        }
    }

    /// The client's session, if it is one.
    #[must_use]
    pub fn as_client(&self) -> Option<&Client> {
        match self {
            Peer::Client(client) => Some(&client.session),
        }
    }

    /// The same, to change it.
    pub fn as_client_mut(&mut self) -> Option<&mut Client> {
        match self {
            Peer::Client(client) => Some(&mut client.session),
        }
    }

    /// Its account.
    #[must_use]
    pub fn account(&self) -> u32 {
        match self {
            Peer::Client(client) => client.account,
        }
    }

    /// What it has published.
    #[must_use]
    pub fn received(&self) -> Traffic {
        match self {
            Peer::Client(client) => client.received,
        }
    }

    /// Whether it has done something since this was last asked; PING and PONG do not count.
    pub fn take_active(&mut self) -> bool {
        match self {
            Peer::Client(client) => std::mem::take(&mut client.active),
        }
    }

    /// When to PING it.
    pub fn keepalive(&mut self) -> &mut Keepalive {
        match self {
            Peer::Client(client) => &mut client.session.keepalive,
        }
    }

    /// Whether CONNECT has come.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match self {
            Peer::Client(client) => client.session.connect().is_some(),
        }
    }

    /// Whether it has yet to show who it is.
    #[must_use]
    pub fn is_stranger(&self, auth: &Authenticator) -> bool {
        match self {
            Peer::Client(client) => client.session.is_stranger(auth),
        }
    }

    /// Whether the server waits for its CONNECT, which is only so long.
    #[must_use]
    pub fn is_overdue(&self, auth: &Authenticator) -> bool {
        match self {
            Peer::Client(client) => client.session.is_overdue(auth),
        }
    }

    /// Whether something about it is being found out elsewhere. Nothing may be fed to it meanwhile.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self {
            Peer::Client(client) => client.session.is_verifying(),
        }
    }

    /// Bytes that its unfinished frame will have in all; 0 while that is not known.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match self {
            Peer::Client(client) => client.parser.wanted(),
        }
    }
}

/// As logs name it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Client(client) => client.session.fmt(f),
        }
    }
}
