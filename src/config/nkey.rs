//! Public nkeys: a kind, 32 bytes and a checksum in base 32.

/// What a key stands for, as its first byte.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Account = 0,
    User = 20 << 3,
}

/// Whether the text is a public key of that kind with the right checksum.
pub(super) fn is_public(text: &str, kind: Kind) -> bool {
    let Some(bytes) = decoded(text) else {
        return false;
    };
    let Some((body, sum)) = bytes.split_last_chunk::<2>() else {
        return false;
    };
    bytes.len() == 35
        && body.first() == Some(&(kind as u8))
        && u16::from_le_bytes(*sum) == checksum(body)
}

/// RFC 4648 base 32 without padding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    if text.len() != 56 {
        return None;
    }
    let mut bytes = Vec::with_capacity(35);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// CRC-16 as of XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| {
            if sum & 0x8000 == 0 {
                sum << 1
            } else {
                sum << 1 ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_kind_and_a_checksum() {
        let user = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        assert!(is_public(user, Kind::User));
        assert!(!is_public(user, Kind::Account));
        assert!(!is_public(&user.replace('X', "Y"), Kind::User));
        assert!(!is_public("UA", Kind::User));
    }
}
