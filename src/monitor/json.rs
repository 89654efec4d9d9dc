//! Writes JSON the way the reference server prints it.
//!
//! Two spaces a level, fields in the order they are written, no newline at the end; or compact. `<`, `>`, `&` and the two
//! Unicode line ends are escaped, so that a page may stand inside HTML: the subject `a.>` prints as `a.\u003e`.

use std::fmt::{self, Write as _};

/// JSON in the making.
#[derive(Debug)]
pub struct Json {
    out: String,
    /// Spaces a level; 0 is compact.
    indent: usize,
    depth: usize,
    /// Nothing stands in the innermost container yet.
    is_empty: bool,
}

impl Json {
    /// Indented by this many spaces a level.
    #[must_use]
    pub fn indented(spaces: usize) -> Self {
        Json {
            out: String::new(),
            indent: spaces,
            depth: 0,
            is_empty: true,
        }
    }

    /// As pages have it.
    #[must_use]
    pub fn pretty() -> Self {
        Json::indented(2)
    }

    /// Without blanks.
    #[must_use]
    pub fn compact() -> Self {
        Json::indented(0)
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.out
    }

    /// The text, as bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    /// An object where a value stands.
    pub fn object(&mut self, fill: impl FnOnce(&mut Json)) {
        self.container('{', '}', fill);
    }

    /// An object under a name.
    pub fn object_at(&mut self, name: &str, fill: impl FnOnce(&mut Json)) {
        self.name(name);
        self.object(fill);
    }

    /// An array under a name.
    pub fn array_at(&mut self, name: &str, fill: impl FnOnce(&mut Json)) {
        self.name(name);
        self.container('[', ']', fill);
    }

    /// An array of texts under a name.
    pub fn texts_at<T: AsRef<str>>(&mut self, name: &str, texts: impl IntoIterator<Item = T>) {
        self.array_at(name, |json| {
            for text in texts {
                json.separate();
                json.quote(text.as_ref());
            }
        });
    }

    /// An array of texts under a name, unless there are none.
    pub fn some_texts_at<T: AsRef<str>>(&mut self, name: &str, texts: &[T]) {
        if !texts.is_empty() {
            self.texts_at(name, texts);
        }
    }

    /// An object as the next item of an array.
    pub fn item(&mut self, fill: impl FnOnce(&mut Json)) {
        self.separate();
        self.object(fill);
    }

    /// The same, unless it makes the text longer than that; false if so.
    pub fn item_within(&mut self, bytes_max: usize, fill: impl FnOnce(&mut Json)) -> bool {
        let (len, is_empty) = (self.out.len(), self.is_empty);
        self.item(fill);
        let fits = self.out.len() <= bytes_max;
        if !fits {
            self.out.truncate(len);
            self.is_empty = is_empty;
        }
        fits
    }

    /// A text under a name.
    pub fn text(&mut self, name: &str, value: impl AsRef<str>) {
        self.name(name);
        self.quote(value.as_ref());
    }

    /// A text under a name, unless it is empty.
    pub fn some_text(&mut self, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            self.text(name, value);
        }
    }

    /// A number, or whatever else is written as it shows itself.
    pub fn number(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{value}");
    }

    /// A number under a name, unless it is 0.
    pub fn some_number(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.number(name, value);
        }
    }

    /// A truth value under a name.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.number(name, value);
    }

    /// `true` under a name, or nothing.
    pub fn some_flag(&mut self, name: &str, value: bool) {
        if value {
            self.flag(name, value);
        }
    }

    /// `null` under a name.
    pub fn null(&mut self, name: &str) {
        self.number(name, "null");
    }

    /// A name, before its value.
    pub fn name(&mut self, name: &str) {
        self.separate();
        self.quote(name);
        self.out.push_str(if self.indent > 0 { ": " } else { ":" });
    }

    fn container(&mut self, open: char, close: char, fill: impl FnOnce(&mut Json)) {
        self.out.push(open);
        self.depth += 1;
        self.is_empty = true;
        fill(self);
        self.depth -= 1;
        if !self.is_empty {
            self.new_line();
        }
        self.out.push(close);
        self.is_empty = false;
    }

    /// What stands before an item or a name.
    fn separate(&mut self) {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        self.new_line();
    }

    fn new_line(&mut self) {
        if self.indent > 0 {
            self.out.push('\n');
            let spaces = self.depth * self.indent;
            self.out.extend(std::iter::repeat_n(' ', spaces));
        }
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for it in text.chars() {
            match it {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(it));
                }
                _ => self.out.push(it),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mut json: Json) -> String {
        json.object(|json| {
            json.text("a", "x<\">\u{2028}\u{1}é");
            json.number("b", 2.5);
            json.array_at("empty", |_| {});
            json.object_at("none", |_| {});
            json.array_at("list", |json| {
                json.item(|json| json.flag("c", true));
                json.item(|_| {});
            });
            json.texts_at("texts", ["p", "q"]);
            json.null("n");
        });
        json.into_text()
    }

    #[test]
    fn pages_are_indented_by_two() {
        let wanted = "{\n  \"a\": \"x\\u003c\\\"\\u003e\\u2028\\u0001é\",\n  \"b\": 2.5,\n  \"empty\": [],\n  \"none\": {},\n  \
            \"list\": [\n    {\n      \"c\": true\n    },\n    {}\n  ],\n  \"texts\": [\n    \"p\",\n    \"q\"\n  ],\n  \"n\": null\n}";
        assert_eq!(sample(Json::pretty()), wanted);
    }

    #[test]
    fn compact_has_no_blanks_and_means_the_same() {
        let compact = sample(Json::compact());
        assert!(!compact.contains([' ', '\n']), "{compact}");
        let [compact, pretty]: [serde_json::Value; 2] = [compact, sample(Json::pretty())]
            .map(|text| serde_json::from_str(&text).expect("it is JSON"));
        assert_eq!(compact, pretty);
    }
}
