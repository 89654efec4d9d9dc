//! Other servers: their operations, their interest, and their coming and going.

use std::sync::Arc;

use super::links::{Carries, Link};
use super::peer::Interest;
use super::{Delivery, End, Engine, Fed, RoutePeer, Sink};
use crate::limits;
use crate::log::quote;
use crate::proto::encode::error_line;
use crate::proto::error::{ParseError, shown_text};
use crate::proto::route::RouteFrame;
use crate::session::{CloseReason, Context, RouteAction, RouteEvent, Verdict};
use crate::stats::Traffic;
use crate::subject;

impl Engine {
    /// As [`Engine::feed`], for another server.
    pub(super) fn feed_route(
        &mut self,
        peer: &mut RoutePeer,
        bytes: &[u8],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Fed {
        let mut consumed = 0;
        let mut received = Traffic::default();
        let end = loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let limits = peer.session.parser_limits(context.options);
            let step = match peer.parser.next(rest, &limits) {
                Ok(step) => step,
                Err(error) => break End::Close(self.on_route_parse_error(peer, &error, sink)),
            };
            consumed += step.consumed;
            let Some(frame) = &step.frame else {
                break End::Starved;
            };
            sink.on_route_frame(&peer.session, frame);
            let delivery = match frame {
                RouteFrame::Message(message) if peer.link.is_some() => {
                    received.msgs += 1;
                    received.bytes += message.publish.body.len().saturating_sub(2) as u64;
                    self.on_route_message(peer, message, context, sink)
                }
                _ => match self.on_route_frame(peer, frame, context, sink) {
                    Ok(()) => Delivery::Taken,
                    Err(end) => break end,
                },
            };
            if delivery == Delivery::Filling {
                break End::Pause;
            }
        };
        if received.msgs > 0 {
            peer.active = true;
            peer.received.add(received);
            self.received_routed.add(received);
        }
        self.tell_news(sink);
        Fed { consumed, end }
    }

    /// Tells another server who this one is, now that all that is sent to it is compressed.
    pub fn greet_compressed(&mut self, peer: &RoutePeer, sink: &mut impl Sink) {
        peer.session
            .greet_compressed(&self.facts, &mut self.answers);
        self.answer_to(peer.conn, sink);
    }

    /// Makes another server part of the cluster: from now on it knows what this one is interested in, and hears of changes.
    pub fn admit(&mut self, peer: &mut RoutePeer, context: &Context<'_>, sink: &mut impl Sink) {
        let facts = Arc::clone(&self.facts);
        let session = &mut peer.session;
        session.admit(&facts, context.now, &mut self.answers);
        self.answer_to(peer.conn, sink);
        let session = &peer.session;
        let carries = Carries::of(session, &facts);
        let takes = session.remote().map(|it| (it.headers, it.traces()));
        // First among those that hear of changes, then told how things stand: nothing is missed between the two.
        self.broker.routes.add(self.worker);
        let link = self.links.insert(
            self.worker,
            peer.conn,
            takes.unwrap_or_default(),
            carries.clone(),
        );
        peer.link = Some(link);
        self.tell_everything(peer.conn, &carries, sink);
    }

    /// Ends everything of another server's connection.
    pub(super) fn part_route(&mut self, peer: &mut RoutePeer) {
        let Some(link) = peer.link.take() else {
            return;
        };
        for (key, interest) in peer.interest.drain() {
            if let Some(account) = self.broker.account(interest.account) {
                let (_, queue) = parts(&key);
                account.unsubscribe(interest.node, queue, link, &mut self.scratch);
            }
        }
        self.links.remove(link);
        self.broker.routes.remove(self.worker);
    }

    /// Tells a server of the cluster what has changed about this one, by the `line` and by all interest anew.
    pub fn retell(&mut self, peer: &mut RoutePeer, line: &[u8], sink: &mut impl Sink) {
        let Some(carries) = self.link(peer).map(|link| link.carries.clone()) else {
            return;
        };
        sink.reply(peer.conn, line);
        self.withdraw_everything(peer.conn, &carries, sink);
        self.tell_everything(peer.conn, &carries, sink);
        self.drop_denied(peer);
    }

    /// Forgets what a server is interested in that may not be given to it any more.
    fn drop_denied(&mut self, peer: &mut RoutePeer) {
        let Some(link) = peer.link else {
            return;
        };
        let (broker, facts, scratch) = (&self.broker, &self.facts, &mut self.scratch);
        peer.interest.retain(|key, interest| {
            let (subject, queue) = parts(key);
            let stays = facts.export.passes(subject);
            if let Some(account) = broker.account(interest.account).filter(|_| !stays) {
                account.unsubscribe(interest.node, queue, link, scratch);
            }
            stays
        });
    }

    /// Gives what another server is interested in: account, subject and group.
    pub fn for_each_interest(
        &self,
        peer: &RoutePeer,
        mut read: impl FnMut(&str, &[u8], Option<&[u8]>),
    ) {
        for (key, interest) in &peer.interest {
            if let Some(account) = self.broker.account(interest.account) {
                let (subject, queue) = parts(key);
                read(&account.name, subject, queue);
            }
        }
    }

    /// How many subjects another server is interested in.
    #[must_use]
    pub fn interest_of(peer: &RoutePeer) -> usize {
        peer.interest.len()
    }

    /// Carries on with another server whose password was checked.
    pub(super) fn on_route_verified(
        &mut self,
        peer: &mut RoutePeer,
        verdict: &Verdict,
        sink: &mut impl Sink,
    ) -> Result<(), CloseReason> {
        let (facts, answers) = (&self.facts, &mut self.answers);
        let result = peer.session.on_verified(verdict, facts, answers);
        self.answer_to(peer.conn, sink);
        if let RouteAction::Report(event) = result? {
            sink.on_route_event(peer.conn, event);
        }
        Ok(())
    }

    /// Everything but a message.
    fn on_route_frame(
        &mut self,
        peer: &mut RoutePeer,
        frame: &RouteFrame<'_>,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), End> {
        if let RouteFrame::Err(text) = frame {
            let text = format!("Route Error {}", shown_text(text));
            sink.on_trouble(&peer.session, &text);
        }
        let (facts, answers) = (&self.facts, &mut self.answers);
        let action = peer.session.on_frame(frame, context, facts, answers);
        if let Err(CloseReason::ClusterNameConflict | CloseReason::ProtocolViolation) = action {
            if let Some(text) = told(&self.answers) {
                sink.on_trouble(&peer.session, &text);
            }
        }
        self.answer_to(peer.conn, sink);
        match action.map_err(End::Close)? {
            RouteAction::Nothing | RouteAction::Message(_) => {}
            RouteAction::Verify => return Err(End::Verify),
            RouteAction::Compress => return Err(End::Compress),
            RouteAction::Report(event) => {
                let must_wait = matches!(event, RouteEvent::Introduced(_));
                sink.on_route_event(peer.conn, event);
                if must_wait {
                    return Err(End::Wait);
                }
            }
            RouteAction::Interest(account, subject, queue) => {
                self.on_interest(peer, account, subject, queue, sink)?;
            }
            RouteAction::NoInterest(account, subject, queue) => {
                self.on_no_interest(peer, account, subject, queue);
            }
            RouteAction::Repeat => {
                let link = peer.link.and_then(|link| self.links.get(link));
                if let Some(carries) = link.map(|link| link.carries.clone()) {
                    self.tell_everything(peer.conn, &carries, sink);
                }
            }
            RouteAction::Forget(account) => self.forget_account(peer, &account),
        }
        Ok(())
    }

    fn on_interest(
        &mut self,
        peer: &mut RoutePeer,
        account: Option<&[u8]>,
        subject: &[u8],
        queue: Option<(&[u8], u32)>,
        sink: &mut impl Sink,
    ) -> Result<(), End> {
        let Some(link) = peer.link else {
            return Ok(());
        };
        let index = account_of(peer, account, |name| self.account_named(name));
        let Some(account) = self.broker.account(index) else {
            let shown = |bytes| quote(bytes, Some(limits::LOGGED_NAME_BYTES_MAX));
            let (account, subject) = (shown(account.unwrap_or_default()), shown(subject));
            let text = format!("Unknown account {account} for remote subject {subject}");
            sink.on_trouble(&peer.session, &text);
            return Ok(());
        };
        if !subject::is_valid(subject) || !self.facts.export.passes(subject) {
            return Ok(());
        }
        let weight = queue.map_or(0, |(_, weight)| weight);
        let key = key(index, subject, queue.map(|(name, _)| name));
        if let Some(known) = peer.interest.get_mut(&*key) {
            if let Some(queue) = queue.filter(|_| known.weight != weight) {
                known.weight = weight;
                account.weigh(known.node, subject, queue, link);
            }
            return Ok(());
        }
        if peer.interest.len() >= limits::ROUTE_INTEREST_MAX {
            let max = limits::ROUTE_INTEREST_MAX;
            sink.on_trouble(
                &peer.session,
                &format!("interested in more than {max} subjects"),
            );
            return Err(End::Close(CloseReason::ProtocolViolation));
        }
        let node = account.take_interest(subject, queue, link);
        let interest = Interest {
            account: index,
            node,
            weight,
        };
        peer.interest.insert(key, interest);
        Ok(())
    }

    fn on_no_interest(
        &mut self,
        peer: &mut RoutePeer,
        account: Option<&[u8]>,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) {
        let index = account_of(peer, account, |name| self.account_named(name));
        let (Some(link), Some(account)) = (peer.link, self.broker.account(index)) else {
            return;
        };
        if let Some(gone) = peer.interest.remove(&*key(index, subject, queue)) {
            account.unsubscribe(gone.node, queue, link, &mut self.scratch);
        }
    }

    /// Forgets what a server is interested in in one account.
    fn forget_account(&mut self, peer: &mut RoutePeer, name: &str) {
        let (Some(link), Some(account)) = (peer.link, self.broker.account_named(name)) else {
            return;
        };
        let scratch = &mut self.scratch;
        peer.interest.retain(|key, interest| {
            let goes = interest.account == account.index;
            if goes {
                account.unsubscribe(interest.node, parts(key).1, link, scratch);
            }
            !goes
        });
    }

    /// The index of the account with this name; that of no account if there is none.
    pub(super) fn account_named(&self, name: &[u8]) -> u32 {
        let name = std::str::from_utf8(name).ok();
        let account = name.and_then(|name| self.broker.account_named(name));
        account.map_or(u32::MAX, |account| account.index)
    }

    fn on_route_parse_error(
        &mut self,
        peer: &RoutePeer,
        error: &ParseError,
        sink: &mut impl Sink,
    ) -> CloseReason {
        sink.on_parse_error(&peer.session, error);
        if let Some(text) = error.wire_text() {
            error_line(text, &mut self.answers);
            self.answer_to(peer.conn, sink);
        }
        CloseReason::from(error)
    }

    /// Whether a link exists still.
    pub(super) fn link(&self, peer: &RoutePeer) -> Option<&Link> {
        self.links.get(peer.link?)
    }
}

/// The text of the last `-ERR` in these lines.
fn told(lines: &[u8]) -> Option<String> {
    let lines = std::str::from_utf8(lines).ok()?;
    let (_, text) = lines.rsplit_once("-ERR '")?;
    Some(text.trim_end().strip_suffix('\'')?.to_owned())
}

/// The index of the account that an operation is about: the one it names, or the connection's own.
pub(super) fn account_of(
    peer: &mut RoutePeer,
    named: Option<&[u8]>,
    find: impl FnOnce(&[u8]) -> u32,
) -> u32 {
    let own = || peer.session.account().unwrap_or_default().as_bytes();
    let name = match named {
        Some(name) => name,
        None => own(),
    };
    let (last, index) = &peer.last_account;
    if last == name && *index != u32::MAX {
        return *index;
    }
    let index = find(name);
    peer.last_account = (name.to_vec(), index);
    index
}

/// The key of an interest: the account's index, the subject, and the group behind a blank.
fn key(account: u32, subject: &[u8], queue: Option<&[u8]>) -> Box<[u8]> {
    let mut key = Vec::with_capacity(4 + subject.len() + queue.map_or(0, |it| it.len() + 1));
    key.extend_from_slice(&account.to_le_bytes());
    key.extend_from_slice(subject);
    if let Some(queue) = queue {
        key.push(b' ');
        key.extend_from_slice(queue);
    }
    key.into()
}

/// Subject and group of a key.
fn parts(key: &[u8]) -> (&[u8], Option<&[u8]>) {
    let rest = key.get(4..).unwrap_or_default();
    match memchr::memchr(b' ', rest).and_then(|at| rest.split_at_checked(at)) {
        Some((subject, queue)) => (subject, queue.get(1..)),
        None => (rest, None),
    }
}
