//! Foreign bytes as they appear in log lines: quoted, and without secrets.

use std::fmt::Write as _;

/// Keys of CONNECT whose values are secrets, and how much of the key to compare.
const SECRETS: [(&[u8], Match); 6] = [
    (b"pass", Match::Prefix),
    (b"auth_token", Match::Prefix),
    (b"sig", Match::Whole),
    (b"proxy_sig", Match::Whole),
    (b"nkey", Match::Whole),
    (b"jwt", Match::Whole),
];

const REDACTED: &[u8] = b"\"[REDACTED]\"";

enum Match {
    Prefix,
    Whole,
}

/// Bytes as a quoted string in the reference server's notation: `\r`, `\n`, `\"`, `\x01`, invalid UTF-8 as `\xff`.
///
/// Of more than `max` bytes only the first `max` are shown, and `...` before the closing quote.
pub fn quote(bytes: &[u8], max: Option<usize>) -> String {
    let shown = max.and_then(|max| bytes.get(..max)).unwrap_or(bytes);
    let mut out = String::with_capacity(shown.len() + 8);
    out.push('"');
    for chunk in shown.utf8_chunks() {
        chunk
            .valid()
            .chars()
            .for_each(|letter| push_letter(&mut out, letter));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    if shown.len() < bytes.len() {
        out.push_str("...");
    }
    out.push('"');
    out
}

/// The text in one line that moves no cursor: what has no shape is written as in [`quote`], all else as it is.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.push(letter),
            _ => push_letter(&mut out, letter),
        }
    }
    out
}

fn push_letter(out: &mut String, letter: char) {
    match letter {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        ' '..='~' => out.push(letter),
        letter if letter.is_ascii() => {
            let _ = write!(out, "\\x{:02x}", u32::from(letter));
        }
        letter if is_printable(letter) => out.push(letter),
        letter if u32::from(letter) < 0x10000 => {
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        }
        letter => {
            let _ = write!(out, "\\U{:08x}", u32::from(letter));
        }
    }
}

/// False for what has no shape of its own: controls, blanks other than space, and what is no character at all.
fn is_printable(letter: char) -> bool {
    // The standard library's debug notation escapes the same letters; combining ones only where they stand first.
    let mut pair = [b'a'; 5];
    let length = 1 + letter
        .encode_utf8(pair.get_mut(1..).unwrap_or_default())
        .len();
    let pair = pair
        .get(..length)
        .and_then(|pair| std::str::from_utf8(pair).ok())
        .unwrap_or_default();
    !letter.is_whitespace() && pair.escape_debug().count() == 2
}

/// The arguments of CONNECT with the value of every secret replaced by `"[REDACTED]"`.
///
/// Whole JSON values go, whatever they hold. Where the text is no JSON, everything after the first word that could be
/// a secret's key goes, because it is unknown where its value ends.
pub fn redact_connect(json: &[u8]) -> String {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok();
    let redacted = if is_json {
        redact_values(json)
    } else {
        redact_rest(json)
    };
    String::from_utf8_lossy(&redacted).into_owned()
}

/// Replaces the values of secret keys in `json`, which is valid.
fn redact_values(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = memchr::memchr(b'"', rest) {
        let end = start + string_bytes(rest.get(start..).unwrap_or_default());
        let (before, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        out.extend_from_slice(before);
        rest = after;
        let value = match after.trim_ascii_start().strip_prefix(b":") {
            Some(value) if is_secret(before.get(start..).unwrap_or_default()) => {
                value.trim_ascii_start()
            }
            _ => continue,
        };
        out.extend_from_slice(after.get(..after.len() - value.len()).unwrap_or_default());
        out.extend_from_slice(REDACTED);
        rest = value.get(value_bytes(value)..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// Cuts `text` after the first word that could be a secret's key.
fn redact_rest(text: &[u8]) -> Vec<u8> {
    let lowercase = text.to_ascii_lowercase();
    // An escaped letter could be part of such a word.
    let words = SECRETS
        .iter()
        .map(|(secret, _)| *secret)
        .chain([&br"\u"[..]]);
    let ends = words.filter_map(|word| Some(memchr::memmem::find(&lowercase, word)? + word.len()));
    match ends.min().and_then(|end| text.get(..end)) {
        Some(shown) => [shown, b"[REDACTED]"].concat(),
        None => text.to_vec(),
    }
}

/// The length of the string that `bytes` begin with, quotes included.
fn string_bytes(bytes: &[u8]) -> usize {
    let mut is_escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// The length of the JSON value that `bytes` begin with, up to the comma or bracket behind it.
fn value_bytes(bytes: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += string_bytes(bytes.get(at..).unwrap_or_default());
                continue;
            }
            b',' | b'}' | b']' if depth == 0 => break,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    // Blanks behind the value stay.
    bytes.get(..at).unwrap_or(bytes).trim_ascii_end().len()
}

/// True if `string`, with its quotes, is the key of a secret, in any case and however it is escaped.
fn is_secret(string: &[u8]) -> bool {
    let Ok(key) = serde_json::from_slice::<String>(string) else {
        return true;
    };
    let key = key.as_bytes();
    SECRETS.iter().any(|(secret, kind)| match kind {
        Match::Prefix => key
            .get(..secret.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(secret)),
        Match::Whole => key.eq_ignore_ascii_case(secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_the_reference_server_does() {
        let cases: [(&[u8], &str); 8] = [
            (b"hello", r#""hello""#),
            (b"a\r\n\t\"\\", r#""a\r\n\t\"\\""#),
            (b"\x00\x01\x7f\x1b\x07\x0b", r#""\x00\x01\x7f\x1b\a\v""#),
            (b"\xff\xc3(", r#""\xff\xc3(""#),
            ("grüße 😀".as_bytes(), r#""grüße 😀""#),
            (
                "\u{85}\u{a0}\u{2028}\u{feff}".as_bytes(),
                r#""\u0085\u00a0\u2028\ufeff""#,
            ),
            ("e\u{301}\u{301}".as_bytes(), "\"e\u{301}\u{301}\""),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
        ];
        for (bytes, expected) in cases {
            assert_eq!(quote(bytes, None), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_inside_its_quotes() {
        assert_eq!(quote(b"hello", Some(5)), "\"hello\"");
        assert_eq!(quote(b"hello", Some(2)), "\"he...\"");
        assert_eq!(quote(b"hello", Some(0)), "\"...\"");
        assert_eq!(quote("ü".as_bytes(), Some(1)), "\"\\xc3...\"");
    }

    #[test]
    fn the_value_of_every_secret_is_redacted_whole() {
        let redacted = |json: &str| redact_connect(json.as_bytes());
        let plain = r#"{"verbose":false,"user":"u1","name":"x"}"#;
        assert_eq!(redacted(plain), plain);
        assert_eq!(
            redacted(r#"{"user":"u1","pass":"secret"}"#),
            r#"{"user":"u1","pass":"[REDACTED]"}"#
        );
        let odd = r#"{"password" : "a\",b\\" , "auth_token":"t","sig":"s","proxy_sig":"p","nkey":"U","jwt":"j"}"#;
        let expected = r#"{"password" : "[REDACTED]" , "auth_token":"[REDACTED]","sig":"[REDACTED]","proxy_sig":"[REDACTED]","nkey":"[REDACTED]","jwt":"[REDACTED]"}"#;
        assert_eq!(redacted(odd), expected);
        assert_eq!(
            redacted(r#"{"PASS":123,"a":1}"#),
            r#"{"PASS":"[REDACTED]","a":1}"#
        );
        assert_eq!(
            redacted(r#"{"pass":["a,b",{"c":"}"}],"a":1}"#),
            r#"{"pass":"[REDACTED]","a":1}"#
        );
        assert_eq!(
            redacted(r#"{"p\u0061ss":"x"}"#),
            r#"{"p\u0061ss":"[REDACTED]"}"#
        );
        let foreign = b"{\"user\":\"\xff\",\"pass\":\"x\"}";
        assert_eq!(
            redact_connect(foreign),
            "{\"user\":\"\u{fffd}\",\"pass\":\"[REDACTED]\"}"
        );
        // A value that looks like a key, and a key that only begins like one.
        assert_eq!(
            redacted(r#"{"user":"pass","sigma":"x"}"#),
            r#"{"user":"pass","sigma":"x"}"#
        );
    }

    #[test]
    fn nothing_after_a_secret_is_shown_where_the_text_is_no_json() {
        let cases = [
            (r#"{"pass":"secret"#, r#"{"pass[REDACTED]"#),
            (r#"{"pass":"se"cret","a":1}"#, r#"{"pass[REDACTED]"#),
            (
                r#"{"user":"u","Auth_Token":"secret","#,
                r#"{"user":"u","Auth_Token[REDACTED]"#,
            ),
            (r#"{pass:secret}"#, r#"{pass[REDACTED]"#),
            (r#"{"p\u0061ss":"secret"#, r#"{"p\u[REDACTED]"#),
            (r#"{"user":"u"#, r#"{"user":"u"#),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(redact_connect(text.as_bytes()), expected);
        }
    }

    #[test]
    fn no_prefix_of_a_connect_shows_any_part_of_a_secret() {
        let json = r#" {"pass" : "hunter\"2,", "sig":["hunter"], "user":"u", "nkey":{"a":"hunter"}, "auth_token":"hunter"}"#;
        for end in 0..=json.len() {
            let shown = redact_connect(&json.as_bytes()[..end]);
            assert!(!shown.contains("hu"), "{shown}");
        }
    }
}
