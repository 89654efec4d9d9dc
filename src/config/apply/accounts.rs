//! Accounts, what they share, and subject mappings.

use std::collections::HashSet;
use std::time::Duration;

use super::super::duration;
use super::super::error::Position;
use super::super::nkey;
use super::super::options::{
    Account, AccountLimits, Export, ExportKind, Import, ImportKind, Latency, Options, ResponseType,
};
use super::super::report::{Report, set};
use super::super::subjects;
use super::super::table::Block;
use super::super::value::{Data, Entry, Map, Value};
use super::Seen;
use super::auth::{self, Users};
use super::mappings;
use super::sharing::{self, Reference};
use super::unless_zero;

/// Accounts so far.
struct Accounts<'r> {
    report: &'r mut Report,
    list: Vec<Account>,
    names: HashSet<String>,
    references: Vec<Reference>,
    /// Places of the imports, by account and index.
    imports: Vec<(usize, usize, Position)>,
}

/// The `accounts` block: a map, or a list of names.
pub(super) fn accounts(report: &mut Report, entry: &Entry, options: &mut Options, seen: &mut Seen) {
    let mut accounts = Accounts {
        report,
        list: Vec::new(),
        names: HashSet::new(),
        references: Vec::new(),
        imports: Vec::new(),
    };
    match &entry.value.data {
        Data::Array(_) => {
            for (name, at) in accounts.report.texts(entry).unwrap_or_default() {
                accounts.add(name, at);
            }
        }
        Data::Map(map) => {
            for entry in &map.entries {
                // A variable that many accounts use may stand beside them.
                if entry.used && !matches!(entry.value.data, Data::Map(_)) {
                    continue;
                }
                accounts.account(entry, seen);
            }
        }
        _ => {
            let kind = entry.value.kind();
            accounts.report.error(
                &entry.at,
                format!("Expected accounts to be a map or an array, got {kind}"),
            );
        }
    }
    let Accounts {
        report,
        list,
        references,
        imports,
        ..
    } = accounts;
    sharing::check(report, &list, &references, &imports);
    options.accounts = list;
}

impl Accounts<'_> {
    fn add(&mut self, name: &str, at: &Position) -> bool {
        let problem = match name {
            "" => Some("an account needs a name".into()),
            "$G" => Some(format!("\"{name}\" is a Reserved Account")),
            _ if !self.names.insert(name.into()) => {
                Some(format!("Duplicate Account Entry: {name}"))
            }
            _ => None,
        };
        match problem {
            Some(text) => {
                self.report.error(at, text);
                false
            }
            None => {
                self.list.push(Account {
                    name: name.into(),
                    ..Account::default()
                });
                true
            }
        }
    }

    fn account(&mut self, entry: &Entry, seen: &mut Seen) {
        let Data::Map(map) = &entry.value.data else {
            self.report
                .error(&entry.at, "Expected map entries for accounts");
            return;
        };
        if !self.add(&entry.key, &entry.at) {
            return;
        }
        let index = self.list.len() - 1;
        let mut account = Account {
            name: entry.key.to_string(),
            ..Account::default()
        };
        let mut users = Users::default();
        let mut permissions = None;
        let Accounts {
            report,
            references,
            imports,
            list,
            ..
        } = self;
        report.each(Block::Account, map, |report, name, entry| match name {
            "users" => {
                users = auth::users(report, entry, seen);
                if !(users.users.is_empty() && users.nkeys.is_empty()) {
                    seen.account_users_at = Some(entry.at.clone());
                }
            }
            "nkey" => {
                let key = report.text(entry);
                if let Some(key) = key
                    .as_ref()
                    .filter(|key| !nkey::is_public(key, nkey::Kind::Account))
                {
                    report.error(
                        &entry.at,
                        format!("Not a valid public nkey for an account: \"{key}\""),
                    );
                }
                account.nkey = key;
            }
            "imports" => {
                for (map, at) in report.maps(entry) {
                    if let Some(import) = import(report, map, at, references) {
                        imports.push((index, account.imports.len(), at.clone()));
                        account.imports.push(import);
                    }
                }
            }
            "exports" => {
                for (map, at) in report.maps(entry) {
                    account.exports.extend(export(report, map, at, references));
                }
            }
            "default_permissions" => {
                permissions = auth::permissions(report, entry).map(std::sync::Arc::new)
            }
            "mappings" => account.mappings = mappings::mappings(report, entry),
            "limits" => account.limits = limits(report, entry),
            _ => debug_assert!(false, "nothing takes the option {name}"),
        });
        users.default_permissions(permissions.as_ref());
        account.users = users.users;
        account.nkeys = users.nkeys;
        if let Some(slot) = list.get_mut(index) {
            *slot = account;
        }
    }
}

fn limits(report: &mut Report, entry: &Entry) -> AccountLimits {
    let mut limits = AccountLimits::default();
    let Some(map) = report.map(entry) else {
        return limits;
    };
    report.each(Block::Limits, map, |report, name, entry| match name {
        "max_connections" => set(&mut limits.max_connections, report.unless_negative(entry)),
        "max_subscriptions" => set(&mut limits.max_subscriptions, report.unless_negative(entry)),
        _ => set(&mut limits.max_payload, report.unless_negative(entry)),
    });
    limits
}

/// What a subject of an import or export is for: `stream` or `service`, once.
fn one_kind(
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

fn export(
    report: &mut Report,
    map: &Map,
    at: &Position,
    references: &mut Vec<Reference>,
) -> Option<Export> {
    let mut kind = None;
    let mut subject = None;
    let mut accounts = None;
    let mut position = None;
    let (mut response, mut threshold, mut latency) = (None, None, None);
    // What only a service can have.
    let mut service_only = Vec::new();
    report.each(Block::Export, map, |report, name, entry| match name {
        "stream" | "service" => {
            if one_kind(report, &mut kind, name, &entry.at) {
                subject = report.text(entry);
            }
        }
        "accounts" => {
            let names = report.texts(entry).unwrap_or_default();
            accounts = Some(
                names
                    .into_iter()
                    .map(|(name, at)| (name.to_string(), at.clone()))
                    .collect::<Vec<_>>(),
            );
        }
        "account_token_position" => {
            position = report.number::<u32>(entry).map(|it| (it, entry.at.clone()))
        }
        "response" => {
            service_only.push(("response", entry.at.clone()));
            response = response_type(report, entry);
        }
        "threshold" => {
            service_only.push(("response", entry.at.clone()));
            threshold = threshold_of(report, entry);
        }
        _ => {
            service_only.push(("latency", entry.at.clone()));
            latency = self::latency(report, entry);
            if latency.is_some() {
                let text =
                    "latency has no effect: this version of midge has no measures of services yet";
                report.remark(&entry.at, text);
            }
        }
    });
    let (Some(kind), Some(subject)) = (kind, subject) else {
        if kind.is_none() {
            report.error(at, "an export needs a stream or a service");
        }
        return None;
    };
    if !subjects::is_valid(&subject) {
        report.error(
            at,
            format!("Error adding {kind} export \"{subject}\": invalid subject"),
        );
    }
    let what = if kind == "stream" {
        "stream export"
    } else {
        "service export"
    };
    for (account, at) in accounts.iter().flatten() {
        references.push(Reference {
            account: account.clone(),
            what,
            at: at.clone(),
        });
    }
    if let Some((position, at)) = &position {
        let index = usize::try_from(*position).unwrap_or(usize::MAX);
        if index == 0 || subject.split('.').nth(index - 1) != Some("*") {
            report.error(
                at,
                format!(
                    "Error adding {kind} export \"{subject}\": token {position} is not a wildcard"
                ),
            );
        }
    }
    let kind = if kind == "stream" {
        for (name, at) in &service_only {
            report.error(at, format!("Detected {name} directive on non-service"));
        }
        ExportKind::Stream
    } else {
        ExportKind::Service {
            response: response.unwrap_or_default(),
            threshold,
            latency,
        }
    };
    let accounts = accounts.map(|accounts| accounts.into_iter().map(|(name, _)| name).collect());
    Some(Export {
        subject,
        kind,
        accounts,
        account_token_position: position.map(|(position, _)| position),
    })
}

fn response_type(report: &mut Report, entry: &Entry) -> Option<ResponseType> {
    let text = report.string(entry)?;
    match text.to_ascii_lowercase().as_str() {
        "single" | "singleton" => Some(ResponseType::Single),
        "stream" => Some(ResponseType::Stream),
        "chunk" | "chunked" => Some(ResponseType::Chunked),
        _ => {
            report.error(&entry.at, format!("Unknown response type: \"{text}\""));
            None
        }
    }
}

fn threshold_of(report: &mut Report, entry: &Entry) -> Option<Duration> {
    let text = report.string(entry)?;
    match duration::parse(text) {
        Ok(value) if !value.is_negative => unless_zero(Some(value.length)),
        _ => {
            let text = format!(
                "Expected response threshold to be a parseable time duration, got \"{text}\""
            );
            report.error(&entry.at, text);
            None
        }
    }
}

/// A subject, or a map with a share of the requests.
fn latency(report: &mut Report, entry: &Entry) -> Option<Latency> {
    let mut latency = Latency {
        sampling: Some(100),
        subject: String::new(),
    };
    match &entry.value.data {
        Data::Map(map) => report.each(Block::Latency, map, |report, name, entry| match name {
            "sampling" => set(&mut latency.sampling, sampling(report, entry)),
            _ => set(&mut latency.subject, report.text(entry)),
        }),
        _ => latency.subject = report.text(entry)?,
    }
    if latency.subject.is_empty() {
        report.error(&entry.at, "Latency subject required, but missing");
    } else if !subjects::is_literal(&latency.subject) {
        report.error(
            &entry.at,
            format!(
                "latency subject \"{}\" is not a subject to publish to",
                latency.subject
            ),
        );
    }
    Some(latency)
}

/// A percentage; `headers` is `None`.
fn sampling(report: &mut Report, entry: &Entry) -> Option<Option<u8>> {
    if matches!(&entry.value.data, Data::String(text) if text.eq_ignore_ascii_case("headers")) {
        return Some(None);
    }
    let percent = percentage(&entry.value);
    if percent.is_none() {
        report.error(&entry.at, "bad sampling percentage, should be 1-100");
    }
    percent.map(Some)
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

fn import(
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
