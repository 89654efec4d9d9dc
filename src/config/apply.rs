//! Tree to options: the top level and the cluster. The larger blocks have files of their own.
//!
//! Options take effect in the order of the file, the later one winning where two mean the same. Whatever is wrong is
//! reported, and the rest applied nevertheless: nobody sees the options then, but everybody the other errors.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::error::Position;
use super::options::{
    AddressLimits, Cluster, Compression, CompressionMode, LogFormat, Options, RoutePermissions,
    RouteUrl, Secret, WriteTimeout,
};
use super::report::{Report, set};
use super::table::{self, Block};
use super::value::{Data, Entry, Map};
use crate::clock;
use crate::limits;

mod accounts;
mod auth;
mod exports;
mod imports;
mod mappings;
mod sharing;
mod tls;

/// Options, where they came from, and what there is to say about it.
pub(super) struct Applied {
    pub(super) options: Options,
    pub(super) report: Report,
    /// The options of the top level that were set, and some of blocks, with their places; see [`super::options::Problem`].
    pub(super) places: Vec<(&'static str, Position)>,
    /// Those of the top level with errors in them.
    pub(super) flawed: Vec<&'static str>,
}

/// Makes options of a parsed configuration.
pub(super) fn apply(root: &Map) -> Applied {
    let mut report = Report::default();
    let mut places = Vec::new();
    let mut flawed = Vec::new();
    let mut options = Options::default();
    let mut seen = Seen::default();
    let mut is_payload_unlimited = false;
    report.each(Block::Top, root, |report, name, entry| {
        let errors_before = report.errors.len();
        places.push((name, entry.at.clone()));
        match name {
            "authorization" => auth::authorization(report, entry, &mut options, &mut seen),
            "accounts" => accounts::accounts(report, entry, &mut options, &mut seen),
            "cluster" => cluster(report, entry, &mut options.cluster, &mut places),
            "max_payload" => {
                is_payload_unlimited = matches!(entry.value.data, Data::Integer(-1));
                if !is_payload_unlimited {
                    set(
                        &mut options.max_payload,
                        report.size(entry, limits::MAX_PAYLOAD),
                    );
                }
            }
            _ => {
                let is_known = listeners(report, name, entry, &mut options)
                    || bounds(report, name, entry, &mut options)
                    || logging(report, name, entry, &mut options)
                    || the_rest(report, name, entry, &mut options);
                debug_assert!(is_known, "nothing takes the option {name}");
            }
        }
        if report.errors.len() > errors_before {
            flawed.push(name);
        }
    });
    if is_payload_unlimited {
        // What cannot be queued cannot be delivered.
        options.max_payload = options
            .max_pending
            .min(usize::try_from(i32::MAX).unwrap_or(usize::MAX));
    }
    if let Some(at) = &seen.account_users_at {
        if options.user.is_some() {
            report.error(at, "Can not have a single user/pass and accounts");
        }
        if options.auth_token.is_some() {
            report.error(at, "Can not have a token and accounts");
        }
    }
    Applied {
        options,
        report,
        places,
        flawed,
    }
}

/// Names that must not come twice in a whole configuration.
#[derive(Default)]
struct Seen {
    users: HashSet<String>,
    nkeys: HashSet<String>,
    /// Some account that has users.
    account_users_at: Option<Position>,
}

/// Where the server can be reached, and what it is called.
fn listeners(report: &mut Report, name: &str, entry: &Entry, options: &mut Options) -> bool {
    match name {
        "listen" => {
            if let Some((host, port)) = report.listen(entry) {
                options.host = host_or_any(host);
                options.port = port.unwrap_or(limits::PORT);
            }
        }
        "host" => set(&mut options.host, report.text(entry).map(host_or_any)),
        "port" => set(
            &mut options.port,
            report.port(entry).map(|port| port.unwrap_or(limits::PORT)),
        ),
        "server_name" => options.server_name = non_empty(report, entry),
        "client_advertise" => options.client_advertise = non_empty(report, entry),
        "http" => {
            if let Some((host, port)) = report.listen(entry) {
                options.http_host = Some(host).filter(|host| !host.is_empty());
                options.http_port = port;
            }
        }
        "https" => {
            if let Some((host, port)) = report.listen(entry) {
                options.http_host = Some(host).filter(|host| !host.is_empty());
                options.https_port = port;
            }
        }
        "http_port" => set(&mut options.http_port, report.port(entry)),
        "https_port" => set(&mut options.https_port, report.port(entry)),
        "http_base_path" => set(
            &mut options.http_base_path,
            report.string(entry).map(|path| clean_path(path)),
        ),
        "http_auth_token" => {
            let token = report.string(entry).filter(|token| !token.is_empty());
            options.http_auth_token = token.map(|token| Secret::new(&**token));
        }
        "http_socket" => options.http_socket = non_empty(report, entry).map(PathBuf::from),
        "tls" => set(
            &mut options.tls,
            tls::tls(report, entry, tls::Place::Clients).map(Some),
        ),
        "allow_non_tls" => set(&mut options.allow_non_tls, report.boolean(entry)),
        _ => return false,
    }
    true
}

/// Limits and times.
fn bounds(report: &mut Report, name: &str, entry: &Entry, options: &mut Options) -> bool {
    match name {
        "workers" => options.workers = workers(report, entry),
        "busy_poll" => set(&mut options.busy_poll, busy_poll(report, entry)),
        "memory_limit" => set(&mut options.memory_limit, report.limit(entry)),
        "max_connections" => {
            // Both 0 and less let no client in: a server may be there for the others of its cluster alone.
            let max = report.unless_negative(entry);
            set(&mut options.max_connections, max.map(|max| max.or(Some(0))));
        }
        "max_subscriptions" => set(&mut options.max_subscriptions, report.limit(entry)),
        "max_sub_tokens" => match report.number::<u8>(entry) {
            Some(0) => report.error(
                &entry.at,
                format!("{} value can not be negative", entry.key),
            ),
            tokens => options.max_subscription_tokens = tokens,
        },
        "address_limits" => options.address_limits = address_limits(report, entry),
        "max_control_line" => set(
            &mut options.max_control_line,
            report.size(entry, limits::MAX_CONTROL_LINE),
        ),
        "max_pending" => {
            let number = report.number::<usize>(entry);
            set(
                &mut options.max_pending,
                number.map(|it| if it == 0 { limits::MAX_PENDING } else { it }),
            );
        }
        "max_closed_clients" => set(
            &mut options.max_closed_clients,
            unless_zero(report.number(entry)),
        ),
        "password_cache" => set(&mut options.password_cache, report.duration(entry)),
        "ping_interval" => set(
            &mut options.ping_interval,
            unless_zero(report.duration_or_integer(entry)),
        ),
        "ping_max" => set(&mut options.ping_max, unless_zero(report.number(entry))),
        "write_deadline" => set(
            &mut options.write_deadline,
            unless_zero(report.duration_or_integer(entry)),
        ),
        "write_timeout" => set(&mut options.write_timeout, write_timeout(report, entry)),
        "lame_duck_duration" => {
            if let Some(length) = report.duration(entry) {
                if length < limits::LAME_DUCK_DURATION_MIN {
                    let shown = super::duration::shown(length);
                    let text =
                        format!("invalid lame_duck_duration of {shown}, minimum is 30 seconds");
                    report.error(&entry.at, text);
                }
                options.lame_duck_duration = length;
            }
        }
        "lame_duck_grace_period" => set(
            &mut options.lame_duck_grace_period,
            unless_zero(report.duration(entry)),
        ),
        "disable_sublist_cache" => set(&mut options.disable_sublist_cache, report.boolean(entry)),
        "no_header_support" => set(&mut options.no_header_support, report.boolean(entry)),
        "no_fast_producer_stall" => set(&mut options.no_fast_producer_stall, report.boolean(entry)),
        _ => return false,
    }
    true
}

fn address_limits(report: &mut Report, entry: &Entry) -> AddressLimits {
    let mut limits = AddressLimits::default();
    let Some(map) = report.map(entry) else {
        return limits;
    };
    report.each(
        Block::AddressLimits,
        map,
        |report, name, entry| match name {
            "max_connections" => set(&mut limits.max_connections, report.limit(entry)),
            "rate" => set(&mut limits.rate, report.limit(entry)),
            _ => set(&mut limits.burst, report.limit(entry)),
        },
    );
    limits
}

/// What is logged, and where.
fn logging(report: &mut Report, name: &str, entry: &Entry, options: &mut Options) -> bool {
    match name {
        "debug" => set(&mut options.debug, report.boolean(entry)),
        "trace" => set(&mut options.trace, report.boolean(entry)),
        "trace_verbose" => {
            set(&mut options.trace_verbose, report.boolean(entry));
            options.trace |= options.trace_verbose;
        }
        "trace_headers" => {
            set(&mut options.trace_headers, report.boolean(entry));
            options.trace |= options.trace_headers;
        }
        "max_traced_msg_len" => set(&mut options.max_traced_msg_len, report.limit(entry)),
        "logtime" => set(&mut options.logtime, report.boolean(entry)),
        "logtime_utc" => set(&mut options.logtime_utc, report.boolean(entry)),
        "log_file" => set(&mut options.log_file, report.path(entry)),
        "log_size_limit" => set(&mut options.log_size_limit, report.limit(entry)),
        "log_max_num" => set(&mut options.log_max_num, report.limit(entry)),
        "log_format" => match report
            .string(entry)
            .map(|text| text.to_ascii_lowercase())
            .as_deref()
        {
            Some("text") => options.log_format = LogFormat::Text,
            Some("json") => options.log_format = LogFormat::Json,
            Some(_) => report.error(&entry.at, "log_format must be 'text' or 'json'"),
            None => {}
        },
        "syslog" => set(&mut options.syslog, report.boolean(entry)),
        "remote_syslog" => options.remote_syslog = non_empty(report, entry),
        "connect_error_reports" => set(
            &mut options.connect_error_reports,
            unless_zero(report.number(entry)),
        ),
        "reconnect_error_reports" => set(
            &mut options.reconnect_error_reports,
            unless_zero(report.number(entry)),
        ),
        _ => return false,
    }
    true
}

fn the_rest(report: &mut Report, name: &str, entry: &Entry, options: &mut Options) -> bool {
    match name {
        "server_tags" => options.server_tags = tags(report, entry),
        "server_metadata" => {
            let map = report.map(entry);
            for entry in map.map(|map| map.entries.as_slice()).unwrap_or_default() {
                if let Some(text) = report.text(entry) {
                    options.server_metadata.insert(entry.key.to_string(), text);
                }
            }
        }
        "clock_floor" => options.clock_floor = moment(report, entry),
        "pid_file" => set(&mut options.pid_file, report.path(entry)),
        "ports_file_dir" => set(&mut options.ports_file_dir, report.path(entry)),
        "no_auth_user" => options.no_auth_user = non_empty(report, entry),
        "system_account" => options.system_account = non_empty(report, entry),
        "no_system_account" => set(&mut options.no_system_account, report.boolean(entry)),
        "mappings" => options.mappings = mappings::mappings(report, entry),
        _ => return false,
    }
    true
}

/// Options of the `cluster` block that are checked together with others.
const CLUSTER_PLACES: [&str; 5] = [
    "cluster.accounts",
    "cluster.authorization",
    "cluster.cluster_advertise",
    "cluster.name",
    "cluster.pool_size",
];

/// The `cluster` block.
fn cluster(
    report: &mut Report,
    entry: &Entry,
    cluster: &mut Cluster,
    places: &mut Vec<(&'static str, Position)>,
) {
    let Some(map) = report.map(entry) else {
        return;
    };
    for entry in &map.entries {
        let known = table::find(Block::Cluster, &entry.key).map(|it| it.name);
        let is_it = |place: &&&str| place.strip_prefix("cluster.") == known;
        let place = CLUSTER_PLACES.iter().find(is_it);
        places.extend(place.map(|place| (*place, entry.at.clone())));
    }
    let mut old_permissions = None;
    report.each(Block::Cluster, map, |report, name, entry| match name {
        "name" => cluster.name = non_empty(report, entry),
        "listen" => {
            if let Some((host, port)) = report.listen(entry) {
                cluster.host = host_or_any(host);
                cluster.port = port;
            }
        }
        "host" => set(&mut cluster.host, report.text(entry).map(host_or_any)),
        "port" => set(&mut cluster.port, report.port(entry)),
        "authorization" => old_permissions = auth::cluster_authorization(report, entry, cluster),
        "permissions" => cluster.permissions = route_permissions(report, entry),
        "routes" => cluster.routes = routes(report, entry),
        "tls" => set(
            &mut cluster.tls,
            tls::tls(report, entry, tls::Place::Cluster).map(Some),
        ),
        "cluster_advertise" => cluster.advertise = non_empty(report, entry),
        "no_advertise" => set(&mut cluster.no_advertise, report.boolean(entry)),
        "connect_retries" => set(&mut cluster.connect_retries, report.number(entry)),
        "connect_backoff" => set(&mut cluster.connect_backoff, report.boolean(entry)),
        "pool_size" => cluster.pool_size = pool_size(report, entry),
        "accounts" => {
            let names = report.text_or_texts(entry).unwrap_or_default();
            cluster.accounts = names.into_iter().map(|(name, _)| name.into()).collect();
        }
        "compression" => set(&mut cluster.compression, compression(report, entry)),
        "ping_interval" => {
            cluster.ping_interval = unless_zero(report.duration_or_integer(entry));
            if cluster.ping_interval > Some(limits::ROUTE_PING_INTERVAL_MAX) {
                report.warn(
                    entry,
                    "Cluster 'ping_interval' will reset to 30s which is the max for routes",
                );
                cluster.ping_interval = Some(limits::ROUTE_PING_INTERVAL_MAX);
            }
        }
        "ping_max" => cluster.ping_max = unless_zero(report.number(entry)),
        "write_deadline" => {
            cluster.write_deadline = unless_zero(report.duration_or_integer(entry));
        }
        "write_timeout" => set(&mut cluster.write_timeout, write_timeout(report, entry)),
        _ => debug_assert!(false, "nothing takes the option {name}"),
    });
    if cluster.permissions.is_none() {
        cluster.permissions = old_permissions;
    }
}

fn route_permissions(report: &mut Report, entry: &Entry) -> Option<RoutePermissions> {
    let permissions = auth::permissions(report, entry)?;
    if permissions.allow_responses.is_some() {
        report.error(
            &entry.at,
            "Cluster permissions do not support dynamic responses",
        );
    }
    Some(RoutePermissions {
        import: permissions.publish,
        export: permissions.subscribe,
    })
}

/// The routes, each once. Nothing of a bad one is shown: it may hold a password.
fn routes(report: &mut Report, entry: &Entry) -> Vec<RouteUrl> {
    let mut routes: Vec<RouteUrl> = Vec::new();
    let mut seen = HashSet::new();
    for (text, at) in report.texts(entry).unwrap_or_default() {
        match RouteUrl::parse(text) {
            Err(reason) => report.error(at, format!("error parsing route url: {reason}")),
            Ok(_) if !seen.insert(text) => {
                let text = "invalid use of field \"routes\": Duplicate route entry detected";
                report.warnings.push(super::Notice::at(at, text));
            }
            Ok(route) => routes.push(route),
        }
    }
    routes
}

fn pool_size(report: &mut Report, entry: &Entry) -> Option<u32> {
    match report.integer(entry) {
        None | Some(0) => Some(limits::ROUTE_POOL_SIZE),
        Some(..0) => None,
        Some(_) => report.number(entry),
    }
}

fn compression(report: &mut Report, entry: &Entry) -> Option<Compression> {
    let mode = |report: &mut Report, entry: &Entry| match entry.value.data {
        Data::Bool(true) => Some(CompressionMode::Fast),
        Data::Bool(false) => Some(CompressionMode::Off),
        _ => {
            let Data::String(text) = &entry.value.data else {
                return report.wrong_type(entry, "a boolean, the name of a mode or a map");
            };
            let known = CompressionMode::NAMES
                .iter()
                .find(|(name, _)| text.eq_ignore_ascii_case(name));
            if known.is_none() && !text.is_empty() {
                report.error(
                    &entry.at,
                    format!("unsupported compression mode \"{text}\""),
                );
            }
            known.map(|(_, mode)| *mode)
        }
    };
    let mut compression = Compression::default();
    let Data::Map(map) = &entry.value.data else {
        set(&mut compression.mode, mode(report, entry));
        return Some(compression);
    };
    let mut given = None;
    report.each(Block::Compression, map, |report, name, entry| match name {
        "mode" => set(&mut compression.mode, mode(report, entry)),
        _ => given = rtt_thresholds(report, entry).map(|times| (times, &entry.at)),
    });
    if let Some((times, at)) = given {
        compression.rtt_thresholds = times;
        if compression.mode == CompressionMode::Auto {
            if let Err(flaw) = settle(&mut compression.rtt_thresholds) {
                report.error(at, flaw);
            }
        }
    }
    Some(compression)
}

/// Times of which negative ones are zero.
fn rtt_thresholds(report: &mut Report, entry: &Entry) -> Option<Vec<Duration>> {
    let mut times = Vec::new();
    for (text, at) in report.text_or_texts(entry)? {
        match super::duration::parse(text) {
            Ok(value) if value.is_negative => times.push(Duration::ZERO),
            Ok(value) => times.push(value.length),
            Err(reason) => {
                let what = &entry.key;
                report.error(at, format!("error parsing {what}: {reason}"));
            }
        }
    }
    Some(times)
}

/// Leaves zeros at the end away. None at all stands for the usual ones.
fn settle(times: &mut Vec<Duration>) -> Result<(), String> {
    if times.is_empty() {
        *times = limits::COMPRESSION_RTTS.to_vec();
        return Ok(());
    }
    let above = times.iter().filter(|it| !it.is_zero());
    if !above.is_sorted() {
        let shown: Vec<String> = times.iter().map(|it| format!("{it:?}")).collect();
        let shown = shown.join(" ");
        return Err(format!(
            "RTT threshold values [{shown}] should be in ascending order"
        ));
    }
    let last = times.iter().rposition(|it| !it.is_zero());
    times.truncate(last.map_or(0, |at| at + 1));
    match times.len() {
        0 => Err("compression mode s2_auto requires at least one RTT threshold".into()),
        1..=limits::COMPRESSION_RTTS_MAX => Ok(()),
        count => {
            let max = limits::COMPRESSION_RTTS_MAX;
            Err(format!(
                "compression mode s2_auto should have no more than {max} RTT thresholds: {count}"
            ))
        }
    }
}

fn write_timeout(report: &mut Report, entry: &Entry) -> Option<WriteTimeout> {
    match report.string(entry)?.to_ascii_lowercase().as_str() {
        "default" => Some(WriteTimeout::Default),
        "close" => Some(WriteTimeout::Close),
        "retry" => Some(WriteTimeout::Retry),
        _ => {
            report.error(
                &entry.at,
                "write_timeout must be 'default', 'close' or 'retry'",
            );
            None
        }
    }
}

/// A value of which 0 is as none: the default applies.
fn unless_zero<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn busy_poll(report: &mut Report, entry: &Entry) -> Option<Duration> {
    let span = report.duration(entry)?;
    if span > limits::BUSY_POLL_MAX {
        let [shown, most] = [span, limits::BUSY_POLL_MAX].map(super::duration::shown);
        let text = format!("busy_poll of {shown} is too long, the limit is {most}");
        report.error(&entry.at, text);
        return None;
    }
    Some(span)
}

fn workers(report: &mut Report, entry: &Entry) -> Option<usize> {
    let workers = report
        .number::<usize>(entry)
        .filter(|workers| *workers > 0)?;
    if workers > limits::WORKERS_MAX {
        report.error(
            &entry.at,
            format!(
                "workers {workers} is too many, the limit is {}",
                limits::WORKERS_MAX
            ),
        );
    }
    Some(workers)
}

fn non_empty(report: &mut Report, entry: &Entry) -> Option<String> {
    report.text(entry).filter(|text| !text.is_empty())
}

fn host_or_any(host: String) -> String {
    if host.is_empty() {
        limits::HOST.into()
    } else {
        host
    }
}

/// Tags: an array, or one text. Each once, in lower case.
fn tags(report: &mut Report, entry: &Entry) -> Vec<String> {
    let mut tags = Vec::new();
    for (text, _) in report.text_or_texts(entry).unwrap_or_default() {
        let tag = text.trim().to_lowercase();
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

/// A slash in front, none doubled, none at the end, `.` and `..` resolved.
fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A date, with or without quotes.
fn moment(report: &mut Report, entry: &Entry) -> Option<SystemTime> {
    let (Data::DateTime(text) | Data::String(text)) = &entry.value.data else {
        let wanted = "a date such as 2026-01-31T00:00:00Z, or build";
        return report.wrong_type(entry, wanted);
    };
    if text.eq_ignore_ascii_case("build") {
        return Some(clock::build_time());
    }
    let seconds = super::number::unix_seconds(text);
    if seconds.is_none() {
        report.error(
            &entry.at,
            format!(
                "{} must be a date since 1970 such as 2026-01-31T00:00:00Z, or build",
                entry.key
            ),
        );
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds?))
}

#[cfg(test)]
mod tests;
