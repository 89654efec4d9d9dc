//! The query of a URL: percent escapes and the values of parameters.
//!
//! A pair with a semicolon or a broken escape is dropped; of several of one name the first counts; an empty value is the
//! default. What a value cannot be is told in the reference server's words, which tools may show.

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// A parameter with a value it cannot have; shows itself as the page that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadParameter(pub String);

/// How subscriptions are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// Not at all.
    #[default]
    None,
    /// Subjects.
    Subjects,
    /// All that is known.
    Details,
}

impl Query {
    /// Reads what stands behind the question mark.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.contains(';'));
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        Query(pairs.collect())
    }

    /// The text of a parameter; empty if it is absent.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A truth value; false if it is absent.
    ///
    /// # Errors
    ///
    /// If it is neither true nor false.
    pub fn flag(&self, name: &str) -> Result<bool, BadParameter> {
        match self.text(name) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(bad("boolean", name, "ParseBool", other, "invalid syntax")),
        }
    }

    /// A number with or without a sign; 0 if it is absent.
    ///
    /// # Errors
    ///
    /// If it is none, or one of more than 64 bits.
    pub fn integer(&self, name: &str) -> Result<i64, BadParameter> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(0);
        }
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("int", name, "Atoi", text, "invalid syntax"));
        }
        text.parse()
            .map_err(|_| bad("int", name, "Atoi", text, "value out of range"))
    }

    /// A number without a sign; 0 if it is absent.
    ///
    /// # Errors
    ///
    /// As [`Query::integer`].
    pub fn unsigned(&self, name: &str) -> Result<u64, BadParameter> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(0);
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("uint64", name, "ParseUint", text, "invalid syntax"));
        }
        text.parse()
            .map_err(|_| bad("uint64", name, "ParseUint", text, "value out of range"))
    }

    /// `subs`, where it may ask for details.
    ///
    /// # Errors
    ///
    /// If it is neither `detail` nor a truth value.
    pub fn listing(&self) -> Result<Listing, BadParameter> {
        if self.text("subs").eq_ignore_ascii_case("detail") {
            return Ok(Listing::Details);
        }
        Ok(if self.flag("subs")? {
            Listing::Subjects
        } else {
            Listing::None
        })
    }

    /// `offset` and `limit`, as they are echoed: a negative offset is 0, a limit that is not positive the default.
    ///
    /// # Errors
    ///
    /// If one of them is no number.
    pub fn paging(&self) -> Result<Paging, BadParameter> {
        Ok(Paging::new(self.integer("offset")?, self.integer("limit")?))
    }
}

/// Which part of a list to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Entries to skip.
    pub offset: usize,
    /// Entries to show.
    pub limit: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Paging::new(0, 0)
    }
}

impl Paging {
    /// Entries on a page where the request does not say.
    const LIMIT: usize = 1024;

    /// See [`Query::paging`].
    #[must_use]
    pub fn new(offset: i64, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(if limit < 0 { 0 } else { usize::MAX });
        Paging {
            offset: usize::try_from(offset).unwrap_or(if offset < 0 { 0 } else { usize::MAX }),
            limit: if limit == 0 { Self::LIMIT } else { limit },
        }
    }

    /// The page of a whole list.
    #[must_use]
    pub fn of<T>(self, list: &[T]) -> &[T] {
        let rest = list.get(self.offset..).unwrap_or_default();
        rest.get(..self.limit).unwrap_or(rest)
    }
}

fn bad(kind: &str, name: &str, function: &str, value: &str, why: &str) -> BadParameter {
    let value = value.escape_debug();
    BadParameter(format!(
        "Error decoding {kind} for '{name}': strconv.{function}: parsing \"{value}\": {why}"
    ))
}

/// The text with its percent escapes resolved, and, in a query, blanks for plus signs; `None` if an escape is broken.
#[must_use]
pub(super) fn decode(text: &str, is_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if is_query => b' ',
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts_and_broken_pairs_are_dropped() {
        let query = Query::parse("a=1&a=2&b=%zz&c=x;d=3&e=%41+b&f");
        let values = ["a", "b", "c", "d", "e", "f"].map(|name| query.text(name));
        assert_eq!(values, ["1", "", "", "", "A b", ""]);
    }

    #[test]
    fn what_a_value_cannot_be_is_told_in_the_reference_servers_words() {
        let told = |text: &str| {
            let query = Query::parse(text);
            let BadParameter(text) = query
                .paging()
                .err()
                .or_else(|| query.flag("auth").err())
                .or_else(|| query.unsigned("cid").err())
                .expect("a bad parameter");
            text
        };
        let prefix = "Error decoding";
        let int = "int for 'limit': strconv.Atoi: parsing";
        assert_eq!(
            told("limit=abc"),
            format!("{prefix} {int} \"abc\": invalid syntax")
        );
        assert_eq!(
            told("limit=9223372036854775808"),
            format!("{prefix} {int} \"9223372036854775808\": value out of range")
        );
        assert_eq!(
            told("auth=yes"),
            format!(
                "{prefix} boolean for 'auth': strconv.ParseBool: parsing \"yes\": invalid syntax"
            )
        );
        assert_eq!(
            told("cid=-1"),
            format!("{prefix} uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax")
        );
    }

    #[test]
    fn pages_never_reach_beyond_the_list() {
        let list = [0, 1, 2, 3];
        for (offset, limit, page) in [
            (0, 0, &list[..]),
            (-5, 2, &list[..2]),
            (3, i64::MAX, &list[3..]),
            (i64::MAX, i64::MAX, &[]),
            (1, -1, &list[1..]),
        ] {
            assert_eq!(
                Paging::new(offset, limit).of(&list),
                page,
                "{offset} {limit}"
            );
        }
    }
}
