//! Configurations as operators have them: those in `configs/`, and those of the reference server's documentation.

use std::path::Path;
use std::time::Duration;

use midge::Options;
use midge::config::options::{HandshakeFirst, Secret, TlsVersion};
use midge::config::table::{Block, OPTIONS, Status};
use midge::config::{self, Loaded, Nothing, System};

fn loaded(text: &str) -> Options {
    match config::parse_str("sample.conf", text, &Nothing) {
        Ok(loaded) => loaded.options,
        Err(errors) => panic!("{errors}"),
    }
}

fn sample(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("configs")
        .join(name);
    match config::load(&path, &System) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

const FULL: &str = r#"
listen: localhost:4242 # host/port to listen for client connections

http: localhost:8222 # HTTP monitoring port

# Authorization for client connections
authorization {
  user:     derek
  # ./util/mkpasswd -p T0pS3cr3t
  password: $2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG
  timeout:  1
}

# Cluster definition
cluster {

  listen: localhost:4244 # host/port for inbound route connections

  # Authorization for route connections
  authorization {
    user: route_user
    # ./util/mkpasswd -p T0pS3cr3tT00!
    password: $2a$11$xH8dkGrty1cBNtZjhPeWJewu/YPbSU.rXJWmS6SFilOBXzmZoMk9m
    timeout: 0.5
  }

  # Routes are actively solicited and connected to from this server.
  routes = [
    nats-route://user1:pass1@127.0.0.1:4245
    nats-route://user2:pass2@127.0.0.1:4246
  ]
}

# logging options
debug:   false
trace:   true
logtime: false
log_file: "/tmp/nats-server.log"

# pid file
pid_file: "/tmp/nats-server.pid"

# Some system overides

max_connections: 100
max_subscriptions: 1000
max_control_line: 512
max_payload: 65536
write_deadline: "2s"
"#;

#[test]
fn the_documented_full_sample_gives_its_values() {
    let options = loaded(FULL);
    assert_eq!((options.host.as_str(), options.port), ("localhost", 4242));
    assert_eq!(
        (options.http_host.as_deref(), options.http_port),
        (Some("localhost"), Some(8222))
    );
    assert_eq!(options.user.as_deref(), Some("derek"));
    let hash = "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG";
    assert_eq!(options.password.as_ref().map(Secret::reveal), Some(hash));
    assert_eq!(options.auth_timeout, Duration::from_secs(1));
    assert_eq!(
        (options.cluster.host.as_str(), options.cluster.port),
        ("localhost", Some(4244))
    );
    assert_eq!(options.cluster.user.as_deref(), Some("route_user"));
    assert_eq!(options.cluster.auth_timeout(), Duration::from_millis(500));
    let routes: Vec<_> = options
        .cluster
        .routes
        .iter()
        .map(|it| (it.user.as_deref(), it.port))
        .collect();
    assert_eq!(routes, [(Some("user1"), 4245), (Some("user2"), 4246)]);
    assert_eq!(
        (options.debug, options.trace, options.logtime),
        (false, true, false)
    );
    assert_eq!(
        options.log_file.as_deref(),
        Some(Path::new("/tmp/nats-server.log"))
    );
    assert_eq!(
        options.pid_file.as_deref(),
        Some(Path::new("/tmp/nats-server.pid"))
    );
    assert_eq!(
        (options.max_connections, options.max_subscriptions),
        (Some(100), Some(1000))
    );
    assert_eq!(
        (options.max_control_line, options.max_payload),
        (512, 65536)
    );
    assert_eq!(options.write_deadline, Duration::from_secs(2));
}

#[test]
fn no_secret_is_shown() {
    let shown = format!("{:?}", loaded(FULL));
    for secret in ["W2zko751", "xH8dkGrty1", "pass1", "user2"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

/// The variables sample, with `DEFAULT_PERMISSIONS` as it is documented: variables, one of them an option besides.
const VARIABLES: &str = include_str!("documented/users.conf");

#[test]
fn the_documented_variables_sample_gives_its_users() {
    let options = loaded(VARIABLES);
    let users: Vec<_> = options
        .users
        .iter()
        .map(|it| (it.user.as_str(), it.password.reveal()))
        .collect();
    let pass = "abcdefghijklmnopqrstuvwxwz0123456789";
    assert_eq!(
        users,
        [
            ("joe", "foo"),
            ("alice", "bar"),
            ("bob", pass),
            ("charlie", "bar")
        ]
    );
    let rules = |index: usize| {
        let permissions = options.users[index].permissions.as_ref().unwrap();
        (
            permissions.publish.allow.clone().unwrap(),
            permissions.subscribe.allow.clone().unwrap(),
        )
    };
    let list = |subjects: &[&str]| subjects.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(rules(0), (list(&[">"]), list(&[">"])));
    assert_eq!(
        rules(1),
        (list(&["req.foo", "req.bar"]), list(&["_INBOX.>"]))
    );
    assert_eq!(
        rules(2),
        (list(&["_INBOX.>"]), list(&["req.foo", "req.bar"]))
    );
    assert_eq!(
        rules(3),
        (list(&["SANDBOX.*"]), list(&["PUBLIC.>", "_INBOX.>"]))
    );
}

#[test]
fn the_documented_allow_and_deny_sample_gives_both() {
    let options = loaded(
        r#"authorization {
             myUserPerms = {
               publish = { allow = "*.*", deny = ["SYS.*", "bar.baz", "foo.*"] }
               subscribe = { allow = ["foo.*", "bar"], deny = "foo.baz" }
             }
             users = [ {user: myUser, password: pwd, permissions: $myUserPerms} ]
           }"#,
    );
    let permissions = options.users[0].permissions.as_ref().unwrap();
    assert_eq!(
        permissions.publish.allow.as_deref(),
        Some(&["*.*".to_string()][..])
    );
    assert_eq!(permissions.publish.deny, ["SYS.*", "bar.baz", "foo.*"]);
    assert_eq!(permissions.subscribe.deny, ["foo.baz"]);
}

#[test]
fn the_documented_route_permissions_are_import_and_export() {
    let options = loaded(
        r#"cluster {
             listen: 4244
             authorization {
               user: ruser
               password: $2a$11$UaoHwUEqHaMwqo6L4kM2buOBnGFnSCWxNXY87hl.kCERqKK8WAXM.
               timeout: 3
             }
             permissions {
               import:["_INBOX.>", "global.>"]
               export:["_INBOX.>", "global.>", "sensors.>"]
             }
             routes = [ nats-route://ruser:top_secret@cloudserver:4344 ]
           }"#,
    );
    assert_eq!(
        (options.cluster.host.as_str(), options.cluster.port),
        ("0.0.0.0", Some(4244))
    );
    let permissions = options.cluster.permissions.unwrap();
    assert_eq!(permissions.import.allow.unwrap(), ["_INBOX.>", "global.>"]);
    assert_eq!(
        permissions.export.allow.unwrap(),
        ["_INBOX.>", "global.>", "sensors.>"]
    );
}

#[test]
fn the_documented_tls_samples_give_their_values() {
    let options = loaded(
        r#"listen: 127.0.0.1:4443
           tls {
             cert_file: "./configs/certs/server-cert.pem"
             key_file:  "./configs/certs/server-key.pem"
             ca_file:   "./configs/certs/ca.pem"
             verify_and_map: true
             timeout: 0.0001
             cipher_suites: [
               "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
               "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
             ]
             handshake_first: "300ms"
           }
           authorization {
             users = [ {user: "CN=example.com,OU=CNCF", permissions: { publish: "foo" }} ]
           }"#,
    );
    let tls = options.tls.unwrap();
    assert_eq!(
        tls.certs[0].cert_file,
        Path::new("./configs/certs/server-cert.pem")
    );
    assert_eq!(
        tls.ca_file.as_deref(),
        Some(Path::new("./configs/certs/ca.pem"))
    );
    assert!(tls.verify && tls.verify_and_map);
    assert_eq!(tls.timeout, Duration::from_micros(100));
    assert_eq!(options.auth_timeout, Duration::from_micros(1_000_100));
    assert_eq!(tls.cipher_suites.len(), 2);
    assert_eq!(
        tls.handshake_first,
        HandshakeFirst::Within(Duration::from_millis(300))
    );
    assert_eq!(tls.min_version, TlsVersion::V1_2);

    let options = loaded("tls: {\n cert_file: c\n key_file: k\n handshake_first: auto\n}");
    assert_eq!(
        options.tls.unwrap().handshake_first,
        HandshakeFirst::Within(Duration::from_millis(50))
    );
    let options = loaded("tls {}\nallow_non_tls: true");
    assert!(options.tls.unwrap().certs.is_empty() && options.allow_non_tls);
}

#[test]
fn the_samples_load_without_warnings() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".conf") {
            assert_eq!(sample(&name).warnings, [], "{name}");
        }
    }
    assert_eq!(sample("embedded.conf").options.workers, Some(1));
    assert!(sample("embedded.conf").options.busy_poll.is_zero());
    assert_eq!(sample("cluster.conf").options.cluster.routes.len(), 2);
    assert_eq!(sample("authentication.conf").options.users.len(), 3);
    assert_eq!(sample("accounts.conf").options.accounts.len(), 3);
    assert!(sample("tls.conf").options.tls.is_some());
}

#[test]
fn the_full_sample_says_nothing_but_defaults() {
    assert_eq!(sample("full.conf").options, Options::default());
}

#[test]
fn the_full_sample_mentions_every_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/full.conf");
    let text = std::fs::read_to_string(path).unwrap();
    let is_mentioned = |name: &str| {
        let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
        lines.into_iter().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([':', ' ']))
        })
    };
    for known in OPTIONS
        .iter()
        .filter(|it| it.block == Block::Top && it.status == Status::Supported)
    {
        assert!(is_mentioned(known.name), "{}", known.name);
    }
}

#[test]
fn no_part_of_a_sample_does_any_harm() {
    for text in [FULL, VARIABLES] {
        for end in 0..text.len() {
            let _ = config::parse_with("c.conf", &text.as_bytes()[..end], &Nothing, |_| {});
            let _ = config::parse_with("c.conf", &text.as_bytes()[end..], &Nothing, |_| {});
        }
    }
}

#[test]
fn no_changed_byte_of_a_sample_does_any_harm() {
    for text in [FULL, VARIABLES] {
        for (index, byte) in text.bytes().enumerate().step_by(3) {
            for other in [
                b'{',
                b'}',
                b'[',
                b']',
                b'"',
                b'\'',
                b'$',
                b'\\',
                0,
                0xff,
                byte ^ 1,
            ] {
                let mut changed = text.as_bytes().to_vec();
                changed[index] = other;
                let _ = config::parse_with("c.conf", &changed, &Nothing, |_| {});
            }
        }
    }
}

#[test]
fn the_command_line_has_the_last_word_before_the_check() {
    let text = b"https: 8222";
    assert!(config::parse_with("c.conf", text, &Nothing, |_| {}).is_err());
    let loaded = config::parse_with("c.conf", text, &Nothing, |options| {
        options.https_port = None
    })
    .unwrap();
    assert_eq!(loaded.options.https_port, None);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let error = config::load(Path::new("/no/such.conf"), &System)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "open /no/such.conf: no such file or directory");
    let error = config::load(Path::new("/"), &System)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "read /: is a directory");
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let error = config::load(&link, &System).unwrap_err().to_string();
    let expected = format!("open {}: too many levels of symbolic links", link.display());
    assert_eq!(error, expected);
}
