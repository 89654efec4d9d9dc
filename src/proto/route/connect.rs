//! The `CONNECT` of a server that dialled another one.

use std::fmt;

use serde_json::{Map, Value};

use crate::proto::info::Object;

/// What the dialling server says of itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RouteConnect {
    /// Its id.
    pub name: String,
    /// Its cluster's name.
    pub cluster: String,
    /// Whether that name was made up.
    pub is_dynamic: bool,
    /// The user to log in as.
    pub user: Option<String>,
    /// That one's password.
    pub pass: Option<String>,
    /// Set by clients alone: their language.
    pub lang: Option<String>,
    /// Set by another kind of link alone.
    pub gateway: Option<String>,
    /// Whether it wants `+OK` for each operation.
    pub verbose: bool,
    /// Whether messages for queue groups may come back to it.
    pub echo: bool,
}

/// Shows who it is and hides what proves it.
impl fmt::Debug for RouteConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteConnect")
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl RouteConnect {
    /// Reads the JSON text. Unknown keys are skipped; `None` if it is no object, or a value has another type.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(json);
        let map: Map<String, Value> = serde_json::from_str(&text).ok()?;
        let text = |key| text_of(&map, key);
        let flag = |key, default| flag_of(&map, key, default);
        Some(RouteConnect {
            name: text("name")?.unwrap_or_default(),
            cluster: text("cluster")?.unwrap_or_default(),
            is_dynamic: flag("cluster_dynamic", false)?,
            user: text("user")?,
            pass: text("pass")?,
            lang: text("lang")?,
            gateway: text("gateway")?,
            verbose: flag("verbose", false)?,
            echo: flag("echo", true)?,
        })
    }

    /// Appends the whole operation, with its CRLF.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut json = String::with_capacity(256);
        let mut object = Object(&mut json);
        object.raw("echo", true);
        object.raw("verbose", false);
        object.raw("pedantic", false);
        if let Some(user) = &self.user {
            object.text("user", user);
        }
        if let Some(pass) = &self.pass {
            object.text("pass", pass);
        }
        object.raw("tls_required", false);
        object.raw("headers", true);
        object.text("name", &self.name);
        object.text("cluster", &self.cluster);
        object.flag("cluster_dynamic", self.is_dynamic);
        out.extend_from_slice(b"CONNECT {");
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(b"}\r\n");
    }
}

/// A text, where an empty one is none; `None` if it is something else.
pub(super) fn text_of(map: &Map<String, Value>, key: &str) -> Option<Option<String>> {
    match map.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => None,
    }
}

/// A boolean; `None` if it is something else.
pub(super) fn flag_of(map: &Map<String, Value>, key: &str, default: bool) -> Option<bool> {
    match map.get(key) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_bool(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let connect = RouteConnect {
            name: "N1".into(),
            cluster: "c".into(),
            is_dynamic: true,
            user: Some("u\"".into()),
            pass: Some("p".into()),
            echo: true,
            ..RouteConnect::default()
        };
        let mut line = Vec::new();
        connect.encode(&mut line);
        let json = line.strip_prefix(b"CONNECT ").unwrap();
        assert_eq!(
            RouteConnect::parse(json.trim_ascii()),
            Some(connect.clone())
        );
        assert!(!format!("{connect:?}").contains("\"p\""));
    }

    #[test]
    fn the_cluster_is_enough_and_wrong_types_are_not() {
        let connect = RouteConnect::parse(br#"{"cluster":"C1","x":[1],"user":null}"#).unwrap();
        assert!(connect.cluster == "C1" && connect.echo && connect.user.is_none());
        for bad in ["", "[]", "{", r#"{"cluster":1}"#, r#"{"echo":"true"}"#] {
            assert!(RouteConnect::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
