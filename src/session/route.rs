//! The session of a route: another server of the cluster.
//!
//! ```text
//! accepted:  INFO ▶            dialled:  CONNECT ▶
//!            ◀ CONNECT                   ◀ INFO       introduced
//!            ◀ INFO   introduced         (admitted)
//!            (admitted)                  INFO, PING ▶
//!            interest ▶                  interest ▶   ◀ PONG   answered
//! ```
//!
//! Where both want to compress, they say so first, and begin anew behind that:
//!
//! ```text
//! accepted:  ◀ INFO            dialled:  ◀ INFO
//!            from here on all is compressed, both ways
//!            INFO ▶                      INFO ▶ not compressed yet
//!            ◀ INFO   introduced         ◀ INFO       introduced
//! ```
//!
//! Whoever accepts speaks first: both would wait otherwise. Whether a server that has introduced itself is kept is not
//! decided here: it may be this one, or one that there is a connection to already. Nothing is read from it meanwhile.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::action::CloseReason;
use super::auth::{Challenge, Verdict};
use super::client::Context;
use super::cluster::{ClusterFacts, Hello, RouteEvent};
use super::compression::Agreement;
use super::keepalive::Keepalive;
use crate::certificate::Certificate;
use crate::config::options::{CompressionMode, Options, Secret};
use crate::limits;
use crate::log::quote;
use crate::proto::encode::error_line;
use crate::proto::route::{RouteConnect, RouteFrame, RouteInfo, RouteLimits, RouteMessage};
use crate::s2::Level;

/// How this server came to dial another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// Tells this attempt from others.
    pub number: u64,
    /// The configuration names the server.
    pub is_configured: bool,
    /// The host that its certificate must name.
    pub host: String,
    /// The user to log in as.
    pub user: Option<String>,
    /// That one's password.
    pub password: Option<Secret>,
    /// Which connection of the pool it becomes.
    pub pool_index: u32,
    /// The account that it is for, if it is for one alone.
    pub account: Option<String>,
    /// What another server asked for when it told of this one.
    pub gossip_mode: u8,
}

/// Who opened the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// The other server.
    Accepted,
    /// This one.
    Dialled(Box<Dial>),
}

/// How far the greeting has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// CONNECT must be the first thing.
    AwaitConnect,
    /// The password is being checked.
    Verifying,
    /// INFO is to come.
    AwaitInfo,
    /// It has introduced itself.
    Introduced,
    /// It is part of the cluster.
    Admitted,
}

/// The protocol state of one route.
#[derive(Debug)]
pub struct Route {
    id: u64,
    addr: SocketAddr,
    side: Side,
    stage: Stage,
    connect: RouteConnect,
    challenge: Option<Box<Challenge>>,
    nonce: Box<str>,
    /// When it was greeted.
    greeted: Option<Instant>,
    /// What was agreed on about compression, once the other server's first INFO has come.
    agreement: Option<Agreement>,
    /// The certificate that the other server has shown, which has been verified.
    certificate: Option<Box<Certificate>>,
    /// What the other server said of itself.
    remote: Option<Box<RouteInfo>>,
    /// When to PING it.
    pub keepalive: Keepalive,
    /// A PONG has come since it was admitted.
    answered: bool,
    /// When the last PING was sent, until it is answered.
    pinged: Option<Instant>,
    /// How long the last answer took.
    rtt: Option<Duration>,
}

/// What the engine has to do for a frame.
#[derive(Debug)]
pub enum RouteAction<'a> {
    /// Nothing: the session has answered.
    Nothing,
    /// Compute a password's hash; until that is done, nothing more is read.
    Verify,
    /// Compress from here on, and undo that for what comes; then [say hello](Route::greet_compressed) again.
    Compress,
    /// Tell whoever looks after the cluster.
    Report(RouteEvent),
    /// Note that someone there is interested; in a group, so many.
    Interest(Option<&'a [u8]>, &'a [u8], Option<(&'a [u8], u32)>),
    /// Note that nobody is any more.
    NoInterest(Option<&'a [u8]>, &'a [u8], Option<&'a [u8]>),
    /// Route a message.
    Message(&'a RouteMessage<'a>),
    /// Tell it all interest anew: it takes in other subjects than before.
    Repeat,
    /// Forget what it is interested in in this account: that comes over another connection from now on.
    Forget(String),
}

/// A name that no cluster may have.
const RESERVED_CLUSTER: &str = "_";
/// The first PING comes this early, so that the round-trip time is known.
const FIRST_PING: Duration = Duration::from_secs(1);

impl Route {
    /// The session of a fresh connection. `nonce` is random.
    #[must_use]
    pub fn new(id: u64, addr: SocketAddr, side: Side, nonce: &str) -> Self {
        let stage = match side {
            Side::Accepted => Stage::AwaitConnect,
            Side::Dialled(_) => Stage::AwaitInfo,
        };
        Route {
            id,
            addr,
            side,
            stage,
            connect: RouteConnect::default(),
            challenge: None,
            nonce: nonce.into(),
            greeted: None,
            agreement: None,
            certificate: None,
            remote: None,
            keepalive: Keepalive::default(),
            answered: false,
            pinged: None,
            rtt: None,
        }
    }

    /// Notes the certificate that the other server has shown, which has been verified.
    pub fn set_certificate(&mut self, certificate: Option<Certificate>) {
        self.certificate = certificate.map(Box::new);
    }

    /// Appends what this server says first.
    pub fn greet(&mut self, facts: &ClusterFacts, now: Instant, out: &mut Vec<u8>) {
        self.greeted = Some(now);
        match &self.side {
            Side::Accepted => {
                let mode = facts.compression.mode;
                let is_told = mode != CompressionMode::NotSupported;
                let info = RouteInfo {
                    compression: is_told.then(|| mode.name().into()),
                    ..facts.info.clone()
                };
                info.encode(Some(&self.nonce), out);
            }
            Side::Dialled(dial) => {
                let connect = RouteConnect {
                    name: facts.info.server_id.clone(),
                    cluster: facts.name().into(),
                    is_dynamic: facts.info.is_dynamic,
                    user: dial.user.clone(),
                    pass: dial.password.as_ref().map(|it| it.reveal().into()),
                    ..RouteConnect::default()
                };
                connect.encode(out);
            }
        }
    }

    /// Appends what this server says first of all that is compressed, after [`RouteAction::Compress`].
    pub fn greet_compressed(&self, facts: &ClusterFacts, out: &mut Vec<u8>) {
        if self.side == Side::Accepted {
            self.info(facts).encode(Some(&self.nonce), out);
        }
    }

    /// What this server says of itself when it is known how this connection is compressed.
    fn info(&self, facts: &ClusterFacts) -> RouteInfo {
        let told = self.agreement.map(|it| it.told(&facts.compression));
        RouteInfo {
            compression: told.map(Into::into),
            account: match &self.side {
                Side::Dialled(dial) => dial.account.clone(),
                Side::Accepted => None,
            },
            ..facts.info.clone()
        }
    }

    /// It is part of the cluster now: appends what this server says then.
    pub fn admit(&mut self, facts: &ClusterFacts, now: Instant, out: &mut Vec<u8>) {
        self.stage = Stage::Admitted;
        if let Side::Dialled(dial) = &self.side {
            let mut info = self.info(facts);
            if info.account.is_none() && info.pool_size.is_some() {
                info.pool_index = Some(dial.pool_index).filter(|&index| index > 0);
            }
            info.gossip_mode = dial.gossip_mode;
            info.encode(Some(&self.nonce), out);
            self.ping(now, out);
        }
    }

    /// Appends PING.
    pub fn ping(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.pinged = Some(now);
        out.extend_from_slice(b"PING\r\n");
    }

    /// What the parser should let through.
    #[must_use]
    pub fn parser_limits(&self, options: &Options) -> RouteLimits {
        let is_in = self.stage == Stage::Admitted;
        RouteLimits {
            max_control_line: options.max_control_line.saturating_mul(16),
            max_payload: if is_in {
                let largest = options.max_payload.max(limits::ROUTE_PAYLOAD_MAX);
                largest.saturating_add(limits::ROUTE_HEADERS_ADDED_MAX)
            } else {
                0
            },
            is_pinned: self.account().is_some(),
        }
    }

    /// Who opened it.
    #[must_use]
    pub fn side(&self) -> &Side {
        &self.side
    }

    /// The connection's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The peer's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the other server said of itself, once it has.
    #[must_use]
    pub fn remote(&self) -> Option<&RouteInfo> {
        self.remote.as_deref()
    }

    /// How long its last answer to a PING took.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What was agreed on about compression, once something was.
    #[must_use]
    pub fn agreement(&self) -> Option<Agreement> {
        self.agreement
    }

    /// How what is sent to it is compressed, if it is.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.agreement?.level()
    }

    /// Goes over to other settings of compression; false if that takes a new connection.
    pub fn renew_compression(&mut self, facts: &ClusterFacts) -> bool {
        let rtt = self.rtt.unwrap_or_default();
        match &mut self.agreement {
            Some(agreement) => agreement.renew(&facts.compression, rtt),
            // Who was told of the old ones goes by them.
            None => self.greeted.is_none() || self.side != Side::Accepted,
        }
    }

    /// The account that it is for, if it is for one alone.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        match &self.side {
            Side::Dialled(dial) => dial.account.as_deref(),
            Side::Accepted => self.remote.as_ref()?.account.as_deref(),
        }
    }

    /// Which connection of the pool it is.
    #[must_use]
    pub fn pool_index(&self) -> u32 {
        match &self.side {
            Side::Dialled(dial) => dial.pool_index,
            Side::Accepted => self
                .remote
                .as_ref()
                .and_then(|it| it.pool_index)
                .unwrap_or(0),
        }
    }

    /// Whether it has yet to show who it is.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        !matches!(self.stage, Stage::Admitted)
    }

    /// Whether the server waits for it to say who it is, which is only so long.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        matches!(self.stage, Stage::AwaitConnect | Stage::AwaitInfo)
    }

    /// Whether something about it is being found out elsewhere. Nothing may be fed to it meanwhile.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Introduced | Stage::Verifying)
    }

    /// Whether it is part of the cluster.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.stage == Stage::Admitted
    }

    /// The hash that has to be computed, after [`RouteAction::Verify`]; once.
    pub fn take_challenge(&mut self) -> Option<Box<Challenge>> {
        self.challenge.take()
    }

    /// The credentials it gave, as a log line about them ends.
    #[must_use]
    pub fn credentials(&self) -> String {
        let user = self.connect.user.as_ref();
        let shown = user.map(|it| quote(it.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX)));
        shown.map_or_else(String::new, |it| format!(" - User {it}"))
    }

    /// The time from its admission to the first PING, where `interval` is the time between two. `random` is in
    /// `0.0..1.0`.
    pub fn first_beat(&mut self, interval: Duration, random: f64) -> Duration {
        self.keepalive.begin(interval.min(FIRST_PING), random)
    }

    /// Takes one frame in and gives one action out.
    ///
    /// # Errors
    ///
    /// Why the connection must end; its peer has been told as far as it is told at all.
    pub fn on_frame<'a>(
        &mut self,
        frame: &'a RouteFrame<'a>,
        context: &Context<'_>,
        facts: &ClusterFacts,
        out: &mut Vec<u8>,
    ) -> Result<RouteAction<'a>, CloseReason> {
        if self.stage == Stage::AwaitConnect && !matches!(frame, RouteFrame::Connect(_)) {
            return refuse(CloseReason::AuthenticationFailure, out);
        }
        match *frame {
            RouteFrame::Ping => out.extend_from_slice(b"PONG\r\n"),
            RouteFrame::Pong => return Ok(self.on_pong(facts, context.now)),
            RouteFrame::Ok | RouteFrame::Account => {}
            RouteFrame::Err(_) => return Err(CloseReason::ParseError),
            RouteFrame::Connect(json) => return self.on_connect(json, context, facts, out),
            RouteFrame::Info(json) => return self.on_info(json, facts, context.now, out),
            // Before it has introduced itself it has no business in any account.
            _ if self.stage != Stage::Admitted => return Err(CloseReason::ProtocolViolation),
            RouteFrame::Interest {
                account,
                subject,
                queue,
            } => return Ok(RouteAction::Interest(account, subject, queue)),
            RouteFrame::NoInterest {
                account,
                subject,
                queue,
            } => return Ok(RouteAction::NoInterest(account, subject, queue)),
            RouteFrame::Message(ref message) => return Ok(RouteAction::Message(message)),
        }
        Ok(RouteAction::Nothing)
    }

    /// Takes the answer to its [`Challenge`]: as a CONNECT that could be judged at once.
    ///
    /// # Errors
    ///
    /// As [`Route::on_frame`].
    pub fn on_verified(
        &mut self,
        verdict: &Verdict,
        facts: &ClusterFacts,
        out: &mut Vec<u8>,
    ) -> Result<RouteAction<'static>, CloseReason> {
        match verdict {
            Verdict::Accepted(_) => self.check_cluster(facts, out),
            _ => refuse(CloseReason::AuthenticationFailure, out),
        }
    }

    fn on_pong<'a>(&mut self, facts: &ClusterFacts, now: Instant) -> RouteAction<'a> {
        self.keepalive.pong();
        if let Some(pinged) = self.pinged.take() {
            let rtt = now.saturating_duration_since(pinged);
            self.rtt = Some(rtt);
            if let Some(agreement) = &mut self.agreement {
                agreement.on_rtt(&facts.compression, rtt);
            }
        }
        let is_first = self.stage == Stage::Admitted && !self.answered;
        if is_first {
            self.answered = true;
            return RouteAction::Report(RouteEvent::Answered);
        }
        RouteAction::Nothing
    }

    fn on_connect<'a>(
        &mut self,
        json: &[u8],
        context: &Context<'_>,
        facts: &ClusterFacts,
        out: &mut Vec<u8>,
    ) -> Result<RouteAction<'a>, CloseReason> {
        if self.stage != Stage::AwaitConnect {
            return Ok(RouteAction::Nothing);
        }
        self.connect = RouteConnect::parse(json).ok_or(CloseReason::ProtocolViolation)?;
        if self.connect.lang.is_some() {
            return refuse(CloseReason::IncorrectPort, out);
        }
        if let Some(gateway) = &self.connect.gateway {
            let gateway = quote(gateway.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
            let text = format!("Rejecting connection from gateway {gateway} on the Route port");
            error_line(&text, out);
            return Err(CloseReason::IncorrectPort);
        }
        let (user, pass) = (&self.connect.user, &self.connect.pass);
        let (user, pass) = (user.as_deref(), pass.as_deref().unwrap_or_default());
        let certificate = self.certificate.as_deref();
        match context
            .auth
            .judge_route(&context.options.cluster, user, pass, certificate)
        {
            Verdict::Accepted(_) => self.check_cluster(facts, out),
            Verdict::Refused(_) => refuse(CloseReason::AuthenticationFailure, out),
            Verdict::Verify(challenge) => {
                self.challenge = Some(challenge);
                self.stage = Stage::Verifying;
                Ok(RouteAction::Verify)
            }
        }
    }

    /// Whether the other server's cluster is, or can become, the same as this one's.
    fn check_cluster(
        &mut self,
        facts: &ClusterFacts,
        out: &mut Vec<u8>,
    ) -> Result<RouteAction<'static>, CloseReason> {
        let (own, other) = (facts.name(), self.connect.cluster.as_str());
        let shown = |name: &str| quote(name.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
        if other == RESERVED_CLUSTER {
            let text = format!(
                "Rejecting connection, cluster name {} is reserved",
                shown(other)
            );
            error_line(&text, out);
            return Err(CloseReason::ClusterNameConflict);
        }
        let is_dynamic = self.connect.is_dynamic;
        if own == other {
            self.stage = Stage::AwaitInfo;
            return Ok(RouteAction::Nothing);
        }
        if facts.yields_to(other, is_dynamic) {
            self.stage = Stage::AwaitInfo;
            return Ok(RouteAction::Report(RouteEvent::Named {
                cluster: other.into(),
                is_dynamic,
            }));
        }
        let (own, other) = (shown(own), shown(other));
        let text = format!("Rejecting connection, cluster name {other} does not match {own}");
        error_line(&text, out);
        Err(CloseReason::ClusterNameConflict)
    }

    fn on_info<'a>(
        &mut self,
        json: &[u8],
        facts: &ClusterFacts,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<RouteAction<'a>, CloseReason> {
        let info = RouteInfo::parse(json).ok_or(CloseReason::ProtocolViolation)?;
        if self.stage == Stage::AwaitInfo {
            return self.on_first_info(info, facts, now, out);
        }
        Ok(self.on_later_info(info, out))
    }

    fn on_first_info<'a>(
        &mut self,
        info: RouteInfo,
        facts: &ClusterFacts,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<RouteAction<'a>, CloseReason> {
        if info.server_id.is_empty() {
            return Err(CloseReason::ProtocolViolation);
        }
        let is_dialled = matches!(self.side, Side::Dialled(_));
        if let Some(index) = info.pool_index.filter(|_| is_dialled) {
            let text = format!("Route pool index should not be set but is set to {index}");
            error_line(&text, out);
            return Err(CloseReason::ProtocolViolation);
        }
        if self.agreement.is_none() {
            self.agree(info.compression.as_deref(), facts, now, out)?;
            if self.level().is_some() {
                if is_dialled {
                    self.info(facts).encode(Some(&self.nonce), out);
                }
                return Ok(RouteAction::Compress);
            }
        }
        // Whoever dialled has said it before, in CONNECT.
        let (cluster, is_dynamic) = match (&info.cluster, is_dialled) {
            (Some(cluster), true) => (cluster.clone(), info.is_dynamic),
            (None, true) => (facts.name().into(), false),
            (_, false) => (self.connect.cluster.clone(), self.connect.is_dynamic),
        };
        self.remote = Some(Box::new(info.clone()));
        self.stage = Stage::Introduced;
        Ok(RouteAction::Report(RouteEvent::Introduced(Box::new(
            Hello {
                addr: self.addr,
                dial: match &self.side {
                    Side::Dialled(dial) => Some(dial.number),
                    Side::Accepted => None,
                },
                pool_index: self.pool_index(),
                account: self.account().map(Into::into),
                cluster,
                is_dynamic,
                info,
            },
        ))))
    }

    /// Agrees with a server whose first INFO says this of compression.
    fn agree(
        &mut self,
        other: Option<&str>,
        facts: &ClusterFacts,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        // As long as it took it to answer: there was no PING yet.
        let greeted = self.greeted.unwrap_or(now);
        let rtt = now.saturating_duration_since(greeted);
        self.agreement = Agreement::find(&facts.compression, other, rtt);
        if self.agreement.is_none() {
            let mode = other.unwrap_or_default().as_bytes();
            let mode = quote(mode, Some(limits::LOGGED_NAME_BYTES_MAX));
            error_line(&format!("unsupported route compression mode {mode}"), out);
            return Err(CloseReason::ProtocolViolation);
        }
        Ok(())
    }

    fn on_later_info<'a>(&mut self, info: RouteInfo, out: &mut Vec<u8>) -> RouteAction<'a> {
        let Some(remote) = &mut self.remote else {
            return RouteAction::Nothing;
        };
        if info.account_request.is_some() {
            let Some(account) = info.account.clone() else {
                return RouteAction::Nothing;
            };
            let answer = RouteInfo {
                account: None,
                ..info
            };
            answer.encode(None, out);
            return RouteAction::Forget(account);
        }
        if info.is_gateway || info.server_id.is_empty() {
            return RouteAction::Nothing;
        }
        if info.server_id != remote.server_id {
            return RouteAction::Report(RouteEvent::Heard(Box::new(info)));
        }
        if info.ldm {
            return RouteAction::Report(RouteEvent::LameDuck);
        }
        let has_news = (&info.import, &info.export) != (&remote.import, &remote.export);
        (remote.import, remote.export) = (info.import, info.export);
        match has_news {
            true => RouteAction::Repeat,
            false => RouteAction::Nothing,
        }
    }
}

/// Tells why, and ends.
fn refuse<T>(reason: CloseReason, out: &mut Vec<u8>) -> Result<T, CloseReason> {
    reason.tell(out);
    Err(reason)
}

/// As logs name it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - rid:{}", self.addr, self.id)
    }
}

#[cfg(test)]
mod tests;
