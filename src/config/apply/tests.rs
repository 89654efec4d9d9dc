//! What options say, and what is wrong with them, option by option.

use super::super::options::Permissions;
use super::super::options::{
    AccountLimits, ConnectionType, ExportKind, HandshakeFirst, ImportKind, ResponseRule,
    ResponseType,
};
use super::super::table::{OPTIONS, Status};
use super::super::{Nothing, parse_str};
use super::*;

mod accounts;

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
fn addresses_are_host_and_port() {
    let place = |text: &str| (options(text).host, options(text).port);
    assert_eq!(place("listen: 1"), ("0.0.0.0".into(), 1));
    assert_eq!(place("listen: \"[::1]:5\""), ("::1".into(), 5));
    assert_eq!(place("listen: \":5\""), ("0.0.0.0".into(), 5));
    assert_eq!(place("port: -1"), ("0.0.0.0".into(), 0));
    assert_eq!(place("port: 0, net: a"), ("a".into(), 4222));
    assert_eq!(place("listen: a:1, port: 2"), ("a".into(), 2));
    assert_eq!(options("http: \":8222\"").http_host, None);
    assert_eq!(options("monitor_port: -1").http_port, Some(0));
    assert_eq!(options("cluster {listen: -1}").cluster.port, Some(0));
    assert_eq!(
        errors("listen: abc"),
        ["c.conf:1:0: could not parse address string \"abc\""]
    );
    assert_eq!(
        errors("listen: a:b"),
        ["c.conf:1:0: could not parse port \"b\": it must be from -1 to 65535"]
    );
    assert_eq!(
        errors("listen: true"),
        ["c.conf:1:0: expected port or host:port, but \"listen\" is a boolean"]
    );
    assert_eq!(
        errors("port: 70000"),
        ["c.conf:1:0: port 70000 is not a port: it must be from -1 to 65535"]
    );
}

#[test]
fn limits_have_their_own_zeros_and_negatives() {
    assert_eq!(options("max_connections: 0").max_connections, Some(0));
    assert_eq!(options("max_conn: -1").max_connections, Some(0));
    assert_eq!(options("max_subs: 0").max_subscriptions, None);
    assert_eq!(options("max_payload: 0").max_payload, limits::MAX_PAYLOAD);
    assert_eq!(
        options("max_payload: -1, max_pending: 5mb").max_payload,
        5 << 20
    );
    assert_eq!(options("max_pending: 0").max_pending, limits::MAX_PENDING);
    assert_eq!(
        options("ping_interval: \"0s\"").ping_interval,
        limits::PING_INTERVAL
    );
    assert_eq!(options("memory_limit: 32mb").memory_limit, Some(32 << 20));
    let limits = options("address_limits {max_connections: 9, rate: 2, burst: 0}").address_limits;
    assert_eq!(
        (limits.max_connections, limits.rate, limits.burst),
        (Some(9), Some(2), None)
    );
    assert!(!options("address_limits {rate: 0}").address_limits.is_on());
    assert_eq!(
        errors("max_sub_tokens: 0"),
        ["c.conf:1:0: max_sub_tokens value can not be negative"]
    );
    assert_eq!(
        errors("max_sub_tokens: 256"),
        ["c.conf:1:0: max_sub_tokens value is too big, the limit is 255"]
    );
    assert_eq!(
        errors("max_control_line: 2147483648"),
        ["c.conf:1:0: max_control_line value is too big, the limit is 2147483647"]
    );
    assert_eq!(
        errors("max_pending: -5"),
        ["c.conf:1:0: max_pending value can not be negative"]
    );
    assert_eq!(
        errors("max_payload: \"1MB\""),
        ["c.conf:1:0: option \"max_payload\" must be an integer, but is a string"]
    );
    assert_eq!(
        errors("workers: 65"),
        ["c.conf:1:0: workers 65 is too many, the limit is 64"]
    );
    assert_eq!(options("busy_poll: 0s").busy_poll, Duration::ZERO);
    assert_eq!(
        errors("busy_poll: \"2ms\""),
        ["c.conf:1:0: busy_poll of 2ms is too long, the limit is 1ms"]
    );
}

#[test]
fn a_zero_that_would_serve_nobody_stands_for_the_default() {
    let zeros = "ping_interval: \"0s\", ping_max: 0, write_deadline: \"0s\", max_closed_clients: 0, \
                 lame_duck_grace_period: \"0s\", connect_error_reports: 0, reconnect_error_reports: 0, \
                 authorization {timeout: 0}, \
                 cluster {ping_interval: \"0s\", ping_max: 0, write_deadline: \"0s\", authorization {timeout: \"0s\"}}";
    assert_eq!(options(zeros), Options::default());
    let timeouts = |text: &str| {
        let Options {
            auth_timeout,
            cluster,
            ..
        } = options(text);
        (auth_timeout.as_secs(), cluster.auth_timeout().as_secs())
    };
    let files = "cert_file: a, key_file: b";
    let tls = format!("tls {{{files}, timeout: 4}}");
    let both = format!("{tls}, cluster {{{tls}, authorization {{timeout: 0}}}}");
    assert_eq!(timeouts(&both), (5, 5));
    let own = format!("cluster {{{tls}, authorization {{timeout: 3}}}}");
    assert_eq!(timeouts(&own), (2, 3));
}

#[test]
fn durations_are_strings() {
    assert_eq!(
        options("ping_interval: \"1m30s\"").ping_interval,
        Duration::from_secs(90)
    );
    assert_eq!(
        options("ping_interval: 10").ping_interval,
        Duration::from_secs(10)
    );
    let warning = "c.conf:1:0: invalid use of field \"ping_interval\": ping_interval should be converted to a duration";
    assert_eq!(warnings("ping_interval: 10"), [warning]);
    assert_eq!(warnings("authorization {timeout: 61}").len(), 1);
    // What a clock cannot be set to is refused.
    let range = "c.conf:1:15: timeout value is out of range, from 0 to 4294967295";
    assert_eq!(errors("authorization {timeout: 1e19}").len(), 1);
    assert_eq!(
        errors("authorization {timeout: 10000000000000000000.0}"),
        [range]
    );
    assert_eq!(
        options("authorization {timeout: \"3s\"}").auth_timeout,
        Duration::from_secs(3)
    );
    assert_eq!(
        options("allow_non_tls: true, tls {}").auth_timeout,
        Duration::from_secs(3)
    );
    assert_eq!(
        options("allow_non_tls: true, tls {timeout: 5}, authorization {timeout: 2}").auth_timeout,
        Duration::from_secs(2)
    );
    assert_eq!(
        errors("write_deadline: abc"),
        ["c.conf:1:0: error parsing write_deadline: time: invalid duration \"abc\""]
    );
    assert_eq!(
        errors("lame_duck_duration: \"10s\"")[0],
        "c.conf:1:0: invalid lame_duck_duration of 10s, minimum is 30 seconds"
    );
    let expected = "c.conf:1:0: option \"lame_duck_duration\" must be a duration such as \"30s\", but is an integer";
    assert_eq!(errors("lame_duck_duration: 40"), [expected]);
    let must = |option: &str| {
        let error = errors(option).pop().unwrap_or_default();
        let text = error
            .split_once(" must be ")
            .map(|(_, text)| text.to_owned());
        text.unwrap_or(error)
    };
    let cases = [
        (
            "ping_interval: 1.5",
            "a duration such as \"30s\", or whole seconds, but is a float",
        ),
        (
            "clock_floor: 5",
            "a date such as 2026-01-31T00:00:00Z, or build, but is an integer",
        ),
        (
            "tls {first: 5}",
            "a boolean, auto or a duration, but is an integer",
        ),
        (
            "cluster {compression: 5}",
            "a boolean, the name of a mode or a map, but is an integer",
        ),
    ];
    for (option, expected) in cases {
        assert_eq!(must(option), expected, "{option}");
    }
    assert_eq!(
        errors("ping_interval: 4294967296"),
        ["c.conf:1:0: ping_interval value is too big, the limit is 4294967295"]
    );
    assert_eq!(
        errors("lame_duck_grace_period: \"-1s\""),
        ["c.conf:1:0: invalid lame_duck_grace_period, needs to be positive"]
    );
    assert_eq!(
        options("clock_floor: 1970-01-02T00:00:00Z").clock_floor,
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(86_400))
    );
}

#[test]
fn labels_and_paths() {
    assert_eq!(options("server_tags: \"A, b \"").server_tags, ["a, b"]);
    let several = options("server_tags: [A, a, \"b,C\", \"\"]");
    assert_eq!(several.server_tags, ["a", "b,c"]);
    assert_eq!(
        options("server_metadata {a: b}")
            .server_metadata
            .get("a")
            .map(String::as_str),
        Some("b")
    );
    assert_eq!(
        options("http_base_path: \"a//b/../c/\"").http_base_path,
        "/a/c"
    );
    assert!(options("trace_verbose: true").trace);
    assert_eq!(
        errors("server_name: \"a b\""),
        ["c.conf:1:0: server name cannot contain spaces"]
    );
    assert_eq!(
        errors("write_timeout: x"),
        ["c.conf:1:0: write_timeout must be 'default', 'close' or 'retry'"]
    );
}

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

#[test]
fn authorization_has_one_method() {
    assert_eq!(
        errors("authorization {user: a, token: b}"),
        ["c.conf:1:0: Cannot have a user/pass and token"]
    );
    assert_eq!(
        errors("authorization {user: a, users: [{user: b}]}"),
        ["c.conf:1:0: Can not have a single user/pass and a users array"]
    );
    assert_eq!(
        errors("authorization {token: a, users: [{user: b}]}"),
        ["c.conf:1:0: Can not have a token and a users array"]
    );
    assert_eq!(
        errors("authorization {users: [{user: b}, {user: b}]}"),
        ["c.conf:1:34: Duplicate user \"b\" detected"]
    );
    assert_eq!(
        errors("authorization {users: [{nkey: UA}]}"),
        ["c.conf:1:23: Not a valid public nkey for a user"]
    );
    // What is empty is none.
    options("authorization {user: \"\", token: \"\", password: \"\"}");
    options("authorization {user: \"\", users: [{user: b}]}");
    let alone = "authorization {user: \"\", password: x}";
    assert_eq!(errors(alone), ["c.conf:1:0: a password needs a user"]);
    assert_eq!(
        errors(&format!("cluster {{{alone}}}")),
        ["c.conf:1:9: a password needs a user"]
    );
    assert_eq!(
        errors("authorization {users: [{password: x}]}"),
        ["c.conf:1:23: User entry requires a user"]
    );
    assert_eq!(
        errors("authorization {users: [{user: a, clients: [x]}]}"),
        ["c.conf:1:43: invalid connection types [\"X\"]"]
    );
    let users = options("authorization {users: [{user: a, clients: [standard]}]}").users;
    assert_eq!(
        users[0].allowed_connection_types,
        [ConnectionType::Standard]
    );
}

#[test]
fn permissions_are_lists_or_rules() {
    let permissions = |text: &str| {
        let options = options(&format!(
            "authorization {{users: [{{user: a, permissions: {{{text}}}}}]}}"
        ));
        Permissions::clone(options.users[0].permissions.as_ref().unwrap())
    };
    assert_eq!(permissions("publish: []").publish.allow, None);
    assert_eq!(permissions("publish: {deny: a}").publish.deny, ["a"]);
    assert_eq!(
        permissions("sub: \"a q\"").subscribe.allow.unwrap(),
        ["a q"]
    );
    let rule = ResponseRule {
        max: Some(1),
        expires: Some(Duration::from_secs(120)),
    };
    assert_eq!(
        permissions("allow_responses: true").allow_responses,
        Some(rule)
    );
    assert_eq!(
        permissions("allow_responses: true").publish.allow,
        Some(Vec::new())
    );
    assert_eq!(permissions("allow_responses: false").publish.allow, None);
    let rule = ResponseRule {
        max: None,
        expires: None,
    };
    assert_eq!(
        permissions("allow_responses: {max: -1, ttl: \"-1s\"}").allow_responses,
        Some(rule)
    );
    let text = |rules: &str| format!("authorization {{permissions: {{{rules}}}}}");
    assert_eq!(
        errors(&text("publish: \"a b\"")),
        ["c.conf:1:39: subject \"a b\" is not a valid subject"]
    );
    assert_eq!(
        errors(&text("publish: a..b")),
        ["c.conf:1:38: subject \"a..b\" is not a valid subject"]
    );
    assert_eq!(
        errors(&text("allow_responses: 5")),
        ["c.conf:1:29: error parsing response permissions, expected a boolean or a map"]
    );
    assert_eq!(
        errors("authorization {permissions: 1}"),
        ["c.conf:1:15: Expected permissions to be a map/struct, got an integer"]
    );
}

#[test]
fn clusters_have_their_own_rules() {
    let cluster = |text: &str| options(&format!("cluster {{{text}}}")).cluster;
    assert_eq!(cluster("accounts: \"$G\"").accounts, ["$G"]);
    assert_eq!(cluster("pool_size: -1").pool_size, None);
    assert_eq!(
        cluster("compression: on").compression.mode,
        CompressionMode::Fast
    );
    let compression =
        cluster("compression {mode: s2_auto, rtt_thresholds: [10ms, 50ms]}").compression;
    assert_eq!(
        compression.rtt_thresholds,
        [Duration::from_millis(10), Duration::from_millis(50)]
    );
    let millis = |text: &str| {
        let times = cluster(&format!("compression {{{text}}}")).compression;
        let times = times.rtt_thresholds.iter();
        times.map(Duration::as_millis).collect::<Vec<_>>()
    };
    assert_eq!(millis("mode: fast"), [10, 50, 100]);
    assert_eq!(millis("mode: auto, rtts: []"), [10, 50, 100]);
    assert_eq!(millis("mode: auto, rtt: [0s, -1s, 20ms, 0s]"), [0, 0, 20]);
    assert_eq!(
        millis("mode: auto, rtt: [1ms, 0s, 1ms, 2ms, 0s]"),
        [1, 0, 1, 2]
    );
    for (name, mode) in CompressionMode::NAMES {
        let found = cluster(&format!("compression: \"{name}\""))
            .compression
            .mode;
        assert_eq!(found, mode, "{name}");
    }
    assert_eq!(CompressionMode::NotSupported.name(), "not supported");
    assert_eq!(CompressionMode::Better.name(), "s2_better");
    assert_eq!(
        cluster("ping_interval: \"1m\"").ping_interval,
        Some(Duration::from_secs(30))
    );
    assert_eq!(
        cluster("routes: [\"nats://a:1\", \"nats://a:1\"]")
            .routes
            .len(),
        1
    );
    let inner = "authorization {user: a, permissions {import: x}}";
    assert_eq!(
        cluster(inner).permissions.unwrap().import.allow.unwrap(),
        ["x"]
    );
    assert_eq!(
        cluster(&format!("{inner}, permissions {{import: y}}"))
            .permissions
            .unwrap()
            .import
            .allow
            .unwrap(),
        ["y"]
    );
    let cases = [
        ("name: \"a b\"", "1:9: cluster name cannot contain spaces"),
        (
            "routes: [\"nats://u:secret@:1\"]",
            "1:19: error parsing route url: it needs a host and a port up to 65535",
        ),
        (
            "compression: foo",
            "1:9: unsupported compression mode \"foo\"",
        ),
        (
            "compression: s2_uncompressed",
            "1:9: unsupported compression mode \"s2_uncompressed\"",
        ),
        (
            "compression {mode: auto, rtt: [10ms, 5ms]}",
            "1:34: RTT threshold values [10ms 5ms] should be in ascending order",
        ),
        (
            "compression {rtt: [0s, 0s], mode: auto}",
            "1:22: compression mode s2_auto requires at least one RTT threshold",
        ),
        (
            "compression {mode: auto, rtt: [1ms, 1ms, 1ms, 1ms, 1ms]}",
            "1:34: compression mode s2_auto should have no more than 4 RTT thresholds: 5",
        ),
        (
            "compression {mode: auto, rtt: [x]}",
            "1:40: error parsing rtt: time: invalid duration \"x\"",
        ),
        (
            "authorization {token: a}",
            "1:9: Cluster authorization does not support tokens",
        ),
        (
            "authorization {users: []}",
            "1:9: Cluster authorization does not allow multiple users",
        ),
        (
            "permissions {allow_responses: true}",
            "1:9: Cluster permissions do not support dynamic responses",
        ),
        (
            "pool_size: -1, accounts: [\"$SYS\"]",
            "1:9: pool_size cannot be negative if pinned accounts are specified",
        ),
        (
            "accounts: [\"$G\", \"$SYS\", \"$G\"]",
            "1:9: found duplicate account name \"$G\" in pinned accounts list",
        ),
        (
            "accounts: [X]",
            "1:9: unable to add account \"X\" to the list of dedicated routes: account missing",
        ),
        (
            "advertise: \"a:b:c\"",
            "1:9: invalid cluster_advertise value of a:b:c, it must be host or host:port",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            errors(&format!("cluster {{{text}}}")),
            [format!("c.conf:{expected}")],
            "{text}"
        );
    }
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

#[test]
fn each_broken_hash_is_told_with_its_place_and_owner() {
    let text = "authorization {users: [\n{user: a, password: $2a$11$x}, {user: b, password: $2a$11$y}]}\n\
                accounts {A: {users: [{user: c, password: $2a$11$z}]}}\n\
                cluster {authorization {user: d, password: $2a$11$w}}";
    let broken =
        |whose: &str| format!("the bcrypt hash of {whose} is broken, so that nothing matches it");
    let expected = [
        format!("c.conf:2:1: {}", broken("user \"a\"")),
        format!("c.conf:2:32: {}", broken("user \"b\"")),
        format!("c.conf:3:23: {}", broken("user \"c\"")),
        format!("c.conf:4:34: {}", broken("the password")),
    ];
    assert_eq!(errors(text), expected);
    let token = errors("authorization {token: $2a$11$x}");
    assert_eq!(token, [format!("c.conf:1:15: {}", broken("the token"))]);
}
