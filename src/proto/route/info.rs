//! The `INFO` of a route: what a server says of itself, and of others.

use serde_json::{Map, Value, json};

use super::connect::{flag_of, text_of};
use crate::proto::info::{Object, PROTOCOL_VERSION};

/// The protocol level of servers that trace messages.
const TRACING: i64 = 3;

/// What an INFO on a route says. Keys that are not here are of no effect for this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteInfo {
    /// The server's id, new with each start.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// Its version, as it says.
    pub version: String,
    /// The protocol level it speaks.
    pub proto: i64,
    /// What it was built with.
    pub go: String,
    /// Host on which it accepts routes.
    pub host: String,
    /// Port on which it does.
    pub port: u16,
    /// Whether it takes messages with headers.
    pub headers: bool,
    /// Whether one has to log in there.
    pub auth_required: bool,
    /// Whether its routes use TLS.
    pub tls_required: bool,
    /// Whether it demands certificates.
    pub tls_verify: bool,
    /// Bytes in a message that its clients may send.
    pub max_payload: usize,
    /// The URL to dial, if that is not plain from its address.
    pub ip: Option<String>,
    /// Its cluster's name.
    pub cluster: Option<String>,
    /// Whether that was made up.
    pub is_dynamic: bool,
    /// Where clients can connect.
    pub connect_urls: Vec<String>,
    /// Whether it is about to end.
    pub ldm: bool,
    /// How it compresses.
    pub compression: Option<String>,
    /// Subjects it takes in.
    pub import: Option<SubjectLists>,
    /// Subjects it gives.
    pub export: Option<SubjectLists>,
    /// How many connections it wants between two servers; none is a single one for everything.
    pub pool_size: Option<u32>,
    /// Which of them this one is.
    pub pool_index: Option<u32>,
    /// The account that this connection is for, if it is for one alone.
    pub account: Option<String>,
    /// Asks to move an account to a connection of its own.
    pub account_request: Option<String>,
    /// Whether whoever is told of this server tells others.
    pub gossip_mode: u8,
    /// It concerns another kind of link.
    pub is_gateway: bool,
}

/// Subjects of a permission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectLists {
    /// Those that are allowed; all when absent.
    pub allow: Option<Vec<String>>,
    /// Those that are not.
    pub deny: Vec<String>,
}

/// Most entries of a list that are looked at.
const LIST_MAX: usize = 1024;

impl RouteInfo {
    /// Reads the JSON text. Unknown keys are skipped; `None` if it is no object, or a value has another type.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(json);
        let map: Map<String, Value> = serde_json::from_str(&text).ok()?;
        let text = |key| text_of(&map, key);
        let flag = |key| flag_of(&map, key, false);
        let number = |key| number_of(&map, key);
        Some(RouteInfo {
            server_id: text("server_id")?.unwrap_or_default(),
            server_name: text("server_name")?.unwrap_or_default(),
            version: text("version")?.unwrap_or_default(),
            proto: number("proto")?.unwrap_or(0),
            go: text("go")?.unwrap_or_default(),
            host: text("host")?.unwrap_or_default(),
            port: u16::try_from(number("port")?.unwrap_or(0)).ok()?,
            headers: flag("headers")?,
            auth_required: flag("auth_required")?,
            tls_required: flag("tls_required")?,
            tls_verify: flag("tls_verify")?,
            max_payload: usize::try_from(number("max_payload")?.unwrap_or(0)).ok()?,
            ip: text("ip")?,
            cluster: text("cluster")?,
            is_dynamic: flag("cluster_dynamic")?,
            connect_urls: list_of(&map, "connect_urls")?,
            ldm: flag("ldm")?,
            compression: text("compression")?,
            import: SubjectLists::parse(map.get("import"))?,
            export: SubjectLists::parse(map.get("export"))?,
            pool_size: positive(number("route_pool_size")?)?,
            pool_index: positive(number("route_pool_idx")?)?,
            account: text("route_account")?,
            account_request: text("route_acc_add_reqid")?,
            gossip_mode: u8::try_from(number("gossip_mode")?.unwrap_or(0)).ok()?,
            is_gateway: map.contains_key("gateway"),
        })
    }

    /// Appends the whole operation, with its CRLF. `nonce` is random, and nobody signs it.
    pub fn encode(&self, nonce: Option<&str>, out: &mut Vec<u8>) {
        let mut json = String::with_capacity(512);
        let mut object = Object(&mut json);
        object.text("server_id", &self.server_id);
        object.text("server_name", &self.server_name);
        object.text("version", &self.version);
        object.raw("proto", self.proto);
        object.text("go", &self.go);
        object.text("host", &self.host);
        object.raw("port", self.port);
        object.raw("headers", self.headers);
        object.flag("auth_required", self.auth_required);
        object.flag("tls_required", self.tls_required);
        object.flag("tls_verify", self.tls_verify);
        object.raw("max_payload", self.max_payload);
        let mut optional = |key, text: &Option<String>| {
            if let Some(text) = text {
                object.text(key, text);
            }
        };
        optional("ip", &self.ip);
        optional("nonce", &nonce.map(Into::into));
        optional("cluster", &self.cluster);
        object.flag("cluster_dynamic", self.is_dynamic);
        if !self.connect_urls.is_empty() {
            object.raw("connect_urls", json!(self.connect_urls));
        }
        object.flag("ldm", self.ldm);
        if let Some(compression) = &self.compression {
            object.text("compression", compression);
        }
        for (key, lists) in [("import", &self.import), ("export", &self.export)] {
            if let Some(lists) = lists {
                object.raw(key, lists.to_json());
            }
        }
        if let Some(size) = self.pool_size {
            object.raw("route_pool_size", size);
        }
        if let Some(index) = self.pool_index {
            object.raw("route_pool_idx", index);
        }
        for (key, text) in [
            ("route_account", &self.account),
            ("route_acc_add_reqid", &self.account_request),
        ] {
            if let Some(text) = text {
                object.text(key, text);
            }
        }
        if self.gossip_mode > 0 {
            object.raw("gossip_mode", self.gossip_mode);
        }
        out.extend_from_slice(b"INFO {");
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(b"} \r\n");
    }

    /// Whether it traces messages that ask for it.
    #[must_use]
    pub fn traces(&self) -> bool {
        self.proto >= TRACING
    }

    /// What this program says in its own INFO, whatever the server is.
    #[must_use]
    pub fn own() -> Self {
        RouteInfo {
            version: PROTOCOL_VERSION.into(),
            proto: TRACING,
            go: concat!("rust", env!("CARGO_PKG_RUST_VERSION")).into(),
            headers: true,
            ..RouteInfo::default()
        }
    }
}

impl SubjectLists {
    fn parse(value: Option<&Value>) -> Option<Option<Self>> {
        match value {
            None | Some(Value::Null) => Some(None),
            Some(Value::Object(map)) => {
                let allow = list_of(map, "allow")?;
                Some(Some(SubjectLists {
                    allow: Some(allow).filter(|list| !list.is_empty()),
                    deny: list_of(map, "deny")?,
                }))
            }
            Some(_) => None,
        }
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        if let Some(allow) = &self.allow {
            map.insert("allow".into(), json!(allow));
        }
        if !self.deny.is_empty() {
            map.insert("deny".into(), json!(self.deny));
        }
        Value::Object(map)
    }
}

/// A whole number; `None` if it is something else.
fn number_of(map: &Map<String, Value>, key: &str) -> Option<Option<i64>> {
    match map.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_i64().map(Some),
    }
}

/// A number above zero, or none; `None` if it is out of range.
fn positive(number: Option<i64>) -> Option<Option<u32>> {
    match number {
        None | Some(0) => Some(None),
        Some(number) => u32::try_from(number).ok().map(Some),
    }
}

/// A list of texts; `None` if it is something else.
fn list_of(map: &Map<String, Value>, key: &str) -> Option<Vec<String>> {
    match map.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => {
            let texts = list.iter().take(LIST_MAX);
            texts.map(|it| it.as_str().map(Into::into)).collect()
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let lists = SubjectLists {
            allow: Some(vec!["a.>".into()]),
            deny: vec!["a.b".into()],
        };
        let info = RouteInfo {
            server_id: "N1".into(),
            server_name: "one".into(),
            host: "127.0.0.1".into(),
            port: 6222,
            auth_required: true,
            tls_required: true,
            tls_verify: true,
            max_payload: 1 << 20,
            ip: Some("nats-route://127.0.0.1:6222/".into()),
            cluster: Some("c".into()),
            is_dynamic: true,
            connect_urls: vec!["127.0.0.1:4222".into()],
            ldm: true,
            compression: Some("off".into()),
            import: Some(lists.clone()),
            export: Some(lists),
            pool_size: Some(3),
            pool_index: Some(2),
            account: Some("A".into()),
            account_request: Some("x".into()),
            gossip_mode: 1,
            ..RouteInfo::own()
        };
        let mut line = Vec::new();
        info.encode(None, &mut line);
        let json = line.strip_prefix(b"INFO ").unwrap().trim_ascii();
        assert_eq!(RouteInfo::parse(json), Some(info));
    }

    #[test]
    fn id_and_port_are_enough_and_wrong_types_are_not() {
        let info = RouteInfo::parse(br#"{"server_id":"X1","port":1,"nonce":"n","x":{}}"#).unwrap();
        assert!(info.server_id == "X1" && info.port == 1 && !info.headers);
        for bad in [
            "",
            "[]",
            r#"{"port":"1"}"#,
            r#"{"port":70000}"#,
            r#"{"route_pool_size":-1}"#,
            r#"{"connect_urls":[1]}"#,
            r#"{"import":[]}"#,
            r#"{"gossip_mode":256}"#,
        ] {
            assert!(RouteInfo::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
