//! What a server writes to another one: interest, and the first part of a message.

use std::io::Write as _;

use crate::proto::encode::Message;

/// Appends `RS+ [account] <subject> [queue weight]`.
pub fn interest_line(
    account: Option<&[u8]>,
    subject: &[u8],
    queue: Option<(&[u8], usize)>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"RS+ ");
    name(account, subject, out);
    if let Some((queue, weight)) = queue {
        out.push(b' ');
        out.extend_from_slice(queue);
        // Writing to a Vec cannot fail.
        let _ = write!(out, " {weight}");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `RS- [account] <subject> [queue]`.
pub fn no_interest_line(
    account: Option<&[u8]>,
    subject: &[u8],
    queue: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"RS- ");
    name(account, subject, out);
    if let Some(queue) = queue {
        out.push(b' ');
        out.extend_from_slice(queue);
    }
    out.extend_from_slice(b"\r\n");
}

fn name(account: Option<&[u8]>, subject: &[u8], out: &mut Vec<u8>) {
    if let Some(account) = account {
        out.extend_from_slice(account);
        out.push(b' ');
    }
    out.extend_from_slice(subject);
}

/// Bytes that [`message_head`] appends at the most.
#[must_use]
pub fn message_head_len_max(account: Option<&[u8]>, message: &Message<'_>, groups: &[u8]) -> usize {
    const VERB_AND_MARK: usize = "HMSG  + ".len();
    let account = account.map_or(0, <[u8]>::len);
    VERB_AND_MARK + account + groups.len() + 1 + message.parts().body_at
}

/// Appends what comes before the rest of a message on a route, and gives that rest, a part of the message's line.
///
/// `account` is absent where the connection serves one account alone; `groups` are the names, parted by blanks, of the queue
/// groups of which the other server is to choose a member. A server that takes no headers gets the payload alone.
#[inline]
pub fn message_head<'a>(
    account: Option<&[u8]>,
    message: &Message<'a>,
    groups: &[u8],
    headers: bool,
    out: &mut Vec<u8>,
) -> &'a [u8] {
    let has_headers = message.header_len() > 0;
    out.extend_from_slice(if has_headers && headers {
        b"HMSG "
    } else {
        b"RMSG "
    });
    if let Some(account) = account {
        out.extend_from_slice(account);
        out.push(b' ');
    }
    if groups.is_empty() && (!has_headers || headers) {
        return message.line();
    }
    let line = message.line();
    let (subject, reply) = (message.subject(), message.reply());
    out.extend_from_slice(subject);
    out.push(b' ');
    if !groups.is_empty() {
        out.push(if reply.is_empty() { b'|' } else { b'+' });
        out.push(b' ');
    }
    if !reply.is_empty() {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if !groups.is_empty() {
        out.extend_from_slice(groups);
        out.push(b' ');
    }
    if has_headers && !headers {
        let payload = message
            .body()
            .get(message.header_len()..)
            .unwrap_or_default();
        let _ = write!(out, "{}\r\n", payload.len().saturating_sub(2));
        return payload;
    }
    let reply_len = if reply.is_empty() { 0 } else { reply.len() + 1 };
    line.get(subject.len() + 1 + reply_len..)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::encode::Parts;

    fn written(line: &[u8], parts: Parts, groups: &[u8], headers: bool) -> String {
        let message = Message::new(line, parts);
        let mut out = Vec::new();
        let most = message_head_len_max(Some(b"$G"), &message, groups);
        let rest = message_head(Some(b"$G"), &message, groups, headers, &mut out);
        assert!(out.len() <= most);
        out.extend_from_slice(rest);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_name_their_groups_between_subject_and_size() {
        let plain = Parts {
            subject_len: 1,
            reply_len: 0,
            body_at: 5,
            header_len: 0,
        };
        let reply = Parts {
            reply_len: 1,
            body_at: 7,
            ..plain
        };
        for (line, parts, groups, expected) in [
            (&b"t 2\r\nhi\r\n"[..], plain, "", "RMSG $G t 2\r\nhi\r\n"),
            (
                b"t 2\r\nhi\r\n",
                plain,
                "g h",
                "RMSG $G t | g h 2\r\nhi\r\n",
            ),
            (b"t r 2\r\nhi\r\n", reply, "", "RMSG $G t r 2\r\nhi\r\n"),
            (
                b"t r 2\r\nhi\r\n",
                reply,
                "g",
                "RMSG $G t + r g 2\r\nhi\r\n",
            ),
        ] {
            assert_eq!(written(line, parts, groups.as_bytes(), true), expected);
        }
    }

    #[test]
    fn headers_are_cut_off_for_a_server_that_takes_none() {
        let parts = Parts {
            subject_len: 1,
            reply_len: 1,
            body_at: 9,
            header_len: 2,
        };
        let line = b"t r 2 4\r\nhhhi\r\n";
        assert_eq!(
            written(line, parts, b"", true),
            "HMSG $G t r 2 4\r\nhhhi\r\n"
        );
        assert_eq!(
            written(line, parts, b"g", true),
            "HMSG $G t + r g 2 4\r\nhhhi\r\n"
        );
        assert_eq!(written(line, parts, b"", false), "RMSG $G t r 2\r\nhi\r\n");
        assert_eq!(
            written(line, parts, b"g", false),
            "RMSG $G t + r g 2\r\nhi\r\n"
        );
    }

    #[test]
    fn interest_has_a_weight_in_a_group_and_none_when_it_ends() {
        let mut out = Vec::new();
        interest_line(Some(b"$G"), b"a", None, &mut out);
        interest_line(None, b"a", Some((b"q", 3)), &mut out);
        no_interest_line(Some(b"$G"), b"a", Some(b"q"), &mut out);
        assert_eq!(out, b"RS+ $G a\r\nRS+ a q 3\r\nRS- $G a q\r\n");
    }
}
