//! What options must be like together, wherever each of them came from.

use super::{Options, host_and_port};
use crate::config::duration;
use crate::limits;

/// Options that no server can start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The option of the top level that is to blame first.
    pub option: &'static str,
    /// What is wrong.
    pub text: String,
}

impl Options {
    /// Gives the options that were not set, and that follow from others, their values.
    ///
    /// To be called once, after everything was set: the configuration file first, then the command line.
    pub fn settle(&mut self) {
        if let (Some(tls), false) = (&self.tls, self.auth_timeout_is_set) {
            self.auth_timeout = tls.timeout + limits::AUTH_TIMEOUT_AFTER_TLS;
        }
    }

    /// What is wrong with these options together; nothing if a server can start with them.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |option, text: String| problems.push(Problem { option, text });
        if self.max_payload > self.max_pending {
            let (payload, pending) = (self.max_payload, self.max_pending);
            problem(
                "max_payload",
                format!("max_payload ({payload}) cannot be higher than max_pending ({pending})"),
            );
        }
        if self.lame_duck_grace_period >= self.lame_duck_duration {
            let grace = duration::shown(self.lame_duck_grace_period);
            let whole = duration::shown(self.lame_duck_duration);
            problem(
                "lame_duck_grace_period",
                format!(
                    "lame duck grace period ({grace}) should be strictly lower than lame duck duration ({whole})"
                ),
            );
        }
        if let (Some(http), Some(https)) = (self.http_port, self.https_port) {
            problem(
                "https",
                format!("can't specify both HTTP ({http}) and HTTPs ({https}) ports"),
            );
        }
        if self.https_port.is_some() && self.tls.as_ref().is_none_or(|tls| tls.certs.is_empty()) {
            problem("https", "TLS cert and key required for HTTPS".into());
        }
        for (option, name, address) in [
            (
                "client_advertise",
                "client_advertise",
                &self.client_advertise,
            ),
            ("cluster", "cluster_advertise", &self.cluster.advertise),
        ] {
            if let Some(address) = address.as_ref().filter(|address| !is_advertisable(address)) {
                problem(
                    option,
                    format!("invalid {name} value of {address}, it must be host or host:port"),
                );
            }
        }
        if let Some(url) = self
            .remote_syslog
            .as_ref()
            .filter(|url| !is_syslog_url(url))
        {
            problem(
                "remote_syslog",
                format!("remote_syslog {url} must start with udp://, tcp:// or unix://"),
            );
        }
        self.check_accounts(&mut problem);
        problems
    }

    fn check_accounts(&self, problem: &mut impl FnMut(&'static str, String)) {
        if let Some(name) = &self.no_auth_user {
            let names = self
                .accounts
                .iter()
                .flat_map(|account| &account.users)
                .chain(&self.users);
            let nkeys = self
                .accounts
                .iter()
                .flat_map(|account| &account.nkeys)
                .chain(&self.nkeys);
            let mut all = names
                .map(|user| &user.user)
                .chain(nkeys.map(|user| &user.nkey))
                .peekable();
            if all.peek().is_none() {
                problem(
                    "no_auth_user",
                    format!("no_auth_user: \"{name}\" present, but users/nkeys are not defined"),
                );
            } else if !all.any(|it| it == name) {
                let reason =
                    "not present as user or nkey in authorization block or account configuration";
                problem("no_auth_user", format!("no_auth_user: \"{name}\" {reason}"));
            }
        }
        let has_account = |name: &String| self.accounts.iter().any(|account| account.name == *name);
        let is_missing = |name: &&String| *name != "$SYS" && !has_account(name);
        if let Some(name) = self.system_account.as_ref().filter(is_missing) {
            problem(
                "system_account",
                format!("error resolving system account: account \"{name}\" missing"),
            );
        }
        if !self.cluster.accounts.is_empty() && self.cluster.pool_size.is_none() {
            problem(
                "cluster",
                "pool_size cannot be negative if pinned accounts are specified".into(),
            );
        }
        for name in self.cluster.accounts.iter().filter(is_missing) {
            let reason = "to the list of dedicated routes: account missing";
            problem(
                "cluster",
                format!("unable to add account \"{name}\" {reason}"),
            );
        }
    }
}

/// `host`, `host:port`, or the same with an IPv6 address in brackets.
fn is_advertisable(text: &str) -> bool {
    let is_bare = !text.is_empty() && !text.contains([':', ' ', '[', ']']);
    is_bare || (text.starts_with('[') && text.ends_with(']')) || host_and_port(text).is_some()
}

fn is_syslog_url(url: &str) -> bool {
    ["udp://", "tcp://", "unix://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}
