//! The `tls` block.

use std::path::PathBuf;

use super::super::duration;
use super::super::error::Whereabouts;
use super::super::options::{CertFiles, HandshakeFirst, TlsConfig, TlsVersion};
use super::super::report::{Report, set};
use super::super::table::Block;
use super::super::value::{Data, Entry, Map};
use super::unless_zero;
use crate::limits;

/// Whose TLS it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Clients,
    Cluster,
}

/// A `tls` block; nothing is opened.
pub(super) fn tls(report: &mut Report, entry: &Entry, place: Place) -> Option<TlsConfig> {
    let map = report.map(entry)?;
    let mut tls = TlsConfig {
        at: Whereabouts(Some(entry.at.clone())),
        ..TlsConfig::default()
    };
    let mut single = (None, None);
    let mut has_certs = false;
    report.each(Block::Tls, map, |report, name, entry| match name {
        "cert_file" => set(&mut single.0, report.path(entry)),
        "key_file" => set(&mut single.1, report.path(entry)),
        "certs" => {
            for (map, at) in report.maps(entry) {
                has_certs = true;
                let (cert_file, key_file) = cert_files(report, map);
                match (cert_file, key_file) {
                    (Some(cert_file), Some(key_file)) => tls.certs.push(CertFiles { cert_file, key_file }),
                    _ => report.error(at, "error parsing certificates config: both 'cert_file' and 'key_file' are needed"),
                }
            }
        }
        "ca_file" => set(&mut tls.ca_file, report.path(entry)),
        "verify" => set(&mut tls.verify, boolean(report, entry)),
        "verify_and_map" => {
            set(&mut tls.verify_and_map, boolean(report, entry));
            tls.verify |= tls.verify_and_map;
        }
        "verify_cert_and_check_known_urls" => {
            set(&mut tls.verify_cert_and_check_known_urls, boolean(report, entry));
            if place != Place::Cluster && tls.verify_cert_and_check_known_urls {
                report.error(&entry.at, "verify_cert_and_check_known_urls not supported in this context");
            }
        }
        "insecure" => set(&mut tls.insecure, boolean(report, entry)),
        "timeout" => set(&mut tls.timeout, unless_zero(report.seconds(entry))),
        "cipher_suites" => tls.cipher_suites = names(report, entry, "cipher", SUITES, FOREIGN_SUITES, WEAK_SUITES),
        "allow_insecure_cipher_suites" => set(&mut tls.allow_insecure_cipher_suites, boolean(report, entry)),
        "curve_preferences" => tls.curve_preferences = names(report, entry, "curve preference", CURVES, FOREIGN_CURVES, &[]),
        "min_version" => set(&mut tls.min_version, min_version(report, entry)),
        "pinned_certs" => tls.pinned_certs = pinned_certs(report, entry),
        "handshake_first" => set(&mut tls.handshake_first, handshake_first(report, entry)),
        "connection_rate_limit" => set(&mut tls.connection_rate_limit, report.limit(entry)),
        "watch" => set(&mut tls.watch, unless_zero(report.duration(entry)).map(Some)),
        _ => debug_assert!(false, "nothing takes the option {name}"),
    });
    match single {
        (Some(_), _) | (_, Some(_)) if has_certs => {
            let text =
                "error parsing tls config, cannot combine 'cert_file' option with 'certs' option";
            report.error(&entry.at, text);
        }
        (Some(cert_file), Some(key_file)) => tls.certs.push(CertFiles {
            cert_file,
            key_file,
        }),
        (Some(_), None) => report.error(&entry.at, "missing 'key_file' in TLS configuration"),
        (None, Some(_)) => report.error(&entry.at, "missing 'cert_file' in TLS configuration"),
        (None, None) => {}
    }
    let is_weak = |name: &&String| WEAK_SUITES.contains(&name.as_str());
    let weak = tls.cipher_suites.iter().filter(is_weak);
    let weak = weak.map(String::as_str).collect::<Vec<_>>().join(", ");
    if !weak.is_empty() && !tls.allow_insecure_cipher_suites {
        let reason =
            "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set";
        report.error(&entry.at, format!("{reason}: {weak}"));
    } else if !weak.is_empty() {
        let has = SUITES.join(", ");
        let text = format!("cipher suite {weak} is not supported by this server; it has {has}");
        report.error(&entry.at, text);
    }
    Some(tls)
}

fn cert_files(report: &mut Report, map: &Map) -> (Option<PathBuf>, Option<PathBuf>) {
    let mut files = (None, None);
    report.each(Block::Certs, map, |report, name, entry| match name {
        "cert_file" => set(&mut files.0, report.path(entry)),
        _ => set(&mut files.1, report.path(entry)),
    });
    files
}

fn boolean(report: &mut Report, entry: &Entry) -> Option<bool> {
    let Data::Bool(flag) = entry.value.data else {
        report.error(
            &entry.at,
            format!(
                "error parsing tls config, expected '{}' to be a boolean",
                entry.key
            ),
        );
        return None;
    };
    Some(flag)
}

/// Names that must be among those that are supported. Those of `foreign` are known elsewhere; those of `weak` are for
/// the caller to judge.
fn names(
    report: &mut Report,
    entry: &Entry,
    what: &str,
    supported: &[&str],
    foreign: &[&str],
    weak: &[&str],
) -> Vec<String> {
    let Some(texts) = report.texts(entry) else {
        return Vec::new();
    };
    if texts.is_empty() {
        report.error(
            &entry.at,
            format!("error parsing tls config, '{}' cannot be empty", entry.key),
        );
    }
    let has = supported.join(", ");
    let mut names = Vec::new();
    for (text, at) in texts {
        let is_it = |name: &&&str| text.eq_ignore_ascii_case(name);
        if let Some(name) = supported.iter().chain(weak).find(is_it) {
            names.push(name.to_string());
        } else if let Some(name) = foreign.iter().find(is_it) {
            let what = if what == "cipher" {
                "cipher suite"
            } else {
                what
            };
            let text = format!("{what} {name} is not supported by this server; it has {has}");
            report.error(at, text);
        } else {
            report.error(
                at,
                format!("unrecognized {what} {text}; this server has {has}"),
            );
        }
    }
    names
}

fn min_version(report: &mut Report, entry: &Entry) -> Option<TlsVersion> {
    let Data::String(text) = &entry.value.data else {
        let text =
            "error parsing tls config: 'min_version' must be a string, such as \"1.3\" in quotes";
        report.error(&entry.at, text);
        return None;
    };
    match &**text {
        "1.2" => Some(TlsVersion::V1_2),
        "1.3" => Some(TlsVersion::V1_3),
        _ => {
            report.error(
                &entry.at,
                format!("error parsing tls config: unsupported TLS version: TLS {text}"),
            );
            None
        }
    }
}

fn pinned_certs(report: &mut Report, entry: &Entry) -> Vec<String> {
    let mut pins = Vec::new();
    for (text, at) in report.texts(entry).unwrap_or_default() {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            pins.push(text.to_ascii_lowercase());
            continue;
        }
        report.error(
            at,
            format!(
                "error parsing tls config, 'pinned_certs' key {text} does not look like hex-encoded sha256 of \
                 DER encoded SubjectPublicKeyInfo"
            ),
        );
    }
    pins
}

fn handshake_first(report: &mut Report, entry: &Entry) -> Option<HandshakeFirst> {
    let text = match &entry.value.data {
        Data::Bool(true) => return Some(HandshakeFirst::Always),
        Data::Bool(false) => return Some(HandshakeFirst::Off),
        Data::String(text) => text,
        _ => return report.wrong_type(entry, "a boolean, auto or a duration"),
    };
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => return Some(HandshakeFirst::Always),
        "false" | "off" => return Some(HandshakeFirst::Off),
        "auto" => return Some(HandshakeFirst::Within(limits::HANDSHAKE_FIRST_FALLBACK)),
        _ => {}
    }
    match duration::parse(text) {
        Ok(value) if !value.is_negative => Some(HandshakeFirst::Within(value.length)),
        _ => {
            report.error(
                &entry.at,
                format!("field \"{}\"'s value \"{text}\" is invalid", entry.key),
            );
            None
        }
    }
}

/// Cipher suites that there are, by the names the reference server knows.
const SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Cipher suites that the reference server has beside them.
const FOREIGN_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// Cipher suites that are known to be weak.
const WEAK_SUITES: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Key exchange groups that there are.
const CURVES: &[&str] = &["X25519", "CurveP256", "CurveP384"];

/// Key exchange groups that the reference server has beside them.
const FOREIGN_CURVES: &[&str] = &[
    "X25519MLKEM768",
    "SecP384r1MLKEM1024",
    "SecP256r1MLKEM768",
    "CurveP521",
];
