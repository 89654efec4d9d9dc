//! The monitoring port: HTTP on the control thread's poll loop.
//!
//! ```text
//! listener ─► connection ─ request ─► queue of jobs ─ questions ─► workers
//!                 ▲                        │                          │
//!                 └──── response ◄─ page ◄─┴───────── answers ◄───────┘
//! ```
//!
//! One job is at work at a time, and none begins while too much waits for slow readers: whatever is asked for, and
//! however often, costs a bounded amount of memory, and the workers nothing but the slices they give to a survey.

mod connection;
mod job;
mod listener;
mod process;
mod render;
mod system;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Registry, Token};
use slab::Slab;

use super::acceptor::Control;
use super::cluster::Remote;
use super::mailbox::Settings;
use super::shared::Shared;
use crate::limits;
use crate::monitor::http::{Head, Response, cleaned};
use crate::monitor::snapshot::Answer;
use crate::monitor::{Calendar, ClosedRing, Endpoint, Moment, RequestCounts, endpoint};
use crate::proto::info::ServerInfo;
use crate::session::ClusterFacts;
use crate::stats::Handshakes;
use connection::{Connection, Progress, STEPS};
use job::{Asker, Job};
use process::Sampler;

pub use listener::{MonitorAddrs, MonitorListeners};

/// Tokens of the monitoring port begin here: listeners, then connections.
pub(super) const FIRST_TOKEN: usize = 1 << 24;
/// Listeners there can be.
const LISTENERS_MAX: usize = 4;

/// See the module's documentation.
pub(super) struct Monitor {
    shared: Arc<Shared>,
    control: Arc<Control>,
    settings: Arc<Settings>,
    listeners: MonitorListeners,
    connections: Slab<Connection>,
    next_serial: u64,
    /// Where connections read into; there only while there are any.
    buffer: Vec<u8>,
    jobs: VecDeque<Job>,
    active: Option<Job>,
    next_job: u64,
    closed: ClosedRing,
    requests: RequestCounts,
    calendar: Calendar,
    sampler: Sampler,
    started: Moment,
    /// Connections that were ever accepted from clients.
    accepted: u64,
    /// TLS handshakes at the monitoring port that came to an end.
    handshakes: Handshakes,
    /// Descriptors that the process may open.
    descriptors: usize,
    /// Clients are not accepted any more.
    is_closing: bool,
    /// Answers and reports that were sent.
    sent: u64,
    /// When the system account is told of the counters again, while anybody may hear it.
    report_at: Option<Instant>,
    /// The time from that report to the next.
    report_pause: Duration,
    /// How many connections other servers know each account to have here, by index.
    told: Vec<usize>,
    /// When they are told again, though nothing has changed, and the time from then to the next.
    recount_at: Option<Instant>,
    recount_pause: Duration,
    /// What this server says of itself in its cluster.
    facts: Arc<ClusterFacts>,
    /// Servers that there are routes to.
    remotes: Vec<Remote>,
    /// What the server is called, its cluster included.
    info: ServerInfo,
}

impl Monitor {
    /// A monitor at these listeners, of which there may be none.
    pub(super) fn new(
        mut listeners: MonitorListeners,
        registry: &Registry,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        control: Arc<Control>,
        descriptors: usize,
    ) -> io::Result<Self> {
        listeners.register(registry)?;
        let now = shared.moment(Instant::now());
        if !listeners.is_empty() {
            shared.start_remembering();
        }
        let closed_max = settings.options.max_closed_clients;
        let info = settings.info.clone();
        Ok(Monitor {
            shared,
            control,
            settings,
            listeners,
            connections: Slab::new(),
            next_serial: 0,
            buffer: Vec::new(),
            jobs: VecDeque::new(),
            active: None,
            next_job: 0,
            closed: ClosedRing::new(closed_max, limits::CLOSED_BYTES_MAX),
            requests: RequestCounts::new(),
            calendar: Calendar::new(now, unix_time()),
            sampler: Sampler::default(),
            started: now,
            accepted: 0,
            handshakes: Handshakes::default(),
            descriptors,
            is_closing: false,
            sent: 0,
            report_at: None,
            report_pause: limits::STATSZ_SECOND,
            told: Vec::new(),
            recount_at: None,
            recount_pause: limits::CONNS_INTERVAL,
            facts: Arc::default(),
            remotes: Vec::new(),
            info,
        })
    }

    /// Goes over to other settings.
    pub(super) fn set_settings(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
        self.renew_info();
    }

    /// Takes notice of the cluster: of what this server says there, and of the others.
    pub(super) fn see_cluster(&mut self, facts: &Arc<ClusterFacts>, remotes: Vec<Remote>) {
        let is_known = |id: &str| self.remotes.iter().any(|it| it.id == id);
        if !remotes.iter().all(|it| is_known(&it.id)) {
            // Whoever is new has to hear from this server before it counts it.
            let now = Instant::now();
            self.report_soon(now);
            self.recount_soon(now);
        }
        self.remotes = remotes;
        if !Arc::ptr_eq(&self.facts, facts) {
            self.facts = Arc::clone(facts);
            self.renew_info();
        }
    }

    fn renew_info(&mut self) {
        self.info = self.settings.info.clone();
        self.facts.complete(&mut self.info);
    }

    /// A client was accepted.
    pub(super) fn count_accepted(&mut self) {
        self.accepted += 1;
    }

    /// No client is accepted any more.
    pub(super) fn set_closing(&mut self) {
        self.is_closing = true;
    }

    /// Takes an event, if it is one of the connections'.
    pub(super) fn on_event(&mut self, event: &Event) {
        let Some(at) = event.token().0.checked_sub(FIRST_TOKEN) else {
            return;
        };
        let Some(key) = at.checked_sub(LISTENERS_MAX) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            let closed = event.is_read_closed() || event.is_error();
            connection.on_event(event.is_readable(), event.is_writable(), closed);
            self.serve(key);
        }
    }

    /// Takes the workers' answers, and does what they make possible.
    pub(super) fn on_answers(&mut self, answers: Vec<(u64, usize, Answer)>) {
        for (id, worker, answer) in answers {
            if let Some(job) = self.active.as_mut().filter(|job| job.id == id) {
                job.take(worker, answer);
            }
        }
        self.work();
    }

    /// What happened meanwhile, with or without an event: the history grows, and those who are too slow are closed.
    pub(super) fn tick(&mut self, now: Instant) {
        self.closed.append(self.shared.take_closed());
        let overdue = self.connections.iter();
        let overdue = overdue.filter(|(_, it)| it.deadline().is_some_and(|at| at <= now));
        let overdue: Vec<usize> = overdue.map(|(key, _)| key).collect();
        for key in overdue {
            self.remove(key);
        }
        self.report(now);
        self.report_connections(now);
        self.work();
    }

    /// When [`Monitor::tick`] is due, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.connections.iter();
        let deadlines = deadlines.filter_map(|(_, it)| it.deadline());
        let reports = self.report_at.into_iter().chain(self.recount_at);
        deadlines.chain(reports).min()
    }

    /// Accepts all connections at the listeners to which some `has_come`; false if some had to be left in a queue.
    pub(super) fn accept_everywhere(
        &mut self,
        registry: &Registry,
        has_come: impl Fn(Token) -> bool,
    ) -> bool {
        let mut all = true;
        for at in 0..LISTENERS_MAX {
            if has_come(Token(FIRST_TOKEN + at)) {
                all &= self.accept_all(at, registry).is_ok();
            }
        }
        all
    }

    fn accept_all(&mut self, at: usize, registry: &Registry) -> io::Result<()> {
        while let Some((stream, is_tls)) = self.listeners.accept(at)? {
            if self.connections.len() >= limits::MONITOR_CONNECTIONS_MAX {
                let idle = self.connections.iter().filter(|(_, it)| it.is_idle());
                match idle.map(|(key, it)| (it.since(), key)).min() {
                    Some((_, key)) => self.remove(key),
                    // All of them are at work: this one has to come again.
                    None => continue,
                }
            }
            self.next_serial += 1;
            let tls = self.settings.tls.monitoring.clone().filter(|_| is_tls);
            if is_tls && tls.is_none() {
                // A reload has taken TLS away: nothing must be said in clear.
                continue;
            }
            let now = Instant::now();
            let mut connection = Connection::new(stream, tls, self.next_serial, now);
            let entry = self.connections.vacant_entry();
            let token = Token(FIRST_TOKEN + LISTENERS_MAX + entry.key());
            if connection.register(registry, token).is_ok() {
                entry.insert(connection);
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: usize) {
        if let Some(mut connection) = self.connections.try_remove(key) {
            self.count_handshake(connection.take_handshake(true));
        }
        if self.connections.is_empty() {
            self.connections = Slab::new();
            self.buffer = Vec::new();
        }
    }

    fn count_handshake(&mut self, ended: Option<bool>) {
        if let Some(is_done) = ended {
            self.handshakes.count(is_done);
        }
    }

    /// Reads, answers and writes, as far as it goes without waiting, or letting others wait for long.
    fn serve(&mut self, key: usize) {
        let mut steps = STEPS;
        loop {
            let now = Instant::now();
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            let progress = connection.advance(&mut self.buffer, &mut steps, now);
            let ended = connection.take_handshake(false);
            self.count_handshake(ended);
            match progress {
                Progress::Waiting => return,
                Progress::More => return self.control.nudge(key as u64),
                Progress::Over => return self.remove(key),
                Progress::Bad(response) => {
                    let date = self.http_date();
                    self.respond(key, None, &response, &date);
                }
                Progress::Request(head) => self.on_request(key, *head),
            }
        }
    }

    fn on_request(&mut self, key: usize, head: Head) {
        let date = self.http_date();
        match self.route(&head) {
            Ok(request) => {
                let Some(connection) = self.connections.get_mut(key) else {
                    return;
                };
                let asker = Asker::Http {
                    key,
                    serial: connection.serial(),
                };
                connection.wait(head);
                self.next_job += 1;
                self.jobs.push_back(Job::new(self.next_job, asker, request));
                self.work();
            }
            Err(response) => self.respond(key, Some(&head), &response, &date),
        }
    }

    /// Finds the page, and counts the request.
    fn route(&mut self, head: &Head) -> Result<crate::monitor::Request, Response> {
        let options = &self.settings.options;
        if let Some(token) = &options.http_auth_token {
            let given = head.bearer.as_deref().unwrap_or_default();
            if !token.equals(given) {
                let mut response = Response::text(401, "401 Unauthorized\n");
                let field = ("WWW-Authenticate", "Bearer realm=\"midge\"".into());
                response.fields.push(field);
                return Err(response);
            }
        }
        if head.is_server_options {
            let mut response = Response::text(200, "");
            response.content_type = "";
            return Err(response);
        }
        if let Some(path) = cleaned(&head.path) {
            return Err(Response::redirect(&path, &head.target));
        }
        let base = options.http_base_path.trim_end_matches('/');
        let found: &Endpoint = endpoint(&head.path, base).ok_or_else(Response::not_found)?;
        let request = found.request(&head.query);
        let is_counted = match &request {
            Ok(_) => found.is_counted,
            Err(error) => error.is_counted,
        };
        if is_counted {
            *self.requests.entry(found.path).or_default() += 1;
        }
        request.map_err(|error| Response::text(400, &error.text))
    }

    fn respond(&mut self, key: usize, head: Option<&Head>, response: &Response, date: &str) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.respond(head, response, date, Instant::now());
        }
    }

    /// Goes on with the job at hand, and with the next ones.
    fn work(&mut self) {
        loop {
            if self.active.is_none() {
                let waiting = self.connections.iter();
                let waiting: usize = waiting.map(|(_, it)| it.pending()).sum();
                if waiting > limits::MONITOR_PENDING_MAX {
                    return;
                }
                self.active = self.jobs.pop_front();
            }
            let Some(mut job) = self.active.take() else {
                return;
            };
            if job.is_awaiting() {
                self.active = Some(job);
                return;
            }
            if self.advance(&mut job) {
                self.finish(job);
            } else {
                self.active = Some(job);
            }
        }
    }

    /// Hands a finished page to whoever asked for it.
    fn finish(&mut self, job: Job) {
        match job.asker.clone() {
            Asker::System(account, reply) => self.answer_request(&job, account, reply),
            Asker::Broadcast => self.broadcast(&job),
            Asker::Http { key, serial } => {
                let response = self.response(&job);
                let date = self.http_date();
                let connection = self.connections.get_mut(key);
                if let Some(connection) = connection.filter(|it| it.serial() == serial) {
                    let head = connection.stop_waiting();
                    connection.respond(head.as_deref(), &response, &date, Instant::now());
                    // What it sent meanwhile is its next request. Not at once: that would recurse without a bound.
                    self.flush_later(key);
                }
            }
        }
    }

    fn flush_later(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.flush(Instant::now());
            if connection.has_more() {
                self.control.nudge(key as u64);
            }
        }
    }

    /// Serves connections that have been put off.
    pub(super) fn on_nudges(&mut self, keys: Vec<u64>) {
        for key in keys {
            self.serve(usize::try_from(key).unwrap_or(usize::MAX));
        }
    }

    fn http_date(&mut self) -> String {
        let now = self.shared.moment(Instant::now());
        self.calendar = self.calendar.renewed(now, unix_time());
        self.calendar.http_date(now)
    }
}

/// Wall time, which may jump.
pub(super) fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
