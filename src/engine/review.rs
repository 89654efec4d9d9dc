//! What a changed configuration does to those who are in already.

use std::sync::Arc;

use super::{ClientPeer, Engine, Peer, Sink};
use crate::session::{Action, Admission, Authenticator, CloseReason, Context, Guard, Violation};

impl Engine {
    /// Judges a peer by the gate of `context`, which comes after `old`. It may have a challenge then, before whose answer
    /// nothing may be fed to it.
    ///
    /// # Errors
    ///
    /// Why the connection must end.
    pub fn review(
        &mut self,
        peer: &mut Peer,
        old: &Authenticator,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), CloseReason> {
        let Peer::Client(peer) = peer else {
            return Ok(());
        };
        let result = peer.session.review(old, context, &mut self.answers);
        self.answer(peer, sink);
        if result? == Action::Reviewed {
            return self.apply_review(peer, sink);
        }
        Ok(())
    }

    /// Puts into force what a peer that stays may do and have now.
    pub(super) fn apply_review(
        &mut self,
        peer: &mut ClientPeer,
        sink: &mut impl Sink,
    ) -> Result<(), CloseReason> {
        self.apply_permissions(peer, sink);
        let result = self.apply_limits(peer);
        self.answer(peer, sink);
        result
    }

    /// Holds a peer to what its account may have now.
    fn apply_limits(&mut self, peer: &mut ClientPeer) -> Result<(), CloseReason> {
        let Some(identity) = peer.session.identity() else {
            return Ok(());
        };
        let has = self.subscriptions.count_of(peer.conn);
        let account = self.broker.account(peer.account);
        let reason = if identity.max_subscriptions.is_some_and(|max| has > max) {
            CloseReason::Subscriptions
        } else if peer.counted && account.is_some_and(|it| it.leave_surplus()) {
            peer.counted = false;
            CloseReason::AccountConnections
        } else {
            return Ok(());
        };
        reason.tell(&mut self.answers);
        Err(reason)
    }

    /// Puts into force what a peer may do now, if that is not what it could before.
    #[cold]
    pub(super) fn apply_permissions(&mut self, peer: &mut ClientPeer, sink: &mut impl Sink) {
        let rules = peer.session.identity().and_then(|it| it.rules.clone());
        let held = self.guards.get(&peer.conn).map(Guard::rules);
        if held.map(|it| it.source()) == rules.as_ref().map(|it| it.source()) {
            return;
        }
        peer.guarded = rules.is_some();
        let held = self.guards.remove(&peer.conn);
        if let Some(rules) = rules {
            let guard = match held {
                Some(held) => held.renewed(Arc::clone(&rules)),
                None => Guard::new(Arc::clone(&rules)),
            };
            self.guards.insert(peer.conn, guard);
        }
        self.check_subscriptions(peer, sink);
    }

    /// Ends the subscriptions that a peer may not have, and notes for the others whether their deliveries are free.
    fn check_subscriptions(&mut self, peer: &ClientPeer, sink: &mut impl Sink) {
        let Some(account) = self.broker.account(peer.account) else {
            return;
        };
        let account = Arc::clone(account);
        let rules = self.guards.get(&peer.conn).map(Guard::rules).cloned();
        let mut subject = Vec::new();
        for sub in self.subscriptions.all_of(peer.conn).into_iter().rev() {
            let Some(subscription) = self.subscriptions.get(sub) else {
                continue;
            };
            let Some(node) = subscription.node else {
                continue;
            };
            subject.clear();
            account.subject_of(node, &mut subject);
            let queue = subscription.queue();
            let admission = rules
                .as_ref()
                .map_or(Admission::Free, |it| it.may_subscribe(&subject, queue));
            subscription.guarded = admission == Admission::Guarded;
            if admission != Admission::Refused {
                self.post_denials(peer.account, sub);
                continue;
            }
            let (queue, sid) = (
                subscription.queue().map(Box::<[u8]>::from),
                subscription.sid.clone(),
            );
            let violation = Violation::Withdrawn {
                subject: &subject,
                queue: queue.as_deref(),
                sid: sid.as_bytes(),
            };
            self.refuse(peer, &violation, sink);
            self.end_told(peer.account, sub, sink);
        }
    }
}
