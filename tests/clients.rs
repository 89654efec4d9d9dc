//! Real clients: the official Rust client against midge, and against the reference server where `NATS_SERVER` names
//! it.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, RequestErrorKind, Subscriber};
use futures_util::{FutureExt, StreamExt};

use support::Program;
use support::server::Start;

/// How long one scenario may take in all.
const DEADLINE: Duration = Duration::from_secs(120);

/// A test for each scenario and each server.
macro_rules! scenarios {
    ($($name:ident $(with $conf:ident)?,)*) => {
        mod midge {
            $(#[test] fn $name() {
                crate::run(crate::Program::Midge, &[$(crate::$conf)?], crate::$name);
            })*
        }

        mod reference {
            $(#[test] fn $name() {
                crate::run(crate::Program::Reference, &[$(crate::$conf)?], crate::$name);
            })*
        }
    };
}

scenarios! {
    a_subscriber_gets_what_is_published,
    a_request_gets_its_reply,
    a_request_that_nobody_serves_fails_at_once,
    a_queue_group_gets_each_message_once,
    headers_arrive_as_they_were_sent,
    a_drained_client_has_handled_all_it_was_sent,
    eight_megabytes_of_small_messages_keep_their_order,
    the_largest_payloads_arrive_intact,
    a_thousand_connections_are_served,
    four_users_do_what_each_of_them_may with FOUR_USERS,
    accounts_ask_and_hear_each_other with THREE_ACCOUNTS,
}

/// The example of the documentation for users with permissions.
const FOUR_USERS: &str = include_str!("documented/users.conf");

/// The sample for accounts.
const THREE_ACCOUNTS: &str = include_str!("../configs/accounts.conf");

/// Runs a scenario against a server of its own, with this configuration if there is one.
fn run<F: Future<Output = ()>>(program: Program, conf: &[&str], scenario: fn(String) -> F) {
    let Some(path) = program.path() else { return };
    let mut start = Start::new(&path);
    for conf in conf {
        start = start.conf(conf);
    }
    let server = start.run().expect("the server starts");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let scenario = scenario(server.address().to_string());
        let done = tokio::time::timeout(DEADLINE, scenario).await;
        assert!(done.is_ok(), "{program}: not done in {DEADLINE:?}");
    });
}

async fn connect(server: &str) -> Client {
    let options = ConnectOptions::new().subscription_capacity(1 << 20);
    options.connect(server).await.expect("the server accepts")
}

async fn log_in(server: &str, user: &str, password: &str) -> Client {
    let options = ConnectOptions::with_user_and_password(user.into(), password.into());
    options.connect(server).await.expect("the server accepts")
}

async fn subscribe(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await;
    let subscriber = subscriber.expect("the client takes a subscription");
    round_trip(client).await;
    subscriber
}

/// Waits until the server has handled all that `client` has sent: a message of its own is back.
///
/// The client's `flush` tells only that the socket has taken it.
async fn round_trip(client: &Client) {
    let inbox = client.new_inbox();
    let subscriber = client.subscribe(inbox.clone()).await;
    let mut subscriber = subscriber.expect("the client takes a subscription");
    publish(client, &inbox, "").await;
    subscriber.next().await.expect("the message is back");
}

async fn publish(client: &Client, subject: &str, payload: impl Into<Vec<u8>>) {
    let payload: Vec<u8> = payload.into();
    let published = client.publish(subject.to_owned(), payload.into()).await;
    published.expect("the client takes a message");
}

async fn a_subscriber_gets_what_is_published(server: String) {
    let (publisher, client) = (connect(&server).await, connect(&server).await);
    let mut literal = subscribe(&client, "greet.joe").await;
    let mut wildcard = subscribe(&client, "greet.*").await;
    let mut all = subscribe(&client, "greet.>").await;
    for subject in ["greet.joe", "greet.sue", "greet.all.others"] {
        publish(&publisher, subject, subject).await;
    }
    round_trip(&publisher).await;
    let subjects = [
        (&mut literal, &["greet.joe"][..]),
        (&mut wildcard, &["greet.joe", "greet.sue"]),
        (&mut all, &["greet.joe", "greet.sue", "greet.all.others"]),
    ];
    for (subscriber, subjects) in subjects {
        for subject in subjects {
            let message = subscriber.next().await.expect("a message");
            assert_eq!(message.subject.as_str(), *subject);
            assert_eq!(message.payload, subject.as_bytes());
        }
    }
}

async fn a_request_gets_its_reply(server: String) {
    let (client, service) = (connect(&server).await, connect(&server).await);
    let mut requests = subscribe(&service, "double").await;
    let serve = async {
        while let Some(request) = requests.next().await {
            let reply = request.reply.expect("a request names its inbox");
            let twice = [request.payload.as_ref(), request.payload.as_ref()].concat();
            publish(&service, reply.as_str(), twice).await;
        }
    };
    let ask = async {
        for n in 0..500 {
            let text = n.to_string();
            let reply = client.request("double", text.clone().into()).await;
            assert_eq!(reply.expect("a reply").payload, text.repeat(2).as_bytes());
        }
    };
    futures_util::pin_mut!(serve, ask);
    futures_util::future::select(serve, ask).await;
}

async fn a_request_that_nobody_serves_fails_at_once(server: String) {
    let client = connect(&server).await;
    let error = client.request("nobody", "?".into()).await;
    let error = error.expect_err("there is nobody to reply");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

async fn a_queue_group_gets_each_message_once(server: String) {
    const MEMBERS: usize = 4;
    const MESSAGES: usize = 4000;
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        let client = connect(&server).await;
        let jobs = client.queue_subscribe("jobs", "workers".to_owned()).await;
        let jobs = jobs.expect("the client takes a subscription");
        let end = subscribe(&client, "end").await;
        members.push((client, jobs, end));
    }
    let publisher = connect(&server).await;
    for n in 0..MESSAGES {
        publish(&publisher, "jobs", n.to_string()).await;
    }
    publish(&publisher, "end", "").await;
    round_trip(&publisher).await;
    let mut seen = BTreeSet::new();
    for (_, jobs, end) in &mut members {
        // One publisher's messages come in order: whoever has the last has all the others.
        end.next().await.expect("the end is for everybody");
        let mut share = 0;
        // Unconstrained: or the runtime has the stream pause now and then, though there is more.
        while let Some(Some(job)) = tokio::task::unconstrained(jobs.next()).now_or_never() {
            share += 1;
            assert!(seen.insert(job.payload), "a job came twice");
        }
        assert!(share > 0, "a member was left out");
    }
    assert_eq!(seen.len(), MESSAGES);
}

async fn headers_arrive_as_they_were_sent(server: String) {
    let client = connect(&server).await;
    let mut subscriber = subscribe(&client, "with.headers").await;
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "text/plain; charset=utf-8");
    headers.append("Trace", "one");
    headers.append("Trace", "two");
    headers.insert("Empty", "");
    for payload in ["payload", ""] {
        let subject = "with.headers";
        let sent = client.publish_with_headers(subject, headers.clone(), payload.into());
        sent.await.expect("the client takes a message");
        let message = subscriber.next().await.expect("a message");
        assert_eq!(message.headers.as_ref(), Some(&headers));
        assert_eq!(message.payload, payload);
    }
}

async fn a_drained_client_has_handled_all_it_was_sent(server: String) {
    const MESSAGES: usize = 10_000;
    let (publisher, client) = (connect(&server).await, connect(&server).await);
    let mut subscriber = subscribe(&client, "a").await;
    for n in 0..MESSAGES {
        publish(&publisher, "a", n.to_string()).await;
    }
    round_trip(&publisher).await;
    client.drain().await.expect("the client can drain");
    let mut expected = 0..MESSAGES;
    while let Some(message) = subscriber.next().await {
        let n = expected.next().expect("no more than were sent");
        assert_eq!(message.payload, n.to_string());
    }
    assert!(expected.is_empty(), "the stream ended before {expected:?}");
}

async fn eight_megabytes_of_small_messages_keep_their_order(server: String) {
    const SIZE: usize = 64;
    const MESSAGES: usize = 8 * 1024 * 1024 / SIZE;
    let (publisher, client) = (connect(&server).await, connect(&server).await);
    let mut subscriber = subscribe(&client, "small").await;
    let send = async {
        for n in 0..MESSAGES {
            publish(&publisher, "small", format!("{n:SIZE$}")).await;
        }
        round_trip(&publisher).await;
    };
    let receive = async {
        for n in 0..MESSAGES {
            let message = subscriber.next().await.expect("a message");
            assert_eq!(message.payload, format!("{n:SIZE$}"));
        }
    };
    futures_util::future::join(send, receive).await;
}

async fn the_largest_payloads_arrive_intact(server: String) {
    const SIZE: usize = 1024 * 1024;
    const MESSAGES: usize = 32;
    // A different byte order in each, so that no piece of one fits into another unnoticed.
    let payload = |n: usize| -> Vec<u8> {
        let bytes = (0..SIZE).map(|i| (i * (2 * n + 1) + i / 251) % 256);
        bytes.filter_map(|byte| u8::try_from(byte).ok()).collect()
    };
    let (publisher, client) = (connect(&server).await, connect(&server).await);
    let mut subscriber = subscribe(&client, "large").await;
    let send = async {
        for n in 0..MESSAGES {
            publish(&publisher, "large", payload(n)).await;
        }
        round_trip(&publisher).await;
    };
    let receive = async {
        for n in 0..MESSAGES {
            let message = subscriber.next().await.expect("a message");
            // Without the two megabytes of text that assert_eq would print.
            assert!(message.payload == payload(n), "payload {n} differs");
        }
    };
    futures_util::future::join(send, receive).await;
}

async fn a_thousand_connections_are_served(server: String) {
    const CONNECTIONS: usize = 1000;
    support::raise_descriptor_limit(2 * CONNECTIONS).expect("enough descriptors");
    let mut clients = Vec::new();
    for n in 0..CONNECTIONS {
        let client = connect(&server).await;
        let own = subscribe(&client, &format!("to.{n}")).await;
        let all = subscribe(&client, "to.all").await;
        clients.push((client, own, all));
    }
    // Everybody writes to the next one, and somebody to everybody.
    for (n, (client, _, _)) in clients.iter().enumerate() {
        let next = (n + 1) % CONNECTIONS;
        publish(client, &format!("to.{next}"), n.to_string()).await;
    }
    let (client, _, _) = clients.first().expect("there are clients");
    publish(client, "to.all", "all").await;
    for (n, (_, own, all)) in clients.iter_mut().enumerate() {
        let before = (n + CONNECTIONS - 1) % CONNECTIONS;
        let message = own.next().await.expect("a message");
        assert_eq!(message.payload, before.to_string());
        assert_eq!(all.next().await.expect("a message").payload, "all");
    }
}

async fn four_users_do_what_each_of_them_may(server: String) {
    let joe = log_in(&server, "joe", "foo").await;
    let alice = log_in(&server, "alice", "bar").await;
    let bob = log_in(&server, "bob", "abcdefghijklmnopqrstuvwxwz0123456789").await;
    let charlie = log_in(&server, "charlie", "bar").await;
    let mut requests = bob.subscribe("req.foo").await.expect("the client takes it");
    bob.flush().await.expect("the socket takes it");
    let answers = async {
        while let Some(request) = requests.next().await {
            let reply = request.reply.expect("it has a reply");
            let answered = bob.publish(reply, "!".into()).await;
            answered.expect("the client takes it");
            bob.flush().await.expect("the socket takes it");
        }
    };
    // Bob may not hear himself, so that only an answer tells when his subscription is in force; and nobody else may hear
    // the question before that, since then it would just wait.
    let question = async {
        loop {
            match alice.request("req.foo", "?".into()).await {
                Ok(answer) => break answer,
                Err(error) => assert_eq!(error.kind(), RequestErrorKind::NoResponders),
            }
        }
    };
    let answer = tokio::select! {
        () = answers => unreachable!("the subscription does not end"),
        answer = question => answer,
    };
    assert_eq!(answer.payload, "!");
    let mut all = joe.subscribe(">").await.expect("the client takes it");
    joe.flush().await.expect("the socket takes it");
    round_trip(&joe).await;
    // Alice may ask for nothing else, charlie may play in the sandbox; the order of one publisher tells what was refused.
    for (client, refused, allowed) in [
        (&alice, "req.other", "req.bar"),
        (&bob, "req.foo", "_INBOX.x"),
        (&charlie, "SANDBOX.a.b", "SANDBOX.a"),
        (&charlie, "PUBLIC.x", "SANDBOX.b"),
    ] {
        for subject in [refused, allowed] {
            let published = client.publish(subject, "x".into()).await;
            published.expect("the client takes it");
        }
        client.flush().await.expect("the socket takes it");
        loop {
            let message = all.next().await.expect("a message");
            assert_ne!(
                (message.subject.as_str(), &*message.payload),
                (refused, &b"x"[..])
            );
            if message.subject.as_str() == allowed && message.payload == "x" {
                break;
            }
        }
    }
    assert!(
        ConnectOptions::with_user_and_password("alice".into(), "foo".into())
            .connect(&server)
            .await
            .is_err()
    );
}

async fn accounts_ask_and_hear_each_other(server: String) {
    let shop = log_in(&server, "shop", "change me").await;
    let stock = log_in(&server, "stock", "change me").await;
    let forklift = log_in(&server, "forklift", "change me").await;
    let watcher = connect(&server).await;
    let mut seen = watcher.subscribe(">").await.expect("the client takes it");
    watcher.flush().await.expect("the socket takes it");
    let mut asked = stock
        .subscribe("warehouse.ask.*")
        .await
        .expect("the client takes it");
    stock.flush().await.expect("the socket takes it");
    let answers = async {
        while let Some(request) = asked.next().await {
            assert_eq!(request.subject.as_str(), "warehouse.ask.screws");
            let headers = request.headers.expect("it is told who asks");
            let who = headers
                .get("Nats-Request-Info")
                .expect("it is told who asks");
            assert!(who.as_str().contains(r#""acc":"SHOP""#), "{who:?}");
            let reply = request.reply.expect("it has a reply");
            stock
                .publish(reply, "40".into())
                .await
                .expect("the client takes it");
            stock.flush().await.expect("the socket takes it");
        }
    };
    let questions = async {
        // The first one may come before the subscription to it.
        let answer = loop {
            match shop.request("stock.screws", "?".into()).await {
                Ok(answer) => break answer,
                Err(error) => assert_eq!(error.kind(), RequestErrorKind::NoResponders),
            }
        };
        assert_eq!(answer.payload, "40");
        let nobody = shop.request("warehouse.ask.screws", "?".into()).await;
        assert!(nobody.is_err_and(|it| it.kind() == RequestErrorKind::NoResponders));
    };
    // The answers end with the questions.
    tokio::select! {
        () = answers => unreachable!("the subscription does not end"),
        () = questions => {}
    }
    let mut customers = subscribe(&shop, "customers.*.joe").await;
    publish(&shop, "customer.joe", "x").await;
    let customer = customers.next().await.expect("a message");
    assert_eq!(customer.subject.as_str(), "customers.1.joe");
    // In turns, so that their order is known; until the watcher's subscription is in force they are lost.
    for (client, subject, expected) in [
        (
            &shop,
            "orders.new",
            ["shop.orders.legacy", "shop.orders.modern"],
        ),
        (&forklift, "warehouse.level.screws", ["level.screws"; 2]),
        (
            &forklift,
            "warehouse.for.DASHBOARD.you",
            ["warehouse.for.DASHBOARD.you"; 2],
        ),
    ] {
        let message = loop {
            publish(client, subject, "x").await;
            round_trip(client).await;
            let soon = tokio::time::timeout(Duration::from_millis(200), seen.next()).await;
            if let Ok(message) = soon {
                break message.expect("a message");
            }
        };
        assert!(
            expected.contains(&message.subject.as_str()),
            "{}",
            message.subject
        );
    }
}
