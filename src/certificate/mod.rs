//! What a certificate says of its owner: names, the key's fingerprint, how long it is valid.
//!
//! This reads, and judges nothing: whether a certificate is to be believed has been decided before. All the same it may
//! be anything, so nothing here trusts a length, and what is not understood counts as absent.

mod der;
mod dn;

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use der::Der;
pub use dn::Dn;
use dn::Rdn;

/// The names in a certificate. Lists are in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// E-mail addresses among the alternative names.
    pub emails: Vec<String>,
    /// Host names among them.
    pub dns_names: Vec<String>,
    /// URIs among them.
    pub uris: Vec<String>,
    /// The subject, its relative names in the certificate's order.
    subject: Vec<Rdn>,
    /// SHA-256 of the public key, as DER has it, in lower-case hexadecimal digits.
    pub key_id: String,
    /// The last moment it is valid, in seconds since 1970.
    pub not_after: Option<i64>,
}

/// Alternative names: 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl Certificate {
    /// Reads a certificate in DER; `None` if it is none.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut signed = Der(der).enter(der::SEQUENCE)?.enter(der::SEQUENCE)?;
        signed.skip(der::VERSION);
        // The number, the algorithm, the issuer.
        signed.take(der::INTEGER)?;
        signed.take(der::SEQUENCE)?;
        signed.take(der::SEQUENCE)?;
        let mut validity = signed.enter_next(der::SEQUENCE)?;
        validity.next()?;
        let not_after = validity.next().and_then(|it| der::seconds(&it));
        let mut certificate = Certificate {
            subject: dn::from_der(signed.enter_next(der::SEQUENCE)?),
            not_after,
            ..Certificate::default()
        };
        let key = signed.take(der::SEQUENCE)?;
        certificate.key_id = hex(digest(&SHA256, key.whole).as_ref());
        while let Some(element) = signed.next() {
            if element.tag == der::EXTENSIONS {
                certificate.take_extensions(Der(element.contents));
            }
        }
        Some(certificate)
    }

    fn take_extensions(&mut self, mut wrapped: Der<'_>) {
        let Some(mut extensions) = wrapped.enter_next(der::SEQUENCE) else {
            return;
        };
        while let Some(mut extension) = extensions.enter_next(der::SEQUENCE) {
            let Some(kind) = extension.take(der::OBJECT) else {
                return;
            };
            extension.skip(der::BOOLEAN);
            let Some(value) = extension.take(der::OCTETS) else {
                return;
            };
            if kind.contents == SUBJECT_ALT_NAME {
                self.take_names(Der(value.contents));
            }
        }
    }

    fn take_names(&mut self, mut wrapped: Der<'_>) {
        let Some(mut names) = wrapped.enter_next(der::SEQUENCE) else {
            return;
        };
        while let Some(name) = names.next() {
            let list = match name.tag {
                der::EMAIL => &mut self.emails,
                der::DNS_NAME => &mut self.dns_names,
                der::URI => &mut self.uris,
                _ => continue,
            };
            if let Ok(text) = std::str::from_utf8(name.contents) {
                list.push(text.to_owned());
            }
        }
    }

    /// The subject as RFC 2253 writes it, in the one order in which the reference server puts it; empty if there is none.
    #[must_use]
    pub fn subject(&self) -> String {
        dn::canonical(&self.subject)
    }

    /// The domain components of the subject, in the certificate's order, as `DC=example,DC=com`; empty if there are none.
    #[must_use]
    pub fn domain_components(&self) -> String {
        dn::domain_components(&self.subject)
    }

    /// The subject to compare with configured names; `None` if it has parts that those cannot have.
    #[must_use]
    pub fn distinguished_name(&self) -> Option<Dn> {
        Dn::from_certificate(&self.subject)
    }

    /// Whether one of the host names in it is that of `host`. A `*` stands for one whole label, the first. An address is
    /// no name.
    #[must_use]
    pub fn is_for_host(&self, host: &str) -> bool {
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        !is_address && self.dns_names.iter().any(|name| matches_host(name, host))
    }
}

/// The SHA-256 of `bytes`, as monitoring and logs have it.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn matches_host(name: &str, host: &str) -> bool {
    if let Some(rest) = name.strip_prefix("*.") {
        let parent = host
            .split_once('.')
            .map(|(first, rest)| (first.is_empty(), rest));
        return parent
            .is_some_and(|(is_empty, parent)| !is_empty && parent.eq_ignore_ascii_case(rest));
    }
    !name.is_empty() && name.eq_ignore_ascii_case(host)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
