//! The configuration language against the reference server's own reading of it.
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
}

use Verdict::{Bad, BadHere, Good, GoodHere};

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
        if digest.is_some() != matches!(verdict, Good | BadHere) {
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
