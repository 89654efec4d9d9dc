//! Tests of the transport: both sides of a TLS session over real sockets, and what can go wrong on the way.

use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::config::options::{CertFiles, TlsConfig};
use crate::net::tls::Listening;
use crate::s2::{Encoder, Packer};

/// Two ends of a connection, neither of which blocks.
fn pair() -> (Transport, Transport) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let plain = |socket: std::net::TcpStream| {
        socket.set_nonblocking(true).unwrap();
        Transport::plain(TcpStream::from_std(socket))
    };
    (plain(near), plain(far))
}

fn certificate(name: &str) -> TlsConfig {
    TlsConfig {
        certs: vec![CertFiles {
            cert_file: format!("certs/{name}-cert.pem").into(),
            key_file: format!("certs/{name}-key.pem").into(),
        }],
        ca_file: Some("certs/ca.pem".into()),
        ..TlsConfig::default()
    }
}

fn trusting(authority: &str) -> TlsConfig {
    TlsConfig {
        ca_file: Some(format!("certs/{authority}.pem").into()),
        ..TlsConfig::default()
    }
}

/// A session between such ends, as far as it got: an error is that of the end that met it first.
fn session(
    server: &TlsConfig,
    listening: Listening,
    client: &TlsConfig,
    host: &str,
) -> io::Result<(Transport, Transport)> {
    let (mut near, mut far) = pair();
    far.accept(&TlsServer::new(server, listening, None).unwrap())?;
    near.connect(&TlsClient::new(client, None).unwrap(), host)?;
    shake_hands(near, far)
}

/// Makes the handshake that both ends have begun.
fn shake_hands(mut near: Transport, mut far: Transport) -> io::Result<(Transport, Transport)> {
    let mut buf = vec![0; Transport::READ_BYTES_MIN];
    let deadline = Instant::now() + Duration::from_secs(60);
    while near.is_handshaking() || far.is_handshaking() {
        for end in [&mut near, &mut far] {
            match end.read(&mut buf, usize::MAX) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(Inflow::End) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
        assert!(Instant::now() < deadline, "the handshake does not end");
    }
    Ok((near, far))
}

/// Sends `bytes` from one end to the other, read and written in turns.
fn send(from: &mut Transport, to: &mut Transport, bytes: &[u8]) -> Vec<u8> {
    let (mut scratch, mut buf) = (Scratch::default(), vec![0; Transport::READ_BYTES_MIN]);
    let (mut sent, mut got) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    while got.len() < bytes.len() {
        // Runs of any size, most of them not that of a record.
        let runs = bytes[sent..].chunks(20_011);
        let written = match bytes.len() - sent {
            0 => from.flush(&mut scratch).map(|()| 0),
            _ => from.write(runs, &mut scratch),
        };
        match written {
            Ok(len) => sent += len,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        match to.read(&mut buf, 5000) {
            Ok(Inflow::Bytes { len, .. }) => got.extend_from_slice(&buf[..len]),
            Ok(Inflow::End) => panic!("it ended after {} bytes", got.len()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        assert!(Instant::now() < deadline, "{} bytes arrived", got.len());
    }
    got
}

#[test]
fn bytes_go_through_a_session_both_ways_and_leave_nothing_behind() {
    for name in [
        "server",
        "server-p384",
        "server-rsa",
        "server-ed25519",
        "server-chain",
    ] {
        let server = certificate(name);
        let (mut near, mut far) =
            session(&server, Listening::Clients, &trusting("ca"), "localhost").unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(send(&mut near, &mut far, b"first"), b"first");
        assert!(send(&mut far, &mut near, &bytes) == bytes, "{name}");
        assert!(send(&mut near, &mut far, &bytes) == bytes, "{name}");
        assert_eq!((near.kept_bytes(), far.kept_bytes()), (0, 0), "{name}");
        for end in [&near, &far] {
            let session = end.session().unwrap();
            assert_eq!(session.version(), Some("1.3"));
            assert!(session.cipher_suite().unwrap().starts_with("TLS_"));
        }
    }
}

#[test]
fn a_session_ends_with_a_notice_and_takes_no_more() {
    let server = certificate("server");
    let (mut near, mut far) =
        session(&server, Listening::Clients, &trusting("ca"), "127.0.0.1").unwrap();
    near.finish().unwrap();
    let mut buf = vec![0; Transport::READ_BYTES_MIN];
    let deadline = Instant::now() + Duration::from_secs(60);
    while far.read(&mut buf, usize::MAX).ok() != Some(Inflow::End) {
        assert!(Instant::now() < deadline, "the end does not arrive");
    }
    let again = near.write([&b"more"[..]].into_iter(), &mut Scratch::default());
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(near.read(&mut buf, usize::MAX).unwrap(), Inflow::End);
}

#[test]
fn a_long_read_goes_on_until_it_has_enough() {
    let server = certificate("server");
    let (mut near, mut far) = session(&server, Listening::Clients, &trusting("ca"), "::1").unwrap();
    let bytes = vec![7; 100_000];
    let mut scratch = Scratch::default();
    let (mut sent, mut got) = (0, b"before".to_vec());
    let mut buf = vec![0; Transport::READ_BYTES_MIN];
    while got.len() < bytes.len() + 6 {
        if sent < bytes.len() {
            sent += far
                .write([&bytes[sent..]].into_iter(), &mut scratch)
                .unwrap_or(0);
        } else {
            let _ = far.flush(&mut scratch);
        }
        let missing = bytes.len() + 6 - got.len();
        let _ = near.read_long(&mut got, missing, &mut buf);
    }
    assert!(got.starts_with(b"before") && got[6..] == bytes);
}

#[test]
fn a_peer_must_be_who_it_should_be() {
    let why = |server: &str, authority: &str, host: &str, insecure: bool| {
        let client = TlsConfig {
            insecure,
            ..trusting(authority)
        };
        let ended = session(&certificate(server), Listening::Clients, &client, host);
        ended.map(drop).err().map(|error| error.to_string())
    };
    assert_eq!(why("server", "ca", "localhost", false), None);
    assert_eq!(why("server", "bundle", "localhost", false), None);
    assert_eq!(why("server-chain", "ca", "localhost", false), None);
    assert_eq!(why("server-wildcard", "ca", "a.example.com", false), None);
    for (server, authority, host, expected) in [
        ("server", "ca2", "localhost", "UnknownIssuer"),
        ("server-other-ca", "ca", "localhost", "UnknownIssuer"),
        ("server-noip", "ca", "127.0.0.1", "not valid for name"),
        ("server-cn-only", "ca", "localhost", "not valid for name"),
        (
            "server-wildcard",
            "ca",
            "a.b.example.com",
            "not valid for name",
        ),
        ("server-expired", "ca", "localhost", "expired"),
    ] {
        let why_not = why(server, authority, host, false).unwrap_or_default();
        assert!(why_not.contains(expected), "{server} {host}: {why_not}");
        assert_eq!(why(server, authority, host, true), None, "insecure");
    }
}

#[test]
fn peers_of_a_route_must_both_show_a_certificate() {
    let both = certificate("server");
    let (mut near, mut far) = session(&both, Listening::Routes, &both, "localhost").unwrap();
    let addr = far.socket().local_addr().unwrap();
    assert_eq!(near.socket().peer_addr().unwrap(), addr);
    for end in [near, far] {
        assert_eq!(end.session().unwrap().peer_certificates().len(), 1);
    }
    for (client, expected) in [
        (trusting("ca"), "peer sent no certificates"),
        (certificate("server-only"), "extended key usage"),
        (certificate("client-expired"), "expired"),
        (certificate("client-other-ca"), "UnknownIssuer"),
    ] {
        // Whoever dials does not check here: the one who was dialled always does.
        let client = TlsConfig {
            insecure: true,
            ..client
        };
        let ended = session(&both, Listening::Routes, &client, "localhost");
        let why = ended.map(drop).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn plain_bytes_are_no_handshake() {
    let (mut near, mut far) = pair();
    let server = TlsServer::new(&certificate("server"), Listening::Clients, None).unwrap();
    far.accept(&server).unwrap();
    near.write(
        [&b"GET / HTTP/1.1\r\n\r\n"[..]].into_iter(),
        &mut Scratch::default(),
    )
    .unwrap();
    let mut buf = vec![0; Transport::READ_BYTES_MIN];
    let deadline = Instant::now() + Duration::from_secs(60);
    let error = loop {
        match far.read(&mut buf, usize::MAX) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => break other.unwrap_err(),
        }
        assert!(Instant::now() < deadline);
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert!(far.is_handshaking());
}

#[test]
fn certificates_are_judged_by_the_floor_of_the_clock() {
    // Valid from 2070 on.
    let client = TlsConfig {
        insecure: true,
        ..certificate("client-future")
    };
    let outcome = |floor: Option<SystemTime>| {
        let (mut near, mut far) = pair();
        let server = TlsServer::new(&certificate("server"), Listening::Routes, floor).unwrap();
        far.accept(&server).unwrap();
        let client = TlsClient::new(&client, None).unwrap();
        near.connect(&client, "localhost").unwrap();
        shake_hands(near, far).map(drop)
    };
    let why = outcome(None).unwrap_err().to_string();
    assert!(why.contains("not valid yet"), "{why}");
    let year_2071 = SystemTime::UNIX_EPOCH + Duration::from_secs(101 * 365 * 86400);
    outcome(Some(year_2071)).unwrap();
}

/// What servers send each other, as much of it as that.
fn operations(len: usize) -> Vec<u8> {
    let one = |number: usize| format!("RMSG $G subject.{} 3\r\nabc\r\n", number * number % 977);
    let mut bytes: Vec<u8> = (0..len / 20).flat_map(|it| one(it).into_bytes()).collect();
    bytes.truncate(len);
    bytes
}

#[test]
fn compressed_bytes_go_both_ways_and_leave_nothing_behind() {
    let config = (certificate("server"), trusting("ca"));
    let encrypted = || session(&config.0, Listening::Clients, &config.1, "localhost").unwrap();
    for (mut near, mut far) in [pair(), encrypted()] {
        // What was queued before that goes as it is.
        near.compress(Level::Best, 5, b"");
        assert_eq!(send(&mut near, &mut far, b"plain"), b"plain");
        // What was read already when that was agreed on may be compressed.
        let (mut early, mut encoder) = (Vec::new(), Encoder::default());
        Packer::new(Level::Fast).pack(b"early", &mut encoder, &mut early);
        far.compress(Level::Uncompressed, 0, &early);
        let mut buf = vec![0; Transport::READ_BYTES_MIN];
        let found = far.read(&mut buf, 100).unwrap();
        assert_eq!(found, Inflow::Bytes { len: 5, more: true });
        assert_eq!(&buf[..5], b"early");
        assert_eq!(send(&mut near, &mut far, b" bird"), b" bird");
        for level in [Level::Fast, Level::Better, Level::Best, Level::Uncompressed] {
            near.set_level(level);
            far.set_level(level);
            let bytes = operations(3_000_000);
            assert!(send(&mut far, &mut near, &bytes) == bytes, "{level:?}");
            assert!(send(&mut near, &mut far, &bytes) == bytes, "{level:?}");
        }
        assert_eq!((near.kept_bytes(), far.kept_bytes()), (0, 0));
    }
}

#[test]
fn a_peer_that_does_not_keep_to_compression_is_told_apart() {
    let (mut near, mut far) = pair();
    far.compress(Level::Fast, 0, b"");
    near.write([&b"PING\r\n"[..]].into_iter(), &mut Scratch::default())
        .unwrap();
    let mut buf = vec![0; Transport::READ_BYTES_MIN];
    let deadline = Instant::now() + Duration::from_secs(60);
    let error = loop {
        match far.read(&mut buf, usize::MAX) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break error,
            _ => assert!(Instant::now() < deadline, "nothing arrives"),
        }
    };
    assert_eq!(error.to_string(), "s2: not a stream of chunks");
    let flaw = error.get_ref().map(|it| it.is::<crate::s2::S2Error>());
    assert_eq!(
        (error.kind(), flaw),
        (io::ErrorKind::InvalidData, Some(true))
    );
}
