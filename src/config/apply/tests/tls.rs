//! The `tls` block.

use super::*;

#[test]
fn tls_blocks_are_checked_without_opening_a_file() {
    let tls = |text: &str| {
        let text = format!("allow_non_tls: true, tls {{{text}}}");
        options(&text).tls.unwrap()
    };
    assert_eq!(tls("first: yes").handshake_first, HandshakeFirst::Always);
    assert_eq!(
        tls("certs: [{cert_file: a, key_file: b}, {cert_file: c, key_file: d}]")
            .certs
            .len(),
        2
    );
    assert_eq!(tls("cert_file: a, key_file: b, certs: []").certs.len(), 1);
    assert_eq!(tls("watch: 1h").watch, Some(Duration::from_secs(3600)));
    assert!(tls("verify_and_map: true").verify);
    assert_eq!(tls("timeout: 0").timeout, Duration::from_secs(2));
    assert_eq!(tls("timeout: 0.5").timeout, Duration::from_millis(500));
    let pin = "AB".repeat(32);
    assert_eq!(
        tls(&format!("pinned_certs: [\"{pin}\"]")).pinned_certs,
        [pin.to_lowercase()]
    );
    let cases = [
        (
            "cert_file: x",
            "1:0: missing 'key_file' in TLS configuration",
        ),
        (
            "key_file: x",
            "1:0: missing 'cert_file' in TLS configuration",
        ),
        (
            "verify: 1",
            "1:5: error parsing tls config, expected 'verify' to be a boolean",
        ),
        (
            "cipher_suites: []",
            "1:5: error parsing tls config, 'cipher_suites' cannot be empty",
        ),
        (
            "cipher_suites: [x]",
            "1:21: unrecognized cipher x; this server has TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, \
             TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
             TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, \
             TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
             TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        (
            "curve_preferences: [x]",
            "1:25: unrecognized curve preference x; this server has X25519, CurveP256, CurveP384",
        ),
        (
            "min_version: \"1.1\"",
            "1:5: error parsing tls config: unsupported TLS version: TLS 1.1",
        ),
        (
            "handshake_first: \"50\"",
            "1:5: field \"handshake_first\"'s value \"50\" is invalid",
        ),
        (
            "cert_file: a, key_file: b, certs: [{cert_file: c, key_file: d}]",
            "1:0: error parsing tls config, cannot combine 'cert_file' option with 'certs' option",
        ),
        (
            "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            "1:0: insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: TLS_RSA_WITH_RC4_128_SHA",
        ),
        (
            "verify_cert_and_check_known_urls: yes",
            "1:5: verify_cert_and_check_known_urls not supported in this context",
        ),
        (
            "pinned_certs: [ab]",
            "1:20: error parsing tls config, 'pinned_certs' key ab does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            errors(&format!("tls {{{text}}}")),
            [format!("c.conf:{expected}")],
            "{text}"
        );
    }
}
