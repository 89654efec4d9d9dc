//! What the system account is told of clients: that they came, left, or were not let in.

use super::snapshot::{ConnectionSnapshot, Traffic};
use super::{Json, Site, system};

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is in.
    Connect,
    /// It has left.
    Disconnect,
    /// It did not show who it is.
    AuthError,
}

impl Event {
    /// Where it is told.
    #[must_use]
    pub fn subject(self, account: &str, server_id: &str) -> String {
        match self {
            Event::Connect => format!("$SYS.ACCOUNT.{account}.CONNECT"),
            Event::Disconnect => format!("$SYS.ACCOUNT.{account}.DISCONNECT"),
            Event::AuthError => format!("$SYS.SERVER.{server_id}.CLIENT.AUTH.ERR"),
        }
    }

    /// What is told; `id` is unlike that of any other event.
    #[must_use]
    pub fn text(self, site: &Site<'_>, seq: u64, id: &str, it: &ConnectionSnapshot) -> String {
        let kind = if self == Event::Connect {
            "client_connect"
        } else {
            "client_disconnect"
        };
        let mut json = Json::compact();
        json.object(|json| {
            json.text("type", format!("io.nats.server.advisory.v1.{kind}"));
            json.text("id", id);
            json.text("timestamp", site.date(site.now));
            system::server(site, seq, json);
            json.object_at("client", |json| client(site, self, it, json));
            if self != Event::Connect {
                data("sent", it.sent, json);
                data("received", it.received, json);
                let reason = it.end.map(|(_, reason)| reason.to_string());
                json.text("reason", reason.unwrap_or_default());
            }
        });
        json.into_text()
    }
}

fn client(site: &Site<'_>, event: Event, it: &ConnectionSnapshot, json: &mut Json) {
    json.text("start", site.date(it.start));
    json.text("host", it.addr.ip().to_canonical().to_string());
    json.number("id", it.cid);
    json.text("acc", &*it.account);
    json.some_text("user", &it.user);
    json.some_text("name", &it.name);
    json.some_text("lang", &it.lang);
    json.some_text("ver", &it.version);
    if event != Event::Connect {
        json.number("rtt", it.rtt.as_nanos());
        json.text("stop", site.date(it.end.map_or(site.now, |(stop, _)| stop)));
    }
    json.text("name_tag", &*it.account);
    json.text("kind", it.kind.name());
    json.text("client_type", "nats");
}

fn data(name: &str, traffic: Traffic, json: &mut Json) {
    json.object_at(name, |json| {
        json.number("msgs", traffic.msgs);
        json.number("bytes", traffic.bytes);
    });
}
