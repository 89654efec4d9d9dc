//! Accounts and what they share.

use super::*;

#[test]
fn accounts_share_what_is_exported() {
    let options = options(
        r#"accounts {
             A: {
               users: [{user: a}], default_permissions: {publish: x}
               imports: [
                 {service: {account: B, subject: "req.x"}, to: local, share: true}
                 {stream: {account: B, subject: "events.>"}, prefix: b}
                 {stream: {account: B, subject: "own.A"}}
               ]
               limits {max_conn: 5, max_payload: 1k, max_leafs: 3}
               mappings {old: [{dest: new, weight: 40%}, {dest: newer, weight: 60}]}
             }
             B: {
               users: [{user: b}]
               exports: [
                 {service: "req.*", accounts: [A], response: stream, threshold: "5s", latency: {sampling: 50%, subject: lat}}
                 {stream: "events.>"}
                 {stream: "own.*", account_token_position: 2}
               ]
             }
           }
           system_account: B, cluster {accounts: [A]}"#,
    );
    let [a, b] = options.accounts.as_slice() else {
        panic!("two accounts")
    };
    assert_eq!(
        a.users[0]
            .permissions
            .as_ref()
            .unwrap()
            .publish
            .allow
            .as_deref(),
        Some(&["x".to_string()][..])
    );
    assert_eq!(
        a.imports[0].kind,
        ImportKind::Service {
            to: Some("local".into()),
            share: true
        }
    );
    assert_eq!(
        a.imports[1].kind,
        ImportKind::Stream {
            prefix: Some("b".into()),
            to: None
        }
    );
    assert_eq!(
        (
            a.limits.max_connections,
            a.limits.max_payload,
            a.limits.max_subscriptions
        ),
        (Some(5), Some(1000), None)
    );
    assert_eq!(
        a.mappings[0]
            .destinations
            .iter()
            .map(|it| it.weight)
            .collect::<Vec<_>>(),
        [40, 60]
    );
    let ExportKind::Service {
        response,
        threshold,
        latency,
    } = &b.exports[0].kind
    else {
        panic!("a service")
    };
    assert_eq!(
        (*response, *threshold),
        (ResponseType::Stream, Some(Duration::from_secs(5)))
    );
    assert_eq!(latency.as_ref().unwrap().sampling, Some(50));
    assert_eq!(
        parse_str("c", "accounts: [A, B]", &Nothing)
            .unwrap()
            .options
            .accounts
            .len(),
        2
    );
}

#[test]
fn accounts_are_checked_together() {
    let cases = [
        (
            "accounts: {\"$G\": {}}",
            "1:12: \"$G\" is a Reserved Account",
        ),
        ("accounts: [A, A]", "1:14: Duplicate Account Entry: A"),
        (
            "accounts: {A: 1}",
            "1:11: Expected map entries for accounts",
        ),
        (
            "accounts: {A: {users: [{user: a}]}, B: {users: [{user: a}]}}",
            "1:48: Duplicate user \"a\" detected",
        ),
        (
            "accounts: {A: {users: [{user: a}]}}, authorization {users: [{user: a}]}",
            "1:60: Duplicate user \"a\" detected",
        ),
        (
            "accounts: {A: {users: [{user: a}]}}, authorization {user: x}",
            "1:15: Can not have a single user/pass and accounts",
        ),
        (
            "accounts: {A: {users: [{user: a}]}}, authorization {token: x}",
            "1:15: Can not have a token and accounts",
        ),
        (
            "accounts: {A: {nkey: X}}",
            "1:15: Not a valid public nkey for an account: \"X\"",
        ),
        (
            "accounts: {A: {exports: [{}]}}",
            "1:25: an export needs a stream or a service",
        ),
        (
            "accounts: {A: {exports: [{service: a, stream: b}]}}",
            "1:38: Detected stream but already saw a service",
        ),
        (
            "accounts: {A: {exports: [{stream: a, response: single}]}}",
            "1:37: Detected response directive on non-service",
        ),
        (
            "accounts: {A: {exports: [{service: a, response: x}]}}",
            "1:38: Unknown response type: \"x\"",
        ),
        (
            "accounts: {A: {exports: [{service: a, latency: {sampling: 5}}]}}",
            "1:38: Latency subject required, but missing",
        ),
        (
            "accounts: {A: {exports: [{stream: a.*, accounts: [C]}]}}",
            "1:50: \"C\" account not defined for stream export",
        ),
        (
            "accounts: {A: {exports: [{stream: a.*, account_token_position: 1}]}}",
            "1:39: Error adding stream export \"a.*\": token 1 is not a wildcard",
        ),
        (
            "accounts: {A: {imports: [{stream: {account: C, subject: x}}]}}",
            "1:26: \"C\" account not defined for stream import",
        ),
        (
            "accounts: {A: {imports: [{stream: {account: A}}]}}",
            "1:26: Expect an account name and a subject",
        ),
        (
            "accounts: {A: {imports: [{stream: {account: A, subject: x}}]}}",
            "1:25: Error adding stream import \"x\": stream import not authorized",
        ),
        (
            "accounts: {A: {mappings: {a: [{dest: b, weight: 70}, {dest: c, weight: 40}]}}}",
            "1:26: Error adding mapping for \"a\" : total weight needs to be <= 100",
        ),
        (
            "accounts: {A: {mappings: {a: [{dest: b}]}}}",
            "1:30: Missing weight for mapping destination \"b\"",
        ),
        (
            "accounts: {A: {mappings: {a..b: c}}}",
            "1:26: Subject \"a..b\" is not a valid subject",
        ),
        (
            "system_account: X",
            "1:0: error resolving system account: account \"X\" missing",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [format!("c.conf:{expected}")], "{text}");
    }
}

#[test]
fn imports_may_not_go_round_in_circles() {
    let account = |name: &str, from: &str| {
        format!(
            "{name}: {{exports: [{{service: a}}], imports: [{{service: {{account: {from}, subject: a}}}}]}}"
        )
    };
    let ring = |text: String| {
        errors(&format!("accounts {{{text}}}"))
            .iter()
            .filter(|it| it.contains("import forms a cycle"))
            .count()
    };
    assert_eq!(
        ring(format!("{}, {}", account("A", "B"), account("B", "A"))),
        2
    );
    assert_eq!(
        ring(format!(
            "{}, {}, {}",
            account("A", "B"),
            account("B", "C"),
            account("C", "A")
        )),
        3
    );
    options(&format!("accounts {{{}}}", account("A", "A")));
}

#[test]
fn limits_of_accounts_may_be_zero_and_a_threshold_may_not() {
    let limits = |text: &str| {
        let limits = options(&format!("accounts {{A {{limits {{{text}}}}}}}")).accounts[0]
            .limits
            .clone();
        let AccountLimits {
            max_connections,
            max_subscriptions,
            max_payload,
        } = limits;
        [max_connections, max_subscriptions, max_payload]
    };
    assert_eq!(limits("max_conn: 0, max_subs: 0, max_pay: 0"), [Some(0); 3]);
    assert_eq!(limits("max_conn: -1, max_subs: -1, max_pay: -1"), [None; 3]);
    let export = "accounts {A {exports: [{service: x, threshold: \"0s\"}]}}";
    let kind = options(export).accounts[0].exports[0].kind.clone();
    let ExportKind::Service { threshold, .. } = kind else {
        panic!("a service")
    };
    // The usual one.
    assert_eq!(threshold, None);
}
