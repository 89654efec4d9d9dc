//! The monitoring port's other door: requests and reports over the server's own protocol.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Monitor;
use super::job::{Asker, Job};
use crate::broker::{Account, GLOBAL};
use crate::id;
use crate::limits;
use crate::monitor::snapshot::Act;
use crate::monitor::system::{self, Reading, SystemRequest};
use crate::monitor::{self, Connections, Json, Request};
use crate::net::acceptor::ReloadAsker;
use crate::net::mailbox::Command;

impl Monitor {
    /// Begins to answer requests.
    pub(in crate::net) fn on_requests(&mut self, requests: Vec<SystemRequest>) {
        for request in requests {
            // Whoever asks may ask for closed connections next.
            self.shared.start_remembering();
            let accounts = self.accounts();
            let account = accounts.get(request.account as usize);
            let name = account.map(|it| it.name.to_string()).unwrap_or_default();
            let reading = system::read(&self.site(), &request, &name);
            match reading {
                Reading::Silence => {}
                Reading::Identity => {
                    let text = system::identity(&self.site()).into_text();
                    self.announce(request.account, request.reply, text);
                }
                Reading::Reload => {
                    let asker = (request.account, request.reply);
                    if let Err(asker) = self.control.ask_for_reload(asker) {
                        let why =
                            "can only reload config when a file is provided using -c or --config";
                        self.answer_reloads(vec![asker], Err(why.into()));
                    }
                }
                Reading::Error(code, why) => {
                    let text = self.envelope(Err((code, why)));
                    self.announce(request.account, request.reply, text);
                }
                Reading::Page(page) => self.begin(page, request.account, request.reply),
            }
        }
    }

    /// Has a page made, unless so many wait already. Whoever asks so much has to ask again.
    fn begin(&mut self, page: Request, account: u32, reply: Vec<u8>) {
        let is_alike = |job: &&Job| matches!(job.asker, Asker::System(..));
        if self.jobs.iter().filter(is_alike).count() < limits::SYSTEM_REQUESTS_MAX {
            self.next_job += 1;
            let asker = Asker::System(account, reply);
            self.jobs.push_back(Job::new(self.next_job, asker, page));
        }
    }

    /// Has the counters gathered for the system account, if it is time to and there is anybody to be told.
    pub(super) fn report(&mut self, now: Instant) {
        let Some(account) = self.system_account() else {
            return;
        };
        if account.connections() == 0 && self.settings.broker.routes.count() == 0 {
            self.report_at = None;
            return;
        }
        let Some(at) = self.report_at else {
            // Soon after somebody has come, who will have subscribed by then.
            return self.report_soon(now);
        };
        if at > now {
            return;
        }
        let pause = self.report_pause;
        self.report_pause = limits::STATSZ_INTERVAL.min(pause * 2);
        self.report_at = Some(now + pause);
        // A lame duck has told that it is not to be counted any more.
        if !self.info.lame_duck && account.is_heard(self.subject("STATSZ").as_bytes()) {
            self.next_job += 1;
            let job = Job::new(self.next_job, Asker::Broadcast, Request::Statsz);
            self.jobs.push_back(job);
        }
    }

    /// Begins anew to tell of the counters, at first in quick succession.
    pub(super) fn report_soon(&mut self, now: Instant) {
        self.report_at = Some(now + limits::STATSZ_FIRST);
        self.report_pause = limits::STATSZ_SECOND;
    }

    /// Tells other servers anew how many connections accounts have here: at first in quick succession, because whoever is
    /// new may not be interested yet.
    pub(super) fn recount_soon(&mut self, now: Instant) {
        self.recount_at = Some(now + limits::STATSZ_FIRST);
        self.recount_pause = limits::STATSZ_SECOND;
    }

    /// Tells other servers how many connections accounts have here, where that has changed or it is time to.
    pub(super) fn report_connections(&mut self, now: Instant) {
        let has_changed = self.shared.crowd_changed.swap(false, Ordering::AcqRel);
        let is_due = self.recount_at.is_some_and(|at| at <= now);
        if !has_changed && !is_due {
            return;
        }
        // Whoever is new does not know what the others have.
        let is_new = is_due && self.recount_pause < limits::CONNS_INTERVAL;
        if is_due {
            let pause = self.recount_pause;
            self.recount_pause = limits::CONNS_INTERVAL.min(pause * 2);
            let is_alone = self.settings.broker.routes.count() == 0;
            self.recount_at = Some(now + pause).filter(|_| !is_alone);
        }
        let Some(system) = self.system_account() else {
            return;
        };
        let broker = Arc::clone(&self.settings.broker);
        for account in broker.accounts().filter(|it| it.name != GLOBAL) {
            let (at, count) = (account.index as usize, account.connections());
            if self.told.len() <= at {
                self.told.resize(at + 1, 0);
            }
            let told = std::mem::replace(&mut self.told[at], count);
            if count != told || (is_due && count > 0) {
                self.tell_connections(&system, account, count);
            }
            if is_new && account.is_limited() {
                self.ask_for_connections(&system, account);
            }
        }
    }

    fn tell_connections(&mut self, system: &Account, account: &Account, count: usize) {
        for subject in Connections::subjects(&account.name) {
            if system.is_heard(subject.as_bytes()) {
                let text = self.connections(account, count);
                self.announce(system.index, subject.into(), text);
            }
        }
    }

    /// Asks the other servers how many connections an account has there; they answer as they tell each other anyway.
    fn ask_for_connections(&mut self, system: &Account, account: &Account) {
        let subject = format!("$SYS.REQ.ACCOUNT.{}.CONNS", account.name);
        let [reply, _] = Connections::subjects(&account.name);
        let seq = self.next_seq();
        let site = self.site();
        let mut json = Json::compact();
        json.object(|json| {
            system::server(&site, seq, json);
            json.text("acc", &account.name);
        });
        self.ask_around(system.index, subject.into(), reply.into(), json.into_text());
    }

    fn connections(&mut self, account: &Account, count: usize) -> String {
        let connections = Connections {
            account: &account.name,
            count,
            subscriptions: account.trie.read().map_or(0, |trie| trie.len()),
        };
        let seq = self.next_seq();
        connections.text(&self.site(), seq, &id::nonce())
    }

    fn system_account(&self) -> Option<Arc<Account>> {
        let mut entries = self.settings.auth.accounts().iter().zip(0..);
        let (_, index) = entries.find(|(entry, _)| entry.is_system)?;
        self.settings.broker.account(index).cloned()
    }

    /// What this server tells the system account by this word.
    fn subject(&self, word: &str) -> String {
        format!("$SYS.SERVER.{}.{word}", self.info.server_id)
    }

    /// The system account, wherever it is, hears that this server is about to end.
    pub(in crate::net) fn announce_lame_duck(&mut self) {
        self.announce_end("LAMEDUCK");
    }

    /// The same, that it ends.
    pub(in crate::net) fn announce_shutdown(&mut self) {
        self.announce_end("SHUTDOWN");
    }

    fn announce_end(&mut self, word: &str) {
        let subject = self.subject(word);
        let account = self.system_account();
        if let Some(account) = account.filter(|it| it.is_heard(subject.as_bytes())) {
            let seq = self.next_seq();
            let text = system::farewell(&self.site(), seq);
            self.announce(account.index, subject.into(), text);
        }
    }

    /// Tells those who asked for a reload what came of it.
    pub(in crate::net) fn answer_reloads(
        &mut self,
        askers: Vec<ReloadAsker>,
        outcome: Result<(), String>,
    ) {
        for (account, reply) in askers {
            let text = self.outcome(outcome.as_ref().copied().map_err(String::as_str));
            self.announce(account, reply, text);
        }
    }

    /// What came of something that is no page, with who answers.
    fn outcome(&mut self, outcome: Result<(), &str>) -> String {
        let seq = self.next_seq();
        let site = self.site();
        let mut json = Json::compact();
        json.object(|json| {
            system::server(&site, seq, json);
            if let Err(why) = outcome {
                json.object_at("error", |json| {
                    json.number("code", 500);
                    json.text("description", why);
                });
            }
        });
        json.into_text()
    }

    /// The counters of an account; `None` if there is no such account here, or nobody in it.
    fn account_connections(&mut self, job: &Job, name: &str) -> Option<String> {
        let seq = self.next_seq();
        let accounts = self.accounts();
        // Where it has none, the server keeps silent: others may have some.
        let is_it =
            |it: &monitor::snapshot::AccountSnapshot| *it.name == *name && it.connections > 0;
        let at = accounts.iter().position(is_it)?;
        let traffic = job.gathered.census.accounts.get(at).copied();
        Some(monitor::account_connections(
            &self.site(),
            seq,
            &id::nonce(),
            accounts.get(at)?,
            &traffic.unwrap_or_default(),
        ))
    }

    /// Sends the answer that the job has gathered everything for.
    pub(super) fn answer_request(&mut self, job: &Job, account: u32, reply: Vec<u8>) {
        if let Request::Accstatz {
            unused,
            account: Some(name),
        } = &job.request
        {
            let accounts = self.accounts();
            let is_used = |it: &&monitor::snapshot::AccountSnapshot| *unused || it.connections > 0;
            if !accounts.iter().filter(is_used).any(|it| *it.name == **name) {
                return;
            }
        }
        let text = match &job.request {
            Request::Statsz => self.statsz(job),
            Request::AccountConns(name) => match self.account_connections(job, name) {
                Some(text) => text,
                None => return,
            },
            Request::Act(..) if job.gathered.has_acted => self.outcome(Ok(())),
            Request::Act(Act::Kick, _) => self.outcome(Err("no such client or leafnode id")),
            Request::Act(Act::Warn, _) => self.outcome(Err("no such client id")),
            Request::Healthz(request) => {
                let health = request.judge(self.closed_listeners());
                let mut json = Json::compact();
                json.object(|json| {
                    monitor::healthz(request, &health, json);
                    json.number("status_code", health.status);
                });
                self.envelope(Ok(json.into_text()))
            }
            Request::Queues => self.envelope(Ok(monitor::queues().into())),
            _ => {
                let mut json = Json::compact();
                let rendered = self.render(job, &mut json);
                self.envelope(
                    rendered
                        .map(|()| json.into_text())
                        .map_err(|why| (500, why)),
                )
            }
        };
        let text = self.within(limits::ROUTE_PAYLOAD_MAX, text);
        self.announce(account, reply, text);
    }

    /// An answer, or an error if it has more than so many bytes: on a route it would be the end of that.
    pub(super) fn within(&mut self, bytes_max: usize, text: String) -> String {
        let len = text.len();
        if len <= bytes_max {
            return text;
        }
        let why = format!("the answer has {len} bytes, the limit is {bytes_max}");
        self.envelope(Err((500, why)))
    }

    /// Tells the system account of the counters.
    pub(super) fn broadcast(&mut self, job: &Job) {
        if let Some(account) = self.system_account() {
            let text = self.statsz(job);
            self.announce(account.index, self.subject("STATSZ").into(), text);
        }
    }

    fn statsz(&mut self, job: &Job) -> String {
        let figures = self.varz_figures(&job.gathered.totals);
        let active = self
            .accounts()
            .iter()
            .filter(|it| it.connections > 0)
            .count();
        let seq = self.next_seq();
        let site = self.site();
        let mut json = Json::compact();
        json.object(|json| {
            system::server(&site, seq, json);
            monitor::statsz(&site, &figures, active, &job.gathered.routes, json);
        });
        json.into_text()
    }

    /// A page, or the code and the text of an error, with who answers.
    fn envelope(&mut self, content: Result<String, (u16, String)>) -> String {
        let seq = self.next_seq();
        let site = self.site();
        let mut json = Json::compact();
        json.object(|json| {
            system::server(&site, seq, json);
            match &content {
                Ok(data) => json.number("data", data),
                Err((code, why)) => {
                    if *code != 400 {
                        json.null("data");
                    }
                    json.object_at("error", |json| {
                        json.number("code", code);
                        json.text("description", why);
                    });
                }
            }
        });
        json.into_text()
    }

    fn next_seq(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Sends a text to whoever is subscribed. Any worker can do that.
    fn announce(&self, account: u32, subject: Vec<u8>, text: String) {
        self.ask_around(account, subject, Vec::new(), text);
    }

    /// The same, where answers are wanted.
    fn ask_around(&self, account: u32, subject: Vec<u8>, reply: Vec<u8>, text: String) {
        if let Some(mailbox) = self.shared.mailboxes.first() {
            mailbox.command(Command::Announce {
                account,
                subject,
                reply,
                text,
            });
        }
    }
}
