//! The workloads that publish as fast as the window allows.

use std::time::Duration;

use crate::client::Client;
use crate::process::Program;
use crate::site::Site;
use crate::traffic::{Flow, Pacer, Script, Traffic};
use crate::wire::Transport;
use crate::{Figures, Outcome};

/// One shape of load. [`Load::BASE`] is one publisher, one subscriber, 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Publishers, each with a subject and subscribers of its own.
    pub(crate) flows: usize,
    /// Subscribers of each flow.
    pub(crate) subscribers: usize,
    /// Whether the subscribers of a flow share a queue group.
    pub(crate) is_queue: bool,
    /// Whether messages carry a header.
    pub(crate) has_headers: bool,
    /// Payload bytes.
    pub(crate) payload: usize,
    /// Literal subjects per flow, published to in turn.
    pub(crate) subjects: usize,
    /// How often a second a further connection subscribes elsewhere and unsubscribes.
    pub(crate) churn: u32,
    /// Bytes per write of a publisher, about.
    pub(crate) block: usize,
    /// How far a publisher may be ahead of its subscribers, in bytes at the subscribers.
    pub(crate) window: u64,
    /// Whether the subscribers are on another server of a cluster. CPU time is that of both then.
    pub(crate) is_routed: bool,
    /// What the connections run over.
    pub(crate) transport: Transport,
}

impl Load {
    /// One publisher, one subscriber, 16 bytes.
    pub(crate) const BASE: Self = Self {
        flows: 1,
        subscribers: 1,
        is_queue: false,
        has_headers: false,
        payload: 16,
        subjects: 1,
        churn: 0,
        block: 64 * 1024,
        window: 4 * 1024 * 1024,
        is_routed: false,
        transport: Transport::Plain,
    };

    /// Runs the load on a fresh server: a warm-up, then `duration` measured.
    pub(crate) fn measure(&self, program: &Program, duration: Duration) -> Outcome<Figures> {
        let site = if self.is_routed {
            Site::pair(program, self.transport)?
        } else {
            Site::single(program, self.transport)?
        };
        let mut traffic = self.connect(&site)?;
        traffic.run(duration.mul_f64(WARM_UP))?;
        let before = site.usage()?;
        let tally = traffic.run(duration)?;
        let spent = site.usage()?.since(&before);
        let memory = site.memory()?;
        traffic.check_surplus()?;

        let messages = tally.messages * self.deliveries().max(1) as f64;
        Ok(Figures::from([
            ("cpu_ns", spent.total_ns / messages),
            ("user_ns", spent.user_ns / messages),
            ("system_ns", (spent.total_ns - spent.user_ns) / messages),
            ("cores", spent.total_ns / tally.elapsed.as_secs_f64() / 1e9),
            ("rate", messages / tally.elapsed.as_secs_f64()),
            ("resident_mib", memory.resident_kib / 1024.0),
            ("peak_mib", memory.peak_kib / 1024.0),
        ]))
    }

    /// Opens all connections, subscribers first.
    pub(crate) fn connect(&self, site: &Site) -> Outcome<Traffic> {
        let flows: Outcome<Vec<Flow>> = (0..self.flows)
            .map(|flow| self.connect_flow(site, flow))
            .collect();
        let pacer = match self.churn {
            0 => None,
            rate => Some(Pacer::new(
                Client::connect(site.publishers(), b"")?,
                churn_script(),
                f64::from(rate),
            )?),
        };
        Traffic::new(flows?, pacer)
    }

    fn connect_flow(&self, site: &Site, flow: usize) -> Outcome<Flow> {
        let queue = if self.is_queue { " workers" } else { "" };
        let lines: String = (0..self.subjects)
            .map(|subject| {
                format!(
                    "SUB {}{queue} {}\r\n",
                    self.subject(flow, subject),
                    self.sid(subject)
                )
            })
            .collect();
        let subscribers: Outcome<Vec<Client>> = (0..self.subscribers)
            .map(|_| Client::connect(site.subscribers(), lines.as_bytes()))
            .collect();
        let subscribers = subscribers?;
        site.settle()?;
        let publisher = Client::connect(site.publishers(), b"")?;
        Flow::new(publisher, subscribers, self.script(flow), self.window)
    }

    /// How many subscribers receive each message.
    fn deliveries(&self) -> usize {
        if self.is_queue { 1 } else { self.subscribers }
    }

    /// All blocks of a flow: as many as it takes to come round to the first subject at the end of one.
    fn script(&self, flow: usize) -> Script {
        let (first, received) = self.encode(flow, 0);
        // A block has as many messages as fit, but a number that divides that of the subjects.
        let fitting = (self.block / first.len()).max(1);
        let block_messages = match self.subjects {
            1 => fitting,
            subjects => (1..=fitting)
                .rev()
                .find(|count| subjects % count == 0)
                .unwrap_or(1),
        };
        let messages = block_messages.max(self.subjects);
        let bytes = (0..messages).flat_map(|message| self.encode(flow, message % self.subjects).0);
        Script {
            bytes: bytes.collect(),
            block_bytes: first.len() * block_messages,
            block_messages: block_messages as u64,
            block_received: (received * block_messages * self.deliveries()) as u64,
        }
    }

    /// One message as published, and the length of what a subscriber receives. Both lengths are the same for every
    /// subject.
    fn encode(&self, flow: usize, subject: usize) -> (Vec<u8>, usize) {
        let (sid, subject) = (self.sid(subject), self.subject(flow, subject));
        let (total, headers) = (HEADERS.len() + self.payload, HEADERS.len());
        let (mut published, delivered) = if self.has_headers {
            (
                format!("HPUB {subject} {headers} {total}\r\n{HEADERS}"),
                format!("HMSG {subject} {sid} {headers} {total}\r\n{HEADERS}"),
            )
        } else {
            (
                format!("PUB {subject} {}\r\n", self.payload),
                format!("MSG {subject} {sid} {}\r\n", self.payload),
            )
        };
        let received = delivered.len() + self.payload + 2;
        published.extend(std::iter::repeat_n('.', self.payload));
        published.push_str("\r\n");
        (published.into_bytes(), received)
    }

    fn subject(&self, flow: usize, subject: usize) -> String {
        match self.subjects {
            1 => format!("bench.{flow:02}"),
            _ => format!("bench.{flow:02}.{subject:06}"),
        }
    }

    fn sid(&self, subject: usize) -> usize {
        match self.subjects {
            1 => 1,
            _ => 100_000 + subject,
        }
    }
}

/// Subscribes to one subject after another and leaves it at once; a block is one of each.
fn churn_script() -> Script {
    let lines: String = (0..CHURN_SUBJECTS)
        .map(|n| format!("SUB elsewhere.{n:05} {n:05}\r\nUNSUB {n:05}\r\n"))
        .collect();
    Script {
        block_bytes: lines.len() / CHURN_SUBJECTS,
        bytes: lines.into_bytes(),
        block_messages: 1,
        block_received: 0,
    }
}

const HEADERS: &str = "NATS/1.0\r\nBench: 1\r\n\r\n";
const CHURN_SUBJECTS: usize = 10_000;
/// Length of the warm-up, as a part of the round.
const WARM_UP: f64 = 0.15;
