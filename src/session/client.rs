//! The session of a client: an application.

mod login;

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use login::Login;

use super::action::{Action, CloseReason, Violation};
use super::auth::{Authenticator, Identity, Who};
use super::keepalive::Keepalive;
use super::permissions::{Admission, Guard};
use crate::certificate::Certificate;
use crate::config::options::Options;
use crate::limits;
use crate::log::quote;
use crate::proto::connect::Connect;
use crate::proto::encode::error_line;
use crate::proto::error::{json_fault, shown_text, text};
use crate::proto::frame::{Frame, Publish};
use crate::proto::info::{ClientInfo, ServerInfo, check_info};
use crate::proto::parser;
use crate::proto::tracing;
use crate::subject;

/// What a session needs to know of the server.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The server's options, as they are now.
    pub options: &'a Options,
    /// What INFO says of it.
    pub info: &'a ServerInfo,
    /// Who may come in.
    pub auth: &'a Authenticator,
    /// The time.
    pub now: Instant,
}

/// The protocol state of one client connection.
#[derive(Debug)]
pub struct Client {
    id: u64,
    addr: SocketAddr,
    /// What CONNECT said; the defaults until it comes. Inline, so that a crowd of clients leaves no scattered memory.
    connect: Connect,
    connected: bool,
    verbose: bool,
    pedantic: bool,
    /// Whether its own messages come back to it.
    pub echo: bool,
    /// Whether it sends and takes messages with headers.
    pub headers: bool,
    /// Whether it wants to know of requests that nobody got.
    pub no_responders: bool,
    /// The first PING after CONNECT was answered: from now on INFO may come at any time, to those that take it.
    informed: bool,
    /// When to PING it.
    pub keepalive: Keepalive,
    /// Who it is, once that is known; on a server that needs no credentials, once it sent CONNECT.
    identity: Option<Arc<Identity>>,
    /// Bytes in a message, where its account has a limit.
    max_payload: usize,
    /// What INFO gave it to sign.
    nonce: Option<Box<[u8]>>,
    /// It came with TLS before INFO.
    over_tls: bool,
    /// Its certificate, where that says who it is.
    certificate: Option<Box<Certificate>>,
    login: Login,
}

/// Requests to servers begin with this.
const REQUESTS: &[u8] = b"$SYS.REQ.";
/// A queue group name that the reference server keeps to itself.
const RESERVED_QUEUE: &[u8] = b"_sys_";

impl Client {
    /// The session of a fresh connection.
    #[must_use]
    pub fn new(id: u64, addr: SocketAddr) -> Self {
        let Connect {
            verbose,
            pedantic,
            echo,
            headers,
            no_responders,
            ..
        } = Connect::default();
        Client {
            id,
            addr,
            connect: Connect::default(),
            connected: false,
            verbose,
            pedantic,
            echo,
            headers,
            no_responders,
            informed: false,
            keepalive: Keepalive::default(),
            identity: None,
            max_payload: usize::MAX,
            nonce: None,
            over_tls: false,
            certificate: None,
            login: Login::Idle,
        }
    }

    /// Appends the INFO that greets a connection before anything is read from it.
    pub fn greet(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        let nonce = self.nonce.as_deref();
        let nonce = nonce.and_then(|nonce| std::str::from_utf8(nonce).ok());
        let greeting = ClientInfo {
            auth_required: context.auth.is_announced(),
            nonce,
            ..ClientInfo::default()
        };
        self.inform(context, greeting, out);
    }

    /// Gives it this to sign, to be told in the greeting.
    pub fn set_nonce(&mut self, nonce: &str) {
        self.nonce = Some(nonce.as_bytes().into());
    }

    /// Notes that it has come with TLS before INFO.
    pub fn set_over_tls(&mut self) {
        self.over_tls = true;
    }

    /// Notes the certificate that it has shown, which has been verified.
    pub fn set_certificate(&mut self, certificate: Option<Certificate>) {
        self.certificate = certificate.map(Box::new);
    }

    /// The certificate that says who it is, if one does.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// Appends an INFO because something in it changed, if this client can take one at any time.
    pub fn notify(&self, context: &Context<'_>, ldm: bool, out: &mut Vec<u8>) {
        if self.informed && self.connect.protocol >= 1 {
            let notice = ClientInfo {
                auth_required: context.auth.is_required(),
                ldm,
                ..ClientInfo::default()
            };
            self.inform(context, notice, out);
        }
    }

    /// What the parser should let through.
    #[must_use]
    pub fn parser_limits(&self, options: &Options) -> parser::Limits {
        parser::Limits {
            max_control_line: options.max_control_line,
            max_payload: options.max_payload.min(self.max_payload),
            headers: self.headers,
        }
    }

    /// How many subscriptions it may have.
    #[must_use]
    pub fn max_subscriptions(&self, options: &Options) -> Option<usize> {
        let own = self.identity.as_ref().and_then(|it| it.max_subscriptions);
        own.into_iter().chain(options.max_subscriptions).min()
    }

    /// Who it is, once that is known.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Whether it has yet to show who it is.
    #[inline]
    #[must_use]
    pub fn is_stranger(&self, auth: &Authenticator) -> bool {
        self.identity.is_none() && auth.is_required()
    }

    /// Whether nothing is answered to a message of it that is in order.
    #[inline]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !(self.verbose | self.pedantic)
    }

    /// Whether no name in a message has a meaning for the server, nor any header: where it may be sent is a matter of
    /// permissions alone.
    #[inline]
    #[must_use]
    pub fn is_ordinary(publish: &Publish<'_>) -> bool {
        !is_special(publish.subject)
            && !is_reserved_reply(publish.reply)
            && !tracing::may_ask(publish)
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

    /// What CONNECT said, once it came.
    #[must_use]
    pub fn connect(&self) -> Option<&Connect> {
        self.connected.then_some(&self.connect)
    }

    /// Takes one frame in and gives at most one action out. `guard` is that of its permissions, if it has any.
    ///
    /// # Errors
    ///
    /// Why the connection must end; its peer has been told as far as it is told at all.
    #[inline]
    pub fn on_frame<'a>(
        &mut self,
        frame: &'a Frame<'a>,
        context: &Context<'_>,
        guard: Option<&mut Guard>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, CloseReason> {
        match *frame {
            Frame::Publish(ref publish) => Ok(self.on_publish(publish, context.now, guard, out)),
            Frame::Subscribe {
                subject,
                queue,
                sid,
            } => {
                self.keepalive.busy();
                Ok(check_subscribe(subject, queue, sid, guard, context.options))
            }
            Frame::Unsubscribe { sid, max } => {
                self.keepalive.busy();
                self.accept(out);
                Ok(Action::Unsubscribe { sid, max })
            }
            Frame::Ping => {
                self.keepalive.busy();
                self.on_ping(context, out);
                Ok(Action::Nothing)
            }
            Frame::Pong => {
                self.keepalive.pong();
                Ok(Action::Nothing)
            }
            Frame::Ok => Ok(Action::Nothing),
            Frame::Hmsg => Ok(self.on_hmsg(context.now, guard, out)),
            Frame::Connect(json) => {
                let result = self.on_connect(json, context);
                result.inspect_err(|reason| reason.tell(out))
            }
            Frame::Info(json) => match check_info(json) {
                Ok(()) => Ok(Action::Nothing),
                Err(_) => Err(CloseReason::ProtocolViolation),
            },
            Frame::Err(_) => Err(CloseReason::ParseError),
        }
    }

    /// What is wrong with a frame that ended the connection, where that is in the frame itself: for the log.
    #[cold]
    #[must_use]
    pub fn fault(frame: &Frame<'_>) -> Option<String> {
        let result = match *frame {
            Frame::Connect(json) => Connect::default().merge(json),
            Frame::Info(json) => check_info(json),
            Frame::Err(text) => return Some(format!("Client Error {}", shown_text(text))),
            _ => return None,
        };
        result.err().as_ref().map(json_fault)
    }

    /// Appends `+OK` where the client wants one.
    #[inline]
    pub fn accept(&self, out: &mut Vec<u8>) {
        if self.verbose {
            out.extend_from_slice(b"+OK\r\n");
        }
    }

    /// As [`Client::on_frame`], of a message.
    #[inline(always)]
    pub fn on_publish<'a>(
        &mut self,
        publish: &'a Publish<'a>,
        now: Instant,
        guard: Option<&mut Guard>,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        self.keepalive.busy();
        if self.pedantic && !subject::is_valid_literal(publish.subject) {
            // Told, and delivered all the same.
            error_line(text::PUBLISH_SUBJECT, out);
        }
        let is_special = is_special(publish.subject);
        if !self.may_publish(publish.subject, now, guard) {
            return Action::Refuse(Violation::Publish {
                subject: publish.subject,
            });
        }
        if is_reserved_reply(publish.reply) {
            return Action::Refuse(Violation::Reply {
                reply: publish.reply,
            });
        }
        self.accept(out);
        if is_special && publish.subject.starts_with(REQUESTS) && !publish.reply.is_empty() {
            return Action::Inquire(publish);
        }
        Action::Publish(publish)
    }

    /// Whether it may publish to a subject; `guard` is that of its permissions, if it has any.
    #[inline]
    #[must_use]
    pub fn may_publish(&self, subject: &[u8], now: Instant, guard: Option<&mut Guard>) -> bool {
        !(is_special(subject) && self.is_reserved(subject))
            && guard.is_none_or(|guard| guard.may_publish(subject, now))
    }

    /// Whether servers use the subject among themselves; some of them the system account may use too.
    #[cold]
    fn is_reserved(&self, subject: &[u8]) -> bool {
        let is_system = self.identity.as_ref().is_some_and(|it| it.is_system);
        is_reserved_subject(subject, is_system)
    }

    /// HMSG is for other servers to send; of a client it is a message to no subject, whoever may publish to that.
    #[cold]
    fn on_hmsg<'a>(
        &mut self,
        now: Instant,
        guard: Option<&mut Guard>,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        self.keepalive.busy();
        if guard.is_some_and(|guard| !guard.may_publish(b"", now)) {
            return Action::Refuse(Violation::Publish { subject: b"" });
        }
        self.accept(out);
        Action::Nothing
    }

    fn on_ping(&mut self, context: &Context<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PONG\r\n");
        let is_first = self.connected && !mem::replace(&mut self.informed, self.connected);
        if is_first && self.connect.protocol >= 1 {
            let identity = self.identity.as_ref();
            let info = ClientInfo {
                auth_required: context.auth.is_required(),
                connect_info: identity.map(|it| &*it.account_name),
                acc_is_sys: identity.is_some_and(|it| it.is_system),
                ..ClientInfo::default()
            };
            self.inform(context, info, out);
        }
    }

    /// Appends INFO: `info` is what it says of the moment, to which comes what it always says of the client.
    fn inform(&self, context: &Context<'_>, info: ClientInfo<'_>, out: &mut Vec<u8>) {
        let ip = self.addr.ip().to_canonical().to_string();
        let client = ClientInfo {
            client_id: self.id,
            client_ip: &ip,
            over_tls: self.over_tls,
            max_payload: self.identity.as_ref().and_then(|it| it.max_payload),
            ..info
        };
        context.info.encode(&client, out);
    }
}

/// As logs name it: address and number; once it is in, what CONNECT said of library and application, and who it is.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - cid:{}", self.addr, self.id)?;
        let connect = &self.connect;
        let Some(identity) = self.identity.as_ref().filter(|_| self.connected) else {
            return Ok(());
        };
        let version = connect
            .version
            .as_deref()
            .map(|version| format!("v{version}"));
        let said = [
            version.as_deref(),
            connect.lang.as_deref(),
            connect.name.as_deref(),
        ];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        let shown = |text: &str| quote(text.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
        if !said.is_empty() {
            write!(f, " - {}", shown(&said.join(":")))?;
        }
        // Where nobody has to say who he is, those who do are taken at their word, for this purpose alone.
        let who = match (&identity.who, &connect.credentials().user) {
            (Who::Anyone, None) => return Ok(()),
            (Who::Anyone, Some(user)) => Who::User(user.clone()),
            (who, _) => who.clone(),
        };
        let account = &identity.account_name;
        write!(f, " - {}", shown(&format!("{account}/{who}")))
    }
}

fn check_subscribe<'a>(
    subject: &'a [u8],
    queue: Option<&'a [u8]>,
    sid: &'a [u8],
    guard: Option<&mut Guard>,
    options: &Options,
) -> Action<'a> {
    let admission = guard.map_or(Admission::Free, |guard| {
        guard.rules().may_subscribe(subject, queue)
    });
    if queue == Some(RESERVED_QUEUE) || admission == Admission::Refused {
        return Action::Refuse(Violation::Subscribe {
            subject,
            queue,
            sid,
        });
    }
    if options
        .max_subscription_tokens
        .is_some_and(|max| subject::tokens(subject).count() > usize::from(max))
    {
        return Action::Refuse(Violation::TooManyTokens { subject, sid });
    }
    Action::Subscribe {
        subject,
        queue,
        sid,
        guarded: admission == Admission::Guarded,
    }
}

/// Whether servers may give the subject a meaning: most are done with at their first byte, and inboxes at their second.
#[inline]
fn is_special(subject: &[u8]) -> bool {
    matches!(subject, [b'$', ..] | [b'_', b'G', ..])
}

/// Subjects that servers use among themselves.
fn is_reserved_subject(subject: &[u8], is_system: bool) -> bool {
    is_between_clusters(subject) || (subject.starts_with(b"$NRG.") && !is_system)
}

/// Reply subjects that servers use among themselves, or that acknowledge what was stored.
#[inline]
fn is_reserved_reply(reply: &[u8]) -> bool {
    matches!(reply, [b'$' | b'_', ..])
        && (reply.starts_with(b"_R_.")
            || is_between_clusters(reply)
            || goes_on_from(b"$JS.ACK.", reply))
}

/// Subjects that answers from one cluster to another have.
#[inline]
fn is_between_clusters(subject: &[u8]) -> bool {
    goes_on_from(b"_GR_.", subject) || goes_on_from(b"$GR.", subject)
}

/// Whether a subject begins like this, with more behind it.
#[inline]
fn goes_on_from(prefix: &[u8], subject: &[u8]) -> bool {
    subject.len() > prefix.len() && subject.starts_with(prefix)
}

#[cfg(test)]
mod tests;
