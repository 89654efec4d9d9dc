//! The reference server's cases, and random rules against a slow and obvious model.

use std::time::Duration;

use super::*;
use crate::config::{self, Nothing};
use crate::rng::Rng;

/// The rules of a user whose `permissions` are this text.
fn rules(permissions: &str) -> Arc<Rules> {
    let text = format!(
        "authorization {{ users: [{{user: r, password: p, permissions: {permissions}}}] }}"
    );
    let loaded = config::parse_str("test.conf", &text, &Nothing).expect(permissions);
    let source = loaded.options.users[0].permissions.as_ref();
    Arc::new(Rules::new(source.expect("the user has permissions")))
}

/// A subscription and what it gets: `foo.* q -> foo.x`, or `foo -> !` for a refusal.
fn check(permissions: &str, published: &str, cases: &[&str]) {
    let rules = rules(permissions);
    for case in cases {
        let (sub, expected) = case.split_once(" -> ").expect("an arrow");
        let mut words = sub.split(' ').map(str::as_bytes);
        let (subject, queue) = (words.next().unwrap(), words.next());
        let mut guard = Guard::new(Arc::clone(&rules));
        let got = match rules.may_subscribe(subject, queue) {
            Admission::Refused => "!".into(),
            admission => {
                let gets = |it: &&str| {
                    subject::matches(subject, it.as_bytes())
                        && (admission == Admission::Free || guard.lets_in(it.as_bytes(), queue))
                };
                let got: Vec<&str> = published.split(' ').filter(gets).collect();
                got.join(" ")
            }
        };
        assert_eq!(got, *expected, "{permissions}: {case}");
    }
}

#[test]
fn publishing_follows_the_lists() {
    // Allowed subjects, then refused ones.
    for (permissions, good, bad) in [
        ("{publish: foo}", "foo", "bar foo.bar"),
        (r#"{publish: ["foo","bar.*"]}"#, "foo bar.x", "bar.x.y bar"),
        (r#"{publish: "foo.*"}"#, "foo.a foo.>", "foo.a.b *.a"),
        (r#"{publish: {deny: ">"}}"#, "", "a a.b"),
        (
            r#"{publish: {allow: "*.*", deny: ["SYS.*","bar.baz","foo.*"]}}"#,
            "a.b bar.x",
            "SYS.x bar.baz foo.a a a.b.c",
        ),
        (r#"{publish: {allow: "foo", deny: "foo"}}"#, "", "foo"),
        ("{publish: {allow: []}}", "a", ""),
        ("{publish: []}", "a", ""),
        ("{publish: {}}", "a", ""),
        ("{import: foo, export: bar}", "foo", "bar"),
        ("{publish: foo, publish: bar}", "bar", "foo"),
        ("{allow_responses: true}", "", "x"),
        ("{subscribe: q, allow_responses: false}", "y", ""),
        (r#"{publish: "foo.b*r"}"#, "foo.b*r", "foo.bar"),
    ] {
        let mut guard = Guard::new(rules(permissions));
        // Twice: the second time the answer is remembered.
        for _ in 0..2 {
            let mut may = |it: &str| guard.may_publish(it.as_bytes(), Instant::now());
            let words = |text: &'static str| text.split(' ').filter(|it| !it.is_empty());
            words(good).for_each(|it| assert!(may(it), "{permissions}: {it}"));
            words(bad).for_each(|it| assert!(!may(it), "{permissions}: {it}"));
        }
    }
}

#[test]
fn a_subscription_is_allowed_if_all_that_it_can_match_is() {
    check(
        r#"{publish: {deny: ">"}, subscribe: {allow: "client.>"}}"#,
        "client.x",
        &["client.x -> client.x", "client.> -> client.x", "x -> !"],
    );
    check(
        r#"{subscribe: "foo.*"}"#,
        "foo.a",
        &[
            "foo.a -> foo.a",
            "foo.* -> foo.a",
            "foo -> !",
            "foo.a.b -> !",
            "*.a -> !",
            "> -> !",
            "* -> !",
            "foo.* q -> foo.a",
            "foo.a q -> foo.a",
            "foo.> -> !",
            "foo.> q -> !",
            "foo.*.> -> !",
        ],
    );
    check(
        r#"{subscribe: "foo.>"}"#,
        "foo.a",
        &[
            "foo.* -> foo.a",
            "foo.> -> foo.a",
            "foo.*.x -> ",
            "foo -> !",
            "*.a -> !",
            "> -> !",
        ],
    );
    check(r#"{subscribe: ">"}"#, "a", &["> -> a", "* -> a"]);
    check(
        r#"{subscribe: "*"}"#,
        "foo",
        &["foo -> foo", "* -> foo", "a.b -> !", "> -> !"],
    );
    check(
        r#"{subscribe: "foo.*.bar"}"#,
        "foo.a.bar",
        &["foo.> -> !", "foo.*.bar -> foo.a.bar", "foo.*.* -> !"],
    );
    check("{subscribe: []}", "a", &["a -> a", "> q -> a"]);
}

#[test]
fn what_is_denied_is_refused_or_withheld() {
    check(
        "{subscribe: {deny: foo}}",
        "foo bar foo.a",
        &[
            "foo -> !",
            "bar -> bar",
            "* -> bar",
            "> -> bar foo.a",
            "> q -> bar foo.a",
        ],
    );
    check(
        r#"{subscribe: {deny: "foo.*"}}"#,
        "foo.a bar.a foo foo.a.b",
        &[
            "foo.* -> !",
            "foo.> -> !",
            "*.a -> bar.a",
            "> -> bar.a foo foo.a.b",
        ],
    );
    check(
        r#"{subscribe: {deny: "foo.>"}}"#,
        "foo.a bar.a foo",
        &[
            "foo.* -> !",
            "foo.a -> !",
            "foo -> foo",
            "*.* -> bar.a",
            "> -> bar.a foo",
        ],
    );
    check(
        r#"{subscribe: {allow: ["foo.*","bar"], deny: "foo.baz"}}"#,
        "foo.baz foo.x bar",
        &[
            "foo.baz -> !",
            "foo.* -> foo.x",
            "foo.* q -> foo.x",
            "bar -> bar",
        ],
    );
    check(
        r#"{subscribe: {deny: "*.secret"}}"#,
        "a.secret a.pub b.secret.x",
        &[
            "a.* -> a.pub",
            "a.> -> a.pub",
            "*.* -> a.pub",
            "> -> a.pub b.secret.x",
            "*.secret -> !",
        ],
    );
    check(
        r#"{subscribe: {deny: "a.*.c"}}"#,
        "a.b.c a.b.d",
        &["a.> -> a.b.d", "a.b.* -> a.b.d", "*.*.c -> ", "a.b.c -> !"],
    );
    check(
        r#"{subscribe: {allow: ">", deny: "foo.*"}}"#,
        "",
        &["foo.*.> -> ", "foo.> -> !"],
    );
    check(r#"{subscribe: {deny: ">"}}"#, "", &["a -> !", "> -> !"]);
    check(
        "{subscribe: {allow: foo, deny: foo}}",
        "",
        &["foo -> !", "* -> !"],
    );
}

#[test]
fn rules_can_be_for_groups() {
    check(
        r#"{subscribe: "foo q"}"#,
        "foo",
        &["foo -> !", "foo q -> foo", "foo z -> !", "* q -> !"],
    );
    let groups = r#"{subscribe: ["foo","foo v1","foo v1.>","foo *.dev"]}"#;
    check(
        groups,
        "foo",
        &[
            "foo -> foo",
            "foo v1 -> foo",
            "foo v1.a -> foo",
            "foo x.dev -> foo",
            "foo prod -> !",
            "foo v2 -> !",
            "foo dev -> !",
        ],
    );
    check(
        r#"{subscribe: {allow: ["foo","foo v1"], deny: "> *.prod"}}"#,
        "foo",
        &[
            "foo -> foo",
            "foo v1 -> foo",
            "foo x.prod -> !",
            "foo v2 -> !",
        ],
    );
    check(
        r#"{subscribe: {deny: "> *.prod"}}"#,
        "foo",
        &[
            "foo -> foo",
            "foo v1 -> foo",
            "foo x.prod -> !",
            "> x.prod -> !",
            "> ok -> foo",
        ],
    );
    check(
        r#"{subscribe: {deny: "foo q"}}"#,
        "foo bar",
        &[
            "foo -> foo",
            "foo q -> !",
            "foo z -> foo",
            "* q -> bar",
            "* -> foo bar",
        ],
    );
    check(
        r#"{subscribe: {deny: ["foo","bar q"]}}"#,
        "foo bar baz",
        &["foo q -> !", "bar q -> !", "bar -> bar", "> q -> baz"],
    );
    check(r#"{subscribe: "foo >"}"#, "foo", &["foo a.b -> foo"]);
    check(r#"{subscribe: "foo *"}"#, "foo", &["foo a.b -> !"]);
    check(
        r#"{subscribe: {allow: "foo", deny: "foo q*"}}"#,
        "foo",
        &["foo q -> foo", "foo q* -> !", "foo qa -> foo"],
    );
}

#[test]
fn a_delivered_request_may_be_answered_as_often_and_as_long_as_the_rule_says() {
    let start = Instant::now();
    let mut guard = Guard::new(rules("{subscribe: q, allow_responses: true}"));
    assert!(!guard.may_publish(b"inbox", start));
    guard.delivered(b"inbox", start);
    assert!(!guard.may_publish(b"other", start));
    assert!(guard.may_publish(b"inbox", start) && !guard.may_publish(b"inbox", start));
    // Two subscriptions that got the same request do not use up its answer.
    guard.delivered(b"inbox", start);
    guard.delivered(b"inbox", start);
    assert!(guard.may_publish(b"inbox", start) && !guard.may_publish(b"inbox", start));

    let mut guard = Guard::new(rules(
        r#"{subscribe: q, allow_responses: {max: 2, expires: "400ms"}}"#,
    ));
    guard.delivered(b"r", start);
    assert!(guard.may_publish(b"r", start) && guard.may_publish(b"r", start));
    assert!(!guard.may_publish(b"r", start));
    guard.delivered(b"r", start);
    assert!(!guard.may_publish(b"r", start + Duration::from_millis(500)));

    let denied = r#"{publish: {deny: "_INBOX.>"}, allow_responses: {max: -1, expires: "-1s"}}"#;
    let mut guard = Guard::new(rules(denied));
    guard.delivered(b"_INBOX.1", start);
    let late = start + Duration::from_secs(1 << 30);
    assert!((0..100).all(|_| guard.may_publish(b"_INBOX.1", late)));
}

#[test]
fn what_is_remembered_has_a_bound() {
    let unlimited = r#"{publish: x, allow_responses: {max: -1, expires: "-1s"}}"#;
    let mut guard = Guard::new(rules(unlimited));
    let now = Instant::now();
    for number in 0..100_000 {
        let subject = format!("{number}.{}", "x".repeat(number % 300));
        guard.delivered(subject.as_bytes(), now);
        guard.may_publish(subject.as_bytes(), now);
        guard.lets_in(subject.as_bytes(), None);
    }
    let Permits {
        known,
        order,
        bytes,
        ..
    } = &guard.permits;
    assert!(known.len() <= order.len() && order.len() <= limits::RESPONSE_PERMITS_MAX);
    assert!(*bytes <= limits::RESPONSE_PERMIT_BYTES_MAX);
    let remembered = |memo: &Memo| {
        memo.places
            .iter()
            .map(|(it, _)| it.capacity())
            .sum::<usize>()
    };
    assert!(remembered(&guard.publish) <= limits::REMEMBERED_SUBJECTS * 256);
    // The newest can be answered still.
    guard.delivered(b"last", now);
    assert!(guard.may_publish(b"last", now));
}

/// Matching as one would explain it, token by token.
fn matches_slowly(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => matches_slowly(pattern, subject),
        ([token, pattern @ ..], [same, subject @ ..]) if token == same => {
            matches_slowly(pattern, subject)
        }
        _ => false,
    }
}

fn slowly(pattern: &str, subject: &str) -> bool {
    let (pattern, subject): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), subject.split('.').collect());
    matches_slowly(&pattern, &subject)
}

struct Random(Rng);

impl Random {
    fn subject(&mut self, wild: bool) -> String {
        let words: &[&str] = if wild {
            &["a", "b", "*", "*"]
        } else {
            &["a", "b", "c"]
        };
        let count = 1 + self.0.below(3);
        let mut tokens: Vec<&str> = (0..count)
            .map(|_| words[self.0.below(words.len())])
            .collect();
        if wild && self.0.below(4) == 0 {
            tokens[count - 1] = ">";
        }
        tokens.join(".")
    }

    fn list(&mut self, queues: bool) -> Vec<String> {
        (0..self.0.below(4))
            .map(|_| match (queues, self.0.below(3)) {
                (true, 0) => format!(
                    "{} {}",
                    self.subject(true),
                    ["q", "*", "q.>"][self.0.below(3)]
                ),
                _ => self.subject(true),
            })
            .collect()
    }
}

#[test]
fn random_rules_agree_with_the_model() {
    let (mut random, now) = (Random(Rng::seeded(2027)), Instant::now());
    // 40 000 rounds are a million checks: some seconds without optimisation.
    let rounds = std::env::var("MIDGE_ROUNDS").map_or(4_000, |it| it.parse().unwrap());
    for round in 0..rounds {
        let (allow, deny) = (random.list(true), random.list(true));
        let source = Permissions {
            publish: config::options::SubjectRules {
                allow: (random.0.below(3) > 0).then(|| random.list(false)),
                deny: random.list(false),
            },
            subscribe: config::options::SubjectRules {
                allow: Some(allow).filter(|allow| !allow.is_empty()),
                deny,
            },
            allow_responses: None,
        };
        let rules = Arc::new(Rules::new(&Arc::new(source.clone())));
        let mut guard = Guard::new(Arc::clone(&rules));
        let (pattern, queue) = (
            random.subject(random.0.clone().below(2) == 0),
            [None, Some("q"), Some("q.x"), Some("z")][random.0.below(4)],
        );
        let admission = rules.may_subscribe(pattern.as_bytes(), queue.map(str::as_bytes));
        for _ in 0..25 {
            let subject = random.subject(false);
            let context = format!("round {round}: {source:?}, {pattern} {queue:?}, {subject}");
            // Publishing: the definition itself.
            let hits = |list: &[String]| list.iter().any(|it| slowly(it, &subject));
            let allowed = source.publish.allow.as_deref().is_none_or(hits);
            let expected = allowed && !hits(&source.publish.deny);
            assert_eq!(
                guard.may_publish(subject.as_bytes(), now),
                expected,
                "{context}"
            );
            // Subscribing: nothing denied or not allowed gets through, and nothing else is withheld.
            if admission == Admission::Refused || !slowly(&pattern, &subject) {
                continue;
            }
            let lets_in = admission == Admission::Free
                || guard.lets_in(subject.as_bytes(), queue.map(str::as_bytes));
            let is_for = |words: &[&str]| match (words, queue) {
                ([_], _) => true,
                ([_, wanted], Some(queue)) => slowly(wanted, queue),
                _ => false,
            };
            let hits = |it: &String| {
                let words: Vec<&str> = it.split(' ').collect();
                slowly(words[0], &subject) && is_for(&words)
            };
            assert_eq!(
                lets_in,
                !source.subscribe.deny.iter().any(hits),
                "{context}"
            );
            let allow = source.subscribe.allow.as_ref();
            assert!(
                allow.is_none_or(|allow| allow.iter().any(hits)),
                "{context}"
            );
        }
    }
}
