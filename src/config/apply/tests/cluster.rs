//! The `cluster` block.

use super::*;

#[test]
fn clusters_have_their_own_rules() {
    let cluster = |text: &str| options(&format!("cluster {{{text}}}")).cluster;
    assert_eq!(cluster("accounts: \"$G\"").accounts, ["$G"]);
    assert_eq!(cluster("pool_size: -1").pool_size, None);
    assert_eq!(
        cluster("compression: on").compression.mode,
        CompressionMode::Fast
    );
    let compression =
        cluster("compression {mode: s2_auto, rtt_thresholds: [10ms, 50ms]}").compression;
    assert_eq!(
        compression.rtt_thresholds,
        [Duration::from_millis(10), Duration::from_millis(50)]
    );
    let millis = |text: &str| {
        let times = cluster(&format!("compression {{{text}}}")).compression;
        let times = times.rtt_thresholds.iter();
        times.map(Duration::as_millis).collect::<Vec<_>>()
    };
    assert_eq!(millis("mode: fast"), [10, 50, 100]);
    assert_eq!(millis("mode: auto, rtts: []"), [10, 50, 100]);
    assert_eq!(millis("mode: auto, rtt: [0s, -1s, 20ms, 0s]"), [0, 0, 20]);
    assert_eq!(
        millis("mode: auto, rtt: [1ms, 0s, 1ms, 2ms, 0s]"),
        [1, 0, 1, 2]
    );
    for (name, mode) in CompressionMode::NAMES {
        let found = cluster(&format!("compression: \"{name}\""))
            .compression
            .mode;
        assert_eq!(found, mode, "{name}");
    }
    assert_eq!(CompressionMode::NotSupported.name(), "not supported");
    assert_eq!(CompressionMode::Better.name(), "s2_better");
    assert_eq!(
        cluster("ping_interval: \"1m\"").ping_interval,
        Some(Duration::from_secs(30))
    );
    assert_eq!(
        cluster("routes: [\"nats://a:1\", \"nats://a:1\"]")
            .routes
            .len(),
        1
    );
    let inner = "authorization {user: a, permissions {import: x}}";
    assert_eq!(
        cluster(inner).permissions.unwrap().import.allow.unwrap(),
        ["x"]
    );
    assert_eq!(
        cluster(&format!("{inner}, permissions {{import: y}}"))
            .permissions
            .unwrap()
            .import
            .allow
            .unwrap(),
        ["y"]
    );
    let cases = [
        ("name: \"a b\"", "1:9: cluster name cannot contain spaces"),
        (
            "routes: [\"nats://u:secret@:1\"]",
            "1:19: error parsing route url: it needs a host and a port up to 65535",
        ),
        (
            "compression: foo",
            "1:9: unsupported compression mode \"foo\"",
        ),
        (
            "compression: s2_uncompressed",
            "1:9: unsupported compression mode \"s2_uncompressed\"",
        ),
        (
            "compression {mode: auto, rtt: [10ms, 5ms]}",
            "1:34: RTT threshold values [10ms 5ms] should be in ascending order",
        ),
        (
            "compression {rtt: [0s, 0s], mode: auto}",
            "1:22: compression mode s2_auto requires at least one RTT threshold",
        ),
        (
            "compression {mode: auto, rtt: [1ms, 1ms, 1ms, 1ms, 1ms]}",
            "1:34: compression mode s2_auto should have no more than 4 RTT thresholds: 5",
        ),
        (
            "compression {mode: auto, rtt: [x]}",
            "1:40: error parsing rtt: time: invalid duration \"x\"",
        ),
        (
            "authorization {token: a}",
            "1:9: Cluster authorization does not support tokens",
        ),
        (
            "authorization {users: []}",
            "1:9: Cluster authorization does not allow multiple users",
        ),
        (
            "permissions {allow_responses: true}",
            "1:9: Cluster permissions do not support dynamic responses",
        ),
        (
            "pool_size: -1, accounts: [\"$SYS\"]",
            "1:9: pool_size cannot be negative if pinned accounts are specified",
        ),
        (
            "accounts: [\"$G\", \"$SYS\", \"$G\"]",
            "1:9: found duplicate account name \"$G\" in pinned accounts list",
        ),
        (
            "accounts: [X]",
            "1:9: unable to add account \"X\" to the list of dedicated routes: account missing",
        ),
        (
            "advertise: \"a:b:c\"",
            "1:9: invalid cluster_advertise value of a:b:c, it must be host or host:port",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            errors(&format!("cluster {{{text}}}")),
            [format!("c.conf:{expected}")],
            "{text}"
        );
    }
}
