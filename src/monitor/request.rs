//! Which page a request is for, and with what parameters.

use super::connz::ConnzRequest;
use super::healthz::HealthRequest;
use super::query::{BadParameter, Listing, Paging, Query};
use super::snapshot::Act;
use crate::subject;

/// A page.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Its path, without the base path.
    pub path: &'static str,
    /// Whether requests for it are counted in `http_req_stats`.
    pub is_counted: bool,
    /// Whether one whose parameters are wrong is counted too.
    counts_errors: bool,
    parse: fn(&Query) -> Result<Request, BadParameter>,
}

/// A request for a page.
#[derive(Clone, Debug)]
pub enum Request {
    /// `/`
    Root,
    /// `/varz`
    Varz,
    /// `/connz`
    Connz(Box<ConnzRequest>),
    /// `/routez`
    Routez(Listing),
    /// `/subsz`
    Subsz(SubszRequest),
    /// `/accountz`, for one account or all.
    Accountz(String),
    /// `/accstatz`
    Accstatz {
        /// Accounts without connections too.
        unused: bool,
        /// This account alone.
        account: Option<String>,
    },
    /// The counters in brief, which are no page.
    Statsz,
    /// All about an account, which is no page of its own.
    AccountInfo(String),
    /// An account's counters as an event tells them, which are no page.
    AccountConns(String),
    /// Something to be done to the client of this number, which is no page.
    Act(Act, u64),
    /// `/leafz`
    Leafz,
    /// `/gatewayz`
    Gatewayz,
    /// `/jsz`
    Jsz,
    /// `/healthz`
    Healthz(HealthRequest),
    /// `/ipqueuesz`
    Queues,
    /// `/raftz`
    Raft,
    /// `/debug/vars`
    DebugVars,
    /// `/stacksz`
    Stacks,
    /// `/metrics`
    Metrics,
}

/// A request that cannot be answered with its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// Why.
    pub text: String,
    /// Whether it is counted all the same.
    pub is_counted: bool,
}

/// What `/subsz` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubszRequest {
    /// Whether to list subscriptions.
    pub lists: bool,
    /// The part of the list.
    pub paging: Paging,
    /// A subject that they must match; empty for all.
    pub test: String,
    /// Only this account's; empty for all.
    pub account: String,
}

impl SubszRequest {
    /// Checks the subject to test with.
    ///
    /// # Errors
    ///
    /// If nobody can publish to it.
    pub fn checked(self) -> Result<Self, BadParameter> {
        if !self.test.is_empty() && !subject::is_valid_literal(self.test.as_bytes()) {
            let text = "invalid test subject, must be valid publish subject";
            return Err(BadParameter(format!("{text}: {}", self.test)));
        }
        Ok(self)
    }
}

const fn page(path: &'static str, parse: fn(&Query) -> Result<Request, BadParameter>) -> Endpoint {
    Endpoint {
        path,
        is_counted: true,
        counts_errors: true,
        parse,
    }
}

const fn uncounted(
    path: &'static str,
    parse: fn(&Query) -> Result<Request, BadParameter>,
) -> Endpoint {
    Endpoint {
        is_counted: false,
        ..page(path, parse)
    }
}

const SUBSZ: Endpoint = page("/subsz", |query| {
    let request = SubszRequest {
        lists: query.flag("subs")?,
        paging: query.paging()?,
        test: query.text("test").into(),
        account: query.text("acc").into(),
    };
    request.checked().map(Request::Subsz)
});

/// Every page, with the path it is found at.
static ENDPOINTS: &[(&str, Endpoint)] = &[
    ("/", page("/", |_| Ok(Request::Root))),
    ("/varz", page("/varz", |_| Ok(Request::Varz))),
    (
        "/connz",
        Endpoint {
            counts_errors: false,
            ..page("/connz", |query| {
                Ok(Request::Connz(Box::new(ConnzRequest::parse(query)?)))
            })
        },
    ),
    (
        "/routez",
        Endpoint {
            counts_errors: false,
            ..page("/routez", |query| Ok(Request::Routez(query.listing()?)))
        },
    ),
    ("/subsz", SUBSZ),
    ("/subscriptionsz", SUBSZ),
    (
        "/accountz",
        page("/accountz", |query| {
            Ok(Request::Accountz(query.text("acc").into()))
        }),
    ),
    (
        "/accstatz",
        page("/accstatz", |query| {
            let unused = query.flag("unused")?;
            Ok(Request::Accstatz {
                unused,
                account: None,
            })
        }),
    ),
    (
        "/leafz",
        page("/leafz", |query| {
            query.flag("subs")?;
            Ok(Request::Leafz)
        }),
    ),
    (
        "/gatewayz",
        page("/gatewayz", |query| {
            query.flag("accs")?;
            query.listing()?;
            Ok(Request::Gatewayz)
        }),
    ),
    (
        "/jsz",
        page("/jsz", |query| {
            for name in [
                "accounts",
                "streams",
                "consumers",
                "direct-consumers",
                "config",
                "raft",
                "leader-only",
                "stream-leader-only",
            ] {
                query.flag(name)?;
            }
            query.paging()?;
            if query.flag("leader-only")? {
                return Err(BadParameter("filtered response: not leader".into()));
            }
            Ok(Request::Jsz)
        }),
    ),
    (
        "/healthz",
        page("/healthz", |query| {
            Ok(Request::Healthz(HealthRequest::parse(query)?))
        }),
    ),
    (
        "/ipqueuesz",
        uncounted("/ipqueuesz", |query| {
            query.flag("all")?;
            Ok(Request::Queues)
        }),
    ),
    ("/raftz", uncounted("/raftz", |_| Ok(Request::Raft))),
    (
        "/debug/vars",
        uncounted("/debug/vars", |_| Ok(Request::DebugVars)),
    ),
    ("/stacksz", uncounted("/stacksz", |_| Ok(Request::Stacks))),
    ("/metrics", uncounted("/metrics", |_| Ok(Request::Metrics))),
];

/// The page at a path, below a base path that does not end in a slash.
#[must_use]
pub fn endpoint(path: &str, base: &str) -> Option<&'static Endpoint> {
    let below = path.strip_prefix(base)?;
    let wanted = match below {
        // The root page is the base path itself, and not what stands behind one more slash.
        "" if !base.is_empty() => "/",
        "/" if !base.is_empty() => return None,
        other => other,
    };
    let found = ENDPOINTS.iter().find(|(known, _)| *known == wanted);
    found.map(|(_, endpoint)| endpoint)
}

impl Endpoint {
    /// The request that these parameters make.
    ///
    /// # Errors
    ///
    /// If one of them has a value that it cannot have.
    pub fn request(&self, query: &Query) -> Result<Request, RequestError> {
        (self.parse)(query).map_err(|BadParameter(text)| {
            // An unknown order is found out later than a value that cannot be read.
            let is_late = text.starts_with("invalid sorting") || text.starts_with("sort by");
            RequestError {
                is_counted: self.is_counted && (self.counts_errors || is_late),
                text,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact() {
        for (path, base, found) in [
            ("/varz", "", Some("/varz")),
            ("/varz/", "", None),
            ("/VARZ", "", None),
            ("/", "", Some("/")),
            ("/subscriptionsz", "", Some("/subsz")),
            ("/nats/varz", "/nats", Some("/varz")),
            ("/nats", "/nats", Some("/")),
            ("/nats/", "/nats", None),
            ("/", "/nats", None),
            ("/varz", "/nats", None),
            ("/natsvarz", "/nats", None),
        ] {
            assert_eq!(endpoint(path, base).map(|it| it.path), found, "{path}");
        }
    }

    #[test]
    fn requests_with_wrong_parameters_count_for_most_pages() {
        for (path, query, counted) in [
            ("/connz", "auth=yes", false),
            ("/connz", "sort=bad", true),
            ("/routez", "subs=x", false),
            ("/subsz", "subs=detail", true),
            ("/leafz", "subs=detail", true),
            ("/ipqueuesz", "all=x", false),
        ] {
            let result = endpoint(path, "").unwrap().request(&Query::parse(query));
            assert_eq!(result.unwrap_err().is_counted, counted, "{path}?{query}");
        }
    }

    #[test]
    fn a_subject_to_test_with_is_one_to_publish_to() {
        let error = endpoint("/subsz", "")
            .unwrap()
            .request(&Query::parse("test=foo.*"));
        assert_eq!(
            error.unwrap_err().text,
            "invalid test subject, must be valid publish subject: foo.*"
        );
    }
}
