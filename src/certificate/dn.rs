//! Distinguished names: those in certificates, and those that a configuration writes as RFC 2253 does.

use super::der::{self, Der};
use crate::order;

/// What an attribute of a name is; the order is that of [`canonical`].
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    SerialNumber,
    CommonName,
    Unit,
    Organization,
    PostalCode,
    Street,
    Locality,
    Province,
    Country,
    DomainComponent,
}

/// Kinds, with their object identifiers and the names of them.
const KINDS: [(Kind, &[u8], &str); 10] = [
    (Kind::SerialNumber, &[0x55, 4, 5], "SERIALNUMBER"),
    (Kind::CommonName, &[0x55, 4, 3], "CN"),
    (Kind::Unit, &[0x55, 4, 11], "OU"),
    (Kind::Organization, &[0x55, 4, 10], "O"),
    (Kind::PostalCode, &[0x55, 4, 17], "POSTALCODE"),
    (Kind::Street, &[0x55, 4, 9], "STREET"),
    (Kind::Locality, &[0x55, 4, 7], "L"),
    (Kind::Province, &[0x55, 4, 8], "ST"),
    (Kind::Country, &[0x55, 4, 6], "C"),
    (
        Kind::DomainComponent,
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19],
        "DC",
    ),
];

/// An attribute: what it is, and its value, each absent where it is none that we know.
type Attribute = (Option<Kind>, Option<String>);

/// A relative name: mostly one attribute.
pub(super) type Rdn = Vec<Attribute>;

/// A whole name, most specific part first.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Dn(Vec<Vec<(Kind, String)>>);

/// Reads a name: a sequence of sets of attributes.
pub(super) fn from_der(mut name: Der<'_>) -> Vec<Rdn> {
    let mut rdns = Vec::new();
    while let Some(mut set) = name.enter_next(der::SET) {
        let mut rdn = Vec::new();
        while let Some(mut attribute) = set.enter_next(der::SEQUENCE) {
            let object = attribute.take(der::OBJECT);
            let kind = object.and_then(|object| {
                let known = KINDS.iter().find(|(_, known, _)| *known == object.contents);
                known.map(|(kind, ..)| *kind)
            });
            let value = attribute.next();
            rdn.push((kind, value.and_then(|value| der::text(&value))));
        }
        rdns.push(rdn);
    }
    rdns
}

/// The name in the order of [`Kind`], values of one kind joined with `+`, domain components and what is unknown left out.
pub(super) fn canonical(rdns: &[Rdn]) -> String {
    let parts = KINDS
        .iter()
        .filter(|(kind, ..)| *kind != Kind::DomainComponent);
    let parts = parts.filter_map(|(kind, _, name)| {
        let values = values(rdns, *kind);
        // Of these a name has one: the last counts.
        let is_single = matches!(kind, Kind::CommonName | Kind::SerialNumber);
        let skip = if is_single {
            values.len().saturating_sub(1)
        } else {
            0
        };
        let shown: Vec<String> = values
            .into_iter()
            .skip(skip)
            .filter(|value| !(is_single && value.is_empty()))
            .map(|value| format!("{name}={}", escaped(value)))
            .collect();
        (!shown.is_empty()).then(|| shown.join("+"))
    });
    parts.collect::<Vec<_>>().join(",")
}

/// `DC=…,DC=…`, in the certificate's order.
pub(super) fn domain_components(rdns: &[Rdn]) -> String {
    let values = values(rdns, Kind::DomainComponent).into_iter();
    let shown = values.map(|value| format!("DC={value}"));
    shown.collect::<Vec<_>>().join(",")
}

fn values(rdns: &[Rdn], kind: Kind) -> Vec<&str> {
    let attributes = rdns.iter().flatten();
    let of_kind = attributes.filter(|(of, _)| *of == Some(kind));
    of_kind.filter_map(|(_, value)| value.as_deref()).collect()
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let is_special = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if is_special {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

impl Dn {
    /// The name of a certificate's subject; `None` if any part of it is of an unknown kind, or no text.
    pub(super) fn from_certificate(rdns: &[Rdn]) -> Option<Dn> {
        let known = |(kind, value): &Attribute| Some(((*kind)?, value.clone()?));
        let rdns = rdns.iter().rev();
        let rdns = rdns.map(|rdn| rdn.iter().map(known).collect::<Option<Vec<_>>>());
        rdns.collect::<Option<Vec<_>>>().map(Dn)
    }

    /// Reads a name such as `CN=localhost,OU=NATS`; `None` if it is no name, or has parts of unknown kinds.
    ///
    /// `,` parts relative names, `+` the attributes of one. A backslash goes before a special character, or before two
    /// hexadecimal digits that stand for a byte.
    #[must_use]
    pub fn parse(text: &str) -> Option<Dn> {
        let mut rdns = vec![Vec::new()];
        let mut rest = text;
        loop {
            let (name, after) = rest.split_once('=')?;
            let kind = KINDS
                .iter()
                .find(|(.., known)| known.eq_ignore_ascii_case(name.trim()));
            let (value, end, after) = value(after)?;
            rdns.last_mut()?.push((kind?.0, value));
            match end {
                None => return Some(Dn(rdns)),
                Some(',') => rdns.push(Vec::new()),
                Some(_) => {}
            }
            rest = after;
        }
    }

    /// Whether both have the same relative names in the same order.
    #[must_use]
    pub fn is_same(&self, other: &Dn) -> bool {
        let pairs = || self.0.iter().zip(&other.0);
        self.0.len() == other.0.len() && pairs().all(|(a, b)| is_same_rdn(a, b))
    }

    /// The same name in an order of its own: equal for two names if, and only if, one is a permutation of the other.
    #[must_use]
    pub fn sorted(mut self) -> Dn {
        self.0.iter_mut().for_each(|rdn| order::sort(rdn));
        order::sort(&mut self.0);
        self
    }

    /// Whether both have the same relative names in any order. Each of them counts once.
    #[must_use]
    pub fn is_permutation(&self, other: &Dn) -> bool {
        is_permutation(&self.0, &other.0, |a, b| is_same_rdn(a, b))
    }
}

fn is_same_rdn(a: &[(Kind, String)], b: &[(Kind, String)]) -> bool {
    is_permutation(a, b, |a, b| a == b)
}

fn is_permutation<T>(a: &[T], b: &[T], is_same: impl Fn(&T, &T) -> bool) -> bool {
    let mut left: Vec<&T> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(|one| {
            let found = left.iter().position(|other| is_same(one, other));
            found.map(|at| left.swap_remove(at)).is_some()
        })
}

/// A value at the start of `text`: the value, what ends it, and what comes after that.
fn value(text: &str) -> Option<(String, Option<char>, &str)> {
    let text = text.trim_start_matches(' ');
    if text.starts_with('#') {
        return None;
    }
    let mut bytes = Vec::new();
    // Blanks at the end do not count, unless they are escaped.
    let mut len = 0;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..)?;
        match letter {
            ',' | '+' => {
                bytes.truncate(len);
                return Some((String::from_utf8(bytes).ok()?, Some(letter), after));
            }
            '\\' => {
                let escaped = after.chars().next()?;
                if " \"#+,;<=>\\".contains(escaped) {
                    bytes.extend_from_slice(escaped.to_string().as_bytes());
                    rest = after.get(escaped.len_utf8()..)?;
                } else {
                    let digits = after.get(..2)?;
                    bytes.push(u8::from_str_radix(digits, 16).ok()?);
                    rest = after.get(2..)?;
                }
                len = bytes.len();
            }
            _ => {
                bytes.extend_from_slice(rest.get(..letter.len_utf8())?.as_bytes());
                if letter != ' ' {
                    len = bytes.len();
                }
                rest = after;
            }
        }
    }
    bytes.truncate(len);
    Some((String::from_utf8(bytes).ok()?, None, ""))
}
