//! Accounts: their users, their limits and what they share.

use std::collections::HashSet;

use super::super::error::Position;
use super::super::nkey;
use super::super::options::{Account, AccountLimits, Options};
use super::super::report::{Report, set};
use super::super::table::Block;
use super::super::value::{Data, Entry};
use super::Seen;
use super::auth::{self, Users};
use super::exports::export;
use super::imports::import;
use super::mappings;
use super::sharing::{self, Reference};

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
