//! The servers of a round: one, or a cluster of two with the subscribers on the other one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::client::Client;
use crate::process::{Memory, Program, Server, Usage};
use crate::wire::Transport;

/// Running servers; they end when this is dropped.
pub(crate) struct Site {
    /// Where publishers connect.
    home: Server,
    /// Where subscribers connect, if not there too.
    away: Option<Server>,
}

impl Site {
    /// Starts one server.
    pub(crate) fn single(program: &Program, transport: Transport) -> Outcome<Self> {
        let home = Server::start(program, transport)?;
        Ok(Self { home, away: None })
    }

    /// Starts two servers that are a cluster, with a route for the messages of clients and without compression, and
    /// waits until what is subscribed to on one is known to the other.
    pub(crate) fn pair(program: &Program, transport: Transport) -> Outcome<Self> {
        let conf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pair.conf");
        let write = |routes: &str| fs::write(&conf, format!("cluster {{{CLUSTER}{routes}}}\n"));
        write("")?;
        let home = Server::start(&program.with_conf(&conf), transport)?;
        let seed = home.cluster().ok_or("no cluster in the ports file")?;
        write(&format!("routes: [\"nats://{seed}\"]"))?;
        let away = Server::start(&program.with_conf(&conf), transport)?;
        let site = Self {
            home,
            away: Some(away),
        };
        site.settle()?;
        Ok(site)
    }

    /// Where publishers connect.
    pub(crate) fn publishers(&self) -> &Server {
        &self.home
    }

    /// Where subscribers connect.
    pub(crate) fn subscribers(&self) -> &Server {
        self.away.as_ref().unwrap_or(&self.home)
    }

    /// Waits until everything subscribed to so far is known where the publishers are.
    pub(crate) fn settle(&self) -> Outcome<()> {
        if self.away.is_none() {
            return Ok(());
        }
        // Interest goes the same way one after the other: what came before this subscription is known before it.
        let mut subscriber = Client::connect(self.subscribers(), b"SUB settled 1\r\n")?;
        let mut publisher = Client::connect(&self.home, b"")?;
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while Instant::now() < deadline {
            publisher.send(b"PUB settled 0\r\n\r\n")?;
            publisher.flush()?;
            if subscriber.has_received(SETTLE_STEP)? {
                return Ok(());
            }
        }
        Err("the servers have not become a cluster".into())
    }

    /// CPU time of all servers so far.
    pub(crate) fn usage(&self) -> Outcome<Usage> {
        let usage = self.home.usage()?;
        match &self.away {
            Some(away) => Ok(usage.and(&away.usage()?)),
            None => Ok(usage),
        }
    }

    /// Memory of the server that the subscribers are connected to.
    pub(crate) fn memory(&self) -> Outcome<Memory> {
        self.subscribers().memory()
    }
}

const CLUSTER: &str = "name: bench, listen: \"127.0.0.1:-1\", compression: off, ";
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one probe may be under way before another is sent.
const SETTLE_STEP: Duration = Duration::from_millis(50);
