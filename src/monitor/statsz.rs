//! `STATSZ`: the counters in brief, as servers tell them about themselves.

use super::Site;
use super::json::Json;
use super::snapshot::{RouteSnapshot, Traffic};
use super::varz::{VarzFigures, by_kind};

/// The object under `statsz`.
pub fn statsz(
    site: &Site<'_>,
    figures: &VarzFigures,
    active_accounts: usize,
    routes: &[RouteSnapshot],
    json: &mut Json,
) {
    let (totals, process) = (&figures.totals, &figures.process);
    let mut sent = totals.to_clients;
    sent.add(totals.to_servers);
    let mut received = totals.from_clients;
    received.add(totals.from_servers);
    json.object_at("statsz", |json| {
        json.text("start", site.date(site.started));
        json.number("mem", process.resident);
        json.number("cores", process.cores);
        json.number("cpu", (process.cpu_percent * 10.0).round() / 10.0);
        json.number("connections", figures.connections);
        json.number("total_connections", figures.total_connections);
        json.number("active_accounts", active_accounts);
        json.number("subscriptions", figures.subscriptions);
        data("sent", sent, json);
        data("sent_to_clients", totals.to_clients, json);
        data("received", received, json);
        data("received_from_clients", totals.from_clients, json);
        json.number("slow_consumers", figures.slow_consumers.sum());
        if figures.slow_consumers.sum() > 0 {
            by_kind("slow_consumer_stats", figures.slow_consumers, json);
        }
        json.some_number("stale_connections", figures.stale_connections.sum());
        if figures.stale_connections.sum() > 0 {
            by_kind("stale_connection_stats", figures.stale_connections, json);
        }
        json.some_number("stalled_clients", totals.stalls);
        if !routes.is_empty() {
            json.array_at("routes", |json| {
                for it in routes {
                    json.item(|json| route(it, json));
                }
            });
        }
        json.number("active_servers", figures.active_servers);
        if let Some(limit) = site.options.memory_limit {
            json.number("gomemlimit", limit);
        }
        json.number("gomaxprocs", process.workers);
    });
}

fn route(it: &RouteSnapshot, json: &mut Json) {
    json.number("rid", it.rid);
    json.some_text("name", &it.remote_name);
    data("sent", it.sent, json);
    data("received", it.received, json);
    json.number("pending", it.pending);
}

fn data(name: &str, traffic: Traffic, json: &mut Json) {
    json.object_at(name, |json| {
        json.number("msgs", traffic.msgs);
        json.number("bytes", traffic.bytes);
    });
}
