//! TLS as clients and operators meet it: raw connections to a server that was started with a `tls` block or flags.
//!
//! What midge does on purpose otherwise than the reference server is asked of midge alone.

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::connection::Connection;
use support::server::{Process, Server, Start};
use support::tls::{TLS12, TLS13, Tls};
use support::{ScratchDir, midge, programs, start};

/// The example of the documentation, with files of ours.
const SIMPLE: &str = r#"
tls {
  cert_file: "./certs/server-cert.pem"
  key_file: "./certs/server-key.pem"
  timeout: 2
}
"#;

/// A `tls` block with a certificate, its authority, and these lines more.
fn block(name: &str, more: &str) -> String {
    format!(
        "tls {{ cert_file: \"certs/{name}-cert.pem\", key_file: \"certs/{name}-key.pem\"\n\
         ca_file: \"certs/ca.pem\"\n{more} }}\n"
    )
}

/// A connection that took INFO in clear and goes on with TLS.
fn upgraded(server: &Server, tls: &Tls) -> std::io::Result<Connection> {
    let mut connection = server.connect();
    connection.expect_info();
    connection.upgrade(tls)?;
    Ok(connection)
}

/// Sends CONNECT and PING; the server must take it.
fn is_let_in(connection: &mut Connection) {
    connection.send(b"CONNECT {\"verbose\":false}\r\n");
    connection.ping();
}

/// Tries to connect and sends a CONNECT.
///
/// # Errors
///
/// What came instead, unless the server has ended the connection, or ends it then, without taking that.
fn kept_out(server: &Server, tls: &Tls) -> Result<(), String> {
    let Ok(mut connection) = upgraded(server, tls) else {
        return Ok(());
    };
    connection.send(b"CONNECT {\"verbose\":false}\r\nPING\r\n");
    connection.take_end()
}

fn is_kept_out(server: &Server, tls: &Tls) {
    if let Err(why) = kept_out(server, tls) {
        panic!("{why}");
    }
}

fn logged(server: &mut Server, text: &str) {
    let seen = server.process().wait_for_log(|log| log.contains(text));
    if let Err(log) = seen {
        panic!("{text:?} is not in {log}");
    }
}

/// Publishes through one connection what another one, which may be plain, must get.
fn carries(publisher: &mut Connection, subscriber: &mut Connection, payload: &[u8]) {
    subscriber.send(b"SUB through.tls 1\r\n");
    subscriber.ping();
    let line = |verb: &str, sid: &str| {
        let head = format!("{verb} through.tls{sid} {}\r\n", payload.len());
        [head.as_bytes(), payload, b"\r\n"].concat()
    };
    publisher.send(&line("PUB", ""));
    subscriber.expect(&line("MSG", " 1"));
    subscriber.send(b"UNSUB 1\r\n");
    subscriber.ping();
}

#[test]
fn clients_upgrade_after_info_and_talk() {
    for program in programs() {
        for versions in [&TLS12, &TLS13] {
            let mut server = start(&program, SIMPLE);
            let tls = Tls::new().speaking(versions);
            let mut one = server.connect();
            let info = one.expect_info();
            assert_eq!(info["tls_required"], true);
            assert!(info.get("tls_verify").is_none() && info.get("tls_available").is_none());
            one.upgrade(&tls).unwrap();
            is_let_in(&mut one);
            let mut two = upgraded(&server, &tls).unwrap();
            is_let_in(&mut two);
            for size in [0u32, 16, 1000, 20_000, 1_000_000] {
                let payload: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
                carries(&mut one, &mut two, &payload);
                carries(&mut two, &mut one, &payload);
            }
            logged(&mut server, "TLS required for client connections");
            logged(&mut server, " - Starting TLS client connection handshake");
            logged(&mut server, " - TLS handshake complete");
            let number = if versions[0].version == rustls::ProtocolVersion::TLSv1_2 {
                "2"
            } else {
                "3"
            };
            logged(
                &mut server,
                &format!(" - TLS version 1.{number}, cipher suite TLS_"),
            );
        }
    }
}

#[test]
fn plain_clients_are_closed_without_a_word() {
    for program in programs() {
        let mut server = start(&program, SIMPLE);
        let mut plain = server.client("");
        plain.expect_eof();
        logged(
            &mut server,
            "first record does not look like a TLS handshake",
        );
        logged(
            &mut server,
            "Client connection closed: TLS Handshake Failure",
        );
    }
}

#[test]
fn silence_is_ended_by_the_timeout_and_one_too_short_ends_all() {
    for program in programs() {
        let mut server = start(&program, &SIMPLE.replace("timeout: 2", "timeout: 0.2"));
        let mut silent = server.connect();
        silent.expect_info();
        // The start of a record, and nothing more.
        silent.send(b"\x16\x03\x01\x01");
        silent.expect_eof();
        logged(&mut server, "TLS handshake");
        let server = start(&program, &SIMPLE.replace("timeout: 2", "timeout: 0.0001"));
        let mut tries = 0..support::tries_in_a_time_too_short(&program);
        assert!(tries.any(|_| kept_out(&server, &Tls::new()).is_ok()));
    }
}

#[test]
fn names_and_authorities_are_checked_by_the_client() {
    for program in programs() {
        let mut server = start(&program, &block("server-noip", ""));
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
        let wrong_name = upgraded(&server, &Tls::new().calling("127.0.0.1"));
        assert!(
            wrong_name
                .unwrap_err()
                .to_string()
                .contains("not valid for name")
        );
        logged(&mut server, "TLS handshake error: remote error: tls: ");
        let wrong_authority = upgraded(&server, &Tls::new().trusting("ca2"));
        assert!(
            wrong_authority
                .unwrap_err()
                .to_string()
                .contains("UnknownIssuer")
        );
        let server = start(&program, &block("server-chain", ""));
        is_let_in(&mut upgraded(&server, &Tls::new().trusting("bundle")).unwrap());
    }
}

#[test]
fn keys_of_every_format_are_taken() {
    for program in programs() {
        for (certificate, key) in [
            ("server-p384", "server-p384"),
            ("server-rsa", "server-rsa"),
            ("server-rsa", "server-rsa-pkcs1"),
            ("server", "server-sec1"),
            ("server-ed25519", "server-ed25519"),
        ] {
            let conf = format!(
                "tls {{ cert_file: certs/{certificate}-cert.pem, key_file: certs/{key}-key.pem }}"
            );
            is_let_in(&mut upgraded(&start(&program, &conf), &Tls::new()).unwrap());
        }
    }
}

#[test]
fn certificates_of_clients_are_verified() {
    let conf = block("server", "verify: true");
    for program in programs() {
        let mut server = start(&program, &conf);
        let mut connection = server.connect();
        assert_eq!(connection.expect_info()["tls_verify"], true);
        for good in ["client-email", "client-chain", "client-noeku"] {
            is_let_in(&mut upgraded(&server, &Tls::new().showing(good)).unwrap());
        }
        is_kept_out(&server, &Tls::new());
        logged(&mut server, "tls: client didn't provide a certificate");
        for bad in ["client-other-ca", "client-nochain", "client-self"] {
            is_kept_out(&server, &Tls::new().showing(bad));
        }
        logged(&mut server, "x509: certificate signed by unknown authority");
        for bad in ["client-expired", "client-future"] {
            is_kept_out(&server, &Tls::new().showing(bad));
        }
        logged(
            &mut server,
            "x509: certificate has expired or is not yet valid",
        );
        is_kept_out(&server, &Tls::new().showing("client-serveronly"));
        logged(
            &mut server,
            "x509: certificate specifies an incompatible key usage",
        );
        let bundle = start(&program, &conf.replace("ca.pem", "bundle.pem"));
        is_let_in(&mut upgraded(&bundle, &Tls::new().showing("client-other-ca")).unwrap());
        is_let_in(&mut upgraded(&bundle, &Tls::new().showing("client-dn")).unwrap());
    }
}

#[test]
fn certificates_name_users() {
    let conf = |user: &str| {
        format!(
            "{}authorization {{ users = [ {{user: \"{user}\", permissions: {{publish: foo}}}} ] }}",
            block("server", "verify_and_map: true")
        )
    };
    for program in programs() {
        for (certificate, user, how) in [
            ("client-email", "derek@nats.io", "email found in cert"),
            ("client-dns", "app.nats.dev", "SAN found in cert"),
            (
                "client-uri",
                "spiffe://localhost/my-nats-service/user-a",
                "URI found in cert",
            ),
            (
                "client-dn",
                "CN=localhost,OU=NATS,O=NATS,L=Los Angeles,ST=CA,C=US",
                "DistinguishedNameMatch",
            ),
            (
                "client-dn",
                "C=US,ST=CA,L=Los Angeles,O=NATS,OU=NATS,CN=localhost",
                "DistinguishedNameMatch",
            ),
            (
                "client-dn-dc",
                "CN=John Doe,OU=Users+OU=Apps,DC=com,DC=example",
                "RDNSequence",
            ),
            (
                "client-dn-dc",
                "CN=John Doe,OU=Users+OU=Apps",
                "certificate subject",
            ),
            (
                "client-dn-email",
                "CN=with mail,O=NATS",
                "certificate subject",
            ),
        ] {
            let mut server = start(&program, &conf(user));
            let mut client = upgraded(&server, &Tls::new().showing(certificate)).unwrap();
            is_let_in(&mut client);
            client.send(b"PUB bar 0\r\n\r\n");
            client.expect(b"-ERR 'Permissions Violation for Publish to \"bar\"'\r\n");
            logged(&mut server, &format!("Using {how} for auth [\"{user}\"]"));
        }
        let mut server = start(&program, &conf("somebody"));
        for certificate in ["client-email", "client-dn"] {
            let mut client = upgraded(&server, &Tls::new().showing(certificate)).unwrap();
            // Neither name nor password help.
            client.send(b"CONNECT {\"verbose\":false,\"user\":\"somebody\",\"pass\":\"\"}\r\n");
            client.expect(b"-ERR 'Authorization Violation'\r\n");
            client.expect_eof();
        }
        logged(
            &mut server,
            "User in cert [\"CN=mail,O=midge tests\"], not found",
        );
        let mut server = start(&program, &conf("derek@nats.io"));
        let mut client = upgraded(&server, &Tls::new().showing("client-all")).unwrap();
        client.send(b"CONNECT {\"verbose\":false,\"user\":\"somebody\"}\r\n");
        client.ping();
        logged(
            &mut server,
            "User \"somebody\" found in connect proto, but user required from cert",
        );
    }
}

#[test]
fn a_mapped_user_with_a_password_needs_it_too() {
    let conf = format!(
        "{}authorization {{ users = [ {{user: \"derek@nats.io\", password: s3cret}} ] }}",
        block("server", "verify_and_map: true")
    );
    for program in programs() {
        let server = start(&program, &conf);
        for (pass, is_right) in [("s3cret", true), ("other", false), ("", false)] {
            let mut client = upgraded(&server, &Tls::new().showing("client-email")).unwrap();
            client
                .send(format!("CONNECT {{\"verbose\":false,\"pass\":\"{pass}\"}}\r\n").as_bytes());
            if is_right {
                client.ping();
            } else {
                client.expect(b"-ERR 'Authorization Violation'\r\n");
            }
        }
    }
}

#[test]
fn pinned_certificates_are_the_only_ones() {
    let pin = "client-email";
    let key_id = key_id(pin);
    let conf = block(
        "server",
        &format!(
            "verify: true, pinned_certs: [\"{}\"]",
            key_id.to_uppercase()
        ),
    );
    for program in programs() {
        let mut server = start(&program, &conf);
        is_let_in(&mut upgraded(&server, &Tls::new().showing(pin)).unwrap());
        is_kept_out(&server, &Tls::new().showing("client-dns"));
        logged(&mut server, "Failed pinned cert test for key id: ");
        logged(&mut server, "TLS handshake error: certificate not pinned");
    }
}

fn key_id(name: &str) -> String {
    let text = std::fs::read(format!("certs/{name}-cert.pem")).expect("a certificate of ours");
    let der = rustls_pemfile::certs(&mut text.as_slice())
        .next()
        .expect("a certificate of ours")
        .expect("a certificate of ours");
    midge::certificate::Certificate::parse(&der)
        .expect("a certificate of ours")
        .key_id
}

#[test]
fn a_handshake_may_come_before_info() {
    for program in programs() {
        let mut server = start(&program, &block("server", "handshake_first: true"));
        logged(
            &mut server,
            "Clients that are not using \"TLS Handshake First\" option will fail to connect",
        );
        let mut first = server.connect();
        first.upgrade(&Tls::new()).unwrap();
        assert_eq!(first.expect_info()["tls_required"], true);
        is_let_in(&mut first);
        let mut plain = server.connect();
        plain.send(b"CONNECT {}\r\n");
        plain.expect_eof();
        // With a fall-back, both kinds of clients come in.
        let server = start(&program, &block("server", "handshake_first: \"300ms\""));
        let mut first = server.connect();
        first.upgrade(&Tls::new()).unwrap();
        first.expect_info();
        is_let_in(&mut first);
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
        let server = start(&program, &block("server", "handshake_first: auto"));
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
    }
}

#[test]
fn clients_may_do_without_where_that_is_allowed() {
    for program in programs() {
        let mut server = start(&program, &format!("{SIMPLE}\nallow_non_tls: true"));
        logged(&mut server, "TLS available for client connections");
        let mut plain = server.connect();
        let info = plain.expect_info();
        assert_eq!(info["tls_available"], true);
        assert!(info.get("tls_required").is_none());
        is_let_in(&mut plain);
        let mut secure = upgraded(&server, &Tls::new()).unwrap();
        is_let_in(&mut secure);
        carries(&mut plain, &mut secure, b"to TLS");
        carries(&mut secure, &mut plain, b"from TLS");
        // Behind a proxy that does TLS.
        let mut server = start(&program, "tls {}\nallow_non_tls: true");
        let mut plain = server.connect();
        assert_eq!(plain.expect_info()["tls_available"], true);
        is_let_in(&mut plain);
        assert!(upgraded(&server, &Tls::new()).is_err());
        logged(
            &mut server,
            "TLS handshake error: tls: no certificates configured",
        );
        let server = start(
            &program,
            &format!(
                "{}allow_non_tls: true",
                block("server", "handshake_first: auto")
            ),
        );
        let mut first = server.connect();
        first.upgrade(&Tls::new()).unwrap();
        assert_eq!(first.expect_info()["tls_required"], true);
        let mut late = server.connect();
        assert_eq!(late.expect_info()["tls_available"], true);
        is_let_in(&mut late);
    }
}

#[test]
fn an_empty_block_alone_lets_nobody_in_and_is_refused() {
    let why = Start::new(&midge()).conf("tls {}").run().unwrap_err();
    assert!(
        why.contains("a tls block without a certificate lets no client in"),
        "{why}"
    );
}

#[test]
fn old_versions_are_refused() {
    for program in programs() {
        let mut server = start(&program, &block("server", "min_version: \"1.3\""));
        let old = Tls::new().speaking(&TLS12);
        assert!(upgraded(&server, &old).is_err());
        logged(&mut server, "tls: client offered only unsupported versions");
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
    }
}

#[test]
fn cipher_suites_and_curves_restrict() {
    for program in programs() {
        let suites = "cipher_suites: [\"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\", \
                      \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]";
        let mut server = start(&program, &block("server-rsa", suites));
        let old = Tls::new().speaking(&TLS12);
        is_let_in(&mut upgraded(&server, &old).unwrap());
        logged(
            &mut server,
            "TLS version 1.2, cipher suite TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        );
        // Those of TLS 1.3 are always there.
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
        logged(&mut server, "TLS version 1.3, cipher suite TLS_");
        let server = start(
            &program,
            &block("server", "curve_preferences: [\"CurveP384\"]"),
        );
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
    }
}

#[test]
fn handshakes_a_second_are_limited() {
    for program in programs() {
        let mut server = start(&program, &block("server", "connection_rate_limit: 2"));
        let rejected = support::wait_for(|| {
            let mut connection = server.connect();
            connection.expect_info();
            connection.upgrade(&Tls::new()).is_err().then_some(())
        });
        assert!(rejected.is_some());
        logged(&mut server, "connections due to TLS rate limiting");
    }
}

#[test]
fn flags_turn_tls_on() {
    let files = [
        "--tlscert=./certs/server-cert.pem",
        "--tlskey=./certs/server-key.pem",
    ];
    for program in programs() {
        let start = |flags: &[&str]| {
            let flags = flags.iter().chain(&files);
            flags
                .fold(Start::new(&program).arg("-D"), |start, flag| {
                    start.arg(flag)
                })
                .run()
        };
        let mut server = start(&["--tls"]).unwrap();
        logged(&mut server, "TLS required for client connections");
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
        let server = start(&["--tlsverify", "--tlscacert=./certs/ca.pem"]).unwrap();
        is_let_in(&mut upgraded(&server, &Tls::new().showing("client-dn")).unwrap());
        is_kept_out(&server, &Tls::new());
    }
    let missing = Start::new(&midge()).arg("--tls").run().unwrap_err();
    assert!(
        missing.contains("TLS Server certificate must be present and valid"),
        "{missing}"
    );
}

#[test]
fn files_that_cannot_be_used_are_named() {
    for program in programs() {
        for (certificate, key, expected) in [
            (
                "none",
                "server-key",
                "certs/none.pem: no such file or directory",
            ),
            (
                "server-cert",
                "none",
                "certs/none.pem: no such file or directory",
            ),
            (
                "server-cert",
                "server2-key",
                "tls: private key does not match public key",
            ),
            (
                "server-cert",
                "server-cert",
                "tls: found a certificate rather than a key in the PEM for the private key",
            ),
            (
                "server-key",
                "server-key",
                "tls: failed to find certificate PEM data in certificate input, but did find a private key",
            ),
            (
                "server-cert",
                "server-encrypted-key",
                "tls: failed to parse private key: ",
            ),
        ] {
            let conf =
                format!("tls {{ cert_file: certs/{certificate}.pem, key_file: certs/{key}.pem }}");
            let why = Start::new(&program).conf(&conf).run().unwrap_err();
            assert!(why.contains(expected), "{why}");
            assert!(
                why.contains("error parsing X509 certificate/key pair"),
                "{why}"
            );
        }
        for (authorities, expected) in [
            (
                "certs/server-key.pem",
                "failed to parse root ca certificate",
            ),
            (
                "certs/none.pem",
                "open certs/none.pem: no such file or directory",
            ),
        ] {
            // Whether or not anybody is asked for a certificate.
            for more in ["verify: true", ""] {
                let conf = block("server", more).replace("certs/ca.pem", authorities);
                let why = Start::new(&program).conf(&conf).run().unwrap_err();
                assert!(why.contains(expected), "{why}");
            }
        }
    }
}

#[test]
fn the_bad_files_of_every_block_are_told() {
    let dir = ScratchDir::new();
    let file = dir.path().join("c.conf");
    let block = |name: &str| format!("tls {{ cert_file: \"{name}.pem\", key_file: \"k.pem\" }}");
    let conf = format!(
        "{}\nhttps_port: -1\ncluster {{ port: -1\n  {} }}\n",
        block("a"),
        block("b")
    );
    std::fs::write(&file, conf).unwrap();
    let file = file.to_str().unwrap();
    let expected = |line: &str, name: &str| {
        let pair = "error parsing X509 certificate/key pair";
        format!("{file}:{line}: {pair}: open {name}.pem: no such file or directory")
    };
    let [first, second] = [expected("1:0", "a"), expected("4:3", "b")];
    let run = |check: &[&str]| {
        let mut command = std::process::Command::new(midge());
        command.args(check).args(["-c", file]);
        let mut process = Process::spawn(command).unwrap();
        assert_eq!(process.wait().code(), Some(1));
        process.log()
    };
    assert_eq!(run(&["-t"]), format!("midge: {first}\n{second}\n"));
    let log = run(&[]);
    for line in [first, second] {
        assert!(log.contains(&format!("[FTL] {line}\n")), "{log}");
    }
}

#[test]
fn a_reload_takes_renewed_certificates_and_keeps_the_old_ones_for_broken_ones() {
    for program in programs() {
        let dir = ScratchDir::new();
        let file = |name: &str| dir.path().join(name);
        let install = |name: &str| {
            for kind in ["cert", "key"] {
                std::fs::copy(format!("certs/{name}-{kind}.pem"), file(kind)).unwrap();
            }
        };
        let conf = format!(
            "tls {{ cert_file: {:?}, key_file: {:?} }}\n",
            file("cert"),
            file("key")
        );
        install("server-other-ca");
        let mut server = start(&program, &conf);
        let mut old = upgraded(&server, &Tls::new().trusting("ca2")).unwrap();
        is_let_in(&mut old);
        install("server2");
        server.reload(&conf).unwrap();
        logged(&mut server, "Reloaded: tls = enabled");
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
        // Who is in stays in.
        old.ping();
        std::fs::write(file("cert"), "nothing").unwrap();
        server
            .reload_until(&conf, "[ERR] Failed to reload server configuration")
            .unwrap();
        is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
    }
}

#[test]
fn files_are_watched_where_that_is_wanted() {
    let dir = ScratchDir::new();
    let file = |name: &str| dir.path().join(name);
    let install = |name: &str| {
        for kind in ["key", "cert"] {
            std::fs::copy(format!("certs/{name}-{kind}.pem"), file(kind)).unwrap();
        }
    };
    let conf = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, watch: 50ms }}\n",
        file("cert"),
        file("key")
    );
    install("server-other-ca");
    let mut server = start(&midge(), &conf);
    is_let_in(&mut upgraded(&server, &Tls::new().trusting("ca2")).unwrap());
    std::fs::write(file("cert"), "nothing").unwrap();
    logged(
        &mut server,
        "[ERR] TLS files have changed and cannot be used",
    );
    is_let_in(&mut upgraded(&server, &Tls::new().trusting("ca2")).unwrap());
    install("server2");
    logged(&mut server, "[INF] TLS files have changed and are in use");
    is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
}

#[test]
fn a_reload_makes_those_who_watch_look_sooner() {
    let dir = ScratchDir::new();
    let file = |name: &str| dir.path().join(name);
    let install = |name: &str| {
        for kind in ["key", "cert"] {
            std::fs::copy(format!("certs/{name}-{kind}.pem"), file(kind)).unwrap();
        }
    };
    let conf = |watch: &str| {
        let [cert, key] = ["cert", "key"].map(file);
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, watch: {watch} }}\n")
    };
    install("server-other-ca");
    let mut server = start(&midge(), &conf("24h"));
    server.reload(&conf("50ms")).unwrap();
    install("server2");
    logged(&mut server, "[INF] TLS files have changed and are in use");
    is_let_in(&mut upgraded(&server, &Tls::new()).unwrap());
}

#[test]
fn data_right_behind_the_handshake_is_not_lost() {
    for program in programs() {
        let server = start(&program, SIMPLE);
        let mut connection = server.connect();
        connection.expect_info();
        let mut tls = Tls::new().session();
        let mut socket = connection.stream();
        // What a client writes before the handshake is done goes out with the last message of it.
        tls.writer()
            .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
            .unwrap();
        socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
        let mut answer = [0; 6];
        rustls::Stream::new(&mut tls, &mut socket)
            .read_exact(&mut answer)
            .unwrap();
        assert_eq!(&answer, b"PONG\r\n");
    }
}

#[test]
fn half_closed_connections_get_what_is_queued() {
    for program in programs() {
        let server = start(&program, SIMPLE);
        let mut connection = upgraded(&server, &Tls::new()).unwrap();
        is_let_in(&mut connection);
        // The end of the TCP stream without a notice is an end too.
        connection.finish_sending();
        connection.expect_eof();
    }
}

/// Ends with what the program said, if it does not end well: for configurations that must be refused.
fn refused(conf: &str) -> String {
    let dir = ScratchDir::new();
    let path = dir.path().join("server.conf");
    std::fs::write(&path, conf).expect("the directory is writable");
    let mut command = std::process::Command::new(midge());
    command.arg("-t").arg("-c").arg(path);
    let mut process = Process::spawn(command).expect("the directory is writable");
    let status = process.wait();
    assert!(!status.success(), "it is taken: {conf}");
    process.log()
}

#[test]
fn what_cannot_be_had_is_refused_with_what_can() {
    for (more, expected) in [
        (
            "cipher_suites: [\"TLS_NONE\"]",
            "unrecognized cipher TLS_NONE",
        ),
        (
            "cipher_suites: [\"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA\"]",
            "cipher suite TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not supported by this server; it has \
             TLS_AES_128_GCM_SHA256",
        ),
        (
            "curve_preferences: [\"P256\"]",
            "unrecognized curve preference P256",
        ),
        (
            "curve_preferences: [\"CurveP521\"]",
            "curve preference CurveP521 is not supported by this server; it has X25519, CurveP256, CurveP384",
        ),
    ] {
        let why = refused(&block("server", more));
        assert!(why.contains(expected), "{why}");
    }
    let users = "authorization { users = [ {user: \"CN=a,OU=b\"}, {user: \"OU=b,CN=a\"} ] }";
    let why = refused(&format!(
        "{}{users}",
        block("server", "verify_and_map: true")
    ));
    assert!(
        why.contains("a certificate could be that of both users"),
        "{why}"
    );
    let why = refused(&block("none", ""));
    assert!(
        why.contains("certs/none-cert.pem: no such file or directory"),
        "{why}"
    );
}

#[test]
fn hostile_handshakes_are_ended_and_harm_nobody() {
    let mut server = start(&midge(), &SIMPLE.replace("timeout: 2", "timeout: 10"));
    let mut good = upgraded(&server, &Tls::new()).unwrap();
    is_let_in(&mut good);
    for (what, bytes) in [
        ("HTTP", &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..]),
        ("garbage", &[0xff; 4096]),
        (
            "a record that is too long",
            &[0x16, 3, 1, 0xff, 0xff, 0, 0, 0, 0],
        ),
        ("an alert", &[0x15, 3, 1, 0, 2, 2, 40]),
        ("application data", &[0x17, 3, 3, 0, 1, 0]),
        ("an empty handshake record", &[0x16, 3, 1, 0, 0]),
    ] {
        let mut hostile = server.connect();
        hostile.expect_info();
        hostile.send(bytes);
        hostile.finish_sending();
        let deadline = Instant::now() + support::DEADLINE;
        let mut rest = Vec::new();
        let mut stream = hostile.stream();
        stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
        // An alert may come, then the end; a reset is one too.
        let _ = stream.read_to_end(&mut rest);
        assert!(
            rest.len() < 100 && Instant::now() < deadline,
            "{what}: {rest:?}"
        );
        good.ping();
    }
    // A message of a handshake that never ends costs no more than a bounded amount.
    let mut endless = server.connect();
    endless.expect_info();
    let mut hello = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    hello.resize(5 + 0x4000, 0);
    let mut more = vec![0x16, 3, 1, 0x40, 0];
    more.resize(5 + 0x4000, 0);
    endless.send(&hello);
    for _ in 0..8 {
        endless.send(&more);
    }
    let mut rest = Vec::new();
    let _ = endless.stream().read_to_end(&mut rest);
    good.ping();
    logged(&mut server, "TLS handshake error");
}

#[test]
fn a_thousand_half_open_handshakes_are_ended_by_the_timeout() {
    const COUNT: usize = 1000;
    if let Err(why) = support::raise_descriptor_limit(COUNT) {
        return support::say_left_out(&why);
    }
    let mut server = start(&midge(), &SIMPLE.replace("timeout: 2", "timeout: 15"));
    let mut good = upgraded(&server, &Tls::new()).unwrap();
    is_let_in(&mut good);
    let before = server.process().resident_kib();
    let start = Instant::now();
    let mut hostile: Vec<Connection> = (0..COUNT).map(|_| server.connect()).collect();
    for connection in &mut hostile {
        connection.expect_info();
        connection.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    }
    good.ping();
    let during = server.process().resident_kib();
    let each = during.saturating_sub(before) * 1024 / COUNT as u64;
    assert!(each < 10 * 1024, "each costs {each} bytes");
    for connection in &mut hostile {
        connection.expect_eof();
    }
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "they were waited for"
    );
    good.ping();
}

#[test]
fn an_idle_session_takes_little_memory() {
    const COUNT: usize = 500;
    const MOST: u64 = 10 * 1024;
    if let Err(why) = support::raise_descriptor_limit(COUNT) {
        return support::say_left_out(&why);
    }
    let mut server = start(&midge(), SIMPLE);
    let connect = |server: &Server| {
        let mut connection = upgraded(server, &Tls::new()).unwrap();
        is_let_in(&mut connection);
        connection.send(b"SUB idle 1\r\n");
        connection.ping();
        connection
    };
    // What the first ones need is there for all.
    let _first: Vec<_> = (0..50).map(|_| connect(&server)).collect();
    let before = server.process().resident_kib();
    let _idle: Vec<_> = (0..COUNT).map(|_| connect(&server)).collect();
    // Buffers of a busy time go back within a second or so.
    let settled = support::wait_for(|| {
        let more = server.process().resident_kib().saturating_sub(before);
        (more * 1024 / COUNT as u64 <= MOST).then_some(())
    });
    let after = server.process().resident_kib();
    assert!(
        settled.is_some(),
        "{before} KiB before, {after} KiB with {COUNT} sessions more"
    );
}

#[test]
fn sessions_are_resumed_until_a_reload() {
    for program in programs() {
        let conf = block("server", "verify: true");
        let mut server = start(&program, &conf);
        let config = std::sync::Arc::new(Tls::new().showing("client-email").config());
        let kind = |server: &Server| {
            let mut connection = server.connect();
            connection.expect_info();
            let name = "localhost".try_into().unwrap();
            let mut tls =
                rustls::ClientConnection::new(std::sync::Arc::clone(&config), name).unwrap();
            let mut socket = connection.stream();
            socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            stream
                .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
                .unwrap();
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"PONG\r\n");
            tls.handshake_kind()
        };
        assert_eq!(kind(&server), Some(rustls::HandshakeKind::Full));
        assert_eq!(kind(&server), Some(rustls::HandshakeKind::Resumed));
        // Whoever an authority that has gone has let in must not come in again by a ticket.
        server
            .reload(&conf.replace("certs/ca.pem", "certs/bundle.pem"))
            .unwrap();
        assert_eq!(kind(&server), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn the_certificate_that_suits_the_name_is_shown() {
    let pair = |name: &str| {
        format!("{{ cert_file: \"certs/{name}-cert.pem\", key_file: \"certs/{name}-key.pem\" }}")
    };
    let conf = format!(
        "tls {{ certs: [ {}, {} ] }}",
        pair("server-wildcard"),
        pair("server")
    );
    for program in programs() {
        let server = start(&program, &conf);
        for host in ["localhost", "a.example.com", "example.com"] {
            is_let_in(&mut upgraded(&server, &Tls::new().calling(host)).unwrap());
        }
        let conf = conf.replace("server-key", "server2-key");
        let why = Start::new(&program).conf(&conf).run().unwrap_err();
        assert!(
            why.contains("error parsing X509 certificate/key pair 2/2: "),
            "{why}"
        );
    }
}

#[test]
fn without_a_ca_file_the_authorities_of_the_system_count() {
    let conf = block("server", "verify: true").replace("ca_file: \"certs/ca.pem\"", "");
    for program in programs() {
        let start = Start::new(&program).conf(&conf);
        let server = start
            .variable("SSL_CERT_FILE", "certs/ca2.pem")
            .run()
            .unwrap();
        is_let_in(&mut upgraded(&server, &Tls::new().showing("client-other-ca")).unwrap());
        is_kept_out(&server, &Tls::new().showing("client-email"));
    }
}

#[test]
fn new_pins_close_those_who_have_others() {
    let pinned = |name: &str| {
        let pin = key_id(name);
        block(
            "server",
            &format!("verify: true, pinned_certs: [\"{pin}\"]"),
        )
    };
    for program in programs() {
        let mut server = start(&program, &block("server", "verify: true"));
        let connect = |server: &Server, name| {
            let mut client = upgraded(server, &Tls::new().showing(name)).unwrap();
            is_let_in(&mut client);
            client
        };
        let mut stays = connect(&server, "client-email");
        let mut goes = connect(&server, "client-dns");
        server.reload(&pinned("client-email")).unwrap();
        logged(&mut server, "Reloaded: 1 pinned_certs");
        logged(
            &mut server,
            "Disconnect 1 clients due to pinned certs reload",
        );
        goes.expect_eof();
        stays.ping();
    }
}

#[test]
fn a_trickle_of_bytes_does_not_extend_the_timeout() {
    for program in programs() {
        let server = start(&program, &SIMPLE.replace("timeout: 2", "timeout: 0.5"));
        let mut slow = server.connect();
        slow.expect_info();
        // A record of zeros, with a message that would take all of it.
        let mut record = [0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc].into_iter();
        let deadline = Instant::now() + support::DEADLINE;
        while !slow.is_over(Duration::from_millis(20)) {
            slow.send(&[record.next().unwrap_or(0)]);
            assert!(Instant::now() < deadline, "it is not ended");
        }
    }
}

#[test]
fn a_consumer_that_takes_nothing_is_a_slow_one_through_tls_too() {
    let conf = format!("{SIMPLE}\nmax_pending: 1mb, max_payload: 64kb, write_deadline: 300ms");
    for program in programs() {
        let mut server = start(&program, &conf);
        let mut slow = upgraded(&server, &Tls::new()).unwrap();
        is_let_in(&mut slow);
        slow.send(b"SUB flood 1\r\n");
        slow.ping();
        let mut publisher = upgraded(&server, &Tls::new()).unwrap();
        is_let_in(&mut publisher);
        let message = [b"PUB flood 60000\r\n".as_slice(), &[b'x'; 60_000], b"\r\n"].concat();
        let deadline = Instant::now() + support::DEADLINE;
        while !server.log().contains("Slow Consumer Detected") {
            publisher.send(&message);
            publisher.ping();
            assert!(Instant::now() < deadline, "nobody is a slow consumer");
        }
        logged(&mut server, "Client connection closed: Slow Consumer");
    }
}

#[test]
fn no_ping_comes_before_info() {
    let conf = block("server", "handshake_first: true") + "ping_interval: 50ms";
    let server = start(&midge(), &conf);
    let mut client = server.connect();
    client.keep_pings();
    // Longer than the interval, and nothing is said.
    client.take_nothing().unwrap();
    client.upgrade(&Tls::new()).unwrap();
    client.expect_info();
}

#[test]
fn clients_beside_verified_ones_are_warned_of() {
    let conf = format!("{}allow_non_tls: true", block("server", "verify: true"));
    let mut server = start(&midge(), &conf);
    logged(
        &mut server,
        "allow_non_tls beside verify: clients without TLS are let in",
    );
    is_let_in(&mut server.client(""));
}
