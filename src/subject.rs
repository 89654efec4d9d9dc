//! Subjects: dot-separated tokens, compared byte by byte.
//!
//! A token that is exactly `*` stands for one token, a last token that is exactly `>` for one or more; inside a longer
//! token both are ordinary bytes. Any byte but space, tab, CR and LF may occur. Source: NATS client protocol, "subject
//! names", as the reference server applies it.

pub mod renaming;
pub mod transform;

/// The byte between tokens.
pub const SEPARATOR: u8 = b'.';

/// The tokens of a subject, empty ones included.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|&byte| byte == SEPARATOR)
}

/// The first token, the whole subject if it has only one.
#[must_use]
pub fn first_token(subject: &[u8]) -> &[u8] {
    tokens(subject).next().unwrap_or_default()
}

/// Whether every token has at least one byte; a subject where one has none matches no subscription.
#[must_use]
pub fn has_no_empty_token(subject: &[u8]) -> bool {
    let mut previous = SEPARATOR;
    for &byte in subject {
        if byte == SEPARATOR && previous == SEPARATOR {
            return false;
        }
        previous = byte;
    }
    previous != SEPARATOR
}

/// Whether one can subscribe to it: no empty token, and `>` only at the end.
#[must_use]
pub fn is_valid(subject: &[u8]) -> bool {
    has_no_empty_token(subject) && {
        let mut open = true;
        tokens(subject).all(|token| std::mem::replace(&mut open, token != b">"))
    }
}

/// Whether no token is a wildcard.
#[must_use]
pub fn is_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| token != b"*" && token != b">")
}

/// Whether it is a well-formed literal, which is what pedantic clients must publish to.
#[must_use]
pub fn is_valid_literal(subject: &[u8]) -> bool {
    has_no_empty_token(subject) && is_literal(subject)
}

/// Whether `pattern`, which may have wildcards, matches the literal `subject`.
///
/// This is the definition; the subject trie is the fast way to ask it of many patterns at once.
#[must_use]
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    if !has_no_empty_token(subject) {
        return false;
    }
    let mut wanted = tokens(pattern);
    let mut given = tokens(subject);
    loop {
        match (wanted.next(), given.next()) {
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether everything that matches `part` matches `whole` too; both are patterns.
#[must_use]
pub fn is_subset(part: &[u8], whole: &[u8]) -> bool {
    let mut part = tokens(part);
    let mut whole = tokens(whole);
    loop {
        match (part.next(), whole.next()) {
            (Some(_), Some(b">")) | (None, None) => return true,
            (Some(b">"), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
            (Some(_), Some(b"*")) => {}
            (Some(token), Some(wanted)) if token == wanted => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Whether some subject matches both patterns.
#[must_use]
pub fn overlap(a: &[u8], b: &[u8]) -> bool {
    let mut a = tokens(a);
    let mut b = tokens(b);
    loop {
        match (a.next(), b.next()) {
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) | (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(a), Some(b)) if a == b || a == b"*" || b == b"*" => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All patterns, or all literals, of up to three tokens over a small alphabet.
    fn all(tokens: &[&str]) -> Vec<String> {
        let mut subjects: Vec<String> = tokens.iter().map(|&token| token.into()).collect();
        for _ in 0..2 {
            let longer = subjects
                .iter()
                .flat_map(|start| tokens.iter().map(move |token| format!("{start}.{token}")));
            let longer: Vec<String> = longer.collect();
            subjects.extend(longer);
        }
        subjects.retain(|subject| is_valid(subject.as_bytes()));
        subjects.sort();
        subjects.dedup();
        subjects
    }

    #[test]
    fn subset_and_overlap_agree_with_the_subjects_that_match() {
        // A third literal stands for all that no pattern names, four tokens for any number of them.
        let mut literals = all(&["a", "b", "c"]);
        literals.extend(all(&["a", "b", "c"]).iter().map(|it| format!("{it}.a")));
        let patterns = all(&["a", "b", "*", ">"]);
        for one in &patterns {
            for other in &patterns {
                let (one, other) = (one.as_bytes(), other.as_bytes());
                let hits = |pattern| {
                    let literals = literals.iter();
                    literals.map(move |literal| matches(pattern, literal.as_bytes()))
                };
                let subset = hits(one).zip(hits(other)).all(|(one, other)| !one || other);
                let both = hits(one).zip(hits(other)).any(|(one, other)| one && other);
                let shown = format!("{} {}", one.escape_ascii(), other.escape_ascii());
                assert_eq!(is_subset(one, other), subset, "{shown}");
                assert_eq!(overlap(one, other), both, "{shown}");
            }
        }
    }

    #[test]
    fn malformed_subjects_are_told_from_good_ones() {
        for good in [
            "a", "a.b", "*", ">", "a.*", "a.>", "a*", "b>", ">>", "**", "a.>b.c",
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.>.b", ">.a"] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn wildcards_are_whole_tokens() {
        assert!(is_literal(b"a*.b>") && is_literal(b">>"));
        assert!(!is_literal(b"a.*") && !is_literal(b">") && !is_literal(b"*.a"));
        assert!(
            is_valid_literal(b"a.b*") && !is_valid_literal(b"a.*") && !is_valid_literal(b"a..b")
        );
    }

    #[test]
    fn a_star_is_one_token_and_a_full_wildcard_one_or_more() {
        assert!(matches(b"a.*", b"a.b") && !matches(b"a.*", b"a") && !matches(b"a.*", b"a.b.c"));
        assert!(matches(b"a.>", b"a.b") && matches(b"a.>", b"a.b.c") && !matches(b"a.>", b"a"));
        assert!(matches(b">", b"a") && !matches(b">", b"a.") && !matches(b"a", b"A"));
        assert!(matches(b"*.b.*", b"a.b.c") && !matches(b"*.b.*", b"a.c.c"));
    }
}
