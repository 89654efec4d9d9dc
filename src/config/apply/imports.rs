//! What an account takes from others: their streams, and their services.

use super::super::error::Position;
use super::super::options::{Import, ImportKind};
use super::super::report::{Report, set};
use super::super::subjects;
use super::super::table::Block;
use super::super::value::{Entry, Map};
use super::auth;
use super::sharing::{Reference, one_kind};

/// One import, which stands at `at`. The account that it names goes to `references`.
pub(super) fn import(
    report: &mut Report,
    map: &Map,
    at: &Position,
    references: &mut Vec<Reference>,
) -> Option<Import> {
    let mut kind = None;
    let mut from = None;
    let (mut prefix, mut to) = (None, None);
    let mut share = false;
    report.each(Block::Import, map, |report, name, entry| match name {
        "stream" | "service" => {
            if one_kind(report, &mut kind, name, &entry.at) {
                from = import_from(report, entry);
            }
        }
        "prefix" => prefix = report.text(entry).map(|text| (text, entry.at.clone())),
        "to" => to = report.text(entry).map(|text| (text, entry.at.clone())),
        _ => set(&mut share, report.boolean(entry)),
    });
    if kind.is_none() {
        report.error(at, "an import needs a stream or a service");
    }
    let (kind, (account, subject, from_at)) = (kind?, from?);
    let (what, kind) = if kind == "stream" {
        if let (Some(_), Some((_, at))) = (&prefix, &to) {
            report.error(
                at,
                "Stream import can not have a 'prefix' and a 'to' property",
            );
        }
        if let Some((text, at)) = prefix
            .as_ref()
            .filter(|(text, _)| !subjects::is_literal(text))
        {
            let reason = "stream import prefix can not contain wildcard tokens";
            report.error(
                at,
                format!("Error adding stream import \"{text}\": {reason}"),
            );
        }
        let text = |it: Option<(String, Position)>| it.map(|(text, _)| text);
        (
            "stream import",
            ImportKind::Stream {
                prefix: text(prefix),
                to: text(to),
            },
        )
    } else {
        if let Some((_, at)) = &prefix {
            report.error(at, "Service import can not have a 'prefix' property");
        }
        (
            "service import",
            ImportKind::Service {
                to: to.map(|(text, _)| text),
                share,
            },
        )
    };
    references.push(Reference {
        account: account.clone(),
        what,
        at: from_at,
    });
    Some(Import {
        account,
        subject,
        kind,
    })
}

fn import_from(report: &mut Report, entry: &Entry) -> Option<(String, String, Position)> {
    let map = report.map(entry)?;
    let (mut account, mut subject) = (None, None);
    report.each(Block::ImportFrom, map, |report, name, entry| match name {
        "account" => account = report.text(entry),
        _ => subject = report.text(entry),
    });
    let (Some(account), Some(subject)) = (account, subject) else {
        report.error(&entry.at, "Expect an account name and a subject");
        return None;
    };
    if !subjects::is_valid(&subject) {
        auth::invalid_subject(report, &entry.at, &subject);
    }
    Some((account, subject, entry.at.clone()))
}
