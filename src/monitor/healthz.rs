//! `/healthz`: whether the server does its work, as a status that probes understand.
//!
//! There is no JetStream here, so whatever is asked about it is answered as by a server where it was never configured: well.

use super::json::Json;
use super::query::{BadParameter, Query};

/// What `/healthz` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRequest {
    /// Errors as a list.
    pub details: bool,
    /// The account whose stream is asked for.
    pub account: String,
    /// The stream that is asked for.
    pub stream: String,
    /// The consumer that is asked for.
    pub consumer: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong: its kind and a text.
    pub error: Option<(&'static str, String)>,
}

impl HealthRequest {
    /// Reads the parameters.
    ///
    /// # Errors
    ///
    /// If one of them has a value that it cannot have.
    pub fn parse(query: &Query) -> Result<Self, BadParameter> {
        for name in [
            "js-enabled",
            "js-enabled-only",
            "js-server-only",
            "js-meta-only",
        ] {
            query.flag(name)?;
        }
        Ok(HealthRequest {
            details: query.flag("details")?,
            account: query.text("account").into(),
            stream: query.text("stream").into(),
            consumer: query.text("consumer").into(),
        })
    }

    /// Judges a server with these listeners closed that should be open.
    #[must_use]
    pub fn judge(&self, closed: &[&str]) -> Health {
        let bad_request = |text: &str| Health {
            status: 400,
            error: Some(("BAD_REQUEST", text.into())),
        };
        if !self.stream.is_empty() && self.account.is_empty() {
            return bad_request("\"account\" must not be empty when checking stream health");
        }
        if !self.consumer.is_empty() && self.stream.is_empty() {
            return bad_request("\"stream\" must not be empty when checking consumer health");
        }
        if !closed.is_empty() {
            let closed = closed.join(", ");
            let text = format!("failed to be ready for connections after 1ms: {closed}");
            return Health {
                status: 500,
                error: Some(("CONNECTION", text)),
            };
        }
        Health {
            status: 200,
            error: None,
        }
    }
}

/// The fields of the answer, as `/healthz` and its twin have them.
pub fn healthz(request: &HealthRequest, health: &Health, json: &mut Json) {
    let Some((kind, text)) = &health.error else {
        json.text("status", "ok");
        return;
    };
    json.text("status", "error");
    if !request.details {
        json.text("error", text);
        return;
    }
    json.array_at("errors", |json| {
        json.item(|json| {
            json.text("type", kind);
            json.text("error", text);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(query: &str, closed: &[&str]) -> (u16, String) {
        let request = HealthRequest::parse(&Query::parse(query)).unwrap();
        let health = request.judge(closed);
        let mut json = Json::compact();
        json.object(|json| healthz(&request, &health, json));
        (health.status, json.into_text())
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_told() {
        let ok = (200, r#"{"status":"ok"}"#.to_string());
        assert_eq!(told("", &[]), ok);
        assert_eq!(told("js-enabled-only=true&account=A", &[]), ok);
        assert_eq!(
            told("stream=S", &["server"]),
            (400, r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#.into())
        );
        assert_eq!(
            told("details=1", &["server"]),
            (500, r#"{"status":"error","errors":[{"type":"CONNECTION","error":"failed to be ready for connections after 1ms: server"}]}"#.into())
        );
        assert!(HealthRequest::parse(&Query::parse("js-meta-only=yes")).is_err());
    }
}
