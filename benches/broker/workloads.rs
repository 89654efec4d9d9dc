//! The table of workloads, with the goal of each figure.

use std::time::Duration;

use crate::load::Load;
use crate::process::Program;
use crate::wire::Transport;
use crate::{Figures, Outcome, connz, idle, latency, shared, storm};

/// Something to measure on a fresh server.
pub(crate) struct Workload {
    /// What `--only` takes.
    pub(crate) name: &'static str,
    /// What tables print.
    pub(crate) label: &'static str,
    kind: Kind,
    /// The figures that get a row, most important first. For a load, rows besides its CPU time.
    pub(crate) rows: &'static [Row],
}

/// How a workload is measured.
enum Kind {
    /// By CPU time per message; the goal is a ratio to the reference server.
    Load { load: Load, ratio: f64 },
    /// In its own way; the figures are named by the rows.
    Other(fn(&Program, Duration) -> Outcome<Figures>),
}

/// A figure in the table of all that is not CPU time per message.
pub(crate) struct Row {
    /// Its key in [`Figures`].
    pub(crate) figure: &'static str,
    /// What tables print.
    pub(crate) label: &'static str,
    /// Its unit, as printed.
    pub(crate) unit: &'static str,
    /// What midge has to keep to, if anything.
    pub(crate) goal: Option<Goal>,
}

/// What a figure of midge has to keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most this much, in the unit of the row.
    AtMost(f64),
    /// At most this multiple of the reference server's figure in the same run.
    Ratio(f64),
}

impl Workload {
    /// Runs one round.
    pub(crate) fn run(&self, program: &Program, duration: Duration) -> Outcome<Figures> {
        match &self.kind {
            Kind::Load { load, .. } => load.measure(program, duration),
            Kind::Other(measure) => measure(program, duration),
        }
    }

    /// The goal for CPU time per message, if that is what the workload measures.
    pub(crate) fn cpu_goal(&self) -> Option<Goal> {
        match self.kind {
            Kind::Load { ratio, .. } => Some(Goal::Ratio(ratio)),
            Kind::Other(_) => None,
        }
    }

    const fn load(name: &'static str, label: &'static str, ratio: f64, load: Load) -> Self {
        Self {
            name,
            label,
            kind: Kind::Load { load, ratio },
            rows: &[],
        }
    }

    const fn other(
        name: &'static str,
        label: &'static str,
        measure: fn(&Program, Duration) -> Outcome<Figures>,
        rows: &'static [Row],
    ) -> Self {
        Self {
            name,
            label,
            kind: Kind::Other(measure),
            rows,
        }
    }

    const fn with_rows(self, rows: &'static [Row]) -> Self {
        Self { rows, ..self }
    }
}

impl Row {
    const fn new(
        figure: &'static str,
        label: &'static str,
        unit: &'static str,
        goal: Option<Goal>,
    ) -> Self {
        Self {
            figure,
            label,
            unit,
            goal,
        }
    }
}

/// Every workload, in the order of the tables.
pub(crate) static WORKLOADS: &[Workload] = &[
    Workload::load(
        "pub16",
        "publish 16 B, no subscriber",
        0.20,
        Load {
            subscribers: 0,
            ..Load::BASE
        },
    ),
    Workload::load("one16", "1 → 1, 16 B", 0.20, Load::BASE),
    Workload::load(
        "one128",
        "1 → 1, 128 B",
        0.22,
        Load {
            payload: 128,
            ..Load::BASE
        },
    ),
    Workload::load(
        "headers16",
        "1 → 1, 16 B and a header",
        0.20,
        Load {
            has_headers: true,
            ..Load::BASE
        },
    ),
    Workload::load(
        "one1k",
        "1 → 1, 1 KiB",
        0.5,
        Load {
            payload: 1024,
            ..Load::BASE
        },
    ),
    Workload::load(
        "one64k",
        "1 → 1, 64 KiB",
        0.5,
        Load {
            payload: 64 * 1024,
            ..Load::BASE
        },
    ),
    Workload::load(
        "fan8",
        "1 → 8, 16 B, per delivery",
        0.20,
        Load {
            subscribers: 8,
            ..Load::BASE
        },
    ),
    Workload::load(
        "fan100",
        "1 → 100, 128 B, per delivery",
        0.30,
        Load {
            subscribers: 100,
            payload: 128,
            window: 16 << 20,
            ..Load::BASE
        },
    ),
    Workload::load(
        "fan5000",
        "1 → 5 000, 128 B, per delivery",
        0.08,
        Load {
            subscribers: 5_000,
            payload: 128,
            block: 16 << 10,
            window: 160 << 20,
            ..Load::BASE
        },
    )
    .with_rows(&[
        Row::new(
            "resident_mib",
            "resident, 5 000 subscribers in full flow",
            "MiB",
            Some(Goal::AtMost(64.0)),
        ),
        Row::new("peak_mib", "the same, peak", "MiB", None),
    ]),
    Workload::load(
        "pairs4",
        "4 pairs, 16 B",
        0.22,
        Load {
            flows: 4,
            ..Load::BASE
        },
    ),
    Workload::load(
        "queue8",
        "queue group of 8, 16 B",
        0.20,
        Load {
            subscribers: 8,
            is_queue: true,
            ..Load::BASE
        },
    ),
    Workload::load(
        "subjects100k",
        "100 000 literal subscriptions, all published to in turn",
        0.1,
        Load {
            subjects: 100_000,
            ..Load::BASE
        },
    ),
    Workload::load(
        "churn",
        "1 → 1, 16 B, and 10 000 SUB + UNSUB a second elsewhere",
        0.20,
        Load {
            churn: 10_000,
            ..Load::BASE
        },
    ),
    Workload::load(
        "tls16",
        "1 → 1, 16 B, TLS 1.3",
        0.4,
        Load {
            transport: Transport::Tls,
            ..Load::BASE
        },
    ),
    Workload::load(
        "tls1k",
        "1 → 1, 1 KiB, TLS 1.3",
        0.5,
        Load {
            payload: 1024,
            transport: Transport::Tls,
            ..Load::BASE
        },
    ),
    Workload::load(
        "route16",
        "1 → 1, 16 B, from one server of a cluster to the other, both together",
        0.35,
        Load {
            is_routed: true,
            ..Load::BASE
        },
    ),
    Workload::load(
        "route1k",
        "the same, 1 KiB",
        0.5,
        Load {
            is_routed: true,
            payload: 1024,
            ..Load::BASE
        },
    ),
    Workload::other(
        "request",
        "request/reply, one in flight",
        latency::request_reply,
        &[
            Row::new(
                "latency_p50_us",
                "request/reply, one in flight: median",
                "µs",
                Some(Goal::Ratio(0.75)),
            ),
            Row::new("latency_p99_us", "the same, 99th percentile", "µs", None),
            Row::new(
                "request_cpu_us",
                "the same, CPU time per request",
                "µs",
                None,
            ),
        ],
    ),
    Workload::other(
        "storm",
        "request/reply while 200 clients a second come with wrong passwords for a bcrypt hash",
        storm::bcrypt_storm,
        &[
            Row::new(
                "quiet_p50_us",
                "request/reply with users: median",
                "µs",
                None,
            ),
            Row::new("quiet_p99_us", "the same, 99th percentile", "µs", None),
            Row::new(
                "storm_p50_us",
                "request/reply while 200 wrong passwords a second come for a bcrypt hash of cost 11: median",
                "µs",
                None,
            ),
            Row::new("storm_p99_us", "the same, 99th percentile", "µs", None),
        ],
    ),
    Workload::other(
        "connections",
        "memory of an idle connection with one subscription (10 000 of them)",
        idle::connections,
        &[Row::new(
            "connection_kib",
            "idle connection with one subscription",
            "KiB",
            Some(Goal::AtMost(1.0)),
        )],
    ),
    Workload::other(
        "tlsconnections",
        "memory of an idle TLS connection with one subscription (2 000 of them)",
        idle::tls_connections,
        &[Row::new(
            "tls_connection_kib",
            "idle TLS connection with one subscription",
            "KiB",
            Some(Goal::AtMost(10.0)),
        )],
    ),
    Workload::other(
        "subscriptions",
        "memory of each further subscription (100 000 on one connection)",
        idle::subscriptions,
        &[Row::new(
            "subscription_b",
            "each further subscription",
            "B",
            Some(Goal::AtMost(150.0)),
        )],
    ),
    Workload::other(
        "start",
        "start-up time, and memory and wake-ups without any client",
        idle::start,
        &[
            Row::new(
                "start_resident_mib",
                "resident at start",
                "MiB",
                Some(Goal::AtMost(3.0)),
            ),
            Row::new(
                "start_anonymous_mib",
                "of it anonymous",
                "MiB",
                Some(Goal::AtMost(1.0)),
            ),
            Row::new(
                "wakeups",
                "wake-ups a second when idle",
                "",
                Some(Goal::AtMost(0.0)),
            ),
            Row::new(
                "start_ms",
                "start to first accept",
                "ms",
                Some(Goal::AtMost(10.0)),
            ),
        ],
    ),
    Workload::other(
        "leave",
        "memory 5 s after 1 000 subscribers in full flow and 100 000 subscriptions have left",
        idle::leave,
        &[
            Row::new(
                "left_percent",
                "resident 5 s after all clients have left",
                "% of start",
                Some(Goal::AtMost(110.0)),
            ),
            Row::new("left_peak_mib", "the peak before", "MiB", None),
        ],
    ),
    Workload::other(
        "connz",
        "/connz with the subscriptions of 10 000 connections",
        connz::page,
        &[
            Row::new(
                "slice_longest_us",
                "/connz of 10 000 connections in full flow: CPU time that a worker spends on it at once, at most",
                "µs",
                Some(Goal::AtMost(1000.0)),
            ),
            Row::new("slice_mean_us", "the same, mean", "µs", None),
            Row::new("slices", "the same, how often for a page", "", None),
            Row::new(
                "turn_p99_us",
                "turns of a worker in full flow: 99 % take at most",
                "µs",
                None,
            ),
            Row::new(
                "connz_turn_p99_us",
                "the same beside such pages",
                "µs",
                None,
            ),
            Row::new(
                "connz_cpu_ms",
                "CPU time of the server for such a page",
                "ms",
                None,
            ),
        ],
    ),
    Workload::other(
        "interference",
        "50 pairs in full flow beside one subscriber that never reads",
        shared::interference,
        &[
            Row::new(
                "pairs_cost_percent",
                "CPU time of a message of 50 pairs beside a stalled subscriber, of that without",
                "%",
                None,
            ),
            Row::new("pairs_alone_ns", "the same without", "ns", None),
            Row::new(
                "pairs_kept_percent",
                "rate that the pairs keep beside it",
                "%",
                None,
            ),
            Row::new(
                "stalled_turns",
                "the same, times the stalled one was given up",
                "",
                None,
            ),
        ],
    ),
];
