//! What the configuration language writes as text but means as a quantity: size suffixes and dates.

/// What a size suffix multiplies by: `k` is 1000, `kb`, `ki` and `kib` are 1024, in any case.
pub(super) fn size_suffix(suffix: &[u8]) -> Option<i64> {
    let (letter, unit) = suffix.split_first()?;
    let power = match letter.to_ascii_lowercase() {
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        b'p' => 5,
        b'e' => 6,
        _ => return None,
    };
    let base: i64 = match unit.to_ascii_lowercase().as_slice() {
        b"" => 1000,
        b"b" | b"i" | b"ib" => 1024,
        _ => return None,
    };
    base.checked_pow(power)
}

/// Whether `YYYY-MM-DDTHH:MM:SSZ`, known to have that form, names a moment that exists.
pub(super) fn is_date(text: &str) -> bool {
    let field = |from: usize, to: usize| {
        text.get(from..to)
            .and_then(|digits| digits.parse::<u32>().ok())
    };
    let fields = (
        field(0, 4),
        field(5, 7),
        field(8, 10),
        field(11, 13),
        field(14, 16),
        field(17, 19),
    );
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = fields
    else {
        return false;
    };
    let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap_year => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SSZ`; absent if the text has another form or is earlier.
pub(super) fn unix_seconds(text: &str) -> Option<u64> {
    let has_form = text.len() == 20
        && text
            .bytes()
            .zip(b"0000-00-00T00:00:00Z")
            .all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == *form,
            });
    if !has_form || !is_date(text) {
        return None;
    }
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    // Years begin in March here, so that the leap day is the last one.
    let year = if month < 3 {
        year.checked_sub(1)?
    } else {
        year
    };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = (year * 365 + year / 4 - year / 100 + year / 400 + day_of_year)
        .checked_sub(DAYS_TO_1970)?;
    Some(((days * 24 + field(11, 13)?) * 60 + field(14, 16)?) * 60 + field(17, 19)?)
}

/// From the first of March of the year 0.
const DAYS_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_must_exist() {
        assert!(is_date("2016-05-04T18:53:41Z"));
        assert!(is_date("2024-02-29T00:00:00Z"));
        assert!(!is_date("2023-02-29T00:00:00Z"));
        assert!(!is_date("2016-13-04T18:53:41Z"));
        assert!(!is_date("2016-05-04T24:00:00Z"));
    }

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_seconds("2000-02-29T12:00:01Z"), Some(951_825_601));
        assert_eq!(unix_seconds("2026-01-31T00:00:00Z"), Some(1_769_817_600));
        assert_eq!(unix_seconds("1969-12-31T23:59:59Z"), None);
        assert_eq!(unix_seconds("2026-01-31"), None);
    }
}
