//! Those who are in already, judged anew when the configuration changes.
//!
//! ```text
//! not listed any more, or in another account ─► closed without a word
//! listed with the same secret, which it or a certificate has shown ─► stays, with what it may do now
//! else ─► its CONNECT is judged as if it came now
//! ```
//!
//! So a connection ends only if something about it has changed, and a hash is computed only where the secret has.

use std::sync::Arc;

use super::{Authenticator, Challenge, Identity, Login, Verdict, Who};
use crate::certificate::Certificate;
use crate::proto::connect::Connect;
use crate::session::CloseReason;

/// What becomes of a connection.
#[derive(Debug)]
pub enum Review {
    /// It stays, and is this now.
    Keep(Arc<Identity>),
    /// It ends.
    Close(CloseReason),
    /// That takes a while to find out.
    Verify(Box<Challenge>),
}

impl Authenticator {
    /// Judges a connection that `old`, the gate before this one, let in as `held`.
    #[must_use]
    pub fn review(
        &self,
        old: &Authenticator,
        held: &Identity,
        connect: &Connect,
        nonce: Option<&[u8]>,
        certificate: Option<&Certificate>,
    ) -> Review {
        let (was, is) = (old.login(&held.who), self.login(&held.who));
        let has_name = matches!(held.who, Who::Nkey(_) | Who::User(_));
        match is {
            None if has_name => Review::Close(CloseReason::ClientClosed),
            None if !self.is_required() => Review::Keep(Arc::clone(&self.open)),
            Some(login) if login.identity.account != held.account => {
                Review::Close(CloseReason::ClientClosed)
            }
            Some(login) if !login.takes_standard => {
                Review::Close(CloseReason::AuthenticationFailure)
            }
            Some(login)
                if self.has_said(&held.who, connect)
                    && was.is_some_and(|was| was.secret == login.secret) =>
            {
                Review::Keep(Arc::clone(&login.identity))
            }
            _ => self.judge(connect, nonce, certificate).review(held),
        }
    }

    /// Whether a client has said itself who it is, or its certificate has. Else it is whoever clients without credentials
    /// are, and that may be nobody now.
    fn has_said(&self, who: &Who, connect: &Connect) -> bool {
        let given = connect.credentials();
        match who {
            Who::Nkey(_) => given.nkey.is_some(),
            Who::User(_) => given.user.is_some() || self.maps_certificates(),
            Who::Anyone | Who::Token => true,
        }
    }

    /// Whether this gate let someone in as that, and not an earlier one.
    #[must_use]
    pub fn has_issued(&self, identity: &Arc<Identity>) -> bool {
        let login = self.login(&identity.who);
        let own = login.map_or(&self.open, |login| &login.identity);
        Arc::ptr_eq(own, identity)
    }

    fn login(&self, who: &Who) -> Option<&Login> {
        match who {
            Who::Anyone => None,
            Who::Nkey(key) => self.nkeys.get(&**key),
            Who::Token => self.token.as_ref(),
            Who::User(name) => {
                let single = self.single.as_ref().filter(|(it, _)| **it == **name);
                let single = single.map(|(_, login)| login);
                self.users.get(&**name).or(single)
            }
        }
    }
}

impl Verdict {
    /// What it means for a connection that is in already.
    #[must_use]
    pub fn review(self, held: &Identity) -> Review {
        match self {
            Verdict::Accepted(identity) if identity.account == held.account => {
                Review::Keep(identity)
            }
            Verdict::Accepted(_) => Review::Close(CloseReason::ClientClosed),
            Verdict::Refused(_) => Review::Close(CloseReason::AuthenticationFailure),
            Verdict::Verify(challenge) => Review::Verify(challenge),
        }
    }
}
