//! Which credentials get whom in, by configuration.

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::config::{self, Nothing};

/// The gate that a configuration asks for.
fn gate(conf: &str) -> Authenticator {
    let loaded = config::parse_str("test.conf", conf, &Nothing);
    Authenticator::new(&loaded.expect(conf).options)
}

fn connect(json: &str) -> Connect {
    let mut connect = Connect::default();
    connect.merge(json.as_bytes()).expect("JSON");
    connect
}

/// What comes of a CONNECT in the end: who in which account, or `no`.
fn outcome(gate: &Authenticator, json: &str) -> String {
    shown(gate.judge(&connect(json), Some(b"nonce"), None))
}

fn shown(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accepted(identity) => format!("{} {}", identity.account_name, identity.who),
        Verdict::Refused(None) => "no".into(),
        Verdict::Refused(Some(flaw)) => flaw.to_string(),
        Verdict::Verify(challenge) => {
            let is_right = challenge.is_right();
            format!("hash: {}", shown(challenge.settle(is_right)))
        }
    }
}

fn check(conf: &str, cases: &[(&str, &str)]) {
    let gate = gate(conf);
    for (json, expected) in cases {
        assert_eq!(outcome(&gate, json), *expected, "{conf}: {json}");
    }
}

/// `p`, hashed at the lowest cost.
fn hash() -> String {
    bcrypt::hash("p", 4).expect("a cost there is")
}

#[test]
fn an_open_server_takes_everybody() {
    for conf in [
        "port: 1",
        "authorization {}",
        "authorization {users: []}",
        "accounts {A {}}",
    ] {
        let gate = gate(conf);
        assert!(!gate.is_required() && !gate.is_announced());
        for json in [
            "{}",
            r#"{"user":"u","pass":"p","nkey":"n","auth_token":"t"}"#,
        ] {
            assert_eq!(outcome(&gate, json), "$G ", "{conf}");
        }
    }
}

#[test]
fn a_token_is_taken_for_a_token_only() {
    check(
        "authorization {token: t}",
        &[
            (r#"{"auth_token":"t","user":"x","pass":"y"}"#, "$G token"),
            (r#"{"auth_token":"tt"}"#, "no"),
            (r#"{"auth_token":"T"}"#, "no"),
            (r#"{"user":"t"}"#, "no"),
            (r#"{"pass":"t"}"#, "no"),
            ("{}", "no"),
        ],
    );
    check(
        &format!("authorization {{token: \"{}\"}}", hash()),
        &[
            (r#"{"auth_token":"p"}"#, "hash: $G token"),
            (r#"{"auth_token":"q"}"#, "hash: no"),
            ("{}", "no"),
        ],
    );
}

#[test]
fn the_single_user_needs_its_exact_name_and_password() {
    check(
        "authorization {user: u, password: p}",
        &[
            (r#"{"user":"u","pass":"p"}"#, "$G user:u"),
            (r#"{"user":"u","pass":"p\u0000"}"#, "no"),
            (r#"{"user":"u","pass":"pp"}"#, "no"),
            (r#"{"user":"u"}"#, "no"),
            (r#"{"user":"U","pass":"p"}"#, "no"),
            (r#"{"pass":"p"}"#, "no"),
            (r#"{"nkey":"x","user":"u","pass":"p"}"#, "$G user:u"),
            ("{}", "no"),
        ],
    );
    check(
        "authorization {user: u}",
        &[
            (r#"{"user":"u"}"#, "$G user:u"),
            (r#"{"user":"u","pass":"x"}"#, "no"),
        ],
    );
}

#[test]
fn listed_users_go_by_their_own_passwords_and_hashes() {
    let conf = format!(
        r#"authorization {{users: [{{user: a, password: p}}, {{user: b, password: "{}"}}, {{user: c}}]}}
           accounts {{A {{users: [{{user: d, password: q}}]}}}}"#,
        hash()
    );
    check(
        &conf,
        &[
            (r#"{"user":"a","pass":"p"}"#, "$G user:a"),
            (r#"{"user":"b","pass":"p"}"#, "hash: $G user:b"),
            (r#"{"user":"b","pass":"q"}"#, "hash: no"),
            (r#"{"user":"c"}"#, "$G user:c"),
            (r#"{"user":"d","pass":"q"}"#, "A user:d"),
            // Whether a user exists does not show in how long a refusal takes.
            (r#"{"user":"x","pass":"p"}"#, "hash: no"),
            (r#"{"user":"a","pass":"x"}"#, "hash: no"),
            ("{}", "no"),
        ],
    );
    // The hash itself is no password.
    let json = format!(r#"{{"user":"b","pass":"{}"}}"#, hash());
    assert_eq!(outcome(&gate(&conf), &json), "hash: no");
}

#[test]
fn every_spelling_of_bcrypt_is_known() {
    for version in ["2a", "2b", "2x", "2y"] {
        let hash = hash().replace("$2b$", &format!("${version}$"));
        let conf = format!("authorization {{user: u, password: \"{hash}\"}}");
        let given = r#"{"user":"u","pass":"p"}"#;
        check(&conf, &[(given, "hash: $G user:u")]);
    }
}

#[test]
fn flags_put_a_token_beside_the_users() {
    let conf = "authorization {users: [{user: a, password: p}]}";
    let mut options = config::parse_str("test.conf", conf, &Nothing)
        .unwrap()
        .options;
    options.auth_token = Some(Secret::new("t"));
    let gate = Authenticator::new(&options);
    assert_eq!(outcome(&gate, r#"{"auth_token":"t"}"#), "$G token");
    assert_eq!(outcome(&gate, r#"{"user":"a","pass":"p"}"#), "$G user:a");
    assert_eq!(outcome(&gate, r#"{"user":"x","auth_token":"t"}"#), "no");
}

#[test]
fn who_gives_nothing_is_the_named_user_if_there_is_one() {
    let conf =
        "authorization {users: [{user: a, password: p}, {user: b, password: q}]}, no_auth_user: b";
    let open = gate(conf);
    assert!(open.is_required() && !open.is_announced() && open.takes_nameless());
    assert_eq!(shown(open.judge_nameless()), "$G user:b");
    check(
        conf,
        &[
            ("{}", "$G user:b"),
            (r#"{"nkey":"x"}"#, "$G user:b"),
            (r#"{"user":"b"}"#, "no"),
            (r#"{"auth_token":"t"}"#, "no"),
            (r#"{"pass":"q"}"#, "no"),
        ],
    );
    let hashed = format!(
        "authorization {{users: [{{user: a, password: \"{}\"}}]}}, no_auth_user: a",
        hash()
    );
    check(&hashed, &[("{}", "no")]);
}

#[test]
fn users_of_the_system_account_alone_lock_nobody_out() {
    let conf = "accounts {SYS {users: [{user: s, password: p}]}}, system_account: SYS";
    let gate = gate(conf);
    assert!(gate.is_announced());
    let names: Vec<_> = gate
        .accounts()
        .iter()
        .map(|it| (&*it.name, it.is_system))
        .collect();
    assert_eq!(names, [("$G", false), ("SYS", true)]);
    check(
        conf,
        &[
            ("{}", "$G "),
            (r#"{"user":"s","pass":"p"}"#, "SYS user:s"),
            (r#"{"user":"s","pass":"x"}"#, "no"),
        ],
    );
    // But with other credentials about, they are needed.
    check(
        &format!("authorization {{users: [{{user: x}}]}}, {conf}"),
        &[("{}", "no")],
    );
}

#[test]
fn connection_types_are_kept_to() {
    check(
        "authorization {users: [
            {user: a, password: p, allowed_connection_types: [mqtt, STANDARD]}
            {user: b, password: p, allowed_connection_types: WEBSOCKET}]}, no_auth_user: b",
        &[
            (r#"{"user":"a","pass":"p"}"#, "$G user:a"),
            (r#"{"user":"b","pass":"p"}"#, "no"),
            ("{}", "no"),
        ],
    );
}

#[test]
fn a_key_user_signs_the_nonce() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed will do");
    let public = pair.public_key().as_ref().try_into().expect("32 bytes");
    let key = nkey::encode(nkey::Kind::User, &public);
    let conf = format!("authorization {{users: [{{nkey: {key}}}, {{user: a, password: p}}]}}");
    let base64 = |bytes: &[u8], alphabet: &[u8; 2], padding| {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let letters: Vec<u8> = letters.iter().chain(alphabet).copied().collect();
        let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let six = |chunk: &[u8]| {
            let digits = format!("{:0<6}", String::from_utf8_lossy(chunk));
            char::from(letters[usize::from_str_radix(&digits, 2).expect("bits")])
        };
        let text: String = bits.as_bytes().chunks(6).map(six).collect();
        text + padding
    };
    let signature = pair.sign(b"nonce");
    let url = base64(signature.as_ref(), b"-_", "");
    let standard = base64(signature.as_ref(), b"+/", "==");
    let other = base64(pair.sign(b"ecnon").as_ref(), b"-_", "");
    let given = |sig: &str| format!(r#"{{"nkey":"{key}","sig":"{sig}","user":"a","pass":"p"}}"#);
    let in_as = format!("$G nkey:{key}");
    let gate = gate(&conf);
    assert!(gate.has_nkeys());
    for (json, expected) in [
        (given(&url), in_as.as_str()),
        (given(&standard), in_as.as_str()),
        (given(&other), "Signature not verified"),
        (given(&url[2..]), "Signature not verified"),
        (given("!"), "Signature not valid base64"),
        (given(""), "Signature missing"),
        (given(&url).replace(&key[..9], "UAAAAAAAA"), "no"),
        (r#"{"user":"a","pass":"p"}"#.into(), "$G user:a"),
    ] {
        assert_eq!(outcome(&gate, &json), expected, "{json}");
    }
    // A signature for another connection's nonce is worth nothing.
    assert_eq!(
        shown(gate.judge(&connect(&given(&url)), None, None)),
        "Signature not verified"
    );
}

#[test]
fn permissions_are_made_once_for_all_who_share_them() {
    let gate = gate(
        "authorization {default_permissions {publish: a}, users: [{user: a}, {user: b}, {user: c, permissions: {}}]}",
    );
    let rules = |name: &str| gate.users[name].identity.rules.clone().expect("some rules");
    assert!(Arc::ptr_eq(&rules("a"), &rules("b")) && !Arc::ptr_eq(&rules("a"), &rules("c")));
}

#[test]
fn texts_are_compared_whole() {
    for (secret, given, same) in [
        ("", "", true),
        ("a", "", false),
        ("", "a", false),
        ("ab", "a", false),
        ("a", "ab", false),
        ("a\0", "a", false),
        ("a", "a\0", false),
        ("abc", "abc", true),
        ("abc", "abd", false),
    ] {
        assert_eq!(is_same(secret, given), same, "{secret:?} {given:?}");
    }
}

#[test]
fn nothing_secret_shows_in_debug_output() {
    let conf = "authorization {user: u, password: hush}";
    let gate = gate(conf);
    let verdict = gate.judge(&connect(r#"{"user":"u","pass":"hush"}"#), None, None);
    assert!(!format!("{gate:?} {verdict:?}").contains("hush"));
}

#[test]
fn certificates_say_which_servers_may_be_peers() {
    let certificate = |name: &str| {
        let text = std::fs::read(format!("certs/{name}-cert.pem")).unwrap();
        let der = rustls_pemfile::certs(&mut text.as_slice()).next();
        Certificate::parse(&der.unwrap().unwrap()).unwrap()
    };
    let judged = |tls: &str, more: &str, name: Option<&str>| {
        let conf = format!("cluster {{port: 1, tls {{{tls}}}\n{more}}}");
        let loaded = config::parse_str("test.conf", &conf, &Nothing).expect(&conf);
        let cluster = &loaded.options.cluster;
        let certificate = name.map(certificate);
        // What its CONNECT says does not count then.
        let verdict = gate("").judge_route(cluster, Some("u"), "p", certificate.as_ref());
        matches!(verdict, Verdict::Accepted(_))
    };
    let known = "verify_cert_and_check_known_urls: true";
    let routes = "routes: [\"nats://localhost:1\", \"nats://127.0.0.1:2\"], authorization {user: u, password: p}";
    assert!(judged(known, routes, Some("server")));
    assert!(!judged(known, routes, Some("server-wildcard")) && !judged(known, routes, None));
    let wild = "routes: [\"nats://a.example.com:1\"]";
    assert!(judged(known, wild, Some("server-wildcard")) && !judged(known, wild, Some("server")));
    let mapped = |user: &str, name| {
        let user = format!("authorization {{user: \"{user}\", password: p}}");
        judged("verify_and_map: true", &user, Some(name))
    };
    assert!(mapped("app.nats.dev", "client-dns") && mapped("derek@nats.io", "client-email"));
    assert!(mapped("CN=dns,O=midge tests", "client-dns"));
    assert!(!mapped("O=midge tests,CN=dns", "client-dns") && !mapped("u", "client-dns"));
    // Without either, name and password do.
    assert!(judged("", routes, Some("server-wildcard")) && judged("", routes, None));
}
