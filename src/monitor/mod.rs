//! What people and programs see of a running server: the pages of the monitoring port.
//!
//! ```text
//! head ─► Request ─► what it needs (Question to each worker) ─► answers ─► Response
//! ```
//!
//! Bytes and values only: sockets and threads are `net::monitor`'s. One file for each page; names, order, types and units
//! of the fields are those of the reference server, whose tools read them.

mod accounts;
mod closed;
mod connz;
mod elsewhere;
mod events;
mod healthz;
pub mod http;
mod json;
mod metrics;
mod query;
mod request;
mod root;
mod routez;
pub mod snapshot;
mod statsz;
mod subsz;
pub mod system;
mod time;
pub mod tracing;
mod varz;

use std::collections::BTreeMap;
use std::time::Duration;

pub use accounts::{
    account_connections, account_detail, account_info, account_names, account_statistics,
};
pub use closed::ClosedRing;
pub use connz::{ConnzRequest, Page, State, connz};
pub use elsewhere::{NO_RAFT, debug_vars, gatewayz, jsz, leafz, queues, stacks};
pub use events::{Connections, Event};
pub use healthz::{Health, HealthRequest, healthz};
pub use json::Json;
pub use metrics::{Metrics, metrics};
pub use query::{BadParameter, Listing, Paging, Query};
pub use request::{Endpoint, Request, RequestError, SubszRequest, endpoint};
pub use root::root;
pub use routez::routez;
pub use statsz::statsz;
pub use subsz::{SubszFigures, subsz};
pub use time::{Calendar, Moment, Tick, round_trip, uptime};
pub use varz::{VarzFigures, varz};

use crate::config::options::Options;
use crate::proto::info::ServerInfo;

/// What every page may tell of its server.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Its options.
    pub options: &'a Options,
    /// What INFO says of it.
    pub info: &'a ServerInfo,
    /// Turns moments into dates.
    pub calendar: Calendar,
    /// The time.
    pub now: Moment,
    /// When it started.
    pub started: Moment,
    /// When its configuration was last taken over.
    pub configured: Moment,
    /// The digest of its configuration; empty without one.
    pub digest: &'a str,
}

impl Site<'_> {
    /// A moment as pages show it.
    #[must_use]
    pub fn date(&self, moment: Moment) -> String {
        self.calendar.rfc3339(moment)
    }

    /// The fields that most pages begin with.
    fn begin(&self, json: &mut Json) {
        json.text("server_id", &self.info.server_id);
        json.text("now", self.date(self.now));
    }
}

/// What the operating system tells of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessFigures {
    /// Resident memory in bytes.
    pub resident: u64,
    /// CPU time since the start.
    pub cpu: Duration,
    /// Per cent of a core over the last second or more.
    pub cpu_percent: f64,
    /// Cores.
    pub cores: usize,
    /// Worker threads.
    pub workers: usize,
    /// Descriptors that the process may open.
    pub descriptors_max: usize,
}

/// How often each page was asked for.
pub type RequestCounts = BTreeMap<&'static str, u64>;
