//! What accounts share, as far as one subscription or one publish is concerned: shadows, and mappings.

use std::sync::Arc;

use super::{ClientPeer, Engine, Peer};
use crate::broker::Denial;
use crate::proto::frame::{Frame, Publish};
use crate::sublist::SubRef;

impl Engine {
    /// Goes over, with one peer, to what the accounts share and map in another configuration.
    pub fn replan(&mut self, peer: &mut Peer) {
        let Peer::Client(peer) = peer else { return };
        peer.maybe_mapped = true;
        let Some(account) = self.broker.account(peer.account).cloned() else {
            return;
        };
        let mut subject = Vec::new();
        for sub in self.subscriptions.all_of(peer.conn) {
            let Some(node) = self.subscriptions.get(sub).and_then(|it| it.node) else {
                continue;
            };
            subject.clear();
            account.subject_of(node, &mut subject);
            if !self.keeps_shadows(peer.account, sub, &subject) {
                self.lift_shadows(sub);
                self.cast_shadows(peer.account, sub, &subject);
            }
            self.post_denials(peer.account, sub);
        }
    }

    /// Whether the shadows of a subscription are still those that it casts. Then they stay where they are, and what is on its
    /// way to them from other workers comes to them.
    fn keeps_shadows(&mut self, home: u32, sub: SubRef, subject: &[u8]) -> bool {
        let broker = &self.broker;
        let plan = broker.plan(home);
        let imports = plan.map(|plan| plan.streams.as_slice()).unwrap_or_default();
        let cast = imports.iter().filter(|import| {
            let is_wanted = import.renaming.wanted_there(subject).is_some();
            is_wanted && broker.account(import.account).is_some()
        });
        let cast = cast.map(|import| (import.account, &import.renaming));
        self.subscriptions.shadows.keep(sub, cast)
    }

    /// Has a new subscription of an account found where the account's imported streams are published.
    pub(super) fn cast_shadows(&mut self, home: u32, sub: SubRef, subject: &[u8]) {
        let plan = self.broker.plan(home);
        for import in plan.map(|plan| plan.streams.as_slice()).unwrap_or_default() {
            let Some(wanted) = import.renaming.wanted_there(subject) else {
                continue;
            };
            let (Some(account), Some(subscription)) = (
                self.broker.account(import.account),
                self.subscriptions.get(sub),
            ) else {
                continue;
            };
            let queue = subscription.queue().map(Box::<[u8]>::from);
            let shadows = &mut self.subscriptions.shadows;
            let shadow = shadows.cast(sub, home, import.account, &import.renaming);
            let standing = account.subscribe(&wanted, queue.as_deref(), shadow);
            self.subscriptions.shadows.place(shadow, standing.node);
            if standing.is_news && self.broker.routes.count() > 0 {
                self.news.push(account.index, &wanted, queue.as_deref());
            }
        }
    }

    /// Ends the shadows of a subscription, which itself still exists.
    fn lift_shadows(&mut self, sub: SubRef) {
        if self.subscriptions.shadows.is_empty() {
            return;
        }
        let queue = self
            .subscriptions
            .get(sub)
            .and_then(|it| it.queue().map(Box::<[u8]>::from));
        self.end_shadows(sub, queue.as_deref());
    }

    /// Ends the shadows of a subscription in this group.
    pub(super) fn end_shadows(&mut self, sub: SubRef, queue: Option<&[u8]>) {
        for (shadow, gone) in self.subscriptions.shadows.lift(sub) {
            if let (Some(account), Some(node)) = (self.broker.account(gone.account), gone.node) {
                let is_news = account.unsubscribe(node, queue, shadow, &mut self.scratch);
                if is_news && self.broker.routes.count() > 0 {
                    self.news.push(account.index, &self.scratch, queue);
                }
            }
        }
    }

    /// Has other workers know what a subscription, and its shadows, will not take.
    pub(super) fn post_denials(&mut self, home: u32, sub: SubRef) {
        let Some(subscription) = self.subscriptions.get(sub) else {
            return;
        };
        let (conn, queue) = (
            subscription.conn,
            subscription.queue().map(Box::<[u8]>::from),
        );
        let guard = self.guards.get(&conn).filter(|_| subscription.guarded);
        let permissions = guard.map(|guard| Arc::clone(guard.rules().source()));
        let permissions = permissions.filter(|it| !it.subscribe.deny.is_empty());
        let shadows = self.subscriptions.shadows.of(sub);
        let shadows = shadows.map(|(sub, shadow)| (shadow.account, sub, Some(&shadow.renaming)));
        for (account, sub, renaming) in shadows.chain([(home, sub, None)]) {
            let Some(account) = self.broker.account(account) else {
                continue;
            };
            match &permissions {
                None => account.denials.remove(sub),
                Some(permissions) => account.denials.add(
                    sub,
                    Denial {
                        permissions: Arc::clone(permissions),
                        queue: queue.clone(),
                        renaming: renaming.cloned(),
                    },
                ),
            }
        }
    }

    /// The publish that the account's mappings make of a frame, if they do; its subject goes into `mapped`.
    #[cold]
    pub(super) fn remap<'b>(
        &mut self,
        peer: &mut ClientPeer,
        frame: &Frame<'b>,
        mapped: &'b mut Vec<u8>,
    ) -> Option<Publish<'b>> {
        let plan = self.broker.plan(peer.account);
        let mappings = plan.map(|plan| &plan.mappings);
        let Some(mappings) = mappings.filter(|it| !it.is_empty()) else {
            peer.maybe_mapped = false;
            return None;
        };
        let Frame::Publish(publish) = frame else {
            return None;
        };
        mapped.clear();
        mappings
            .apply(publish.subject, &mut self.rng, mapped)
            .then_some(Publish {
                subject: mapped,
                line: None,
                ..*publish
            })
    }
}
