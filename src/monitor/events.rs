//! What the system account is told of clients: that they came, left, or were not let in.

use serde_json::Value;

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

/// What other servers count an account's connections by, and the system account is told.
#[derive(Debug)]
pub struct Connections<'a> {
    /// The account.
    pub account: &'a str,
    /// Its connections here.
    pub count: usize,
    /// Its subscriptions, those of other servers included.
    pub subscriptions: usize,
}

impl Connections<'_> {
    /// What all these are told to.
    pub const PATTERN: &'static str = "$SYS.SERVER.ACCOUNT.*.CONNS";
    const PREFIX: &'static [u8] = b"$SYS.SERVER.ACCOUNT.";

    /// Where servers hear of it, and where everybody else of the system account does.
    #[must_use]
    pub fn subjects(account: &str) -> [String; 2] {
        [
            format!("$SYS.SERVER.ACCOUNT.{account}.CONNS"),
            format!("$SYS.ACCOUNT.{account}.SERVER.CONNS"),
        ]
    }

    /// What is told; `id` is unlike that of any other event.
    #[must_use]
    pub fn text(&self, site: &Site<'_>, seq: u64, id: &str) -> String {
        let mut json = Json::compact();
        json.object(|json| {
            json.text("type", "io.nats.server.advisory.v1.account_connections");
            json.text("id", id);
            json.text("timestamp", site.date(site.now));
            system::server(site, seq, json);
            json.text("acc", self.account);
            json.text("name", self.account);
            json.number("conns", self.count);
            json.number("leafnodes", 0);
            json.number("total_conns", self.count);
            json.number("num_subscriptions", self.subscriptions);
        });
        json.into_text()
    }

    /// Whether a message with this subject tells so of another server.
    #[inline]
    #[must_use]
    pub fn are_told(subject: &[u8]) -> bool {
        subject.starts_with(Self::PREFIX)
    }

    /// Reads what another server tells: its id, the account, and how many it has.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<(String, String, usize)> {
        let event: Value = serde_json::from_slice(text).ok()?;
        let name = |it: &Value| it.as_str().map(str::to_owned);
        let (id, account) = (name(&event["server"]["id"])?, name(&event["acc"])?);
        let count = |key: &str| event[key].as_u64().unwrap_or(0);
        let count = count("total_conns").max(count("conns"));
        Some((id, account, usize::try_from(count).unwrap_or(usize::MAX)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_other_servers_are_read_whatever_else_they_say() {
        let read = |text: &str| Connections::read(text.as_bytes());
        let told =
            r#"{"x":1,"server":{"id":"B"},"acc":"A","conns":2,"leafnodes":1,"total_conns":3}"#;
        assert_eq!(read(told), Some(("B".into(), "A".into(), 3)));
        let told = r#"{"server":{"id":"B"},"acc":"A"}"#;
        assert_eq!(read(told), Some(("B".into(), "A".into(), 0)));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"server":"B","acc":"A"}"#,
            r#"{"server":{"id":"B"},"acc":1}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
