//! The control thread's part of a cluster: who belongs to it, whom to dial, and who is told of whom.
//!
//! ```text
//! worker: a server has introduced itself ─ Desk ─► judged here ─ Admit or Route{end} ─► the worker's mailbox
//! target due ─► name looked up (helper thread) ─► connected ─ Adopt ─► a worker
//! ```
//!
//! All of it is one thread's, without a lock. A newcomer is told to the servers that are there already, and they dial
//! it; so a server that knows one other finds all.

mod address;
mod desk;
mod dialer;
mod members;
mod targets;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::acceptor::is_exhaustion;
use super::mailbox::{Arrival, Command, Origin, Settings};
use super::shared::Shared;
use crate::config::options::RouteUrl;
use crate::id;
use crate::limits;
use crate::log::{debug, error, info, quote};
use crate::monitor;
use crate::order;
use crate::proto::route::RouteInfo;
use crate::rng::Rng;
use crate::session::{
    CloseReason, ClusterFacts, Hello, Route, RouteEvent, Services, Side, SubjectFilter,
};
use dialer::Dialer;
use members::{Member, Members, Place, Ruling};
use targets::{Goal, State, Targets};

pub use desk::{Desk, Happening};

/// The token of the listener.
pub(super) const LISTENER: Token = Token(2);
/// Those of sockets that are being connected begin here.
pub(super) const DIALS: usize = 1 << 28;
/// Whoever is told of a server does not tell others.
const GOSSIP_NO_FURTHER: u8 = 1;
/// Whoever is told of a server tells others all the same.
const GOSSIP_OVERRIDE: u8 = 2;

/// Another server that there are routes to, as monitoring shows it.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub(super) id: String,
    /// This server dialled it, or did while the other one did.
    pub(super) did_solicit: bool,
    /// The configuration names it.
    pub(super) is_configured: bool,
    /// It is about to end.
    pub(super) is_leaving: bool,
}

/// See the module's documentation.
pub(super) struct Cluster {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    facts: Arc<ClusterFacts>,
    listener: TcpListener,
    port: u16,
    members: Members,
    targets: Targets,
    dialer: Dialer,
    rng: Rng,
    /// Something has happened that monitoring has not been told of.
    is_changed: bool,
}

impl Cluster {
    /// The cluster of a server that accepts routes on `listener`.
    ///
    /// # Errors
    ///
    /// If the system refuses to watch it.
    pub(super) fn new(
        mut listener: TcpListener,
        name: String,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let port = listener.local_addr()?.port();
        let facts = Arc::new(facts(&settings, &name, port));
        let mut cluster = Cluster {
            dialer: Dialer::new(Arc::clone(&shared)),
            shared,
            settings,
            facts,
            listener,
            port,
            members: Members::default(),
            targets: Targets::default(),
            rng: Rng::seeded(id::seed()),
            is_changed: true,
        };
        cluster.publish(false, false);
        let routes = cluster.settings.options.cluster.routes.clone();
        cluster.targets.configure(&routes, Instant::now());
        Ok(cluster)
    }

    /// When to [tick](Cluster::tick) at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.targets.next(), self.dialer.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, registry: &Registry, last_id: &mut u64) {
        let now = Instant::now();
        for happening in self.shared.desk.take() {
            self.is_changed = true;
            match happening {
                Happening::Event(origin, event) => self.on_event(origin, event, now),
                Happening::Closed { origin, dial } => self.on_closed(origin, dial, now),
                Happening::Resolved { dial, result } => {
                    self.dialer.on_resolved(dial, result, registry, now);
                }
            }
        }
        while let Some(target) = self.targets.due(now) {
            let (url, dial) = (target.url.clone(), target.dial);
            if let Goal::Missing(id, place) = &target.goal {
                // The other server may have opened it, or want it no more.
                let member = self.members.get(id);
                if !member.is_some_and(|it| it.missing(&self.facts).contains(place)) {
                    self.targets.forget(dial);
                    continue;
                }
            }
            self.dialer.dial(dial, &url, registry, now);
        }
        for (dial, result) in self.dialer.finished(now) {
            match result {
                Ok((socket, addr)) => self.on_dialled(dial, socket, addr, last_id),
                Err(error) => self.on_dial_error(dial, &error, now),
            }
        }
    }

    /// What this server says of itself.
    pub(super) fn facts(&self) -> &Arc<ClusterFacts> {
        &self.facts
    }

    /// The other servers that there are routes to.
    pub(super) fn remotes(&self) -> Vec<Remote> {
        let remote = |(id, member): (&String, &Member)| Remote {
            id: id.clone(),
            did_solicit: member.did_solicit,
            is_configured: member.is_explicit,
            is_leaving: member.info.ldm,
        };
        self.members.iter().map(remote).collect()
    }

    /// Whether any of that may have changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// A socket that is being connected may be.
    pub(super) fn on_writable(&mut self, token: Token) {
        self.dialer.on_writable(token);
    }

    /// Accepts all connections; false if some had to be left in the queue.
    pub(super) fn accept_all(&mut self, last_id: &mut u64) -> bool {
        loop {
            match self.listener.accept() {
                Ok((socket, addr)) => self.hand_over(socket, addr, Side::Accepted, last_id),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if is_exhaustion(&error) => return false,
                // The peer was gone before it was accepted, or a signal came.
                Err(_) => {}
            }
        }
    }

    /// Gives a connection to the worker that has the fewest clients, by blocks.
    fn hand_over(&self, socket: TcpStream, addr: SocketAddr, side: Side, last_id: &mut u64) {
        *last_id += 1;
        let nonce = id::nonce();
        let session = Box::new(Route::new(*last_id, addr, side, &nonce));
        let counts = self.shared.connections.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        let fewest = counts
            .enumerate()
            .min_by_key(|&(_, count)| count / limits::CONNECTIONS_TOGETHER);
        let worker = fewest.map_or(0, |(worker, _)| worker);
        // Without these all works, only later.
        let _ = socket.set_nodelay(true);
        let options = &self.settings.options;
        let deadline = options
            .cluster
            .write_deadline
            .unwrap_or(options.write_deadline);
        // Later than the deadline's own check, which can say more of what happened.
        address::limit_silence(&socket, deadline.saturating_mul(2));
        self.shared.mailboxes[worker].command(Command::Adopt {
            socket,
            session: Arrival::Route(session),
            refuse: None,
            place: None,
        });
    }

    fn on_dialled(&mut self, dial: u64, socket: TcpStream, addr: SocketAddr, last_id: &mut u64) {
        let Some(target) = self.targets.by_dial(dial).cloned() else {
            return;
        };
        let (pool_index, account) = match target.place() {
            Place::Pool(index) => (index, None),
            Place::Account(account) => (0, Some(account)),
        };
        let url = &target.url;
        let own = &self.settings.options.cluster;
        let (user, password) = match (&url.user, target.is_explicit()) {
            // A server heard of takes what the others take.
            (None, false) => (
                own.user.clone(),
                own.password.clone().filter(|it| !it.is_hash()),
            ),
            (user, _) => (user.clone(), url.password.clone()),
        };
        let side = Side::Dialled(Box::new(crate::session::Dial {
            number: dial,
            is_configured: target.is_explicit() || self.is_part_of_explicit(&target),
            host: self.certificate_host(&url.host),
            user,
            password,
            pool_index,
            account,
            gossip_mode: target.gossip_mode,
        }));
        self.hand_over(socket, addr, side, last_id);
    }

    /// Whether this completes the pool of a server that the configuration names.
    fn is_part_of_explicit(&self, target: &targets::Target) -> bool {
        let Goal::Missing(id, _) = &target.goal else {
            return false;
        };
        self.members.get(id).is_some_and(|it| it.is_explicit)
    }

    /// The name that a server's certificate must have: that of the URL, or where another server gave an address, the
    /// first name in the configuration.
    fn certificate_host(&self, host: &str) -> String {
        let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
        let routes = &self.settings.options.cluster.routes;
        let is_configured = routes.iter().any(|url| url.host == host);
        let name = routes.iter().find(|url| !is_address(&url.host));
        match name {
            Some(url) if is_address(host) && !is_configured => url.host.clone(),
            _ => host.into(),
        }
    }

    fn on_dial_error(&mut self, dial: u64, error: &str, now: Instant) {
        let options = &self.settings.options;
        if let Some(target) = self.targets.by_dial(dial) {
            let attempt = target.attempts + 1;
            let every = match target.was_up {
                true => options.reconnect_error_reports,
                false => options.connect_error_reports,
            };
            let (log, url) = (&self.shared.log, &target.url);
            let what = format!(
                "(attempt {attempt}): dial tcp {}:{}: {error}",
                url.host, url.port
            );
            if attempt == 1 || (every > 0 && attempt % every == 0) {
                error!(log, "Error trying to connect to route {what}");
            } else {
                debug!(log, "Error trying to connect to route {what}");
            }
        }
        self.targets.failed(dial, &options.cluster, now);
    }

    fn on_event(&mut self, origin: Origin, event: RouteEvent, now: Instant) {
        match event {
            RouteEvent::Named {
                cluster,
                is_dynamic,
            } => {
                self.yields_to(&cluster, is_dynamic);
            }
            RouteEvent::Introduced(hello) => self.on_hello(origin, &hello),
            RouteEvent::Answered => self.on_answered(origin, now),
            RouteEvent::Heard(info) => self.on_heard(&info, now),
            RouteEvent::LameDuck => {
                let id = self.members.id_of(origin).map(str::to_owned);
                if let Some(member) = id.and_then(|id| self.members.get_mut(&id)) {
                    member.info.ldm = true;
                    self.update_urls();
                }
            }
        }
    }

    fn on_hello(&mut self, origin: Origin, hello: &Hello) {
        if hello.cluster != self.facts.name() && !self.agree_on_name(hello) {
            let quoted = |name: &str| quote(name.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
            let (other, own) = (quoted(&hello.cluster), quoted(self.facts.name()));
            let text = format!("cluster name {other} does not match {own}");
            error!(self.shared.log, "Rejecting connection, {text}");
            return self.dismiss(origin, CloseReason::ClusterNameConflict, None);
        }
        let is_wanted = |dial| self.targets.by_dial(dial).is_some();
        if !hello.dial.is_none_or(is_wanted) {
            return self.dismiss(origin, CloseReason::RouteRemoved, None);
        }
        let id = hello.info.server_id.as_str();
        let broker = &self.settings.broker;
        let has_account = |name: &str| broker.account_named(name).is_some();
        let ruling = self.members.judge(origin, hello, &self.facts, has_account);
        match ruling {
            Ruling::Admit { is_news } => {
                if let Some(dial) = hello.dial {
                    self.targets.succeeded(dial, id);
                }
                self.note_how(id, hello.dial);
                self.command(origin, Command::Admit(origin));
                // A further connection may come after its server was told otherwise.
                self.update_urls();
                if is_news {
                    self.tell_others(hello);
                }
            }
            Ruling::Dismiss(reason, text) => {
                if id == self.facts.info.server_id {
                    self.on_self(hello.dial);
                } else if reason == CloseReason::DuplicateRoute {
                    if let Some(dial) = hello.dial {
                        self.targets.succeeded(dial, id);
                    }
                    self.note_how(id, hello.dial);
                } else if reason == CloseReason::DuplicateServerName {
                    let name = &hello.info.server_name;
                    error!(
                        self.shared.log,
                        "Remote server has a duplicate name: {name:?}"
                    );
                }
                self.dismiss(origin, reason, text);
            }
        }
    }

    /// Notes how a server came to be connected: a connection that is one too many counts too.
    fn note_how(&mut self, id: &str, dial: Option<u64>) {
        let (is_explicit, dialled) = (self.targets.names(id), dial.is_some());
        if let Some(member) = self.members.get_mut(id) {
            member.is_explicit |= is_explicit;
            member.did_solicit |= dialled;
        }
    }

    fn on_self(&mut self, dial: Option<u64>) {
        if let Some(target) = dial.and_then(|dial| self.targets.by_dial(dial)) {
            let url = &target.url;
            debug!(
                self.shared.log,
                "Detected route to self, ignoring \"{url}\""
            );
            if target.is_explicit() {
                target.state = State::Itself;
                return;
            }
        }
        // Whoever told of it may tell of others: what is known to be nobody must not take their place.
        if let Some(dial) = dial {
            self.targets.forget(dial);
        }
    }

    /// Two clusters' names differ: true if that is settled now, or will be by the other side.
    fn agree_on_name(&mut self, hello: &Hello) -> bool {
        if self.yields_to(&hello.cluster, hello.is_dynamic) {
            return true;
        }
        let own = self.facts.name();
        let is_greater = !self.facts.info.is_dynamic || own > hello.cluster.as_str();
        hello.is_dynamic && is_greater
    }

    /// Takes over the name of another server's cluster, if that is what this one does: true then. The others hear of it
    /// when they come again.
    fn yields_to(&mut self, name: &str, is_dynamic: bool) -> bool {
        let yields = self.facts.yields_to(name, is_dynamic);
        if yields {
            for origin in self.members.origins() {
                self.dismiss(origin, CloseReason::ClusterNameConflict, None);
            }
            let mut facts = (*self.facts).clone();
            facts.info.cluster = Some(name.into());
            self.facts = Arc::new(facts);
            info!(self.shared.log, "Cluster name updated to {name}");
            self.publish(true, false);
        }
        yields
    }

    /// Tells the servers that are there of one that has come, unless somebody else does. That it takes connections for an
    /// account alone they hear on theirs for that account.
    fn tell_others(&mut self, hello: &Hello) {
        let (id, target) = (
            &hello.info.server_id,
            hello.dial.and_then(|dial| self.targets.by_dial(dial)),
        );
        let mode = match (target, hello.info.gossip_mode) {
            (Some(target), _) if target.is_explicit() => Some(GOSSIP_OVERRIDE),
            (Some(target), _) if target.gossip_mode == GOSSIP_OVERRIDE => Some(0),
            (Some(_), _) | (None, GOSSIP_NO_FURTHER) => None,
            (None, _) => Some(GOSSIP_NO_FURTHER),
        };
        let Some(mode) = mode else {
            return;
        };
        let url = self.members.get(id).map(|it| it.url.clone());
        let news = RouteInfo {
            ip: url,
            pool_index: None,
            account: hello.account.clone(),
            ..hello.info.clone()
        };
        for (_, member) in self.members.iter().filter(|(other, _)| *other != id) {
            let told = RouteInfo {
                gossip_mode: match mode {
                    GOSSIP_NO_FURTHER if member.is_explicit => GOSSIP_OVERRIDE,
                    mode => mode,
                },
                ..news.clone()
            };
            if let Some(voice) = member.voice(hello.account.as_deref()) {
                let mut line = Vec::new();
                told.encode(None, &mut line);
                self.tell(voice, line, None);
            }
        }
    }

    /// A server has answered on a connection that this one opened: now the rest of the pool can be.
    fn on_answered(&mut self, origin: Origin, now: Instant) {
        if let Some(id) = self.members.id_of(origin).map(str::to_owned) {
            self.complete(&id, now);
        }
    }

    /// Has the connections dialled, at that time, that are missing to a server which is there and was dialled by this one.
    fn complete(&mut self, id: &str, at: Instant) {
        let Some(member) = self.members.get(id).filter(|it| it.did_solicit) else {
            return;
        };
        let missing = member.missing(&self.facts);
        if let Some(url) = self.url_of(id) {
            self.targets.miss(id, &url, missing, at);
        }
    }

    /// The URL by which this server reaches another one.
    fn url_of(&mut self, id: &str) -> Option<RouteUrl> {
        let own = self.targets.url_of(id);
        own.or_else(|| RouteUrl::parse(&self.members.get(id)?.url).ok())
    }

    /// A server told of another one.
    fn on_heard(&mut self, info: &RouteInfo, now: Instant) {
        let id = info.server_id.as_str();
        let is_known = id == self.facts.info.server_id || self.members.get(id).is_some();
        let Some(Ok(url)) = info.ip.as_deref().map(RouteUrl::parse) else {
            return;
        };
        if !is_known {
            self.targets.hear(id, url, info.gossip_mode, now);
        }
    }

    fn on_closed(&mut self, origin: Origin, dial: Option<u64>, now: Instant) {
        match self.members.remove(origin) {
            Some((id, Some(_))) => {
                if let Some(url) = self.targets.url_of(&id) {
                    let log = &self.shared.log;
                    debug!(log, "Attempting reconnect for solicited route \"{url}\"");
                }
                for account in self.settings.broker.accounts() {
                    account.elsewhere.note(&id, 0);
                }
                self.targets.lost(&id, &mut self.rng, now);
                self.update_urls();
            }
            Some((id, None)) => {
                let at = Targets::soon(&mut self.rng, now);
                self.complete(&id, at);
            }
            None => {
                if let Some(dial) = dial {
                    self.targets
                        .failed(dial, &self.settings.options.cluster, now);
                }
            }
        }
    }

    /// Tells the clients where they can connect, if that has changed.
    fn update_urls(&mut self) {
        let mut urls = match self.settings.options.cluster.no_advertise {
            true => Vec::new(),
            false => self.members.client_urls(),
        };
        urls.retain(|url| !self.facts.own_urls.contains(url));
        if urls != self.facts.peer_urls {
            let mut facts = (*self.facts).clone();
            facts.has_met_others |= !urls.is_empty();
            facts.peer_urls = urls;
            self.facts = Arc::new(facts);
            self.publish(true, false);
        }
    }

    /// Lets the workers know what this server says of itself.
    fn publish(&self, inform: bool, tell: bool) {
        for mailbox in &self.shared.mailboxes {
            mailbox.command(Command::Facts {
                facts: Arc::clone(&self.facts),
                inform,
                tell,
            });
        }
    }

    /// This server is about to end: the others send its clients elsewhere.
    pub(super) fn announce_lame_duck(&self) {
        let info = RouteInfo {
            ldm: true,
            ..self.facts.info.clone()
        };
        let mut line = Vec::new();
        info.encode(None, &mut line);
        for (_, member) in self.members.iter() {
            if let Some(voice) = member.voice(None) {
                self.tell(voice, line.clone(), None);
            }
        }
    }

    /// Goes over to other options.
    pub(super) fn go_over(&mut self, settings: Arc<Settings>) {
        self.is_changed = true;
        let old = std::mem::replace(&mut self.settings, settings);
        let (before, after) = (&old.options.cluster, &self.settings.options.cluster);
        let mut renewed = facts(&self.settings, self.facts.name(), self.port);
        let is_renamed = after.name.is_some() && after.name.as_deref() != Some(self.facts.name());
        if let (true, Some(name)) = (is_renamed, &after.name) {
            renewed.info.cluster = Some(name.clone());
            info!(self.shared.log, "Cluster name updated to {name}");
        }
        renewed.has_met_others = self.facts.has_met_others;
        // Known to the clients: they need not be told once more.
        renewed.peer_urls.clone_from(&self.facts.peer_urls);
        let informs = renewed.has_met_others && renewed.own_urls != self.facts.own_urls;
        renewed.info.is_dynamic = after.name.is_none() && self.facts.info.is_dynamic;
        let rebuilds = is_renamed
            || before.pool_size != after.pool_size
            || renewed.pinned != self.facts.pinned
            || before.tls != after.tls;
        let tells = before.permissions != after.permissions;
        let was_accepted_by = (&before.user, &before.password) == (&after.user, &after.password);
        let routes = after.routes.clone();
        self.facts = Arc::new(renewed);
        self.update_urls();
        self.publish(informs, tells);
        let now = Instant::now();
        let gone = self.targets.configure(&routes, now);
        for target in gone {
            info!(self.shared.log, "Removed route {}", target.url);
            if let State::Up(id) = &target.state {
                for origin in self.members.origins_of(id) {
                    self.dismiss(origin, CloseReason::RouteRemoved, None);
                }
            }
        }
        if rebuilds {
            for origin in self.members.origins() {
                self.dismiss(origin, CloseReason::RouteRemoved, None);
            }
        } else if !was_accepted_by {
            let accepted = self.members.iter().filter(|(_, it)| !it.did_solicit);
            let ids: Vec<String> = accepted.map(|(id, _)| id.clone()).collect();
            for origin in ids.iter().flat_map(|id| self.members.origins_of(id)) {
                self.dismiss(origin, CloseReason::AuthenticationFailure, None);
            }
        }
    }

    fn dismiss(&self, origin: Origin, reason: CloseReason, text: Option<String>) {
        let mut line = Vec::new();
        if let Some(text) = text {
            error!(self.shared.log, "{text}");
            crate::proto::encode::error_line(&text, &mut line);
        }
        self.tell(origin, line, Some(reason));
    }

    fn tell(&self, origin: Origin, line: Vec<u8>, end: Option<CloseReason>) {
        self.command(origin, Command::Route { origin, line, end });
    }

    fn command(&self, origin: Origin, command: Command) {
        if let Some(mailbox) = self.shared.mailboxes.get(usize::from(origin.worker)) {
            mailbox.command(command);
        }
    }
}

/// What a server with these settings says of itself.
fn facts(settings: &Settings, name: &str, port: u16) -> ClusterFacts {
    let (options, info) = (&settings.options, &settings.info);
    let cluster = &options.cluster;
    let permissions = cluster.permissions.clone().unwrap_or_default();
    let import = SubjectFilter::from(&permissions.import);
    let export = SubjectFilter::from(&permissions.export);
    let advertised = cluster
        .advertise
        .as_deref()
        .map(|it| address::split(it, port));
    let (host, shown_port) = advertised
        .clone()
        .unwrap_or_else(|| (cluster.host.clone(), port));
    let ip = advertised.map(|(host, port)| format!("nats-route://{}/", address::join(&host, port)));
    let own_urls = match cluster.no_advertise {
        true => Vec::new(),
        false => address::client_urls(options, info),
    };
    let system = settings.auth.accounts().iter().find(|it| it.is_system);
    let pinned = system.map(|it| it.name.to_string());
    let pinned = pinned.into_iter().chain(cluster.accounts.clone());
    let mut pinned: Vec<String> = pinned.filter(|_| cluster.pool_size.is_some()).collect();
    order::sort(&mut pinned);
    pinned.dedup();
    let services = Services {
        account: system.map_or_else(String::new, |it| it.name.to_string()),
        subjects: monitor::system::subjects(&info.server_id),
    };
    ClusterFacts {
        info: RouteInfo {
            server_id: info.server_id.clone(),
            server_name: info.server_name.clone(),
            host,
            port: shown_port,
            headers: info.headers,
            auth_required: cluster.user.is_some(),
            tls_required: cluster.tls.is_some(),
            tls_verify: cluster.tls.is_some(),
            max_payload: info.max_payload,
            ip,
            cluster: Some(name.into()),
            is_dynamic: cluster.name.is_none(),
            connect_urls: own_urls.clone(),
            import: import.lists(),
            export: export.lists(),
            pool_size: cluster.pool_size,
            ..RouteInfo::own()
        },
        port,
        compression: cluster.compression.clone(),
        pinned,
        import,
        export,
        own_urls,
        peer_urls: Vec::new(),
        has_met_others: false,
        services,
    }
}

#[cfg(test)]
mod tests;
