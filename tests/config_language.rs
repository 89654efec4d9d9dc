//! The configuration language and its options against the reference server's own reading of it.
//!
//! Each text is given to midge, and, when `NATS_SERVER` names the reference server's binary, to that one too: both must
//! accept or refuse it alike, save where the table says that midge differs on purpose. Where both accept, their digests
//! must be equal, which compares all the values at once.

use std::path::PathBuf;
use std::process::Command;

use midge::config::{self, Nothing};

/// How midge and the reference server take a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Both accept it.
    Good,
    /// Both refuse it.
    Bad,
    /// Only midge accepts it: the reference server trips over something harmless.
    GoodHere,
    /// Only midge refuses it: the reference server overlooks a mistake.
    BadHere,
    /// Midge refuses it; the reference server as chance has it, which reads the keys in any order.
    BadMostly,
}

use Verdict::{Bad, BadHere, BadMostly, Good, GoodHere};

/// The parse cases, and more where the two might part.
#[rustfmt::skip]
const CASES: &[(Verdict, &str)] = &[
    (Good, "port=16001"), (Good, "port:16001"), (Good, "port 16001"), (Good, "port\t16001"), (Good, "port\n16001"), (Good, "port\n=16001"),
    (Good, "port = 16001;host=127.0.0.1"),
    (Bad, "port=16001 host=127.0.0.1"),
    (Bad, "=16001"),
    (Bad, "port"),
    (Bad, "port =\n16001"),
    (Good, "max_payload: 8k"), (Good, "max_payload: 8KB"), (Good, "max_payload: 8KiB"), (Good, "max_payload: 1mi"),
    (Bad, "max_pending: 9223372036854775808"),
    (Good, "authorization {timeout: 22.50}"), (Good, "max_connections: -22"), (Bad, "v: -22.2x"),
    (Bad, "authorization {timeout: .5}"),
    (Bad, "authorization {timeout: -.5}"),
    (Bad, "v: 1.x"),
    (Bad, "v: -a"),
    (Good, "debug: TRUE"), (Good, "debug: Yes"), (Good, "debug: on"), (Good, "debug: off"), (Good, "debug: no"),
    (Bad, "debug: \"true\""), (Good, "server_name: \"true\""),
    (Good, "log_file: \"foo\\tbar\""), (Good, "log_file: 'foo\\tbar'"), (Good, "log_file: foo\\tbar"),
    (Good, "log_file: \"\\x41\\x42\""),
    (Bad, "log_file: \"\\xzz\""),
    (Bad, "log_file: \"\\u0041\""),
    (Bad, "log_file: \"abc"),
    (Bad, "cluster {name: foo bar}"),
    (Bad, "server_tags: [a b]"),
    (Bad, "server_tags: [1,,2]"),
    (Good, "server_tags: [\"a\",\"b\",]"), (Good, "server_tags: [\na\nb\n]"),
    (Good, "server_tags: [foo.>, bar.*]"),
    (Bad, "{a:1 b:2}"),
    (Good, "server_metadata {a:x;b:y}"), (Good, "server_metadata {a x\n b=y}"),
    (Bad, "server_metadata {:1}"),
    (Bad, "server_metadata {a:x"),
    (Bad, "cluster {\n]"),
    (Bad, "v: 2016-13-04T18:53:41Z"),
    (Bad, "v: 123-4"),
    (Bad, "v: 2016-05-04T18:53:41+01:00"),
    (Bad, "log_file: (\nab"), (Good, "log_file: (\nab\n)\n"), (Good, "log_file: (\nab) c\n)\n"),
    (Bad, "/ c"),
    (Good, "{ \"port\": 16001, \"host\": \"127.0.0.1\" }"),
    (Bad, "{ \"port\": 16001, \"host\": \"127.0.0.1\" "),
    (Bad, "listen: [::1]:16001"), (Good, "listen: \"[::1]:16001\""),
    (Good, "authorization {user: a, password: $2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG}"),
    (Good, "log_file: a'"), (Good, "log_file: a\"b\""),
    (Bad, "foo: 1"),
    (Bad, "port: abc"),

    (Good, "{{port: 1}}"), (Good, "{port: 1} {host: a}"),
    (Good, "port: 1}\n"), (BadHere, "port: 1}}"), (BadHere, "port: 1}\nhost: a"),
    (Good, "PORT: 1\nHost: a"), (Good, "port: 1\nport: 2"), (Good, "log_file:"), (Good, "log_file: ;port: 1"),
    (Good, "log_file: a#b // c"), (Good, "log_file: \"a\"#b"), (Bad, "port = # c"), (Bad, "log_file: don't"),
    (Good, "log_file: 127.0.0.1#c"), (Good, "server_name: 1k1"), (Good, "server_name: 1m30s"), (Good, "server_name: 1_000"),
    (Good, "server_name: 1.2.3"), (Bad, "server_name: 1.2.3a"), (Bad, "write_deadline: 1.5s"), (Good, "write_deadline: 500ms"),
    (Good, "server_name: ::1"), (Good, "log_file: <a&b>\u{e4}"), (Good, "log_file: \"a\\n\\r\\\"\\\\\u{2028}\""),
    (Good, "A: x\nserver_name: $A"), (Bad, "A: x\nserver_name: $B"), (Good, "server_metadata {A: x, b: $A}"),
    (Bad, "cluster {A: x}\nserver_name: $A"), (Good, "P: {publish: \">\"}\nauthorization {users: [{user: a, permissions: $P}]}"),
    (Bad, "A: $A"), (Bad, "include nothing.conf"), (Bad, "include: x"), (Bad, "include {"),
    (Bad, "tls {A: 1, timeout: $A}"), (Bad, "cluster{port: 1}"), (Bad, "port: 1;;"), (Bad, "server_tags: [a;b]"),
    (Bad, "server_tags: [a\n,b]"), (Good, "server_tags: []"), (Bad, "server_tags: [a, [b]\n]\n# no"),
    (Good, "ping_interval: \"1m30s\""), (Bad, "ping_interval: \"1d\""), (Good, "\u{a0}port: 1"),

    // Options, their types and bounds.
    (Good, "listen: 4222"), (Bad, "listen: abc"), (Bad, "listen: a:b"), (Bad, "listen: true"), (Bad, "listen: \"a:1:2\""), (Good, "listen: \":5\""), (Bad, "listen: \"5\""),
    (Good, "server_tags: \"a, b\""), (Bad, "server_metadata {a: 1}"), (Bad, "server_name: \"a b\""), (Bad, "http: x"), (Good, "http: 8222"), (Good, "http_base_path: foo"),
    (Good, "max_payload: -1"), (Good, "max_connections: -5"), (Bad, "max_sub_tokens: 0"), (Bad, "max_sub_tokens: 256"), (Bad, "max_control_line: 2147483648"),
    (Bad, "lame_duck_duration: \"10s\""), (Bad, "lame_duck_duration: 40"), (Bad, "write_timeout: foo"), (Bad, "write_deadline: abc"), (Bad, "log_size_limit: \"5\""), (Bad, "ping_max: 1.5"),
    (Bad, "tls {cert_file: x}"), (Bad, "tls {foo: 1}"), (Bad, "tls {timeout: \"a\"}"), (Good, "allow_non_tls: true, tls {timeout: 0.5}"), (Good, "allow_non_tls: true, tls {timeout: \"1s\"}"), (Bad, "tls {timeout: true}"),
    (Bad, "tls {pinned_certs: [abc]}"), (Bad, "tls {handshake_first: \"50\"}"), (Good, "allow_non_tls: true, tls {handshake_first: auto}"), (Good, "allow_non_tls: true, tls {immediate: 250ms}"), (Good, "allow_non_tls: true, tls {first: true}"),
    (Bad, "tls {cipher_suites: []}"), (Bad, "tls {cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}"), (BadHere, "tls {cipher_suites: [TLS_RSA_WITH_RC4_128_SHA], allow_insecure_cipher_suites: true}"),
    (Good, "allow_non_tls: true, tls {curve_preferences: [CurveP256, X25519]}"), (BadHere, "tls {curve_preferences: [X25519MLKEM768, SecP384r1MLKEM1024]}"), (Bad, "tls {curve_preferences: [P256]}"),
    (Good, "allow_non_tls: true, tls {min_version: \"1.3\"}"), (Bad, "tls {min_version: 1.3}"), (Bad, "tls {min_version: \"1.1\"}"), (Bad, "tls {verify: 1}"), (Bad, "tls: 1"), (Bad, "tls {verify_cert_and_check_known_urls: true}"),
    (Bad, "authorization: 1"), (Bad, "authorization {user: a, token: b}"), (Bad, "authorization {user: a, users: [{user: b}]}"), (Bad, "authorization {users: [{user: a}, {user: a}]}"),
    (Bad, "authorization {users: [{password: b}]}"), (Bad, "authorization {users: [{nkey: \"UA\"}]}"), (Bad, "authorization {users: 1}"), (Bad, "authorization {users: [a]}"),
    (Good, "authorization {users: [{nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}"),
    (Bad, "authorization {users: [{user: x, nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}"),
    (Good, "authorization {users: [{user: a, clients: [standard, Websocket]}]}"), (Bad, "authorization {users: [{user: a, clients: [foo]}]}"),
    (Bad, "authorization {default_permissions: {publish: \"a b\"}}"), (Good, "authorization {default_permissions: {subscribe: \"a q\"}}"), (Bad, "authorization {default_permissions: {publish: {foo: 1}}}"),
    (Good, "authorization {default_permissions: {publish: [], subscribe: {deny: a.>}}}"), (Bad, "authorization {default_permissions: {publish: a..b}}"), (Bad, "authorization {default_permissions: 1}"),
    (Good, "authorization {default_permissions: {allow_responses: {max: -1, ttl: \"-1s\"}}}"), (Bad, "authorization {default_permissions: {allow_responses: 5}}"), (Bad, "authorization {default_permissions: {allow_responses: {foo: 2}}}"),
    (Good, "authorization {timeout: \"2s\"}"), (Bad, "authorization {password: 123}"), (Bad, "no_auth_user: 1"),
    (Bad, "cluster: 1"), (Bad, "cluster {routes: [\":::\"]}"), (Bad, "cluster {routes: \"nats://a:1\"}"), (Good, "cluster {routes: [nats://a:1\ntls://u:p@b:2]}"),
    (Good, "cluster {compression: {mode: s2_auto, rtt_thresholds: [10ms, 50ms, 100ms]}}"), (Good, "cluster {compression: on}"), (Good, "cluster {compression: \"not supported\"}"), (Good, "cluster {compression: {mode: auto, rtt: [0s, 10ms, 0s]}}"), (Bad, "cluster {name: \"a b\"}"),
    (Bad, "cluster {permissions {import: a, allow_responses: true}}"), (Good, "cluster {permissions {import: a, export: {deny: b}}}"),
    (Bad, "cluster {authorization {users: [{user: a}]}}"), (Bad, "cluster {authorization {token: x}}"), (Good, "cluster {authorization {user: a, password: b, timeout: 0.5}}"),
    (Good, "authorization {USERS = [{user: a, password: b}]\nusers: $USERS}"), (Good, "accounts {A {USERS = [{user: a, password: b}]\nusers: $USERS}}"),
    (Good, "authorization {user: \"\", password: \"\"}"), (Good, "cluster {accounts: A}\naccounts: [A]"), (Good, "cluster {accounts: [\"$G\"]}"), (BadHere, "cluster {accounts: [A, A]}\naccounts: [A]"),
    (Good, "jetstream: {enabled: false}"), (Good, "leafnodes {}"), (Good, "websocket {}"), (Good, "gateway {}"), (Good, "mqtt {}"), (Good, "operator: []"), (Good, "trusted_keys: []"), (BadHere, "jetstream {}"), (BadHere, "ocsp {}"),
    (Good, "accounts: [A, B]"), (Bad, "accounts: [A, A]"), (Bad, "accounts: {A: 1}"), (Bad, "accounts: {\"$G\": {}}"), (Bad, "accounts: {A: {foo: 1}}"), (Bad, "accounts: {A: {nkey: AX}}"),
    (Bad, "accounts: {A: {users: [{user: a}]}, B: {users: [{user: a}]}}"), (Bad, "accounts: {A: {users: [{user: a}]}}\nauthorization {user: x}"), (Bad, "accounts: {A: {users: [{user: a}]}}\nauthorization {token: x}"),
    (Bad, "accounts: {A: {users: [{user: a}]}}\nauthorization {users: [{user: a}]}"), (Good, "accounts: {A: {users: [{user: a}]}}\nauthorization {users: [{user: b}]}"),
    (Bad, "accounts: {A: {exports: [{service: foo, stream: bar}]}}"), (Bad, "accounts: {A: {exports: foo}}"), (Bad, "accounts: {A: {exports: [{service: x, response: foo}]}}"),
    (Good, "accounts: {A: {exports: [{service: x, response: stream, threshold: \"5s\"}]}}"), (Bad, "accounts: {A: {exports: [{stream: x, response: stream}]}}"), (Bad, "accounts: {A: {exports: [{service: x, threshold: 5}]}}"),
    (Good, "accounts: {A: {exports: [{service: x, latency: lat}]}}"), (Good, "accounts: {A: {exports: [{service: x, latency: {sampling: 50%, subject: lat}}]}}"), (Good, "accounts: {A: {exports: [{service: x, latency: {sampling: headers, subject: lat}}]}}"),
    (Bad, "accounts: {A: {exports: [{service: x, latency: {sampling: 101, subject: lat}}]}}"), (Bad, "accounts: {A: {exports: [{service: x, latency: {sampling: 5}}]}}"), (Bad, "accounts: {A: {exports: [{service: x.*, account_token_position: 1}]}}"),
    (Good, "accounts: {A: {exports: [{service: x.*, account_token_position: 2}]}}"), (Bad, "accounts: {A: {exports: [{service: x, accounts: [B]}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: x}}]}}"), (Good, "accounts: {A: {imports: [{stream: {account: B, subject: x}}]}, B: {exports: [{stream: \">\"}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: x}}]}, B: {exports: [{stream: y}]}}"), (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: \"x.>\"}}]}, B: {exports: [{stream: x.*}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: x}}]}, B: {exports: [{stream: x, accounts: [C]}]}, C: {}}"), (BadMostly, "accounts: {A: {imports: [{stream: {account: B, subject: x}, prefix: p, to: t}]}, B: {exports: [{stream: x}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: x}, prefix: \"p.*\"}]}, B: {exports: [{stream: x}]}}"), (Bad, "accounts: {A: {imports: [{stream: {account: B}}]}, B: {exports: [{stream: x}]}}"),
    (Good, "accounts: {A: {imports: [{stream: {account: B, subject: p.A}}]}, B: {exports: [{stream: p.*, account_token_position: 2}]}}"), (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: p.B}}]}, B: {exports: [{stream: p.*, account_token_position: 2}]}}"),
    (Good, "accounts: {A: {imports: [{service: {account: B, subject: a}, to: c, share: true}]}, B: {exports: [{service: a}]}}"), (Bad, "accounts: {A: {imports: [{service: {account: B, subject: a}}, {service: {account: B, subject: a}}]}, B: {exports: [{service: a}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: a}}, {stream: {account: B, subject: a}}]}, B: {exports: [{stream: a}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: a}}, {stream: {account: B, subject: a}, prefix: p}]}, B: {exports: [{stream: a}]}}"),
    (Good, "accounts: {A: {imports: [{stream: {account: B, subject: a}, to: c}, {stream: {account: B, subject: b}, to: c}]}, B: {exports: [{stream: >}]}}"),
    (Bad, "accounts: {A: {imports: [{service: {account: B, subject: a}, to: c}, {service: {account: B, subject: b}, to: c}]}, B: {exports: [{service: >}]}}"),
    (Good, "accounts: {A: {imports: [{service: {account: B, subject: a}, to: c}, {service: {account: C, subject: b}, to: c}]}, B: {exports: [{service: >}]}, C: {exports: [{service: >}]}}"),
    (Bad, "accounts: {A: {imports: [{service: {account: B, subject: a}}], exports: [{service: a}]}, B: {exports: [{service: a}], imports: [{service: {account: A, subject: a}}]}}"),
    (Bad, "accounts: {A: {imports: [{stream: {account: B, subject: a}}], exports: [{stream: a}]}, B: {exports: [{stream: a}], imports: [{stream: {account: A, subject: a}}]}}"),
    (Good, "accounts: {A: {imports: [{service: {account: A, subject: a}, to: b}], exports: [{service: a}]}}"),
    (Good, "accounts: {A: {mappings: {a: b, c: [{dest: d, weight: 50%}, {dest: e, weight: 40}]}, limits: {max_conn: 5, max_payload: 1k, max_leafs: 2}}}"), (Bad, "accounts: {A: {limits: {foo: 2}}}"), (Bad, "accounts: {A: {limits: {max_conn: \"a\"}}}"),
    (Bad, "mappings: {c: [{dest: d, weight: 70%}, {dest: e, weight: 40}]}"), (Bad, "mappings: {c: [{dest: d}]}"), (Bad, "mappings: {a..b: c}"), (Bad, "mappings: {a: 1}"), (Good, "mappings: {\"foo.*\": \"bar.$1\"}"), (Bad, "mappings: 1"),
    (Good, "mappings: {a: {dest: b, weight: 100}}"), (Good, "mappings: {a: [{dest: b, weight: 60, cluster: x}, {dest: c, weight: 60, cluster: y}]}"),

    // What the language gives a meaning of its own by accident.
    (GoodHere, "server_tags: [/a, b]"),
    (GoodHere, "{\"port\":\n1}"),
    (GoodHere, "log_file: (\r\na\r\n)\r\n"),
    (GoodHere, "a: x\nserver_name: $A"),
    // A warning is an error there, but only for a test of the configuration.
    (GoodHere, "ping_interval: 10"), (GoodHere, ""), (GoodHere, "# nothing\n"), (GoodHere, "{}"), (GoodHere, "}"),
    (BadHere, "{\nport: 1\n"),
    (BadHere, "max_pending: 16eb"),
    (BadHere, "port: 1\0\nhost: a"),
    (BadHere, "port: 70000"),
    // Mistakes that the reference server finds out about later, if at all.
    (BadHere, "max_pending: -5"), (BadHere, "port: -7"), (BadHere, "write_deadline: \"-1s\""), (BadHere, "ping_max: -1"),
    (BadHere, "cluster {routes: [\"http://a:1\"]}"), (BadHere, "cluster {routes: [\"nats://a\"]}"), (BadHere, "cluster {compression: foo}"), (BadHere, "cluster {compression: s2_off}"), (BadHere, "cluster {compression: {mode: auto, rtt: [10ms, 5ms]}}"), (BadHere, "cluster {pool_size: -1, accounts: [\"$SYS\"]}"),
    (BadHere, "system_account: X"), (BadHere, "client_advertise: \"a:b:c\""), (BadHere, "https: 1"), (BadHere, "lame_duck_grace_period: 130s"), (BadHere, "remote_syslog: foo"), (BadHere, "remote_syslog: \"udp://127.0.0.1\""), (BadHere, "remote_syslog: \"udp://127.0.0.1:99999\""), (BadHere, "remote_syslog: \"unix://\""),
    (Good, "remote_syslog: \"UDP://127.0.0.1:514\""), (Good, "remote_syslog: \"tcp://:514/\""), (Good, "remote_syslog: \"unix:///dev/log\""),
    (BadHere, "accounts: {A: {exports: [{}]}}"), (BadHere, "accounts: {A: {imports: [{}]}}"), (BadHere, "accounts: {A: {exports: [{service: \"a b\"}]}}"), (BadHere, "mappings: {a: [{weight: 5}]}"),
    (BadHere, "max_payload: 2, max_pending: 1"),
    (BadHere, "no_auth_user: a"),
    (BadHere, "accounts: A"),
    (BadHere, "jetstream: true"),
];

fn midge_says(text: &str) -> Result<String, String> {
    let loaded = config::parse_with("c.conf", text.as_bytes(), &Nothing, |_| {});
    loaded.map(|it| it.digest).map_err(|it| it.to_string())
}

#[test]
fn midge_takes_each_text_as_the_table_says() {
    for (verdict, text) in CASES {
        let said = midge_says(text);
        assert_eq!(
            said.is_ok(),
            matches!(verdict, Good | GoodHere),
            "{text:?}: {said:?}"
        );
    }
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "a test that was left out should say so"
)]
fn the_reference_server_takes_each_text_as_the_table_says() {
    let Some(program) = std::env::var_os("NATS_SERVER") else {
        eprintln!("left out: NATS_SERVER does not name the reference server's binary");
        return;
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("config_language");
    std::fs::create_dir_all(&folder).unwrap();
    let mut differences = Vec::new();
    for (verdict, text) in CASES {
        std::fs::write(folder.join("c.conf"), text).unwrap();
        let mut command = Command::new(&program);
        let output = command
            .args(["-t", "-c", "c.conf"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let digest = said
            .split_once(" is valid (")
            .and_then(|(_, rest)| rest.split(')').next());
        let is_as_told = digest.is_some() == matches!(verdict, Good | BadHere);
        if !is_as_told && *verdict != BadMostly {
            differences.push(format!("{verdict:?} {text:?}: {said}"));
        }
        if let (Some(digest), Good) = (digest, verdict) {
            if midge_says(text).as_deref() != Ok(digest) {
                differences.push(format!("{text:?} means something else"));
            }
        }
    }
    assert_eq!(differences, [""; 0]);
}
