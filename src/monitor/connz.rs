//! `/connz`: the connections, those that are open and those that closed last.

use std::collections::HashSet;
use std::sync::Arc;

use super::json::Json;
use super::query::{BadParameter, Listing, Paging, Query};
use super::snapshot::{Brief, ConnectionSnapshot, Selection, Sort, TlsSnapshot};
use super::subsz::{listed_in_detail, listed_subjects};
use super::{ClosedRing, Site, round_trip, uptime};
use crate::limits;
use crate::order;

/// What `/connz` is asked for.
#[derive(Clone, Debug, Default)]
pub struct ConnzRequest {
    /// The order.
    pub sort: Sort,
    /// Whether to tell who they are.
    pub auth: bool,
    /// Whether to list their subscriptions.
    pub listing: Listing,
    /// The part of the list.
    pub paging: Paging,
    /// Only this one.
    pub cid: Option<u64>,
    /// Which state they are in.
    pub state: State,
    /// Only this account's; empty for all.
    pub account: String,
    /// Only this user's; empty for all.
    pub user: String,
    /// Only the client with this MQTT id, which none has; empty for all.
    pub mqtt_client: String,
    /// Only those with a subscription to this subject; empty for all.
    pub subject: String,
}

/// Which connections to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Open ones.
    #[default]
    Open,
    /// Those that closed last.
    Closed,
    /// Both.
    All,
}

impl ConnzRequest {
    /// Reads the parameters.
    ///
    /// # Errors
    ///
    /// If one of them has a value that it cannot have.
    pub fn parse(query: &Query) -> Result<Self, BadParameter> {
        let sort = query.text("sort");
        let auth = query.flag("auth")?;
        let listing = query.listing()?;
        let paging = query.paging()?;
        let cid = Some(query.unsigned("cid")?).filter(|&cid| cid > 0);
        let state = match query.text("state").to_ascii_lowercase().as_str() {
            "" | "open" => State::Open,
            "closed" => State::Closed,
            "any" | "all" => State::All,
            _ => {
                let text = format!("Error decoding state for {}", query.text("state"));
                return Err(BadParameter(text));
            }
        };
        let request = ConnzRequest {
            auth,
            listing,
            paging,
            cid,
            state,
            account: query.text("acc").into(),
            user: query.text("user").into(),
            mqtt_client: query.text("mqtt_client").into(),
            ..ConnzRequest::default()
        };
        request.sorted_by(sort)
    }

    /// The same in the order of this name.
    ///
    /// # Errors
    ///
    /// If there is none, or if it does not go with the state.
    pub fn sorted_by(mut self, name: &str) -> Result<Self, BadParameter> {
        let unknown = || BadParameter(format!("invalid sorting option: {name}"));
        self.sort = Sort::named(name).ok_or_else(unknown)?;
        if matches!(self.sort, Sort::Stop | Sort::Reason) && self.state != State::Closed {
            let text = format!("sort by {name} only valid on closed connections");
            return Err(BadParameter(text));
        }
        if self.cid.is_some() {
            self.paging.limit = 1;
        }
        Ok(self)
    }

    /// What the workers are asked, in the account of this number.
    #[must_use]
    pub fn selection(&self, account: Option<u32>) -> Selection {
        Selection {
            sort: self.sort,
            account,
            cid: self.cid,
            user: Some(self.user.clone()).filter(|user| !user.is_empty()),
            subject: Some(self.subject.clone()).filter(|subject| !subject.is_empty()),
        }
    }

    /// Whether open connections are wanted at all.
    #[must_use]
    pub fn wants_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Whether a closed connection belongs to the list, and whether it was selected from it.
    fn takes(&self, closed: &ConnectionSnapshot) -> (bool, bool) {
        // Entries of the default account do not hold its name.
        let account = if &*closed.account == GLOBAL {
            ""
        } else {
            &*closed.account
        };
        let is_listed = self.account.is_empty() || self.account == account;
        let is_selected = self.cid.is_none_or(|cid| cid == closed.cid)
            && (self.user.is_empty() || self.user == *closed.user)
            && self.mqtt_client.is_empty();
        (is_listed, is_listed && is_selected)
    }
}

/// The account of those who name none.
const GLOBAL: &str = "$G";

/// One place on a page.
#[derive(Clone, Debug)]
enum Place {
    /// An open connection, of this worker.
    Open(usize, Brief),
    Closed(Arc<ConnectionSnapshot>),
}

impl Place {
    fn cid(&self) -> u64 {
        match self {
            Place::Open(_, brief) => brief.cid,
            Place::Closed(it) => it.cid,
        }
    }
}

/// A page in the making: which connections are on it, the details of the open ones still missing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Connections in all.
    total: usize,
    places: Vec<Place>,
}

impl Page {
    /// Chooses the page from what each worker has, and what closed.
    #[must_use]
    pub fn choose(
        request: &ConnzRequest,
        open: &[super::snapshot::Briefs],
        closed: &ClosedRing,
    ) -> Self {
        let mut total = 0;
        let mut all: Vec<(u64, Place)> = Vec::new();
        for (worker, briefs) in open.iter().enumerate() {
            total += briefs.total;
            if request.mqtt_client.is_empty() {
                let list = briefs.list.iter();
                all.extend(list.map(|it| (it.key, Place::Open(worker, *it))));
            }
        }
        if request.state != State::Open {
            let mut gone: Vec<(u64, Place)> = Vec::new();
            for it in closed.iter() {
                let (is_listed, is_selected) = request.takes(it);
                total += usize::from(is_listed);
                if is_selected {
                    let stop = it.end.map(|(stop, _)| stop).unwrap_or_default();
                    let key = request.sort.key(&it.sort_facts(stop));
                    gone.push((key, Place::Closed(Arc::clone(it))));
                }
            }
            // One that has closed since its worker was asked is in both lists. Its worker knows nothing more of it.
            let before = all.len();
            let cids: HashSet<u64> = gone.iter().map(|(_, place)| place.cid()).collect();
            all.retain(|(_, place)| !cids.contains(&place.cid()));
            total -= before - all.len();
            all.append(&mut gone);
        }
        let reason = |place: &Place| match place {
            Place::Closed(it) => it.end.map(|(_, reason)| reason.to_string()),
            Place::Open(..) => None,
        };
        if request.sort == Sort::Reason {
            let named = all.into_iter().map(|it| (reason(&it.1), it.1.cid(), it));
            let mut named: Vec<_> = named.collect();
            order::sort_by(&mut named, |one, other| {
                (&one.0, one.1).cmp(&(&other.0, other.1))
            });
            all = named.into_iter().map(|(.., it)| it).collect();
        } else {
            // Of those that came in the same moment, the last one has the shortest life.
            let is_falling = request.sort == Sort::Uptime;
            let tie = |cid: u64| if is_falling { u64::MAX - cid } else { cid };
            order::sort_by_key(&mut all, |(key, place)| (*key, tie(place.cid())));
        }
        let paging = Paging {
            limit: request.paging.limit.min(limits::MONITOR_PAGE_MAX),
            ..request.paging
        };
        let places = paging.of(&all).iter().map(|(_, place)| place.clone());
        Page {
            total,
            places: places.collect(),
        }
    }

    /// The open connections of a worker that are on the page.
    #[must_use]
    pub fn open_at(&self, worker: usize) -> Vec<(u32, u32)> {
        let open = self.places.iter().filter_map(|place| match place {
            Place::Open(at, brief) if *at == worker => Some((brief.conn, brief.serial)),
            _ => None,
        });
        open.collect()
    }
}

/// The page, with the details of the open connections that are on it; whoever left meanwhile is left out.
pub fn connz(
    site: &Site<'_>,
    request: &ConnzRequest,
    page: &Page,
    details: &[ConnectionSnapshot],
    json: &mut Json,
) {
    let find = |cid: u64| {
        let at = details.binary_search_by_key(&cid, |it| it.cid).ok();
        at.and_then(|at| details.get(at))
    };
    let shown: Vec<&ConnectionSnapshot> = page
        .places
        .iter()
        .filter_map(|place| match place {
            Place::Open(_, brief) => find(brief.cid),
            Place::Closed(it) => Some(&**it),
        })
        .collect();
    json.object(|json| {
        site.begin(json);
        counts(request, shown.len(), page.total, json);
        json.array_at("connections", |json| {
            for it in &shown {
                json.item(|json| connection(site, request, it, json));
            }
        });
    });
}

impl ConnzRequest {
    /// The page where the account that was asked for does not exist.
    pub fn unknown_account(&self, site: &Site<'_>, json: &mut Json) {
        json.object(|json| {
            json.text("server_id", "");
            json.text("now", site.date(site.now));
            for name in ["num_connections", "total"] {
                json.number(name, 0);
            }
            json.number("offset", 0);
            json.number("limit", 0);
            json.null("connections");
        });
    }
}

fn counts(request: &ConnzRequest, shown: usize, total: usize, json: &mut Json) {
    json.number("num_connections", shown);
    json.number("total", total);
    json.number("offset", request.paging.offset);
    json.number("limit", request.paging.limit);
}

fn connection(site: &Site<'_>, request: &ConnzRequest, it: &ConnectionSnapshot, json: &mut Json) {
    let until = it.end.map_or(site.now, |(stop, _)| stop);
    json.number("cid", it.cid);
    json.text("kind", it.kind.name());
    if it.kind == super::snapshot::Kind::Client {
        json.text("type", "nats");
    }
    json.text("ip", it.addr.ip().to_canonical().to_string());
    json.number("port", it.addr.port());
    json.text("start", site.date(it.start));
    json.text("last_activity", site.date(it.active.max(it.start)));
    if let Some((stop, reason)) = it.end {
        json.text("stop", site.date(stop));
        json.text("reason", reason.to_string());
    }
    json.text("rtt", round_trip(it.rtt));
    json.text("uptime", uptime(until.since(it.start)));
    json.text("idle", uptime(until.since(it.active.max(it.start))));
    json.number("pending_bytes", it.pending);
    json.number("in_msgs", it.received.msgs);
    json.number("out_msgs", it.sent.msgs);
    json.number("in_bytes", it.received.bytes);
    json.number("out_bytes", it.sent.bytes);
    json.some_number("stalls", u64::from(it.stalls));
    json.number("subscriptions", it.subs);
    json.some_text("name", &it.name);
    json.some_text("lang", &it.lang);
    json.some_text("version", &it.version);
    if let Some(tls) = &it.tls {
        session(tls, request.auth, json);
    }
    let account = if &*it.account == GLOBAL {
        ""
    } else {
        &*it.account
    };
    if request.auth {
        json.some_text("authorized_user", &it.user);
        json.some_text("account", if it.is_known { account } else { "" });
    }
    match request.listing {
        Listing::None => {}
        Listing::Subjects => listed_subjects(&it.listed, json),
        Listing::Details => listed_in_detail(&it.listed, it.end.is_some(), json),
    }
    if request.auth && it.is_known {
        json.some_text("issuer_key", if it.has_nkey { &*it.account } else { "" });
        // What is remembered of a connection does not hold the name of the default account.
        let is_named = it.end.is_none() || !account.is_empty();
        json.some_text("name_tag", if is_named { &*it.account } else { "" });
    }
}

fn session(tls: &TlsSnapshot, auth: bool, json: &mut Json) {
    json.text("tls_version", tls.version);
    json.text("tls_cipher_suite", &tls.cipher_suite);
    if auth && !tls.peer_certs.is_empty() {
        json.array_at("tls_peer_certs", |json| {
            for cert in &tls.peer_certs {
                json.item(|json| {
                    json.some_text("subject", &cert.subject);
                    json.some_text("spki_sha256", &cert.spki_sha256);
                    json.some_text("cert_sha256", &cert.cert_sha256);
                });
            }
        });
    }
    json.some_flag("tls_first", tls.is_first);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::closed::tests::connection;
    use crate::monitor::snapshot::Briefs;
    use crate::monitor::time::Moment;
    use crate::session::CloseReason;

    fn request(query: &str) -> Result<ConnzRequest, String> {
        ConnzRequest::parse(&Query::parse(query)).map_err(|BadParameter(text)| text)
    }

    fn closed() -> ClosedRing {
        let mut ring = ClosedRing::new(9, 100_000);
        for (cid, account, stop, reason) in [
            (3, "$G", 30, CloseReason::WriteError),
            (1, "A", 10, CloseReason::ClientClosed),
            (2, "A", 20, CloseReason::Stale),
        ] {
            let mut it = connection(cid, "x");
            it.account = account.into();
            it.end = Some((Moment(stop), reason));
            ring.push(it);
        }
        ring
    }

    fn cids(query: &str, open: &[Briefs]) -> (usize, Vec<u64>) {
        let page = Page::choose(&request(query).unwrap(), open, &closed());
        (page.total, page.places.iter().map(Place::cid).collect())
    }

    #[test]
    fn closed_connections_are_found_by_account_cid_and_order() {
        for (query, total, wanted) in [
            ("state=closed", 3, vec![1, 2, 3]),
            ("state=CLOSED&sort=stop", 3, vec![3, 2, 1]),
            ("state=closed&sort=reason", 3, vec![1, 2, 3]),
            ("state=closed&acc=A", 2, vec![1, 2]),
            ("state=closed&acc=$G", 0, vec![]),
            ("state=closed&cid=2", 3, vec![2]),
            ("state=closed&offset=1&limit=1", 3, vec![2]),
            ("state=closed&mqtt_client=m", 3, vec![]),
        ] {
            assert_eq!(cids(query, &[]), (total, wanted), "{query}");
        }
    }

    #[test]
    fn open_and_closed_connections_share_one_order() {
        let brief = |cid| Brief {
            key: cid,
            cid,
            conn: 0,
            serial: 0,
        };
        let worker = |cids: &[u64]| Briefs {
            total: cids.len(),
            list: cids.iter().map(|&cid| brief(cid)).collect(),
        };
        let open = [worker(&[6, 4]), worker(&[5])];
        assert_eq!(cids("state=any", &open), (6, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(cids("", &open), (3, vec![4, 5, 6]));
    }

    #[test]
    fn who_closes_while_the_page_is_made_is_on_it_once() {
        let open = |cid, key| Briefs {
            total: 1,
            list: vec![Brief {
                key,
                cid,
                conn: 0,
                serial: 0,
            }],
        };
        for query in ["state=any", "state=any&sort=msgs_from"] {
            // It had sent more, or less, when its worker was asked than when it closed.
            for key in [2, 0, u64::MAX] {
                let (total, mut found) = cids(query, &[open(2, key), open(4, key)]);
                found.sort_unstable();
                assert_eq!((total, found), (4, vec![1, 2, 3, 4]), "{query}, {key}");
                let page = Page::choose(&request(query).unwrap(), &[open(2, key)], &closed());
                assert!(page.open_at(0).is_empty());
            }
        }
    }

    #[test]
    fn orders_that_do_not_exist_or_do_not_go_with_the_state_are_refused() {
        assert_eq!(
            request("sort=bad").unwrap_err(),
            "invalid sorting option: bad"
        );
        assert_eq!(
            request("sort=stop&state=any").unwrap_err(),
            "sort by stop only valid on closed connections"
        );
        assert_eq!(
            request("state=bogus").unwrap_err(),
            "Error decoding state for bogus"
        );
        assert_eq!(request("cid=9&limit=5").unwrap().paging.limit, 1);
    }
}
