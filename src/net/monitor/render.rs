//! From what was gathered to the page.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::job::Job;
use super::{Monitor, process, unix_time};
use crate::monitor::http::{HTML, Response};
use crate::monitor::snapshot::{AccountSnapshot, Totals};
use crate::monitor::{
    Calendar, Json, Metrics, ProcessFigures, Request, Site, SubszFigures, SubszRequest, VarzFigures,
};
use crate::net::tls::TlsServer;
use crate::{monitor, session};

impl Monitor {
    /// The response with the page that the job has gathered everything for.
    pub(super) fn response(&mut self, job: &Job) -> Response {
        let page = |body: Vec<u8>| Response::json(200, body);
        match &job.request {
            Request::Root => {
                let options = &self.settings.options;
                let base = options.http_base_path.trim_end_matches('/');
                Response {
                    content_type: HTML,
                    ..Response::text(200, &monitor::root(base))
                }
            }
            Request::Healthz(request) => {
                let health = request.judge(self.closed_listeners());
                if let Some((_, text)) = &health.error {
                    let what = if request.details { "1 errors" } else { text };
                    crate::log::warn!(self.shared.log, "Healthcheck failed: {what:?}");
                }
                let mut json = Json::compact();
                json.object(|json| monitor::healthz(request, &health, json));
                Response::json(health.status, json.into_bytes())
            }
            Request::Queues => page(monitor::queues().into()),
            Request::Raft => Response::text(404, monitor::NO_RAFT),
            Request::DebugVars => Response {
                content_type: "application/json; charset=utf-8",
                ..Response::text(200, monitor::debug_vars())
            },
            Request::Stacks => page(monitor::stacks(self.shared.mailboxes.len()).into()),
            Request::Metrics => Response {
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                ..Response::text(200, &self.metrics(job))
            },
            _ => {
                let mut json = Json::pretty();
                match self.render(job, &mut json) {
                    Ok(()) => page(json.into_bytes()),
                    Err(text) => Response::text(400, &text),
                }
            }
        }
    }

    /// Writes the page as one value.
    pub(super) fn render(&mut self, job: &Job, json: &mut Json) -> Result<(), String> {
        let gathered = &job.gathered;
        let wants_figures = matches!(job.request, Request::Varz);
        let figures = wants_figures.then(|| self.varz_figures(&gathered.totals));
        let accounts = self.accounts();
        let site = &self.site();
        match &job.request {
            Request::Varz => monitor::varz(site, &figures.unwrap_or_default(), json),
            Request::Connz(request) if gathered.is_unknown_account => {
                request.unknown_account(site, json);
            }
            Request::Connz(request) => {
                monitor::connz(site, request, &gathered.page, &gathered.details, json);
            }
            Request::Routez(listing) => {
                monitor::routez(site, *listing, &gathered.routes, json);
            }
            Request::Subsz(request) => {
                let figures = subsz_figures(request, &accounts, &gathered.totals);
                let (total, list) = &gathered.subscriptions;
                monitor::subsz(site, request, &figures, (*total, list), json);
            }
            Request::Accountz(name) if name.is_empty() => {
                monitor::account_names(site, &accounts, json);
            }
            Request::Accountz(name) => {
                let account = accounts.iter().find(|it| *it.name == **name);
                let account = account.ok_or_else(|| format!("Account {name} does not exist"))?;
                monitor::account_detail(site, &accounts, account, json);
            }
            Request::AccountInfo(name) => {
                let account = accounts.iter().find(|it| *it.name == **name);
                let account = account.ok_or_else(|| format!("Account {name} does not exist"))?;
                monitor::account_info(site, account, json);
            }
            Request::Accstatz { unused, account } => {
                let mut traffic = gathered.census.accounts.clone();
                traffic.resize(accounts.len(), Default::default());
                let is_wanted =
                    |it: &AccountSnapshot| account.as_ref().is_none_or(|name| *it.name == **name);
                let (accounts, traffic): (Vec<_>, Vec<_>) = accounts
                    .iter()
                    .cloned()
                    .zip(traffic)
                    .filter(|(it, _)| is_wanted(it))
                    .unzip();
                monitor::account_statistics(site, &accounts, &traffic, *unused, json);
            }
            Request::Leafz => monitor::leafz(site, json),
            Request::Gatewayz => monitor::gatewayz(site, json),
            Request::Jsz => monitor::jsz(site, json),
            _ => json.object(|_| {}),
        }
        Ok(())
    }

    /// What every page may tell.
    pub(super) fn site(&self) -> Site<'_> {
        let now = self.shared.moment(Instant::now());
        Site {
            options: &self.settings.options,
            info: &self.info,
            calendar: self.calendar.renewed(now, unix_time()),
            now,
            started: self.started,
            configured: self.shared.moment(self.settings.loaded).max(self.started),
            digest: &self.settings.digest,
        }
    }

    /// The listeners that should be open and are not.
    pub(super) fn closed_listeners(&self) -> &'static [&'static str] {
        if self.is_closing { &["server"] } else { &[] }
    }

    /// The accounts, as the threads share them.
    pub(super) fn accounts(&self) -> Vec<AccountSnapshot> {
        let entries = self.settings.auth.accounts();
        let account = |(account, entry): (
            &std::sync::Arc<crate::broker::Account>,
            &session::AccountEntry,
        )| {
            let trie = account.trie.read().expect("no thread panics and lives on");
            let (inserts, removes) = trie.changes();
            AccountSnapshot {
                name: std::sync::Arc::clone(&entry.name),
                is_system: entry.is_system,
                connections: account.connections(),
                subscriptions: trie.len(),
                inserts,
                removes,
            }
        };
        let accounts = self.settings.broker.accounts();
        accounts.zip(entries).map(account).collect()
    }

    fn process(&mut self) -> ProcessFigures {
        ProcessFigures {
            resident: process::resident_bytes(),
            cpu: process::cpu_time(),
            cpu_percent: self.sampler.percent(Instant::now()),
            cores: process::cores(),
            workers: self.shared.mailboxes.len(),
            descriptors_max: self.descriptors,
        }
    }

    pub(super) fn varz_figures(&mut self, totals: &[Totals]) -> VarzFigures {
        let addrs = self.listeners.addrs();
        let broker = self.settings.broker.accounts();
        let subscriptions = broker.map(|it| it.trie.read().map_or(0, |trie| trie.len()));
        VarzFigures {
            totals: sum(totals),
            auth_required: self.settings.auth.is_required(),
            connections: self.shared.connection_count(),
            routes: self.settings.broker.routes.count(),
            total_connections: self.accepted,
            subscriptions: subscriptions.sum(),
            slow_consumers: self.shared.slow_consumers.by_kind(),
            stale_connections: self.shared.stale.by_kind(),
            requests: self.requests.clone(),
            remotes: self.remotes.len(),
            active_servers: self.remotes.iter().filter(|it| !it.is_leaving).count() + 1,
            connect_urls: self.info.connect_urls.clone(),
            cluster_port: self.facts.port,
            http_port: addrs.http.map_or(0, |addr| addr.port()),
            https_port: addrs.https.map_or(0, |addr| addr.port()),
            cert_not_after: not_after(self.settings.tls.clients.as_deref()),
            route_cert_not_after: not_after(self.settings.tls.routes.as_deref()),
            process: self.process(),
        }
    }

    fn metrics(&mut self, job: &Job) -> String {
        let mut varz = self.varz_figures(&job.gathered.totals);
        varz.totals.handshakes.monitor = self.handshakes;
        let figures = Metrics {
            varz: &varz,
            workers: &job.gathered.totals,
            backlogs: &job.gathered.backlogs,
            census: &job.gathered.census,
            auth_failures: self.shared.auth_failures.load(Ordering::Relaxed) as u64,
            address_refusals: self.shared.address_refusals.load(Ordering::Relaxed) as u64,
            accounts: &self.accounts(),
            monitor_connections: self.connections.len(),
        };
        monitor::metrics(&self.site(), &figures)
    }
}

/// When a certificate ends.
fn not_after(tls: Option<&TlsServer>) -> Option<String> {
    tls?.not_after.map(Calendar::unix_rfc3339)
}

/// All workers' counters together.
fn sum(totals: &[Totals]) -> Totals {
    let mut sum = Totals::default();
    for it in totals {
        sum.from_clients.add(it.from_clients);
        sum.from_servers.add(it.from_servers);
        sum.to_clients.add(it.to_clients);
        sum.to_servers.add(it.to_servers);
        sum.stalls += it.stalls;
        sum.cache.entries += it.cache.entries;
        sum.cache.misses += it.cache.misses;
        sum.cache.fanout += it.cache.fanout;
        sum.cache.max_fanout = sum.cache.max_fanout.max(it.cache.max_fanout);
        sum.handshakes.add(it.handshakes);
        sum.cpu += it.cpu;
        sum.connections += it.connections;
        sum.pending_bytes += it.pending_bytes;
    }
    sum
}

/// The figures of one account, or of all; of one that does not exist, zeros.
fn subsz_figures(
    request: &SubszRequest,
    accounts: &[AccountSnapshot],
    totals: &[Totals],
) -> SubszFigures {
    let is_wanted =
        |it: &&AccountSnapshot| request.account.is_empty() || *it.name == *request.account;
    let totals = sum(totals);
    let mut figures = SubszFigures::default();
    for it in accounts.iter().filter(is_wanted) {
        figures.subscriptions += it.subscriptions;
        figures.inserts += it.inserts;
        figures.removes += it.removes;
        // The caches are shared by all accounts.
        figures.cache = totals.cache;
        figures.matches = totals.from_clients.msgs + totals.from_servers.msgs;
    }
    figures
}
