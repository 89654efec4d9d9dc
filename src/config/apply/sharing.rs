//! What accounts share: whether each import has an export that permits it, and leads to no circle.

use std::collections::{HashMap, HashSet};

use super::super::error::Position;
use super::super::options::{Account, Export, ExportKind, Import, ImportKind};
use super::super::report::Report;
use super::super::subjects;

/// Where a reference to another account stands, to be checked once all are known.
pub(super) struct Reference {
    pub(super) account: String,
    /// `stream import`, `service export` and so on.
    pub(super) what: &'static str,
    pub(super) at: Position,
}

/// What a subject of an import or export is for: `stream` or `service`, once.
pub(super) fn one_kind(
    report: &mut Report,
    found: &mut Option<&'static str>,
    name: &'static str,
    at: &Position,
) -> bool {
    match found.replace(name) {
        None => true,
        Some(earlier) => {
            report.error(at, format!("Detected {name} but already saw a {earlier}"));
            false
        }
    }
}

/// What can only be said once all accounts are known.
///
/// `imports` are the places of the imports, by account and index.
pub(super) fn check(
    report: &mut Report,
    accounts: &[Account],
    references: &[Reference],
    imports: &[(usize, usize, Position)],
) {
    let by_name: HashMap<_, _> = accounts
        .iter()
        .map(|account| (account.name.as_str(), account))
        .collect();
    for Reference { account, what, at } in references {
        if !by_name.contains_key(account.as_str()) {
            report.error(at, format!("\"{account}\" account not defined for {what}"));
        }
    }
    let exports = Exports::of(accounts);
    let mut seen = HashSet::new();
    for (account, import, at) in imports {
        let Some(account) = accounts.get(*account) else {
            continue;
        };
        let Some(import) = account.imports.get(*import) else {
            continue;
        };
        if !by_name.contains_key(import.account.as_str()) {
            continue;
        }
        let (kind, local) = local_subject(import);
        // A stream is imported once, whatever it is called here; a service once under each name.
        let once = if kind == "stream" {
            import.subject.clone()
        } else {
            local.clone()
        };
        let there = &import.subject;
        let problem = if !exports.permit(import, &account.name) {
            format!("{kind} import not authorized")
        } else if let Err(error) = import.renaming() {
            format!(
                "failed to create mapping transform for {kind} import subject from \"{there}\" to \"{local}\": {error}"
            )
        } else if !seen.insert((&account.name, &import.account, kind, once)) {
            match kind {
                "stream" => "stream import already exists".into(),
                _ => format!(
                    "Duplicate service import subject \"{local}\", previously used in import for account \"{}\"",
                    import.account
                ),
            }
        } else if let Some(cycle) = cycle(&by_name, &account.name, import) {
            format!("import forms a cycle: {cycle}")
        } else {
            continue;
        };
        report.error(
            at,
            format!(
                "Error adding {kind} import \"{}\": {problem}",
                import.subject
            ),
        );
    }
}

/// All exports, to be found by account and subject without looking at every one.
struct Exports<'a> {
    /// Those without wildcards, which permit their own subject only.
    literal: HashMap<(&'a str, &'a str), Vec<&'a Export>>,
    /// Those with wildcards, by account.
    wild: HashMap<&'a str, Vec<&'a Export>>,
}

impl<'a> Exports<'a> {
    fn of(accounts: &'a [Account]) -> Self {
        let mut exports = Exports {
            literal: HashMap::new(),
            wild: HashMap::new(),
        };
        for account in accounts {
            for export in &account.exports {
                let list = if subjects::is_literal(&export.subject) {
                    exports
                        .literal
                        .entry((account.name.as_str(), export.subject.as_str()))
                        .or_default()
                } else {
                    exports.wild.entry(account.name.as_str()).or_default()
                };
                list.push(export);
            }
        }
        exports
    }

    /// Whether some export lets that account have that import.
    fn permit(&self, import: &Import, importer: &str) -> bool {
        let account = import.account.as_str();
        let literal = self.literal.get(&(account, import.subject.as_str()));
        let wild = self.wild.get(account);
        literal
            .into_iter()
            .chain(wild)
            .flatten()
            .any(|export| permits(export, import, importer))
    }
}

/// The subject that an import has in the importing account.
fn local_subject(import: &Import) -> (&'static str, String) {
    let subject = &import.subject;
    match &import.kind {
        ImportKind::Service { to, .. } => ("service", to.as_ref().unwrap_or(subject).clone()),
        ImportKind::Stream {
            prefix: Some(prefix),
            ..
        } => ("stream", format!("{prefix}.{subject}")),
        ImportKind::Stream { to, .. } => ("stream", to.as_ref().unwrap_or(subject).clone()),
    }
}

/// Whether the export lets that account have that import.
fn permits(export: &Export, import: &Import, importer: &str) -> bool {
    let is_kind = matches!(export.kind, ExportKind::Stream)
        == matches!(import.kind, ImportKind::Stream { .. });
    // A list with nobody in it is as good as none.
    let listed = export.accounts.as_ref().filter(|it| !it.is_empty());
    let is_listed = listed.is_none_or(|accounts| accounts.iter().any(|it| it == importer));
    let has_name = export.account_token_position.is_none_or(|position| {
        let index = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        import.subject.split('.').nth(index) == Some(importer)
    });
    is_kind && is_listed && has_name && subjects::is_subset(&import.subject, &export.subject)
}

/// The way back to the importer, if what is imported is imported further until it is there: each account with its subject.
/// Importing from oneself is no cycle.
fn cycle(accounts: &HashMap<&str, &Account>, importer: &str, first: &Import) -> Option<String> {
    if first.account == importer {
        return None;
    }
    let (first_kind, local) = local_subject(first);
    let step = |account: &str, subject: &str| format!("{account} \"{subject}\"");
    let start = format!(
        "{} <- {}",
        step(importer, &local),
        step(&first.account, &first.subject)
    );
    let mut pending = vec![(first, start)];
    let mut seen: HashSet<*const Import> = HashSet::new();
    while let Some((import, way)) = pending.pop() {
        let Some(exporter) = accounts.get(import.account.as_str()) else {
            continue;
        };
        for next in &exporter.imports {
            let (kind, local) = local_subject(next);
            let leads_on = kind == first_kind
                && next.account != exporter.name
                && subjects::overlap(&local, &import.subject);
            if !leads_on {
                continue;
            }
            let way = format!("{way} <- {}", step(&next.account, &next.subject));
            if next.account == importer {
                return Some(way);
            }
            if seen.insert(next) {
                pending.push((next, way));
            }
        }
    }
    None
}
