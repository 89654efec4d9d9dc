//! Plans: what one account takes from others, and where its messages go, as one configuration has it.
//!
//! ```text
//! stream import    messages there ─► a subscription here, by way of its shadow there
//! service import   a message here ─► the service there; the answer ─► back here
//! mapping          a message here ─► another subject here
//! ```
//!
//! Built from the options, never changed, replaced as a whole with the broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::mappings::Mappings;
use crate::config::options::{Account, ExportKind, Import, ImportKind, Options, ResponseType};
use crate::limits;
use crate::subject;
use crate::subject::renaming::Renaming;

/// The plan of one account.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Messages of others that its subscriptions get.
    pub streams: Vec<StreamImport>,
    /// Services of others that it asks under subjects of its own.
    pub services: Vec<ServiceImport>,
    /// Where its messages go instead.
    pub mappings: Mappings,
    /// Tells references to these services from those to others before them.
    pub(super) services_serial: u32,
}

/// An imported stream.
#[derive(Debug, PartialEq)]
pub struct StreamImport {
    /// The account it comes from.
    pub account: u32,
    /// The subjects there and here.
    pub renaming: Arc<Renaming>,
}

/// An imported service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceImport {
    /// The account that has it.
    pub account: u32,
    /// The subjects there and here.
    pub renaming: Arc<Renaming>,
    /// How many answers there are to a request.
    pub response: ResponseType,
    /// Time for an answer.
    pub threshold: Duration,
    /// Whether the service is told who asks, beyond the account.
    pub share: bool,
    /// Requests with this beginning are answered in the account itself.
    pub except: Option<&'static str>,
}

/// What clients ask JetStream, which servers that have it answer in the system account.
const JETSTREAM: &str = "$JS.API.>";
/// A consumer that is pulled from listens in the account that it belongs to.
const PULLS: &str = "$JS.API.CONSUMER.MSG.NEXT.";

/// The plans of the accounts with these names, in their order. The options have been checked.
pub(super) fn plans(names: &[&str], options: &Options) -> Vec<Plan> {
    let by_name: HashMap<&str, &Account> = options
        .accounts
        .iter()
        .map(|account| (account.name.as_str(), account))
        .collect();
    let indices: HashMap<&str, u32> = names.iter().copied().zip(0..).collect();
    let cluster = options.cluster.name.as_deref();
    let jetstream = jetstream(&indices, options);
    let plan = |name: &&str| {
        if *name == super::GLOBAL {
            return Plan {
                mappings: Mappings::new(&options.mappings, cluster),
                ..Plan::default()
            };
        }
        let Some(account) = by_name.get(name) else {
            return Plan::default();
        };
        let mut plan = Plan {
            mappings: Mappings::new(&account.mappings, cluster),
            ..Plan::default()
        };
        for import in &account.imports {
            let from = by_name.get(import.account.as_str());
            let index = indices.get(import.account.as_str());
            if let (Some(from), Some(&index)) = (from, index) {
                add(&mut plan, import, from, index);
            }
        }
        plan
    };
    let mut plans: Vec<Plan> = names.iter().map(plan).collect();
    if let Some(jetstream) = jetstream {
        let others = (0..).zip(&mut plans);
        for (_, plan) in others.filter(|(index, _)| *index != jetstream.account) {
            plan.add_unless_asked_elsewhere(&jetstream);
        }
    }
    plans
}

/// The import by which clients of a cluster can use the JetStream of its servers that have it.
fn jetstream(indices: &HashMap<&str, u32>, options: &Options) -> Option<ServiceImport> {
    options.cluster.port?;
    Some(ServiceImport {
        account: *indices.get(options.system_account()?)?,
        renaming: Arc::new(Renaming::new(JETSTREAM, JETSTREAM).ok()?),
        response: ResponseType::Single,
        threshold: limits::RESPONSE_THRESHOLD,
        share: true,
        except: Some(PULLS),
    })
}

impl Plan {
    /// Adds a service, unless what it has of others is asked under the same subjects.
    fn add_unless_asked_elsewhere(&mut self, service: &ServiceImport) {
        let subject = service.renaming.pattern_here();
        let is_asked = |it: &ServiceImport| subject::overlap(&it.renaming.pattern_here(), &subject);
        if !self.services.iter().any(is_asked) {
            self.services.push(service.clone());
        }
    }
}

fn add(plan: &mut Plan, import: &Import, from: &Account, account: u32) {
    // Checked with the options.
    let Ok(renaming) = import.renaming() else {
        return;
    };
    let renaming = Arc::new(renaming);
    match import.kind {
        ImportKind::Stream { .. } => plan.streams.push(StreamImport { account, renaming }),
        ImportKind::Service { share, .. } => {
            let (response, threshold) = terms(from, &import.subject);
            plan.services.push(ServiceImport {
                account,
                renaming,
                response,
                threshold: threshold.unwrap_or(limits::RESPONSE_THRESHOLD),
                share,
                except: None,
            });
        }
    }
}

/// How a service answers: by the export of exactly that subject, else by the first one that covers it.
fn terms(from: &Account, asked: &str) -> (ResponseType, Option<Duration>) {
    let services = from.exports.iter().filter_map(|export| match &export.kind {
        ExportKind::Service {
            response,
            threshold,
            ..
        } => Some((export.subject.as_str(), (*response, *threshold))),
        ExportKind::Stream => None,
    });
    let covers = |subject: &str| subject::is_subset(asked.as_bytes(), subject.as_bytes());
    let exact = services.clone().find(|(subject, _)| *subject == asked);
    let found = exact.or_else(|| services.clone().find(|(subject, _)| covers(subject)));
    found.map(|(_, terms)| terms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For whom each account's services are asked, by account, with these options.
    fn services(change: impl FnOnce(&mut Options)) -> [Vec<(u32, String)>; 3] {
        let mut options = Options {
            accounts: ["A", "B"].map(account).into(),
            ..Options::default()
        };
        change(&mut options);
        let plans = plans(&["$SYS", "A", "B"], &options);
        let asked = |plan: &Plan| {
            let services = plan.services.iter();
            let asked = services.map(|it| (it.account, it.renaming.pattern_here()));
            let shown = asked.map(|(account, here)| (account, here.escape_ascii().to_string()));
            shown.collect()
        };
        [0, 1, 2].map(|at| asked(&plans[at]))
    }

    fn account(name: &str) -> Account {
        Account {
            name: name.into(),
            ..Account::default()
        }
    }

    #[test]
    fn servers_of_a_cluster_have_jetstream_for_all_accounts_but_the_system_account() {
        let jetstream = || vec![(0, JETSTREAM.to_owned())];
        let alone = services(|_| ());
        assert_eq!(alone, [vec![], vec![], vec![]]);
        let clustered = services(|it| it.cluster.port = Some(0));
        assert_eq!(clustered, [vec![], jetstream(), jetstream()]);
        let without = services(|it| {
            it.cluster.port = Some(0);
            it.no_system_account = true;
        });
        assert_eq!(without, [vec![], vec![], vec![]]);
    }

    #[test]
    fn who_asks_the_jetstream_of_another_account_goes_on_to() {
        let own = services(|it| {
            it.cluster.port = Some(0);
            it.accounts[0].imports.push(Import {
                account: "B".into(),
                subject: "$JS.API.INFO".into(),
                kind: ImportKind::Service {
                    to: None,
                    share: false,
                },
            });
        });
        assert_eq!(own[1], [(2, "$JS.API.INFO".to_owned())]);
        assert_eq!(own[2], [(0, JETSTREAM.to_owned())]);
    }
}
