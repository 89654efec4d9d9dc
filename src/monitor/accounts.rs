//! `/accountz` and `/accstatz`: the accounts.

use super::json::Json;
use super::snapshot::{AccountSnapshot, AccountTraffic, Traffic};
use super::subsz::SubszFigures;
use super::{Moment, Site, system};
use crate::config::options::{
    Account, Destination, Export, ExportKind, Import, ImportKind, Mapping, ResponseType,
};

/// `/accountz` without an account: their names.
pub fn account_names(site: &Site<'_>, accounts: &[AccountSnapshot], json: &mut Json) {
    json.object(|json| {
        begin(site, accounts, json);
        json.texts_at("accounts", accounts.iter().map(|it| &*it.name));
    });
}

/// `/accountz` with an account: all about it.
pub fn account_detail(
    site: &Site<'_>,
    accounts: &[AccountSnapshot],
    account: &AccountSnapshot,
    json: &mut Json,
) {
    json.object(|json| {
        begin(site, accounts, json);
        json.object_at("account_detail", |json| detail(site, account, json));
    });
}

/// What `/accountz` says of one account, alone.
pub fn account_info(site: &Site<'_>, account: &AccountSnapshot, json: &mut Json) {
    json.object(|json| detail(site, account, json));
}

/// What `/accountz` says of one account.
pub(super) fn detail(site: &Site<'_>, account: &AccountSnapshot, json: &mut Json) {
    let mut configured = site.options.accounts.iter();
    let configured = configured.find(|it| *it.name == *account.name);
    json.text("account_name", &*account.name);
    json.text("update_time", site.date(site.configured.max(Moment(0))));
    json.some_flag("is_system", account.is_system);
    json.flag("expired", false);
    json.flag("complete", true);
    json.flag("jetstream_enabled", false);
    json.number("leafnode_connections", 0);
    json.number("client_connections", account.connections);
    json.number("subscriptions", account.subscriptions);
    let own = configured.map_or(&[][..], |it| &it.mappings);
    mappings(
        if &*account.name == "$G" {
            &site.options.mappings
        } else {
            own
        },
        json,
    );
    if let Some(configured) = configured {
        sharing(configured, json);
    }
    json.text("name_tag", &*account.name);
    json.object_at("sublist_stats", |json| {
        let figures = SubszFigures {
            subscriptions: account.subscriptions,
            inserts: account.inserts,
            removes: account.removes,
            ..SubszFigures::default()
        };
        figures.write(json);
    });
}

fn begin(site: &Site<'_>, accounts: &[AccountSnapshot], json: &mut Json) {
    site.begin(json);
    if let Some(system) = accounts.iter().find(|it| it.is_system) {
        json.text("system_account", &*system.name);
    }
}

fn mappings(mappings: &[Mapping], json: &mut Json) {
    if mappings.is_empty() {
        return;
    }
    json.object_at("mappings", |json| {
        for mapping in mappings {
            json.array_at(&mapping.source, |json| {
                for it in &mapping.destinations {
                    json.item(|json| destination(it, json));
                }
            });
        }
    });
}

fn destination(it: &Destination, json: &mut Json) {
    json.text("subject", &it.subject);
    json.number("weight", it.weight);
    if let Some(cluster) = &it.cluster {
        json.text("cluster", cluster);
    }
}

fn sharing(account: &Account, json: &mut Json) {
    if !account.exports.is_empty() {
        json.array_at("exports", |json| {
            for it in &account.exports {
                json.item(|json| export(it, json));
            }
        });
    }
    if !account.imports.is_empty() {
        json.array_at("imports", |json| {
            for it in &account.imports {
                json.item(|json| import(it, json));
            }
        });
    }
}

fn export(it: &Export, json: &mut Json) {
    json.text("subject", &it.subject);
    match &it.kind {
        ExportKind::Stream => json.text("type", "stream"),
        ExportKind::Service { response, .. } => {
            json.text("type", "service");
            let response = match response {
                ResponseType::Single => "Singleton",
                ResponseType::Stream => "Stream",
                ResponseType::Chunked => "Chunked",
            };
            json.text("response_type", response);
        }
    }
    json.some_texts_at(
        "approved_accounts",
        it.accounts.as_deref().unwrap_or_default(),
    );
}

fn import(it: &Import, json: &mut Json) {
    json.text("subject", &it.subject);
    json.text("account", &it.account);
    let (kind, to, share) = match &it.kind {
        ImportKind::Service { to, share } => ("service", to, *share),
        ImportKind::Stream { to, .. } => ("stream", to, false),
    };
    json.some_text("to", to.as_deref().unwrap_or_default());
    json.text("type", kind);
    json.flag("invalid", false);
    json.flag("share", share);
    json.flag("tracking", false);
}

/// `/accstatz`: what the accounts have sent and taken; those without connections only if `unused`.
pub fn account_statistics(
    site: &Site<'_>,
    accounts: &[AccountSnapshot],
    traffic: &[AccountTraffic],
    unused: bool,
    json: &mut Json,
) {
    json.object(|json| {
        site.begin(json);
        json.array_at("account_statz", |json| {
            for (account, traffic) in accounts.iter().zip(traffic) {
                if unused || account.connections > 0 {
                    json.item(|json| statistics(account, traffic, json));
                }
            }
        });
    });
}

/// The counters of an account, as an event that has this `id` tells them for the `seq`th time.
#[must_use]
pub fn account_connections(
    site: &Site<'_>,
    seq: u64,
    id: &str,
    account: &AccountSnapshot,
    traffic: &AccountTraffic,
) -> String {
    let mut json = Json::compact();
    json.object(|json| {
        json.text("type", "io.nats.server.advisory.v1.account_connections");
        json.text("id", id);
        json.text("timestamp", site.date(site.now));
        system::server(site, seq, json);
        statistics(account, traffic, json);
    });
    json.into_text()
}

/// What `/accstatz`, and the events about an account, say of it.
pub(super) fn statistics(account: &AccountSnapshot, traffic: &AccountTraffic, json: &mut Json) {
    json.text("acc", &*account.name);
    json.text("name", &*account.name);
    json.number("conns", account.connections);
    json.number("leafnodes", traffic.leafnodes);
    json.number("total_conns", account.connections + traffic.leafnodes);
    json.number("num_subscriptions", account.subscriptions);
    data("sent", traffic.sent, json);
    data("received", traffic.received, json);
    json.number("slow_consumers", traffic.slow_consumers);
}

fn data(name: &str, traffic: Traffic, json: &mut Json) {
    let pair = |traffic: Traffic, json: &mut Json| {
        json.number("msgs", traffic.msgs);
        json.number("bytes", traffic.bytes);
    };
    json.object_at(name, |json| {
        pair(traffic, json);
        for part in ["gateways", "routes", "leafs"] {
            json.object_at(part, |json| pair(Traffic::default(), json));
        }
    });
}
