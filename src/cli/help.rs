//! The help texts.

use std::fmt::Write as _;

use super::table::{Flag, GROUPS, Value};

/// Where the explanations begin.
const HELP_COLUMN: usize = 41;

/// The usage text, made from the table of flags.
pub(super) fn usage() -> String {
    let mut text = String::from("\nUsage: midge [options]\n");
    for group in GROUPS {
        let mut listed = group
            .flags
            .iter()
            .filter(|flag| !flag.help.is_empty())
            .peekable();
        if listed.peek().is_some() {
            let _ = writeln!(text, "\n{} Options:", group.title);
        }
        listed.for_each(|flag| push_flag(&mut text, flag));
    }
    text
}

fn push_flag(text: &mut String, flag: &Flag) {
    let spellings: Vec<String> = flag.names.iter().map(|name| dashed(name)).collect();
    let margin = if spellings
        .first()
        .is_some_and(|first| first.starts_with("--"))
    {
        "        "
    } else {
        "    "
    };
    let start = format!("{margin}{}{}", spellings.join(", "), argument(&flag.value));
    for (at, line) in flag.help.lines().enumerate() {
        let left = if at == 0 { start.as_str() } else { "" };
        if left.len() >= HELP_COLUMN {
            let _ = writeln!(text, "{left}");
            let _ = writeln!(text, "{:HELP_COLUMN$}{line}", "");
        } else {
            let _ = writeln!(text, "{left:HELP_COLUMN$}{line}");
        }
    }
}

/// One dash for letters, two for words.
fn dashed(name: &str) -> String {
    if name.len() < 3 || name == "DVV" {
        format!("-{name}")
    } else {
        format!("--{name}")
    }
}

fn argument(value: &Value) -> String {
    match value {
        Value::Checked(word, _) | Value::Integer(word, ..) | Value::Text(word, _) => {
            format!(" <{word}>")
        }
        Value::Optional(word, _) => format!(" [<{word}>]"),
        Value::Switch(_) | Value::Unsupported { .. } => String::new(),
    }
}

/// The text on TLS.
pub(super) const TLS: &str = r#"
TLS is configured by a tls block in the configuration file:

    tls {
        cert_file: "server-cert.pem"
        key_file:  "server-key.pem"
        # Only for verify: the authorities that sign client certificates.
        ca_file:   "ca.pem"
        verify:    true
        # Both lists are optional; the default is everything below.
        cipher_suites:     ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
        curve_preferences: ["X25519", "CurveP256"]
    }

Cipher suites:
    TLS_AES_128_GCM_SHA256
    TLS_AES_256_GCM_SHA384
    TLS_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256

Curves:
    X25519
    CurveP256
    CurveP384
"#;
