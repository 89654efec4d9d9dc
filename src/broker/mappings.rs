//! Mappings: where messages go instead of the subject they were published to.

use std::collections::HashMap;

use crate::config::options::{Destination, Mapping};
use crate::rng::Rng;
use crate::subject;
use crate::subject::transform::Transform;

/// The mappings of an account, ready for use.
#[derive(Debug, Default, PartialEq)]
pub struct Mappings {
    literal: HashMap<Box<[u8]>, Choices>,
    /// Those with wildcards, in the order of the configuration: the first one that matches decides.
    wild: Vec<(Box<[u8]>, Choices)>,
}

/// Where to, with weights. What they leave of the hundred per cent is lost.
type Choices = Vec<(u8, Target)>;

#[derive(Debug, PartialEq)]
enum Target {
    /// Where it was published to.
    Unchanged,
    Elsewhere(Transform),
}

impl Mappings {
    /// Those that a configuration states, which has been checked, for a server in this cluster.
    #[must_use]
    pub fn new(mappings: &[Mapping], cluster: Option<&str>) -> Self {
        let mut compiled = Mappings::default();
        for mapping in mappings {
            let source: Box<[u8]> = mapping.source.as_bytes().into();
            let choices = choices(mapping, cluster);
            if subject::is_literal(&source) {
                compiled.literal.insert(source, choices);
            } else {
                compiled.wild.push((source, choices));
            }
        }
        compiled
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.wild.is_empty()
    }

    /// Puts into `out` where a message for `subject` goes: nothing if it is lost. False if it goes where it was meant to.
    pub fn apply(&self, subject: &[u8], rng: &mut Rng, out: &mut Vec<u8>) -> bool {
        let matches = |(source, _): &&(Box<[u8]>, Choices)| subject::matches(source, subject);
        let wild = || self.wild.iter().find(matches).map(|(_, choices)| choices);
        let Some(choices) = self.literal.get(subject).or_else(wild) else {
            return false;
        };
        let mut draw = match choices.as_slice() {
            [(100, _)] => 0,
            _ => rng.below(100),
        };
        for (weight, target) in choices {
            match draw.checked_sub(usize::from(*weight)) {
                Some(rest) => draw = rest,
                None => {
                    let Target::Elsewhere(transform) = target else {
                        return false;
                    };
                    transform.apply(subject, rng.next_u64(), out);
                    return true;
                }
            }
        }
        true
    }
}

/// A cluster's own destinations if there are some for it, else those for all. What they leave goes where it was meant
/// to, unless that is one of the destinations: then somebody wants messages to be lost.
fn choices(mapping: &Mapping, cluster: Option<&str>) -> Choices {
    let own = |it: &&Destination| it.cluster.is_some() && it.cluster.as_deref() == cluster;
    let wanted = if mapping.destinations.iter().any(|it| own(&it)) {
        cluster
    } else {
        None
    };
    let destinations = mapping.destinations.iter();
    let mut choices: Choices = destinations
        .filter(|it| it.cluster.as_deref() == wanted)
        .filter_map(|it| {
            let transform = Transform::new(&mapping.source, &it.subject).ok()?;
            Some((it.weight, Target::Elsewhere(transform)))
        })
        .collect();
    let sum = choices
        .iter()
        .fold(0_u8, |sum, (weight, _)| sum.saturating_add(*weight));
    let names_source = |it: &Destination| it.subject == mapping.source;
    if sum < 100 && !mapping.destinations.iter().any(names_source) {
        choices.push((100 - sum, Target::Unchanged));
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(subject: &str, weight: u8, cluster: Option<&str>) -> Destination {
        Destination {
            subject: subject.into(),
            weight,
            cluster: cluster.map(Into::into),
        }
    }

    /// How often each target was drawn in a thousand messages.
    fn drawn(
        source: &str,
        to: &[Destination],
        cluster: Option<&str>,
        subject: &str,
    ) -> Vec<(String, u32)> {
        let mapping = Mapping {
            source: source.into(),
            destinations: to.to_vec(),
        };
        let mappings = Mappings::new(&[mapping], cluster);
        let mut rng = Rng::seeded(4);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..1000 {
            let mut out = Vec::new();
            if !mappings.apply(subject.as_bytes(), &mut rng, &mut out) {
                out.extend_from_slice(subject.as_bytes());
            }
            *counts.entry(String::from_utf8(out).unwrap()).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn what_weights_leave_stays_where_it_was_meant_to() {
        let counts = drawn("foo.*", &[destination("bar.$1", 20, None)], None, "foo.x");
        let [(bar, few), (foo, many)] = counts.as_slice() else {
            panic!("{counts:?}")
        };
        assert_eq!((bar.as_str(), foo.as_str()), ("bar.x", "foo.x"));
        assert!((120..290).contains(few) && few + many == 1000, "{counts:?}");
    }

    #[test]
    fn what_weights_leave_is_lost_where_the_source_is_a_destination() {
        let counts = drawn("foo.>", &[destination("foo.>", 50, None)], None, "foo.x");
        let [(lost, some), (foo, _)] = counts.as_slice() else {
            panic!("{counts:?}")
        };
        assert_eq!((lost.as_str(), foo.as_str()), ("", "foo.x"));
        assert!((400..600).contains(some), "{counts:?}");
    }

    #[test]
    fn a_cluster_has_destinations_of_its_own() {
        let to = [
            destination("x", 100, Some("X")),
            destination("y", 100, None),
        ];
        for (cluster, expected) in [(Some("X"), "x"), (Some("Z"), "y"), (None, "y")] {
            let counts = drawn("foo", &to, cluster, "foo");
            assert_eq!(counts, [(expected.to_string(), 1000)]);
        }
        assert_eq!(drawn("foo", &to, None, "other"), [("other".into(), 1000)]);
    }

    #[test]
    fn a_literal_source_goes_before_wildcards_and_these_in_their_order() {
        let mapping = |source: &str, to: &str| Mapping {
            source: source.into(),
            destinations: vec![destination(to, 100, None)],
        };
        let list = [
            mapping("a.*", "first"),
            mapping("*.b", "second"),
            mapping("a.b", "third"),
        ];
        let mappings = Mappings::new(&list, None);
        for (subject, expected) in [("a.b", "third"), ("a.c", "first"), ("c.b", "second")] {
            let mut out = Vec::new();
            assert!(mappings.apply(subject.as_bytes(), &mut Rng::seeded(1), &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
