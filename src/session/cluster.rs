//! What a server is to the others of its cluster, and what they are to it.

use std::net::SocketAddr;

use crate::config::options::{Compression, SubjectRules};
use crate::proto::info::ServerInfo;
use crate::proto::route::{RouteInfo, SubjectLists};
use crate::subject;

/// What this server says of itself on routes, and whom it has told clients of. Replaced as a whole when it changes.
#[derive(Clone, Debug, Default)]
pub struct ClusterFacts {
    /// What INFO says on every route.
    pub info: RouteInfo,
    /// The port where routes are accepted, as it is rather than as it was asked for.
    pub port: u16,
    /// How this server compresses routes.
    pub compression: Compression,
    /// Accounts that have connections of their own to the other servers.
    pub pinned: Vec<String>,
    /// Subjects taken in from other servers.
    pub import: SubjectFilter,
    /// Subjects given to other servers.
    pub export: SubjectFilter,
    /// Where clients can connect to this server; nowhere if they are not to be told.
    pub own_urls: Vec<String>,
    /// Where they can connect to the others.
    pub peer_urls: Vec<String>,
    /// Whether clients could ever connect to another server: before that they are not told of this one either.
    pub has_met_others: bool,
    /// What the server itself is interested in.
    pub services: Services,
}

/// What the server itself is interested in, in the account of whoever looks after servers: requests that it answers, and
/// what other servers tell of themselves.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// The system account's name; empty if there is none.
    pub account: String,
    /// The subjects.
    pub subjects: Vec<String>,
}

impl Services {
    /// Whether the server is itself interested in a subject of an account.
    #[must_use]
    pub fn include(&self, account: &str, subject: &[u8]) -> bool {
        let mut subjects = self.subjects.iter();
        self.account == account && subjects.any(|it| it.as_bytes() == subject)
    }
}

impl ClusterFacts {
    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.info.cluster.as_deref().unwrap_or_default()
    }

    /// Adds to what INFO says to clients what is known of the cluster, if this server is in one.
    pub fn complete(&self, info: &mut ServerInfo) {
        if self.info.server_id.is_empty() {
            return;
        }
        info.cluster = Some(self.name().into());
        if !self.has_met_others {
            return;
        }
        let own = self.own_urls.iter().filter(|_| !info.lame_duck);
        let urls = own.chain(&self.peer_urls).cloned();
        info.connect_urls = urls.collect();
    }

    /// Whether this server takes over the name of another one's cluster: its own was made up, and the other's was not, or
    /// is the greater one.
    #[must_use]
    pub fn yields_to(&self, name: &str, is_dynamic: bool) -> bool {
        self.info.is_dynamic && !name.is_empty() && (!is_dynamic || name > self.name())
    }
}

/// Which subjects of the servers' interest pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectFilter {
    allow: Option<Vec<String>>,
    deny: Vec<String>,
}

impl From<&SubjectRules> for SubjectFilter {
    fn from(rules: &SubjectRules) -> Self {
        SubjectFilter {
            allow: rules.allow.clone(),
            deny: rules.deny.clone(),
        }
    }
}

impl SubjectFilter {
    /// Whether interest in a subject passes: all that it can match must be allowed, and not all of it denied.
    #[must_use]
    pub fn passes(&self, subject: &[u8]) -> bool {
        let within = |list: &[String]| {
            let mut list = list.iter();
            list.any(|it| subject::is_subset(subject, it.as_bytes()))
        };
        self.allow.as_deref().is_none_or(within) && !within(&self.deny)
    }

    /// Whether a message with this subject is held back.
    #[inline]
    #[must_use]
    pub fn denies(&self, subject: &[u8]) -> bool {
        let mut deny = self.deny.iter();
        deny.any(|it| subject::matches(it.as_bytes(), subject))
    }

    /// As INFO has it; nothing if everything passes.
    #[must_use]
    pub fn lists(&self) -> Option<SubjectLists> {
        (self != &SubjectFilter::default()).then(|| SubjectLists {
            allow: self.allow.clone().filter(|list| !list.is_empty()),
            deny: self.deny.clone(),
        })
    }
}

/// A server that another one has introduced itself as: what decides whether the connection is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What its INFO says.
    pub info: RouteInfo,
    /// Its address.
    pub addr: SocketAddr,
    /// The number of our attempt to dial it, if it was us who dialled.
    pub dial: Option<u64>,
    /// Which connection of the pool it is.
    pub pool_index: u32,
    /// The account that it is for, if it is for one alone.
    pub account: Option<String>,
    /// The name of its cluster.
    pub cluster: String,
    /// Whether that was made up.
    pub is_dynamic: bool,
}

/// What happens on a route that concerns more than the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteEvent {
    /// Its cluster has a name to which this server's yields. It may say no more than that before it comes again.
    Named {
        /// The name.
        cluster: String,
        /// Whether it was made up.
        is_dynamic: bool,
    },
    /// The other server has said who it is, and waits to be admitted.
    Introduced(Box<Hello>),
    /// It has answered the first PING since.
    Answered,
    /// It tells of another server.
    Heard(Box<RouteInfo>),
    /// It is about to end.
    LameDuck,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: Option<&[&str]>, deny: &[&str]) -> SubjectFilter {
        let owned = |list: &[&str]| list.iter().map(|&it| it.into()).collect();
        SubjectFilter {
            allow: allow.map(owned),
            deny: owned(deny),
        }
    }

    #[test]
    fn interest_passes_if_all_it_can_match_is_allowed() {
        let filter = filter(Some(&["imp.>"]), &["imp.no"]);
        for (subject, passes) in [
            ("imp.a", true),
            ("imp.*", true),
            ("imp.no", false),
            ("other", false),
            (">", false),
        ] {
            assert_eq!(filter.passes(subject.as_bytes()), passes, "{subject}");
        }
        assert!(filter.denies(b"imp.no") && !filter.denies(b"imp.a"));
        assert!(
            SubjectFilter::default().passes(b">") && SubjectFilter::default().lists().is_none()
        );
    }

    #[test]
    fn a_name_that_was_made_up_yields_to_one_that_was_not_and_to_a_greater_one() {
        let facts = |name: &str, is_dynamic| ClusterFacts {
            info: RouteInfo {
                cluster: Some(name.into()),
                is_dynamic,
                ..RouteInfo::default()
            },
            ..ClusterFacts::default()
        };
        assert!(facts("b", true).yields_to("a", false) && facts("a", true).yields_to("b", true));
        assert!(!facts("b", true).yields_to("a", true) && !facts("a", false).yields_to("b", false));
        assert!(!facts("a", true).yields_to("", false));
    }
}
