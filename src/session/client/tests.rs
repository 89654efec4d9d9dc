//! Tests of the client session.

use std::time::Duration;

use super::*;
use crate::session::Beat;

fn client() -> Client {
    Client::new(1, ([127, 0, 0, 1], 9).into())
}

/// What a client is sent for the frames, with the reason if one of them ended the connection.
fn answers(frames: &[Frame<'_>]) -> (String, Option<CloseReason>) {
    played(&mut client(), frames)
}

fn played(client: &mut Client, frames: &[Frame<'_>]) -> (String, Option<CloseReason>) {
    let (options, info) = (Options::default(), ServerInfo::default());
    let context = Context {
        options: &options,
        info: &info,
        auth: &Authenticator::new(&options),
        now: Instant::now(),
    };
    let mut out = Vec::new();
    let reason = frames
        .iter()
        .find_map(|frame| client.on_frame(frame, &context, None, &mut out).err());
    (String::from_utf8(out).unwrap(), reason)
}

#[test]
fn a_second_info_comes_with_the_first_pong_after_connect_to_protocol_1() {
    let connect = Frame::Connect(br#"{"verbose":false,"protocol":1}"#);
    let (out, _) = answers(&[Frame::Ping, connect, Frame::Ping, Frame::Ping]);
    let lines: Vec<&str> = out
        .split_inclusive("\r\n")
        .map(|line| line.get(..5).unwrap())
        .collect();
    assert_eq!(lines, ["PONG\r", "PONG\r", "INFO ", "PONG\r"]);
    assert!(out.contains(r#""connect_info":true,"remote_account":"$G""#));
    let (out, _) = answers(&[Frame::Connect(br#"{"verbose":false}"#), Frame::Ping]);
    assert_eq!(out, "PONG\r\n");
}

#[test]
fn hmsg_is_work_and_each_connect_has_the_next_ping_come_soon() {
    const SECOND: Duration = Duration::from_secs(1);
    let connect = Frame::Connect(br#"{"verbose":false}"#);
    let mut client = client();
    for _ in 0..2 {
        assert!(!client.keepalive.has_connect());
        played(&mut client, &[connect]);
        assert!(client.keepalive.has_connect());
        client.keepalive.connected(SECOND, 0.0);
        assert_eq!(client.keepalive.beat(SECOND, 9), Beat::Ping);
        played(&mut client, &[Frame::Hmsg]);
        assert_eq!(client.keepalive.beat(SECOND, 9), Beat::Skip);
    }
}

#[test]
fn bad_connects_end_the_connection() {
    for (json, told, reason) in [
        ("{", "", CloseReason::ProtocolViolation),
        (
            r#"{"protocol":2}"#,
            "-ERR 'invalid client protocol'\r\n",
            CloseReason::ClientProtocol,
        ),
        (
            r#"{"account":"X"}"#,
            "-ERR 'Authorization Violation'\r\n",
            CloseReason::AuthenticationFailure,
        ),
        (
            r#"{"no_responders":true}"#,
            "-ERR 'no responders requires headers support'\r\n",
            CloseReason::NoResponders,
        ),
    ] {
        assert_eq!(
            answers(&[Frame::Connect(json.as_bytes())]),
            (told.into(), Some(reason)),
            "{json}"
        );
    }
}

#[test]
fn reserved_names_are_known_by_their_exact_prefix() {
    for reserved in ["_GR_.x", "$GR.x", "$NRG.x", "$NRG."] {
        assert!(
            is_reserved_subject(reserved.as_bytes(), false),
            "{reserved}"
        );
    }
    for free in [
        "$NRG",
        "$GR",
        "$GR.",
        "_GR_",
        "_GR_.",
        "_R_.x",
        "$SYS.x",
        "$JS.ACK.x",
    ] {
        assert!(!is_reserved_subject(free.as_bytes(), false), "{free}");
        assert!(!is_reserved_subject(b"$NRG.x", true));
    }
    for reserved in ["_R_.", "_R_.x", "_GR_.x", "$GR.x", "$JS.ACK.x"] {
        assert!(is_reserved_reply(reserved.as_bytes()), "{reserved}");
    }
    for free in [
        "", "_R_", "_R_x", "_GR_.", "$GR.", "$NRG.x", "$JS.ACK.", "$JS.ACK", "$SYS.x",
    ] {
        assert!(!is_reserved_reply(free.as_bytes()), "{free}");
    }
}

#[test]
fn nothing_but_an_object_is_an_info() {
    for good in [
        "{}",
        "null",
        r#"{"port":1,"zzz":1e999}"#,
        r#"{"x":"\ud800"}"#,
    ] {
        assert_eq!(
            answers(&[Frame::Info(good.as_bytes()), Frame::Ok, Frame::Pong]),
            (String::new(), None),
            "{good}"
        );
    }
    for bad in ["[]", "{} x", r#"{"port":"x"}"#, r#"{"nonce":1}"#] {
        assert_eq!(
            answers(&[Frame::Info(bad.as_bytes())]).1,
            Some(CloseReason::ProtocolViolation),
            "{bad}"
        );
    }
    assert_eq!(
        answers(&[Frame::Err(b"'x'")]).1,
        Some(CloseReason::ParseError)
    );
}
