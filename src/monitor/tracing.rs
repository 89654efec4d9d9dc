//! What is told of a message that asked to be traced: how it came here, and where it went.
//!
//! ```text
//! {"server":{…},"request":{"header":{"Nats-Trace-Dest":["t"]},"msgsize":36},"hops":1,"events":[
//!   {"type":"in","ts":"…","kind":0,"cid":8,"name":"app","acc":"A","subj":"x"},       it came; "error" if it was refused
//!   {"type":"sm","ts":"…","to":"y"},                                                 a mapping renamed it
//!   {"type":"si","ts":"…","acc":"B","from":"y","to":"svc.y"},                        it went to another account's service
//!   {"type":"se","ts":"…","acc":"C","to":"z"},                                       it went to another account's subscription
//!   {"type":"eg","ts":"…","kind":0,"cid":6,"sub":"y","queue":"q"},                   it went to a client
//!   {"type":"eg","ts":"…","kind":1,"cid":9,"name":"n2","hop":"1"}]}                  it went to another server
//! ```
//!
//! The text has no type; `kind` is 0 for a client and 1 for another server; what is empty is left out. Source: NATS ADR-41,
//! and the reference server's events.

use std::time::Instant;

use serde_json::Value;

use super::{Json, Moment, Site, system};
use crate::limits;
use crate::proto::tracing;
use crate::sublist::SubRef;

/// A message that is traced.
#[derive(Debug)]
pub struct Trace {
    /// The account that it came in, and is told of in.
    pub account: u32,
    /// Where it is told of.
    pub destination: Box<[u8]>,
    /// Its headers, as they came.
    pub headers: Box<[u8]>,
    /// Bytes of headers and payload.
    pub size: usize,
    /// The subject under which it was routed.
    pub subject: Vec<u8>,
    /// When.
    pub at: Instant,
    /// Whether it is not delivered.
    pub only: bool,
    /// Other servers that it goes to.
    pub hops: u32,
    /// How it came.
    pub ingress: Ingress,
    /// What became of it.
    pub steps: Vec<Step>,
    /// Workers that have still to say who of theirs got it. The last one tells.
    pub waiting: usize,
}

/// How a message came.
#[derive(Debug)]
pub struct Ingress {
    /// From whom.
    pub from: Party,
    /// In which account.
    pub account: String,
    /// To which subject.
    pub subject: Vec<u8>,
    /// Why it was refused; empty if it was not.
    pub error: String,
}

/// Who has a connection.
#[derive(Clone, Debug)]
pub struct Party {
    /// Whether it is another server.
    pub is_server: bool,
    /// The connection's number.
    pub id: u64,
    /// The application's name, or the server's; empty if it has none.
    pub name: String,
}

/// Something that became of a message.
#[derive(Debug)]
pub enum Step {
    /// A mapping of its account gave it another subject.
    Mapped {
        /// That one.
        to: Vec<u8>,
    },
    /// It went to the service of another account, or back from there.
    Service {
        /// That account.
        account: String,
        /// The subject here.
        from: Vec<u8>,
        /// The subject there.
        to: Vec<u8>,
    },
    /// It went to a subscription of another account.
    Export {
        /// That account.
        account: String,
        /// The subject there.
        to: Vec<u8>,
    },
    /// It went to a connection.
    Egress(Egress),
}

/// A connection that a message went to.
#[derive(Clone, Debug)]
pub struct Egress {
    /// The subscription, or the link to another server.
    pub to: SubRef,
    /// The connection's slot at its worker, once that is known.
    pub conn: Option<u32>,
    /// Whose it is, once that is known. It never is if it has gone meanwhile.
    pub party: Option<Party>,
    /// What the subscription matches; empty for another server.
    pub subject: Vec<u8>,
    /// Its queue group; empty if it has none.
    pub queue: Vec<u8>,
    /// Which of the next servers on its way that one is; empty for a client.
    pub hop: String,
    /// Why it did not go there after all; empty if it did.
    pub error: &'static str,
}

impl Egress {
    /// One of which nothing else is known yet.
    #[must_use]
    pub fn new(to: SubRef, queue: &[u8], error: &'static str) -> Self {
        Egress {
            to,
            conn: None,
            party: None,
            subject: Vec::new(),
            queue: queue.into(),
            hop: String::new(),
            error,
        }
    }
}

impl Trace {
    /// Memory that it takes, more or less: what other workers add is not known yet.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.headers.len() + self.steps.len() * size_of::<Step>() + size_of::<Trace>()
    }

    /// Notes a step, unless there are too many.
    pub fn push(&mut self, step: Step) {
        if self.steps.len() < limits::TRACE_STEPS_MAX {
            self.steps.push(step);
        }
    }

    /// What is told, for the `seq`th time: as many steps as a message has room for.
    #[must_use]
    pub fn text(&self, site: &Site<'_>, seq: u64, at: Moment) -> String {
        let bytes_max = limits::TRACE_BYTES_MAX.min(site.options.max_payload);
        let at = site.date(at);
        let mut json = Json::compact();
        json.object(|json| {
            system::server(site, seq, json);
            json.object_at("request", |json| {
                // A byte may take six in JSON.
                if self.headers.len() <= bytes_max / 8 {
                    let headers = Value::Object(tracing::headers_of(&self.headers));
                    json.number("header", headers);
                }
                json.number("msgsize", self.size);
            });
            json.some_number("hops", self.hops.into());
            json.array_at("events", |json| {
                json.item(|json| self.ingress.fill(&at, json));
                let mut steps = self.steps.iter();
                while steps
                    .next()
                    .is_some_and(|step| json.item_within(bytes_max, |json| step.fill(&at, json)))
                {
                }
            });
        });
        json.into_text()
    }
}

impl Ingress {
    fn fill(&self, at: &str, json: &mut Json) {
        begin("in", at, json);
        self.from.fill(json);
        json.text("acc", &self.account);
        json.text("subj", shown(&self.subject));
        json.some_text("error", &self.error);
    }
}

impl Party {
    fn fill(&self, json: &mut Json) {
        json.number("kind", u8::from(self.is_server));
        json.number("cid", self.id);
        json.some_text("name", &self.name);
    }
}

impl Step {
    fn fill(&self, at: &str, json: &mut Json) {
        match self {
            Step::Mapped { to } => {
                begin("sm", at, json);
                json.text("to", shown(to));
            }
            Step::Service { account, from, to } => {
                begin("si", at, json);
                json.text("acc", account);
                json.text("from", shown(from));
                json.text("to", shown(to));
            }
            Step::Export { account, to } => {
                begin("se", at, json);
                json.text("acc", account);
                json.text("to", shown(to));
            }
            Step::Egress(egress) => {
                begin("eg", at, json);
                match &egress.party {
                    Some(party) => party.fill(json),
                    None => json.number("kind", u8::from(egress.to.is_route())),
                }
                json.some_text("hop", &egress.hop);
                json.some_text("sub", shown(&egress.subject));
                json.some_text("queue", shown(&egress.queue));
                json.some_text("error", egress.error);
            }
        }
    }
}

fn begin(kind: &str, at: &str, json: &mut Json) {
    json.text("type", kind);
    json.text("ts", at);
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
