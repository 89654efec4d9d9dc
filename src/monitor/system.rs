//! Requests to the server over its own protocol: `$SYS.REQ.…`, the twins of the pages.
//!
//! The system account may ask for everything, any other account about itself alone. An answer is an envelope that says
//! who answers, and the page; a server that the filters of the request leave out keeps silent.

use serde_json::{Map, Value};

use super::connz::{ConnzRequest, State};
use super::events::Connections;
use super::healthz::HealthRequest;
use super::query::{BadParameter, Listing, Paging};
use super::request::{Request, SubszRequest};
use super::snapshot::Act;
use super::{Json, Site};
use crate::proto::info::PROTOCOL_VERSION;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct SystemRequest {
    /// What it is for.
    pub subject: Vec<u8>,
    /// Where the answer goes.
    pub reply: Vec<u8>,
    /// The account of whoever asks.
    pub account: u32,
    /// Whether that is the system account.
    pub is_system: bool,
    /// Options and filters, in JSON; empty for none.
    pub payload: Vec<u8>,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Service<'s> {
    /// The server: by the name of the service.
    Server(&'s str),
    /// An account, or `PING` for that of whoever asks: by the name of the service.
    Account(&'s str, &'s str),
}

/// Services of a server.
const SERVER: [&str; 13] = [
    "IDZ",
    "STATSZ",
    "VARZ",
    "CONNZ",
    "SUBSZ",
    "ROUTEZ",
    "GATEWAYZ",
    "LEAFZ",
    "ACCOUNTZ",
    "JSZ",
    "HEALTHZ",
    "IPQUEUESZ",
    "RAFTZ",
];
/// Services of a server that is asked by its id: they do something.
const ACTIONS: [&str; 3] = ["KICK", "LDM", "RELOAD"];
/// Services of an account.
const ACCOUNT: [&str; 7] = ["CONNZ", "SUBSZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"];

/// The subjects that the server with this id is itself interested in, as other servers are told: those that it answers
/// requests to, and what others tell of their connections.
#[must_use]
pub fn subjects(server_id: &str) -> Vec<String> {
    let mut subjects = vec![
        "$SYS.REQ.SERVER.PING".to_owned(),
        "$SYS.REQ.ACCOUNT.PING.STATZ".to_owned(),
    ];
    for name in SERVER {
        subjects.push(format!("$SYS.REQ.SERVER.PING.{name}"));
        subjects.push(format!("$SYS.REQ.SERVER.{server_id}.{name}"));
    }
    subjects.extend(ACTIONS.map(|name| format!("$SYS.REQ.SERVER.{server_id}.{name}")));
    subjects.extend(ACCOUNT.map(|name| format!("$SYS.REQ.ACCOUNT.*.{name}")));
    subjects.push(Connections::PATTERN.into());
    subjects
}

/// Where the servers of a cluster are asked what an account may ask about itself, by this subject; nowhere if that is
/// not such a request.
#[must_use]
pub fn elsewhere(subject: &[u8], account: &str) -> Option<String> {
    match service(subject, "", false)? {
        Service::Account(_, name) => Some(format!("$SYS.REQ.ACCOUNT.{account}.{name}")),
        Service::Server(_) => None,
    }
}

/// Whether a request to this subject is answered by the server with this id.
#[must_use]
pub fn serves(subject: &[u8], server_id: &str, is_system: bool) -> bool {
    service(subject, server_id, is_system).is_some()
}

fn service<'s>(subject: &'s [u8], server_id: &str, is_system: bool) -> Option<Service<'s>> {
    let subject = std::str::from_utf8(subject).ok()?;
    if !is_system {
        return match subject {
            "$SYS.REQ.SERVER.PING.CONNZ" | "$SYS.REQ.ACCOUNT.PING.CONNZ" => {
                Some(Service::Account("PING", "CONNZ"))
            }
            "$SYS.REQ.ACCOUNT.PING.STATZ" => Some(Service::Account("PING", "STATZ")),
            _ => None,
        };
    }
    if subject == "$SYS.REQ.SERVER.PING" {
        return Some(Service::Server("STATSZ"));
    }
    if let Some(rest) = subject.strip_prefix("$SYS.REQ.SERVER.") {
        let (server, name) = rest.split_once('.')?;
        let is_ours = server == "PING" || server == server_id;
        let is_served = SERVER.contains(&name) || (server != "PING" && ACTIONS.contains(&name));
        return (is_ours && is_served).then_some(Service::Server(name));
    }
    let rest = subject.strip_prefix("$SYS.REQ.ACCOUNT.")?;
    let (account, name) = rest.rsplit_once('.')?;
    let is_served = ACCOUNT.contains(&name) && (account != "PING" || name == "STATZ");
    is_served.then_some(Service::Account(account, name))
}

/// What an answer is made of.
#[derive(Clone, Debug)]
pub enum Reading {
    /// Nothing: the request is not for this server, or not to be answered.
    Silence,
    /// The bare identity of the server.
    Identity,
    /// A page, in an envelope.
    Page(Request),
    /// The configuration is to be read again, and the outcome is the answer.
    Reload,
    /// An error, in an envelope: its code and text.
    Error(u16, String),
}

/// Reads a request of an account of this name.
#[must_use]
pub fn read(site: &Site<'_>, request: &SystemRequest, own_account: &str) -> Reading {
    let server_id = &site.info.server_id;
    let Some(service) = service(&request.subject, server_id, request.is_system) else {
        return Reading::Silence;
    };
    if service == Service::Server("IDZ") {
        return Reading::Identity;
    }
    let payload = request.payload.trim_ascii();
    match service {
        Service::Server("KICK") => return act(Act::Kick, payload),
        Service::Server("LDM") => return act(Act::Warn, payload),
        _ => {}
    }
    let parsed = if payload.is_empty() || payload == b"null" {
        Ok(Map::new())
    } else {
        serde_json::from_slice::<Map<String, Value>>(payload)
    };
    let options = match parsed {
        Ok(options) => Options(options),
        Err(error) => return Reading::Error(400, error.to_string()),
    };
    if !options.includes(site) {
        return Reading::Silence;
    }
    let account = match service {
        Service::Server(_) => None,
        Service::Account("PING", _) => Some(own_account.to_owned()),
        Service::Account(name, _) => Some(name.to_owned()),
    };
    let (Service::Server(name) | Service::Account(_, name)) = service;
    if name == "RELOAD" {
        return Reading::Reload;
    }
    match page(name, account, &options) {
        Ok(request) => Reading::Page(request),
        Err(BadParameter(text)) => Reading::Error(500, text),
    }
}

/// What is to be done to a client, whose number is in the payload. Without a payload that says so, nothing is answered.
fn act(act: Act, payload: &[u8]) -> Reading {
    let Ok(options) = serde_json::from_slice::<Map<String, Value>>(payload) else {
        return Reading::Silence;
    };
    match options.get("cid").map_or(Some(0), Value::as_u64) {
        Some(cid) => Reading::Page(Request::Act(act, cid)),
        None => Reading::Silence,
    }
}

/// The page that a service stands for, for one account or all.
fn page(name: &str, account: Option<String>, options: &Options) -> Result<Request, BadParameter> {
    let paging = Paging::new(options.integer("offset"), options.integer("limit"));
    Ok(match name {
        "STATSZ" => Request::Statsz,
        "VARZ" => Request::Varz,
        "CONNZ" => Request::Connz(Box::new(options.connz(account, paging)?)),
        "SUBSZ" => {
            let request = SubszRequest {
                lists: options.flag("subscriptions"),
                paging,
                test: options.text("test"),
                account: account.unwrap_or_else(|| options.text("account")),
            };
            Request::Subsz(request.checked()?)
        }
        "ROUTEZ" => Request::Routez(options.listing()),
        "GATEWAYZ" => Request::Gatewayz,
        "LEAFZ" => Request::Leafz,
        "ACCOUNTZ" => Request::Accountz(options.text("account")),
        "CONNS" => Request::AccountConns(account.unwrap_or_default()),
        "INFO" => Request::AccountInfo(account.unwrap_or_default()),
        "STATZ" => Request::Accstatz {
            unused: options.flag("include_unused"),
            account,
        },
        "HEALTHZ" => Request::Healthz(HealthRequest {
            details: options.flag("details"),
            account: options.text("account"),
            stream: options.text("stream"),
            consumer: options.text("consumer"),
        }),
        "IPQUEUESZ" | "RAFTZ" => Request::Queues,
        _ => Request::Jsz,
    })
}

/// The options of a request: values of a wrong type count as absent.
struct Options(Map<String, Value>);

impl Options {
    fn text(&self, name: &str) -> String {
        let text = self.0.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn integer(&self, name: &str) -> i64 {
        self.0.get(name).and_then(Value::as_i64).unwrap_or(0)
    }

    fn listing(&self) -> Listing {
        if self.flag("subscriptions_detail") {
            Listing::Details
        } else if self.flag("subscriptions") {
            Listing::Subjects
        } else {
            Listing::None
        }
    }

    fn connz(&self, account: Option<String>, paging: Paging) -> Result<ConnzRequest, BadParameter> {
        let request = ConnzRequest {
            auth: self.flag("auth"),
            listing: self.listing(),
            paging,
            cid: self
                .0
                .get("cid")
                .and_then(Value::as_u64)
                .filter(|&it| it > 0),
            state: match self.integer("state") {
                1 => State::Closed,
                2 => State::All,
                _ => State::Open,
            },
            account: account.unwrap_or_else(|| self.text("acc")),
            user: self.text("user"),
            mqtt_client: self.text("mqtt_client"),
            subject: self.text("filter_subject"),
            ..ConnzRequest::default()
        };
        if !request.subject.is_empty() && request.account.is_empty() {
            let text = "filter by subject only valid with account filtering";
            return Err(BadParameter(text.into()));
        }
        request.sorted_by(&self.text("sort"))
    }

    /// Whether the filters let this server answer.
    fn includes(&self, site: &Site<'_>) -> bool {
        let is_exact = self.flag("exact_match");
        let fits = |name: &str, own: &str| {
            let wanted = self.text(name);
            wanted.is_empty()
                || if is_exact {
                    own == wanted
                } else {
                    own.contains(&wanted)
                }
        };
        let tags = self.0.get("tags").and_then(Value::as_array);
        let has_tag = |wanted: &Value| {
            let wanted = wanted.as_str().unwrap_or_default();
            let mut own = site.options.server_tags.iter();
            own.any(|tag| tag.eq_ignore_ascii_case(wanted))
        };
        fits("server_name", &site.info.server_name)
            && fits("host", &site.info.host)
            && fits("cluster", site.info.cluster.as_deref().unwrap_or_default())
            && self.text("domain").is_empty()
            && tags.is_none_or(|tags| tags.iter().all(has_tag))
    }
}

/// The bare identity of the server, as `IDZ` gives it.
#[must_use]
pub fn identity(site: &Site<'_>) -> Json {
    let mut json = Json::compact();
    json.object(|json| {
        json.text("name", &site.info.server_name);
        json.text("host", &site.info.host);
        json.text("id", &site.info.server_id);
    });
    json
}

/// The field `server` of an envelope: who answers, for the `seq`th time.
pub fn server(site: &Site<'_>, seq: u64, json: &mut Json) {
    json.object_at("server", |json| server_fields(site, seq, json));
}

/// What is told when the server is about to end, and when it does: who it is.
#[must_use]
pub fn farewell(site: &Site<'_>, seq: u64) -> String {
    let mut json = Json::compact();
    json.object(|json| server_fields(site, seq, json));
    json.into_text()
}

fn server_fields(site: &Site<'_>, seq: u64, json: &mut Json) {
    json.text("name", &site.info.server_name);
    json.text("host", &site.info.host);
    json.text("id", &site.info.server_id);
    json.some_text("cluster", site.info.cluster.as_deref().unwrap_or_default());
    json.text("ver", PROTOCOL_VERSION);
    json.some_texts_at("tags", &site.options.server_tags);
    if !site.options.server_metadata.is_empty() {
        json.object_at("metadata", |json| {
            for (name, value) in &site.options.server_metadata {
                json.text(name, value);
            }
        });
    }
    json.flag("jetstream", false);
    json.number("flags", 0);
    json.number("seq", seq);
    json.text("time", site.date(site.now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_may_ask_about_themselves_and_the_system_account_about_everything() {
        for (subject, system, others) in [
            ("$SYS.REQ.SERVER.PING", true, false),
            ("$SYS.REQ.SERVER.PING.VARZ", true, false),
            ("$SYS.REQ.SERVER.PING.CONNZ", true, true),
            ("$SYS.REQ.SERVER.NX.VARZ", true, false),
            ("$SYS.REQ.SERVER.NY.VARZ", false, false),
            ("$SYS.REQ.SERVER.PING.NONSENSE", false, false),
            ("$SYS.REQ.SERVER.NX.KICK", true, false),
            ("$SYS.REQ.SERVER.NY.KICK", false, false),
            ("$SYS.REQ.SERVER.PING.KICK", false, false),
            ("$SYS.REQ.SERVER.NX.RELOAD", true, false),
            ("$SYS.REQ.ACCOUNT.A.CONNS", true, false),
            ("$SYS.REQ.ACCOUNT.PING.CONNS", false, false),
            ("$SYS.REQ.ACCOUNT.PING.STATZ", true, true),
            ("$SYS.REQ.ACCOUNT.PING.CONNZ", false, true),
            ("$SYS.REQ.ACCOUNT.A.INFO", true, false),
            ("$SYS.REQ.ACCOUNT.A.NONSENSE", false, false),
            ("$SYS.REQ", false, false),
        ] {
            let asked = [true, false].map(|is_system| serves(subject.as_bytes(), "NX", is_system));
            assert_eq!(asked, [system, others], "{subject}");
        }
    }
}
