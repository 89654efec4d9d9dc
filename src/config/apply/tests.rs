//! What options say, and what is wrong with them: here what holds for all of them, and block by block in further files.

use super::super::options::Permissions;
use super::super::options::{
    AccountLimits, ConnectionType, ExportKind, HandshakeFirst, ImportKind, ResponseRule,
    ResponseType,
};
use super::super::table::{OPTIONS, Status};
use super::super::{Nothing, parse_str};
use super::*;

mod accounts;
mod auth;
mod cluster;
mod tls;
mod values;

fn options(text: &str) -> Options {
    parse_str("c.conf", text, &Nothing)
        .unwrap_or_else(|errors| panic!("{text}: {errors}"))
        .options
}

fn errors(text: &str) -> Vec<String> {
    let refused = parse_str("c.conf", text, &Nothing)
        .map(|_| text)
        .expect_err("should be refused");
    refused.errors.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    parse_str("c.conf", text, &Nothing)
        .unwrap()
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A block that holds one option with that value.
fn inside(block: Block, name: &str, value: &str) -> String {
    let option = format!("\"{name}\": {value}");
    match block {
        Block::Top => option,
        Block::AddressLimits => format!("address_limits {{{option}}}"),
        Block::Tls => format!("tls {{{option}}}"),
        Block::Certs => format!("tls {{certs: [{{{option}}}]}}"),
        Block::Authorization => format!("authorization {{{option}}}"),
        Block::User => format!("authorization {{users: [{{{option}}}]}}"),
        Block::Permissions => format!("authorization {{permissions: {{{option}}}}}"),
        Block::Subjects => format!("authorization {{permissions: {{publish: {{{option}}}}}}}"),
        Block::Responses => {
            format!("authorization {{permissions: {{allow_responses: {{{option}}}}}}}")
        }
        Block::Cluster => format!("cluster {{{option}}}"),
        Block::Compression => format!("cluster {{compression: {{{option}}}}}"),
        Block::Account => format!("accounts {{A: {{{option}}}}}"),
        Block::Limits => format!("accounts {{A: {{limits: {{{option}}}}}}}"),
        Block::Export => format!("accounts {{A: {{exports: [{{{option}}}]}}}}"),
        Block::Latency => {
            format!("accounts {{A: {{exports: [{{service: x, latency: {{{option}}}}}]}}}}")
        }
        Block::Import => format!("accounts {{A: {{imports: [{{{option}}}]}}}}"),
        Block::ImportFrom => format!("accounts {{A: {{imports: [{{stream: {{{option}}}}}]}}}}"),
        Block::Destination => format!("mappings {{a: [{{{option}}}]}}"),
    }
}

#[test]
fn each_option_is_taken_and_minds_its_type() {
    for known in OPTIONS {
        for name in [known.name].iter().chain(known.aliases) {
            // No option is a date within an array.
            let text = inside(known.block, name, "[2016-05-04T18:53:41Z]");
            match known.status {
                Status::Ignored => {
                    let is_unknown = parse_str("c.conf", &text, &Nothing)
                        .is_err_and(|it| it.to_string().contains("nown field"));
                    assert!(!is_unknown, "{text}");
                }
                Status::NotSupported => {
                    let expected = format!("option \"{name}\" is not supported by midge");
                    assert!(
                        errors(&text).iter().any(|it| it.contains(&expected)),
                        "{text}"
                    );
                }
                Status::Supported => {
                    let errors = errors(&text);
                    assert!(
                        !errors
                            .iter()
                            .any(|it| it.contains("nown field") || it.contains("not supported by")),
                        "{errors:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn unknown_options_are_refused_in_every_block() {
    for known in OPTIONS {
        let text = inside(known.block, "no_such_option", "1");
        assert!(
            errors(&text).iter().any(|it| it.contains("nknown field")),
            "{text}"
        );
    }
}

#[test]
fn what_a_file_holds_moves_no_cursor() {
    let unknown = |key: &str| [format!("c.conf:1:0: unknown field \"{key}\"")];
    assert_eq!(errors("\u{feff}port: 1"), unknown("\\ufeffport"));
    assert_eq!(errors("fo\x1b[31mo: 1"), unknown("fo\\x1b[31mo"));
    let quoted = ["c.conf:1:1: unknown field \"a\\nb\"\u{e9}\""];
    assert_eq!(errors("'a\nb\"\u{e9}': 1"), quoted);
    let place = parse_str("a\nb", "a: 1", &Nothing).unwrap_err();
    assert_eq!(place.to_string(), "a\\nb:1:0: unknown field \"a\"");
}

#[test]
fn what_is_switched_off_needs_no_support() {
    options(
        "jetstream {store_dir: x, ENABLED: false}, leafnodes {}, websocket {}, gateway {}, mqtt {}, operator: [], \
         trusted_keys: [], resolver_preload {}, resolver_tls {}, proxies {}, feature_flags {}",
    );
    for on in [
        "jetstream {}",
        "jetstream {enabled: true}",
        "leafnodes {port: 7422}",
        "ocsp {}",
        "ocsp_cache {}",
        "resolver {}",
        "authorization {auth_callout {}}",
        "accounts {A {jetstream {}}}",
    ] {
        let errors = errors(on);
        assert!(
            errors.iter().all(|it| it.contains("is not supported")),
            "{on}: {errors:?}"
        );
    }
    options(
        "jetstream: disabled, ocsp: false, prof_port: 0, proxy_protocol: no, allow_non_tls: yes, tls {ocsp_peer: false}",
    );
    assert_eq!(
        errors("a: 1\njetstream {store_dir: x}\n  mqtt {port: 1}"),
        [
            "c.conf:1:0: unknown field \"a\"",
            "c.conf:2:1: option \"jetstream\" is not supported by midge (persistence)",
            "c.conf:3:3: option \"mqtt\" is not supported by midge (clients that speak MQTT)",
        ]
    );
}

#[test]
fn a_variable_need_not_be_an_option_but_in_tls() {
    options("A: 1\nport: $A");
    options("authorization {P: x, users: [{user: a, password: $P}]}");
    assert_eq!(errors("A: 1\nport: 2"), ["c.conf:1:0: unknown field \"A\""]);
    assert_eq!(
        errors("tls {A: 1, timeout: $A}"),
        ["c.conf:1:5: error parsing tls config, unknown field \"A\""]
    );
}

#[test]
fn of_two_spellings_of_an_option_the_last_counts() {
    let names = |text: &str| {
        let Options {
            users, accounts, ..
        } = options(text);
        let own = accounts.into_iter().flat_map(|account| account.users);
        let all = users.into_iter().chain(own);
        all.map(|user| user.password.reveal().to_owned())
            .collect::<Vec<_>>()
    };
    let users = "USERS = [{user: a, password: b}]\nusers: $USERS";
    assert_eq!(names(&format!("authorization {{{users}}}")), ["b"]);
    assert_eq!(names(&format!("accounts {{A {{{users}}}}}")), ["b"]);
    let other = "authorization {users: [{user: a, password: b}], Users: [{user: a, password: c}]}";
    assert_eq!(names(other), ["c"]);
    assert_eq!(options("PORT: 5, port: 6").port, 6);
    assert_eq!(
        options("max_conn: 5, max_connections: 6, A: 1, ping_max: $A").max_connections,
        Some(6)
    );
}

#[test]
fn options_are_checked_together() {
    let cases = [
        (
            "max_payload: 2, max_pending: 1",
            "1:0: max_payload (2) cannot be higher than max_pending (1)",
        ),
        (
            "max_pending: 1000",
            "1:0: max_payload (1048576) cannot be higher than max_pending (1000)",
        ),
        (
            "lame_duck_grace_period: \"3m\"",
            "1:0: lame duck grace period (3m0s) should be strictly lower than lame duck duration (2m0s)",
        ),
        (
            "no_auth_user: a",
            "1:0: no_auth_user: \"a\" present, but users/nkeys are not defined",
        ),
        (
            "no_auth_user: a, authorization {users: [{user: b}]}",
            "1:0: no_auth_user: \"a\" not present as user or nkey in authorization block or account configuration",
        ),
        (
            "http: 1, https: 2, tls {cert_file: a, key_file: b}",
            "1:9: can't specify both HTTP (1) and HTTPs (2) ports",
        ),
        (
            "http_port: -1, https_port: -1, tls {cert_file: a, key_file: b}",
            "1:15: can't specify both HTTP (-1) and HTTPs (-1) ports",
        ),
        ("https: 1", "1:0: TLS cert and key required for HTTPS"),
        ("https_port: 1", "1:0: TLS cert and key required for HTTPS"),
        (
            "tls {}",
            "1:0: a tls block without a certificate lets no client in: it needs cert_file and key_file, or \
             allow_non_tls where a proxy does TLS",
        ),
        (
            "client_advertise: \"a:b:c\"",
            "1:0: invalid client_advertise value of a:b:c, it must be host or host:port",
        ),
        (
            "remote_syslog: foo",
            "1:0: remote_syslog foo must start with udp://, tcp:// or unix://",
        ),
        (
            "remote_syslog: \"udp://127.0.0.1:99999\"",
            "1:0: remote_syslog udp://127.0.0.1:99999 needs a host and a port up to 65535",
        ),
        (
            "remote_syslog: \"unix://\"",
            "1:0: remote_syslog unix:// must have a path of 1 to 107 bytes, but it has 0",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [format!("c.conf:{expected}")], "{text}");
    }
    let path = "x".repeat(108);
    let expected = format!("c.conf:1:0: http_socket {path} has 108 bytes, the limit is 107");
    assert_eq!(errors(&format!("http_socket: {path}")), [expected]);
    options(&format!("http_socket: {}", &path[1..]));
    // Whatever else is wrong, unless it could be the reason.
    assert_eq!(
        errors("foo: 1\nmax_payload: 99999999, lame_duck_grace_period: \"5m\""),
        [
            "c.conf:1:0: unknown field \"foo\"",
            "c.conf:2:1: max_payload (99999999) cannot be higher than max_pending (67108864)",
            "c.conf:2:24: lame duck grace period (5m0s) should be strictly lower than lame duck duration (2m0s)",
        ]
    );
    assert_eq!(errors("max_payload: 99999999, max_pending: -1").len(), 1);
    assert_eq!(errors("no_auth_user: a, accounts {A: {users: 1}}").len(), 1);
    assert_eq!(errors("max_pending: 1000, log_file: \"").len(), 1);
    let mut unread: String = (0..60).map(|n| format!("x{n}: 1\n")).collect();
    unread += "no_auth_user: a, authorization {users: [{user: a}]}";
    let last = errors(&unread).pop();
    assert_eq!(
        last.as_deref(),
        Some("too many errors, the rest are not shown")
    );
    options("no_auth_user: a, accounts {A: {users: [{user: a}]}}");
    options("client_advertise: \"[::1]:5\"");
}
