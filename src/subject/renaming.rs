//! Renamings: the two names of an imported subject, the exporting account's and the importing one's.
//!
//! ```text
//! there   shop.*.orders.*
//! here    orders.$2.$1
//!
//! shop.eu.orders.7  ◄─►  orders.7.eu
//! ```
//!
//! Each wildcard stands once on either side, so that names go both ways, and so do patterns: what a subscription here
//! wants of the import is a pattern there.

use std::fmt;

use super::{is_valid, tokens};

/// A pair of patterns with the same wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    there: Vec<Token>,
    here: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Box<[u8]>),
    /// The n-th wildcard of the pattern there, from 0.
    Wildcard(usize),
    /// `>`.
    Rest,
}

/// Why two names do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenamingError {
    /// A malformed name, or `>` in only one of the two.
    Subject,
    /// A name for here that leaves out a wildcard.
    Unused(String),
    /// One that has a wildcard twice.
    Repeated(String),
    /// One that refers to a wildcard that is not there.
    WildcardIndex(String),
    /// A function other than `wildcard`.
    Function(String),
}

impl fmt::Display for RenamingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = match self {
            RenamingError::Subject => return f.write_str("invalid subject"),
            RenamingError::Unused(name) => ("not using all of the token wildcard(s)", name),
            RenamingError::Repeated(name) => ("using a wildcard more than once", name),
            RenamingError::WildcardIndex(name) => ("wildcard index out of range", name),
            RenamingError::Function(name) => (
                "the only mapping function allowed for import transforms is {{Wildcard()}}",
                name,
            ),
        };
        write!(f, "invalid mapping destination: {what} in {name}")
    }
}

impl Renaming {
    /// The renaming of what `there` matches to `here`, which refers to the wildcards as `$1` or `{{wildcard(1)}}`, or
    /// has a `*` for each in their order.
    ///
    /// # Errors
    ///
    /// [`RenamingError`]
    pub fn new(there: &str, here: &str) -> Result<Self, RenamingError> {
        if !is_valid(there.as_bytes()) || !is_valid(here.as_bytes()) {
            return Err(RenamingError::Subject);
        }
        let there = plain(there);
        let count = there
            .iter()
            .filter(|it| matches!(it, Token::Wildcard(_)))
            .count();
        let mut stars = 0..;
        let mut tokens = Vec::new();
        for token in here.split('.') {
            tokens.push(match token {
                ">" => Token::Rest,
                "*" => Token::Wildcard(stars.next().unwrap_or(usize::MAX)),
                token => reference(token)?,
            });
        }
        let mut used = vec![false; count];
        for token in &tokens {
            if let Token::Wildcard(number) = token {
                match used.get_mut(*number) {
                    None => return Err(RenamingError::WildcardIndex(here.into())),
                    Some(true) => return Err(RenamingError::Repeated(here.into())),
                    Some(used) => *used = true,
                }
            }
        }
        if used.contains(&false) {
            return Err(RenamingError::Unused(here.into()));
        }
        if (there.last() == Some(&Token::Rest)) != (tokens.last() == Some(&Token::Rest)) {
            return Err(RenamingError::Subject);
        }
        Ok(Renaming {
            there,
            here: tokens,
        })
    }

    /// Both names are the same.
    ///
    /// # Errors
    ///
    /// [`RenamingError::Subject`] if it is malformed.
    pub fn same(subject: &str) -> Result<Self, RenamingError> {
        if !is_valid(subject.as_bytes()) {
            return Err(RenamingError::Subject);
        }
        Ok(Renaming {
            there: plain(subject),
            here: plain(subject),
        })
    }

    /// One subject there has all the names that a pattern here matches.
    ///
    /// # Errors
    ///
    /// [`RenamingError::Subject`] if one of the two is malformed.
    pub fn one_for_all(there: &str, here: &str) -> Result<Self, RenamingError> {
        let there = Renaming::same(there)?.there;
        let here = Renaming::same(here)?.here;
        Ok(Renaming { there, here })
    }

    /// The name here of a subject there, appended to `out`; false if it is none of those.
    pub fn name_here(&self, subject: &[u8], out: &mut Vec<u8>) -> bool {
        rename(&self.there, &self.here, subject, out)
    }

    /// The name there of a subject here, appended to `out`; false if it is none of those.
    pub fn name_there(&self, subject: &[u8], out: &mut Vec<u8>) -> bool {
        rename(&self.here, &self.there, subject, out)
    }

    /// The pattern there for what `pattern`, which is one to subscribe to here, matches of it; none if that is nothing.
    #[must_use]
    pub fn wanted_there(&self, pattern: &[u8]) -> Option<Vec<u8>> {
        let captures = meet(&self.here, pattern)?;
        let mut out = Vec::new();
        write(&self.there, &captures, &mut out);
        Some(out)
    }

    /// The pattern here.
    #[must_use]
    pub fn pattern_here(&self) -> Vec<u8> {
        let stars = vec![&b"*"[..]; self.there.len().max(self.here.len())];
        let captures = Captures {
            wildcards: stars,
            rest: vec![b">"],
        };
        let mut out = Vec::new();
        write(&self.here, &captures, &mut out);
        out
    }
}

/// A pattern whose wildcards are counted in their order.
fn plain(pattern: &str) -> Vec<Token> {
    let mut numbers = 0..;
    let token = |token| match token {
        "*" => Token::Wildcard(numbers.next().unwrap_or(usize::MAX)),
        ">" => Token::Rest,
        token => Token::Literal(token.as_bytes().into()),
    };
    pattern.split('.').map(token).collect()
}

/// `$n`, `{{wildcard(n)}}` or plain text.
fn reference(token: &str) -> Result<Token, RenamingError> {
    let function = token
        .strip_prefix("{{")
        .and_then(|it| it.strip_suffix("}}"));
    let number = match (token.strip_prefix('$'), function) {
        (Some(number), _) if !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()) => {
            number
        }
        (_, Some(function)) => {
            let (name, rest) = function.split_once('(').unwrap_or_default();
            let number = rest.trim_end().strip_suffix(')').map(str::trim);
            match number.filter(|_| name.trim().eq_ignore_ascii_case("wildcard")) {
                Some(number) => number,
                None => return Err(RenamingError::Function(token.into())),
            }
        }
        _ => return Ok(Token::Literal(token.as_bytes().into())),
    };
    let number = number
        .parse::<usize>()
        .ok()
        .and_then(|it| it.checked_sub(1));
    number
        .map(Token::Wildcard)
        .ok_or_else(|| RenamingError::WildcardIndex(token.into()))
}

/// What the wildcards of a pattern stand for.
struct Captures<'a> {
    wildcards: Vec<&'a [u8]>,
    /// The tokens that `>` stands for.
    rest: Vec<&'a [u8]>,
}

fn rename(from: &[Token], to: &[Token], subject: &[u8], out: &mut Vec<u8>) -> bool {
    let mut captures = Captures {
        wildcards: vec![b""; from.len().max(to.len())],
        rest: Vec::new(),
    };
    let mut given = tokens(subject);
    for token in from {
        match (token, given.next()) {
            (_, None | Some(b"")) => return false,
            (Token::Literal(literal), Some(given)) if **literal == *given => {}
            (Token::Literal(_), Some(_)) => return false,
            (Token::Wildcard(number), Some(given)) => set(&mut captures.wildcards, *number, given),
            (Token::Rest, Some(first)) => {
                captures.rest.push(first);
                captures.rest.extend(given.by_ref());
            }
        }
    }
    if given.next().is_some() || captures.rest.contains(&&b""[..]) {
        return false;
    }
    write(to, &captures, out);
    true
}

/// What two patterns have in common, as what the wildcards of the first one stand for.
fn meet<'a>(pattern: &[Token], other: &'a [u8]) -> Option<Captures<'a>> {
    let mut captures = Captures {
        wildcards: vec![b"*"; pattern.len()],
        rest: Vec::new(),
    };
    let mut given = tokens(other);
    for token in pattern {
        match (token, given.next()?) {
            (_, b">") => {
                captures.rest.push(b">");
                return Some(captures);
            }
            (Token::Rest, first) => {
                captures.rest.push(first);
                captures.rest.extend(given.by_ref());
                return Some(captures);
            }
            (Token::Literal(literal), given) => {
                if given != b"*" && **literal != *given {
                    return None;
                }
            }
            (Token::Wildcard(number), given) => set(&mut captures.wildcards, *number, given),
        }
    }
    given.next().is_none().then_some(captures)
}

fn set<'a>(captures: &mut [&'a [u8]], number: usize, token: &'a [u8]) {
    if let Some(capture) = captures.get_mut(number) {
        *capture = token;
    }
}

fn write(pattern: &[Token], captures: &Captures<'_>, out: &mut Vec<u8>) {
    for (position, token) in pattern.iter().enumerate() {
        if position > 0 {
            out.push(b'.');
        }
        match token {
            Token::Literal(literal) => out.extend_from_slice(literal),
            Token::Wildcard(number) => {
                out.extend_from_slice(captures.wildcards.get(*number).copied().unwrap_or_default());
            }
            Token::Rest => out.extend_from_slice(&captures.rest.join(&b'.')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn names_go_both_ways() {
        for (there, here, far, near) in [
            ("a", "b", "a", "b"),
            ("ev.*", "x.$1", "ev.a", "x.a"),
            ("ev.*", "x.*", "ev.a", "x.a"),
            ("ev.*.*", "x.$2.{{wildcard(1)}}", "ev.a.b", "x.b.a"),
            ("ev.>", "x.>", "ev.a.b", "x.a.b"),
            ("*.p.>", "$1.>", "q.p.a.b", "q.a.b"),
        ] {
            let renaming = Renaming::new(there, here).unwrap();
            let (mut there, mut here) = (Vec::new(), Vec::new());
            assert!(renaming.name_here(far.as_bytes(), &mut here));
            assert!(renaming.name_there(near.as_bytes(), &mut there));
            assert_eq!((text(here), text(there)), (near.into(), far.into()));
            assert!(!renaming.name_here(b"no", &mut Vec::new()));
            assert!(!renaming.name_here(b"ev..b", &mut Vec::new()));
        }
    }

    #[test]
    fn names_that_do_not_go_together_are_refused() {
        for (there, here, expected) in [
            ("ev.*", "x", "not using all of the token wildcard(s) in x"),
            (
                "ev.*",
                "x.$1.$1",
                "using a wildcard more than once in x.$1.$1",
            ),
            ("ev.*", "x.$2", "wildcard index out of range in x.$2"),
            ("lit", "x.*", "wildcard index out of range in x.*"),
            (
                "ev.*",
                "x.{{partition(3)}}",
                "the only mapping function allowed for import transforms is {{Wildcard()}} in {{partition(3)}}",
            ),
        ] {
            let error = Renaming::new(there, here).unwrap_err().to_string();
            assert_eq!(error, format!("invalid mapping destination: {expected}"));
        }
        for (there, here) in [("ev.>", "x"), ("lit", "x.>"), ("a..b", "x"), ("a", "x.")] {
            assert_eq!(Renaming::new(there, here), Err(RenamingError::Subject));
        }
    }

    #[test]
    fn a_pattern_wants_exactly_what_it_matches_of_the_import() {
        let words = ["a", "b", "*"];
        let mut patterns: Vec<String> =
            vec![">".into(), "x.>".into(), "x.a.>".into(), "*.>".into()];
        for first in ["x", "y", "*"] {
            for second in words {
                patterns.push(format!("{first}.{second}"));
                patterns.push(format!("{first}.{second}.>"));
                patterns.extend(words.map(|third| format!("{first}.{second}.{third}")));
            }
        }
        for (there, here) in [
            ("ev.*.*", "x.$2.$1"),
            ("ev.*", "x.$1"),
            ("ev.>", "x.>"),
            ("*.b", "x.$1"),
            ("ev.*.>", "x.$1.>"),
        ] {
            let renaming = Renaming::new(there, here).unwrap();
            for pattern in &patterns {
                let wanted = renaming.wanted_there(pattern.as_bytes());
                for far in [
                    "ev.a", "ev.b", "ev.c", "ev.a.b", "ev.b.a", "ev.a.a", "ev.b.c", "a.b", "c.b",
                    "ev.a.b.a",
                ] {
                    let mut near = Vec::new();
                    let expected = renaming.name_here(far.as_bytes(), &mut near)
                        && subject::matches(pattern.as_bytes(), &near);
                    let found = wanted
                        .as_ref()
                        .is_some_and(|wanted| subject::matches(wanted, far.as_bytes()));
                    assert_eq!(found, expected, "{there} as {here}, {pattern}, {far}");
                }
            }
        }
        assert_eq!(
            Renaming::new("ev.*.>", "x.$1.>").unwrap().pattern_here(),
            b"x.*.>"
        );
    }
}
