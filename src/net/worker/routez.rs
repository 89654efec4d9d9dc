//! What monitoring asks of the connections to other servers. They are few: all of them are told at once.

use std::sync::Arc;

use super::Worker;
use crate::engine::{Engine, Peer};
use crate::monitor::snapshot::{RouteSnapshot, SubscriptionSnapshot};
use crate::order;
use crate::session::{Agreement, Side};

impl Worker {
    /// The routes of this worker that are part of the cluster, with what the other servers are interested in if that is
    /// `listed`.
    pub(super) fn routes(&mut self, listed: bool) -> Vec<RouteSnapshot> {
        let mut found = Vec::new();
        for conn in self.slots() {
            let Some(connection) = self.connections.get(conn as usize) else {
                continue;
            };
            let Peer::Route(peer) = &connection.peer else {
                continue;
            };
            let session = &peer.session;
            let (Some(remote), Some(outlet)) = (session.remote(), self.outlets.get(conn)) else {
                continue;
            };
            if !session.is_admitted() || connection.closing.is_some() {
                continue;
            }
            let dial = match session.side() {
                Side::Accepted => None,
                Side::Dialled(dial) => Some(dial),
            };
            let list = || interest(&self.engine, peer, session.id());
            found.push(RouteSnapshot {
                rid: session.id(),
                remote_id: remote.server_id.clone(),
                remote_name: remote.server_name.clone(),
                did_solicit: dial.is_some(),
                is_configured: dial.is_some_and(|dial| dial.is_configured),
                addr: session.addr(),
                start: connection.facts.start_moment(),
                active: connection.facts.active_moment().max(outlet.active.moment()),
                rtt: session.rtt().unwrap_or_default(),
                pending: outlet.pending(),
                received: connection.peer.received(),
                sent: outlet.delivered,
                subs: Engine::interest_of(peer),
                listed: if listed { list() } else { Vec::new() },
                account: session.account().map(Arc::from),
                compression: session.agreement().map_or("off", Agreement::name),
            });
        }
        found
    }
}

/// What another server is interested in, in the order of accounts and subjects.
fn interest(
    engine: &Engine,
    peer: &crate::engine::RoutePeer,
    cid: u64,
) -> Vec<SubscriptionSnapshot> {
    let mut list: Vec<SubscriptionSnapshot> = Vec::new();
    engine.for_each_interest(peer, |account, subject, queue| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (subject, queue) = (text(subject), queue.map(text).unwrap_or_default());
        let blank = if queue.is_empty() { "" } else { " " };
        list.push(SubscriptionSnapshot {
            sid: match peer.session.account() {
                Some(_) => format!("R {subject}{blank}{queue}"),
                None => format!("R {account} {subject}{blank}{queue}"),
            },
            account: account.into(),
            subject,
            queue,
            delivered: 0,
            max: 0,
            cid,
        });
    });
    order::sort_by(&mut list, |one, other| one.sid.cmp(&other.sid));
    list
}
