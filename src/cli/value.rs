//! The spellings of numbers, switches and addresses on the command line.

use super::flags::{ClusterListen, Port};
use crate::config::options::{RouteUrl, Secret, percent_decoded};

/// Why a text is no number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IntegerError {
    Range,
    Syntax,
}

/// Reads a whole number: `4222`, `+1`, `-1`, `0x107e`, `0o10176`, `010176`, `0b1`, `4_222`.
pub(super) fn parse_integer(text: &str) -> Result<i64, IntegerError> {
    let (is_negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let lowercase = unsigned.to_ascii_lowercase();
    let (base, digits) = match lowercase.as_bytes() {
        [b'0', b'x', ..] => (16, lowercase.get(2..).unwrap_or_default()),
        [b'0', b'o', ..] => (8, lowercase.get(2..).unwrap_or_default()),
        [b'0', b'b', ..] => (2, lowercase.get(2..).unwrap_or_default()),
        [b'0', _, ..] => (8, lowercase.get(1..).unwrap_or_default()),
        _ => (10, lowercase.as_str()),
    };
    // An underscore stands between two digits, a base's prefix counting as one.
    let prefix = if base == 10 { "" } else { "0" };
    let spelled = format!("{prefix}{digits}");
    let is_spaced_well = spelled.split('_').all(|run| !run.is_empty());
    let bare: String = digits.chars().filter(|letter| *letter != '_').collect();
    if bare.is_empty() || !is_spaced_well || !bare.chars().all(|letter| letter.is_digit(base)) {
        return Err(IntegerError::Syntax);
    }
    let magnitude = i128::from_str_radix(&bare, base).map_err(|_| IntegerError::Range)?;
    let signed = if is_negative { -magnitude } else { magnitude };
    i64::try_from(signed).map_err(|_| IntegerError::Range)
}

/// Reads the value of a switch.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads `scheme://[user:password@][host]:port`; nothing at all turns clustering off.
pub(super) fn parse_cluster(text: &str) -> Result<ClusterListen, String> {
    if text.is_empty() {
        return Ok(ClusterListen::Off);
    }
    let Some((_, rest)) = text.split_once("://") else {
        return Err("the address needs a scheme, as in nats://host:port".into());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (userinfo, address) = match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, authority),
    };
    let credentials = match userinfo.map(|userinfo| userinfo.split_once(':')) {
        None => None,
        Some(None) => return Err("expected cluster password to be set".into()),
        Some(Some((user, password))) => {
            let password = percent_decoded(password).ok_or("the password has a bad % escape")?;
            Some((
                percent_decoded(user).ok_or("the user has a bad % escape")?,
                Secret::new(password),
            ))
        }
    };
    let (host, port) = split_address(address)?;
    Ok(ClusterListen::At {
        host,
        port,
        credentials,
    })
}

/// Reads URLs with commas between them.
pub(super) fn parse_routes(text: &str) -> Result<Vec<RouteUrl>, String> {
    let urls = text.split(',').map(str::trim);
    urls.filter(|url| !url.is_empty())
        .map(|url| RouteUrl::parse(url).map_err(str::to_string))
        .collect()
}

/// Splits `host:port`, the host perhaps an IPv6 address in brackets, or empty.
fn split_address(address: &str) -> Result<(String, Port), String> {
    let missing = || format!("address {address}: missing port in address");
    let (host, port) = match address.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed
                .split_once(']')
                .ok_or_else(|| format!("address {address}: missing ']'"))?;
            (host, after.strip_prefix(':').ok_or_else(missing)?)
        }
        None => address.rsplit_once(':').ok_or_else(missing)?,
    };
    if host.contains(':') && !address.starts_with('[') {
        return Err(format!("address {address}: too many colons in address"));
    }
    let port = match port {
        "" => return Err(missing()),
        "-1" => Port::Any,
        digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => match digits.parse() {
            Ok(0) => Port::Off,
            Ok(port) => Port::Fixed(port),
            Err(_) => return Err(format!("port {digits} must be from -1 to 65535")),
        },
        other => return Err(format!("port {other:?} must be a whole number")),
    };
    Ok((host.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_a_base_a_sign_and_underscores() {
        let good = [
            ("0", 0),
            ("4222", 4222),
            ("+4222", 4222),
            ("-1", -1),
            ("037201", 16001),
            ("0o37201", 16001),
            ("0O37201", 16001),
            ("0x3E81", 16001),
            ("0X_3e81", 16001),
            ("0b101", 5),
            ("16_001", 16001),
            ("0_7", 7),
            ("-0x10", -16),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, number) in good {
            assert_eq!(parse_integer(text), Ok(number), "{text:?}");
        }
        for text in [
            "", "+", "-", "abc", "1k", " 1", "1 ", "0x", "0b2", "08", "1__0", "_1", "1_", "0x1_",
            "--1", "1.0", "٣",
        ] {
            assert_eq!(parse_integer(text), Err(IntegerError::Syntax), "{text:?}");
        }
        for text in [
            "9223372036854775808",
            "0xffffffffffffffffffffffffffffffffffffffffff",
        ] {
            assert_eq!(parse_integer(text), Err(IntegerError::Range), "{text:?}");
        }
    }

    #[test]
    fn switches_have_twelve_spellings() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(parse_bool(text), Some(true));
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(parse_bool(text), Some(false));
        }
        for text in ["", "yes", "on", "tRue", "2"] {
            assert_eq!(parse_bool(text), None);
        }
    }

    #[test]
    fn a_cluster_address_may_hold_credentials() {
        let at = |host: &str, port, credentials: Option<(&str, &str)>| {
            let credentials =
                credentials.map(|(user, password)| (user.into(), Secret::new(password)));
            Ok(ClusterListen::At {
                host: host.into(),
                port,
                credentials,
            })
        };
        assert_eq!(parse_cluster(""), Ok(ClusterListen::Off));
        assert_eq!(
            parse_cluster("nats://127.0.0.1:4248"),
            at("127.0.0.1", Port::Fixed(4248), None)
        );
        assert_eq!(
            parse_cluster("nats://:4248"),
            at("", Port::Fixed(4248), None)
        );
        assert_eq!(parse_cluster("nats://h:-1"), at("h", Port::Any, None));
        assert_eq!(
            parse_cluster("nats://[::1]:4248/x"),
            at("::1", Port::Fixed(4248), None)
        );
        assert_eq!(
            parse_cluster("nats://a:b%40c@h:1"),
            at("h", Port::Fixed(1), Some(("a", "b@c")))
        );
    }

    #[test]
    fn a_bad_cluster_address_says_why() {
        let why = |text| parse_cluster(text).unwrap_err();
        assert_eq!(why("nats://a@h:1"), "expected cluster password to be set");
        assert_eq!(why("nats://h"), "address h: missing port in address");
        assert_eq!(why("nats://h:"), "address h:: missing port in address");
        assert_eq!(
            why("nats://::1:2"),
            "address ::1:2: too many colons in address"
        );
        assert_eq!(why("nats://h:70000"), "port 70000 must be from -1 to 65535");
        assert_eq!(
            why("127.0.0.1:4248"),
            "the address needs a scheme, as in nats://host:port"
        );
        assert_eq!(why("nats://a:%zz@h:1"), "the password has a bad % escape");
    }
}
