//! Peers come in, move and leave: the account they are counted in, and the guard of their permissions.

use std::sync::Arc;

use super::{ClientPeer, Engine, Peer, Sink};
use crate::session::{Action, CloseReason, Context, Guard, Verdict};

impl Engine {
    /// Looks at what a stranger sends: it starts with CONNECT, or with anything where nobody has to say who he is.
    ///
    /// The first byte is enough to tell, so that no other operation of a stranger is even parsed.
    #[cold]
    pub(super) fn on_stranger(
        &mut self,
        peer: &mut ClientPeer,
        bytes: &[u8],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), CloseReason> {
        if matches!(bytes.first(), None | Some(b'C' | b'c')) {
            return Ok(());
        }
        let result = peer.session.on_nameless(context, &mut self.answers);
        self.answer(peer, sink);
        match result? {
            Action::Connected { again } => self.log_in(peer, again, sink),
            _ => Ok(()),
        }
    }

    /// Carries on with a peer whose challenge has this outcome. What it sent meanwhile can be fed then, unless there is
    /// another challenge, because the configuration has changed meanwhile.
    ///
    /// # Errors
    ///
    /// Why the connection must end.
    pub fn on_verified(
        &mut self,
        peer: &mut Peer,
        verdict: Verdict,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), CloseReason> {
        let peer = match peer {
            Peer::Client(client) => client,
            Peer::Route(route) => return self.on_route_verified(route, &verdict, sink),
        };
        let answers = &mut self.answers;
        let result = peer.session.on_verified(verdict, context, answers);
        self.answer(peer, sink);
        match result? {
            Action::Connected { again } => {
                self.log_in(peer, again, sink)?;
                peer.session.accept(&mut self.answers);
                self.answer(peer, sink);
            }
            Action::Reviewed => return self.apply_review(peer, sink),
            _ => {}
        }
        Ok(())
    }

    /// Puts a peer where its session belongs.
    #[cold]
    pub(super) fn log_in(
        &mut self,
        peer: &mut ClientPeer,
        again: bool,
        sink: &mut impl Sink,
    ) -> Result<(), CloseReason> {
        sink.on_named(peer.conn, &peer.session);
        let identity = peer.session.identity().map(Arc::clone);
        let account = identity.as_ref().map_or(peer.account, |it| it.account);
        if again || account != peer.account {
            self.tell_ends(peer.conn, sink);
            self.forget(peer);
        } else {
            let headers = peer.session.headers;
            self.subscriptions
                .for_each_of(peer.conn, |subscription| subscription.headers = headers);
        }
        if !peer.counted || account != peer.account {
            self.leave(peer);
            peer.account = account;
            peer.maybe_mapped = true;
            peer.counted = self.broker.account(account).is_some_and(|it| it.enter());
            if !peer.counted {
                let reason = CloseReason::AccountConnections;
                reason.tell(&mut self.answers);
                self.answer(peer, sink);
                return Err(reason);
            }
        }
        let rules = identity.and_then(|it| it.rules.as_ref().map(Arc::clone));
        peer.guarded = rules.is_some();
        match rules {
            Some(rules) => drop(self.guards.insert(peer.conn, Guard::new(rules))),
            None => drop(self.guards.remove(&peer.conn)),
        }
        Ok(())
    }

    /// Ends everything of a peer that is about to be gone. [Tell](Engine::tell_news) the other servers soon.
    pub fn part(&mut self, peer: &mut Peer) {
        match peer {
            Peer::Client(client) => {
                self.forget(client);
                self.leave(client);
                self.guards.remove(&client.conn);
            }
            Peer::Route(route) => self.part_route(route),
        }
    }

    fn leave(&mut self, peer: &mut ClientPeer) {
        if std::mem::take(&mut peer.counted) {
            if let Some(account) = self.broker.account(peer.account) {
                account.leave();
            }
        }
    }
}
