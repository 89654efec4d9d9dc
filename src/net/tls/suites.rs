//! The names of versions, cipher suites and groups, as configurations, logs and monitoring have them.
//!
//! They are the reference server's. Of those that it knows, ring has the ones below; a configuration that names another
//! does not get this far.

use crate::order;
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

/// The cryptography for these cipher suites and groups, each list in order of preference and empty for all. Of groups,
/// a server takes the one that its client likes best.
///
/// The suites of TLS 1.3 are always allowed: naming some only puts them first.
pub(super) fn provider(suites: &[String], groups: &[String]) -> CryptoProvider {
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
        cipher_suites: ordered(suites, has_aes()),
        kx_groups,
        ..default_provider()
    }
}

fn ordered(suites: &[String], has_aes: bool) -> Vec<SupportedCipherSuite> {
    let named = |name: &String| SUITES.iter().find(|(known, _)| known == name);
    let mut chosen: Vec<SupportedCipherSuite> = suites
        .iter()
        .filter_map(named)
        .map(|&(_, suite)| suite)
        .collect();
    let mut others: Vec<_> = SUITES.iter().collect();
    if !has_aes {
        order::sort_by_key(&mut others, |(name, _)| !name.contains("CHACHA20"));
    }
    let others = others.into_iter().map(|&(_, suite)| suite);
    let is_missing = |suite: &SupportedCipherSuite| !chosen.contains(suite);
    let others = others.filter(is_missing).collect::<Vec<_>>().into_iter();
    let is_wanted = |suite: &SupportedCipherSuite| suites.is_empty() || suite.tls13().is_some();
    chosen.extend(others.filter(is_wanted));
    chosen
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn names(suites: &[&str], has_aes: bool) -> Vec<&'static str> {
        let suites: Vec<String> = suites.iter().map(ToString::to_string).collect();
        let ordered = ordered(&suites, has_aes);
        ordered.iter().map(|suite| name_of(suite.suite())).collect()
    }

    #[test]
    fn chacha20_comes_first_where_aes_is_slow() {
        assert_eq!(names(&[], true).len(), SUITES.len());
        assert_eq!(names(&[], true)[0], "TLS_AES_128_GCM_SHA256");
        let slow = names(&[], false);
        assert_eq!(slow[0], "TLS_CHACHA20_POLY1305_SHA256");
        assert!(slow[..3].iter().all(|name| name.contains("CHACHA20")));
        assert_eq!(slow.len(), SUITES.len());
    }

    #[test]
    fn a_list_is_an_order_and_leaves_out_what_it_does_not_name_but_for_tls_1_3() {
        let listed = [
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_AES_256_GCM_SHA384",
        ];
        let expected = [
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_AES_256_GCM_SHA384",
            "TLS_AES_128_GCM_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ];
        assert_eq!(names(&listed, true), expected);
    }

    #[test]
    fn a_configuration_can_name_all_there_is() {
        let all = |names: &[&str]| names.join(", ");
        let suites = all(&SUITES.map(|(name, _)| name));
        let groups = all(&GROUPS.map(|(name, _)| name));
        let files = "cert_file: a, key_file: b";
        let names = format!("cipher_suites: [{suites}], curve_preferences: [{groups}]");
        let text = format!("tls {{{files}, {names}}}");
        let loaded = config::parse_with("c.conf", text.as_bytes(), &config::Nothing, |_| {});
        let tls = loaded.unwrap().options.tls.unwrap();
        let provider = provider(&tls.cipher_suites, &tls.curve_preferences);
        assert_eq!(provider.cipher_suites.len(), SUITES.len());
        assert_eq!(provider.kx_groups.len(), GROUPS.len());
    }
}
