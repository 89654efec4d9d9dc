//! Names that nobody else has, and values that nobody can guess, from the system's random numbers.

use crate::nkey::{self, Kind};

/// Random bytes in a nonce.
const NONCE_BYTES: usize = 11;
/// The alphabet of base64 for URLs (RFC 4648, section 5).
const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A new server id: 56 characters in the form of a server's public key, `N` first.
///
/// # Panics
///
/// If the system has no random numbers: nothing that needs them could be safe then.
pub fn server_id() -> String {
    nkey::encode(Kind::Server, &random())
}

/// A new nonce for INFO, which a client signs with its key: 11 random bytes in 15 characters.
///
/// # Panics
///
/// If the system has no random numbers.
pub fn nonce() -> String {
    let bytes: [u8; NONCE_BYTES] = random();
    let mut text = String::with_capacity(15);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        // Three bytes are four characters of six bits; a shorter group at the end has one more than bytes.
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// A name for a cluster that was given none: 22 characters.
///
/// # Panics
///
/// If the system has no random numbers.
pub fn cluster_name() -> String {
    let id = server_id();
    // The first character is the same in every id.
    id.chars().skip(1).take(22).collect()
}

/// A seed for a generator of numbers that need no secrecy.
///
/// # Panics
///
/// If the system has no random numbers.
pub fn seed() -> u64 {
    u64::from_le_bytes(random())
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_id_is_a_valid_key_that_begins_with_n() {
        let id = server_id();
        assert_eq!(id.len(), 56);
        assert!(id.starts_with('N'));
        assert_eq!(nkey::decode(&id).unwrap().0, Kind::Server);
        assert_ne!(id, server_id());
    }

    #[test]
    fn a_nonce_has_fifteen_characters_that_need_no_escaping() {
        let nonce = nonce();
        assert_eq!(nonce.len(), 15);
        assert!(
            nonce.bytes().all(|byte| ALPHABET.contains(&byte)),
            "{nonce}"
        );
        assert_ne!(nonce, super::nonce());
    }
}
