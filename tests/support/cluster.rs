//! Clusters of several server processes on one machine.

use serde_json::Value;

use super::http::get;
use super::server::{Server, Start};
use super::{Program, wait_for};

/// A server of a cluster, as it is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) program: Program,
    pub(crate) name: &'a str,
    /// The cluster's name, if it is to have one.
    pub(crate) cluster: Option<&'a str>,
    /// The route port to dial, if there is one.
    pub(crate) seed: Option<u16>,
    /// What stands before the host there: `user:password@`.
    pub(crate) login: &'a str,
    /// More of the configuration.
    pub(crate) top: &'a str,
    /// More of its cluster block.
    pub(crate) more: &'a str,
}

impl Node<'_> {
    /// One of cluster C1 that dials nobody.
    pub(crate) fn new(program: Program, name: &str) -> Node<'_> {
        Node {
            program,
            name,
            cluster: Some("C1"),
            seed: None,
            login: "",
            top: "",
            more: "",
        }
    }

    /// Its configuration.
    pub(crate) fn conf(&self) -> String {
        let Node {
            name,
            login,
            top,
            more,
            ..
        } = self;
        let cluster = self.cluster.map(|name| format!("name: {name}"));
        let cluster = cluster.unwrap_or_default();
        let routes = self
            .seed
            .map(|port| format!("routes: [\"nats-route://{login}127.0.0.1:{port}\"]"));
        let routes = routes.unwrap_or_default();
        let listen = "listen: \"127.0.0.1:-1\"";
        format!(
            "server_name: {name}\nhttp: \"127.0.0.1:-1\"\n{top}\ncluster {{ {cluster}\n{listen}\n{routes}\n{more} }}\n"
        )
    }

    /// Starts it; `None` where the program cannot be had.
    pub(crate) fn start(&self) -> Option<Server> {
        let path = self.program.path()?;
        let server = Start::new(&path).conf(&self.conf()).arg("-D").run();
        Some(server.expect("a server that starts"))
    }
}

/// Starts a server whose cluster block ends with `more`, and which dials the route port `seed` if there is one.
pub(crate) fn node(
    program: Program,
    name: &str,
    seed: Option<u16>,
    top: &str,
    more: &str,
) -> Option<Server> {
    let node = Node {
        seed,
        top,
        more,
        ..Node::new(program, name)
    };
    node.start()
}

/// Starts two servers, of which the second dials the first, with these additions to their configurations and to the
/// cluster blocks of those.
pub(crate) fn pair(mix: [Program; 2], tops: [&str; 2], mores: [&str; 2]) -> Option<[Server; 2]> {
    let first = node(mix[0], "n0", None, tops[0], mores[0])?;
    let second = node(mix[1], "n1", Some(route_port(&first)), tops[1], mores[1])?;
    Some([first, second])
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
