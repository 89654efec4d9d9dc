//! Headers of a message: a version line, `Name: value` lines and an empty one, as in HTTP.
//!
//! The server passes them on unread; this is for the few that it sets itself.

/// What a block of headers begins with.
pub(super) const VERSION: &[u8] = b"NATS/1.0\r\n";

/// Appends `headers`, which may be empty or any bytes at all, with one header of this name set to `value`.
///
/// Whoever wrote the block cannot have a say in that header: every line that some receiver could take for it is left
/// out, in whatever case, and with whatever blanks and line ends.
pub fn set(headers: &[u8], name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let is_named = |line: &[u8]| {
        let colon = memchr::memchr(b':', line);
        let given = colon
            .and_then(|colon| line.get(..colon))
            .unwrap_or_default();
        given.trim_ascii().eq_ignore_ascii_case(name)
    };
    let start = out.len();
    let mut rest = headers;
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let end_len = if rest.get(end..).is_some_and(|it| it.starts_with(b"\r\n")) {
            2
        } else {
            1
        };
        let (line, behind) = rest.split_at((end + end_len).min(rest.len()));
        if !is_named(line) {
            out.extend_from_slice(line);
        }
        rest = behind;
    }
    // The empty line comes last again.
    while out.len() > start && matches!(out.last(), Some(b'\r' | b'\n')) {
        out.pop();
    }
    if out.len() == start {
        out.extend_from_slice(VERSION);
    } else {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &str) -> String {
        let mut out = b"before".to_vec();
        set(headers.as_bytes(), b"Nats-Info", b"new", &mut out);
        String::from_utf8(out).unwrap().split_off("before".len())
    }

    #[test]
    fn a_header_is_set_once_whatever_there_was() {
        let alone = "NATS/1.0\r\nNats-Info: new\r\n\r\n";
        assert_eq!(with(""), alone);
        assert_eq!(with("NATS/1.0\r\n\r\n"), alone);
        for spoofed in [
            "NATS/1.0\r\nNats-Info: old\r\n\r\n",
            "NATS/1.0\r\nnats-info:old\r\nNATS-INFO : older\r\n\r\n",
            "NATS/1.0\nNats-Info: old\n\n",
            "NATS/1.0\rNats-Info: old\r\r",
            "NATS/1.0\r\n Nats-Info\t: old\r\n\r\n",
            "Nats-Info: old\r\n\r\n",
            "NATS/1.0\r\nNats-Info: unfinished",
        ] {
            assert_eq!(with(spoofed).matches("old").count(), 0, "{spoofed:?}");
            assert_eq!(with(spoofed).matches("Info").count(), 1, "{spoofed:?}");
        }
        assert_eq!(
            with("NATS/1.0\r\nA: Nats-Info: x\r\nNats-Info: y\r\nB: 2\r\n\r\n"),
            "NATS/1.0\r\nA: Nats-Info: x\r\nB: 2\r\nNats-Info: new\r\n\r\n"
        );
        assert_eq!(
            with("NATS/1.0 503 none\r\n\r\n"),
            "NATS/1.0 503 none\r\nNats-Info: new\r\n\r\n"
        );
    }
}
