//! System errors in the words that operators search their logs for.

use std::io;

/// The text of a system error alone, as `no such file or directory`: lowercase, without its number.
///
/// The standard library says `No such file or directory (os error 2)`; the reference server prints what this returns.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let bare = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = bare.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_is_lowercase_and_has_no_number() {
        let error = io::Error::from(io::ErrorKind::Other);
        assert_eq!(
            cause(&error),
            error.to_string(),
            "not a system error: unchanged"
        );
        assert_eq!(
            cause(&io::Error::from_raw_os_error(2)),
            "no such file or directory"
        );
        assert_eq!(
            cause(&io::Error::from_raw_os_error(13)),
            "permission denied"
        );
    }
}
