//! Who a client is: its credentials are judged, and judged anew when the configuration changes.

use std::sync::Arc;

use super::{Client, Context};
use crate::config::options::Options;
use crate::limits;
use crate::log::quote;
use crate::session::action::{Action, CloseReason};
use crate::session::auth::{Authenticator, Challenge, Identity, Review, Verdict, Who};
use crate::session::signature::Flaw;

/// How far the latest credentials have got.
#[derive(Debug)]
pub(super) enum Login {
    /// Nothing is under way.
    Idle,
    /// They were refused; with a signature, for this.
    Refused(Option<Flaw>),
    /// A hash has to be computed.
    Verifying(Option<Box<Challenge>>),
    /// The same, because the configuration has changed.
    Reviewing(Option<Box<Challenge>>),
}

impl Client {
    /// Whether the server waits for its CONNECT, which is only so long.
    #[must_use]
    pub fn is_overdue(&self, auth: &Authenticator) -> bool {
        self.is_stranger(auth) && !self.is_verifying()
    }

    /// Whether its password is being checked. Nothing may be fed to it meanwhile.
    #[must_use]
    pub fn is_verifying(&self) -> bool {
        matches!(self.login, Login::Verifying(_) | Login::Reviewing(_))
    }

    /// The hash that has to be computed, after [`Action::Verify`]; once.
    pub fn take_challenge(&mut self) -> Option<Box<Challenge>> {
        match &mut self.login {
            Login::Verifying(challenge) | Login::Reviewing(challenge) => challenge.take(),
            _ => None,
        }
    }

    /// Why its signature was refused, if it was.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        match self.login {
            Login::Refused(flaw) => flaw,
            _ => None,
        }
    }

    /// The credentials it gave, as a log line about them ends; secrets are not shown.
    #[must_use]
    pub fn credentials(&self) -> String {
        let connect = &self.connect;
        let shown = |text: &str| quote(text.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
        match (
            &connect.credentials().nkey,
            &connect.credentials().user,
            &connect.credentials().auth_token,
        ) {
            (Some(nkey), ..) => format!(" - Nkey {}", shown(nkey)),
            (None, Some(user), _) => format!(" - User {}", shown(user)),
            (None, None, Some(_)) => " - Token \"[REDACTED]\"".into(),
            (None, None, None) => String::new(),
        }
    }

    /// Who it is, as a log line about what it may do has it.
    #[must_use]
    pub fn user(&self) -> String {
        let shown = |text: &str| quote(text.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
        match self.identity.as_ref().map(|it| &it.who) {
            Some(Who::Nkey(key)) => format!("Nkey {}", shown(key)),
            Some(Who::User(name)) => format!("User {}", shown(name)),
            Some(Who::Token) => "Token \"[REDACTED]\"".into(),
            Some(Who::Anyone) | None => "User \"N/A\"".into(),
        }
    }

    /// The user or key that it is known by, or that it claims to be; `[REDACTED]` for a token, empty for none.
    #[must_use]
    pub fn claimed_user(&self) -> &str {
        match self.identity.as_ref().map(|it| &it.who) {
            Some(Who::Nkey(name) | Who::User(name)) => return name,
            Some(Who::Token) => return "[REDACTED]",
            Some(Who::Anyone) | None => {}
        }
        let given = self.connect.credentials();
        match (&given.nkey, &given.user, &given.auth_token) {
            (Some(name), ..) | (None, Some(name), _) => name,
            (None, None, Some(_)) => "[REDACTED]",
            (None, None, None) => "",
        }
    }

    /// Takes the answer to its [`Challenge`]: as a CONNECT that could be judged at once.
    ///
    /// # Errors
    ///
    /// As [`Client::on_frame`].
    pub fn on_verified<'a>(
        &mut self,
        verdict: Verdict,
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, CloseReason> {
        let verdict = match verdict {
            // The configuration changed meanwhile: whom it let in then may not be let in now.
            Verdict::Accepted(identity) if !context.auth.has_issued(&identity) => {
                context.auth.judge(
                    &self.connect,
                    self.nonce.as_deref(),
                    self.certificate.as_deref(),
                )
            }
            verdict => verdict,
        };
        let held = match self.login {
            Login::Reviewing(_) => self.identity.as_ref(),
            _ => None,
        };
        let result = match held {
            Some(held) => {
                let review = verdict.review(held);
                self.on_review(review)
            }
            None => self.on_verdict(verdict, context),
        };
        result.inspect_err(|reason| reason.tell(out))
    }

    /// Judges it anew under `context`, after the configuration has changed from what `old` was the gate of.
    ///
    /// # Errors
    ///
    /// If it must not stay.
    pub fn review<'a>(
        &mut self,
        old: &Authenticator,
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, CloseReason> {
        // Once the answer is there, it is judged by what holds then.
        if self.is_verifying() {
            return Ok(Action::Nothing);
        }
        let review = match &self.identity {
            Some(held) => {
                let (auth, nonce) = (context.auth, self.nonce.as_deref());
                auth.review(old, held, &self.connect, nonce, self.certificate.as_deref())
            }
            // It did as it liked so far, without a name.
            None if context.auth.is_required() && !old.is_required() => {
                Review::Close(CloseReason::AuthenticationFailure)
            }
            None => return Ok(Action::Nothing),
        };
        self.on_review(review)
            .inspect_err(|reason| reason.tell(out))
    }

    fn on_review<'a>(&mut self, review: Review) -> Result<Action<'a>, CloseReason> {
        self.login = Login::Idle;
        match review {
            Review::Keep(identity) => {
                self.become_known(identity);
                Ok(Action::Reviewed)
            }
            Review::Close(reason) => Err(reason),
            Review::Verify(challenge) => {
                self.login = Login::Reviewing(Some(challenge));
                Ok(Action::Verify)
            }
        }
    }

    /// Takes in a stranger whose first byte is not that of CONNECT, if the server takes such ones.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn on_nameless<'a>(
        &mut self,
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, CloseReason> {
        let result = match context.auth.judge_nameless() {
            Verdict::Accepted(identity) => {
                self.become_known(identity);
                Ok(Action::Connected { again: false })
            }
            _ => Err(CloseReason::AuthenticationFailure),
        };
        result.inspect_err(|reason| reason.tell(out))
    }

    pub(super) fn on_connect<'a>(
        &mut self,
        json: &[u8],
        context: &Context<'_>,
    ) -> Result<Action<'a>, CloseReason> {
        self.connected = true;
        self.keepalive.on_connect();
        let connect = &mut self.connect;
        connect
            .merge(json)
            .map_err(|_| CloseReason::ProtocolViolation)?;
        let verdict =
            context
                .auth
                .judge(connect, self.nonce.as_deref(), self.certificate.as_deref());
        self.on_verdict(verdict, context)
    }

    fn on_verdict<'a>(
        &mut self,
        verdict: Verdict,
        context: &Context<'_>,
    ) -> Result<Action<'a>, CloseReason> {
        self.login = Login::Idle;
        match verdict {
            Verdict::Accepted(identity) => self.on_accepted(identity, context.options),
            Verdict::Refused(flaw) => {
                self.login = Login::Refused(flaw);
                Err(CloseReason::AuthenticationFailure)
            }
            Verdict::Verify(challenge) => {
                self.login = Login::Verifying(Some(challenge));
                Ok(Action::Verify)
            }
        }
    }

    fn on_accepted<'a>(
        &mut self,
        identity: Arc<Identity>,
        options: &Options,
    ) -> Result<Action<'a>, CloseReason> {
        let connect = &self.connect;
        if connect.credentials().account.is_some() || connect.credentials().new_account {
            return Err(CloseReason::AuthenticationFailure);
        }
        if !(0..=1).contains(&connect.protocol) {
            return Err(CloseReason::ClientProtocol);
        }
        self.verbose = connect.verbose;
        self.pedantic = connect.pedantic;
        self.echo = connect.echo;
        self.headers = connect.headers && !options.no_header_support;
        self.no_responders = connect.no_responders;
        if self.no_responders && !self.headers {
            return Err(CloseReason::NoResponders);
        }
        let again = self.become_known(identity);
        Ok(Action::Connected { again })
    }

    /// Notes who it is; true if it was someone before.
    fn become_known(&mut self, identity: Arc<Identity>) -> bool {
        self.max_payload = identity.max_payload.unwrap_or(usize::MAX);
        self.identity.replace(identity).is_some()
    }
}
