//! A page in the making: what is asked of the workers, and what they have answered.

use std::mem;
use std::sync::Arc;

use super::Monitor;
use crate::limits;
use crate::monitor::snapshot::{
    Act, Answer, Backlog, Briefs, Census, ConnectionSnapshot, Detailed, Question, RouteSnapshot,
    SubscriptionFilter, SubscriptionSnapshot, Totals,
};
use crate::monitor::{ConnzRequest, Listing, Page, Request, SubszRequest};
use crate::net::mailbox::{Command, Mailbox, Ticket};
use crate::order;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) asker: Asker,
    pub(super) request: Request,
    /// Answers that are still to come.
    awaited: usize,
    answers: Vec<(usize, Answer)>,
    stage: Stage,
    pub(super) gathered: Gathered,
}

/// Who wants the page.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// A connection to the monitoring port.
    Http {
        /// Its slot.
        key: usize,
        /// Tells it from others in that slot.
        serial: u64,
    },
    /// Somebody who has sent a request: the answer goes to this subject of this account.
    System(u32, Vec<u8>),
    /// The system account, unasked.
    Broadcast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begun,
    /// The counters are there, or were not needed.
    Counted,
    /// This worker's subscriptions are next.
    Listing(usize),
}

/// What has been found out.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) totals: Vec<Totals>,
    /// What waited in each worker's mailbox before they were asked.
    pub(super) backlogs: Vec<Backlog>,
    pub(super) census: Census,
    pub(super) page: Page,
    /// By number.
    pub(super) details: Vec<ConnectionSnapshot>,
    pub(super) subscriptions: (usize, Vec<SubscriptionSnapshot>),
    /// By number.
    pub(super) routes: Vec<RouteSnapshot>,
    /// A worker has the client that something was to be done to.
    pub(super) has_acted: bool,
    /// The account that was asked for does not exist.
    pub(super) is_unknown_account: bool,
}

impl Job {
    pub(super) fn new(id: u64, asker: Asker, request: Request) -> Self {
        Job {
            id,
            asker,
            request,
            awaited: 0,
            answers: Vec::new(),
            stage: Stage::Begun,
            gathered: Gathered::default(),
        }
    }

    pub(super) fn is_awaiting(&self) -> bool {
        self.awaited > 0
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, worker: usize, answer: Answer) {
        self.awaited = self.awaited.saturating_sub(1);
        self.answers.push((worker, answer));
    }
}

impl Monitor {
    /// Goes on with a job that waits for no answer; true if everything for its page is there.
    pub(super) fn advance(&mut self, job: &mut Job) -> bool {
        let answers = mem::take(&mut job.answers);
        match job.request.clone() {
            Request::Varz
            | Request::Statsz
            | Request::Metrics
            | Request::AccountConns(_)
            | Request::Accstatz { .. } => self.advance_counters(job, answers),
            Request::Act(act, cid) => self.advance_act(job, act, cid, answers),
            Request::Connz(request) => self.advance_connz(job, &request, answers),
            Request::Subsz(request) => self.advance_subsz(job, &request, answers),
            Request::Routez(listing) => self.advance_routez(job, listing, answers),
            _ => true,
        }
    }

    fn advance_counters(&mut self, job: &mut Job, answers: Vec<(usize, Answer)>) -> bool {
        let gathered = &mut job.gathered;
        for (_, answer) in answers {
            match answer {
                Answer::Totals(totals) => gathered.totals.push(*totals),
                Answer::Census(census) => gathered.census.add(&census),
                Answer::Routes(routes) => gathered.routes.extend(routes),
                _ => {}
            }
        }
        let is_of_accounts =
            |it: &Request| matches!(it, Request::Accstatz { .. } | Request::AccountConns(_));
        let wants_totals = !is_of_accounts(&job.request);
        order::sort_by_key(&mut gathered.routes, |route| route.rid);
        let wants_routes = matches!(job.request, Request::Statsz);
        let wants_census = !matches!(job.request, Request::Varz | Request::Statsz);
        match mem::replace(&mut job.stage, Stage::Counted) {
            Stage::Begun => {
                let mailboxes = self.shared.mailboxes.iter();
                job.gathered.backlogs = mailboxes.map(Mailbox::depth).collect();
                if wants_totals {
                    self.ask_all(job, &Question::Totals);
                }
                if wants_census {
                    self.ask_all(job, &Question::Census);
                }
                if wants_routes {
                    self.ask_all(job, &Question::Routes(false));
                }
                false
            }
            _ => true,
        }
    }

    fn advance_act(
        &mut self,
        job: &mut Job,
        act: Act,
        cid: u64,
        answers: Vec<(usize, Answer)>,
    ) -> bool {
        let mut has_acted = answers.iter();
        job.gathered.has_acted |= has_acted.any(|(_, it)| matches!(it, Answer::Acted(true)));
        match mem::replace(&mut job.stage, Stage::Counted) {
            Stage::Begun => {
                self.ask_all(job, &Question::Act(act, cid));
                false
            }
            _ => true,
        }
    }

    fn advance_routez(
        &mut self,
        job: &mut Job,
        listing: Listing,
        answers: Vec<(usize, Answer)>,
    ) -> bool {
        for (_, answer) in answers {
            if let Answer::Routes(routes) = answer {
                job.gathered.routes.extend(routes);
            }
        }
        for route in &mut job.gathered.routes {
            let mut remotes = self.remotes.iter();
            if let Some(remote) = remotes.find(|it| it.id == route.remote_id) {
                route.did_solicit |= remote.did_solicit;
                route.is_configured |= remote.is_configured;
            }
        }
        order::sort_by_key(&mut job.gathered.routes, |route| route.rid);
        match mem::replace(&mut job.stage, Stage::Counted) {
            Stage::Begun => {
                self.ask_all(job, &Question::Routes(listing != Listing::None));
                false
            }
            _ => true,
        }
    }

    fn advance_connz(
        &mut self,
        job: &mut Job,
        request: &ConnzRequest,
        answers: Vec<(usize, Answer)>,
    ) -> bool {
        match job.stage {
            Stage::Begun => {
                let account = self.account_named(&request.account);
                if !request.account.is_empty() && account.is_none() {
                    job.gathered.is_unknown_account = true;
                    return true;
                }
                job.stage = Stage::Counted;
                if request.wants_open() {
                    let selection = Arc::new(request.selection(account));
                    self.ask_all(job, &Question::Briefs(selection));
                }
                !request.wants_open() && self.advance_connz(job, request, Vec::new())
            }
            Stage::Counted => {
                let mut open = vec![Briefs::default(); self.shared.mailboxes.len()];
                for (worker, answer) in answers {
                    if let (Some(place), Answer::Briefs(briefs)) = (open.get_mut(worker), answer) {
                        *place = briefs;
                    }
                }
                let page = Page::choose(request, &open, &self.closed);
                for worker in 0..self.shared.mailboxes.len() {
                    let connections = page.open_at(worker);
                    if !connections.is_empty() {
                        let detailed = Arc::new(Detailed {
                            connections,
                            listing: request.listing,
                        });
                        self.ask(job, worker, Question::Details(detailed));
                    }
                }
                job.gathered.page = page;
                job.stage = Stage::Listing(0);
                !job.is_awaiting()
            }
            Stage::Listing(_) => {
                for (_, answer) in answers {
                    if let Answer::Details(details) = answer {
                        job.gathered.details.extend(details);
                    }
                }
                order::sort_by_key(&mut job.gathered.details, |it| it.cid);
                true
            }
        }
    }

    fn advance_subsz(
        &mut self,
        job: &mut Job,
        request: &SubszRequest,
        answers: Vec<(usize, Answer)>,
    ) -> bool {
        for (_, answer) in answers {
            match answer {
                Answer::Totals(totals) => job.gathered.totals.push(*totals),
                Answer::Subscriptions(count, list) => {
                    job.gathered.subscriptions.0 += count;
                    job.gathered.subscriptions.1.extend(list);
                }
                _ => {}
            }
        }
        let next = match job.stage {
            Stage::Begun => {
                job.stage = Stage::Counted;
                self.ask_all(job, &Question::Totals);
                return false;
            }
            Stage::Counted => 0,
            Stage::Listing(worker) => worker,
        };
        let account = self.account_named(&request.account);
        let is_unknown = !request.account.is_empty() && account.is_none();
        if !request.lists || is_unknown || next >= self.shared.mailboxes.len() {
            return true;
        }
        let (count, list) = &job.gathered.subscriptions;
        let most = request.paging.limit.min(limits::MONITOR_PAGE_MAX);
        let filter = SubscriptionFilter {
            account,
            test: Some(request.test.clone()).filter(|test| !test.is_empty()),
            skip: request.paging.offset.saturating_sub(*count),
            take: most.saturating_sub(list.len()),
        };
        job.stage = Stage::Listing(next + 1);
        self.ask(job, next, Question::Subscriptions(Box::new(filter)));
        false
    }

    /// The account of this name, if there is one.
    fn account_named(&self, name: &str) -> Option<u32> {
        let mut accounts = self.settings.broker.accounts();
        accounts.find(|it| it.name == name).map(|it| it.index)
    }

    fn ask_all(&self, job: &mut Job, question: &Question) {
        for worker in 0..self.shared.mailboxes.len() {
            self.ask(job, worker, question.clone());
        }
    }

    fn ask(&self, job: &mut Job, worker: usize, question: Question) {
        job.awaited += 1;
        let ticket = Ticket {
            control: Arc::clone(&self.control),
            job: job.id,
            worker,
        };
        if let Some(mailbox) = self.shared.mailboxes.get(worker) {
            mailbox.command(Command::Survey { question, ticket });
        }
    }
}
