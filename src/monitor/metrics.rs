//! `/metrics`: the counters in the text format of Prometheus.
//!
//! Names follow OpenMetrics: counters end in `_total`, units are seconds and bytes, what is counted apart is a label.

use std::fmt::{Display, Write as _};

use super::Site;
use super::snapshot::{AccountSnapshot, Backlog, Census, Durations, Totals};
use super::varz::VarzFigures;
use crate::proto::info::PROTOCOL_VERSION;

/// What `/metrics` shows.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'a> {
    /// What `/varz` counts.
    pub varz: &'a VarzFigures,
    /// Each worker's counters.
    pub workers: &'a [Totals],
    /// What waits in each worker's mailbox.
    pub backlogs: &'a [Backlog],
    /// Connections by state and account.
    pub census: &'a Census,
    /// Connections that did not show who they are.
    pub auth_failures: u64,
    /// Connections that were refused because of the limits of their address.
    pub address_refusals: u64,
    /// The accounts.
    pub accounts: &'a [AccountSnapshot],
    /// Connections to the monitoring port.
    pub monitor_connections: usize,
}

/// The page in the making.
struct Page(String);

impl Page {
    /// A family of samples: its name without the prefix, its type and what it is.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.0,
            "# HELP midge_{name} {help}\n# TYPE midge_{name} {kind}"
        );
    }

    /// A sample, with labels.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "midge_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// The samples of a histogram, with a label.
    fn histogram(&mut self, name: &str, label: (&str, &str), durations: &Durations) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in durations.cumulative() {
            self.sample(&bucket, &[label, ("le", bound)], count);
        }
        let count = durations.count();
        self.sample(&bucket, &[label, ("le", "+Inf")], count);
        let seconds = durations.sum().as_secs_f64();
        self.sample(&format!("{name}_sum"), &[label], seconds);
        self.sample(&format!("{name}_count"), &[label], count);
    }

    /// A family of a single sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// The page.
#[must_use]
pub fn metrics(site: &Site<'_>, figures: &Metrics<'_>) -> String {
    let mut page = Page(String::new());
    server(site, figures, &mut page);
    messages(figures, &mut page);
    connections(site, figures, &mut page);
    workers(figures, &mut page);
    accounts(figures, &mut page);
    page.0
}

fn server(site: &Site<'_>, figures: &Metrics<'_>, page: &mut Page) {
    let process = &figures.varz.process;
    page.family("info", GAUGE, "What runs here.");
    let labels = [
        ("server_id", site.info.server_id.as_str()),
        ("server_name", site.info.server_name.as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
        ("nats_version", PROTOCOL_VERSION),
    ];
    page.sample("info", &labels, 1);
    let started = site.calendar.unix_seconds(site.started);
    page.single(
        "start_time_seconds",
        GAUGE,
        "Start of the server, in seconds since 1970.",
        started,
    );
    let configured = site.calendar.unix_seconds(site.configured);
    page.single(
        "config_load_time_seconds",
        GAUGE,
        "When the configuration was last taken over.",
        configured,
    );
    page.single(
        "resident_memory_bytes",
        GAUGE,
        "Resident memory of the process.",
        process.resident,
    );
    let cpu = process.cpu.as_secs_f64();
    page.single(
        "cpu_seconds_total",
        COUNTER,
        "CPU time of the process, user and system.",
        cpu,
    );
    page.single(
        "cores",
        GAUGE,
        "Cores that the process may use.",
        process.cores,
    );
    page.single(
        "max_open_files",
        GAUGE,
        "Descriptors that the process may open.",
        process.descriptors_max,
    );
    if let Some(limit) = site.options.memory_limit {
        page.single(
            "memory_limit_bytes",
            GAUGE,
            "Memory above which nothing more is taken in.",
            limit,
        );
    }
}

fn messages(figures: &Metrics<'_>, page: &mut Page) {
    let totals = &figures.varz.totals;
    let both = |page: &mut Page, name: &str, client: u64, server: u64| {
        page.sample(name, &[("peer", "client")], client);
        page.sample(name, &[("peer", "server")], server);
    };
    page.family("received_messages_total", COUNTER, "Messages received.");
    both(
        page,
        "received_messages_total",
        totals.from_clients.msgs,
        totals.from_servers.msgs,
    );
    page.family(
        "received_bytes_total",
        COUNTER,
        "Bytes of headers and payloads received.",
    );
    both(
        page,
        "received_bytes_total",
        totals.from_clients.bytes,
        totals.from_servers.bytes,
    );
    page.family(
        "sent_messages_total",
        COUNTER,
        "Messages delivered, once for each receiver.",
    );
    both(
        page,
        "sent_messages_total",
        totals.to_clients.msgs,
        totals.to_servers.msgs,
    );
    page.family(
        "sent_bytes_total",
        COUNTER,
        "Bytes of headers and payloads delivered.",
    );
    both(
        page,
        "sent_bytes_total",
        totals.to_clients.bytes,
        totals.to_servers.bytes,
    );
    page.single(
        "subscriptions",
        GAUGE,
        "Subscriptions in all accounts.",
        figures.varz.subscriptions,
    );
    let misses = totals.cache.misses;
    page.single(
        "match_cache_misses_total",
        COUNTER,
        "Messages whose subject had to be looked up.",
        misses,
    );
}

fn connections(site: &Site<'_>, figures: &Metrics<'_>, page: &mut Page) {
    let (varz, census) = (figures.varz, figures.census);
    page.family("connections", GAUGE, "Client connections, by state.");
    let special = census.strangers + census.stalled + census.closing;
    for (state, count) in [
        ("open", census.all.saturating_sub(special)),
        ("unauthenticated", census.strangers),
        ("stalled", census.stalled),
        ("closing", census.closing),
    ] {
        page.sample("connections", &[("state", state)], count);
    }
    page.single(
        "connections_accepted_total",
        COUNTER,
        "Client connections ever accepted.",
        varz.total_connections,
    );
    if let Some(max) = site.options.max_connections {
        page.single(
            "max_connections",
            GAUGE,
            "Client connections there may be.",
            max,
        );
    }
    page.single(
        "routes",
        GAUGE,
        "Connections to other servers of the cluster.",
        varz.routes,
    );
    page.single(
        "remotes",
        GAUGE,
        "Other servers of the cluster that are connected.",
        varz.remotes,
    );
    for (name, help, counts) in [
        (
            "slow_consumers_total",
            "Connections closed because they did not take what was sent.",
            varz.slow_consumers,
        ),
        (
            "stale_connections_total",
            "Connections closed because they did not answer PINGs.",
            varz.stale_connections,
        ),
    ] {
        page.family(name, COUNTER, help);
        page.sample(name, &[("peer", "client")], counts.clients);
        page.sample(name, &[("peer", "route")], counts.routes);
    }
    let failures = figures.auth_failures;
    page.single(
        "auth_failures_total",
        COUNTER,
        "Connections closed because they did not show who they are.",
        failures,
    );
    handshakes(figures, page);
    let refusals = figures.address_refusals;
    page.single(
        "address_refusals_total",
        COUNTER,
        "Connections refused because of the limits of their address.",
        refusals,
    );
    let stalls = varz.totals.stalls;
    page.single(
        "producer_stalls_total",
        COUNTER,
        "How often a producer had to wait for a consumer.",
        stalls,
    );
    page.family(
        "http_requests_total",
        COUNTER,
        "Requests for monitoring pages.",
    );
    for (path, count) in &varz.requests {
        page.sample("http_requests_total", &[("path", path)], count);
    }
    let open = figures.monitor_connections;
    page.single(
        "http_connections",
        GAUGE,
        "Connections to the monitoring port.",
        open,
    );
}

fn handshakes(figures: &Metrics<'_>, page: &mut Page) {
    let name = "tls_handshakes_total";
    page.family(
        name,
        COUNTER,
        "TLS handshakes that came to an end, accepted or dialed.",
    );
    let counts = &figures.varz.totals.handshakes;
    for (peer, direction, counts) in [
        ("client", "accepted", counts.clients),
        ("route", "accepted", counts.routes_accepted),
        ("route", "dialed", counts.routes_dialled),
        ("monitor", "accepted", counts.monitor),
    ] {
        for (result, count) in [("done", counts.done), ("failed", counts.failed)] {
            let labels = [("peer", peer), ("direction", direction), ("result", result)];
            page.sample(name, &labels, count);
        }
    }
}

fn workers(figures: &Metrics<'_>, page: &mut Page) {
    type Value = fn(&Totals) -> f64;
    let families: [(&str, &str, &str, Value); 3] = [
        (
            "worker_cpu_seconds_total",
            COUNTER,
            "CPU time of a worker's loop.",
            |it| it.cpu.as_secs_f64(),
        ),
        (
            "worker_connections",
            GAUGE,
            "Connections of a worker.",
            |it| it.connections as f64,
        ),
        (
            "worker_pending_bytes",
            GAUGE,
            "Bytes that wait for a worker's sockets.",
            |it| it.pending_bytes as f64,
        ),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for (worker, totals) in figures.workers.iter().enumerate() {
            page.sample(name, &[("worker", &worker.to_string())], value(totals));
        }
    }
    turns(figures, page);
    type Depth = fn(&Backlog) -> usize;
    let families: [(&str, &str, Depth); 2] = [
        (
            "worker_mailbox_entries",
            "Batches of messages and commands that wait in a worker's mailbox.",
            |it| it.entries,
        ),
        (
            "worker_mailbox_bytes",
            "Bytes of messages that wait in a worker's mailbox.",
            |it| it.bytes,
        ),
    ];
    for (name, help, value) in families {
        page.family(name, GAUGE, help);
        for (worker, backlog) in figures.backlogs.iter().enumerate() {
            page.sample(name, &[("worker", &worker.to_string())], value(backlog));
        }
    }
}

fn turns(figures: &Metrics<'_>, page: &mut Page) {
    type Value = fn(&Totals) -> &Durations;
    let families: [(&str, &str, Value); 2] = [
        (
            "worker_turn_seconds",
            "Time that a worker works between two times of waiting, or turns where it has no time to wait.",
            |it| &it.turns,
        ),
        (
            "worker_monitoring_slice_seconds",
            "CPU time that a worker spends at once, at the end of a turn, on pages for monitoring.",
            |it| &it.slices,
        ),
    ];
    for (name, help, value) in families {
        page.family(name, HISTOGRAM, help);
        for (worker, totals) in figures.workers.iter().enumerate() {
            page.histogram(name, ("worker", &worker.to_string()), value(totals));
        }
    }
}

fn accounts(figures: &Metrics<'_>, page: &mut Page) {
    page.family(
        "account_connections",
        GAUGE,
        "Client connections of an account.",
    );
    for it in figures.accounts {
        page.sample(
            "account_connections",
            &[("account", &it.name)],
            it.connections,
        );
    }
    page.family(
        "account_subscriptions",
        GAUGE,
        "Subscriptions of an account.",
    );
    for it in figures.accounts {
        page.sample(
            "account_subscriptions",
            &[("account", &it.name)],
            it.subscriptions,
        );
    }
}
