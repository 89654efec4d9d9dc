//! The other end of a connection, by its role.
//!
//! What a role means is in the role's own files; whoever only needs to know what all of them have asks [`Peer`].

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::proto::parser::Parser;
use crate::proto::route::RouteParser;
use crate::session::{Authenticator, Challenge, Client, Keepalive, Route};
use crate::stats::Traffic;
use crate::sublist::{NodeId, SubRef};

/// Everything of a connection that is not its socket.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "clients are many and inline, so that a crowd of them leaves no scattered memory"
)]
pub enum Peer {
    /// An application.
    Client(ClientPeer),
    /// Another server of the cluster.
    Route(Box<RoutePeer>),
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

/// Another server, as the engine has it.
#[derive(Debug)]
pub struct RoutePeer {
    /// The connection's slot at its worker.
    pub conn: u32,
    /// Its protocol state.
    pub session: Route,
    pub(super) parser: RouteParser,
    /// Messages that it has sent.
    pub(super) received: Traffic,
    /// It has sent an operation, other than PING and PONG, since that was last asked.
    pub(super) active: bool,
    /// Its link, once it is part of the cluster.
    pub(super) link: Option<SubRef>,
    /// What it is interested in, by account, subject and group.
    pub(super) interest: HashMap<Box<[u8]>, Interest, RandomState>,
    /// The account that its last operation named, and its index.
    pub(super) last_account: (Vec<u8>, u32),
}

/// Something that another server is interested in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interest {
    pub(super) account: u32,
    pub(super) node: NodeId,
    /// Members of the group there.
    pub(super) weight: u32,
}

impl Peer {
    /// A fresh connection of a client.
    #[must_use]
    pub fn client(conn: u32, session: Client) -> Self {
        Peer::Client(ClientPeer::new(conn, session))
    }

    /// A fresh connection of another server.
    #[must_use]
    pub fn route(conn: u32, session: Route) -> Self {
        Peer::Route(Box::new(RoutePeer {
            conn,
            session,
            parser: RouteParser::default(),
            received: Traffic::default(),
            active: false,
            link: None,
            interest: HashMap::default(),
            last_account: (Vec::new(), u32::MAX),
        }))
    }

    /// The route's session, if it is one.
    #[must_use]
    pub fn as_route(&self) -> Option<&Route> {
        match self {
            Peer::Client(_) => None,
            Peer::Route(route) => Some(&route.session),
        }
    }

    /// The same, to change it.
    pub fn as_route_mut(&mut self) -> Option<&mut Route> {
        match self {
            Peer::Client(_) => None,
            Peer::Route(route) => Some(&mut route.session),
        }
    }

    /// The connection's slot at its worker.
    #[must_use]
    pub fn conn(&self) -> u32 {
        match self {
            Peer::Client(client) => client.conn,
            Peer::Route(route) => route.conn,
        }
    }

    /// The connection's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Peer::Client(client) => client.session.id(),
            Peer::Route(route) => route.session.id(),
        }
    }

    /// The client's session, if it is one.
    #[must_use]
    pub fn as_client(&self) -> Option<&Client> {
        match self {
            Peer::Client(client) => Some(&client.session),
            Peer::Route(_) => None,
        }
    }

    /// The same, to change it.
    pub fn as_client_mut(&mut self) -> Option<&mut Client> {
        match self {
            Peer::Client(client) => Some(&mut client.session),
            Peer::Route(_) => None,
        }
    }

    /// The hash that has to be computed to know who it is, with its address; once.
    pub fn take_challenge(&mut self) -> Option<(Box<Challenge>, IpAddr)> {
        match self {
            Peer::Client(client) => {
                let addr = client.session.addr().ip();
                client.session.take_challenge().map(|it| (it, addr))
            }
            Peer::Route(route) => {
                let addr = route.session.addr().ip();
                route.session.take_challenge().map(|it| (it, addr))
            }
        }
    }

    /// Whether it has shown who it is, or need not.
    #[must_use]
    pub fn is_known(&self) -> bool {
        match self {
            Peer::Client(client) => client.session.identity().is_some(),
            Peer::Route(_) => false,
        }
    }

    /// Its account; another server has none of its own.
    #[must_use]
    pub fn account(&self) -> u32 {
        match self {
            Peer::Client(client) => client.account,
            Peer::Route(_) => 0,
        }
    }

    /// What it has published.
    #[must_use]
    pub fn received(&self) -> Traffic {
        match self {
            Peer::Client(client) => client.received,
            Peer::Route(route) => route.received,
        }
    }

    /// Whether it has done something since this was last asked; PING and PONG do not count.
    pub fn take_active(&mut self) -> bool {
        match self {
            Peer::Client(client) => std::mem::take(&mut client.active),
            Peer::Route(route) => std::mem::take(&mut route.active),
        }
    }

    /// When to PING it.
    pub fn keepalive(&mut self) -> &mut Keepalive {
        match self {
            Peer::Client(client) => &mut client.session.keepalive,
            Peer::Route(route) => &mut route.session.keepalive,
        }
    }

    /// Whether CONNECT has come; of another server, whether it is part of the cluster.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match self {
            Peer::Client(client) => client.session.connect().is_some(),
            Peer::Route(route) => route.session.is_admitted(),
        }
    }

    /// Whether it has yet to show who it is.
    #[must_use]
    pub fn is_stranger(&self, auth: &Authenticator) -> bool {
        match self {
            Peer::Client(client) => client.session.is_stranger(auth),
            Peer::Route(route) => route.session.is_stranger(),
        }
    }

    /// Whether the server waits for its CONNECT, which is only so long.
    #[must_use]
    pub fn is_overdue(&self, auth: &Authenticator) -> bool {
        match self {
            Peer::Client(client) => client.session.is_overdue(auth),
            Peer::Route(route) => route.session.is_overdue(),
        }
    }

    /// Whether something about it is being found out elsewhere. Nothing may be fed to it meanwhile.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self {
            Peer::Client(client) => client.session.is_verifying(),
            Peer::Route(route) => route.session.is_waiting(),
        }
    }

    /// Bytes that its unfinished frame will have in all; 0 while that is not known.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match self {
            Peer::Client(client) => client.parser.wanted(),
            Peer::Route(route) => route.parser.wanted(),
        }
    }
}

/// As logs name it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Client(client) => client.session.fmt(f),
            Peer::Route(route) => route.session.fmt(f),
        }
    }
}
