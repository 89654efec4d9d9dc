//! Each configuration that the documentation of TLS shows, with programs that are not ours: `openssl s_client` where it
//! is installed, and the official Rust client.
//!
//! The texts stand here as they do there, and are run in a directory that has the files they name; only the port is
//! another one.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use async_nats::ConnectOptions;
use futures_util::StreamExt;

use support::server::{Server, Start};
use support::{ScratchDir, programs};

const SIMPLE: &str = r#"
# Simple TLS config file
listen: 127.0.0.1:4443
tls {
  cert_file: "./configs/certs/server-cert.pem"
  key_file: "./configs/certs/server-key.pem"
  timeout: 2
}
authorization {
  user: derek
  password: $2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG
  timeout: 1
}
"#;

const SUITES: &str = r#"
tls {
  cert_file: "./configs/certs/server.pem"
  key_file: "./configs/certs/key.pem"
  timeout: 2
  cipher_suites: [
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
  ]
}
"#;

const VERIFY: &str = r#"
tls {
  cert_file: "./configs/certs/server-cert.pem"
  key_file:  "./configs/certs/server-key.pem"
  ca_file:   "./configs/certs/ca.pem"
  verify:    true
}
"#;

const VERIFY_AND_MAP: &str = r#"
tls {
  cert_file: "./configs/certs/server-cert.pem"
  key_file: "./configs/certs/server-key.pem"
  ca_file: "./configs/certs/ca.pem"
  # Require a client certificate and map user id from certificate
  verify_and_map: true
}
"#;

const BY_EMAIL: &str = r#"
authorization {
  users = [
    {user: "derek@nats.io", permissions: { publish: "foo" }}
  ]
}
"#;

const BY_NAME: &str = r#"
authorization {
  users = [
    {user: "CN=localhost,OU=NATS,O=NATS,L=Los Angeles,ST=CA,C=US", permissions: { publish: "foo" }}
  ]
}
"#;

const SIMPLEST: &str = r#"
tls: {
  cert_file: "./server-cert.pem"
  key_file: "./server-key.pem"
}
"#;

const FIRST: &str = r#"
tls: {
  cert_file: "./server-cert.pem"
  key_file: "./server-key.pem"
  handshake_first: true
}
"#;

const AUTO: &str = r#"
tls: {
  cert_file: "./server-cert.pem"
  key_file: "./server-key.pem"
  handshake_first: auto
}
"#;

const TOO_SHORT: &str = r#"
tls: {
  cert_file: "./server-cert.pem"
  key_file: "./server-key.pem"
  # clients will fail to connect (value is too low)
  timeout: 0.0001
}
"#;

const PROXY: &str = "tls {}\nallow_non_tls: true\n";

/// The commands of the documentation, their program aside.
const TLS_FLAGS: &[&str] = &[
    "--tls",
    "--tlscert=./test/configs/certs/server-cert.pem",
    "--tlskey=./test/configs/certs/server-key.pem",
];
const VERIFY_FLAGS: &[&str] = &[
    "--tlsverify",
    "--tlscert=./test/configs/certs/server-cert.pem",
    "--tlskey=./test/configs/certs/server-key.pem",
    "--tlscacert=./test/configs/certs/ca.pem",
];
const SHORT_FLAGS: &[&str] = &[
    "--tls",
    "--tlscert=./server-cert.pem",
    "--tlskey=./server-key.pem",
];

/// A server that runs where the files are that the documentation names.
struct Documented {
    server: Server,
    _folder: ScratchDir,
}

fn start(program: &Path, conf: &str, flags: &[&str]) -> Documented {
    let folder = ScratchDir::new();
    let names = [
        ("server-cert.pem", "server-cert.pem"),
        ("server-key.pem", "server-key.pem"),
        ("server-rsa-cert.pem", "server.pem"),
        ("server-rsa-key.pem", "key.pem"),
        ("ca.pem", "ca.pem"),
    ];
    for place in [".", "configs/certs", "test/configs/certs"] {
        let place = folder.path().join(place);
        std::fs::create_dir_all(&place).expect("the directory is writable");
        for (ours, theirs) in names {
            let copied = std::fs::copy(format!("certs/{ours}"), place.join(theirs));
            copied.expect("a certificate of ours");
        }
    }
    let start = Start::new(program)
        .conf(conf)
        .arg("-D")
        .folder(folder.path());
    let started = flags
        .iter()
        .fold(start, |start, flag| start.arg(flag))
        .run();
    let server = started.unwrap_or_else(|why| panic!("{conf}: {why}"));
    Documented {
        server,
        _folder: folder,
    }
}

/// How often a client may try before it must have been kept out.
fn tries(program: &Path, conf: &str) -> usize {
    if conf == TOO_SHORT {
        support::tries_in_a_time_too_short(program)
    } else {
        1
    }
}

/// Accepts one connection, and carries it on to `server` without the line that the server begins with: `s_client` does
/// not know that line.
fn without_info(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (near, _) = listener.accept().expect("s_client connects");
        let far = TcpStream::connect(server).expect("the server accepts");
        let mut byte = [0];
        while (&far).read(&mut byte).is_ok_and(|len| len == 1) && byte != *b"\n" {}
        let pump = |from: &TcpStream, to: &TcpStream| {
            let (mut from, mut to) = (from, to);
            // Ends with the connection, whichever way that goes.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        };
        thread::scope(|scope| {
            scope.spawn(|| pump(&near, &far));
            pump(&far, &near);
        });
    });
    address
}

/// What `s_client` makes of a server: all that the server said, up to `wanted`, or all that was said.
fn s_client(address: SocketAddr, flags: &[&str], wanted: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-connect"]);
    command
        .arg(address.to_string())
        .args(["-CAfile", "certs/ca.pem"])
        .args(flags);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().expect("openssl is installed");
    let mut input = process.stdin.take().expect("it is piped");
    // It may have ended already, which shows below.
    let _ = input.write_all(b"CONNECT {\"verbose\":false}\r\nPUB bar 0\r\n\r\nPING\r\n");
    let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
    let (mut said, mut line) = (String::new(), String::new());
    while !said.contains(wanted) && output.read_line(&mut line).is_ok_and(|len| len > 0) {
        said.push_str(&line);
        line.clear();
    }
    // It waits for more unless it is told to end.
    let _ = process.kill();
    let mut complaints = String::new();
    if let Some(mut errors) = process.stderr.take() {
        let _ = errors.read_to_string(&mut complaints);
    }
    let _ = process.wait();
    said + &complaints
}

fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output();
    let is_there = found.is_ok_and(|output| output.status.success());
    if !is_there {
        support::say_left_out("openssl is not installed");
    }
    is_there
}

const DEREK: &[&str] = &[
    "-cert",
    "certs/client-email-cert.pem",
    "-key",
    "certs/client-email-key.pem",
];
const LOCALHOST: &[&str] = &[
    "-cert",
    "certs/client-dn-cert.pem",
    "-key",
    "certs/client-dn-key.pem",
];

#[test]
fn s_client_connects_as_documented() {
    if !has_openssl() {
        return;
    }
    let pong = "PONG";
    let mapped = |users: &str| format!("{VERIFY_AND_MAP}{users}");
    let refused = "Permissions Violation for Publish to \"bar\"";
    let unauthorized = "Authorization Violation";
    let (by_email, by_name) = (mapped(BY_EMAIL), mapped(BY_NAME));
    let cases: &[(&str, &[&str], &[&str], &str)] = &[
        (
            SIMPLE,
            &[],
            &["-verify_hostname", "localhost"],
            unauthorized,
        ),
        (SIMPLE, &[], &["-verify_ip", "127.0.0.1"], unauthorized),
        (SUITES, &[], &["-tls1_2"], pong),
        (SUITES, &[], &["-tls1_3"], pong),
        (VERIFY, &[], DEREK, pong),
        (&by_email, &[], DEREK, refused),
        (&by_name, &[], LOCALHOST, refused),
        (&by_email, &[], LOCALHOST, unauthorized),
        (SIMPLEST, &[], &["-tls1_2"], pong),
        (SIMPLEST, &[], &["-tls1_3"], pong),
        (AUTO, &[], &[], pong),
        ("", TLS_FLAGS, &[], pong),
        ("", VERIFY_FLAGS, DEREK, pong),
        ("", SHORT_FLAGS, &[], pong),
    ];
    for program in programs() {
        for (conf, flags, client, wanted) in cases {
            let documented = start(&program, conf, flags);
            let address = without_info(documented.server.address());
            let said = s_client(address, client, wanted);
            assert!(said.contains(wanted), "{conf} {flags:?} {client:?}: {said}");
        }
        // The handshake comes first: nothing has to be taken away.
        for conf in [FIRST, AUTO] {
            let documented = start(&program, conf, &[]);
            let said = s_client(documented.server.address(), &[], pong);
            assert!(
                said.contains("INFO ") && said.contains(pong),
                "{conf}: {said}"
            );
        }
    }
}

#[test]
fn s_client_is_kept_out_as_documented() {
    if !has_openssl() {
        return;
    }
    let pong = "PONG";
    let cases: &[(&str, &[&str], &[&str])] = &[
        (TOO_SHORT, &[], &[]),
        (VERIFY, &[], &[]),
        ("", VERIFY_FLAGS, &[]),
        (SIMPLEST, &[], &["-verify_hostname", "example.com"]),
        (SIMPLEST, &[], &["-no-CAfile", "-CAfile", "certs/ca2.pem"]),
        (
            SUITES,
            &[],
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
        ),
        (SIMPLEST, &[], &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        (PROXY, &[], &[]),
    ];
    for program in programs() {
        for (conf, flags, client) in cases {
            let documented = start(&program, conf, flags);
            let is_kept_out = (0..tries(&program, conf)).any(|_| {
                let address = without_info(documented.server.address());
                !s_client(address, client, pong).contains(pong)
            });
            let program = program.display();
            assert!(is_kept_out, "{program}: {conf} {flags:?} {client:?}");
        }
    }
}

/// Connects the official client, and has a message come back to it.
fn round_trip(options: ConnectOptions, url: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let trip = async {
        let client = options
            .connect(url)
            .await
            .map_err(|error| error.to_string())?;
        let subscribed = client.subscribe("there.and.back").await;
        let mut subscriber = subscribed.map_err(|error| error.to_string())?;
        let payload = vec![b'x'; 300_000];
        let published = client
            .publish("there.and.back", payload.clone().into())
            .await;
        published.map_err(|error| error.to_string())?;
        let message = subscriber.next().await.ok_or("the connection ended")?;
        assert_eq!(message.payload, payload);
        Ok(())
    };
    runtime.block_on(async {
        let done = tokio::time::timeout(Duration::from_secs(60), trip).await;
        done.unwrap_or_else(|_| Err("not done in time".into()))
    })
}

/// Options of the client, which it takes for itself at each connection.
type MakeOptions = fn() -> ConnectOptions;

fn client() -> ConnectOptions {
    ConnectOptions::new()
        .require_tls(true)
        .add_root_certificates("certs/ca.pem".into())
}

fn with_certificate(name: &str) -> ConnectOptions {
    client().add_client_certificate(
        format!("certs/{name}-cert.pem").into(),
        format!("certs/{name}-key.pem").into(),
    )
}

fn url(documented: &Documented, host: &str) -> String {
    format!("tls://{host}:{}", documented.server.address().port())
}

#[test]
fn the_official_client_connects_as_documented() {
    for program in programs() {
        let mapped = format!(
            "{VERIFY_AND_MAP}{}",
            BY_EMAIL.replace("\"foo\"", "\"there.>\"")
        );
        for (conf, flags, options) in [
            (SIMPLEST, &[][..], client()),
            (SUITES, &[], client()),
            (VERIFY, &[], with_certificate("client-dn")),
            (&mapped, &[], with_certificate("client-email")),
            (FIRST, &[], client().tls_first()),
            (AUTO, &[], client().tls_first()),
            (AUTO, &[], client()),
            (PROXY, &[], ConnectOptions::new()),
            ("", TLS_FLAGS, client()),
            ("", VERIFY_FLAGS, with_certificate("client-dn")),
        ] {
            let documented = start(&program, conf, flags);
            let scheme = if conf == PROXY { "nats" } else { "tls" };
            let url = url(&documented, "localhost").replace("tls", scheme);
            let outcome = round_trip(options, &url);
            assert_eq!(
                outcome,
                Ok(()),
                "{conf} {flags:?}: {}",
                documented.server.log()
            );
        }
    }
}

#[test]
fn the_official_client_is_kept_out_as_documented() {
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/server-noip");
    let certs = certs.display();
    let no_address =
        format!("tls {{ cert_file: \"{certs}-cert.pem\", key_file: \"{certs}-key.pem\" }}");
    for program in programs() {
        let cases: [(&str, MakeOptions, &str); 5] = [
            (TOO_SHORT, client, "localhost"),
            (VERIFY, client, "localhost"),
            (VERIFY, || with_certificate("client-other-ca"), "localhost"),
            (
                SIMPLEST,
                || {
                    ConnectOptions::new()
                        .require_tls(true)
                        .add_root_certificates("certs/ca2.pem".into())
                },
                "localhost",
            ),
            (&no_address, client, "127.0.0.1"),
        ];
        for (conf, options, host) in cases {
            let documented = start(&program, conf, &[]);
            let url = url(&documented, host);
            let is_kept_out =
                (0..tries(&program, conf)).any(|_| round_trip(options(), &url).is_err());
            assert!(is_kept_out, "{}: {conf}", program.display());
        }
    }
}
