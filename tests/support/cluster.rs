//! Clusters of several server processes on one machine.

use serde_json::Value;

use super::http::get;
use super::server::{Server, Start};
use super::{Program, wait_for};

/// Starts a server whose cluster block ends with `more`, and which dials the route port `seed` if there is one.
pub(crate) fn node(
    program: Program,
    name: &str,
    seed: Option<u16>,
    top: &str,
    more: &str,
) -> Option<Server> {
    let path = program.path()?;
    let routes = seed.map_or(String::new(), |port| {
        format!("routes: [\"nats-route://127.0.0.1:{port}\"]")
    });
    let listen = "listen: \"127.0.0.1:-1\"";
    let conf = format!(
        "server_name: {name}\nhttp: \"127.0.0.1:-1\"\n{top}\ncluster {{ name: C1, {listen}\n{routes}\n{more} }}\n"
    );
    let server = Start::new(&path).conf(&conf).arg("-D").run();
    Some(server.expect("a server that starts"))
}

/// The port on which it accepts routes.
pub(crate) fn route_port(server: &Server) -> u16 {
    let port = wait_for(|| {
        let log = server.log();
        let (_, rest) = log.split_once("Listening for route connections on 127.0.0.1:")?;
        rest.lines().next()?.trim().parse().ok()
    });
    port.expect("it listens for routes")
}

/// A cluster of which only the first server is known to the others; `None` where one of them cannot be had.
pub(crate) fn cluster(mix: &[Program], top: &str, more: &str) -> Option<Vec<Server>> {
    let mut servers: Vec<Server> = Vec::new();
    for (at, &program) in mix.iter().enumerate() {
        let seed = servers.first().map(route_port);
        servers.push(node(program, &format!("n{at}"), seed, top, more)?);
    }
    expect_mesh(&servers);
    Some(servers)
}

/// Its page of routes.
pub(crate) fn routez(server: &Server, query: &str) -> Value {
    get(server.monitor(), &format!("/routez{query}")).json()
}

/// The names of the servers that it has routes to.
pub(crate) fn remotes(server: &Server) -> Vec<String> {
    let page = routez(server, "");
    let routes = page["routes"].as_array().cloned().unwrap_or_default();
    let names = routes
        .iter()
        .filter_map(|route| route["remote_name"].as_str());
    let mut names: Vec<String> = names.map(Into::into).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Waits until everyone has routes to all others, the whole pool.
pub(crate) fn expect_mesh(servers: &[Server]) {
    for server in servers {
        let is_complete = || {
            let count = routez(server, "")["num_routes"].as_u64().unwrap_or(0);
            let others = servers.len() - 1;
            // Three for the pool, and the system account's own.
            let is_full = remotes(server).len() == others && count == 4 * others as u64;
            is_full.then_some(())
        };
        let found = wait_for(is_complete);
        assert!(
            found.is_some(),
            "{} in\n{}",
            routez(server, ""),
            server.log()
        );
    }
}

/// Waits until a server has heard from so many routes of interest in a subject.
pub(crate) fn expect_interest(server: &Server, subject: &str, count: usize) {
    let heard = || {
        let page = routez(server, "?subs=1").to_string();
        (page.matches(&format!("\"{subject}\"")).count() == count).then_some(())
    };
    let found = wait_for(heard);
    assert!(found.is_some(), "{subject}: {}", routez(server, "?subs=1"));
}
