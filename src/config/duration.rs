//! Durations as the reference server writes them: `1m30s`, `500ms`, `1.5h`.

use std::time::Duration;

/// A duration that may be negative: some options give that a meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) is_negative: bool,
    pub(super) length: Duration,
}

/// Reads a duration such as `1m30s`, `1.5h`, `-1s` or `0`. Units: `ns`, `us`, `µs`, `ms`, `s`, `m`, `h`.
///
/// # Errors
///
/// The reference server's words: an invalid duration, a missing or an unknown unit.
pub(super) fn parse(text: &str) -> Result<Signed, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    let (is_negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Signed {
            is_negative: false,
            length: Duration::ZERO,
        });
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let whole = take_while(&mut rest, |it| it.is_ascii_digit());
        let fraction = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                take_while(&mut rest, |it| it.is_ascii_digit())
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit = take_while(&mut rest, |it| it != '.' && !it.is_ascii_digit());
        let unit_nanos = match unit {
            "" => return Err(format!("time: missing unit in duration \"{text}\"")),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(format!(
                    "time: unknown unit \"{unit}\" in duration \"{text}\""
                ));
            }
        };
        let part = part_nanos(whole, fraction, unit_nanos).ok_or_else(invalid)?;
        nanos = nanos
            .checked_add(part)
            .filter(|sum| i64::try_from(*sum).is_ok())
            .ok_or_else(invalid)?;
    }
    Ok(Signed {
        is_negative,
        length: Duration::from_nanos(nanos),
    })
}

/// `whole.fraction` units in nanoseconds, cut off below one; absent when it overflows.
fn part_nanos(whole: &str, fraction: &str, unit_nanos: u64) -> Option<u64> {
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?
    };
    let sum = whole.checked_mul(unit_nanos)?;
    // More digits than these are less than a nanosecond even of an hour.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    if fraction.is_empty() {
        return Some(sum);
    }
    let digits = fraction.parse::<u128>().ok()?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = digits * u128::from(unit_nanos) / scale;
    sum.checked_add(u64::try_from(part).ok()?)
}

fn take_while<'a>(rest: &mut &'a str, wanted: impl Fn(char) -> bool) -> &'a str {
    let end = rest
        .find(|character| !wanted(character))
        .unwrap_or(rest.len());
    let (taken, left) = rest.split_at(end);
    *rest = left;
    taken
}

/// A duration as the reference server prints it: `2m0s`, `1.5s`, `50ms`, `0s`.
pub fn shown(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => with_fraction(nanos, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => with_fraction(nanos, 1_000_000, "ms"),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = with_fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => rest,
                (0, _) => format!("{minutes}m{rest}"),
                _ => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

fn with_fraction(nanos: u128, unit_nanos: u128, unit: &str) -> String {
    let digits = unit_nanos.ilog10() as usize;
    let fraction = format!("{:0digits$}", nanos % unit_nanos);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction}{unit}", nanos / unit_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_go_syntax() {
        let length = |text: &str| parse(text).map(|it| (it.is_negative, it.length));
        assert_eq!(length("1m30s"), Ok((false, Duration::from_secs(90))));
        assert_eq!(length("1.5h"), Ok((false, Duration::from_secs(5400))));
        assert_eq!(length(".5s"), Ok((false, Duration::from_millis(500))));
        assert_eq!(length("-1s"), Ok((true, Duration::from_secs(1))));
        assert_eq!(length("0"), Ok((false, Duration::ZERO)));
        assert_eq!(
            length("1.234567s"),
            Ok((false, Duration::from_micros(1_234_567)))
        );
        assert_eq!(
            length("1.00005m"),
            Ok((false, Duration::from_millis(60_003)))
        );
        assert_eq!(
            length("300\u{b5}s"),
            Ok((false, Duration::from_micros(300)))
        );
        assert_eq!(length("abc"), Err("time: invalid duration \"abc\"".into()));
        assert_eq!(length(""), Err("time: invalid duration \"\"".into()));
        assert_eq!(length("."), Err("time: invalid duration \".\"".into()));
        assert_eq!(
            length("10"),
            Err("time: missing unit in duration \"10\"".into())
        );
        assert_eq!(
            length("1d"),
            Err("time: unknown unit \"d\" in duration \"1d\"".into())
        );
        assert!(length("9999999999h").is_err());
        assert!(length(&"9".repeat(100)).is_err());
    }

    #[test]
    fn durations_are_shown_in_their_units() {
        let text = |nanos| shown(Duration::from_nanos(nanos));
        assert_eq!(text(0), "0s");
        assert_eq!(text(15), "15ns");
        assert_eq!(text(1_500), "1.5\u{b5}s");
        assert_eq!(text(50_000_000), "50ms");
        assert_eq!(text(1_500_000_000), "1.5s");
        assert_eq!(text(120_000_000_000), "2m0s");
        assert_eq!(text(3_600_000_000_000), "1h0m0s");
        assert_eq!(text(60_003_000_000), "1m0.003s");
    }
}
