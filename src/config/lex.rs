//! Reads characters, words and scalars of the configuration language. Knows nothing of keys, maps or files.
//!
//! Bytes in, scalars out: the text need not be UTF-8. Every method either moves forward or leaves the cursor where it is;
//! a word that looks like a number at first is read a second time as text, so that no byte is read more than twice.

use super::number;

/// A scalar as it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    DateTime(String),
    /// `$NAME`, without the dollar.
    Variable(String),
}

/// A place in one text. Lines count from 1; see [`super::error`] for columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// What is wrong with the text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Mark,
    pub(super) text: String,
    /// The text ended too soon: of no interest if something else was wrong before.
    pub(super) at_end: bool,
}

/// A reading position in a text.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    /// Index of the next byte; at most the text's length.
    pos: usize,
    line: u32,
    /// Index of the last line feed before `pos`, or 0: what columns count from.
    line_start: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Cursor {
            text,
            pos: 0,
            line: 1,
            line_start: 0,
        }
    }

    pub(super) fn mark(&self) -> Mark {
        let column = u32::try_from(self.pos - self.line_start).unwrap_or(u32::MAX);
        Mark {
            line: self.line,
            column,
        }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    pub(super) fn peek_second(&self) -> Option<u8> {
        self.text.get(self.pos + 1).copied()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.pos >= self.text.len()
    }

    /// Takes the next byte.
    pub(super) fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        if byte == b'\n' {
            self.line = self.line.saturating_add(1);
            self.line_start = self.pos;
        }
        self.pos += 1;
        Some(byte)
    }

    /// Takes the next byte if it is this one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.bump();
        }
        is_next
    }

    /// Moves to the end: nothing more is wanted of this text.
    pub(super) fn finish(&mut self) {
        self.pos = self.text.len();
    }

    /// The next character for a message: as it is, but a line feed as `\n` and the end as words.
    pub(super) fn shown(&self) -> String {
        match self.peek() {
            None => "end of file".into(),
            Some(b'\n') => "\\n".into(),
            Some(b'\r') => "\\r".into(),
            Some(b'\t') => "\\t".into(),
            Some(_) => self
                .character()
                .map_or('\u{fffd}', |(character, _)| character)
                .into(),
        }
    }

    pub(super) fn fault(&self, text: impl Into<String>) -> Fault {
        Fault {
            at: self.mark(),
            text: text.into(),
            at_end: false,
        }
    }

    /// What begins at `from` has no end.
    pub(super) fn unclosed(&self, what: &str, from: Mark) -> Fault {
        let Mark { line, column } = from;
        self.fault_at_end(format!(
            "Unexpected EOF{what}, which begins at {line}:{column}."
        ))
    }

    /// A text that begins at `from` has no end. This is no consequence of what was wrong before.
    fn unclosed_text(&self, what: &str, from: Mark) -> Fault {
        Fault {
            at_end: false,
            ..self.unclosed(what, from)
        }
    }

    pub(super) fn fault_at_end(&self, text: impl Into<String>) -> Fault {
        Fault {
            at: self.mark(),
            text: text.into(),
            at_end: true,
        }
    }

    /// The character at the cursor and its length in bytes; absent at the end and where the bytes are not UTF-8.
    fn character(&self) -> Option<(char, usize)> {
        let rest = self.text.get(self.pos..)?;
        let rest = rest.get(..4).unwrap_or(rest);
        let valid = match std::str::from_utf8(rest) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(rest.get(..error.valid_up_to())?).ok()?,
        };
        let character = valid.chars().next()?;
        Some((character, character.len_utf8()))
    }

    /// Length of the white space at the cursor, 0 if there is none: Unicode's, since files are pasted from web pages.
    fn space_len(&self) -> usize {
        match self.peek() {
            None => 0,
            Some(byte) if byte.is_ascii() => {
                usize::from(byte.is_ascii_whitespace() || byte == 0x0b)
            }
            Some(_) => self
                .character()
                .filter(|(it, _)| it.is_whitespace())
                .map_or(0, |(_, len)| len),
        }
    }

    /// Skips white space, line ends included.
    pub(super) fn skip_space(&mut self) {
        loop {
            let len = self.space_len();
            if len == 0 {
                return;
            }
            for _ in 0..len {
                self.bump();
            }
        }
    }

    /// Skips spaces and tabs: what may stand between a key and its value on one line.
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.bump();
        }
    }

    /// Skips a comment up to its line feed, which stays. False if there is none here.
    pub(super) fn skip_comment(&mut self) -> bool {
        let is_comment = self.peek() == Some(b'#')
            || (self.peek() == Some(b'/') && self.peek_second() == Some(b'/'));
        if is_comment {
            self.skip_line();
        }
        is_comment
    }

    /// Skips to the next line feed, which stays.
    pub(super) fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.bump();
        }
    }

    /// Skips white space and comments: what may stand before a key or an element.
    pub(super) fn skip_space_and_comments(&mut self) {
        loop {
            self.skip_space();
            if !self.skip_comment() {
                return;
            }
        }
    }

    /// Text from index `start` to the cursor.
    fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.pos).unwrap_or_default()
    }

    /// A bare key: up to white space, `=` or `:`. Empty if one of those is next.
    pub(super) fn bare_key(&mut self) -> String {
        let start = self.pos;
        while !matches!(self.peek(), None | Some(b'=' | b':')) && self.space_len() == 0 {
            self.bump();
        }
        lossy(self.since(start))
    }

    /// Text up to `quote`, verbatim. The cursor is after the opening quote, and ends up after the closing one.
    pub(super) fn verbatim(&mut self, quote: u8) -> Result<String, Fault> {
        let (start, from) = (self.pos, self.mark());
        while let Some(byte) = self.peek() {
            if byte == quote {
                let text = lossy(self.since(start));
                self.bump();
                return Ok(text);
            }
            self.bump();
        }
        Err(self.unclosed_text(" in a string", from))
    }

    /// The path of an `include`, at its first character.
    pub(super) fn include_path(&mut self) -> Result<String, Fault> {
        let start = match self.peek() {
            None => return Err(self.fault_at_end("Expected include value but found end of file")),
            Some(quote @ (b'"' | b'\'')) => {
                self.bump();
                let kind = if quote == b'"' {
                    "double quoted"
                } else {
                    "quoted"
                };
                let text = self.verbatim(quote);
                return text.map_err(|fault| Fault {
                    text: format!("Unexpected EOF in {kind} include"),
                    ..fault
                });
            }
            Some(b'[') => {
                return Err(self.fault("Expected include value but found start of an array"));
            }
            Some(b'{') => return Err(self.fault("Expected include value but found start of a map")),
            Some(b'(') => {
                return Err(self.fault("Expected include value but found start of a block"));
            }
            Some(b'0'..=b'9' | b'-') => {
                return Err(self.fault("Expected include value but found start of a number"));
            }
            Some(b'\\') => {
                return Err(self.fault("Expected include value but found escape sequence"));
            }
            Some(b'\n' | b'\r') => {
                return Err(self.fault("Expected include value but found new line"));
            }
            Some(_) => self.pos,
        };
        while !matches!(
            self.peek(),
            None | Some(b' ' | b'\t' | b'\n' | b'\r' | b';' | b'}')
        ) {
            self.bump();
        }
        Ok(lossy(self.since(start)))
    }

    /// A scalar at its first character. The cursor ends up behind it; what may follow is the caller's to check.
    pub(super) fn scalar(&mut self) -> Result<Scalar, Fault> {
        match self.peek() {
            Some(b'"') => {
                self.bump();
                self.escaped().map(Scalar::String)
            }
            Some(b'\'') => {
                self.bump();
                self.verbatim(b'\'').map(Scalar::String)
            }
            Some(b'(') => {
                self.bump();
                self.block().map(Scalar::String)
            }
            Some(b'-' | b'0'..=b'9') => self.number_or_word(),
            Some(b'.') => Err(self.fault("Floats must start with a digit")),
            _ => self.word(true),
        }
    }

    /// The rest of a `"` string, its escapes resolved.
    fn escaped(&mut self) -> Result<String, Fault> {
        let from = self.mark();
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.unclosed_text(" in a string", from)),
                Some(b'"') => {
                    self.bump();
                    return Ok(lossy(&text));
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(byte) => {
                    text.push(byte);
                    self.bump();
                }
            }
        }
    }

    /// One escape, at its backslash.
    fn escape(&mut self) -> Result<u8, Fault> {
        self.bump();
        let byte = match self.peek() {
            None => return Err(self.fault_at_end("Unexpected EOF.")),
            Some(b'x') => {
                self.bump();
                return self.hex_escape();
            }
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(byte @ (b'"' | b'\\')) => byte,
            Some(_) => {
                return Err(self.fault(format!(
                    "Invalid escape character '{}'. Only the following escape characters are allowed: \
                     \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                    self.shown()
                )));
            }
        };
        self.bump();
        Ok(byte)
    }

    fn hex_escape(&mut self) -> Result<u8, Fault> {
        let digits = self.text.get(self.pos..).unwrap_or_default();
        let digits = digits.get(..2).unwrap_or(digits);
        let value = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u8::from_str_radix(text, 16).ok());
        let Some(value) = value else {
            let got = lossy(digits).replace('\n', "\\n");
            return Err(self.fault(format!(
                "Expected two hexadecimal digits after '\\x', but got '{got}'"
            )));
        };
        self.bump();
        self.bump();
        Ok(value)
    }

    /// The rest of a block string: up to a `)` alone on its line. The line feed before that belongs to the text.
    fn block(&mut self) -> Result<String, Fault> {
        let (start, from) = (self.pos, self.mark());
        let mut is_line_start = false;
        while let Some(byte) = self.peek() {
            if byte == b')' && is_line_start {
                let after = self.text.get(self.pos + 1..).unwrap_or_default();
                if matches!(after, [] | [b'\n', ..] | [b'\r', b'\n', ..] | [b'\r']) {
                    let text = lossy(self.since(start));
                    self.bump();
                    return Ok(text);
                }
            }
            is_line_start = byte == b'\n';
            self.bump();
        }
        Err(self.unclosed_text(" processing block", from))
    }

    /// An unquoted word. `may_be_special`: it may turn out to be a boolean or a variable.
    fn word(&mut self, may_be_special: bool) -> Result<Scalar, Fault> {
        let mut text = Vec::new();
        let mut may_be_special = may_be_special;
        loop {
            match self.peek() {
                Some(b'\'') => {
                    self.bump();
                    may_be_special = false;
                    break;
                }
                Some(b'\\') => {
                    text.push(self.escape()?);
                    may_be_special = false;
                }
                end if ends_word(end) => break,
                Some(byte) => {
                    text.push(byte);
                    self.bump();
                }
                None => break,
            }
        }
        let text = lossy(&text);
        if !may_be_special {
            return Ok(Scalar::String(text));
        }
        // A bcrypt hash starts with a dollar too.
        if let Some(name) = text
            .strip_prefix('$')
            .filter(|name| !name.starts_with("2a$"))
        {
            return Ok(Scalar::Variable(name.into()));
        }
        Ok(match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Scalar::Bool(true),
            "false" | "no" | "off" => Scalar::Bool(false),
            _ => Scalar::String(text),
        })
    }

    /// What starts with a digit or a minus: a number, a date, an address, or a word after all.
    fn number_or_word(&mut self) -> Result<Scalar, Fault> {
        let first = self.clone();
        let start = self.pos;
        if self.eat(b'-') {
            match self.peek() {
                Some(b'0'..=b'9') => {}
                Some(b'.') => return Err(self.fault("Floats must start with a digit, not '.'.")),
                _ => {
                    return Err(self.fault(format!("Expected a digit but got '{}'.", self.shown())));
                }
            }
        }
        let is_negative = self.pos > start;
        self.skip_digits();
        let digits = self.since(start);
        match self.peek() {
            Some(b'-') if !is_negative => return self.date(&first),
            Some(b'.') => return self.float_or_address(&first),
            end if ends_word(end) => return self.integer(&first, digits, 1),
            Some(letter) if letter.is_ascii_alphabetic() => {
                let suffix_start = self.pos;
                while self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
                    self.bump();
                }
                let suffix = self.since(suffix_start);
                if let Some(multiplier) =
                    number::size_suffix(suffix).filter(|_| ends_word(self.peek()))
                {
                    return self.integer(&first, digits, multiplier);
                }
            }
            // Nothing else can follow a negative number, and the caller will say so.
            _ if is_negative => return self.integer(&first, digits, 1),
            _ => {}
        }
        *self = first;
        self.word(false)
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.bump();
        }
    }

    /// What `first` stands before: these digits, and a suffix that multiplies them.
    fn integer(&self, first: &Cursor<'a>, digits: &[u8], multiplier: i64) -> Result<Scalar, Fault> {
        let value = lossy(digits)
            .parse::<i64>()
            .ok()
            .and_then(|value| value.checked_mul(multiplier));
        let Some(value) = value else {
            // Not shown: it may be a password without quotes.
            return Err(Fault {
                at: first.mark(),
                text: "an integer is out of the range of 64 bits; as a text it needs quotes".into(),
                at_end: false,
            });
        };
        Ok(Scalar::Integer(value))
    }

    /// At the dot after the digits that `first` stands before. A second dot makes it an address.
    fn float_or_address(&mut self, first: &Cursor<'a>) -> Result<Scalar, Fault> {
        self.bump();
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.fault(format!(
                "Floats must have a digit after the '.', but got '{}' instead.",
                self.shown()
            )));
        }
        self.skip_digits();
        if self.peek() == Some(b'.') {
            while matches!(self.peek(), Some(b'0'..=b'9' | b'.' | b':' | b'-')) {
                self.bump();
            }
            return Ok(Scalar::String(lossy(self.since(first.pos))));
        }
        let text = lossy(self.since(first.pos));
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Scalar::Float(value)),
            _ => Err(Fault {
                at: first.mark(),
                text: format!("float '{text}' is out of the range"),
                at_end: false,
            }),
        }
    }

    /// At the first dash of `YYYY-MM-DDTHH:MM:SSZ`, which `first` stands before.
    fn date(&mut self, first: &Cursor<'a>) -> Result<Scalar, Fault> {
        if self.pos - first.pos != 4 {
            return Err(self.fault("All ISO8601 dates must be in full Zulu form."));
        }
        for expected in b"-00-00T00:00:00Z" {
            let is_right = match expected {
                b'0' => matches!(self.peek(), Some(b'0'..=b'9')),
                _ => self.peek() == Some(*expected),
            };
            if !is_right {
                let wanted = match expected {
                    b'0' => "a digit".into(),
                    _ => format!("'{}'", char::from(*expected)),
                };
                let found = self.shown();
                return Err(self.fault(format!(
                    "Expected {wanted} in ISO8601 datetime, but found '{found}' instead."
                )));
            }
            self.bump();
        }
        let text = lossy(self.since(first.pos));
        if !number::is_date(&text) {
            let at = first.mark();
            return Err(Fault {
                at,
                text: format!("expected Zulu formatted DateTime, but got '{text}'"),
                at_end: false,
            });
        }
        Ok(Scalar::DateTime(text))
    }
}

/// Whether an unquoted word ends before this byte.
fn ends_word(byte: Option<u8>) -> bool {
    matches!(
        byte,
        None | Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b',' | b']' | b'}')
    )
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
