//! The digest of a configuration: what it says, whatever its layout and comments.
//!
//! SHA-256 over the parsed tree written as compact JSON with sorted keys, in the escapes of the reference server's JSON
//! writer, and a line feed: both servers show the same digest for the same file.

use ring::digest::{Context, SHA256};

use super::value::{Data, Map, Value};
use crate::order;

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn digest(map: &Map) -> String {
    let mut context = Context::new(&SHA256);
    let mut json = Json {
        pending: Vec::with_capacity(CHUNK + 64),
        context: &mut context,
    };
    json.map(map);
    json.put(b"\n");
    json.flush();
    let mut text = String::from("sha256:");
    for byte in context.finish().as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Bytes gathered before they are hashed: per byte the hash would be slow.
const CHUNK: usize = 4096;

struct Json<'a> {
    pending: Vec<u8>,
    context: &'a mut Context,
}

impl Json<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.context.update(&self.pending);
        self.pending.clear();
    }

    /// Recursive: the parser bounds the depth.
    fn value(&mut self, value: &Value) {
        match &value.data {
            Data::String(text) | Data::DateTime(text) => self.string(text),
            Data::Integer(number) => self.put(number.to_string().as_bytes()),
            Data::Float(number) => self.put(float(*number).as_bytes()),
            Data::Bool(flag) => self.put(if *flag { b"true" } else { b"false" }),
            Data::Map(map) => self.map(map),
            Data::Array(array) => {
                self.put(b"[");
                for (index, item) in array.items.iter().enumerate() {
                    self.put(if index == 0 { b"" } else { b"," });
                    self.value(item);
                }
                self.put(b"]");
            }
        }
    }

    fn map(&mut self, map: &Map) {
        let mut entries: Vec<_> = map.entries.iter().collect();
        order::sort_by(&mut entries, |a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
        self.put(b"{");
        for (index, entry) in entries.into_iter().enumerate() {
            self.put(if index == 0 { b"" } else { b"," });
            self.string(&entry.key);
            self.put(b":");
            self.value(&entry.value);
        }
        self.put(b"}");
    }

    fn string(&mut self, text: &str) {
        self.put(b"\"");
        for character in text.chars() {
            match character {
                '"' => self.put(b"\\\""),
                '\\' => self.put(b"\\\\"),
                '\u{8}' => self.put(b"\\b"),
                '\u{c}' => self.put(b"\\f"),
                '\n' => self.put(b"\\n"),
                '\r' => self.put(b"\\r"),
                '\t' => self.put(b"\\t"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    self.put(format!("\\u{:04x}", u32::from(character)).as_bytes());
                }
                _ => self.put(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.put(b"\"");
    }
}

/// Shortest digits; an exponent where the number is very large or very small.
fn float(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if text.contains("e-") {
        text
    } else {
        text.replace('e', "e+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_json() {
        assert_eq!(float(22.0), "22");
        assert_eq!(float(-22.2), "-22.2");
        assert_eq!(float(0.000_000_5), "5e-7");
        assert_eq!(float(1e21), "1e+21");
        assert_eq!(float(1e20), "100000000000000000000");
    }

    #[test]
    fn an_empty_configuration_has_the_digest_of_an_empty_object() {
        let expected = "sha256:ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
        assert_eq!(digest(&Map::default()), expected);
    }
}
