//! Options outside of any block, by what their values are: addresses, limits, times, names and paths.

use super::*;

#[test]
fn addresses_are_host_and_port() {
    let place = |text: &str| (options(text).host, options(text).port);
    assert_eq!(place("listen: 1"), ("0.0.0.0".into(), 1));
    assert_eq!(place("listen: \"[::1]:5\""), ("::1".into(), 5));
    assert_eq!(place("listen: \":5\""), ("0.0.0.0".into(), 5));
    assert_eq!(place("port: -1"), ("0.0.0.0".into(), 0));
    assert_eq!(place("port: 0, net: a"), ("a".into(), 4222));
    assert_eq!(place("listen: a:1, port: 2"), ("a".into(), 2));
    assert_eq!(options("http: \":8222\"").http_host, None);
    assert_eq!(options("monitor_port: -1").http_port, Some(0));
    assert_eq!(options("cluster {listen: -1}").cluster.port, Some(0));
    assert_eq!(
        errors("listen: abc"),
        ["c.conf:1:0: could not parse address string \"abc\""]
    );
    assert_eq!(
        errors("listen: a:b"),
        ["c.conf:1:0: could not parse port \"b\": it must be from -1 to 65535"]
    );
    assert_eq!(
        errors("listen: true"),
        ["c.conf:1:0: expected port or host:port, but \"listen\" is a boolean"]
    );
    assert_eq!(
        errors("port: 70000"),
        ["c.conf:1:0: port 70000 is not a port: it must be from -1 to 65535"]
    );
}

#[test]
fn limits_have_their_own_zeros_and_negatives() {
    assert_eq!(options("max_connections: 0").max_connections, Some(0));
    assert_eq!(options("max_conn: -1").max_connections, Some(0));
    assert_eq!(options("max_subs: 0").max_subscriptions, None);
    assert_eq!(options("max_payload: 0").max_payload, limits::MAX_PAYLOAD);
    assert_eq!(
        options("max_payload: -1, max_pending: 5mb").max_payload,
        5 << 20
    );
    assert_eq!(options("max_pending: 0").max_pending, limits::MAX_PENDING);
    assert_eq!(
        options("ping_interval: \"0s\"").ping_interval,
        limits::PING_INTERVAL
    );
    assert_eq!(options("memory_limit: 32mb").memory_limit, Some(32 << 20));
    let limits = options("address_limits {max_connections: 9, rate: 2, burst: 0}").address_limits;
    assert_eq!(
        (limits.max_connections, limits.rate, limits.burst),
        (Some(9), Some(2), None)
    );
    assert!(!options("address_limits {rate: 0}").address_limits.is_on());
    assert_eq!(
        errors("max_sub_tokens: 0"),
        ["c.conf:1:0: max_sub_tokens value can not be negative"]
    );
    assert_eq!(
        errors("max_sub_tokens: 256"),
        ["c.conf:1:0: max_sub_tokens value is too big, the limit is 255"]
    );
    assert_eq!(
        errors("max_control_line: 2147483648"),
        ["c.conf:1:0: max_control_line value is too big, the limit is 2147483647"]
    );
    assert_eq!(
        errors("max_pending: -5"),
        ["c.conf:1:0: max_pending value can not be negative"]
    );
    assert_eq!(
        errors("max_payload: \"1MB\""),
        ["c.conf:1:0: option \"max_payload\" must be an integer, but is a string"]
    );
    assert_eq!(
        errors("workers: 65"),
        ["c.conf:1:0: workers 65 is too many, the limit is 64"]
    );
    assert_eq!(options("busy_poll: 0s").busy_poll, Duration::ZERO);
    assert_eq!(
        errors("busy_poll: \"2ms\""),
        ["c.conf:1:0: busy_poll of 2ms is too long, the limit is 1ms"]
    );
}

#[test]
fn a_zero_that_would_serve_nobody_stands_for_the_default() {
    let zeros = "ping_interval: \"0s\", ping_max: 0, write_deadline: \"0s\", max_closed_clients: 0, \
                 lame_duck_grace_period: \"0s\", connect_error_reports: 0, reconnect_error_reports: 0, \
                 authorization {timeout: 0}, \
                 cluster {ping_interval: \"0s\", ping_max: 0, write_deadline: \"0s\", authorization {timeout: \"0s\"}}";
    assert_eq!(options(zeros), Options::default());
    let timeouts = |text: &str| {
        let Options {
            auth_timeout,
            cluster,
            ..
        } = options(text);
        (auth_timeout.as_secs(), cluster.auth_timeout().as_secs())
    };
    let files = "cert_file: a, key_file: b";
    let tls = format!("tls {{{files}, timeout: 4}}");
    let both = format!("{tls}, cluster {{{tls}, authorization {{timeout: 0}}}}");
    assert_eq!(timeouts(&both), (5, 5));
    let own = format!("cluster {{{tls}, authorization {{timeout: 3}}}}");
    assert_eq!(timeouts(&own), (2, 3));
}

#[test]
fn durations_are_strings() {
    assert_eq!(
        options("ping_interval: \"1m30s\"").ping_interval,
        Duration::from_secs(90)
    );
    assert_eq!(
        options("ping_interval: 10").ping_interval,
        Duration::from_secs(10)
    );
    let warning = "c.conf:1:0: invalid use of field \"ping_interval\": ping_interval should be converted to a duration";
    assert_eq!(warnings("ping_interval: 10"), [warning]);
    assert_eq!(warnings("authorization {timeout: 61}").len(), 1);
    // What a clock cannot be set to is refused.
    let range = "c.conf:1:15: timeout value is out of range, from 0 to 4294967295";
    assert_eq!(errors("authorization {timeout: 1e19}").len(), 1);
    assert_eq!(
        errors("authorization {timeout: 10000000000000000000.0}"),
        [range]
    );
    assert_eq!(
        options("authorization {timeout: \"3s\"}").auth_timeout,
        Duration::from_secs(3)
    );
    assert_eq!(
        options("allow_non_tls: true, tls {}").auth_timeout,
        Duration::from_secs(3)
    );
    assert_eq!(
        options("allow_non_tls: true, tls {timeout: 5}, authorization {timeout: 2}").auth_timeout,
        Duration::from_secs(2)
    );
    assert_eq!(
        errors("write_deadline: abc"),
        ["c.conf:1:0: error parsing write_deadline: time: invalid duration \"abc\""]
    );
    assert_eq!(
        errors("lame_duck_duration: \"10s\"")[0],
        "c.conf:1:0: invalid lame_duck_duration of 10s, minimum is 30 seconds"
    );
    let expected = "c.conf:1:0: option \"lame_duck_duration\" must be a duration such as \"30s\", but is an integer";
    assert_eq!(errors("lame_duck_duration: 40"), [expected]);
    let must = |option: &str| {
        let error = errors(option).pop().unwrap_or_default();
        let text = error
            .split_once(" must be ")
            .map(|(_, text)| text.to_owned());
        text.unwrap_or(error)
    };
    let cases = [
        (
            "ping_interval: 1.5",
            "a duration such as \"30s\", or whole seconds, but is a float",
        ),
        (
            "clock_floor: 5",
            "a date such as 2026-01-31T00:00:00Z, or build, but is an integer",
        ),
        (
            "tls {first: 5}",
            "a boolean, auto or a duration, but is an integer",
        ),
        (
            "cluster {compression: 5}",
            "a boolean, the name of a mode or a map, but is an integer",
        ),
    ];
    for (option, expected) in cases {
        assert_eq!(must(option), expected, "{option}");
    }
    assert_eq!(
        errors("ping_interval: 4294967296"),
        ["c.conf:1:0: ping_interval value is too big, the limit is 4294967295"]
    );
    assert_eq!(
        errors("lame_duck_grace_period: \"-1s\""),
        ["c.conf:1:0: invalid lame_duck_grace_period, needs to be positive"]
    );
    assert_eq!(
        options("clock_floor: 1970-01-02T00:00:00Z").clock_floor,
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(86_400))
    );
}

#[test]
fn labels_and_paths() {
    assert_eq!(options("server_tags: \"A, b \"").server_tags, ["a, b"]);
    let several = options("server_tags: [A, a, \"b,C\", \"\"]");
    assert_eq!(several.server_tags, ["a", "b,c"]);
    assert_eq!(
        options("server_metadata {a: b}")
            .server_metadata
            .get("a")
            .map(String::as_str),
        Some("b")
    );
    assert_eq!(
        options("http_base_path: \"a//b/../c/\"").http_base_path,
        "/a/c"
    );
    assert!(options("trace_verbose: true").trace);
    assert_eq!(
        errors("server_name: \"a b\""),
        ["c.conf:1:0: server name cannot contain spaces"]
    );
    assert_eq!(
        errors("write_timeout: x"),
        ["c.conf:1:0: write_timeout must be 'default', 'close' or 'retry'"]
    );
}
