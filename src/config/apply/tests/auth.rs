//! The `authorization` block: users, what they may do, and their secrets.

use super::*;

#[test]
fn authorization_has_one_method() {
    assert_eq!(
        errors("authorization {user: a, token: b}"),
        ["c.conf:1:0: Cannot have a user/pass and token"]
    );
    assert_eq!(
        errors("authorization {user: a, users: [{user: b}]}"),
        ["c.conf:1:0: Can not have a single user/pass and a users array"]
    );
    assert_eq!(
        errors("authorization {token: a, users: [{user: b}]}"),
        ["c.conf:1:0: Can not have a token and a users array"]
    );
    assert_eq!(
        errors("authorization {users: [{user: b}, {user: b}]}"),
        ["c.conf:1:34: Duplicate user \"b\" detected"]
    );
    assert_eq!(
        errors("authorization {users: [{nkey: UA}]}"),
        ["c.conf:1:23: Not a valid public nkey for a user"]
    );
    // What is empty is none.
    options("authorization {user: \"\", token: \"\", password: \"\"}");
    options("authorization {user: \"\", users: [{user: b}]}");
    let alone = "authorization {user: \"\", password: x}";
    assert_eq!(errors(alone), ["c.conf:1:0: a password needs a user"]);
    assert_eq!(
        errors(&format!("cluster {{{alone}}}")),
        ["c.conf:1:9: a password needs a user"]
    );
    assert_eq!(
        errors("authorization {users: [{password: x}]}"),
        ["c.conf:1:23: User entry requires a user"]
    );
    assert_eq!(
        errors("authorization {users: [{user: a, clients: [x]}]}"),
        ["c.conf:1:43: invalid connection types [\"X\"]"]
    );
    let users = options("authorization {users: [{user: a, clients: [standard]}]}").users;
    assert_eq!(
        users[0].allowed_connection_types,
        [ConnectionType::Standard]
    );
}

#[test]
fn permissions_that_hold_for_nobody_are_warned_about() {
    let warning = "c.conf:1:16: invalid use of field \"permissions\": they hold for those in users alone: the single \
                   user, and who has the token, may do everything";
    for conf in [
        "authorization { permissions: {publish: a}, user: u, password: p }",
        "authorization { permissions: {publish: a}, token: t }",
    ] {
        assert_eq!(warnings(conf), [warning]);
    }
    for conf in [
        "authorization { permissions: {publish: a}, users: [{user: u}] }",
        "authorization { permissions: {publish: a} }",
        "authorization { users: [{user: u, permissions: {publish: a}}] }",
    ] {
        assert_eq!(warnings(conf), [""; 0]);
    }
}

#[test]
fn permissions_are_lists_or_rules() {
    let permissions = |text: &str| {
        let options = options(&format!(
            "authorization {{users: [{{user: a, permissions: {{{text}}}}}]}}"
        ));
        Permissions::clone(options.users[0].permissions.as_ref().unwrap())
    };
    assert_eq!(permissions("publish: []").publish.allow, None);
    assert_eq!(permissions("publish: {deny: a}").publish.deny, ["a"]);
    assert_eq!(
        permissions("sub: \"a q\"").subscribe.allow.unwrap(),
        ["a q"]
    );
    let rule = ResponseRule {
        max: Some(1),
        expires: Some(Duration::from_secs(120)),
    };
    assert_eq!(
        permissions("allow_responses: true").allow_responses,
        Some(rule)
    );
    assert_eq!(
        permissions("allow_responses: true").publish.allow,
        Some(Vec::new())
    );
    assert_eq!(permissions("allow_responses: false").publish.allow, None);
    let rule = ResponseRule {
        max: None,
        expires: None,
    };
    assert_eq!(
        permissions("allow_responses: {max: -1, ttl: \"-1s\"}").allow_responses,
        Some(rule)
    );
    let text = |rules: &str| format!("authorization {{permissions: {{{rules}}}}}");
    assert_eq!(
        errors(&text("publish: \"a b\"")),
        ["c.conf:1:39: subject \"a b\" is not a valid subject"]
    );
    assert_eq!(
        errors(&text("publish: a..b")),
        ["c.conf:1:38: subject \"a..b\" is not a valid subject"]
    );
    assert_eq!(
        errors(&text("allow_responses: 5")),
        ["c.conf:1:29: error parsing response permissions, expected a boolean or a map"]
    );
    assert_eq!(
        errors("authorization {permissions: 1}"),
        ["c.conf:1:15: Expected permissions to be a map/struct, got an integer"]
    );
}

#[test]
fn each_broken_hash_is_told_with_its_place_and_owner() {
    let text = "authorization {users: [\n{user: a, password: $2a$11$x}, {user: b, password: $2a$11$y}]}\n\
                accounts {A: {users: [{user: c, password: $2a$11$z}]}}\n\
                cluster {authorization {user: d, password: $2a$11$w}}";
    let broken =
        |whose: &str| format!("the bcrypt hash of {whose} is broken, so that nothing matches it");
    let expected = [
        format!("c.conf:2:1: {}", broken("user \"a\"")),
        format!("c.conf:2:32: {}", broken("user \"b\"")),
        format!("c.conf:3:23: {}", broken("user \"c\"")),
        format!("c.conf:4:34: {}", broken("the password")),
    ];
    assert_eq!(errors(text), expected);
    let token = errors("authorization {token: $2a$11$x}");
    assert_eq!(token, [format!("c.conf:1:15: {}", broken("the token"))]);
}
