//! JSON as the reference server reads it, which is laxer than the format.
//!
//! Keys match without regard to case, the last of several wins, `null` leaves a value as it is, unknown keys are skipped
//! whatever they hold, and a wrong type is an error. Bytes that are not UTF-8, and escapes of half a character, are
//! tolerated inside strings.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// What the members of an object are read into.
pub(super) trait Object {
    /// Reads the value of one member, whose key is in lower case.
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object; `null` is one without members.
///
/// # Errors
///
/// The reason why the text is not such an object; what was read until then stays.
pub(super) fn read(json: &[u8], object: &mut impl Object) -> Result<(), serde_json::Error> {
    let text = mended(json);
    let mut deserializer = serde_json::Deserializer::from_slice(&text);
    Members(object).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Reads a value over another one.
pub(super) fn merge<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: &mut A,
    to: &mut T,
) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *to = value;
    }
    Ok(())
}

/// Reads a value that has no effect, but its type.
pub(super) fn check<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: &mut A,
) -> Result<(), A::Error> {
    map.next_value::<Option<T>>().map(drop)
}

/// The same of a list of texts.
pub(super) fn check_texts<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    check::<Vec<Option<String>>, _>(map)
}

/// The same of the permissions of a server.
pub(super) fn check_rules<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value_seed(Members(&mut Rules))
}

/// Passes over any value.
pub(super) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// What a server may send or take.
struct Rules;

impl Object for Rules {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "allow" | "deny" => check_texts(map),
            _ => skip(map),
        }
    }
}

struct Members<'o, O>(&'o mut O);

impl<'de, O: Object> DeserializeSeed<'de> for Members<'_, O> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, O: Object> Visitor<'de> for Members<'_, O> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            self.0.member(&key, &mut map)?;
        }
        Ok(())
    }
}

/// The text with U+FFFD for what is no character.
fn mended(json: &[u8]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(json).into_owned().into_bytes();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        at += match (escaped(&text, at), escaped(&text, at + ESCAPE_LEN)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * ESCAPE_LEN,
            (Some(0xd800..=0xdfff), _) => {
                if let Some(escape) = text.get_mut(at..at + ESCAPE_LEN) {
                    escape.copy_from_slice(b"\\ufffd");
                }
                ESCAPE_LEN
            }
            // A backslash may be escaped by another one.
            _ => 2,
        };
    }
    text
}

/// Bytes of an escape as `\u00e4`.
const ESCAPE_LEN: usize = 6;

/// What is escaped by its number there, in UTF-16.
fn escaped(text: &[u8], at: usize) -> Option<u16> {
    let escape = text.get(at..at + ESCAPE_LEN)?;
    let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_characters_are_replaced_and_whole_ones_stay() {
        for (given, expected) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\uDC00\uD800""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ude00x\ud83d""#, r#""\ud83d\ude00x\ufffd""#),
            (r#""\\ud800\\\ud800""#, r#""\\ud800\\\ufffd""#),
            (r#""\u00e9\n\ud80""#, r#""\u00e9\n\ud80""#),
            ("\\", "\\"),
        ] {
            assert_eq!(mended(given.as_bytes()), expected.as_bytes(), "{given}");
        }
        assert_eq!(mended(b"\"\xff\""), "\"\u{fffd}\"".as_bytes());
    }
}
