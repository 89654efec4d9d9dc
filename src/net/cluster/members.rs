//! The other servers of the cluster, as far as there are connections to them.
//!
//! One server has one connection, or a pool of them and one more for each account that is to have its own. Whoever comes
//! second for the same place is one too many; the first one stays.

use std::collections::BTreeMap;

use crate::net::mailbox::Origin;
use crate::order;
use crate::proto::route::RouteInfo;
use crate::session::{CloseReason, ClusterFacts, Hello};

/// Another server.
#[derive(Debug)]
pub(super) struct Member {
    /// What it said of itself.
    pub(super) info: RouteInfo,
    /// The URL by which others can dial it.
    pub(super) url: String,
    /// The configuration names it.
    pub(super) is_explicit: bool,
    /// This server dialled it, or did while the other one did.
    pub(super) did_solicit: bool,
    links: Vec<Link>,
}

/// One connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    origin: Origin,
    place: Place,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A part of the accounts: this one of the pool.
    Pool(u32),
    /// An account.
    Account(String),
}

/// What becomes of a server that has introduced itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It is part of the cluster.
    Admit {
        /// Nobody has been told yet that it takes connections of this kind: for the pool, or for this account.
        is_news: bool,
    },
    /// The connection ends; the other side is told so, if there is a text.
    Dismiss(CloseReason, Option<String>),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<String, Member>,
}

impl Place {
    pub(super) fn of(hello: &Hello) -> Self {
        match &hello.account {
            Some(account) => Place::Account(account.clone()),
            None => Place::Pool(hello.pool_index),
        }
    }
}

impl Member {
    /// A connection to tell it something on; what concerns an account that has one of its own, on that.
    pub(super) fn voice(&self, account: Option<&str>) -> Option<Origin> {
        let fits = |link: &&Link| match (&link.place, account) {
            (Place::Account(own), Some(account)) => own == account,
            (_, account) => account.is_none(),
        };
        let first = self
            .links
            .iter()
            .filter(fits)
            .min_by_key(|link| &link.place);
        first.map(|link| link.origin)
    }

    /// Connections that both sides want in the pool; `None` if one of them wants a single one for everything.
    pub(super) fn pool_size(&self, facts: &ClusterFacts) -> Option<u32> {
        let (own, other) = (facts.info.pool_size?, self.info.pool_size?);
        Some(own.max(other).min(POOL_SIZE_MAX))
    }

    /// The connections that should be and are not.
    pub(super) fn missing(&self, facts: &ClusterFacts) -> Vec<Place> {
        let Some(size) = self.pool_size(facts) else {
            return Vec::new();
        };
        let pool = (0..size).map(Place::Pool);
        let accounts = facts.pinned.iter().cloned().map(Place::Account);
        let is_missing = |place: &Place| self.links.iter().all(|link| link.place != *place);
        pool.chain(accounts).filter(is_missing).collect()
    }
}

/// Connections to one server in a pool, whatever the other side wants.
const POOL_SIZE_MAX: u32 = 256;

impl Members {
    /// Decides about a server that has introduced itself, and notes it if it stays. `has_account` tells which accounts
    /// there are.
    pub(super) fn judge(
        &mut self,
        origin: Origin,
        hello: &Hello,
        facts: &ClusterFacts,
        has_account: impl Fn(&str) -> bool,
    ) -> Ruling {
        let (own, info) = (&facts.info, &hello.info);
        if info.server_id == own.server_id {
            return Ruling::Dismiss(CloseReason::DuplicateRoute, None);
        }
        if hello.dial.is_none()
            && !info.server_name.is_empty()
            && info.server_name == own.server_name
        {
            return Ruling::Dismiss(CloseReason::DuplicateServerName, None);
        }
        if let Some(refusal) = refusal(hello, facts, has_account) {
            return refusal;
        }
        let place = Place::of(hello);
        let member = self.by_id.entry(info.server_id.clone());
        let member = member.or_insert_with(|| Member {
            info: info.clone(),
            url: dial_url(hello),
            is_explicit: false,
            did_solicit: false,
            links: Vec::new(),
        });
        if member.links.iter().any(|link| link.place == place) {
            return Ruling::Dismiss(CloseReason::DuplicateRoute, None);
        }
        // It may have been given other options since the others were opened.
        member.info = RouteInfo {
            ldm: member.info.ldm || info.ldm,
            ..info.clone()
        };
        let is_pool = |place: &Place| matches!(place, Place::Pool(_));
        let is_news = !is_pool(&place) || !member.links.iter().any(|link| is_pool(&link.place));
        member.links.push(Link { origin, place });
        Ruling::Admit { is_news }
    }

    /// A connection is gone: gives the server that it was to, and whether it was the last one.
    pub(super) fn remove(&mut self, origin: Origin) -> Option<(String, Option<Member>)> {
        let mut all = self.by_id.iter_mut();
        let has_it = |member: &Member| member.links.iter().any(|link| link.origin == origin);
        let (id, member) = all.find(|(_, member)| has_it(member))?;
        let id = id.clone();
        member.links.retain(|link| link.origin != origin);
        let is_last = member.links.is_empty();
        let gone = is_last.then(|| self.by_id.remove(&id)).flatten();
        Some((id, gone))
    }

    /// The server with this id.
    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    /// The server that this connection is to.
    pub(super) fn id_of(&self, origin: Origin) -> Option<&str> {
        let has_it = |member: &Member| member.links.iter().any(|link| link.origin == origin);
        let mut all = self.by_id.iter();
        let (id, _) = all.find(|(_, member)| has_it(member))?;
        Some(id)
    }

    /// All servers, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.by_id.iter()
    }

    /// All connections.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let links = self.by_id.values().flat_map(|member| &member.links);
        links.map(|link| link.origin).collect()
    }

    /// The connections to one server.
    pub(super) fn origins_of(&self, id: &str) -> Vec<Origin> {
        let links = self
            .by_id
            .get(id)
            .into_iter()
            .flat_map(|member| &member.links);
        links.map(|link| link.origin).collect()
    }

    /// Where clients can connect to the others.
    pub(super) fn client_urls(&self) -> Vec<String> {
        let staying = self.by_id.values().filter(|member| !member.info.ldm);
        let mut urls: Vec<String> = staying
            .flat_map(|it| it.info.connect_urls.clone())
            .collect();
        order::sort(&mut urls);
        urls.dedup();
        urls
    }
}

/// Why a connection of this kind cannot be, if it cannot.
fn refusal(
    hello: &Hello,
    facts: &ClusterFacts,
    has_account: impl Fn(&str) -> bool,
) -> Option<Ruling> {
    let dismiss = |reason, text| Some(Ruling::Dismiss(reason, Some(text)));
    let sizes = facts.info.pool_size.zip(hello.info.pool_size);
    if let Some(account) = &hello.account {
        if sizes.is_none() {
            let text = format!(
                "Not possible to have a dedicated route for account {account:?} between those servers"
            );
            return dismiss(CloseReason::ProtocolViolation, text);
        }
        if !has_account(account) {
            let text = format!("Unable to lookup account {account:?}: account missing");
            return dismiss(CloseReason::MissingAccount, text);
        }
        if !facts.pinned.contains(account) {
            let text = format!("No route for account {account:?}");
            return dismiss(CloseReason::MissingAccount, text);
        }
        return None;
    }
    let index = hello.pool_index;
    let size = sizes.map_or(1, |(own, other)| own.max(other).min(POOL_SIZE_MAX));
    if index >= size {
        let text = format!("Invalid route pool index: {index} - pool size is {size}");
        return dismiss(CloseReason::ProtocolViolation, text);
    }
    None
}

/// The URL by which others can dial a server: what it says, else the address that it has here and the port it says.
fn dial_url(hello: &Hello) -> String {
    let said = hello.info.ip.clone();
    said.unwrap_or_else(|| {
        let mut addr = hello.addr;
        addr.set_ip(addr.ip().to_canonical());
        addr.set_port(hello.info.port);
        format!("nats-route://{addr}/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pool_size: Option<u32>) -> ClusterFacts {
        ClusterFacts {
            info: RouteInfo {
                server_id: "OWN".into(),
                server_name: "own".into(),
                pool_size,
                ..RouteInfo::default()
            },
            pinned: vec!["$SYS".into()],
            ..ClusterFacts::default()
        }
    }

    fn hello(id: &str, pool_index: u32, account: Option<&str>) -> Hello {
        Hello {
            info: RouteInfo {
                server_id: id.into(),
                server_name: id.to_lowercase(),
                port: 6222,
                pool_size: Some(3),
                connect_urls: vec![format!("{id}:4222"), "shared:1".into()],
                ..RouteInfo::default()
            },
            addr: ([127, 0, 0, 1], 40000).into(),
            dial: None,
            pool_index,
            account: account.map(Into::into),
            cluster: "c".into(),
            is_dynamic: false,
        }
    }

    fn origin(conn: u32) -> Origin {
        Origin {
            worker: 0,
            conn,
            serial: conn,
        }
    }

    fn admitted(is_news: bool) -> Ruling {
        Ruling::Admit { is_news }
    }

    #[test]
    fn the_first_of_a_place_stays_and_the_last_one_takes_the_server_along() {
        let (mut members, facts) = (Members::default(), facts(Some(3)));
        let judge = |members: &mut Members, conn, hello: &Hello| {
            members.judge(origin(conn), hello, &facts, |_| true)
        };
        let mut is_judged = |conn, hello: &Hello| judge(&mut members, conn, hello);
        assert_eq!(is_judged(1, &hello("B", 0, None)), admitted(true));
        assert_eq!(is_judged(2, &hello("B", 2, None)), admitted(false));
        let duplicate = Ruling::Dismiss(CloseReason::DuplicateRoute, None);
        assert_eq!(is_judged(3, &hello("B", 2, None)), duplicate);
        let account = Some("$SYS");
        assert_eq!(is_judged(4, &hello("B", 0, account)), admitted(true));
        let member = members.get("B").expect("B");
        assert_eq!(member.url, "nats-route://127.0.0.1:6222/");
        assert_eq!(member.missing(&facts), [Place::Pool(1)]);
        assert_eq!(
            (member.voice(None), members.id_of(origin(2))),
            (Some(origin(1)), Some("B"))
        );
        assert_eq!(members.client_urls(), ["B:4222", "shared:1"]);
        let mut grown = hello("B", 1, None);
        grown.info.pool_size = Some(4);
        assert_eq!(judge(&mut members, 5, &grown), admitted(false));
        let member = members.get("B").expect("B");
        assert_eq!(member.missing(&facts), [Place::Pool(3)]);
        assert!(matches!(members.remove(origin(5)), Some((_, None))));
        assert!(members.remove(origin(3)).is_none());
        assert!(matches!(members.remove(origin(1)), Some((_, None))));
        assert!(matches!(members.remove(origin(4)), Some((_, None))));
        assert!(matches!(members.remove(origin(2)), Some((_, Some(_)))));
        assert!(members.get("B").is_none() && members.client_urls().is_empty());
    }

    #[test]
    fn some_are_turned_away() {
        let mut members = Members::default();
        let (pooled, single) = (facts(Some(3)), facts(None));
        let mut name = hello("B", 0, None);
        name.info.server_name = "own".into();
        let told = |hello: &Hello, facts: &ClusterFacts, members: &mut Members| match members.judge(
            origin(1),
            hello,
            facts,
            |it| it != "NONE",
        ) {
            Ruling::Dismiss(reason, text) => (reason.to_string(), text.unwrap_or_default()),
            Ruling::Admit { .. } => panic!("{hello:?} was admitted"),
        };
        for (hello, facts, reason, text) in [
            (hello("OWN", 0, None), &pooled, "Duplicate Route", ""),
            (name, &pooled, "Duplicate Server Name", ""),
            (
                hello("B", 3, None),
                &pooled,
                "Protocol Violation",
                "Invalid route pool index: 3 - pool size is 3",
            ),
            (
                hello("B", 1, None),
                &single,
                "Protocol Violation",
                "Invalid route pool index: 1 - pool size is 1",
            ),
            (
                hello("B", 0, Some("$SYS")),
                &single,
                "Protocol Violation",
                "Not possible to have a dedicated route for account \"$SYS\" between those servers",
            ),
            (
                hello("B", 0, Some("NONE")),
                &pooled,
                "Missing Account",
                "Unable to lookup account \"NONE\": account missing",
            ),
            (
                hello("B", 0, Some("A")),
                &pooled,
                "Missing Account",
                "No route for account \"A\"",
            ),
        ] {
            let expected = (reason.to_owned(), text.to_owned());
            assert_eq!(told(&hello, facts, &mut members), expected);
        }
        assert!(members.iter().next().is_none());
    }
}
