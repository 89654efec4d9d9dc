//! The names of versions, cipher suites and groups, as configurations, logs and monitoring have them.
//!
//! They are the reference server's. Of those that it knows, ring has the ones below; a configuration that names another
//! does not get this far.

use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

/// Every cipher suite there is, in the order of preference where AES is fast.
const SUITES: [(&str, SupportedCipherSuite); 9] = [
    (
        "TLS_AES_128_GCM_SHA256",
        cipher_suite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Every key exchange group there is, in the order of preference.
const GROUPS: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", kx_group::X25519),
    ("CurveP256", kx_group::SECP256R1),
    ("CurveP384", kx_group::SECP384R1),
];

/// A version's number.
pub(super) fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "1.3",
        _ => "1.2",
    }
}

/// A cipher suite's name.
pub(super) fn name_of(suite: CipherSuite) -> &'static str {
    let known = SUITES.iter().find(|(_, known)| known.suite() == suite);
    known.map_or("unknown", |(name, _)| name)
}

/// The cryptography for these cipher suites and groups, each list in order of preference and empty for all.
///
/// The suites of TLS 1.3 are always allowed: naming some only puts them first.
pub(super) fn provider(suites: &[String], groups: &[String]) -> CryptoProvider {
    let named = |name: &String| SUITES.iter().find(|(known, _)| known == name);
    let mut chosen: Vec<SupportedCipherSuite> = suites
        .iter()
        .filter_map(named)
        .map(|&(_, suite)| suite)
        .collect();
    let mut others: Vec<SupportedCipherSuite> = SUITES.iter().map(|&(_, suite)| suite).collect();
    if !has_aes() {
        others.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("CHACHA20"));
    }
    others
        .retain(|suite| !chosen.contains(suite) && (suites.is_empty() || suite.tls13().is_some()));
    chosen.append(&mut others);
    let group = |name: &String| GROUPS.iter().find(|(known, _)| known == name);
    let mut kx_groups: Vec<&dyn SupportedKxGroup> = groups
        .iter()
        .filter_map(group)
        .map(|&(_, group)| group)
        .collect();
    if groups.is_empty() {
        kx_groups = GROUPS.iter().map(|&(_, group)| group).collect();
    }
    CryptoProvider {
        cipher_suites: chosen,
        kx_groups,
        ..default_provider()
    }
}

/// Whether the processor computes AES. Where it does not, ChaCha20 is several times as fast.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has_aes = std::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    has_aes
}
