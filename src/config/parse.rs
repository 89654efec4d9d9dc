//! Text to tree: maps, arrays, variables and includes.
//!
//! An error ends an entry, not the reading: what follows on the next line is read as if nothing had happened, so that
//! one run reports all there is. Nesting, the number of errors and what variables expand to are bounded; time and memory
//! are linear in the bytes read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Notice, Position};
use super::lex::{Cursor, Fault, Mark, Scalar};
use super::outside::Outside;
use super::scope::Scope;
use super::value::{Array, Data, Entry, Map, Value};
use crate::limits;

mod references;

/// What a text parsed to. The tree is as good as it can be where there are errors.
pub(super) struct Parsed {
    pub(super) map: Map,
    pub(super) errors: Vec<Notice>,
}

/// Parses the content of the file `name`.
pub(super) fn parse(name: &str, text: &[u8], outside: &dyn Outside) -> Parsed {
    let mut shared = Shared {
        outside,
        files: Vec::new(),
        variables: Vec::new(),
        known: HashMap::new(),
        bytes: 0,
        errors: Vec::new(),
    };
    shared.bytes = text.len();
    shared.files.push(references::clean(Path::new(name)));
    let map = Parser::new(name, text, &mut shared).file();
    let mut errors = shared.errors;
    if map.size.weight > limits::CONFIG_EXPANDED_MAX && errors.is_empty() {
        errors.push(Notice::general(format!(
            "{name}: configuration is too large with its variables written out, the limit is {}",
            limits::CONFIG_EXPANDED_MAX
        )));
    }
    // Nobody may walk a tree of that size, so nobody gets it.
    let map = if map.size.weight > limits::CONFIG_EXPANDED_MAX {
        Map::default()
    } else {
        map
    };
    Parsed { map, errors }
}

/// What a file shares with the files it includes and with the environment variables it uses.
struct Shared<'a> {
    outside: &'a dyn Outside,
    /// The files being read, the outermost first.
    files: Vec<PathBuf>,
    /// The environment variables being read, likewise.
    variables: Vec<String>,
    /// Environment variables already read.
    known: HashMap<String, Value>,
    /// Bytes of text taken in so far.
    bytes: usize,
    errors: Vec<Notice>,
}

impl Shared<'_> {
    fn is_full(&self) -> bool {
        self.errors.len() >= limits::CONFIG_ERRORS_MAX
    }

    /// Accounts for more text; false if that is too much.
    fn takes(&mut self, len: usize) -> bool {
        self.bytes = self.bytes.saturating_add(len);
        self.bytes <= limits::CONFIG_BYTES_MAX
    }
}

/// Where an entry stands: what may follow it, and how that is called, depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The file itself, inside this many braces around the whole of it.
    Top(usize),
    /// Inside a `{}` that is a value, and begins here.
    Map(Mark),
}

struct Parser<'t, 's, 'o> {
    cursor: Cursor<'t>,
    /// What follows a NUL byte: not read.
    beyond: &'t [u8],
    file: Arc<str>,
    /// The maps being read, the file's own first.
    scopes: Vec<Scope>,
    /// Arrays and maps around the cursor.
    depth: usize,
    /// Errors there were before this text.
    errors_before: usize,
    shared: &'s mut Shared<'o>,
}

impl<'t, 's, 'o> Parser<'t, 's, 'o> {
    fn new(file: &str, text: &'t [u8], shared: &'s mut Shared<'o>) -> Self {
        let end = text
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(text.len());
        let (text, beyond) = text.split_at(end);
        Parser {
            cursor: Cursor::new(text),
            beyond,
            file: file.into(),
            scopes: vec![Scope::default()],
            depth: 0,
            errors_before: shared.errors.len(),
            shared,
        }
    }

    /// A whole file.
    fn file(mut self) -> Map {
        self.entries(Level::Top(0));
        if self
            .beyond
            .iter()
            .any(|byte| *byte != 0 && !byte.is_ascii_whitespace())
        {
            let fault = self
                .cursor
                .fault("NUL byte with text after it, which would not be read");
            self.record(fault);
        }
        self.scopes.pop().unwrap_or_default().finish()
    }

    fn position(&self, at: Mark) -> Position {
        Position {
            file: Arc::clone(&self.file),
            line: at.line,
            column: at.column,
        }
    }

    fn record(&mut self, fault: Fault) {
        let is_first = self.shared.errors.len() == self.errors_before;
        if self.shared.is_full() || (fault.at_end && !is_first) {
            return;
        }
        let at = self.position(fault.at);
        self.shared.errors.push(Notice::at(&at, fault.text));
        if self.shared.is_full() {
            self.shared
                .errors
                .push(Notice::general("too many errors, the rest was not read"));
        }
    }

    /// Moves past what cannot be read: to the end of the line or of the entry, brackets on the way taken whole.
    fn recover(&mut self, is_end: impl Fn(u8) -> bool) {
        let mut open = 0_usize;
        while let Some(byte) = self.cursor.peek() {
            match byte {
                b'\n' | b',' | b';' if open == 0 => {
                    self.cursor.bump();
                    return;
                }
                _ if open == 0 && is_end(byte) => return,
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.saturating_sub(1),
                _ => {}
            }
            self.cursor.bump();
        }
    }

    /// Entries up to the end of the level, which is taken.
    fn entries(&mut self, mut level: Level) {
        loop {
            if self.shared.is_full() {
                self.cursor.finish();
            }
            match self.next_entry(&mut level) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => {
                    self.record(fault);
                    self.recover(|byte| byte == b'}' && level != Level::Top(0));
                }
            }
        }
    }

    /// One entry, or one brace around all of them. False at the end of the level.
    fn next_entry(&mut self, level: &mut Level) -> Result<bool, Fault> {
        self.cursor.skip_space_and_comments();
        match (self.cursor.peek(), *level) {
            (None, Level::Top(0)) => Ok(false),
            (None, Level::Top(_)) => {
                let text = "Expected a block-level value to end with a new line, comment or EOF, \
                            but got end of file before '}'";
                let fault = self.cursor.fault_at_end(text);
                self.record(fault);
                Ok(false)
            }
            (None, Level::Map(from)) => {
                let fault = self.cursor.unclosed(" processing map", from);
                self.record(fault);
                Ok(false)
            }
            (Some(b'}'), Level::Map(_)) => {
                self.cursor.bump();
                Ok(false)
            }
            (Some(b'}'), Level::Top(0)) => self.stray_brace(),
            (Some(b'}'), Level::Top(braces)) => {
                self.cursor.bump();
                *level = Level::Top(braces - 1);
                Ok(true)
            }
            (Some(b'{'), Level::Top(braces)) => {
                self.cursor.bump();
                *level = Level::Top(braces + 1);
                Ok(true)
            }
            (Some(separator @ (b'=' | b':')), _) => {
                let separator = char::from(separator);
                Err(self
                    .cursor
                    .fault(format!("Unexpected key separator '{separator}'")))
            }
            (Some(b']'), Level::Map(_)) => Err(self
                .cursor
                .fault("Unexpected array end ']' processing map.")),
            (Some(byte @ (b',' | b';')), _) => {
                let byte = char::from(byte);
                Err(self
                    .cursor
                    .fault(format!("Expected a key but found '{byte}'")))
            }
            (Some(b'/'), _) => Err(self
                .cursor
                .fault("Expected a key but found '/': a comment starts with '//' or '#'")),
            (Some(_), _) => {
                self.entry(*level)?;
                self.end_of_entry(*level)?;
                Ok(true)
            }
        }
    }

    /// One `}` too many is forgiven where nothing follows it.
    fn stray_brace(&mut self) -> Result<bool, Fault> {
        let fault = self.cursor.fault("Unexpected '}': no map is open here");
        self.cursor.bump();
        self.cursor.skip_space_and_comments();
        if self.cursor.is_at_end() {
            Ok(false)
        } else {
            Err(fault)
        }
    }

    /// `key value`, `key = value`, `key: value` or `include path`.
    fn entry(&mut self, level: Level) -> Result<(), Fault> {
        let (key, at, is_quoted) = self.key()?;
        if !is_quoted
            && key.eq_ignore_ascii_case("include")
            && !matches!(self.cursor.peek(), None | Some(b'=' | b':'))
        {
            return self.include();
        }
        self.cursor.skip_space();
        let is_separated = self.cursor.eat(b'=') || self.cursor.eat(b':');
        // JSON puts line feeds here, so they are good wherever there are braces.
        if level == Level::Top(0) {
            self.cursor.skip_blanks()
        } else {
            self.cursor.skip_space()
        }
        let value = match (self.cursor.peek(), level) {
            (None, Level::Map(from)) => {
                return Err(self.cursor.unclosed(" processing map", from));
            }
            (None, _) if !is_separated => {
                return Err(self
                    .cursor
                    .fault_at_end(format!("config is invalid: key \"{key}\" has no value")));
            }
            (Some(b'\n' | b'\r'), _) => {
                return Err(self.cursor.fault("Expected value but found new line"));
            }
            (Some(byte @ (b'}' | b',' | b';')), _) if level != Level::Top(0) => {
                let byte = char::from(byte);
                return Err(self
                    .cursor
                    .fault(format!("Expected a value for \"{key}\" but found '{byte}'")));
            }
            _ => self.value()?,
        };
        if let Some(scope) = self.scopes.last_mut() {
            let at = Position {
                file: Arc::clone(&self.file),
                line: at.line,
                column: at.column,
            };
            scope.insert(Entry::new(&key, at, value));
        }
        Ok(())
    }

    /// A key, where it starts, and whether it is quoted.
    fn key(&mut self) -> Result<(String, Mark, bool), Fault> {
        match self.cursor.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                self.cursor.bump();
                let at = self.cursor.mark();
                Ok((self.cursor.verbatim(quote)?, at, true))
            }
            _ => {
                let at = self.cursor.mark();
                Ok((self.cursor.bare_key(), at, false))
            }
        }
    }

    /// What ends an entry: a line end, `;` or `,`. A `}` does too, but is left for whom it belongs to.
    fn end_of_entry(&mut self, level: Level) -> Result<(), Fault> {
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        let text = match (self.cursor.peek(), level) {
            (None | Some(b'}'), _) => return Ok(()),
            (Some(b'\n' | b'\r' | b';' | b','), _) => {
                self.cursor.bump();
                return Ok(());
            }
            (Some(_), Level::Top(0)) => {
                "Expected a top-level value to end with a new line, comment or EOF"
            }
            (Some(_), Level::Top(_)) => {
                "Expected a block-level value to end with a new line, comment or EOF"
            }
            (Some(_), Level::Map(_)) => {
                "Expected a map value terminator \",\" or a map terminator \"}\""
            }
        };
        Err(self.cursor.fault(format!(
            "{text}, but got '{}' instead.",
            self.cursor.shown()
        )))
    }

    /// A value at its first character.
    fn value(&mut self) -> Result<Value, Fault> {
        let mut mark = self.cursor.mark();
        if matches!(self.cursor.peek(), Some(b'"' | b'\'')) {
            // As with keys, the place of a text is its first character.
            mark.column = mark.column.saturating_add(1);
        }
        let data = match self.cursor.peek() {
            Some(b'{') => {
                self.enter()?;
                self.scopes.push(Scope::default());
                self.entries(Level::Map(mark));
                self.depth -= 1;
                Data::Map(Arc::new(self.scopes.pop().unwrap_or_default().finish()))
            }
            Some(b'[') => {
                self.enter()?;
                let items = self.items(mark);
                self.depth -= 1;
                Data::Array(Arc::new(Array::new(items)))
            }
            _ => match self.cursor.scalar()? {
                Scalar::Variable(name) => {
                    let value = self.variable(&name, mark)?;
                    return Ok(Value {
                        at: self.position(mark),
                        ..value
                    });
                }
                Scalar::String(text) => Data::String(text.into()),
                Scalar::DateTime(text) => Data::DateTime(text.into()),
                Scalar::Integer(value) => Data::Integer(value),
                Scalar::Float(value) => Data::Float(value),
                Scalar::Bool(value) => Data::Bool(value),
            },
        };
        Ok(Value {
            data,
            at: self.position(mark),
        })
    }

    /// Takes an opening bracket, unless there are too many around it.
    fn enter(&mut self) -> Result<(), Fault> {
        if self.depth >= limits::CONFIG_DEPTH_MAX {
            let fault = self.cursor.fault(format!(
                "nested more than {} levels deep",
                limits::CONFIG_DEPTH_MAX
            ));
            self.cursor.finish();
            return Err(fault);
        }
        self.depth += 1;
        self.cursor.bump();
        Ok(())
    }

    /// The elements of an array, which begins at `from`, up to its `]`, which is taken.
    fn items(&mut self, from: Mark) -> Vec<Value> {
        let mut items = Vec::new();
        loop {
            if self.shared.is_full() {
                self.cursor.finish();
            }
            match self.next_item(from) {
                Ok(Some(value)) => items.push(value),
                Ok(None) => return items,
                Err(fault) => {
                    self.record(fault);
                    self.recover(|byte| byte == b']');
                }
            }
        }
    }

    fn next_item(&mut self, from: Mark) -> Result<Option<Value>, Fault> {
        self.cursor.skip_space_and_comments();
        match self.cursor.peek() {
            None => {
                let fault = self.cursor.unclosed(" processing array", from);
                self.record(fault);
                return Ok(None);
            }
            Some(b']') => {
                self.cursor.bump();
                return Ok(None);
            }
            Some(b',') => return Err(self.cursor.fault("Unexpected array value terminator ','.")),
            Some(byte @ (b';' | b'}')) => {
                let byte = char::from(byte);
                return Err(self
                    .cursor
                    .fault(format!("Expected an array value but found '{byte}'")));
            }
            Some(_) => {}
        }
        let value = self.value()?;
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        match self.cursor.peek() {
            None | Some(b']') => {}
            Some(b',' | b'\n' | b'\r') => {
                self.cursor.bump();
            }
            Some(_) => {
                let text = "Expected an array value terminator \",\" or an array terminator \"]\"";
                return Err(self.cursor.fault(format!(
                    "{text}, but got '{}' instead.",
                    self.cursor.shown()
                )));
            }
        }
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests;
