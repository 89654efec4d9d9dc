//! Subject transforms: how a mapping makes one subject of another.
//!
//! ```text
//! source       orders.*.>
//! destination  shop.{{partition(4,1)}}.$1.>
//!
//! orders.eu.new.7  ─►  shop.2.eu.new.7
//! ```
//!
//! A token of the destination is literal, `>` for what the source's `>` matched, or a function of what its `*` matched,
//! which are counted from 1. Source: "Subject Mapping and Transforms" of the NATS documentation, as the reference server
//! applies it.

use std::fmt;
use std::io::Write as _;

use super::{is_valid, tokens};

/// A checked destination of a mapping, for subjects that its source matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Places of the source's `*`, by token.
    wildcards: Vec<usize>,
    /// Tokens of the source before its `>`, if it ends in one.
    rest_at: Option<usize>,
    parts: Vec<Part>,
}

/// One token of a destination, or what gives several.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    /// What `>` matched.
    Rest,
    /// `$n`, `wildcard(n)`: the n-th wildcard, from 0 here.
    Wildcard(usize),
    /// `partition(buckets, n, …)`: a number below `buckets` that depends on these wildcards, on the whole subject if
    /// none is named.
    Partition {
        buckets: u32,
        wildcards: Vec<usize>,
    },
    /// `random(bound)`.
    Random(u32),
    /// `split(n, delimiter)`: a token for each piece that is not empty.
    Split {
        wildcard: usize,
        delimiter: Box<[u8]>,
    },
    /// `splitFromLeft(n, position)` and `splitFromRight`: two tokens.
    SplitAt {
        wildcard: usize,
        position: usize,
        side: Side,
    },
    /// `sliceFromLeft(n, size)` and `sliceFromRight`: tokens of that many bytes; the odd one is the last, or the first.
    Slice {
        wildcard: usize,
        size: usize,
        side: Side,
    },
    /// `left(n, len)` and `right(n, len)`: so many bytes of one end.
    End {
        wildcard: usize,
        len: usize,
        side: Side,
    },
}

/// Where counting starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Why a destination does not go with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformError {
    /// A subject that nobody can publish to, or `>` in only one of the two.
    Subject,
    /// An empty token, or `>` before the end.
    Form,
    /// No function has this name.
    UnknownFunction(String),
    /// Fewer arguments than the function needs.
    TooFewArguments(String),
    /// More than it takes.
    TooManyArguments(String),
    /// An argument that is not what the function needs there.
    Argument(String),
    /// The source does not have that many wildcards.
    WildcardIndex(String),
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, token) = match self {
            TransformError::Subject => return f.write_str("invalid subject"),
            TransformError::Form => {
                return f.write_str("invalid mapping destination: invalid transform");
            }
            TransformError::UnknownFunction(token) => ("unknown function", token),
            TransformError::TooFewArguments(token) => {
                ("not enough arguments passed to the function", token)
            }
            TransformError::TooManyArguments(token) => {
                ("too many arguments passed to the function", token)
            }
            TransformError::Argument(token) => {
                ("function argument is invalid or in the wrong format", token)
            }
            TransformError::WildcardIndex(token) => ("wildcard index out of range", token),
        };
        write!(f, "invalid mapping destination: {what} in {token}")
    }
}

impl Transform {
    /// Checks a destination against its source.
    ///
    /// # Errors
    ///
    /// [`TransformError`], with the token that is to blame.
    pub fn new(source: &str, destination: &str) -> Result<Self, TransformError> {
        if !is_valid(source.as_bytes()) || destination.is_empty() {
            return Err(TransformError::Subject);
        }
        let mut wildcards = Vec::new();
        let mut rest_at = None;
        for (at, token) in source.split('.').enumerate() {
            match token {
                "*" => wildcards.push(at),
                ">" => rest_at = Some(at),
                _ => {}
            }
        }
        let mut parts: Vec<Part> = Vec::new();
        for token in pieces(destination) {
            if parts.last() == Some(&Part::Rest) || token.is_empty() {
                return Err(TransformError::Form);
            }
            parts.push(part(token, wildcards.len())?);
        }
        if (parts.last() == Some(&Part::Rest)) != rest_at.is_some() {
            return Err(TransformError::Subject);
        }
        Ok(Transform {
            wildcards,
            rest_at,
            parts,
        })
    }

    /// Appends what `subject`, which the source matches, becomes. `random` is a number to draw from.
    pub fn apply(&self, subject: &[u8], random: u64, out: &mut Vec<u8>) {
        let given: Vec<&[u8]> = tokens(subject).collect();
        let wildcard = |number: usize| {
            let at = self.wildcards.get(number).copied();
            at.and_then(|at| given.get(at)).copied().unwrap_or_default()
        };
        for (position, part) in self.parts.iter().enumerate() {
            if position > 0 {
                out.push(b'.');
            }
            match part {
                Part::Literal(token) => out.extend_from_slice(token),
                Part::Rest => {
                    let rest = given.get(self.rest_at.unwrap_or(0)..);
                    out.extend_from_slice(&rest.unwrap_or_default().join(&b'.'));
                }
                Part::Wildcard(number) => out.extend_from_slice(wildcard(*number)),
                Part::Partition { buckets, wildcards } => {
                    let hash = if self.wildcards.is_empty() && self.rest_at.is_none() {
                        // As the reference server has it; a literal source has one partition in any case.
                        fnv_1a(&[])
                    } else if wildcards.is_empty() {
                        fnv_1a(&[subject])
                    } else {
                        let keys: Vec<&[u8]> = wildcards.iter().map(|&it| wildcard(it)).collect();
                        fnv_1a(&keys)
                    };
                    // Writing to a Vec cannot fail.
                    let _ = write!(out, "{}", hash.checked_rem(*buckets).unwrap_or(0));
                }
                Part::Random(bound) => {
                    let _ = write!(
                        out,
                        "{}",
                        random.checked_rem(u64::from(*bound)).unwrap_or(0)
                    );
                }
                Part::Split {
                    wildcard: number,
                    delimiter,
                } => split(wildcard(*number), delimiter, out),
                Part::SplitAt {
                    wildcard: number,
                    position,
                    side,
                } => split_at(wildcard(*number), *position, *side, out),
                Part::Slice {
                    wildcard: number,
                    size,
                    side,
                } => slice(wildcard(*number), *size, *side, out),
                Part::End {
                    wildcard: number,
                    len,
                    side,
                } => out.extend_from_slice(end(wildcard(*number), *len, *side)),
            }
        }
    }
}

/// The tokens of a destination: a dot between `{{` and `}}` parts nothing.
fn pieces(destination: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = destination;
    loop {
        // A function stands for a whole token; braces inside a longer one are plain text.
        let inside = if rest.starts_with("{{") {
            rest.find("}}").unwrap_or(0)
        } else {
            0
        };
        let dot = rest.get(inside..).and_then(|it| it.find('.'));
        let Some((token, behind)) = dot.and_then(|dot| rest.split_at_checked(inside + dot)) else {
            pieces.push(rest);
            return pieces;
        };
        pieces.push(token);
        rest = behind.get(1..).unwrap_or_default();
    }
}

/// What a token of a destination stands for, where the source has so many wildcards.
fn part(token: &str, wildcards: usize) -> Result<Part, TransformError> {
    let literal = || Ok(Part::Literal(token.as_bytes().into()));
    let index = |text: &str| -> Result<usize, TransformError> {
        let number: usize = parse(text, token)?;
        match number.checked_sub(1).filter(|index| *index < wildcards) {
            Some(index) => Ok(index),
            None => Err(TransformError::WildcardIndex(token.into())),
        }
    };
    if token == ">" {
        return Ok(Part::Rest);
    }
    let has_blank = |it: &str| it.bytes().any(|byte| byte.is_ascii_whitespace());
    let Some(inner) = token
        .strip_prefix("{{")
        .and_then(|it| it.strip_suffix("}}"))
    else {
        if token == "*" || has_blank(token) {
            return Err(TransformError::Subject);
        }
        return match token.strip_prefix('$') {
            Some(number) if !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()) => {
                index(number).map(Part::Wildcard)
            }
            _ => literal(),
        };
    };
    let unknown = || TransformError::UnknownFunction(token.into());
    let (name, arguments) = inner.trim().split_once('(').ok_or_else(unknown)?;
    let arguments = arguments.strip_suffix(')').ok_or_else(unknown)?;
    let arguments: Vec<&str> = match arguments.trim() {
        "" => Vec::new(),
        some => some.split(',').map(str::trim).collect(),
    };
    let count = |min: usize, max: usize| match arguments.len() {
        len if len < min => Err(TransformError::TooFewArguments(token.into())),
        len if len > max => Err(TransformError::TooManyArguments(token.into())),
        _ => Ok(()),
    };
    let argument = |at: usize| arguments.get(at).copied().unwrap_or_default();
    let pair = || -> Result<(usize, usize), TransformError> {
        count(2, 2)?;
        Ok((index(argument(0))?, parse(argument(1), token)?))
    };
    match name.trim().to_ascii_lowercase().as_str() {
        "wildcard" => {
            count(1, 1)?;
            index(argument(0)).map(Part::Wildcard)
        }
        "partition" => {
            count(1, usize::MAX)?;
            let wildcards = arguments.iter().skip(1).map(|it| index(it));
            Ok(Part::Partition {
                buckets: parse(argument(0), token)?,
                wildcards: wildcards.collect::<Result<_, _>>()?,
            })
        }
        "random" => {
            count(1, 1)?;
            parse(argument(0), token).map(Part::Random)
        }
        "split" => {
            count(2, 2)?;
            let delimiter = argument(1);
            if delimiter.is_empty() || has_blank(delimiter) {
                return Err(TransformError::Argument(token.into()));
            }
            Ok(Part::Split {
                wildcard: index(argument(0))?,
                delimiter: delimiter.as_bytes().into(),
            })
        }
        name @ ("splitfromleft" | "splitfromright") => {
            pair().map(|(wildcard, position)| Part::SplitAt {
                wildcard,
                position,
                side: side(name),
            })
        }
        name @ ("slicefromleft" | "slicefromright") => pair().map(|(wildcard, size)| Part::Slice {
            wildcard,
            size,
            side: side(name),
        }),
        name @ ("left" | "right") => pair().map(|(wildcard, len)| Part::End {
            wildcard,
            len,
            side: side(name),
        }),
        _ => Err(unknown()),
    }
}

fn side(function: &str) -> Side {
    if function.ends_with("left") {
        Side::Left
    } else {
        Side::Right
    }
}

fn parse<T: std::str::FromStr>(text: &str, token: &str) -> Result<T, TransformError> {
    let error = |_| TransformError::Argument(token.into());
    text.parse().map_err(error)
}

/// The 32-bit FNV-1a hash of the keys, one behind the other.
fn fnv_1a(keys: &[&[u8]]) -> u32 {
    let bytes = keys.iter().copied().flatten();
    bytes.fold(0x811C_9DC5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn split(token: &[u8], delimiter: &[u8], out: &mut Vec<u8>) {
    let mut rest = token;
    let mut is_first = true;
    let mut piece = |piece: &[u8]| {
        if !piece.is_empty() {
            if !std::mem::take(&mut is_first) {
                out.push(b'.');
            }
            out.extend_from_slice(piece);
        }
    };
    while let Some(at) = memchr::memmem::find(rest, delimiter) {
        let (before, after) = rest.split_at(at);
        piece(before);
        rest = after.get(delimiter.len()..).unwrap_or_default();
    }
    piece(rest);
}

fn split_at(token: &[u8], position: usize, side: Side, out: &mut Vec<u8>) {
    let at = match side {
        Side::Left => position,
        Side::Right => token.len().saturating_sub(position),
    };
    match token.split_at_checked(at) {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            out.extend_from_slice(left);
            out.push(b'.');
            out.extend_from_slice(right);
        }
        _ => out.extend_from_slice(token),
    }
}

fn slice(token: &[u8], size: usize, side: Side, out: &mut Vec<u8>) {
    if size == 0 || size >= token.len() {
        return out.extend_from_slice(token);
    }
    let odd = match side {
        Side::Left => 0,
        Side::Right => token.len() % size,
    };
    let (first, rest) = token.split_at(odd);
    out.extend_from_slice(first);
    for (at, slice) in rest.chunks(size).enumerate() {
        if at > 0 || odd > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(slice);
    }
}

fn end(token: &[u8], len: usize, side: Side) -> &[u8] {
    let part = match side {
        Side::Left => token.get(..len),
        Side::Right => token.len().checked_sub(len).and_then(|at| token.get(at..)),
    };
    part.filter(|part| !part.is_empty()).unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(source: &str, destination: &str, subject: &str) -> String {
        let transform = Transform::new(source, destination).unwrap();
        let mut out = Vec::new();
        transform.apply(subject.as_bytes(), 7, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn destinations_are_made_as_the_reference_server_makes_them() {
        for (source, destination, subject, expected) in [
            ("foo", "bar", "foo", "bar"),
            ("foo.*", "bar.$1", "foo.x", "bar.x"),
            ("foo.*.*", "bar.$2.$1", "foo.x.y", "bar.y.x"),
            ("foo.*", "bar.{{ wildcard( 1 ) }}", "foo.x", "bar.x"),
            ("foo.*", "bar.$x", "foo.abcde", "bar.$x"),
            (
                "foo.*",
                "bar.x{{wildcard(1)}}",
                "foo.a",
                "bar.x{{wildcard(1)}}",
            ),
            ("foo.>", "bar.>", "foo.a.b.c", "bar.a.b.c"),
            ("foo.*.>", "bar.$1.>", "foo.a.b.c", "bar.a.b.c"),
            ("foo.*", "bar.{{partition(3,1)}}", "foo.a", "bar.1"),
            ("foo.*", "bar.{{partition(3,1)}}", "foo.hello", "bar.0"),
            ("foo.*", "bar.{{partition(3)}}", "foo.hello", "bar.2"),
            ("foo", "bar.{{partition(5)}}", "foo", "bar.1"),
            ("foo.*.*", "bar.{{partition(7,1,2)}}", "foo.b.cc", "bar.3"),
            ("foo.*", "bar.{{partition(0,1)}}", "foo.a", "bar.0"),
            ("foo.*", "bar.{{random(0)}}", "foo.a", "bar.0"),
            ("foo.*", "bar.{{random(4)}}", "foo.a", "bar.3"),
            ("foo.*", "bar.{{split(1,-)}}", "foo.-a--b-", "bar.a.b"),
            ("foo.*", "bar.{{split(1,.)}}", "foo.a", "bar.a"),
            (
                "foo.*",
                "bar.{{splitFromLeft(1,2)}}",
                "foo.abcde",
                "bar.ab.cde",
            ),
            ("foo.*", "bar.{{splitFromLeft(1,2)}}", "foo.ab", "bar.ab"),
            (
                "foo.*",
                "bar.{{splitFromRight(1,2)}}",
                "foo.abcde",
                "bar.abc.de",
            ),
            (
                "foo.*",
                "bar.{{splitFromRight(1,0)}}",
                "foo.abcde",
                "bar.abcde",
            ),
            (
                "foo.*",
                "bar.{{splitFromRight(1,9)}}",
                "foo.abcde",
                "bar.abcde",
            ),
            (
                "foo.*",
                "bar.{{sliceFromLeft(1,2)}}",
                "foo.abcde",
                "bar.ab.cd.e",
            ),
            (
                "foo.*",
                "bar.{{slicefromleft(1,0)}}",
                "foo.abcde",
                "bar.abcde",
            ),
            (
                "foo.*",
                "bar.{{SliceFromRight(1,2)}}",
                "foo.abcde",
                "bar.a.bc.de",
            ),
            (
                "foo.*",
                "bar.{{sliceFromRight(1,2)}}",
                "foo.abcd",
                "bar.ab.cd",
            ),
            ("foo.*", "bar.{{left(1,2)}}", "foo.abcde", "bar.ab"),
            ("foo.*", "bar.{{left(1,2)}}", "foo.a", "bar.a"),
            ("foo.*", "bar.{{left(1,0)}}", "foo.abc", "bar.abc"),
            ("foo.*", "bar.{{right(1,2)}}", "foo.abcde", "bar.de"),
        ] {
            let text = applied(source, destination, subject);
            assert_eq!(text, expected, "{source} -> {destination}");
        }
    }

    #[test]
    fn what_does_not_go_with_its_source_is_refused() {
        for (source, destination, expected) in [
            ("foo", "", "invalid subject"),
            ("foo.*", "bar.*", "invalid subject"),
            ("foo.>", "bar", "invalid subject"),
            ("foo", "bar.>", "invalid subject"),
            ("foo", "a b", "invalid subject"),
            (
                "foo",
                "bar..x",
                "invalid mapping destination: invalid transform",
            ),
            (
                "foo.*.>",
                "bar.>.$1",
                "invalid mapping destination: invalid transform",
            ),
            (
                "foo",
                "bar.$1",
                "invalid mapping destination: wildcard index out of range in $1",
            ),
            (
                "foo.*",
                "bar.$0",
                "invalid mapping destination: wildcard index out of range in $0",
            ),
            (
                "foo.*",
                "bar.{{wildcard(2)}}",
                "invalid mapping destination: wildcard index out of range in {{wildcard(2)}}",
            ),
            (
                "foo.*",
                "bar.{{nope(1)}}",
                "invalid mapping destination: unknown function in {{nope(1)}}",
            ),
            (
                "foo.*",
                "bar.{{wildcard()}}",
                "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}",
            ),
            (
                "foo.*",
                "bar.{{wildcard(1,2)}}",
                "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}",
            ),
            (
                "foo.*",
                "bar.{{partition(x,1)}}",
                "invalid mapping destination: function argument is invalid or in the wrong format in {{partition(x,1)}}",
            ),
            (
                "foo.*",
                "bar.{{split(1, )}}",
                "invalid mapping destination: function argument is invalid or in the wrong format in {{split(1, )}}",
            ),
        ] {
            let error = Transform::new(source, destination).unwrap_err();
            assert_eq!(error.to_string(), expected, "{source} -> {destination}");
        }
    }
}
