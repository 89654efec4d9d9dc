//! What a client may send: made up at random, and written in any of the ways that mean the same.

use midge::rng::Rng;

/// One operation of a client.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Connect(Wishes),
    Ping,
    Publish(Publish),
    Subscribe {
        subject: String,
        queue: Option<String>,
        sid: String,
    },
    Unsubscribe {
        sid: String,
        max: u32,
    },
    /// Bytes that are no operation.
    Nonsense,
}

/// What CONNECT asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
}

/// A message, as its publisher writes it.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    /// Stands at the start of the payload, so that every delivery shows what it is one of.
    pub(crate) id: u64,
    pub(crate) subject: String,
    pub(crate) reply: String,
    /// `None` is PUB, an empty one HPUB all the same.
    pub(crate) headers: Option<String>,
    pub(crate) payload: String,
    /// Digits of a size at least.
    pub(crate) digits: usize,
}

impl Default for Wishes {
    /// Those of a connection that has not sent CONNECT.
    fn default() -> Self {
        Wishes {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
        }
    }
}

impl Operation {
    /// Makes one up. `id` tells messages apart.
    pub(crate) fn random(rng: &mut Rng, id: u64, takes_headers: bool) -> Operation {
        match rng.below(100) {
            0 => Operation::Nonsense,
            1..8 => Operation::Connect(Wishes::random(rng)),
            8..14 => Operation::Ping,
            14..40 => Operation::Subscribe {
                subject: pattern(rng),
                queue: (rng.below(3) == 0).then(|| pick(rng, &["q", "r"]).into()),
                sid: sid(rng),
            },
            40..50 => Operation::Unsubscribe {
                sid: sid(rng),
                max: u32::try_from(rng.below(4)).expect("small"),
            },
            _ => Operation::Publish(Publish::random(rng, id, takes_headers)),
        }
    }

    /// Its bytes.
    pub(crate) fn wire(&self, rng: &mut Rng) -> Vec<u8> {
        match self {
            Operation::Connect(wishes) => control(rng, "CONNECT", &[&wishes.json()]),
            Operation::Ping => control(rng, "PING", &[]),
            Operation::Subscribe {
                subject,
                queue,
                sid,
            } => match queue {
                Some(queue) => control(rng, "SUB", &[subject, queue, sid]),
                None => control(rng, "SUB", &[subject, sid]),
            },
            Operation::Unsubscribe { sid, max: 0 } => control(rng, "UNSUB", &[sid]),
            Operation::Unsubscribe { sid, max } => control(rng, "UNSUB", &[sid, &max.to_string()]),
            Operation::Publish(publish) => publish.wire(rng),
            Operation::Nonsense => b"FOO\r\n".to_vec(),
        }
    }
}

impl Wishes {
    fn random(rng: &mut Rng) -> Self {
        let headers = rng.below(2) == 0;
        Wishes {
            verbose: rng.below(4) == 0,
            pedantic: rng.below(4) == 0,
            echo: rng.below(3) > 0,
            headers,
            // Asking for it without headers is an error, so it is rare.
            no_responders: rng.below(if headers { 2 } else { 20 }) == 0,
        }
    }

    fn json(self) -> String {
        let Wishes {
            verbose,
            pedantic,
            echo,
            headers,
            no_responders,
        } = self;
        format!(
            r#"{{"verbose":{verbose},"pedantic":{pedantic},"echo":{echo},"headers":{headers},"no_responders":{no_responders}}}"#
        )
    }
}

impl Publish {
    fn random(rng: &mut Rng, id: u64, takes_headers: bool) -> Self {
        let with_headers = rng.below(if takes_headers { 2 } else { 60 }) == 0;
        let subject = match rng.below(30) {
            0 => pattern(rng),
            _ => literal(rng),
        };
        Publish {
            id,
            subject,
            reply: if rng.below(3) == 0 {
                literal(rng)
            } else {
                String::new()
            },
            headers: with_headers
                .then(|| pick(rng, &["", "NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\n\r\n"]).into()),
            payload: format!("{id};{}", "x".repeat(rng.below(3) * rng.below(40))),
            digits: rng.below(5).saturating_sub(1),
        }
    }

    /// The sizes as their publisher writes them, the last one as a subscriber reads it.
    fn sizes(&self) -> Vec<String> {
        let digits = self.digits;
        let headers = self.headers.as_ref().map(String::len);
        let total = headers.unwrap_or(0) + self.payload.len();
        let sizes = headers.into_iter().chain([total]);
        sizes.map(|size| format!("{size:0digits$}")).collect()
    }

    fn wire(&self, rng: &mut Rng) -> Vec<u8> {
        let sizes = self.sizes();
        let mut arguments = vec![self.subject.as_str()];
        if !self.reply.is_empty() {
            arguments.push(&self.reply);
        }
        arguments.extend(sizes.iter().map(String::as_str));
        let verb = if self.headers.is_some() {
            "HPUB"
        } else {
            "PUB"
        };
        let mut wire = control(rng, verb, &arguments);
        wire.extend_from_slice(self.headers.as_deref().unwrap_or_default().as_bytes());
        wire.extend_from_slice(self.payload.as_bytes());
        wire.extend_from_slice(b"\r\n");
        wire
    }

    /// What a subscription gets of it.
    pub(crate) fn delivery(&self, sid: &str, takes_headers: bool) -> Vec<u8> {
        let headers = self.headers.as_deref().unwrap_or_default();
        let (subject, payload) = (&self.subject, &self.payload);
        let reply = match self.reply.as_str() {
            "" => String::new(),
            reply => format!("{reply} "),
        };
        let sizes = self.sizes();
        let text = if headers.is_empty() {
            let size = sizes.last().expect("a total");
            format!("MSG {subject} {sid} {reply}{size}\r\n{payload}\r\n")
        } else if takes_headers {
            let sizes = sizes.join(" ");
            format!("HMSG {subject} {sid} {reply}{sizes}\r\n{headers}{payload}\r\n")
        } else {
            let size = payload.len();
            format!("MSG {subject} {sid} {reply}{size}\r\n{payload}\r\n")
        };
        text.into_bytes()
    }

    /// What its publisher gets, on its own subscription to the reply subject, when nobody is there.
    pub(crate) fn no_responders(&self, sid: &str) -> Vec<u8> {
        let status = format!("NATS/1.0 503\r\nNats-Subject: {}\r\n\r\n", self.subject);
        let (reply, len) = (&self.reply, status.len());
        format!("HMSG {reply} {sid} {len} {len}\r\n{status}\r\n").into_bytes()
    }
}

/// A control line, now and then with another case, other blanks, another end.
fn control(rng: &mut Rng, verb: &str, arguments: &[&str]) -> Vec<u8> {
    let odd = rng.below(6) == 0;
    let mut line = if odd && rng.below(2) == 0 {
        verb.to_lowercase()
    } else {
        verb.to_owned()
    };
    for argument in arguments {
        line.push_str(if odd {
            pick(rng, &[" ", "  ", "\t", " \t "])
        } else {
            " "
        });
        line.push_str(argument);
    }
    if odd {
        line.push_str(pick(rng, &["\n", " \r\n", "\t\n"]));
    } else {
        line.push_str("\r\n");
    }
    line.into_bytes()
}

/// Few enough words for matches to be frequent.
const WORDS: [&str; 3] = ["a", "b", "a*"];

fn literal(rng: &mut Rng) -> String {
    let tokens: Vec<_> = (0..=rng.below(3)).map(|_| pick(rng, &WORDS)).collect();
    tokens.join(".")
}

/// A subject to subscribe to; now and then one that nobody can.
fn pattern(rng: &mut Rng) -> String {
    if rng.below(25) == 0 {
        return pick(rng, &["a..b", "a.>.b", ".a", "b.", ">.>"]).into();
    }
    let mut tokens: Vec<_> = (0..=rng.below(3))
        .map(|_| pick(rng, &["a", "b", "a*", "*"]))
        .collect();
    if rng.below(4) == 0 {
        tokens.pop();
        tokens.push(">");
    }
    tokens.join(".")
}

fn sid(rng: &mut Rng) -> String {
    pick(rng, &["1", "2", "3", "4", "a-sid-that-is-not-short"]).into()
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from.get(rng.below(from.len()))
        .copied()
        .expect("the choice is among them")
}
