//! The JSON of `INFO`.

use std::fmt::Write as _;

use serde::de::MapAccess;

use super::json::{self, check};

/// The version of the reference server whose protocol this is: clients parse it to learn what they may use.
pub const PROTOCOL_VERSION: &str = "2.15.1";
/// The level of the JetStream interface that clients test for, sent with or without it.
const API_LEVEL: u32 = 5;

/// What INFO says of the server, the same for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's public key, 56 characters.
    pub server_id: String,
    /// Its configured name, else the id.
    pub server_name: String,
    /// Host that clients connect to.
    pub host: String,
    /// Port that clients connect to.
    pub port: u16,
    /// Whether headers are supported.
    pub headers: bool,
    /// Whether TLS is needed.
    pub tls_required: bool,
    /// Whether a client certificate is demanded.
    pub tls_verify: bool,
    /// Whether TLS is possible but not needed.
    pub tls_available: bool,
    /// Bytes of headers and payload in a message.
    pub max_payload: usize,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Addresses of this server and its peers, for clients.
    pub connect_urls: Vec<String>,
    /// Whether the server is about to end, and clients should go elsewhere.
    pub lame_duck: bool,
}

/// What INFO says to one connection.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo<'a> {
    /// The connection's number.
    pub client_id: u64,
    /// Its address as this server sees it.
    pub client_ip: &'a str,
    /// Whether credentials are needed.
    pub auth_required: bool,
    /// Bytes of headers and payload in a message, where that is less than for others.
    pub max_payload: Option<usize>,
    /// It came with TLS before it was told whether it needs that.
    pub over_tls: bool,
    /// A challenge for key users.
    pub nonce: Option<&'a str>,
    /// Lame duck notice.
    pub ldm: bool,
    /// The account's name, in the INFO that answers the first PING.
    pub connect_info: Option<&'a str>,
    /// Whether that is the system account.
    pub acc_is_sys: bool,
}

impl ServerInfo {
    /// Appends the whole operation, with its CRLF.
    pub fn encode(&self, client: &ClientInfo<'_>, out: &mut Vec<u8>) {
        let mut json = String::with_capacity(512);
        let mut object = Object(&mut json);
        object.text("server_id", &self.server_id);
        object.text("server_name", &self.server_name);
        object.text("version", PROTOCOL_VERSION);
        object.raw("proto", 1);
        // What the server was built with; the name of the key is history.
        object.text("go", concat!("rust", env!("CARGO_PKG_RUST_VERSION")));
        object.text("host", &self.host);
        object.raw("port", self.port);
        object.raw("headers", self.headers);
        object.flag("auth_required", client.auth_required);
        object.flag("tls_required", self.tls_required || client.over_tls);
        object.flag("tls_verify", self.tls_verify);
        object.flag("tls_available", self.tls_available && !client.over_tls);
        let max_payload = client
            .max_payload
            .map_or(self.max_payload, |max| max.min(self.max_payload));
        object.raw("max_payload", max_payload);
        object.raw("client_id", client.client_id);
        object.text("client_ip", client.client_ip);
        if let Some(nonce) = client.nonce {
            object.text("nonce", nonce);
        }
        if let Some(cluster) = &self.cluster {
            object.text("cluster", cluster);
        }
        if !self.connect_urls.is_empty() {
            object.raw(
                "connect_urls",
                serde_json::Value::from(self.connect_urls.clone()),
            );
        }
        object.flag("ldm", client.ldm || self.lame_duck);
        if let Some(account) = client.connect_info {
            object.flag("connect_info", true);
            object.text("remote_account", account);
            object.flag("acc_is_sys", client.acc_is_sys);
        }
        object.raw("api_lvl", API_LEVEL);
        object.text("midge", env!("CARGO_PKG_VERSION"));
        out.extend_from_slice(b"INFO {");
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(b"} \r\n");
    }
}

/// Writes the members of an object in the order of the calls.
pub(super) struct Object<'s>(pub(super) &'s mut String);

impl Object<'_> {
    pub(super) fn raw(&mut self, key: &str, value: impl std::fmt::Display) {
        let comma = if self.0.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{comma}\"{key}\":{value}");
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, serde_json::Value::from(value));
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.raw(key, true);
        }
    }
}

/// Reads what clients are told, should one of them say it.
///
/// # Errors
///
/// If it is no object, or what is known by its key has another type.
pub fn check_info(json: &[u8]) -> Result<(), serde_json::Error> {
    json::read(json, &mut Told)
}

/// An INFO of which nothing is kept.
struct Told;

impl json::Object for Told {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "server_id" | "server_name" | "version" | "git_commit" | "go" | "host" | "ip"
            | "client_ip" | "nonce" | "cluster" | "domain" | "remote_account" | "xkey" => {
                check::<String, _>(map)
            }
            "headers" | "auth_required" | "tls_required" | "tls_verify" | "tls_available"
            | "jetstream" | "ldm" | "connect_info" | "acc_is_sys" => check::<bool, _>(map),
            "proto" | "port" | "max_payload" | "client_id" | "api_lvl" => check::<i64, _>(map),
            "connect_urls" | "ws_connect_urls" => json::check_texts(map),
            "import" | "export" => json::check_rules(map),
            _ => json::skip(map),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_clients_know() {
        let server = ServerInfo {
            server_id: "N1".into(),
            server_name: "a \"b\"".into(),
            port: 4222,
            ..Default::default()
        };
        let client = ClientInfo {
            client_id: 7,
            client_ip: "::1",
            connect_info: Some("$G"),
            ..Default::default()
        };
        let mut out = Vec::new();
        server.encode(&client, &mut out);
        let line = String::from_utf8(out).unwrap();
        assert!(line.starts_with(
            r#"INFO {"server_id":"N1","server_name":"a \"b\"","version":"2.15.1","proto":1,"go":"#
        ));
        assert!(
            line.contains(
                r#""client_id":7,"client_ip":"::1","connect_info":true,"remote_account":"$G""#
            ),
            "{line}"
        );
        assert!(
            line.ends_with("} \r\n") && !line.contains("nonce") && !line.contains("auth_required")
        );
        serde_json::from_str::<serde_json::Value>(&line[5..]).expect("JSON");
    }
}
