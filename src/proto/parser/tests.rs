//! The grammar, case by case; the expectations are the reference server's.

use super::*;

const LIMITS: Limits = Limits {
    max_control_line: 64,
    max_payload: 1000,
    headers: true,
};

/// Everything the parser makes of the pieces, frames as text, and the error that ended it.
fn frames(pieces: &[&[u8]]) -> (Vec<String>, Option<ParseError>) {
    let mut parser = Parser::default();
    let mut kept: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let step = match parser.next(&kept, &LIMITS) {
                Ok(step) => step,
                Err(error) => return (found, Some(error)),
            };
            let more = step.frame.is_none();
            found.extend(step.frame.map(|frame| format!("{frame:?}")));
            let consumed = step.consumed;
            kept.drain(..consumed);
            if more {
                break;
            }
        }
    }
    (found, None)
}

fn only(bytes: &[u8]) -> Result<Frame<'_>, ParseError> {
    let step = Parser::default().next(bytes, &LIMITS)?;
    Ok(step.frame.expect("a whole frame"))
}

#[test]
fn frames_do_not_depend_on_where_reads_split() {
    let wires: [&[u8]; 4] = [
        b"CONNECT {}\r\nSUB a.* q 1\r\nPUB a.b 2\r\nhi\r\nPING\r\nHPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 1 4\r\n",
        b"pub \t a  b\t2 \r\nhi\r\n+OK xx\nPONGyy\r\nINFO{}\nHMSG x\r\n\r\nsub a 1\n-ERR 'x'\r\n",
        b"PING\r\nPUB a 2\r\nhix\r\nPING\r\n",
        b"PING\r\nFOO\r\n",
    ];
    for wire in wires {
        let whole = frames(&[wire]);
        for cut in 0..=wire.len() {
            let (head, tail) = wire.split_at(cut);
            let (split, error) = frames(&[head, tail]);
            assert_eq!(split, whole.0, "cut at byte {cut}");
            assert_eq!(error.is_some(), whole.1.is_some(), "cut at byte {cut}");
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(frames(&bytes).0, whole.0, "byte by byte");
    }
}

#[test]
fn the_run_of_bytes_for_a_delivery_is_there_only_when_written_canonically() {
    let line = |bytes| match only(bytes) {
        Ok(Frame::Publish(publish)) => publish.line,
        other => panic!("{other:?}"),
    };
    assert_eq!(line(b"PUB a 2\r\nhi\r\n"), Some(&b"a 2\r\nhi\r\n"[..]));
    assert_eq!(
        line(b"PUB \t a r 2\r\nhi\r\n"),
        Some(&b"a r 2\r\nhi\r\n"[..])
    );
    assert_eq!(
        line(b"HPUB a r 1 2\r\nhi\r\n"),
        Some(&b"a r 1 2\r\nhi\r\n"[..])
    );
    for other in [
        &b"PUB a  2\r\nhi\r\n"[..],
        b"PUB a\t2\r\nhi\r\n",
        b"PUB a 2 \r\nhi\r\n",
        b"PUB a 2\nhi\r\n",
        b"HPUB a 0 2\r\nhi\r\n",
    ] {
        assert_eq!(line(other), None, "{}", other.escape_ascii());
    }
}

#[test]
fn sizes_are_one_to_nine_digits() {
    assert!(matches!(
        only(b"PUB a 0002\r\nhi\r\n"),
        Ok(Frame::Publish(Publish { sizes: b"0002", .. }))
    ));
    for bad in [
        "PUB a\r\n",
        "PUB a b c 2\r\n",
        "PUB a -1\r\n",
        "PUB a 2x\r\n",
        "PUB a 1000000000\r\n",
        "PUB \r\n",
        "PUB a 0000000002\r\n",
    ] {
        assert!(
            matches!(only(bad.as_bytes()), Err(ParseError::Arguments(..))),
            "{bad}"
        );
    }
    for bad in [
        "HPUB a 5 4\r\n",
        "HPUB a 4\r\n",
        "HPUB a b c 4 4\r\n",
        "HPUB a x 4\r\n",
    ] {
        assert!(
            matches!(only(bad.as_bytes()), Err(ParseError::Arguments(..))),
            "{bad}"
        );
    }
    assert_eq!(
        only(b"PUB a 999999999\r\n"),
        Err(ParseError::Payload {
            size: 999_999_999,
            limit: 1000
        })
    );
}

#[test]
fn a_message_needs_crlf_behind_it() {
    for bad in ["PUB a 2\r\nhi\n", "PUB a 2\r\nhix", "PUB a 2\r\nhi\rx"] {
        assert!(
            matches!(only(bad.as_bytes()), Err(ParseError::UnknownOperation(..))),
            "{bad:?}"
        );
    }
    assert!(
        Parser::default()
            .next(b"PUB a 2\r\nhi\r", &LIMITS)
            .is_ok_and(|step| step.frame.is_none())
    );
}

#[test]
fn the_control_line_limit_counts_arguments_only() {
    let line =
        |verb: &str, len: usize, end: &str| format!("{verb} {}{end}", "s".repeat(len)).into_bytes();
    let too_long = |bytes: &[u8]| {
        matches!(
            Parser::default().next(bytes, &LIMITS),
            Err(ParseError::ControlLine { limit: 64 })
        )
    };
    assert!(!too_long(&line("INFO", 64, "\r\n")) && !too_long(&line("INFO", 64, "\n")));
    assert!(
        too_long(&line("INFO", 65, "\r\n"))
            && too_long(&line("INFO", 65, "\n"))
            && too_long(&line("INFO", 65, ""))
    );
    assert!(
        !too_long(&line("INFO", 64, ""))
            && !too_long(&line("INFO", 64, "\r"))
            && too_long(&line("INFO", 64, "\rx"))
    );
    assert!(!too_long(&line(&format!("SUB{}", " ".repeat(500)), 60, "")));
    assert!(!too_long(&line("PING", 500, "\r\n")));
}

#[test]
fn an_unknown_verb_is_noticed_at_its_first_wrong_byte() {
    for bad in [
        "F",
        "MSG a 1 2",
        "PX",
        "HX",
        "SUBx",
        "SUB\r\n",
        "-ERR\r\n",
        " PING",
        "\r\n",
        "+OX",
        "RS+ a",
    ] {
        assert!(
            matches!(only(bad.as_bytes()), Err(ParseError::UnknownOperation(..))),
            "{bad:?}"
        );
    }
    for partial in ["", "P", "pu", "PUB", "HP", "CONNEC", "-ERR", "+O"] {
        let step = Parser::default()
            .next(partial.as_bytes(), &LIMITS)
            .expect("may become an operation");
        assert_eq!(
            step,
            Step {
                consumed: 0,
                frame: None
            },
            "{partial:?}"
        );
    }
}

#[test]
fn headers_must_have_been_agreed_on() {
    let limits = Limits {
        headers: false,
        ..LIMITS
    };
    assert_eq!(
        Parser::default().next(b"HPUB a 1 1\r\n", &limits),
        Err(ParseError::Headers)
    );
}

#[test]
fn what_waits_is_bounded() {
    let mut parser = Parser::default();
    let step = parser.next(&[b' '; 0], &LIMITS).expect("nothing yet");
    assert_eq!(step.consumed, 0);
    let blanks = [&b"SUB "[..], &[b' '; 1000]].concat();
    assert_eq!(
        parser.next(&blanks, &LIMITS).expect("blanks").consumed,
        blanks.len()
    );
    let mut parser = Parser::default();
    let junk = [&b"PING"[..], &[b'x'; 1000]].concat();
    assert_eq!(
        parser.next(&junk, &LIMITS).expect("junk").consumed,
        junk.len()
    );
    let mut parser = Parser::default();
    parser.next(b"PUB a 500\r\n", &LIMITS).expect("a head");
    assert_eq!(parser.wanted(), "a 500\r\n".len() + 502);
}

#[test]
fn what_is_wrong_is_logged_in_the_words_of_the_reference_server() {
    for (wire, line) in [
        (
            &b"FOO bar\r\n"[..],
            r#"Client parser ERROR, state=0, i=0: proto='"FOO bar\r"...'"#,
        ),
        (
            b"\x16\x03\x01\x00\xff\x00\r\n",
            r#"Client parser ERROR, state=0, i=0: proto='"\x16\x03\x01\x00\xff\x00\r"...'"#,
        ),
        (
            b"PUB a\"b\xff abc\r\n",
            r#"processPub Bad or Missing Size: "a\"b\xff abc""#,
        ),
        (b"PUB foo\r\n", r#"processPub Parse Error: "foo""#),
        (
            b"HPUB foo 5\r\n",
            r#"processHeaderPub Parse Error: "foo 5""#,
        ),
        (
            b"HPUB a b x\r\n",
            r#"processHeaderPub Bad or Missing Header Size: "a b x""#,
        ),
        (
            b"HPUB a 5 x\r\n",
            r#"processHeaderPub Bad or Missing Total Size: "a 5 x""#,
        ),
        (
            b"HPUB a 12 10\r\n",
            r#"processHeaderPub Header Size larger then TotalSize: "a 12 10""#,
        ),
        (b"SUB foo\r\n", r#"processSub Parse Error: "foo""#),
        (b"UNSUB a b c\r\n", r#"processUnsub Parse Error: "a b c""#),
    ] {
        let found = only(wire).expect_err("it is malformed").to_string();
        assert_eq!(found, line);
    }
}
