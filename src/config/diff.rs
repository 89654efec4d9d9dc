//! What a reload changes, and whether it may.
//!
//! A pure function of the options in force and those wanted. The lines it gives are the reference server's, in its order:
//! operators and scripts look for them. No line shows a secret.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::duration;
use super::options::{HandshakeFirst, Options, TlsConfig, WriteTimeout};
use crate::log::Civil;

/// What a reload that is possible changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The options that change, by the names of the configuration; those of blocks by the block's name.
    pub options: Vec<&'static str>,
    /// What to log, one line each, without the level.
    pub log: Vec<String>,
}

impl Changes {
    /// Whether this option, or something in this block, changes.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }
}

/// A change that only a restart makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The option, as the reference server names it in its messages.
    pub field: &'static str,
    /// Its value in force.
    pub old: String,
    /// The value wanted.
    pub new: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "config reload not supported for {}: old={}, new={}",
            self.field, self.old, self.new
        )
    }
}

impl std::error::Error for Refused {}

/// Compares the options in force with those wanted.
///
/// # Errors
///
/// Every change that only a restart makes; then nothing may be applied.
pub fn diff(old: &Options, new: &Options) -> Result<Changes, Vec<Refused>> {
    let refused = refused(old, new);
    if refused.is_empty() {
        Ok(changes(old, new))
    } else {
        Err(refused)
    }
}

/// The changes that only a restart makes.
fn refused(old: &Options, new: &Options) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut compare = |field, value: &dyn Fn(&Options) -> String| {
        let (old, new) = (value(old), value(new));
        if old != new {
            refused.push(Refused { field, old, new });
        }
    };
    compare("Host", &|it| it.host.clone());
    compare("Port", &|it| port(Some(it.port)));
    compare("ServerName", &|it| text(&it.server_name));
    let default = || "default".to_owned();
    compare("Workers", &|it| {
        it.workers.map_or_else(default, |it| it.to_string())
    });
    compare("ClockFloor", &|it| {
        it.clock_floor.map_or_else(default, date)
    });
    compare("HTTPHost", &|it| text(&it.http_host));
    compare("HTTPPort", &|it| port(it.http_port));
    compare("HTTPSPort", &|it| port(it.https_port));
    compare("HTTPSocket", &|it| path(&it.http_socket));
    compare("HTTPBasePath", &|it| it.http_base_path.clone());
    compare("MaxSubs", &|it| number(it.max_subscriptions));
    compare("MaxSubTokens", &|it| number(it.max_subscription_tokens));
    compare("MaxPending", &|it| it.max_pending.to_string());
    compare("MaxClosedClients", &|it| it.max_closed_clients.to_string());
    compare("LogSizeLimit", &|it| number(it.log_size_limit));
    compare("LogMaxFiles", &|it| number(it.log_max_num));
    compare("LogFormat", &|it| {
        format!("{:?}", it.log_format).to_ascii_lowercase()
    });
    compare("LameDuckDuration", &|it| {
        duration::shown(it.lame_duck_duration)
    });
    compare("LameDuckGracePeriod", &|it| {
        duration::shown(it.lame_duck_grace_period)
    });
    compare("WriteTimeout", &|it| write_timeout(it.write_timeout).into());
    compare("AllowNonTLS", &|it| it.allow_non_tls.to_string());
    compare("TLSMap", &|it| {
        it.tls
            .as_ref()
            .is_some_and(|tls| tls.verify_and_map)
            .to_string()
    });
    compare("TLSRateLimit", &|it| {
        number(it.tls.as_ref().and_then(|tls| tls.connection_rate_limit))
    });
    compare("NoHeaderSupport", &|it| it.no_header_support.to_string());
    compare("NoSublistCache", &|it| it.disable_sublist_cache.to_string());
    compare("NoAuthUser", &|it| kept_no_auth_user(it, old, new));
    compare("SystemAccount", &|it| text(&it.system_account));
    compare("NoSystemAccount", &|it| it.no_system_account.to_string());
    compare("cluster host", &|it| {
        if it.cluster.port.is_some() {
            it.cluster.host.clone()
        } else {
            String::new()
        }
    });
    compare("cluster port", &|it| port(it.cluster.port));
    refused
}

/// `no_auth_user` may go, unless the user whose name it is stays. A key user may: whoever is in without the key has to go.
/// Any other change of it needs a restart.
fn kept_no_auth_user(it: &Options, old: &Options, new: &Options) -> String {
    let goes_with_user = old
        .no_auth_user
        .as_ref()
        .filter(|_| new.no_auth_user.is_none())
        .is_some_and(|name| {
            let of_accounts = new.accounts.iter().flat_map(|account| &account.users);
            !new.users
                .iter()
                .chain(of_accounts)
                .any(|it| it.user == *name)
        });
    if goes_with_user {
        String::new()
    } else {
        text(&it.no_auth_user)
    }
}

/// The changes that can be made while the server runs, in the order of their log lines.
fn changes(old: &Options, new: &Options) -> Changes {
    let mut changes = Changes::default();
    changes.logging(old, new);
    changes.users(old, new);
    changes.limits(old, new);
    changes.files(old, new);
    changes.tls(old, new);
    changes.the_rest(old, new);
    changes
}

impl Changes {
    /// Notes `option` as changed, and the line for it.
    fn note(&mut self, option: &'static str, is_changed: bool, line: impl FnOnce() -> String) {
        if is_changed {
            self.options.push(option);
            self.log.push(line());
        }
    }

    /// Notes an option that differs, with a line that shows its new value.
    fn value<T: PartialEq>(
        &mut self,
        option: &'static str,
        old: &T,
        new: &T,
        shown: impl FnOnce(&T) -> String,
    ) {
        self.note(option, old != new, || {
            format!("Reloaded: {option} = {}", shown(new))
        });
    }

    fn logging(&mut self, old: &Options, new: &Options) {
        // The word differs from that of all other lines, and is the reference server's.
        self.note(
            "client_advertise",
            old.client_advertise != new.client_advertise,
            || format!("Reload: client_advertise = {}", text(&new.client_advertise)),
        );
        self.value("trace", &old.trace, &new.trace, bool::to_string);
        self.value("debug", &old.debug, &new.debug, bool::to_string);
        self.value(
            "trace_verbose",
            &old.trace_verbose,
            &new.trace_verbose,
            bool::to_string,
        );
        self.value(
            "trace_headers",
            &old.trace_headers,
            &new.trace_headers,
            bool::to_string,
        );
        self.value("logtime", &old.logtime, &new.logtime, bool::to_string);
        self.value(
            "logtime_utc",
            &old.logtime_utc,
            &new.logtime_utc,
            bool::to_string,
        );
        self.value(
            "max_connections",
            &old.max_connections,
            &new.max_connections,
            |limit| match limit {
                None => "0".into(),
                Some(0) => "-1".into(),
                Some(limit) => limit.to_string(),
            },
        );
        self.note(
            "address_limits",
            old.address_limits != new.address_limits,
            || "Reloaded: address_limits".into(),
        );
        self.value("busy_poll", &old.busy_poll, &new.busy_poll, |span| {
            duration::shown(*span)
        });
        self.value(
            "memory_limit",
            &old.memory_limit,
            &new.memory_limit,
            |limit| number(*limit),
        );
    }

    fn users(&mut self, old: &Options, new: &Options) {
        self.note("nkeys", old.nkeys != new.nkeys, || {
            "Reloaded: authorization nkey users".into()
        });
        // These two lines come with every reload; only the list of options tells whether there was a change.
        self.log.push("Reloaded: authorization users".into());
        if old.users != new.users {
            self.options.push("users");
        }
        self.log.push("Reloaded: accounts".into());
        if old.accounts != new.accounts || old.mappings != new.mappings {
            self.options.push("accounts");
        }
        if old.no_auth_user != new.no_auth_user {
            self.options.push("no_auth_user");
        }
        self.note("user", old.user != new.user, || {
            "Reloaded: authorization username".into()
        });
        self.note("password", old.password != new.password, || {
            "Reloaded: authorization password".into()
        });
        self.note("auth_token", old.auth_token != new.auth_token, || {
            "Reloaded: authorization token".into()
        });
    }

    fn limits(&mut self, old: &Options, new: &Options) {
        self.value(
            "password_cache",
            &old.password_cache,
            &new.password_cache,
            |span| duration::shown(*span),
        );
        self.value(
            "ping_interval",
            &old.ping_interval,
            &new.ping_interval,
            |it| duration::shown(*it),
        );
        self.value("ping_max", &old.ping_max, &new.ping_max, u32::to_string);
        self.note("auth_timeout", old.auth_timeout != new.auth_timeout, || {
            format!(
                "Reloaded: authorization timeout = {}",
                new.auth_timeout.as_secs_f64()
            )
        });
        self.value(
            "max_control_line",
            &old.max_control_line,
            &new.max_control_line,
            usize::to_string,
        );
        self.value(
            "max_payload",
            &old.max_payload,
            &new.max_payload,
            usize::to_string,
        );
        self.note(
            "no_fast_producer_stall",
            old.no_fast_producer_stall != new.no_fast_producer_stall,
            || {
                let not = if new.no_fast_producer_stall {
                    "not "
                } else {
                    ""
                };
                format!("Reloaded: fast producers will {not}be stalled")
            },
        );
        let without_routes = |it: &Options| {
            let mut cluster = it.cluster.clone();
            cluster.routes.clear();
            cluster
        };
        self.note(
            "cluster",
            without_routes(old) != without_routes(new),
            || "Reloaded: cluster".into(),
        );
    }

    fn files(&mut self, old: &Options, new: &Options) {
        self.value("pid_file", &old.pid_file, &new.pid_file, path);
        self.value(
            "ports_file_dir",
            &old.ports_file_dir,
            &new.ports_file_dir,
            path,
        );
        self.value("log_file", &old.log_file, &new.log_file, path);
        self.value("syslog", &old.syslog, &new.syslog, bool::to_string);
        self.value(
            "remote_syslog",
            &old.remote_syslog,
            &new.remote_syslog,
            text,
        );
        let routes = (&old.cluster.routes, &new.cluster.routes);
        self.note("routes", routes.0 != routes.1, || {
            "Reloaded: cluster routes".into()
        });
    }

    fn tls(&mut self, old: &Options, new: &Options) {
        let of_either = |it: &Options| it.tls.clone().unwrap_or_default();
        let (was, is) = (of_either(old), of_either(new));
        self.note("tls_timeout", was.timeout != is.timeout, || {
            format!("Reloaded: tls timeout = {}", is.timeout.as_secs_f64())
        });
        // Files may have changed under the same names: with TLS on, every reload reads them anew.
        let is_changed = old.tls.is_some() || new.tls.is_some();
        self.note("tls", is_changed, || {
            let state = if new.tls.is_some() {
                "enabled"
            } else {
                "disabled"
            };
            format!("Reloaded: tls = {state}")
        });
        self.note("pinned_certs", was.pinned_certs != is.pinned_certs, || {
            format!("Reloaded: {} pinned_certs", is.pinned_certs.len())
        });
        self.handshake_first(&was, &is);
    }

    fn handshake_first(&mut self, was: &TlsConfig, is: &TlsConfig) {
        let is_first = |tls: &TlsConfig| tls.handshake_first != HandshakeFirst::Off;
        self.note(
            "handshake_first",
            was.handshake_first != is.handshake_first,
            || format!("Reloaded: Client TLS handshake first: {}", is_first(is)),
        );
        if let (true, HandshakeFirst::Within(delay)) = (
            was.handshake_first != is.handshake_first,
            is.handshake_first,
        ) {
            let delay = duration::shown(delay);
            self.log.push(format!(
                "Reloaded: Client TLS handshake first fallback delay: {delay}"
            ));
        }
    }

    fn the_rest(&mut self, old: &Options, new: &Options) {
        self.value(
            "write_deadline",
            &old.write_deadline,
            &new.write_deadline,
            |it| duration::shown(*it),
        );
        self.value(
            "max_traced_msg_len",
            &old.max_traced_msg_len,
            &new.max_traced_msg_len,
            |it| number(*it),
        );
        self.value(
            "connect_error_reports",
            &old.connect_error_reports,
            &new.connect_error_reports,
            u32::to_string,
        );
        let (was, is) = (&old.reconnect_error_reports, &new.reconnect_error_reports);
        self.value("reconnect_error_reports", was, is, u32::to_string);
        self.note(
            "http_auth_token",
            old.http_auth_token != new.http_auth_token,
            || "Reloaded: http_auth_token".into(),
        );
        self.note("server_tags", old.server_tags != new.server_tags, || {
            "Reloaded: tags".into()
        });
        self.note(
            "server_metadata",
            old.server_metadata != new.server_metadata,
            || "Reloaded: metadata".into(),
        );
    }
}

fn text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn path(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// A limit as configurations write it: 0 is none.
fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "0".into(), |number| number.to_string())
}

/// A port as configurations write it: -1 is any, 0 is none.
pub(super) fn port(port: Option<u16>) -> String {
    match port {
        None => "0".into(),
        Some(0) => "-1".into(),
        Some(port) => port.to_string(),
    }
}

fn write_timeout(write_timeout: WriteTimeout) -> &'static str {
    match write_timeout {
        WriteTimeout::Close => "close",
        WriteTimeout::Default => "default",
        WriteTimeout::Retry => "retry",
    }
}

/// A time as configurations write it.
fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    let civil = Civil::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
    let mut text = String::new();
    civil.push_date(&mut text, '-');
    text.push('T');
    civil.push_time(&mut text, ':');
    text.push('Z');
    text
}

#[cfg(test)]
mod tests;
