//! `/varz`: the server, its options and its counters.

use super::json::Json;
use super::snapshot::{ByKind, Totals, Traffic};
use super::{ProcessFigures, RequestCounts, Site, uptime};
use crate::config::options::WriteTimeout;
use crate::limits;
use crate::proto::info::PROTOCOL_VERSION;

/// What `/varz` counts.
#[derive(Clone, Debug, Default)]
pub struct VarzFigures {
    /// All workers' counters together.
    pub totals: Totals,
    /// The process.
    pub process: ProcessFigures,
    /// Whether clients must show who they are.
    pub auth_required: bool,
    /// Client connections.
    pub connections: usize,
    /// Connections that were ever accepted from clients.
    pub total_connections: u64,
    /// Route connections.
    pub routes: usize,
    /// Servers that are connected by routes.
    pub remotes: usize,
    /// This server, and the others that are not about to end.
    pub active_servers: usize,
    /// Subscriptions in all accounts.
    pub subscriptions: usize,
    /// Connections that were too slow.
    pub slow_consumers: ByKind,
    /// Connections that did not answer PINGs.
    pub stale_connections: ByKind,
    /// How often each page was asked for.
    pub requests: RequestCounts,
    /// Where clients can connect, in a cluster.
    pub connect_urls: Vec<String>,
    /// The port of routes, as it is rather than as it was asked for.
    pub cluster_port: u16,
    /// The monitoring ports.
    pub http_port: u16,
    /// The same, with TLS.
    pub https_port: u16,
    /// When the certificate for clients ends.
    pub cert_not_after: Option<String>,
    /// When the one for routes does.
    pub route_cert_not_after: Option<String>,
}

/// The page.
pub fn varz(site: &Site<'_>, figures: &VarzFigures, json: &mut Json) {
    json.object(|json| {
        identity(site, figures, json);
        settings(site, figures, json);
        blocks(site, figures, json);
        process(site, figures, json);
        counters(figures, json);
        json.object_at("http_req_stats", |json| {
            for (path, count) in &figures.requests {
                json.number(path, count);
            }
        });
        json.text("config_load_time", site.date(site.configured));
        json.text("config_digest", site.digest);
        json.some_texts_at("tags", &site.options.server_tags);
        if !site.options.server_metadata.is_empty() {
            json.object_at("metadata", |json| {
                for (name, value) in &site.options.server_metadata {
                    json.text(name, value);
                }
            });
        }
        if !site.options.no_system_account {
            let name = site.options.system_account.as_deref();
            json.text("system_account", name.unwrap_or("$SYS"));
        }
        by_kind("slow_consumer_stats", figures.slow_consumers, json);
        by_kind("stale_connection_stats", figures.stale_connections, json);
        json.object_at("disk_io_wait_stats", |json| {
            for name in ["waiters", "waits", "wait_time", "max_wait_time"] {
                json.number(name, 0);
            }
        });
        if let Some(date) = &figures.cert_not_after {
            json.text("tls_cert_not_after", date);
        }
    });
}

fn identity(site: &Site<'_>, figures: &VarzFigures, json: &mut Json) {
    let info = site.info;
    json.text("server_id", &info.server_id);
    json.text("server_name", &info.server_name);
    json.text("version", PROTOCOL_VERSION);
    json.text("midge_version", env!("CARGO_PKG_VERSION"));
    json.number("proto", 1);
    json.text("go", concat!("rust", env!("CARGO_PKG_RUST_VERSION")));
    json.text("host", &info.host);
    json.number("port", info.port);
    json.some_flag("auth_required", figures.auth_required);
    json.some_flag(
        "tls_required",
        site.options.tls.is_some() && !site.options.allow_non_tls,
    );
    let verifies = site.options.tls.as_ref().is_some_and(|tls| tls.verify);
    json.some_flag("tls_verify", verifies);
    json.some_texts_at("connect_urls", &figures.connect_urls);
}

fn settings(site: &Site<'_>, figures: &VarzFigures, json: &mut Json) {
    let options = site.options;
    // None at all is -1 here, since 0 might be taken for no limit.
    match options.max_connections {
        Some(0) => json.number("max_connections", -1),
        max => json.number("max_connections", max.unwrap_or(0)),
    }
    json.some_number(
        "max_subscriptions",
        options.max_subscriptions.unwrap_or(0) as u64,
    );
    json.number("ping_interval", options.ping_interval.as_nanos());
    json.number("ping_max", options.ping_max);
    let host = options.http_host.as_ref().unwrap_or(&options.host);
    json.text("http_host", host);
    json.number("http_port", figures.http_port);
    json.text(
        "http_base_path",
        options.http_base_path.trim_end_matches('/'),
    );
    json.number("https_port", figures.https_port);
    json.number("auth_timeout", options.auth_timeout.as_secs_f64());
    json.number("max_control_line", options.max_control_line);
    json.number("max_payload", options.max_payload);
    json.number("max_pending", options.max_pending);
}

fn blocks(site: &Site<'_>, figures: &VarzFigures, json: &mut Json) {
    let options = site.options;
    json.object_at("cluster", |json| cluster(site, figures, json));
    for name in ["gateway", "leaf", "mqtt", "websocket", "jetstream"] {
        json.object_at(name, |_| {});
    }
    let timeout = options
        .tls
        .as_ref()
        .map_or(limits::TLS_TIMEOUT, |tls| tls.timeout);
    json.number("tls_timeout", timeout.as_secs_f64());
    json.number("write_deadline", options.write_deadline.as_nanos());
    json.some_text("write_timeout", write_timeout(options.write_timeout));
}

fn cluster(site: &Site<'_>, figures: &VarzFigures, json: &mut Json) {
    let cluster = &site.options.cluster;
    json.some_text("name", site.info.cluster.as_deref().unwrap_or_default());
    if cluster.port.is_none() {
        return;
    }
    json.text("addr", &cluster.host);
    json.number("cluster_port", figures.cluster_port);
    json.number("auth_timeout", cluster.auth_timeout().as_secs_f64());
    let urls = cluster.routes.iter().map(|url| {
        let host = if url.host.contains(':') {
            format!("[{}]", url.host)
        } else {
            url.host.clone()
        };
        format!("{host}:{}", url.port)
    });
    let urls: Vec<String> = urls.collect();
    json.some_texts_at("urls", &urls);
    let timeout = cluster
        .tls
        .as_ref()
        .map_or(limits::TLS_TIMEOUT, |tls| tls.timeout);
    json.number("tls_timeout", timeout.as_secs_f64());
    json.some_flag("tls_required", cluster.tls.is_some());
    json.some_flag("tls_verify", cluster.tls.is_some());
    json.number("pool_size", cluster.pool_size.map_or(-1, i64::from));
    if let Some(deadline) = cluster.write_deadline {
        json.number("write_deadline", deadline.as_nanos());
    }
    json.some_text("write_timeout", write_timeout(cluster.write_timeout));
    if let Some(date) = &figures.route_cert_not_after {
        json.text("tls_cert_not_after", date);
    }
}

fn write_timeout(policy: WriteTimeout) -> &'static str {
    match policy {
        WriteTimeout::Default => "",
        WriteTimeout::Close => "close",
        WriteTimeout::Retry => "retry",
    }
}

fn process(site: &Site<'_>, figures: &VarzFigures, json: &mut Json) {
    let process = &figures.process;
    json.text("start", site.date(site.started));
    json.text("now", site.date(site.now));
    json.text("uptime", uptime(site.now.since(site.started)));
    json.number("mem", process.resident);
    json.number("cores", process.cores);
    json.number("gomaxprocs", process.workers);
    if let Some(limit) = site.options.memory_limit {
        json.number("gomemlimit", limit);
    }
    json.number("cpu", (process.cpu_percent * 10.0).round() / 10.0);
}

fn counters(figures: &VarzFigures, json: &mut Json) {
    let totals = &figures.totals;
    json.number("connections", figures.connections);
    json.number("total_connections", figures.total_connections);
    json.number("routes", figures.routes);
    json.number("remotes", figures.remotes);
    json.number("leafnodes", 0);
    let both = |one: Traffic, other: Traffic| Traffic {
        msgs: one.msgs + other.msgs,
        bytes: one.bytes + other.bytes,
    };
    let directions = [
        ("in", totals.from_clients, totals.from_servers),
        ("out", totals.to_clients, totals.to_servers),
    ];
    for (name, clients, servers) in directions {
        let all = both(clients, servers);
        json.number(&format!("{name}_msgs"), all.msgs);
        json.number(&format!("{name}_bytes"), all.bytes);
        json.number(&format!("{name}_client_msgs"), clients.msgs);
        json.number(&format!("{name}_client_bytes"), clients.bytes);
    }
    json.number("slow_consumers", figures.slow_consumers.sum());
    json.number("stale_connections", figures.stale_connections.sum());
    json.number("stalled_clients", totals.stalls);
    json.number("subscriptions", figures.subscriptions);
}

/// An object of counts by kind of connection.
pub(super) fn by_kind(name: &str, counts: ByKind, json: &mut Json) {
    json.object_at(name, |json| {
        json.number("clients", counts.clients);
        json.number("routes", counts.routes);
        json.number("gateways", 0);
        json.number("leafs", counts.leafs);
    });
}
