//! The session of a client: an application.

use std::fmt;
use std::net::SocketAddr;

use super::action::{Action, CloseReason, Violation};
use super::keepalive::Keepalive;
use crate::config::options::Options;
use crate::proto::connect::Connect;
use crate::proto::encode::error_line;
use crate::proto::error::text;
use crate::proto::frame::{Frame, Publish};
use crate::proto::info::{ClientInfo, ServerInfo};
use crate::proto::parser;
use crate::subject;

/// What a session needs to know of the server.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The server's options, as they are now.
    pub options: &'a Options,
    /// What INFO says of it.
    pub info: &'a ServerInfo,
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
    /// The first PING after CONNECT was answered: from now on INFO may come at any time.
    informed: bool,
    /// When to PING it.
    pub keepalive: Keepalive,
}

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
        }
    }

    /// Appends the INFO that greets a connection before anything is read from it.
    pub fn greet(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        self.inform(context, None, false, out);
    }

    /// Appends an INFO because something in it changed, if this client can take one at any time.
    pub fn notify(&self, context: &Context<'_>, ldm: bool, out: &mut Vec<u8>) {
        if self.informed {
            self.inform(context, None, ldm, out);
        }
    }

    /// What the parser should let through.
    #[must_use]
    pub fn parser_limits(&self, options: &Options) -> parser::Limits {
        parser::Limits {
            max_control_line: options.max_control_line,
            max_payload: options.max_payload,
            headers: self.headers,
        }
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

    /// Takes one frame in and gives at most one action out.
    ///
    /// # Errors
    ///
    /// Why the connection must end; its peer has been told as far as it is told at all.
    #[inline]
    pub fn on_frame<'a>(
        &mut self,
        frame: &'a Frame<'a>,
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, CloseReason> {
        match *frame {
            Frame::Publish(ref publish) => Ok(self.on_publish(publish, out)),
            Frame::Subscribe {
                subject,
                queue,
                sid,
            } => {
                self.keepalive.busy();
                Ok(check_subscribe(subject, queue, sid, context.options))
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
            Frame::Hmsg => {
                self.accept(out);
                Ok(Action::Nothing)
            }
            Frame::Connect(json) => self.on_connect(json, context, out).inspect_err(|reason| {
                if let Some(text) = reason.wire_text() {
                    error_line(text, out);
                }
            }),
            Frame::Info(json) => {
                match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json) {
                    Ok(_) => Ok(Action::Nothing),
                    Err(_) => Err(CloseReason::ProtocolViolation),
                }
            }
            Frame::Err(_) => Err(CloseReason::ParseError),
        }
    }

    /// Appends `+OK` where the client wants one.
    #[inline]
    pub fn accept(&self, out: &mut Vec<u8>) {
        if self.verbose {
            out.extend_from_slice(b"+OK\r\n");
        }
    }

    #[inline]
    fn on_publish<'a>(&mut self, publish: &'a Publish<'a>, out: &mut Vec<u8>) -> Action<'a> {
        self.keepalive.busy();
        if self.pedantic && !subject::is_valid_literal(publish.subject) {
            // Told, and delivered all the same.
            error_line(text::PUBLISH_SUBJECT, out);
        }
        if is_reserved_subject(publish.subject) {
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
        Action::Publish(publish)
    }

    fn on_ping(&mut self, context: &Context<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PONG\r\n");
        let takes_info = self.connected && self.connect.protocol >= 1;
        if takes_info && !self.informed {
            self.informed = true;
            self.inform(context, Some("$G"), false, out);
        }
    }

    fn on_connect<'a>(
        &mut self,
        json: &[u8],
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, CloseReason> {
        let again = std::mem::replace(&mut self.connected, true);
        let connect = &mut self.connect;
        connect
            .merge(json)
            .map_err(|_| CloseReason::ProtocolViolation)?;
        if connect.account.is_some() || connect.new_account {
            return Err(CloseReason::AuthenticationFailure);
        }
        if !(0..=1).contains(&connect.protocol) {
            return Err(CloseReason::ClientProtocol);
        }
        self.verbose = connect.verbose;
        self.pedantic = connect.pedantic;
        self.echo = connect.echo;
        self.headers = connect.headers && !context.options.no_header_support;
        self.no_responders = connect.no_responders;
        if self.no_responders && !self.headers {
            return Err(CloseReason::NoResponders);
        }
        self.accept(out);
        Ok(Action::Connected { again })
    }

    fn inform(&self, context: &Context<'_>, account: Option<&str>, ldm: bool, out: &mut Vec<u8>) {
        let ip = self.addr.ip().to_canonical().to_string();
        let client = ClientInfo {
            client_id: self.id,
            client_ip: &ip,
            nonce: None,
            ldm,
            connect_info: account,
        };
        context.info.encode(&client, out);
    }
}

/// As logs name it: address and number, and what CONNECT said of library and application.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - cid:{}", self.addr, self.id)?;
        let connect = &self.connect;
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
        if said.is_empty() {
            Ok(())
        } else {
            write!(f, " - \"{}\"", said.join(":"))
        }
    }
}

fn check_subscribe<'a>(
    subject: &'a [u8],
    queue: Option<&'a [u8]>,
    sid: &'a [u8],
    options: &Options,
) -> Action<'a> {
    if queue == Some(RESERVED_QUEUE) {
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
    }
}

/// Subjects that servers use among themselves.
#[inline]
fn is_reserved_subject(subject: &[u8]) -> bool {
    matches!(subject, [b'$' | b'_', ..])
        && [&b"$GR."[..], b"_GR_.", b"$NRG."]
            .iter()
            .any(|prefix| subject.starts_with(prefix))
}

/// Reply subjects that servers use among themselves, or that acknowledge what was stored.
#[inline]
fn is_reserved_reply(reply: &[u8]) -> bool {
    matches!(reply, [b'$' | b'_', ..])
        && ([&b"_GR_."[..], b"_R_."]
            .iter()
            .any(|prefix| reply.starts_with(prefix))
            || reply
                .strip_prefix(b"$JS.ACK.")
                .is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(1, ([127, 0, 0, 1], 9).into())
    }

    /// What the client is sent for the frames, with the reason if one of them ended the connection.
    fn answers(frames: &[Frame<'_>]) -> (String, Option<CloseReason>) {
        let (options, info) = (Options::default(), ServerInfo::default());
        let context = Context {
            options: &options,
            info: &info,
        };
        let (mut client, mut out) = (client(), Vec::new());
        let reason = frames
            .iter()
            .find_map(|frame| client.on_frame(frame, &context, &mut out).err());
        (String::from_utf8(out).unwrap(), reason)
    }

    #[test]
    fn a_second_info_comes_with_the_first_pong_after_connect_to_protocol_1() {
        let connect = Frame::Connect(br#"{"verbose":false,"protocol":1}"#);
        let (out, _) = answers(&[Frame::Ping, connect, Frame::Ping, Frame::Ping]);
        let lines: Vec<&str> = out
            .split_inclusive("\r\n")
            .map(|line| line.get(..5).unwrap())
            .collect();
        assert_eq!(lines, ["PONG\r", "PONG\r", "INFO ", "PONG\r"]);
        assert!(out.contains(r#""connect_info":true,"remote_account":"$G""#));
        let (out, _) = answers(&[Frame::Connect(br#"{"verbose":false}"#), Frame::Ping]);
        assert_eq!(out, "PONG\r\n");
    }

    #[test]
    fn bad_connects_end_the_connection() {
        for (json, told, reason) in [
            ("{", "", CloseReason::ProtocolViolation),
            (
                r#"{"protocol":2}"#,
                "-ERR 'invalid client protocol'\r\n",
                CloseReason::ClientProtocol,
            ),
            (
                r#"{"account":"X"}"#,
                "-ERR 'Authorization Violation'\r\n",
                CloseReason::AuthenticationFailure,
            ),
            (
                r#"{"no_responders":true}"#,
                "-ERR 'no responders requires headers support'\r\n",
                CloseReason::NoResponders,
            ),
        ] {
            assert_eq!(
                answers(&[Frame::Connect(json.as_bytes())]),
                (told.into(), Some(reason)),
                "{json}"
            );
        }
    }

    #[test]
    fn reserved_names_are_known_by_their_exact_prefix() {
        for reserved in ["_GR_.x", "$GR.x", "$NRG.x"] {
            assert!(is_reserved_subject(reserved.as_bytes()), "{reserved}");
        }
        for free in ["$NRG", "$GR", "_GR_", "_R_.x", "$SYS.x", "$JS.ACK.x"] {
            assert!(!is_reserved_subject(free.as_bytes()), "{free}");
        }
        for reserved in ["_R_.x", "_GR_.x", "$JS.ACK.x"] {
            assert!(is_reserved_reply(reserved.as_bytes()), "{reserved}");
        }
        for free in ["", "_R_", "_R_x", "$JS.ACK.", "$JS.ACK", "$SYS.x"] {
            assert!(!is_reserved_reply(free.as_bytes()), "{free}");
        }
    }

    #[test]
    fn nothing_but_an_object_is_an_info() {
        assert_eq!(
            answers(&[Frame::Info(b"{}"), Frame::Ok, Frame::Pong]),
            (String::new(), None)
        );
        assert_eq!(
            answers(&[Frame::Info(b"[]")]).1,
            Some(CloseReason::ProtocolViolation)
        );
        assert_eq!(
            answers(&[Frame::Err(b"'x'")]).1,
            Some(CloseReason::ParseError)
        );
    }
}
