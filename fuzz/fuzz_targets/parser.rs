//! Frames arbitrary bytes, whole and split into reads as the input says: the result must be the same.
//!
//! The first byte chooses the limits, the second how many of the bytes after it are sizes of reads; the rest is the wire.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use midge::proto::encode::Message;
use midge::proto::error::ParseError;
use midge::proto::frame::{Frame, Publish};
use midge::proto::parser::{Limits, Parser};

/// Bytes that a caller may have to keep beside the arguments: a verb with its blank, or the CRLF of a line.
const SLACK: usize = 8;

fuzz_target!(|input: &[u8]| {
    let [choice, sizes, rest @ ..] = input else {
        return;
    };
    let limits = Limits {
        max_control_line: [16, 64, 1024, 4096][usize::from(choice & 3)],
        max_payload: [0, 10, 1000, 1 << 20][usize::from(choice >> 2 & 3)],
        headers: choice & 16 == 0,
    };
    let (sizes, wire) = rest
        .split_at_checked(usize::from(*sizes) % 32)
        .unwrap_or((&[], rest));
    let whole = frames(wire, &[], &limits);
    let split = frames(wire, sizes, &limits);
    assert_eq!(whole.0, split.0);
    assert_same_error(whole.1, split.1);
});

/// Everything the parser makes of the wire, in reads of these sizes over and over, in one read if there are none.
fn frames(wire: &[u8], sizes: &[u8], limits: &Limits) -> (Vec<String>, Option<ParseError>) {
    let mut parser = Parser::default();
    let mut found = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let (mut start, mut end) = (0, 0);
    while end < wire.len() {
        let size = sizes
            .next()
            .map_or(wire.len(), |&size| usize::from(size) + 1);
        end = wire.len().min(end + size);
        loop {
            let buffer = &wire[start..end];
            let step = match parser.next(buffer, limits) {
                Ok(step) => step,
                Err(error) => return (found, Some(error)),
            };
            assert!(step.consumed <= buffer.len());
            start += step.consumed;
            let Some(frame) = step.frame else { break };
            assert!(step.consumed > 0 && parser.is_between_frames() && parser.wanted() == 0);
            if let Frame::Publish(publish) = &frame {
                check(publish, limits);
            }
            found.push(format!("{frame:?}"));
        }
        check_kept(&parser, end - start, limits);
    }
    (found, None)
}

/// What waits for more bytes is bounded, and less than what is wanted where that is known.
fn check_kept(parser: &Parser, kept: usize, limits: &Limits) {
    let wanted = parser.wanted();
    if wanted > 0 {
        assert!(kept < wanted);
        assert!(wanted <= limits.max_control_line + limits.max_payload + 4);
    } else {
        assert!(kept <= limits.max_control_line + SLACK, "{kept} bytes kept");
    }
}

/// A message in delivery form reads as the same message again.
fn check(publish: &Publish<'_>, limits: &Limits) {
    let mut scratch = Vec::new();
    let message = Message::from_publish(publish, &mut scratch);
    assert_eq!(
        (message.subject(), message.reply(), message.body()),
        (publish.subject, publish.reply, publish.body)
    );
    let size = message.body().len() - 2;
    assert!(message.header_len() <= size && size <= limits.max_payload);
    let verb: &[u8] = if message.header_len() > 0 {
        b"HPUB "
    } else {
        b"PUB "
    };
    let wire = [verb, message.line()].concat();
    let limits = Limits {
        max_control_line: wire.len(),
        ..*limits
    };
    let step = Parser::default()
        .next(&wire, &limits)
        .expect("an operation");
    assert_eq!(step.consumed, wire.len());
    let Some(Frame::Publish(again)) = step.frame else {
        panic!("not a whole message: {}", wire.escape_ascii());
    };
    assert!(again.subject == publish.subject && again.reply == publish.reply);
    assert!(again.body == publish.body && again.header_len == publish.header_len);
    for (takes_headers, body) in [
        (true, publish.body),
        (false, &publish.body[publish.header_len..]),
    ] {
        let mut out = Vec::new();
        let rest = message.head(b"7", takes_headers, &mut out);
        assert!(rest.ends_with(body) && out.len() <= message.head_len_max(b"7"));
    }
}

/// The same error, but that the bytes it quotes end where those that had been read end.
fn assert_same_error(whole: Option<ParseError>, split: Option<ParseError>) {
    match (&whole, &split) {
        (
            Some(ParseError::UnknownOperation(_, long)),
            Some(ParseError::UnknownOperation(_, short)),
        ) => {
            assert!(long.starts_with(short), "{whole:?} and {split:?}");
        }
        _ => assert_eq!(whole, split),
    }
}
