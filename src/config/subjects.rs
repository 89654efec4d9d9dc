//! What a configuration needs to know of subjects: whether they are some, and whether one is part of another.

/// Whether the text is a subject to subscribe to: tokens parted by dots, none empty, no white space, `>` only at the end.
pub(super) fn is_valid(subject: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty() && !token.contains(|it: char| it.is_whitespace() || it.is_control())
    };
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        if !is_token(token) || (token == ">" && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// Whether the subject is valid and without wildcards.
pub(super) fn is_literal(subject: &str) -> bool {
    is_valid(subject) && subject.split('.').all(|token| token != "*" && token != ">")
}

/// Whether everything that matches `part` matches `whole` too.
pub(super) fn is_subset(part: &str, whole: &str) -> bool {
    let mut part = part.split('.');
    let mut whole = whole.split('.');
    loop {
        match (part.next(), whole.next()) {
            (Some(_), Some(">")) | (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
            (Some(_), Some("*")) => {}
            (Some(token), Some(wanted)) if token == wanted => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Whether some subject matches both.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let mut a = a.split('.');
    let mut b = b.split('.');
    loop {
        match (a.next(), b.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_tokens_and_dots() {
        for good in [
            "a", "a.b", "*", "a.*.b", ">", "a.>", "foo.b*r", "$SYS.>", "a>b",
        ] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a b", "a\t", "a.>.b"] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert!(is_literal("a.b*") && !is_literal("a.*") && !is_literal("a.>"));
    }

    #[test]
    fn a_subset_matches_nothing_more() {
        for (part, whole) in [
            ("a", "a"),
            ("a", "*"),
            ("a.b", "a.>"),
            ("a.*", "a.*"),
            ("a.>", "a.>"),
            ("a.*", ">"),
        ] {
            assert!(is_subset(part, whole), "{part} {whole}");
        }
        for (part, whole) in [
            ("a", "b"),
            ("*", "a"),
            ("a.>", "a.*"),
            ("a", "a.>"),
            ("a.b", "a"),
            (">", "*"),
        ] {
            assert!(!is_subset(part, whole), "{part} {whole}");
        }
        assert!(
            overlap("a.*", "*.b")
                && overlap("a.>", "a.b.c")
                && !overlap("a", "a.b")
                && !overlap("a.b", "*.c")
        );
    }
}
