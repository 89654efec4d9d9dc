//! Why a handshake did not come about, in the words that operators and their tools look for.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Says why, and whether that is nothing to worry about: whoever speaks another protocol does no harm.
pub(in crate::net) fn describe_failure(error: &io::Error) -> (String, bool) {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ("EOF".into(), false);
    }
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let Some(inner) = inner else {
        return (error.to_string(), false);
    };
    let why = match inner {
        Error::InvalidMessage(_) => {
            return (
                "tls: first record does not look like a TLS handshake".into(),
                true,
            );
        }
        Error::AlertReceived(alert) => {
            return (format!("remote error: tls: {}", alert_text(*alert)), false);
        }
        Error::NoCertificatesPresented => "client didn't provide a certificate".into(),
        Error::InvalidCertificate(error) => {
            format!(
                "failed to verify certificate: x509: {}",
                certificate_text(error)
            )
        }
        Error::PeerIncompatible(error) => match error {
            PeerIncompatible::NoCipherSuitesInCommon => {
                "no cipher suite supported by both client and server".into()
            }
            PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NamedGroupsExtensionRequired => {
                "no key exchanges supported by both client and server".into()
            }
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic => {
                "client offered only unsupported versions".into()
            }
            other => format!("{other:?}"),
        },
        Error::General(text) if text.contains("no server certificate chain resolved") => {
            "no certificates configured".into()
        }
        Error::General(text) => text.clone(),
        other => other.to_string(),
    };
    (format!("tls: {why}"), false)
}

fn certificate_text(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".into(),
        CertificateError::Expired
        | CertificateError::NotValidYet
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYetContext { .. } => {
            format!("certificate has expired or is not yet valid: {error}")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".into()
        }
        other => other.to_string(),
    }
}

/// An alert as the reference server words it; others by their name.
fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".into(),
        AlertDescription::UnsupportedCertificate => "unsupported certificate".into(),
        AlertDescription::CertificateRevoked => "revoked certificate".into(),
        AlertDescription::CertificateExpired => "expired certificate".into(),
        AlertDescription::CertificateUnknown => "unknown certificate".into(),
        AlertDescription::UnknownCA => "unknown certificate authority".into(),
        AlertDescription::HandshakeFailure => "handshake failure".into(),
        AlertDescription::ProtocolVersion => "protocol version not supported".into(),
        AlertDescription::DecryptError => "error decrypting message".into(),
        other => format!("{other:?}"),
    }
}
