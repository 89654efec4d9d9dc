//! Subject mappings.

use std::collections::HashMap;

use super::super::error::Position;
use super::super::options::{Destination, Mapping};
use super::super::report::Report;
use super::super::subjects;
use super::super::table::Block;
use super::super::value::{Data, Entry, Map, Value};
use crate::subject::transform::Transform;

/// A `mappings` block: source subjects with a destination, or several with weights.
pub(super) fn mappings(report: &mut Report, entry: &Entry) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    let map = report.map(entry);
    for entry in map.map(|map| map.entries.as_slice()).unwrap_or_default() {
        if entry.used && !subjects::is_valid(&entry.key) {
            continue;
        }
        if !subjects::is_valid(&entry.key) {
            report.error(
                &entry.at,
                format!("Subject \"{}\" is not a valid subject", entry.key),
            );
            continue;
        }
        let destinations = match &entry.value.data {
            Data::String(text) => vec![Destination {
                subject: text.to_string(),
                weight: 100,
                cluster: None,
            }],
            Data::Map(map) => destination(report, map, &entry.at).into_iter().collect(),
            Data::Array(_) => {
                let maps = report.maps(entry);
                maps.into_iter()
                    .filter_map(|(map, at)| destination(report, map, at))
                    .collect()
            }
            _ => {
                report.error(&entry.at, "Expected an entry for the mapping destination");
                Vec::new()
            }
        };
        for it in &destinations {
            if let Err(error) = Transform::new(&entry.key, &it.subject) {
                report.error(
                    &entry.at,
                    format!(
                        "Error adding mapping for \"{}\" to \"{}\" : {error}",
                        entry.key, it.subject
                    ),
                );
            }
        }
        let mut sums: HashMap<Option<&str>, u32> = HashMap::new();
        for it in &destinations {
            *sums.entry(it.cluster.as_deref()).or_default() += u32::from(it.weight);
        }
        if sums.values().any(|sum| *sum > 100) {
            report.error(
                &entry.at,
                format!(
                    "Error adding mapping for \"{}\" : total weight needs to be <= 100",
                    entry.key
                ),
            );
        }
        mappings.push(Mapping {
            source: entry.key.to_string(),
            destinations,
        });
    }
    mappings
}

fn destination(report: &mut Report, map: &Map, at: &Position) -> Option<Destination> {
    let (mut subject, mut weight, mut cluster) = (None, None, None);
    let mut has_weight = false;
    report.each(Block::Destination, map, |report, name, entry| match name {
        "destination" => subject = report.text(entry),
        "weight" => {
            has_weight = true;
            weight = match entry.value.data {
                Data::Integer(0) => Some(0),
                Data::String(ref text) if text.trim_end_matches('%').trim() == "0" => Some(0),
                _ => percentage(&entry.value),
            };
            if weight.is_none() {
                report.error(
                    &entry.at,
                    "Invalid weight for mapping destination, should be 0-100",
                );
            }
        }
        _ => cluster = report.text(entry),
    });
    let Some(subject) = subject.filter(|subject| !subject.is_empty()) else {
        report.error(at, "Missing destination of a mapping");
        return None;
    };
    if !has_weight {
        report.error(
            at,
            format!("Missing weight for mapping destination \"{subject}\""),
        );
    }
    Some(Destination {
        subject,
        weight: weight?,
        cluster,
    })
}

/// 1 to 100, as a number or with a per cent sign.
pub(super) fn percentage(value: &Value) -> Option<u8> {
    let number = match &value.data {
        Data::Integer(number) => u8::try_from(*number).ok()?,
        Data::String(text) => text.trim_end_matches('%').trim().parse().ok()?,
        _ => return None,
    };
    (1..=100).contains(&number).then_some(number)
}
