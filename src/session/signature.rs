//! Signatures by which key users prove who they are: Ed25519 over the characters of the nonce, in base64.

use std::fmt;

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::nkey::KEY_BYTES;

/// More characters than any spelling of a signature has.
const TEXT_BYTES_MAX: usize = 128;

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It is not base64.
    NotBase64,
    /// It is not this key's signature of this nonce.
    NotVerified,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Missing => "Signature missing",
            Flaw::NotBase64 => "Signature not valid base64",
            Flaw::NotVerified => "Signature not verified",
        })
    }
}

/// Checks that `text` is the signature of `nonce` by the owner of `key`.
pub(super) fn verify(key: &[u8; KEY_BYTES], text: &str, nonce: &[u8]) -> Result<(), Flaw> {
    if text.is_empty() {
        return Err(Flaw::Missing);
    }
    let signature = decoded(text).ok_or(Flaw::NotBase64)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(nonce, &signature)
        .map_err(|_| Flaw::NotVerified)
}

/// The bytes of base64 in one of the two spellings in use: for URLs without padding, or standard with padding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let for_urls = || digits(text.as_bytes(), *b"-_");
    for_urls().or_else(|| {
        let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('='));
        let bare = bare.unwrap_or(text);
        (text.len() % 4 == 0).then(|| digits(bare.as_bytes(), *b"+/"))?
    })
}

/// The bytes of base64 without padding; the digits 62 and 63 are `last`. Bits that make up no byte are ignored.
fn digits(text: &[u8], last: [u8; 2]) -> Option<Vec<u8>> {
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for &digit in text {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            _ if digit == last[0] => 62,
            _ if digit == last[1] => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_base64_are_read_and_no_mixture() {
        for (text, bytes) in [
            ("-_8", &[0xfb, 0xff][..]),
            ("+/8=", &[0xfb, 0xff]),
            ("AAA", &[0, 0]),
            ("AAA=", &[0, 0]),
            ("AA", &[0]),
            ("AA==", &[0]),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text}");
        }
        let long = "A".repeat(129);
        for bad in [
            "-_8=", "+/8", "A", "A===", "AA=", "AAA==", "-+AA", "A A=", "é", "====", &long,
        ] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_but_the_right_signature_is_verified() {
        for text in ["", "A", "AA", "xx!"] {
            assert!(verify(&[0; 32], text, b"nonce").is_err(), "{text}");
        }
        for len in [0, 1, 63, 64, 65, 90] {
            // The identity point is a key that some implementations verify anything with.
            for key in [[0; 32], [1; 32], [0xff; 32]] {
                let text = "A".repeat(len / 3 * 4);
                assert!(verify(&key, &text, b"nonce").is_err(), "{len}");
            }
        }
    }
}
