//! Accounts: separate spaces of subjects, and what they share.

use std::time::Duration;

use super::auth::{NkeyUser, User};
use crate::subject;
use crate::subject::renaming::{Renaming, RenamingError};

/// One account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The public key, `A` and 55 more characters.
    pub nkey: Option<String>,
    /// Who belongs to it, by name.
    pub users: Vec<User>,
    /// Who belongs to it, by key.
    pub nkeys: Vec<NkeyUser>,
    /// What other accounts may import.
    pub exports: Vec<Export>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Where messages go instead.
    pub mappings: Vec<Mapping>,
    /// Its limits.
    pub limits: AccountLimits,
}

/// Limits of an account; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Connections at a time.
    pub max_connections: Option<usize>,
    /// Subscriptions of one connection.
    pub max_subscriptions: Option<usize>,
    /// Bytes of headers and payload in one message.
    pub max_payload: Option<usize>,
}

/// What an account lets others have.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The subject, which may have wildcards.
    pub subject: String,
    /// Messages, or requests.
    pub kind: ExportKind,
    /// Accounts that may import it; any when absent.
    pub accounts: Option<Vec<String>>,
    /// The token, counted from 1, at which the importing account's name must stand.
    pub account_token_position: Option<u32>,
}

/// What an export gives.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportKind {
    /// Answers to requests.
    Service {
        /// How many answers.
        response: ResponseType,
        /// Time for the answer; the server's default when absent.
        threshold: Option<Duration>,
        /// Measures how long answers take, and publishes that.
        latency: Option<Latency>,
    },
    /// Messages.
    Stream,
}

/// How many answers a service gives to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// One in several parts.
    Chunked,
    /// One.
    #[default]
    Single,
    /// Any number.
    Stream,
}

/// Measures of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Per cent of requests; `None` measures those whose headers ask for it.
    pub sampling: Option<u8>,
    /// Where the measures go.
    pub subject: String,
}

/// What an account takes from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The account it comes from.
    pub account: String,
    /// The subject there.
    pub subject: String,
    /// Messages, or requests.
    pub kind: ImportKind,
}

impl Import {
    /// The names of its subject in the exporting account and in the importing one.
    ///
    /// # Errors
    ///
    /// [`RenamingError`] if they do not go together.
    pub fn renaming(&self) -> Result<Renaming, RenamingError> {
        let there = &self.subject;
        match &self.kind {
            ImportKind::Stream {
                prefix: Some(prefix),
                ..
            } => Renaming::new(there, &format!("{prefix}.{there}")),
            ImportKind::Service { to: Some(here), .. } if subject::is_literal(there.as_bytes()) => {
                Renaming::one_for_all(there, here)
            }
            ImportKind::Stream { to: Some(here), .. }
            | ImportKind::Service { to: Some(here), .. } => Renaming::new(there, here),
            _ => Renaming::same(there),
        }
    }
}

/// How an import appears in the importing account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// Requests.
    Service {
        /// The subject here; the same when absent.
        to: Option<String>,
        /// Tell the service who asks.
        share: bool,
    },
    /// Messages.
    Stream {
        /// Tokens put before the subject.
        prefix: Option<String>,
        /// The subject here, with references to the wildcards; the same when absent.
        to: Option<String>,
    },
}

/// Sends what is published on one subject elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The subject, which may have wildcards.
    pub source: String,
    /// Where to, by weight. Weights add up to at most 100 within each cluster; the rest stays where it is.
    pub destinations: Vec<Destination>,
}

/// One place a mapping sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The subject, with references to the wildcards such as `$1` or `{{wildcard(1)}}`.
    pub subject: String,
    /// Per cent of the messages.
    pub weight: u8,
    /// Only in the cluster of this name.
    pub cluster: Option<String>,
}
