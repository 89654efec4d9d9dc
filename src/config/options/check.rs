//! What options must be like together, wherever each of them came from.

use std::collections::{HashMap, HashSet};

use super::{Account, Destination, Options, Secret, TlsConfig, host_and_port};
use crate::certificate::Dn;
use crate::config::{diff, duration};
use crate::limits;
use crate::subject::transform::Transform;

/// Options that no server can start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The options that it is about, the one to blame first before the others: of the top level, or with the name of the
    /// block before a dot.
    pub options: &'static [&'static str],
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
        let mut problem = |options, text: String| problems.push(Problem { options, text });
        if self.max_payload > self.max_pending {
            let (payload, pending) = (self.max_payload, self.max_pending);
            problem(
                &["max_payload", "max_pending"],
                format!("max_payload ({payload}) cannot be higher than max_pending ({pending})"),
            );
        }
        if self.lame_duck_grace_period >= self.lame_duck_duration {
            let grace = duration::shown(self.lame_duck_grace_period);
            let whole = duration::shown(self.lame_duck_duration);
            problem(
                &["lame_duck_grace_period", "lame_duck_duration"],
                format!(
                    "lame duck grace period ({grace}) should be strictly lower than lame duck duration ({whole})"
                ),
            );
        }
        if let (Some(http), Some(https)) = (self.http_port, self.https_port) {
            let [http, https] = [http, https].map(|port| diff::port(Some(port)));
            problem(
                &["https", "https_port", "http", "http_port"],
                format!("can't specify both HTTP ({http}) and HTTPs ({https}) ports"),
            );
        }
        let max = limits::WORKERS_MAX;
        if let Some(workers) = self.workers.filter(|it| !(1..=max).contains(it)) {
            problem(
                &["workers"],
                format!("workers ({workers}) must be from 1 to {max}"),
            );
        }
        let has_no_certificate = |tls: &TlsConfig| tls.certs.is_empty();
        if self.tls.as_ref().is_some_and(has_no_certificate) && !self.allow_non_tls {
            let text = "a tls block without a certificate lets no client in: it needs cert_file and key_file, or \
                        allow_non_tls where a proxy does TLS";
            problem(&["tls"], text.into());
        }
        if self.https_port.is_some() && self.tls.as_ref().is_none_or(|tls| tls.certs.is_empty()) {
            let text = "TLS cert and key required for HTTPS";
            problem(&["https", "https_port", "tls"], text.into());
        }
        for (option, what, name) in [
            (&["server_name"], "server", &self.server_name),
            (&["cluster.name"], "cluster", &self.cluster.name),
        ] {
            // They stand in lines of the protocol.
            if name.as_ref().is_some_and(|name| name.contains(' ')) {
                problem(option, format!("{what} name cannot contain spaces"));
            }
        }
        self.check_tls(&mut problem);
        for (option, name, address) in [
            (
                &["client_advertise"],
                "client_advertise",
                &self.client_advertise,
            ),
            (
                &["cluster.cluster_advertise"],
                "cluster_advertise",
                &self.cluster.advertise,
            ),
        ] {
            if let Some(address) = address.as_ref().filter(|address| !is_advertisable(address)) {
                problem(
                    option,
                    format!("invalid {name} value of {address}, it must be host or host:port"),
                );
            }
        }
        if let Some(Err(text)) = self.remote_syslog.as_deref().map(check_syslog) {
            problem(&["remote_syslog"], text);
        }
        if let Some(path) = &self.http_socket {
            let length = path.as_os_str().len();
            if length > SOCKET_PATH_MAX {
                let path = path.display();
                let text = format!(
                    "http_socket {path} has {length} bytes, the limit is {SOCKET_PATH_MAX}"
                );
                problem(&["http_socket"], text);
            }
        }
        if self.address_limits.burst.is_some() && self.address_limits.rate.is_none() {
            let text = "the burst in address_limits needs a rate beside it";
            problem(&["address_limits"], text.into());
        }
        self.check_secrets(&mut problem);
        self.check_accounts(&mut problem);
        self.check_sharing(&mut problem);
        problems
    }

    /// Imports and mappings whose subjects do not go together. Where they come from a file, they have been looked at more
    /// closely, with their places.
    fn check_sharing(&self, problem: &mut Note<'_>) {
        let own = self.accounts.iter().flat_map(|account| &account.mappings);
        for mapping in self.mappings.iter().chain(own) {
            let source = &mapping.source;
            for Destination { subject, .. } in &mapping.destinations {
                if let Err(error) = Transform::new(source, subject) {
                    let text = format!("mapping of \"{source}\" to \"{subject}\": {error}");
                    problem(&["mappings", "accounts"], text);
                }
            }
            let weights = mapping.destinations.iter().map(|it| u32::from(it.weight));
            if weights.clone().any(|weight| weight > 100) {
                problem(
                    &["mappings", "accounts"],
                    format!("a weight in the mapping of \"{source}\" is above 100"),
                );
            }
        }
        for import in self.accounts.iter().flat_map(|account| &account.imports) {
            if let Err(error) = import.renaming() {
                let (subject, account) = (&import.subject, &import.account);
                problem(
                    &["accounts"],
                    format!("import of \"{subject}\" from account \"{account}\": {error}"),
                );
            }
        }
    }

    /// Whether clients need no TLS, though there is.
    pub fn takes_plain_clients(&self) -> bool {
        let is_first = self
            .tls
            .as_ref()
            .is_some_and(|tls| tls.handshake_first.is_always());
        self.allow_non_tls && !is_first
    }

    /// Whether there are users or keys in any account.
    pub fn has_users(&self) -> bool {
        let own = !self.users.is_empty() || !self.nkeys.is_empty();
        let has_some = |account: &Account| !account.users.is_empty() || !account.nkeys.is_empty();
        own || self.accounts.iter().any(has_some)
    }

    /// Users that the same certificate could name: they differ in the order of their parts alone.
    fn check_tls(&self, problem: &mut Note<'_>) {
        if !self.tls.as_ref().is_some_and(|tls| tls.verify_and_map) {
            return;
        }
        let own = self.accounts.iter().flat_map(|account| &account.users);
        let users = own.chain(&self.users).map(|user| user.user.as_str());
        let mut seen = HashMap::new();
        for user in users {
            let Some(name) = Dn::parse(user) else {
                continue;
            };
            if let Some(other) = seen.insert(name.sorted(), user) {
                let text =
                    format!("a certificate could be that of both users {other:?} and {user:?}");
                problem(&["authorization", "accounts", "tls"], text);
            }
        }
    }

    /// Credentials that look as if they protected something, and do not.
    fn check_secrets(&self, problem: &mut Note<'_>) {
        let has_password = self
            .password
            .as_ref()
            .is_some_and(|it| !it.reveal().is_empty());
        // Beside users it is a variable that they refer to, as in the reference server's own example.
        let has_others = self.auth_token.is_some() || self.has_users();
        if has_password && self.user.is_none() && !has_others {
            let text = "a password needs a user";
            problem(&["authorization", "accounts"], text.into());
        }
        if self.cluster.password.is_some() && self.cluster.user.is_none() {
            problem(&["cluster.authorization"], "a password needs a user".into());
        }
        let singles: [(&[_], _, _); 3] = [
            (&["authorization"], "the password", &self.password),
            (&["authorization"], "the token", &self.auth_token),
            (
                &["cluster.authorization"],
                "the password",
                &self.cluster.password,
            ),
        ];
        for (options, whose, secret) in singles {
            if secret.as_ref().is_some_and(Secret::is_broken_hash) {
                problem(options, broken_hash(whose));
            }
        }
        let accounts = self.accounts.iter().flat_map(|account| &account.users);
        for user in self.users.iter().chain(accounts) {
            if user.password.is_broken_hash() {
                let text = broken_hash(&format!("user \"{}\"", user.user));
                problem(&["authorization", "accounts"], text);
            }
        }
    }

    /// Host and port that clients are told, if there are some to tell them beside the server's own `port`.
    pub fn advertised_address(&self, port: u16) -> Option<(String, u16)> {
        let address = self.client_advertise.as_deref()?;
        if let Some((host, port)) = host_and_port(address) {
            return Some((host.into(), port));
        }
        Some((address.trim_matches(['[', ']']).into(), port))
    }

    fn check_accounts(&self, problem: &mut Note<'_>) {
        if let Some(name) = &self.no_auth_user {
            const ABOUT: &[&str] = &["no_auth_user", "authorization", "accounts"];
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
                let reason = "present, but users/nkeys are not defined";
                problem(ABOUT, format!("no_auth_user: \"{name}\" {reason}"));
            } else if !all.any(|it| it == name) {
                let reason =
                    "not present as user or nkey in authorization block or account configuration";
                problem(ABOUT, format!("no_auth_user: \"{name}\" {reason}"));
            }
        }
        let has_account = |name: &String| self.accounts.iter().any(|account| account.name == *name);
        let is_missing = |name: &&String| *name != "$SYS" && !has_account(name);
        if let Some(name) = self.system_account.as_ref().filter(is_missing) {
            problem(
                &["system_account", "accounts"],
                format!("error resolving system account: account \"{name}\" missing"),
            );
        }
        if !self.cluster.accounts.is_empty() && self.cluster.pool_size.is_none() {
            problem(
                &["cluster.pool_size", "cluster.accounts"],
                "pool_size cannot be negative if pinned accounts are specified".into(),
            );
        }
        let mut pinned = HashSet::new();
        for name in &self.cluster.accounts {
            if name != "$G" && is_missing(&name) {
                let reason = "to the list of dedicated routes: account missing";
                problem(
                    &["cluster.accounts", "accounts"],
                    format!("unable to add account \"{name}\" {reason}"),
                );
            } else if !pinned.insert(name) {
                let text =
                    format!("found duplicate account name \"{name}\" in pinned accounts list");
                problem(&["cluster.accounts"], text);
            }
        }
    }
}

/// Takes a problem: the options that it is about, and the text.
type Note<'n> = dyn FnMut(&'static [&'static str], String) + 'n;

/// What is wrong with a hash that no secret has, such as `the password` has one.
pub(in crate::config) fn broken_hash(whose: &str) -> String {
    format!("the bcrypt hash of {whose} is broken, so that nothing matches it")
}

/// `host`, `host:port`, or the same with an IPv6 address in brackets.
fn is_advertisable(text: &str) -> bool {
    let is_bare = !text.is_empty() && !text.contains([':', ' ', '[', ']']);
    is_bare || (text.starts_with('[') && text.ends_with(']')) || host_and_port(text).is_some()
}

/// Whether a URL names a syslog server. Before an `@` nothing of it is shown: it may be a password.
fn check_syslog(url: &str) -> Result<(), String> {
    let (scheme, address) = url.split_once("://").unwrap_or(("", url));
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    let is_unix = is("unix");
    if url.contains('@') && !is_unix {
        return Err("remote_syslog must not name a user, there is no way to log in".into());
    }
    if !is_unix && !is("udp") && !is("tcp") {
        return Err(format!(
            "remote_syslog {url} must start with udp://, tcp:// or unix://"
        ));
    }
    if is_unix && !(1..=SOCKET_PATH_MAX).contains(&address.len()) {
        let length = address.len();
        return Err(format!(
            "remote_syslog {url} must have a path of 1 to {SOCKET_PATH_MAX} bytes, but it has {length}"
        ));
    }
    // This host needs no name.
    let here = if address.starts_with(':') {
        "localhost"
    } else {
        ""
    };
    let address = format!("{here}{}", address.trim_end_matches('/'));
    if !is_unix && host_and_port(&address).is_none() {
        return Err(format!(
            "remote_syslog {url} needs a host and a port up to {}",
            u16::MAX
        ));
    }
    Ok(())
}

/// Bytes in the path of a Unix socket: what the system takes, without the zero at its end.
const SOCKET_PATH_MAX: usize = 107;
