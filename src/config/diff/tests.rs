//! What a reload may change, and what it says.

use super::super::{Nothing, parse_str};
use super::*;

fn options(text: &str) -> Options {
    parse_str("c.conf", text, &Nothing).unwrap().options
}

fn log(old: &str, new: &str) -> Vec<String> {
    diff(&options(old), &options(new)).unwrap().log
}

fn refusals(old: &str, new: &str) -> Vec<String> {
    diff(&options(old), &options(new))
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

const ALWAYS: [&str; 2] = ["Reloaded: authorization users", "Reloaded: accounts"];

#[test]
fn a_reload_without_change_says_the_usual() {
    assert_eq!(log("port: 1", "port: 1"), ALWAYS);
    assert_eq!(diff(&options(""), &options("")).unwrap().options, [""; 0]);
}

#[test]
fn lines_come_in_the_fixed_order() {
    let new = "server_metadata {a: b}, server_tags: x, reconnect_error_reports: 5, connect_error_reports: 5\n\
               max_traced_msg_len: 7, write_deadline: 5s\n\
               tls {cert_file: a, key_file: b, timeout: 5, handshake_first: auto}\n\
               remote_syslog: \"udp://h:1\", syslog: on, log_file: f, ports_file_dir: d, pid_file: p\n\
               no_fast_producer_stall: yes, max_payload: 1000, max_control_line: 1000\n\
               authorization {user: u, password: secret, timeout: 5}\n\
               ping_max: 5, ping_interval: 5s, max_connections: 10, logtime_utc: yes, logtime: no\n\
               debug: yes, trace: yes, client_advertise: a";
    let expected = [
        "Reload: client_advertise = a",
        "Reloaded: trace = true",
        "Reloaded: debug = true",
        "Reloaded: logtime = false",
        "Reloaded: logtime_utc = true",
        "Reloaded: max_connections = 10",
        "Reloaded: authorization users",
        "Reloaded: accounts",
        "Reloaded: authorization username",
        "Reloaded: authorization password",
        "Reloaded: ping_interval = 5s",
        "Reloaded: ping_max = 5",
        "Reloaded: authorization timeout = 5",
        "Reloaded: max_control_line = 1000",
        "Reloaded: max_payload = 1000",
        "Reloaded: fast producers will not be stalled",
        "Reloaded: pid_file = p",
        "Reloaded: ports_file_dir = d",
        "Reloaded: log_file = f",
        "Reloaded: syslog = true",
        "Reloaded: remote_syslog = udp://h:1",
        "Reloaded: tls timeout = 5",
        "Reloaded: tls = enabled",
        "Reloaded: Client TLS handshake first: true",
        "Reloaded: Client TLS handshake first fallback delay: 50ms",
        "Reloaded: write_deadline = 5s",
        "Reloaded: max_traced_msg_len = 7",
        "Reloaded: connect_error_reports = 5",
        "Reloaded: reconnect_error_reports = 5",
        "Reloaded: tags",
        "Reloaded: metadata",
    ];
    assert_eq!(log("", new), expected);
}

#[test]
fn what_needs_a_restart_is_refused_by_name() {
    assert_eq!(
        refusals("port: 1", "port: 2"),
        ["config reload not supported for Port: old=1, new=2"]
    );
    assert_eq!(
        refusals("lame_duck_duration: \"2m\"", "lame_duck_duration: \"1m\""),
        ["config reload not supported for LameDuckDuration: old=2m0s, new=1m0s"]
    );
    assert_eq!(
        refusals("", "workers: 2, clock_floor: 2026-01-31T00:00:00Z"),
        [
            "config reload not supported for Workers: old=default, new=2",
            "config reload not supported for ClockFloor: old=default, new=2026-01-31T00:00:00Z",
        ]
    );
    assert_eq!(
        refusals("", "cluster {listen: \"127.0.0.1:5\"}"),
        [
            "config reload not supported for cluster host: old=, new=127.0.0.1",
            "config reload not supported for cluster port: old=0, new=5",
        ]
    );
    assert_eq!(
        refusals(
            "",
            "server_name: x, tls {cert_file: a, key_file: b, verify_and_map: yes}"
        ),
        [
            "config reload not supported for ServerName: old=, new=x",
            "config reload not supported for TLSMap: old=false, new=true",
        ]
    );
}

#[test]
fn what_is_not_set_is_shown_as_nothing() {
    assert_eq!(
        refusals("", "http_socket: \"/run/m\"\nserver_name: a"),
        [
            "config reload not supported for ServerName: old=, new=a",
            "config reload not supported for HTTPSocket: old=, new=/run/m",
        ]
    );
}

#[test]
fn a_default_user_may_only_leave_for_good() {
    let with = "no_auth_user: a, authorization {users: [{user: a}, {user: b}]}";
    assert_eq!(log(with, "authorization {users: [{user: b}]}"), ALWAYS);
    assert_eq!(
        refusals(with, "authorization {users: [{user: a}, {user: b}]}").len(),
        1
    );
    assert_eq!(
        refusals(
            with,
            "no_auth_user: b, authorization {users: [{user: a}, {user: b}]}"
        )
        .len(),
        1
    );
    const KEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    for users in [
        format!("authorization {{users: [{{nkey: {KEY}}}]}}"),
        format!("accounts {{A {{users: [{{nkey: {KEY}}}]}}}}"),
    ] {
        let with = format!("no_auth_user: {KEY}, {users}");
        assert_eq!(log(&with, &users), ALWAYS);
    }
}

#[test]
fn routes_and_the_rest_of_the_cluster_are_told_apart() {
    let cluster = |rest: &str| format!("cluster {{listen: \"127.0.0.1:5\", {rest}}}");
    let (old, new) = (
        cluster("pool_size: 2"),
        cluster("pool_size: 2, routes: [nats://u:secret@h:1]"),
    );
    assert_eq!(
        log(&old, &new),
        [
            "Reloaded: authorization users",
            "Reloaded: accounts",
            "Reloaded: cluster routes"
        ]
    );
    assert_eq!(
        log(&cluster(""), &old),
        [
            "Reloaded: authorization users",
            "Reloaded: accounts",
            "Reloaded: cluster"
        ]
    );
}

/// A value other than the default for every option of the top level.
const OTHER: &[(&str, &str)] = &[
    ("listen", "a:1"),
    ("host", "a"),
    ("port", "1"),
    ("server_name", "a"),
    ("client_advertise", "a"),
    ("server_tags", "a"),
    ("server_metadata", "{a: b}"),
    ("workers", "3"),
    ("busy_poll", "10us"),
    ("memory_limit", "1mb"),
    ("clock_floor", "2026-01-01T00:00:00Z"),
    ("http", "1"),
    ("https", "1, tls {cert_file: a, key_file: b}"),
    ("http_port", "1"),
    ("https_port", "1, tls {cert_file: a, key_file: b}"),
    ("http_auth_token", "a"),
    ("http_socket", "a"),
    ("http_base_path", "a"),
    ("tls", "{cert_file: a, key_file: b}"),
    ("allow_non_tls", "true"),
    ("pid_file", "a"),
    ("ports_file_dir", "a"),
    ("disable_sublist_cache", "true"),
    ("no_header_support", "true"),
    ("no_fast_producer_stall", "true"),
    ("connect_error_reports", "2"),
    ("reconnect_error_reports", "2"),
    ("max_connections", "1"),
    ("address_limits", "{rate: 1}"),
    ("max_subscriptions", "1"),
    ("max_sub_tokens", "1"),
    ("max_control_line", "1"),
    ("max_payload", "1"),
    ("max_pending", "2mb"),
    ("max_closed_clients", "1"),
    ("max_traced_msg_len", "1"),
    ("password_cache", "1s"),
    ("ping_interval", "1s"),
    ("ping_max", "1"),
    ("write_deadline", "1s"),
    ("write_timeout", "close"),
    ("lame_duck_duration", "1h"),
    ("lame_duck_grace_period", "1s"),
    ("debug", "true"),
    ("trace", "true"),
    ("trace_verbose", "true"),
    ("trace_headers", "true"),
    ("logtime", "false"),
    ("logtime_utc", "true"),
    ("log_file", "a"),
    ("log_size_limit", "1"),
    ("log_max_num", "1"),
    ("log_format", "json"),
    ("syslog", "true"),
    ("remote_syslog", "\"udp://a:1\""),
    ("authorization", "{token: a}"),
    ("no_auth_user", "a"),
    ("accounts", "{A: {}}"),
    ("system_account", "A, accounts {A: {}}"),
    ("no_system_account", "true"),
    ("mappings", "{a: b}"),
    ("cluster", "{pool_size: 5}"),
];

#[test]
fn the_table_says_which_options_a_reload_can_change() {
    use super::super::table::{Block, OPTIONS, Status};
    for known in OPTIONS
        .iter()
        .filter(|it| it.block == Block::Top && it.status == Status::Supported)
    {
        let (_, value) = OTHER
            .iter()
            .find(|(name, _)| *name == known.name)
            .expect(known.name);
        // Its removal is the one change of this option that a reload makes.
        let (old, new) = match known.name {
            "no_auth_user" => (
                "no_auth_user: a, authorization {users: [{user: a}]}".into(),
                String::new(),
            ),
            _ => (String::new(), format!("{}: {value}", known.name)),
        };
        match diff(&options(&old), &options(&new)) {
            Ok(changes) => assert!(
                known.reloads && !changes.options.is_empty(),
                "{}",
                known.name
            ),
            Err(refused) => assert!(!known.reloads, "{}: {refused:?}", known.name),
        }
    }
}
