//! The monitoring port: what its pages say, against the reference server too where there is one.

mod support;

use serde_json::{Value, json};

use support::connection::Connection;
use support::http::{Response, exchange, get, get_until, request, secure_get};
use support::server::{Server, Start};
use support::tls::Tls;
use support::{DEADLINE, Program, midge, programs, wait_for};

/// A server with three clients: the first one subscribes, the second one publishes, the third one is just there.
struct Fixture {
    server: Server,
    k1: Connection,
    k2: Connection,
    k3: Option<Connection>,
    /// Subscriptions before there was any client.
    subscriptions: u64,
}

fn client(server: &Server, name: &str) -> Connection {
    let mut client = server.client(&format!(",\"name\":\"{name}\""));
    settle(&mut client);
    client
}

/// Waits until all that the client has sent is done.
fn settle(client: &mut Connection) {
    client.send(b"PING\r\n");
    while client.take_line().expect("an answer") != b"PONG\r\n" {}
}

fn fixture(program: Program, conf: &str) -> Option<Fixture> {
    let path = program.path()?;
    let start = Start::new(&path).arg("-m").arg("-1");
    let conf = format!("server_name: p1\n{conf}");
    let server = start.conf(&conf).started();
    let base = if conf.contains("http_base_path") {
        "/nats"
    } else {
        ""
    };
    // Its own socket closed, whoever looked whether it was there is not counted any more.
    let varz = get(server.monitor(), &format!("{base}/varz")).json();
    let subscriptions = varz["subscriptions"].as_u64().expect("a number");
    let mut k1 = client(&server, "k1");
    k1.send(b"SUB foo.> 1\r\nSUB bar 2\r\nSUB q.* grp 3\r\n");
    settle(&mut k1);
    let mut k2 = client(&server, "k2");
    let publish = b"PUB foo.x 5\r\nhello\r\n".repeat(3);
    k2.send(&[&publish, &b"PUB bar 3\r\nabc\r\n"[..]].concat());
    settle(&mut k2);
    let k3 = Some(client(&server, "k3"));
    for _ in 0..4 {
        k1.take_line().expect("a delivery");
        k1.take_line().expect("its payload");
    }
    Some(Fixture {
        server,
        k1,
        k2,
        k3,
        subscriptions,
    })
}

impl Fixture {
    fn get(&self, target: &str) -> Response {
        get(self.server.monitor(), target)
    }

    fn json(&self, target: &str) -> Value {
        let response = self.get(target);
        assert_eq!(response.status, 200, "{target}: {}", response.body);
        response.json()
    }

    fn cid_of(&self, name: &str) -> u64 {
        let page = self.json("/connz");
        let all = page["connections"].as_array().expect("a list");
        let found = all.iter().find(|it| it["name"] == name);
        found.expect("it is there")["cid"]
            .as_u64()
            .expect("a number")
    }
}

/// Runs a check against midge, and against the reference server where there is one.
fn on_both(conf: &str, check: impl Fn(&mut Fixture)) {
    for program in [Program::Reference, Program::Midge] {
        if let Some(mut fixture) = fixture(program, conf) {
            check(&mut fixture);
        }
    }
}

fn names(page: &Value) -> Vec<String> {
    let all = page["connections"].as_array().expect("a list").iter();
    all.map(|it| it["name"].as_str().unwrap_or("?").to_owned())
        .collect()
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The names of the fields of the outermost object, in the order of the text.
fn keys_in_order(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.starts_with("  \""));
    lines
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next())
        .collect()
}

#[test]
fn healthz_is_compact_and_open_to_scripts() {
    on_both("", |it| {
        let response = it.get("/healthz");
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, r#"{"status":"ok"}"#)
        );
        assert_eq!(response.field("content-type"), "application/json");
        assert_eq!(response.field("access-control-allow-origin"), "*");
    });
}

#[test]
fn the_root_page_links_to_the_others() {
    on_both("", |it| {
        let response = it.get("/?whatever");
        assert_eq!(response.status, 200);
        assert_eq!(response.field("content-type"), "text/html; charset=utf-8");
        assert_eq!(response.field("access-control-allow-origin"), "");
        let paths =
            "varz jsz connz accountz accstatz subsz routez leafz gatewayz raftz healthz debug/vars";
        let mut rest = response.body.as_str();
        for path in paths.split(' ') {
            let link = format!("href=./{path}");
            let at = rest
                .find(&link)
                .unwrap_or_else(|| panic!("no {link} in its place"));
            rest = rest.get(at + link.len()..).expect("inside the text");
        }
    });
}

#[test]
fn paths_are_exact_and_methods_do_not_matter() {
    on_both("", |it| {
        let missing = it.get("/nosuch");
        assert_eq!(
            (missing.status, missing.body.as_str()),
            (404, "404 page not found\n")
        );
        assert_eq!(missing.field("content-type"), "text/plain; charset=utf-8");
        assert_eq!(missing.field("x-content-type-options"), "nosniff");
        for path in ["/varz/", "/VARZ", "/healthz/x"] {
            assert_eq!(it.get(path).status, 404, "{path}");
        }
        let monitor = it.server.monitor();
        let head = request(monitor, "HEAD", "/varz", "", "");
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.field("content-type"), "application/json");
        let post = request(monitor, "POST", "/connz", "", "limit=1");
        assert_eq!((post.status, &post.json()["limit"]), (200, &json!(1024)));
        let moved = it.get("//x/../varz?a=b");
        assert_eq!((moved.status, moved.field("location")), (307, "/varz?a=b"));
        assert_eq!(it.get("/%68ealthz").status, 200);
    });
}

#[test]
fn varz_counts_messages_clients_and_requests() {
    on_both("", |it| {
        let response = it.get("/varz");
        let varz = response.json();
        assert_eq!(varz["server_name"], "p1");
        assert_eq!(
            (&varz["connections"], &varz["total_connections"]),
            (&json!(3), &json!(3))
        );
        for name in ["in_msgs", "out_msgs", "in_client_msgs", "out_client_msgs"] {
            assert_eq!(varz[name], 4, "{name}");
        }
        for name in [
            "in_bytes",
            "out_bytes",
            "in_client_bytes",
            "out_client_bytes",
        ] {
            assert_eq!(varz[name], 18, "{name}");
        }
        assert_eq!(varz["subscriptions"], it.subscriptions + 3);
        assert_eq!(
            (&varz["cluster"], &varz["jetstream"]),
            (&json!({}), &json!({}))
        );
        assert_eq!(varz["max_payload"], 1_048_576);
        assert_eq!(varz.get("auth_required"), None);
        assert!(
            response.body.starts_with("{\n  \"server_id\": \"N"),
            "{}",
            response.body
        );
        assert!(response.body.ends_with('}'));
        let count = |varz: &Value| varz["http_req_stats"]["/varz"].as_u64().expect("a number");
        assert_eq!(count(&it.json("/varz")), count(&varz) + 1);
        assert_eq!(varz["http_req_stats"].get("/connz"), None);
    });
}

#[test]
fn varz_shows_what_a_zero_stands_for() {
    let zeros = "max_connections: 0, ping_max: 0, ping_interval: \"0s\", write_deadline: \"0s\", max_control_line: 0, \
                 max_payload: 0, max_pending: 0\nauthorization {user: a, password: b, timeout: 0}";
    let fields = [
        ("max_connections", json!(-1)),
        ("ping_max", json!(2)),
        ("ping_interval", json!(120_000_000_000_u64)),
        ("write_deadline", json!(10_000_000_000_u64)),
        ("max_control_line", json!(4096)),
        ("max_payload", json!(1_048_576)),
        ("max_pending", json!(67_108_864)),
        ("auth_timeout", json!(2)),
    ];
    for program in programs() {
        let start = Start::new(&program).arg("-m").arg("-1");
        let server = start.conf(zeros).started();
        let varz = get(server.monitor(), "/varz").json();
        for (field, value) in &fields {
            assert_eq!(varz[field].as_f64(), value.as_f64(), "{field}");
        }
    }
}

#[test]
fn connz_lists_clients_by_number() {
    on_both("", |it| {
        let page = it.json("/connz");
        assert_eq!(
            (&page["num_connections"], &page["total"]),
            (&json!(3), &json!(3))
        );
        assert_eq!((&page["offset"], &page["limit"]), (&json!(0), &json!(1024)));
        assert_eq!(names(&page), ["k1", "k2", "k3"]);
        let [k1, k2] = [0, 1].map(|at| &page["connections"][at]);
        assert_eq!(
            (&k1["kind"], &k1["type"]),
            (&json!("Client"), &json!("nats"))
        );
        assert_eq!(
            (&k1["subscriptions"], &k1["out_msgs"]),
            (&json!(3), &json!(4))
        );
        assert_eq!(k2["in_bytes"], 18);
        for absent in ["subscriptions_list", "authorized_user", "account", "stop"] {
            assert_eq!(k1.get(absent), None, "{absent}");
        }
    });
}

#[test]
fn connz_lists_subscriptions_where_it_is_asked_to() {
    on_both("", |it| {
        let response = it.get("/connz?subs=1");
        let page = response.json();
        let list = page["connections"][0]["subscriptions_list"].as_array();
        let mut list: Vec<&str> = list
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        list.sort_unstable();
        assert_eq!(list, ["bar", "foo.>", "q.*"]);
        assert!(
            response.body.contains("\"foo.\\u003e\""),
            "{}",
            response.body
        );
        assert_eq!(page["connections"][1].get("subscriptions_list"), None);
        let page = it.json("/connz?subs=detail");
        let k1 = &page["connections"][0];
        let list = k1["subscriptions_list_detail"].as_array().expect("a list");
        let find = |subject: &str| {
            list.iter()
                .find(|it| it["subject"] == subject)
                .expect("it is listed")
        };
        let wanted = json!({"subject": "foo.>", "sid": "1", "msgs": 3, "cid": k1["cid"]});
        assert_eq!(find("foo.>"), &wanted);
        assert_eq!(find("bar")["msgs"], 1);
        assert_eq!(find("q.*")["qgroup"], "grp");
    });
}

#[test]
fn connz_pages_sorts_and_selects() {
    on_both("", |it| {
        let page = it.json("/connz?limit=1&offset=1");
        assert_eq!(names(&page), ["k2"]);
        let counts = ["num_connections", "total", "offset", "limit"].map(|name| page[name].clone());
        assert_eq!(counts, [1, 3, 1, 1]);
        let page = it.json("/connz?offset=100");
        assert_eq!(
            (&page["connections"], &page["total"]),
            (&json!([]), &json!(3))
        );
        let beyond = it.json("/connz?offset=9223372036854775807&limit=9223372036854775807");
        assert_eq!(beyond["connections"], json!([]));
        assert_eq!(names(&it.json("/connz?sort=msgs_to"))[0], "k1");
        assert_eq!(names(&it.json("/connz?sort=bytes_from"))[0], "k2");
        assert_eq!(names(&it.json("/connz?sort=uptime")), ["k3", "k2", "k1"]);
        let page = it.json(&format!("/connz?cid={}", it.cid_of("k2")));
        assert_eq!(
            (names(&page), &page["limit"], &page["total"]),
            (vec!["k2".into()], &json!(1), &json!(3))
        );
        assert_eq!(it.json("/connz?cid=99999")["connections"], json!([]));
        let callback = it.get("/connz?callback=cb");
        assert_eq!(callback.field("content-type"), "application/json");
        assert!(callback.json().is_object());
    });
}

#[test]
fn what_a_parameter_cannot_be_is_told() {
    on_both("", |it| {
        let prefix = "Error decoding";
        for (target, text) in [
            (
                "/connz?limit=abc",
                format!("{prefix} int for 'limit': strconv.Atoi: parsing \"abc\": invalid syntax"),
            ),
            (
                "/connz?auth=yes",
                format!(
                    "{prefix} boolean for 'auth': strconv.ParseBool: parsing \"yes\": invalid syntax"
                ),
            ),
            (
                "/connz?cid=-1",
                format!(
                    "{prefix} uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax"
                ),
            ),
            (
                "/connz?limit=9223372036854775808",
                format!(
                    "{prefix} int for 'limit': strconv.Atoi: parsing \"9223372036854775808\": value out of range"
                ),
            ),
            ("/connz?sort=bad", "invalid sorting option: bad".into()),
            (
                "/connz?sort=stop",
                "sort by stop only valid on closed connections".into(),
            ),
            ("/connz?state=bogus", format!("{prefix} state for bogus")),
            (
                "/subsz?test=foo.*",
                "invalid test subject, must be valid publish subject: foo.*".into(),
            ),
            ("/accountz?acc=nope", "Account nope does not exist".into()),
        ] {
            let response = it.get(target);
            assert_eq!((response.status, response.body), (400, text), "{target}");
            let open = response
                .fields
                .iter()
                .any(|(name, _)| name == "access-control-allow-origin");
            assert!(!open, "{target}");
        }
    });
}

#[test]
fn closed_connections_are_remembered_with_their_reason() {
    on_both("", |it| {
        it.k3 = None;
        let page = get_until(it.server.monitor(), "/connz?state=closed", |page| {
            page["total"] == 1
        });
        let k3 = &page["connections"][0];
        assert_eq!(
            (&k3["name"], &k3["reason"]),
            (&json!("k3"), &json!("Client Closed"))
        );
        assert!(k3["stop"].is_string() && page["num_connections"] == 1);
        let page = it.json("/connz?state=any");
        assert_eq!(
            (names(&page), &page["total"]),
            (vec!["k1".into(), "k2".into(), "k3".into()], &json!(3))
        );
        // What was wrong is told apart.
        it.k2.send(b"NONSENSE\r\n");
        let page = get_until(
            it.server.monitor(),
            "/connz?state=closed&sort=stop",
            |page| page["total"] == 2,
        );
        assert_eq!(page["connections"][0]["reason"], "Protocol Violation");
        it.k1.finish_sending();
        let page = get_until(
            it.server.monitor(),
            "/connz?state=closed&sort=stop&subs=1",
            |page| page["total"] == 3,
        );
        let list = page["connections"][0]["subscriptions_list"].as_array();
        assert_eq!(list.map(Vec::len), Some(3));
    });
}

#[test]
fn routez_is_empty_without_a_cluster() {
    on_both("", |it| {
        let response = it.get("/routez");
        assert_eq!(
            keys_in_order(&response.body),
            ["server_id", "server_name", "now", "num_routes", "routes"]
        );
        let page = response.json();
        assert_eq!(
            (&page["num_routes"], &page["routes"]),
            (&json!(0), &json!([]))
        );
    });
}

#[test]
fn subsz_counts_and_finds_subscriptions() {
    on_both("", |it| {
        let response = it.get("/subsz");
        let wanted = "server_id now num_subscriptions num_cache num_inserts num_removes num_matches cache_hit_rate \
            max_fanout avg_fanout total offset limit";
        assert_eq!(keys_in_order(&response.body).join(" "), wanted);
        let page = response.json();
        assert_eq!(
            (&page["total"], &page["num_subscriptions"]),
            (&json!(0), &json!(it.subscriptions + 3))
        );
        let page = it.json("/subsz?subs=1&test=foo.bar");
        let cid = it.cid_of("k1");
        let wanted = json!([{"account": "$G", "account_tag": "$G", "subject": "foo.>", "sid": "1", "msgs": 3, "cid": cid}]);
        assert_eq!(
            (&page["total"], &page["subscriptions_list"]),
            (&json!(1), &wanted)
        );
        let page = it.json("/subscriptionsz?subs=1&acc=$G&limit=1&offset=1&test=q.x");
        assert_eq!(
            (&page["total"], page.get("subscriptions_list")),
            (&json!(1), None)
        );
    });
}

#[test]
fn healthz_answers_for_what_is_not_there() {
    on_both("", |it| {
        for (target, status, body) in [
            (
                "/healthz?stream=S",
                400,
                r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#,
            ),
            (
                "/healthz?stream=S&details=true",
                400,
                r#"{"status":"error","errors":[{"type":"BAD_REQUEST","error":"\"account\" must not be empty when checking stream health"}]}"#,
            ),
            ("/healthz?js-enabled-only=true", 200, r#"{"status":"ok"}"#),
            ("/healthz?account=A&stream=S", 200, r#"{"status":"ok"}"#),
        ] {
            let response = it.get(target);
            assert_eq!(
                (response.status, response.body.as_str()),
                (status, body),
                "{target}"
            );
        }
    });
}

const ACCOUNTS: &str = "system_account: SYS
accounts {
    A: { users: [{user: a1, password: p}, {user: a2, password: p}] }
    B: { users: [{user: b1, password: p}] }
    SYS: { users: [{user: s, password: p}] }
}\n";

#[test]
fn accounts_show_where_they_are_asked_for() {
    for program in [Program::Reference, Program::Midge] {
        let Some(path) = program.path() else { continue };
        let server = Start::new(&path)
            .arg("-m")
            .arg("-1")
            .conf(ACCOUNTS)
            .started();
        let login = |user: &str| {
            let mut client = server.client(&format!(
                ",\"name\":\"{user}\",\"user\":\"{user}\",\"pass\":\"p\""
            ));
            settle(&mut client);
            client
        };
        let _clients = ["a1", "a2", "b1"].map(login);
        let page = get(server.monitor(), "/connz?auth=1").json();
        let find = |user: &str| {
            let all = page["connections"].as_array().expect("a list");
            all.iter()
                .find(|it| it["authorized_user"] == user)
                .expect("it is there")
        };
        assert_eq!(
            (&find("a1")["account"], &find("a1")["name_tag"]),
            (&json!("A"), &json!("A"))
        );
        assert_eq!(find("b1")["account"], "B");
        let varz = get(server.monitor(), "/varz").json();
        assert_eq!(
            (&varz["auth_required"], &varz["system_account"]),
            (&json!(true), &json!("SYS"))
        );
        let page = get(server.monitor(), "/connz?acc=nope");
        assert_eq!(page.status, 200);
        let page = page.json();
        assert_eq!(
            (&page["server_id"], &page["connections"], &page["total"]),
            (&json!(""), &Value::Null, &json!(0))
        );
        assert_eq!(
            names(&get(server.monitor(), "/connz?acc=A&user=a2").json()),
            ["a2"]
        );
        let accounts = get(server.monitor(), "/accstatz").json();
        let mut found: Vec<&str> = accounts["account_statz"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|it| it["acc"].as_str())
            .collect();
        found.sort_unstable();
        assert_eq!(found, ["A", "B"]);
        // A login that failed is remembered under the name that it claimed.
        let mut stranger = server.client(",\"user\":\"a1\",\"pass\":\"wrong\"");
        stranger
            .take(b"-ERR 'Authorization Violation'\r\n")
            .expect("a refusal");
        let page = get_until(server.monitor(), "/connz?state=closed&auth=1", |page| {
            page["total"] == 1
        });
        let it = &page["connections"][0];
        assert_eq!(
            (&it["reason"], &it["authorized_user"]),
            (&json!("Authentication Failure"), &json!("a1"))
        );
    }
}

#[test]
fn a_base_path_stands_before_every_page() {
    on_both("http_base_path: \"/nats\"\n", |it| {
        for path in ["/varz", "/", "/nats/"] {
            assert_eq!(it.get(path).status, 404, "{path}");
        }
        let root = it.get("/nats");
        assert!(root.status == 200 && root.body.contains("href=./nats/varz"));
        let varz = it.json("/nats/varz");
        assert_eq!(varz["http_base_path"], "/nats");
        assert!(varz["http_req_stats"]["/varz"].is_u64());
    });
}

/// Fields that only one of the two has, each with the reason.
const EXPECTED: [&str; 5] = [
    // The reference server's own experiments and build.
    ".feature_flags",
    ".server.feature_flags",
    ".git_commit",
    // Which build of midge it is: `version` is the protocol's.
    ".midge_version",
    // Services that are not imports here.
    ".account_detail.imports",
];

#[test]
fn pages_have_the_fields_of_the_reference_server() {
    let (Some(mut reference), Some(mut own)) =
        (fixture(Program::Reference, ""), fixture(Program::Midge, ""))
    else {
        return;
    };
    for it in [&mut reference, &mut own] {
        it.k3 = None;
        get_until(it.server.monitor(), "/connz?state=closed", |page| {
            page["total"] == 1
        });
    }
    let mut differences = Vec::new();
    for target in [
        "/varz",
        "/connz?subs=1&auth=1",
        "/connz?subs=detail&state=any&auth=1",
        "/connz?acc=nope",
        "/routez",
        "/subsz",
        "/subsz?subs=1&test=foo.bar",
        "/subsz?acc=nope",
        "/accountz",
        "/accountz?acc=$G",
        "/accstatz?unused=1",
        "/leafz",
        "/gatewayz?accs=1",
        "/jsz?accounts=1",
        "/ipqueuesz",
    ] {
        let [theirs, ours] = [&reference, &own].map(|it| it.get(target));
        assert_eq!(
            (theirs.status, theirs.field("content-type")),
            (ours.status, ours.field("content-type")),
            "{target}"
        );
        let known = |key: &&str| {
            keys_in_order(&theirs.body).contains(key) && keys_in_order(&ours.body).contains(key)
        };
        let order = |it: &Response| {
            keys_in_order(&it.body)
                .into_iter()
                .filter(known)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(order(&theirs), order(&ours), "the order of {target}");
        compare(&theirs.json(), &ours.json(), target, "", &mut differences);
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Collects where two values differ in the names or the types of their fields.
fn compare(theirs: &Value, ours: &Value, page: &str, path: &str, differences: &mut Vec<String>) {
    if EXPECTED.contains(&path) {
        return;
    }
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for name in theirs
                .keys()
                .chain(ours.keys().filter(|it| !theirs.contains_key(*it)))
            {
                let path = format!("{path}.{name}");
                match (theirs.get(name), ours.get(name)) {
                    (Some(theirs), Some(ours)) => compare(theirs, ours, page, &path, differences),
                    (one, _) if !EXPECTED.contains(&path.as_str()) => {
                        let whose = if one.is_some() { "theirs" } else { "ours" };
                        differences.push(format!("{page}: only {whose} has {path}"));
                    }
                    _ => {}
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            for (theirs, ours) in by_sid(theirs).into_iter().zip(by_sid(ours)) {
                compare(theirs, ours, page, &format!("{path}[]"), differences);
            }
        }
        _ if std::mem::discriminant(theirs) != std::mem::discriminant(ours) => {
            differences.push(format!("{page}{path}: {theirs} and {ours}"));
        }
        _ => {}
    }
}

/// Subscriptions come in any order.
fn by_sid(list: &[Value]) -> Vec<&Value> {
    let mut list: Vec<&Value> = list.iter().collect();
    list.sort_by_key(|it| it["sid"].as_str());
    list
}

#[test]
fn a_consumer_like_nats_top_finds_what_it_reads() {
    on_both("", |it| {
        let varz = it.json("/varz");
        for name in [
            "mem",
            "in_msgs",
            "out_msgs",
            "in_bytes",
            "out_bytes",
            "slow_consumers",
        ] {
            assert!(varz[name].is_u64(), "{name}");
        }
        for name in ["server_id", "server_name", "version", "uptime", "now"] {
            assert!(varz[name].is_string(), "{name}");
        }
        assert!(varz["cpu"].is_number());
        for sort in [
            "cid",
            "start",
            "subs",
            "pending",
            "msgs_to",
            "msgs_from",
            "bytes_to",
            "bytes_from",
            "last",
            "idle",
            "uptime",
            "rtt",
        ] {
            let page = it.json(&format!("/connz?limit=1024&sort={sort}&subs=1"));
            for connection in page["connections"].as_array().expect("a list") {
                for name in [
                    "cid",
                    "port",
                    "subscriptions",
                    "pending_bytes",
                    "out_msgs",
                    "in_msgs",
                    "out_bytes",
                    "in_bytes",
                ] {
                    assert!(connection[name].is_u64(), "{sort}: {name}");
                }
                for name in ["ip", "uptime", "last_activity"] {
                    assert!(connection[name].is_string(), "{sort}: {name}");
                }
            }
        }
    });
}

#[test]
fn a_round_trip_is_measured_and_activity_moves_on() {
    on_both("ping_interval: 1\n", |it| {
        it.k1.keep_pings();
        // Answers whatever asks, until the answer shows.
        let shown = wait_for(|| {
            it.k1.send(b"PONG\r\n");
            let page = get(it.server.monitor(), "/connz").json();
            let rtt = page["connections"][0]["rtt"].as_str()?.to_owned();
            (rtt != "0s").then_some(rtt)
        });
        assert!(shown.is_some_and(|rtt| rtt.ends_with('s')));
        let active =
            |it: &Fixture| it.json("/connz")["connections"][1]["last_activity"].to_string();
        let before = active(it);
        it.k2.send(b"PUB nobody 1\r\nx\r\n");
        wait_for(|| (active(it) != before).then_some(())).expect("activity shows");
    });
}

#[test]
fn a_lame_duck_is_not_healthy() {
    on_both(
        "lame_duck_duration: 60s\nlame_duck_grace_period: 50s\n",
        |it| {
            it.server.process().signal(rustix::process::Signal::USR2);
            let monitor = it.server.monitor();
            let response =
                wait_for(|| Some(get(monitor, "/healthz")).filter(|it| it.status != 200));
            let response = response.expect("a change");
            let text = r#"{"status":"error","error":"failed to be ready for connections after 1ms: server"}"#;
            assert_eq!((response.status, response.body.as_str()), (500, text));
            assert!(keys(&it.json("/varz")["http_req_stats"]).contains(&"/healthz"));
        },
    );
}

/// A server of our own, with these lines of configuration and a monitoring port.
fn own(conf: &str) -> Server {
    let path = midge();
    let start = Start::new(&path).arg("-m").arg("-1").conf(conf);
    start.started()
}

fn health_check(url: &str, token: &str) -> std::process::Output {
    health_check_with(&["--healthcheck", url], token)
}

fn health_check_with(args: &[&str], token: &str) -> std::process::Output {
    let path = midge();
    let mut command = std::process::Command::new(path);
    command.args(args).env("MIDGE_HTTP_AUTH_TOKEN", token);
    command.output().expect("it runs")
}

#[test]
fn a_token_opens_every_page_and_nothing_else_does() {
    let server = own("http_auth_token: \"sesame open\"\n");
    let monitor = server.monitor();
    for fields in [
        "",
        "Authorization: Bearer sesame\r\n",
        "Authorization: Basic sesame open\r\n",
    ] {
        for target in ["/", "/varz", "/healthz", "/nosuch", "/metrics"] {
            let response = request(monitor, "GET", target, fields, "");
            assert_eq!(response.status, 401, "{target} {fields:?}");
            assert!(response.field("www-authenticate").starts_with("Bearer"));
        }
    }
    let fields = "Authorization: bearer sesame open\r\n";
    assert_eq!(request(monitor, "GET", "/varz", fields, "").status, 200);
    let url = format!("http://{monitor}");
    assert!(health_check(&url, "sesame open").status.success());
    let refused = health_check(&url, "sesame");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
}

#[test]
fn a_health_check_tells_by_its_status() {
    let mut server = own("lame_duck_duration: 60s\nlame_duck_grace_period: 50s\n");
    let monitor = server.monitor();
    for url in [
        format!("http://{monitor}"),
        format!("http://{monitor}/healthz?js-enabled-only=1"),
    ] {
        let output = health_check(&url, "");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{url}: {output:?}"
        );
    }
    let _client = client(&server, "stays");
    server.process().signal(rustix::process::Signal::USR2);
    wait_for(|| (get(monitor, "/healthz").status == 500).then_some(())).expect("a lame duck");
    let output = health_check(&format!("http://{monitor}"), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("500"),
        "{output:?}"
    );
    for (url, status) in [
        ("ftp://h", 2),
        ("127.0.0.1:8222", 2),
        ("http://", 2),
        ("https://", 2),
        ("http://a b", 2),
        ("unix:/no/such/socket", 1),
        ("http://127.0.0.1:1", 1),
        ("https://127.0.0.1:1", 1),
    ] {
        let output = health_check(url, "");
        assert_eq!(output.status.code(), Some(status), "{url}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(url),
            "{output:?}"
        );
    }
}

#[test]
fn a_health_check_by_https_takes_any_certificate_from_this_host_or_verifies_it() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let conf = format!(
        "tls {{cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\"}}"
    );
    let path = midge();
    let server = Start::new(&path).arg("-ms").arg("-1").conf(&conf).started();
    let url = format!("https://{}", server.monitor());
    let (ca, other_ca) = (format!("{certs}/ca.pem"), format!("{certs}/ca2.pem"));
    let healthy: [&[&str]; 3] = [
        &["--healthcheck", &url],
        &["--tlscacert", &ca, "--healthcheck", &url],
        &["--healthcheck", &url, "--tlscacert", &ca],
    ];
    for args in healthy {
        let output = health_check_with(args, "");
        let is_well = output.status.success() && output.stderr.is_empty();
        assert!(is_well, "{args:?}: {output:?}");
    }
    let plain = url.replace("https", "http");
    for (args, why) in [
        (
            vec!["--healthcheck", &url, "--tlscacert", &other_ca],
            "TLS handshake error: tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            vec!["--healthcheck", &url, "--tlscacert", "/no/such/file"],
            "/no/such/file",
        ),
        (vec!["--healthcheck", &plain], "400"),
    ] {
        let output = health_check_with(&args, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains(why), "{args:?}: {text}");
    }
}

#[test]
fn a_health_check_asks_where_the_configuration_says() {
    let server = own("http_auth_token: sesame\nhttp_base_path: \"/nats\"\n");
    let dir = support::ScratchDir::new();
    let conf = dir.path().join("midge.conf");
    let write = |text: &str| std::fs::write(&conf, text).expect("the directory is writable");
    let check = || health_check_with(&["-c", conf.to_str().expect("a path"), "--healthcheck"], "");
    let port = server.monitor().port();
    let text = format!("http: {port}\nhttp_auth_token: sesame\nhttp_base_path: \"/nats\"\n");
    write(&text);
    let output = check();
    assert!(output.status.success(), "{output:?}");
    write(&format!("http: {port}\n"));
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(&format!("http://127.0.0.1:{port}: ")),
        "{text}"
    );
    for (text, why) in [
        ("port: 4222\n", "the configuration has no monitoring port"),
        ("http: -1\n", "the system chooses the monitoring port"),
        ("http: [\n", "midge.conf:1"),
    ] {
        write(text);
        let output = check();
        assert_eq!(output.status.code(), Some(2), "{text}: {output:?}");
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(shown.contains(why), "{text}: {shown}");
    }
    let port = port.to_string();
    let output = health_check_with(&["-m", &port, "--healthcheck"], "sesame");
    // Flags know nothing of the base path: somebody answers there, but not with the page.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("404"));
}

#[test]
fn pages_come_over_a_socket_of_the_file_system() {
    use std::io::{Read, Write};
    let dir = support::ScratchDir::new();
    let path = dir.path().join("monitor.sock");
    // What a server before this one has left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("the directory is writable"));
    let conf = format!("http_socket: \"{}\"\n", path.display());
    {
        let midge = midge();
        let server = Start::new(&midge).conf(&conf).run();
        let _server = server.unwrap_or_else(|why| panic!("{why}"));
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        let wire = b"GET /varz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(wire).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        assert_eq!(support::http::parse(&answer).json()["http_port"], 0);
        assert!(
            health_check(&format!("unix:{}", path.display()), "")
                .status
                .success()
        );
        // A second server does not take the first one's socket away.
        let second = Start::new(&midge).conf(&conf).run();
        assert!(second.is_err_and(|why| why.contains("Can't start monitoring")));
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = own("");
    let one = |target: &str, last: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{last}\r\n");
    let all = [
        one("/healthz", ""),
        one("/varz", ""),
        one("/nosuch", ""),
        format!(
            "POST /connz HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n{}",
            "x".repeat(20_000)
        ),
        one("/subsz", "Connection: close\r\n"),
        one("/never", ""),
    ];
    let answer = exchange(server.monitor(), all.concat().as_bytes());
    let text = String::from_utf8(answer).expect("UTF-8");
    let marks = [
        "\"ok\"",
        "\"server_name\"",
        "404 page",
        "\"num_connections\"",
        "\"num_cache\"",
    ];
    let places: Vec<usize> = marks
        .iter()
        .map(|it| text.find(it).unwrap_or_else(|| panic!("no {it}")))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), marks.len());
}

#[test]
fn what_is_no_request_is_answered_once_and_closed() {
    let server = own("");
    for (wire, status) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n".to_vec(), 400),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/3.0\r\n\r\n".to_vec(), 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        (
            [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'x'; 1 << 20]].concat(),
            431,
        ),
        (
            [
                &b"GET / HTTP/1.1\r\n"[..],
                &b"A: b\r\n".repeat(3000),
                b"\r\n",
            ]
            .concat(),
            431,
        ),
    ] {
        let response = support::http::raw(server.monitor(), &wire);
        assert_eq!(response.status, status, "{}", support::escaped(&wire));
        assert_eq!(response.field("connection"), "close");
    }
    assert_eq!(get(server.monitor(), "/healthz").status, 200);
}

#[test]
fn crowds_and_slow_ones_keep_nobody_from_the_pages() {
    use std::io::Write;
    use std::net::TcpStream;
    let server = own("");
    let monitor = server.monitor();
    support::raise_descriptor_limit(1200).expect("descriptors");
    // Those that say nothing, those that never end their head, and those that do not read their page.
    let crowd = (0..1000).map(|number| {
        let mut stream = TcpStream::connect(monitor).expect("it listens");
        let part: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /varz HTTP/1.1\r\nHo",
            _ => b"GET /varz HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        // The server may have closed it to make room.
        let _ = stream.write_all(part);
        stream
    });
    let crowd: Vec<TcpStream> = crowd.collect();
    let mut client = client(&server, "works");
    client.send(b"SUB a 1\r\nPUB a 2\r\nhi\r\n");
    client.take(b"MSG a 1 2\r\nhi\r\n").expect("a delivery");
    let page = wait_for(|| {
        let answer = exchange(
            monitor,
            b"GET /connz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        answer
            .starts_with(b"HTTP/1.1 200")
            .then(|| support::http::parse(&answer).json())
    });
    assert_eq!(page.expect("a page")["total"], 1);
    drop(crowd);
}

#[test]
fn a_slow_consumer_is_remembered_with_what_it_had_not_taken() {
    let server = own("max_pending: 100000\nmax_payload: 50000\n");
    let mut slow = server.client(",\"name\":\"slow\"");
    slow.send(b"SUB flood.* 7\r\nPING\r\n");
    slow.take(b"PONG\r\n").expect("it is subscribed");
    let mut publisher = client(&server, "fast");
    let message = [&b"PUB flood.x 40000\r\n"[..], &vec![b'x'; 40_000], b"\r\n"].concat();
    let page = wait_for(|| {
        for _ in 0..20 {
            publisher.send(&message);
        }
        let page = get(server.monitor(), "/connz?state=closed&subs=detail").json();
        (page["total"] == 1).then_some(page)
    });
    let page = page.expect("it is given up");
    let it = &page["connections"][0];
    assert_eq!(
        (&it["name"], &it["reason"]),
        (&json!("slow"), &json!("Slow Consumer (Pending Bytes)"))
    );
    assert!(it["pending_bytes"].as_u64() > Some(100_000), "{it}");
    assert_eq!(it["subscriptions_list_detail"][0]["subject"], "flood.*");
    let varz = get(server.monitor(), "/varz").json();
    assert_eq!(
        (
            &varz["slow_consumers"],
            &varz["slow_consumer_stats"]["clients"]
        ),
        (&json!(1), &json!(1))
    );
}

#[test]
fn metrics_show_the_counters() {
    let fixture = fixture(Program::Midge, "").expect("midge is built");
    let response = fixture.get("/metrics");
    assert_eq!(response.status, 200);
    assert_eq!(
        response.field("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "# TYPE midge_received_messages_total counter",
        "midge_received_messages_total{peer=\"client\"} 4",
        "midge_sent_bytes_total{peer=\"client\"} 18",
        "midge_connections{state=\"open\"} 3",
        "midge_connections_accepted_total 3",
        "midge_slow_consumers_total{peer=\"client\"} 0",
        "midge_account_connections{account=\"$G\"} 3",
        "# TYPE midge_worker_turn_seconds histogram",
        "midge_worker_mailbox_bytes{worker=\"0\"} 0",
        "midge_worker_mailbox_entries{worker=\"0\"} 0",
        "midge_auth_failures_total 0",
        "midge_tls_handshakes_total{peer=\"client\",direction=\"accepted\",result=\"done\"} 0",
    ] {
        assert!(
            response.body.lines().any(|it| it == line),
            "{line} in {}",
            response.body
        );
    }
}

#[test]
fn a_page_over_many_connections_is_made_in_slices() {
    const CLIENTS: usize = 2_000;
    let path = midge();
    if let Err(why) = support::raise_descriptor_limit(2 * CLIENTS) {
        return support::say_left_out(&why);
    }
    let start = Start::new(&path).arg("-m").arg("-1");
    let server = start.arg("--workers").arg("1").run().expect("it starts");
    let mut clients: Vec<Connection> = (0..CLIENTS)
        .map(|at| {
            let mut client = server.client("");
            client.send(format!("SUB a.{at} 1\r\nSUB b.* 2\r\nPING\r\n").as_bytes());
            client
        })
        .collect();
    clients
        .iter_mut()
        .for_each(|client| client.expect(b"PONG\r\n"));
    let slices = || {
        let page = get(server.monitor(), "/metrics").body;
        let count = |line: &str| {
            let name = "midge_worker_monitoring_slice_seconds_count{worker=\"0\"} ";
            line.strip_prefix(name)?.parse::<u64>().ok()
        };
        page.lines().find_map(count).expect("it is there")
    };
    let before = slices();
    let page = get(server.monitor(), "/connz?subs=detail&limit=2000").json();
    let listed = page["connections"].as_array().expect("a list").iter();
    let subjects =
        listed.flat_map(|it| it["subscriptions_list_detail"].as_array().expect("a list"));
    let subjects: std::collections::HashSet<String> =
        subjects.map(|it| it["subject"].to_string()).collect();
    assert_eq!(
        (subjects.len(), page["num_connections"].as_u64()),
        (CLIENTS + 1, Some(CLIENTS as u64))
    );
    // A slice has an end by the clock.
    assert!(slices() - before > 1, "{} slices", slices() - before);
}

#[test]
fn metrics_count_tls_handshakes_by_how_they_end() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let conf = format!(
        "tls {{cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", timeout: 0.1}}"
    );
    let path = midge();
    let server = Start::new(&path).arg("-ms").arg("-1").conf(&conf).started();
    let mut welcome = server.connect();
    welcome.expect_info();
    welcome.upgrade(&Tls::new()).expect("a handshake");
    welcome.ping();
    let mut noise = server.connect();
    noise.expect_info();
    noise.send(b"CONNECT {}\r\n");
    assert!(noise.is_over(DEADLINE));
    let mut silent = server.connect();
    silent.expect_info();
    assert!(silent.is_over(DEADLINE), "its time is up");
    exchange(server.monitor(), b"GET / HTTP/1.1\r\n\r\n");
    exchange(server.monitor(), b"\x16 is what a handshake begins with");
    let counted = || {
        let page = secure_get(server.monitor(), "/metrics", &Tls::new()).body;
        let count = |peer: &str, result: &str| {
            let sample = format!(
                "midge_tls_handshakes_total{{peer=\"{peer}\",direction=\"accepted\",result=\"{result}\"}} "
            );
            let mut lines = page.lines();
            let value = lines.find_map(|line| line.strip_prefix(&sample));
            value.and_then(|it| it.parse::<u64>().ok()).expect(&sample)
        };
        let client = (count("client", "done"), count("client", "failed"));
        // The one that asks is among them.
        let monitor = (count("monitor", "done") > 0, count("monitor", "failed"));
        (client == (1, 2) && monitor == (true, 2)).then_some(())
    };
    let page = || secure_get(server.monitor(), "/metrics", &Tls::new()).body;
    assert!(wait_for(counted).is_some(), "{}", page());
}

#[test]
fn a_monitoring_port_that_is_taken_ends_the_start() {
    let server = own("");
    let port = server.monitor().port().to_string();
    let path = midge();
    let second = Start::new(&path).arg("-m").arg(&port).run();
    let why = second.expect_err("the port is taken");
    let text = format!(
        "Can't start monitoring: can't listen to the monitor port: listen tcp 127.0.0.1:{port}: bind: address already in use"
    );
    assert!(why.contains(&text), "{why}");
}

#[test]
fn https_has_the_clients_certificate_and_asks_nobody_for_one() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let conf = format!(
        "tls {{cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", \
         ca_file: \"{certs}/ca.pem\", verify: true}}"
    );
    for program in [Program::Reference, Program::Midge] {
        let Some(path) = program.path() else { continue };
        let server = Start::new(&path).arg("-ms").arg("-1").conf(&conf).started();
        let monitor = server.monitor();
        let varz = secure_get(monitor, "/varz", &Tls::new()).json();
        assert_eq!(varz["tls_required"], true);
        if program == Program::Midge {
            // The other one shows what it was asked for, -1.
            assert_eq!(varz["https_port"], monitor.port());
        }
        assert_eq!(
            (&varz["http_port"], &varz["tls_verify"]),
            (&json!(0), &json!(true))
        );
        assert!(varz["tls_cert_not_after"].is_string());
        let wire = b"GET /varz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let clear = exchange(monitor, wire);
        let text =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        assert_eq!(support::escaped(&clear), support::escaped(text));
    }
}

#[test]
fn tls_sessions_show_in_connz() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let conf = format!(
        "tls {{cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", \
         ca_file: \"{certs}/ca.pem\", verify: true, handshake_first: true}}"
    );
    let mut seen = Vec::new();
    for program in [Program::Reference, Program::Midge] {
        let Some(path) = program.path() else { continue };
        let server = Start::new(&path).arg("-m").arg("-1").conf(&conf).started();
        let socket = std::net::TcpStream::connect(server.address()).expect("it listens");
        let tls = Tls::new().showing("client-dn");
        let mut session = tls.connect(&socket).expect("a handshake");
        let mut socket = &socket;
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        std::io::Write::write_all(&mut stream, b"CONNECT {\"verbose\":false}\r\nPING\r\n")
            .expect("it reads");
        let page = get_until(server.monitor(), "/connz?auth=1", |page| {
            page["connections"][0]["tls_version"].is_string()
        });
        let it = &page["connections"][0];
        let fields = [
            "tls_version",
            "tls_cipher_suite",
            "tls_first",
            "tls_peer_certs",
        ];
        seen.push(fields.map(|name| it[name].clone()));
    }
    let [version, suite, first, certs] = seen.last().expect("midge is there");
    assert_eq!((version, first), (&json!("1.3"), &json!(true)));
    assert!(suite.as_str().is_some_and(|it| it.starts_with("TLS_")));
    assert_eq!(certs[0]["cert_sha256"].as_str().map(str::len), Some(64));
    let without_suite = |it: &[Value; 4]| [it[0].clone(), it[2].clone(), it[3].clone()];
    assert!(
        seen.iter()
            .all(|it| without_suite(it) == without_suite(&seen[0])),
        "{seen:#?}"
    );
}

/// Logs a user of [`ACCOUNTS`] in.
fn login(server: &Server, user: &str) -> Connection {
    let mut client = server.client(&format!(
        ",\"name\":\"{user}\",\"user\":\"{user}\",\"pass\":\"p\",\"headers\":true,\"no_responders\":true"
    ));
    settle(&mut client);
    client
}

/// The payload of the next message.
fn next_message(client: &mut Connection) -> (String, String) {
    loop {
        let line = String::from_utf8(client.take_line().expect("a message")).expect("UTF-8");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["MSG" | "HMSG", subject, .., size] = words.as_slice() {
            let size: usize = size.parse().expect("a size");
            let payload = client.take_bytes(size + 2).expect("the payload");
            let text = String::from_utf8(payload).expect("UTF-8");
            return ((*subject).to_owned(), text);
        }
    }
}

/// Makes a request, and reads the answer.
fn ask(client: &mut Connection, subject: &str, payload: &str) -> String {
    let size = payload.len();
    client.send(format!("PUB {subject} reply {size}\r\n{payload}\r\n").as_bytes());
    loop {
        let (to, text) = next_message(client);
        if to == "reply" {
            return text;
        }
    }
}

fn ask_json(client: &mut Connection, subject: &str, payload: &str) -> Value {
    let text = ask(client, subject, payload);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{subject}: {error}: {text}"))
}

#[test]
fn the_system_account_may_act_on_clients_and_on_the_server() {
    let mut seen = Vec::new();
    for program in [Program::Reference, Program::Midge] {
        let Some(path) = program.path() else { continue };
        let conf = |name: &str| format!("server_name: {name}\n{ACCOUNTS}");
        let mut server = Start::new(&path).conf(&conf("p1")).started();
        let mut client = server.client(",\"protocol\":1,\"user\":\"a1\",\"pass\":\"p\"");
        client.ping();
        // What a client gets that takes such.
        client.expect_info();
        let mut system = login(&server, "s");
        system.send(b"SUB reply 1\r\n");
        settle(&mut system);
        let identity = ask_json(&mut system, "$SYS.REQ.SERVER.PING.IDZ", "");
        let id = identity["id"].as_str().expect("an id").to_owned();
        let connz = ask_json(&mut system, "$SYS.REQ.ACCOUNT.A.CONNZ", "");
        let cid = &connz["data"]["connections"][0]["cid"];
        let (known, unknown) = (format!("{{\"cid\":{cid}}}"), "{\"cid\":99999}");
        let subject = |name: &str| format!("$SYS.REQ.SERVER.{id}.{name}");

        let conns = ask_json(&mut system, "$SYS.REQ.ACCOUNT.A.CONNS", "");
        assert_eq!((&conns["acc"], &conns["conns"]), (&json!("A"), &json!(1)));
        seen.push(shape(&without(&conns, "server")));

        for (name, why) in [
            ("LDM", "no such client id"),
            ("KICK", "no such client or leafnode id"),
        ] {
            let refused = ask_json(&mut system, &subject(name), unknown);
            let error = json!({"code": 500, "description": why});
            assert_eq!(
                refused,
                json!({"server": refused["server"], "error": error})
            );
            // Nothing comes of these, and no answer.
            for payload in ["", "x", "{\"cid\":\"x\"}"] {
                let len = payload.len();
                let line = format!("PUB {} reply {len}\r\n{payload}\r\n", subject(name));
                system.send(line.as_bytes());
            }
            let done = ask_json(&mut system, &subject(name), &known);
            assert_eq!(keys(&done), ["server"]);
            if name == "LDM" {
                assert_eq!(client.expect_info()["ldm"], true);
                client.ping();
            }
        }
        client.expect_eof();
        let closed = ask_json(&mut system, "$SYS.REQ.SERVER.PING.CONNZ", "{\"state\":1}");
        assert_eq!(closed["data"]["connections"][0]["reason"], "Kicked");

        let reload = subject("RELOAD");
        let done = ask_json(&mut system, &reload, "");
        assert_eq!(keys(&done), ["server"]);
        let reloaded = "Reloaded server configuration";
        let logged = server.process().wait_for_log(|log| log.contains(reloaded));
        assert_eq!(logged, Ok(()));
        std::fs::write(server.dir().join("server.conf"), conf("p2")).expect("it is ours");
        let refused = ask_json(&mut system, &reload, "");
        let why = "config reload not supported for ServerName: old=p1, new=p2";
        let error = json!({"code": 500, "description": why});
        assert_eq!(
            refused,
            json!({"server": refused["server"], "error": error})
        );
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}

/// An object without one of its fields.
fn without(value: &Value, name: &str) -> Value {
    let mut object = value.as_object().expect("an object").clone();
    object.remove(name);
    Value::Object(object)
}

/// The names of all fields, also of objects within.
fn shape(value: &Value) -> Vec<String> {
    let object = value.as_object().into_iter().flatten();
    let within = |(name, value): (&String, &Value)| {
        let inner = shape(value).into_iter().map(|it| format!("{name}.{it}"));
        inner.chain([name.clone()]).collect::<Vec<_>>()
    };
    object.flat_map(within).collect()
}

#[test]
fn the_system_account_may_ask_for_every_page() {
    let mut seen = Vec::new();
    for program in [Program::Reference, Program::Midge] {
        let Some(path) = program.path() else { continue };
        let server = Start::new(&path)
            .conf(&format!("server_name: p1\n{ACCOUNTS}"))
            .started();
        let mut a1 = login(&server, "a1");
        a1.send(b"SUB reply 1\r\nSUB a.> 2\r\n");
        settle(&mut a1);
        let mut system = login(&server, "s");
        system.send(b"SUB reply 1\r\n");
        settle(&mut system);
        let identity = ask_json(&mut system, "$SYS.REQ.SERVER.PING.IDZ", "");
        assert_eq!(keys(&identity), ["host", "id", "name"]);
        let id = identity["id"].as_str().expect("an id").to_owned();
        let mut answers = Vec::new();
        for name in [
            "VARZ", "CONNZ", "SUBSZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ", "JSZ", "HEALTHZ",
        ] {
            let subject = format!("$SYS.REQ.SERVER.{id}.{name}");
            let answer = ask_json(&mut system, &subject, "");
            assert_eq!(answer["server"]["name"], "p1", "{name}");
            answers.push((name.to_owned(), answer));
        }
        let connz = ask_json(
            &mut system,
            "$SYS.REQ.SERVER.PING.CONNZ",
            r#"{"acc":"A","auth":true,"subscriptions":true}"#,
        );
        assert_eq!(connz["data"]["connections"][0]["account"], "A");
        assert_eq!(connz["data"]["total"], 1);
        let filtered = r#"{"acc":"A","filter_subject":"a.b"}"#;
        let connz = ask_json(&mut system, "$SYS.REQ.SERVER.PING.CONNZ", filtered);
        assert_eq!(connz["data"]["num_connections"], 1);
        let statsz = ask_json(
            &mut system,
            "$SYS.REQ.SERVER.PING",
            r#"{"server_name":"p"}"#,
        );
        assert_eq!(
            (
                &statsz["statsz"]["connections"],
                &statsz["statsz"]["active_servers"]
            ),
            (&json!(2), &json!(1))
        );
        answers.push(("STATSZ".into(), statsz));
        let info = ask_json(&mut system, "$SYS.REQ.ACCOUNT.A.INFO", "");
        assert_eq!(info["data"]["account_name"], "A");
        let statz = ask_json(&mut system, "$SYS.REQ.ACCOUNT.A.STATZ", "");
        let statz = &statz["data"];
        assert!(statz.to_string().contains("\"acc\":\"A\""), "{statz}");
        // Of two requests the first is for another server: one answer comes, the second's.
        system
            .send(b"PUB $SYS.REQ.SERVER.PING.VARZ reply 27\r\n{\"server_name\":\"elsewhere\"}\r\n");
        let health = ask_json(&mut system, "$SYS.REQ.SERVER.PING.HEALTHZ", "");
        assert_eq!(
            (&health["data"]["status"], &health["data"]["status_code"]),
            (&json!("ok"), &json!(200))
        );
        let error = ask_json(&mut system, "$SYS.REQ.SERVER.PING.CONNZ", "{");
        assert_eq!(
            (&error["error"]["code"], error.get("data")),
            (&json!(400), None)
        );
        let error = ask_json(
            &mut system,
            "$SYS.REQ.SERVER.PING.CONNZ",
            r#"{"sort":"bad"}"#,
        );
        assert_eq!(
            (&error["error"]["code"], &error["data"]),
            (&json!(500), &Value::Null)
        );
        assert!(ask(&mut system, "$SYS.REQ.SERVER.PING.NONSENSE", "").contains("503"));
        // Others hear of themselves alone, whatever they ask for.
        let connz = ask_json(
            &mut a1,
            "$SYS.REQ.SERVER.PING.CONNZ",
            r#"{"acc":"SYS","auth":true}"#,
        );
        assert_eq!(
            (
                &connz["data"]["total"],
                &connz["data"]["connections"][0]["account"]
            ),
            (&json!(1), &json!("A"))
        );
        assert!(ask(&mut a1, "$SYS.REQ.SERVER.PING.VARZ", "").contains("503"));
        seen.push(answers);
    }
    let mut differences = Vec::new();
    if let [theirs, ours] = seen.as_slice() {
        for ((name, theirs), (_, ours)) in theirs.iter().zip(ours) {
            compare(&theirs["data"], &ours["data"], name, "", &mut differences);
            compare(
                &theirs["statsz"],
                &ours["statsz"],
                name,
                "",
                &mut differences,
            );
            compare(
                &theirs["server"],
                &ours["server"],
                name,
                ".server",
                &mut differences,
            );
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn the_system_account_hears_of_clients_and_counters() {
    let mut seen = Vec::new();
    for program in [Program::Reference, Program::Midge] {
        let Some(path) = program.path() else { continue };
        let server = Start::new(&path).conf(ACCOUNTS).started();
        let mut system = login(&server, "s");
        system.send(b"SUB $SYS.ACCOUNT.*.CONNECT 1\r\nSUB $SYS.ACCOUNT.*.DISCONNECT 2\r\nSUB $SYS.SERVER.*.CLIENT.AUTH.ERR 3\r\nSUB $SYS.SERVER.*.STATSZ 4\r\n");
        settle(&mut system);
        let mut wait = |what: &str| {
            let found = wait_for(|| {
                let (subject, text) = next_message(&mut system);
                subject.ends_with(what).then_some((subject, text))
            });
            let (subject, text) = found.expect("an event");
            let event: Value = serde_json::from_str(&text).expect("JSON");
            (subject, event)
        };
        let mut a1 = login(&server, "a1");
        // The reference server may still have to tell of this very connection.
        let (subject, connect) = wait(".A.CONNECT");
        assert_eq!(subject, "$SYS.ACCOUNT.A.CONNECT");
        assert_eq!(connect["type"], "io.nats.server.advisory.v1.client_connect");
        assert_eq!(
            (&connect["client"]["user"], &connect["client"]["acc"]),
            (&json!("a1"), &json!("A"))
        );
        a1.send(b"SUB x 1\r\nPUB x 2\r\nhi\r\n");
        settle(&mut a1);
        drop(a1);
        let (subject, disconnect) = wait(".DISCONNECT");
        assert_eq!(subject, "$SYS.ACCOUNT.A.DISCONNECT");
        assert_eq!(disconnect["reason"], "Client Closed");
        assert_eq!(
            (
                &disconnect["sent"]["msgs"],
                &disconnect["received"]["bytes"]
            ),
            (&json!(1), &json!(2))
        );
        drop(server.client(",\"user\":\"a1\",\"pass\":\"wrong\""));
        let mut stranger = server.client(",\"user\":\"a1\",\"pass\":\"wrong\"");
        stranger
            .take(b"-ERR 'Authorization Violation'\r\n")
            .expect("a refusal");
        let (_, refusal) = wait(".AUTH.ERR");
        assert_eq!(
            (&refusal["reason"], &refusal["client"]["user"]),
            (&json!("Authentication Failure"), &json!("a1"))
        );
        assert_eq!(wait(".DISCONNECT").0, "$SYS.ACCOUNT.$G.DISCONNECT");
        let (_, statsz) = wait(".STATSZ");
        assert!(statsz["statsz"]["connections"].is_u64(), "{statsz}");
        seen.push([connect, disconnect, refusal]);
    }
    let mut differences = Vec::new();
    if let [theirs, ours] = seen.as_slice() {
        for (theirs, ours) in theirs.iter().zip(ours) {
            compare(theirs, ours, "event", "", &mut differences);
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn varz_shows_what_options_come_to() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let tls = format!(
        "tls {{cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", \
         ca_file: \"{certs}/ca.pem\", timeout: 5}}"
    );
    let member = "cluster {name: C, listen: \"127.0.0.1:-1\"";
    for path in programs() {
        let start = |conf: &str| Start::new(&path).arg("-m").arg("-1").conf(conf).started();
        let varz = |conf: &str| get(start(conf).monitor(), "/varz").json();

        let server = start(&format!("{member}, {tls}}}"));
        // Its port for routes may be known a little later than the others.
        let port = wait_for(|| {
            let log = server.log();
            let (_, rest) = log.split_once("Listening for route connections on 127.0.0.1:")?;
            rest.lines().next()?.parse::<u16>().ok()
        });
        let cluster = get(server.monitor(), "/varz").json()["cluster"].take();
        assert_eq!(cluster["cluster_port"], json!(port.expect("it listens")));
        assert_eq!(cluster["auth_timeout"], 6);
        assert!(cluster["tls_cert_not_after"].is_string());

        let set = varz(&format!(
            "{member}, {tls}, authorization {{user: a, password: p, timeout: 3}}}}"
        ));
        assert_eq!(set["cluster"]["auth_timeout"], 3);
        let zero = varz("authorization {user: a, password: p, timeout: 0}");
        assert_eq!(zero["auth_timeout"], 2);

        let advertised = varz("client_advertise: \"example.com:7777\"");
        let shown = (&advertised["host"], &advertised["port"]);
        assert_eq!(shown, (&json!("example.com"), &json!(7777)));

        let tagged = varz("server_tags: [A, \"b,C\"]");
        assert_eq!(tagged["tags"], json!(["a", "b,c"]));

        assert_eq!(varz("max_connections: -1")["max_connections"], -1);
    }
}

#[test]
fn a_server_without_a_route_port_has_the_name_of_its_cluster_all_the_same() {
    for path in programs() {
        let start = Start::new(&path).arg("-m").arg("-1");
        let server = start.conf("cluster {name: C}").started();
        let varz = get(server.monitor(), "/varz").json();
        assert_eq!(varz["cluster"], json!({"name": "C"}));
        assert_eq!(server.connect().expect_info()["cluster"], "C");
    }
}

#[test]
fn where_there_is_the_system_account_alone_credentials_are_looked_at() {
    for path in programs() {
        let start = Start::new(&path).arg("-m").arg("-1");
        let server = start.conf("accounts {A {}}\nsystem_account: A").started();
        assert_eq!(get(server.monitor(), "/varz").json()["auth_required"], true);
        assert_eq!(server.connect().expect_info()["auth_required"], true);
        server.client("").ping();
        let mut unknown = server.client(",\"user\":\"u\",\"pass\":\"p\"");
        unknown.expect(b"-ERR 'Authorization Violation'\r\n");
    }
}
