//! `/routez`: the routes to the other servers of the cluster.

use super::json::Json;
use super::query::Listing;
use super::snapshot::RouteSnapshot;
use super::subsz::{listed_in_detail, listed_subjects};
use super::{Site, round_trip, uptime};
use crate::config::options::SubjectRules;

/// The page.
pub fn routez(site: &Site<'_>, listing: Listing, routes: &[RouteSnapshot], json: &mut Json) {
    json.object(|json| {
        json.text("server_id", &site.info.server_id);
        json.text("server_name", &site.info.server_name);
        json.text("now", site.date(site.now));
        permissions(site, json);
        json.number("num_routes", routes.len());
        json.array_at("routes", |json| {
            for it in routes {
                json.item(|json| route(site, listing, it, json));
            }
        });
    });
}

fn route(site: &Site<'_>, listing: Listing, it: &RouteSnapshot, json: &mut Json) {
    json.number("rid", it.rid);
    json.text("remote_id", &it.remote_id);
    json.text("remote_name", &it.remote_name);
    json.flag("did_solicit", it.did_solicit);
    json.flag("is_configured", it.is_configured);
    json.text("ip", it.addr.ip().to_canonical().to_string());
    json.number("port", it.addr.port());
    json.text("start", site.date(it.start));
    json.text("last_activity", site.date(it.active.max(it.start)));
    if !it.rtt.is_zero() {
        json.text("rtt", round_trip(it.rtt));
    }
    json.text("uptime", uptime(site.now.since(it.start)));
    json.text("idle", uptime(site.now.since(it.active.max(it.start))));
    permissions(site, json);
    json.number("pending_size", it.pending);
    json.number("in_msgs", it.received.msgs);
    json.number("out_msgs", it.sent.msgs);
    json.number("in_bytes", it.received.bytes);
    json.number("out_bytes", it.sent.bytes);
    json.number("subscriptions", it.subs);
    match listing {
        Listing::None => {}
        Listing::Subjects => listed_subjects(&it.listed, json),
        Listing::Details => listed_in_detail(&it.listed, false, json),
    }
    if let Some(account) = &it.account {
        json.text("account", &**account);
    }
    json.text("compression", it.compression);
}

fn permissions(site: &Site<'_>, json: &mut Json) {
    let Some(permissions) = &site.options.cluster.permissions else {
        return;
    };
    rules("import", &permissions.import, json);
    rules("export", &permissions.export, json);
}

fn rules(name: &str, rules: &SubjectRules, json: &mut Json) {
    let allow = rules.allow.as_deref().unwrap_or_default();
    if allow.is_empty() && rules.deny.is_empty() {
        return;
    }
    json.object_at(name, |json| {
        json.some_texts_at("allow", allow);
        json.some_texts_at("deny", &rules.deny);
    });
}
