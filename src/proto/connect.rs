//! The JSON of `CONNECT`.
//!
//! Read the way the reference server reads it: keys match without regard to case, the last of several wins, `null`
//! leaves a value as it is, unknown keys are skipped, a wrong type is an error. Read again, the object merges over what
//! the first one said.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

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
        if json == b"null" {
            return Ok(());
        }
        // Bytes that are not UTF-8 are tolerated inside strings, as the reference server does.
        let text = String::from_utf8_lossy(json);
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        deserializer.deserialize_map(Merge(self))?;
        deserializer.end()
    }
}

struct Merge<'c>(&'c mut Connect);

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Merge(to) = self;
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            match key.as_str() {
                "verbose" => merge(&mut map, &mut to.verbose)?,
                "pedantic" => merge(&mut map, &mut to.pedantic)?,
                "echo" => merge(&mut map, &mut to.echo)?,
                "headers" => merge(&mut map, &mut to.headers)?,
                "no_responders" => merge(&mut map, &mut to.no_responders)?,
                "protocol" => merge(&mut map, &mut to.protocol)?,
                "user" => merge_text(&mut map, &mut to.credentials_mut().user)?,
                "pass" => merge_text(&mut map, &mut to.credentials_mut().pass)?,
                "auth_token" => merge_text(&mut map, &mut to.credentials_mut().auth_token)?,
                "nkey" => merge_text(&mut map, &mut to.credentials_mut().nkey)?,
                "sig" => merge_text(&mut map, &mut to.credentials_mut().sig)?,
                "jwt" => merge_text(&mut map, &mut to.credentials_mut().jwt)?,
                "name" => merge_text(&mut map, &mut to.name)?,
                "lang" => merge_text(&mut map, &mut to.lang)?,
                "version" => merge_text(&mut map, &mut to.version)?,
                "account" => merge_text(&mut map, &mut to.credentials_mut().account)?,
                "new_account" => merge(&mut map, &mut to.credentials_mut().new_account)?,
                // Of no effect for clients, but their types are checked.
                "tls_required" => check::<bool, _>(&mut map)?,
                "remote_account" | "proxy_sig" => check::<String, _>(&mut map)?,
                "import" | "export" => {
                    check::<serde_json::Map<String, serde_json::Value>, _>(&mut map)?
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

fn merge<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: &mut A,
    to: &mut T,
) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *to = value;
    }
    Ok(())
}

/// The same for a text, where an empty one is none.
fn merge_text<'de, A: MapAccess<'de>>(
    map: &mut A,
    to: &mut Option<Box<str>>,
) -> Result<(), A::Error> {
    if let Some(text) = map.next_value::<Option<String>>()? {
        *to = (!text.is_empty()).then(|| text.into_boxed_str());
    }
    Ok(())
}

fn check<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<Option<T>>().map(drop)
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
            "{\"name\":\"\u{1}\"}",
        ] {
            assert!(merged(&[bad]).is_none(), "{bad}");
        }
        assert!(Connect::default().merge(b"{\"name\":\"\xff\"}").is_ok());
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let connect =
            merged(&[r#"{"pass":"hush","auth_token":"hush","sig":"hush","jwt":"hush"}"#]).unwrap();
        assert!(!format!("{connect:?}").contains("hush"));
    }
}
