//! The JSON of `CONNECT`.
//!
//! Read (`proto::json`) the way the reference server reads it. Read again, the object merges over what the first one said.

use std::fmt;

use serde::de::MapAccess;

use super::json::{self, Object, check, merge};

/// What a client says of itself and wants. The defaults are those of a connection that never sends CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// `+OK` for every accepted operation.
    pub verbose: bool,
    /// Checks the form of publish subjects.
    pub pedantic: bool,
    /// Whether its own messages come back to it.
    pub echo: bool,
    /// Sends and takes messages with headers.
    pub headers: bool,
    /// Wants to know when a request reaches nobody.
    pub no_responders: bool,
    /// 0, or 1 for INFO at any time.
    pub protocol: i64,
    credentials: Option<Box<Credentials>>,
    /// The application's name.
    pub name: Option<Box<str>>,
    /// The library's language.
    pub lang: Option<Box<str>>,
    /// The library's version.
    pub version: Option<Box<str>>,
}

/// What a client gives to be let in, each part absent unless it does. Most give none of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: Option<Box<str>>,
    /// The password.
    pub pass: Option<Box<str>>,
    /// A token.
    pub auth_token: Option<Box<str>>,
    /// A public key.
    pub nkey: Option<Box<str>>,
    /// Signature of the nonce.
    pub sig: Option<Box<str>>,
    /// A user JWT.
    pub jwt: Option<Box<str>>,
    /// An account to use; refused.
    pub account: Option<Box<str>>,
    /// Whether to make a new account; refused.
    pub new_account: bool,
}

/// The credentials of who gives none.
static NO_CREDENTIALS: Credentials = Credentials {
    user: None,
    pass: None,
    auth_token: None,
    nkey: None,
    sig: None,
    jwt: None,
    account: None,
    new_account: false,
};

impl Default for Connect {
    fn default() -> Self {
        Connect {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            credentials: None,
            name: None,
            lang: None,
            version: None,
        }
    }
}

/// Shows who it is and hides what proves it.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .field("user", &self.credentials().user)
            .finish_non_exhaustive()
    }
}

impl Connect {
    /// The credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        self.credentials.as_deref().unwrap_or(&NO_CREDENTIALS)
    }

    /// The same, to be changed.
    pub fn credentials_mut(&mut self) -> &mut Credentials {
        self.credentials.get_or_insert_default()
    }

    /// Takes over what the JSON text names.
    ///
    /// # Errors
    ///
    /// The reason why the text is not such an object; what was taken over until then stays.
    pub fn merge(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        json::read(json, self)
    }
}

impl Object for Connect {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "verbose" => merge(map, &mut self.verbose),
            "pedantic" => merge(map, &mut self.pedantic),
            "echo" => merge(map, &mut self.echo),
            "headers" => merge(map, &mut self.headers),
            "no_responders" => merge(map, &mut self.no_responders),
            "protocol" => merge(map, &mut self.protocol),
            "user" => merge_text(map, &mut self.credentials_mut().user),
            "pass" => merge_text(map, &mut self.credentials_mut().pass),
            "auth_token" => merge_text(map, &mut self.credentials_mut().auth_token),
            "nkey" => merge_text(map, &mut self.credentials_mut().nkey),
            "sig" => merge_text(map, &mut self.credentials_mut().sig),
            "jwt" => merge_text(map, &mut self.credentials_mut().jwt),
            "name" => merge_text(map, &mut self.name),
            "lang" => merge_text(map, &mut self.lang),
            "version" => merge_text(map, &mut self.version),
            "account" => merge_text(map, &mut self.credentials_mut().account),
            "new_account" => merge(map, &mut self.credentials_mut().new_account),
            // Of no effect for clients, but their types are checked.
            "tls_required" => check::<bool, _>(map),
            "remote_account" | "proxy_sig" => check::<String, _>(map),
            "import" | "export" => json::check_rules(map),
            _ => json::skip(map),
        }
    }
}

/// As [`merge`], for a text, where an empty one is none.
fn merge_text<'de, A: MapAccess<'de>>(
    map: &mut A,
    to: &mut Option<Box<str>>,
) -> Result<(), A::Error> {
    if let Some(text) = map.next_value::<Option<String>>()? {
        *to = (!text.is_empty()).then(|| text.into_boxed_str());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(texts: &[&str]) -> Option<Connect> {
        let mut connect = Connect::default();
        texts
            .iter()
            .try_for_each(|text| connect.merge(text.as_bytes()))
            .ok()?;
        Some(connect)
    }

    #[test]
    fn keys_match_without_case_and_the_last_one_wins() {
        let connect = merged(&[
            r#" {"VERBOSE":true,"verbose":false,"zzz":{"a":[1]},"Name":"n","echo":null} "#,
        ])
        .unwrap();
        assert!(!connect.verbose && connect.echo);
        assert_eq!(connect.name.as_deref(), Some("n"));
    }

    #[test]
    fn a_second_object_merges_over_the_first() {
        let connect = merged(&[
            r#"{"user":"u","pass":"p","verbose":false}"#,
            r#"{"pass":""}"#,
            "null",
            "{}",
        ])
        .unwrap();
        assert_eq!(
            (
                connect.credentials().user.as_deref(),
                connect.credentials().pass.as_deref(),
                connect.verbose
            ),
            (Some("u"), None, false)
        );
    }

    #[test]
    fn wrong_types_and_other_texts_are_errors() {
        for bad in [
            "",
            "{",
            "[]",
            "1",
            "\"x\"",
            "{} x",
            r#"{"verbose":"false"}"#,
            r#"{"protocol":1.0}"#,
            r#"{"import":1}"#,
            r#"{"import":{"allow":1}}"#,
            r#"{"export":{"DENY":["a",1]}}"#,
            "{\"name\":\"\u{1}\"}",
        ] {
            assert!(merged(&[bad]).is_none(), "{bad}");
        }
        assert!(Connect::default().merge(b"{\"name\":\"\xff\"}").is_ok());
    }

    #[test]
    fn what_is_not_looked_at_can_be_anything() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for lax in [
            "null \t",
            r#"{"name":"\ud800","zzz":1e999}"#,
            r#"{"import":{"allow":["a",null],"deny":null,"x":1e999},"export":null}"#,
            &format!(r#"{{"zzz":{deep},"import":{{"zzz":{deep}}}}}"#),
        ] {
            assert!(merged(&[lax]).is_some(), "{lax}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let connect =
            merged(&[r#"{"pass":"hush","auth_token":"hush","sig":"hush","jwt":"hush"}"#]).unwrap();
        assert!(!format!("{connect:?}").contains("hush"));
    }
}
