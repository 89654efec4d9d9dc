//! `verify_and_map`: which user a certificate names.
//!
//! These are compared with the names of users, in this order, and the first hit decides: each e-mail address, host name
//! and URI among the alternative names; the subject, part by part; the subject as text, with domain components and
//! without.

use std::fmt;

use crate::certificate::{Certificate, Dn};
use crate::config::options::{Cluster, TlsConfig};
use crate::order;

/// What in a certificate named a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Email,
    DnsName,
    Uri,
    DistinguishedName,
    WithComponents,
    Subject,
}

/// The outcome, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The user, if there is one.
    pub user: Option<String>,
    line: String,
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// Users whose names are those of subjects.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    names: Vec<(Dn, String)>,
}

impl Mapping {
    /// A mapping to these users, in the order in which they are tried.
    pub(super) fn new<'a>(users: impl Iterator<Item = &'a str>) -> Self {
        let mut users: Vec<&str> = users.collect();
        order::sort(&mut users);
        let names = users.into_iter();
        let names = names.filter_map(|user| Some((Dn::parse(user)?, user.to_owned())));
        Mapping {
            names: names.collect(),
        }
    }

    /// Finds the user that a certificate names, among those for whom `is_user` is true.
    pub(super) fn find(
        &self,
        certificate: Option<&Certificate>,
        is_user: impl Fn(&str) -> bool,
    ) -> Mapped {
        let Some(certificate) = certificate else {
            return nobody("User required in cert, no TLS connection state".into());
        };
        let subject = certificate.subject();
        let components = certificate.domain_components();
        let with_components = format!("{subject},{components}");
        let alternatives = [
            (How::Email, &certificate.emails),
            (How::DnsName, &certificate.dns_names),
            (How::Uri, &certificate.uris),
        ];
        let alternatives = alternatives.iter();
        let alternatives =
            alternatives.flat_map(|(how, names)| names.iter().map(|name| (*how, name.as_str())));
        let by_parts = self.by_parts(certificate, &is_user);
        let subjects = [
            by_parts.map(|user| (How::DistinguishedName, user)),
            (!components.is_empty()).then_some((How::WithComponents, with_components.as_str())),
            (!subject.is_empty()).then_some((How::Subject, subject.as_str())),
        ];
        let mut candidates = alternatives
            .chain(subjects.into_iter().flatten())
            .peekable();
        if candidates.peek().is_none() {
            return nobody("User required in cert, none found".into());
        }
        match candidates.find(|(_, name)| is_user(name)) {
            Some((how, user)) => Mapped {
                user: Some(user.to_owned()),
                line: format!("Using {} for auth [{user:?}]", how.text()),
            },
            None => nobody(format!("User in cert [{subject:?}], not found")),
        }
    }

    fn by_parts(&self, certificate: &Certificate, is_user: &impl Fn(&str) -> bool) -> Option<&str> {
        let subject = certificate.distinguished_name()?;
        let users = || self.names.iter().filter(|(_, user)| is_user(user));
        let in_order = users().find(|(name, _)| name.is_same(&subject));
        let found = in_order.or_else(|| users().find(|(name, _)| name.is_permutation(&subject)));
        found.map(|(_, user)| user.as_str())
    }
}

/// Whether a certificate is that of another server of the cluster: it has the name of a host in `routes`, or the cluster's
/// user is one of its names, as the `tls` block wants it.
pub(super) fn is_peer(certificate: &Certificate, cluster: &Cluster, tls: &TlsConfig) -> bool {
    let mut hosts = cluster.routes.iter().map(|route| route.host.as_str());
    if tls.verify_cert_and_check_known_urls && hosts.any(|host| certificate.is_for_host(host)) {
        return true;
    }
    let Some(user) = cluster.user.as_deref().filter(|_| tls.verify_and_map) else {
        return false;
    };
    // A distinguished name is a text here: it is compared as a whole.
    let mapping = Mapping::default();
    mapping
        .find(Some(certificate), |name| name == user)
        .user
        .is_some()
}

impl How {
    fn text(self) -> &'static str {
        match self {
            How::Email => "email found in cert",
            How::DnsName => "SAN found in cert",
            How::Uri => "URI found in cert",
            How::DistinguishedName => "DistinguishedNameMatch",
            How::WithComponents => "RDNSequence",
            How::Subject => "certificate subject",
        }
    }
}

fn nobody(line: String) -> Mapped {
    Mapped { user: None, line }
}
