//! One side of a route at a time, against what the other one may say.

use super::*;
use crate::proto::info::ServerInfo;
use crate::proto::route::RouteParser;
use crate::session::Authenticator;

struct World {
    options: Options,
    facts: ClusterFacts,
    route: Route,
    parser: RouteParser,
}

fn facts(name: &str, is_dynamic: bool) -> ClusterFacts {
    ClusterFacts {
        info: RouteInfo {
            server_id: "OWN".into(),
            cluster: Some(name.into()),
            is_dynamic,
            pool_size: Some(3),
            ..RouteInfo::own()
        },
        ..ClusterFacts::default()
    }
}

impl World {
    fn new(side: Side) -> Self {
        World {
            options: Options::default(),
            facts: facts("C1", false),
            route: Route::new(5, ([127, 0, 0, 1], 6222).into(), side, "nonce"),
            parser: RouteParser::default(),
        }
    }

    fn dialled() -> Self {
        World::new(Side::Dialled(Box::new(Dial {
            user: Some("u".into()),
            password: Some(Secret::new("p")),
            pool_index: 2,
            ..Dial::default()
        })))
    }

    /// Feeds the text; gives what is answered, the last action, and how it ended if it did.
    fn say(&mut self, text: &str) -> (String, String, Option<CloseReason>) {
        let (info, auth) = (ServerInfo::default(), Authenticator::new(&self.options));
        let context = Context {
            options: &self.options,
            info: &info,
            auth: &auth,
            now: Instant::now(),
        };
        let (mut rest, mut out, mut last) = (text.as_bytes(), Vec::new(), String::new());
        let mut reason = None;
        while reason.is_none() {
            let limits = self.route.parser_limits(&self.options);
            let step = self.parser.next(rest, &limits).expect("good frames");
            let Some(frame) = step.frame else { break };
            match self.route.on_frame(&frame, &context, &self.facts, &mut out) {
                Ok(action) => last = format!("{action:?}"),
                Err(error) => reason = Some(error),
            }
            rest = &rest[step.consumed..];
        }
        (String::from_utf8(out).unwrap(), last, reason)
    }
}

const CONNECT: &str = "CONNECT {\"cluster\":\"C1\"}\r\n";

#[test]
fn whoever_accepts_speaks_first_and_whoever_dials_connects_at_once() {
    let mut out = Vec::new();
    World::new(Side::Accepted)
        .route
        .greet(&facts("C1", false), Instant::now(), &mut out);
    let info = String::from_utf8(std::mem::take(&mut out)).unwrap();
    assert!(info.starts_with("INFO {\"server_id\":\"OWN\""));
    assert!(
        info.contains("\"nonce\":\"nonce\",\"cluster\":\"C1\"") && !info.contains("route_pool_idx")
    );
    World::dialled()
        .route
        .greet(&facts("C1", true), Instant::now(), &mut out);
    let connect = String::from_utf8(out).unwrap();
    let login = r#""user":"u","pass":"p","#;
    assert!(
        connect.starts_with("CONNECT {\"echo\":true,\"verbose\":false") && connect.contains(login)
    );
    assert!(connect.contains(r#""name":"OWN","cluster":"C1","cluster_dynamic":true"#));
}

#[test]
fn a_server_is_introduced_by_its_info_and_says_its_own_when_admitted() {
    let mut world = World::new(Side::Accepted);
    assert_eq!(world.say(&format!("{CONNECT}PING\r\n")).0, "PONG\r\n");
    let (_, action, _) = world.say(
        "INFO {\"server_id\":\"X\",\"port\":1,\"route_pool_idx\":1,\"route_pool_size\":3}\r\n",
    );
    assert!(
        action.contains("Introduced") && action.contains("pool_index: 1"),
        "{action}"
    );
    assert!(world.route.is_waiting() && world.route.is_stranger());
    let mut out = Vec::new();
    world.route.admit(&world.facts, Instant::now(), &mut out);
    assert!(out.is_empty() && world.route.is_admitted() && !world.route.is_waiting());

    let mut world = World::dialled();
    assert!(
        world
            .say("INFO {\"server_id\":\"X\",\"port\":1}\r\n")
            .1
            .contains("Introduced")
    );
    world.route.admit(&world.facts, Instant::now(), &mut out);
    let said = String::from_utf8(out).unwrap();
    assert!(
        said.contains("\"route_pool_size\":3,\"route_pool_idx\":2}") && said.ends_with("PING\r\n")
    );
    assert!(
        world.say("PONG\r\n").1.contains("Answered")
            && !world.say("PONG\r\n").1.contains("Answered")
    );
    assert!(world.route.rtt().is_some());
}

#[test]
fn connect_must_come_first_and_from_a_server_of_this_cluster() {
    for (text, told, reason) in [
        (
            "PING\r\n",
            "'Authorization Violation'",
            CloseReason::AuthenticationFailure,
        ),
        (
            "INFO {}\r\n",
            "'Authorization Violation'",
            CloseReason::AuthenticationFailure,
        ),
        ("CONNECT {\r\n", "", CloseReason::ProtocolViolation),
        (
            "CONNECT {\"lang\":\"rust\"}\r\n",
            "'attempted to connect to route port'",
            CloseReason::IncorrectPort,
        ),
        (
            "CONNECT {\"gateway\":\"X\",\"cluster\":\"C1\"}\r\n",
            "'Rejecting connection from gateway \"X\" on the Route port'",
            CloseReason::IncorrectPort,
        ),
        (
            "CONNECT {\"cluster\":\"C2\",\"cluster_dynamic\":true}\r\n",
            "'Rejecting connection, cluster name \"C2\" does not match \"C1\"'",
            CloseReason::ClusterNameConflict,
        ),
        (
            "CONNECT {\"cluster\":\"_\"}\r\n",
            "'Rejecting connection, cluster name \"_\" is reserved'",
            CloseReason::ClusterNameConflict,
        ),
        (
            "CONNECT {\"cluster\":\"C1\"}\r\n-ERR 'x'\r\n",
            "",
            CloseReason::ParseError,
        ),
        (
            "CONNECT {\"cluster\":\"C1\"}\r\nRS+ $G a\r\n",
            "",
            CloseReason::ProtocolViolation,
        ),
        (
            "CONNECT {\"cluster\":\"C1\"}\r\nINFO {}\r\n",
            "",
            CloseReason::ProtocolViolation,
        ),
    ] {
        let (out, _, ended) = World::new(Side::Accepted).say(text);
        let told = if told.is_empty() {
            String::new()
        } else {
            format!("-ERR {told}\r\n")
        };
        assert_eq!((out, ended), (told, Some(reason)), "{text}");
    }
}

#[test]
fn a_made_up_name_yields_and_the_password_counts() {
    let mut world = World::new(Side::Accepted);
    world.facts = facts("zz", true);
    assert_eq!(world.say(CONNECT).2, None);
    let mut world = World::new(Side::Accepted);
    world.options.cluster.user = Some("u".into());
    world.options.cluster.password = Some(Secret::new("p"));
    assert_eq!(
        world.say(CONNECT).2,
        Some(CloseReason::AuthenticationFailure)
    );
    let mut again = World::new(Side::Accepted);
    again.options = world.options.clone();
    let connect = "CONNECT {\"cluster\":\"C1\",\"user\":\"u\",\"pass\":\"p\"}\r\n";
    assert_eq!(again.say(connect).2, None);
}

#[test]
fn later_infos_tell_of_others_and_of_changes() {
    let mut world = World::dialled();
    world.say("INFO {\"server_id\":\"X\",\"port\":1}\r\n");
    world
        .route
        .admit(&world.facts, Instant::now(), &mut Vec::new());
    for (text, expected) in [
        (
            r#"{"server_id":"Y","port":2,"ip":"nats-route://a:2/"}"#,
            "Heard",
        ),
        (r#"{"server_id":"X","port":1,"ldm":true}"#, "LameDuck"),
        (
            r#"{"server_id":"X","port":1,"export":{"allow":["a"]}}"#,
            "Repeat",
        ),
        (
            r#"{"server_id":"X","port":1,"export":{"allow":["a"]}}"#,
            "Nothing",
        ),
        (
            r#"{"server_id":"","route_account":"A","route_acc_add_reqid":"r"}"#,
            "Forget(\"A\")",
        ),
        (r#"{"server_id":"GW","gateway":"G"}"#, "Nothing"),
        (r#"{"server_id":""}"#, "Nothing"),
    ] {
        let (out, action, reason) = world.say(&format!("INFO {text}\r\n"));
        assert!(
            action.contains(expected) && reason.is_none(),
            "{text}: {action}"
        );
        assert_eq!(
            out.contains("\"route_acc_add_reqid\":\"r\""),
            expected.starts_with("Forget")
        );
        assert!(!out.contains("route_account"));
    }
}

#[test]
fn a_name_that_was_made_up_gives_way_as_soon_as_another_one_is_heard() {
    let mut world = World::new(Side::Accepted);
    world.facts = facts("B", true);
    let (answer, action, reason) = world.say("CONNECT {\"cluster\":\"A\"}\r\n");
    assert_eq!((answer.as_str(), reason), ("", None));
    assert!(action.contains("Named { cluster: \"A\""), "{action}");
    let mut world = World::new(Side::Accepted);
    world.facts = facts("B", true);
    let connect = "CONNECT {\"cluster\":\"A\",\"cluster_dynamic\":true}\r\n";
    let (answer, _, reason) = world.say(connect);
    assert!(answer.contains("cluster name \"A\" does not match \"B\""));
    assert_eq!(reason, Some(CloseReason::ClusterNameConflict));
}

/// What INFO says of compression.
fn told(out: &str) -> Option<&str> {
    let (_, rest) = out.split_once("\"compression\":\"")?;
    Some(rest.split('"').next().unwrap_or_default())
}

#[test]
fn servers_that_compress_say_hello_twice() {
    let mut world = World::new(Side::Accepted);
    world.facts.compression.mode = CompressionMode::Better;
    let mut out = Vec::new();
    world.route.greet(&world.facts, Instant::now(), &mut out);
    assert_eq!(told(&String::from_utf8_lossy(&out)), Some("s2_better"));
    let info = "INFO {\"server_id\":\"X\",\"port\":1,\"compression\":\"accept\"}\r\n";
    let (said, action, ended) = world.say(&format!("{CONNECT}{info}"));
    assert_eq!(
        (said.as_str(), action.as_str(), ended),
        ("", "Compress", None)
    );
    assert_eq!(world.route.level(), Some(Level::Better));
    assert!(world.route.is_overdue());
    out.clear();
    world.route.greet_compressed(&world.facts, &mut out);
    let again = String::from_utf8(out).unwrap();
    assert!(again.starts_with("INFO {") && told(&again) == Some("s2_better"));
    // What it says there decides nothing any more.
    let info = info.replace("accept", "bogus");
    assert!(world.say(&info).1.contains("Introduced"));

    let mut world = World::dialled();
    let info = info.replace("bogus", "s2_best");
    let (said, action, _) = world.say(&info);
    assert_eq!(
        (told(&said), action.as_str()),
        (Some("s2_best"), "Compress")
    );
    assert!(!said.contains("route_pool_idx"), "{said}");
    let mut out = Vec::new();
    world.route.greet_compressed(&world.facts, &mut out);
    assert!(out.is_empty() && world.say(&info).1.contains("Introduced"));
    world.route.admit(&world.facts, Instant::now(), &mut out);
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains("\"route_pool_idx\":2") && told(&said) == Some("s2_best"));
}

#[test]
fn servers_of_which_one_does_not_compress_say_so() {
    for (mode, other, greeting, agreed) in [
        (CompressionMode::Accept, "\"accept\"", Some("accept"), "off"),
        (
            CompressionMode::Accept,
            "null",
            Some("accept"),
            "not supported",
        ),
        (CompressionMode::Fast, "\"off\"", Some("s2_fast"), "off"),
        (CompressionMode::Off, "\"s2_fast\"", Some("off"), "off"),
        (CompressionMode::Off, "\"bogus\"", Some("off"), "off"),
        (
            CompressionMode::NotSupported,
            "\"s2_fast\"",
            None,
            "not supported",
        ),
    ] {
        for mut world in [World::new(Side::Accepted), World::dialled()] {
            world.facts.compression.mode = mode;
            let mut out = Vec::new();
            world.route.greet(&world.facts, Instant::now(), &mut out);
            let is_accepted = *world.route.side() == Side::Accepted;
            let said = String::from_utf8(std::mem::take(&mut out)).unwrap();
            assert_eq!(told(&said), greeting.filter(|_| is_accepted), "{mode:?}");
            if is_accepted {
                world.say(CONNECT);
            }
            let info = format!("INFO {{\"server_id\":\"X\",\"compression\":{other}}}\r\n");
            let (_, action, _) = world.say(&info);
            assert!(action.contains("Introduced"), "{mode:?}: {action}");
            let agreement = world.route.agreement().map(Agreement::name);
            assert_eq!(agreement, Some(agreed), "{mode:?} {other}");
            world.route.admit(&world.facts, Instant::now(), &mut out);
            let said = String::from_utf8(out).unwrap();
            assert_eq!(told(&said), Some(agreed).filter(|_| !is_accepted));
        }
    }
    let mut world = World::dialled();
    let (said, _, ended) = world.say("INFO {\"server_id\":\"X\",\"compression\":\"bogus\"}\r\n");
    let text = "-ERR 'unsupported route compression mode \"bogus\"'\r\n";
    assert_eq!(
        (said.as_str(), ended),
        (text, Some(CloseReason::ProtocolViolation))
    );
}

#[test]
fn who_was_told_of_other_settings_of_compression_comes_again() {
    for (mut world, may_stay) in [
        (World::new(Side::Accepted), false),
        (World::dialled(), true),
    ] {
        world.facts.compression.mode = CompressionMode::Off;
        assert!(world.route.renew_compression(&world.facts));
        let mut out = Vec::new();
        world.route.greet(&world.facts, Instant::now(), &mut out);
        // What a dialled server is told comes after its INFO.
        let is_told = told(&String::from_utf8_lossy(&out)) == Some("off");
        assert_eq!(is_told, !may_stay);
        world.facts.compression.mode = CompressionMode::Fast;
        assert_eq!(world.route.renew_compression(&world.facts), may_stay);
    }
}

#[test]
fn each_answer_to_a_ping_may_change_how_much_is_compressed() {
    let mut world = World::dialled();
    world.facts.compression.mode = CompressionMode::Auto;
    let info = "INFO {\"server_id\":\"X\",\"port\":1,\"compression\":\"accept\"}\r\n";
    let (said, _, _) = world.say(info);
    assert_eq!(told(&said), Some("s2_auto"));
    assert_eq!(world.route.level(), Some(Level::Uncompressed));
    world.say(info);
    world
        .route
        .admit(&world.facts, Instant::now(), &mut Vec::new());
    let hour = Duration::from_secs(3600);
    world.facts.compression.rtt_thresholds = vec![Duration::ZERO, Duration::ZERO, hour];
    assert_eq!(world.route.level(), Some(Level::Uncompressed));
    world.say("PONG\r\n");
    assert_eq!(world.route.level(), Some(Level::Better));
    assert_eq!(
        world.route.agreement().map(Agreement::name),
        Some("s2_better")
    );
}

#[test]
fn what_servers_add_to_the_largest_message_of_a_client_does_not_count() {
    let mut world = World::dialled();
    world.route.stage = Stage::Admitted;
    // A hop of a trace, or who asks a service.
    let added = 16 * 1024;
    for max_payload in [1 << 20, limits::ROUTE_PAYLOAD_MAX, 100 << 20] {
        world.options.max_payload = max_payload;
        let taken = world.route.parser_limits(&world.options).max_payload;
        assert!(taken >= max_payload.max(limits::ROUTE_PAYLOAD_MAX) + added);
    }
}
