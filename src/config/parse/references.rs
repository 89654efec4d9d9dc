//! What lies outside the text at the cursor: variables, the environment and included files.

use std::path::{Component, Path, PathBuf};

use super::super::lex::{Fault, Mark};
use super::super::outside;
use super::super::value::Value;
use super::{Level, Parser};
use crate::limits;

impl Parser<'_, '_, '_> {
    /// What `$name` stands for: a key of this map or one around it, else an environment variable.
    pub(super) fn variable(&mut self, name: &str, at: Mark) -> Result<Value, Fault> {
        let fault = |text: String| Fault {
            at,
            text,
            at_end: false,
        };
        let known = self
            .scopes
            .iter_mut()
            .rev()
            .find_map(|scope| scope.variable(name));
        let value = match known {
            Some(value) => Some(value),
            None => self.environment(name, at)?,
        };
        // The documentation says that case does not matter, so that is the last resort.
        let value = value.or_else(|| {
            self.scopes
                .iter_mut()
                .rev()
                .find_map(|scope| scope.variable_in_any_case(name))
        });
        let Some(value) = value else {
            return Err(fault(format!(
                "variable reference for '{name}' on line {} can not be found",
                at.line
            )));
        };
        if self.depth + value.size().depth > limits::CONFIG_DEPTH_MAX {
            let limit = limits::CONFIG_DEPTH_MAX;
            return Err(fault(format!(
                "variable reference for '{name}' is nested more than {limit} levels deep"
            )));
        }
        Ok(value)
    }

    /// The environment variable `name`, read as if it stood behind a `=`.
    fn environment(&mut self, name: &str, at: Mark) -> Result<Option<Value>, Fault> {
        if let Some(value) = self.shared.known.get(name) {
            return Ok(Some(value.clone()));
        }
        let wrapped = |inner: &str| {
            let line = at.line;
            let text = format!(
                "variable reference for '{name}' on line {line} could not be parsed: {inner}"
            );
            Fault {
                at,
                text,
                at_end: false,
            }
        };
        if self.shared.variables.iter().any(|it| it == name) {
            return Err(wrapped(&format!("variable reference cycle for '{name}'")));
        }
        if self.depth >= limits::CONFIG_DEPTH_MAX {
            return Err(wrapped("too many variables refer to each other"));
        }
        let Some(text) = self.shared.outside.variable(name) else {
            return Ok(None);
        };
        if !self.shared.takes(text.len()) {
            return Err(wrapped("too much text for a configuration"));
        }
        let errors_before = self.shared.errors.len();
        self.shared.variables.push(name.into());
        let mut parser = Parser::new(name, text.as_bytes(), self.shared);
        // Counts as nested, since the call stack is.
        parser.depth = self.depth + 1;
        let value = parser.lone_value();
        self.shared.variables.pop();
        let inner: Vec<_> = self
            .shared
            .errors
            .drain(errors_before..)
            .map(|it| it.text)
            .collect();
        match (value, inner.first()) {
            (Ok(value), None) => {
                self.shared.known.insert(name.into(), value.clone());
                Ok(Some(value))
            }
            (Err(fault), None) => Err(wrapped(&fault.text)),
            (_, Some(first)) => Err(wrapped(first)),
        }
    }

    /// A text that is nothing but one value.
    fn lone_value(mut self) -> Result<Value, Fault> {
        self.cursor.skip_blanks();
        if matches!(self.cursor.peek(), Some(b'\n' | b'\r')) {
            return Err(self.cursor.fault("Expected value but found new line"));
        }
        let value = self.value()?;
        self.cursor.skip_space_and_comments();
        if self.cursor.is_at_end() {
            return Ok(value);
        }
        self.end_of_entry(Level::Top(0))?;
        Err(self.cursor.fault("Expected one value only"))
    }

    /// The rest of `include path`: the file's entries join the current map.
    pub(super) fn include(&mut self) -> Result<(), Fault> {
        self.cursor.skip_blanks();
        let at = self.cursor.mark();
        let path = self.cursor.include_path()?;
        let fault = |text: String| Fault {
            at,
            text: format!("error parsing include file '{path}', {text}"),
            at_end: false,
        };
        let joined = self.joined(&path);
        let shown = joined.display().to_string();
        if self.shared.files.contains(&joined) {
            return Err(fault(format!("{shown} includes itself")));
        }
        if self.shared.files.len() > limits::CONFIG_INCLUDE_DEPTH_MAX {
            return Err(fault(format!(
                "more than {} files include each other",
                limits::CONFIG_INCLUDE_DEPTH_MAX
            )));
        }
        let text = self
            .shared
            .outside
            .read(&joined)
            .map_err(|error| fault(outside::describe(&shown, &error)))?;
        if !self.shared.takes(text.len()) {
            return Err(fault(format!(
                "the configuration has more than {} bytes",
                limits::CONFIG_BYTES_MAX
            )));
        }
        self.shared.files.push(joined);
        let mut included = Parser::new(&shown, &text, self.shared);
        included.depth = self.depth;
        let map = included.file();
        self.shared.files.pop();
        if let Some(scope) = self.scopes.last_mut() {
            scope.absorb(map);
        }
        Ok(())
    }

    /// An include's path: always below the including file's folder, even when it starts with a slash.
    fn joined(&self, path: &str) -> PathBuf {
        let folder = Path::new(&*self.file)
            .parent()
            .unwrap_or_else(|| Path::new(""));
        clean(&folder.join(path.trim_start_matches('/')))
    }
}

/// The path without `.` and with `..` taken back as far as that can be done by the text alone.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        let is_named = matches!(cleaned.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::CurDir => {}
            Component::ParentDir if is_named => {
                cleaned.pop();
            }
            Component::ParentDir if cleaned.has_root() => {}
            _ => cleaned.push(part),
        }
    }
    cleaned
}
