//! The rules of NATS, as a list of subscriptions and a look at each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use midge::subject;

use crate::operation::{Operation, Publish, Wishes};
use crate::outlets::Place;

/// Everything that the rules remember.
pub(crate) struct Rules {
    pub(crate) clients: BTreeMap<Place, Client>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) max_subscriptions: Option<usize>,
    keys: u64,
}

/// Whoever has a connection at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Tells it from others that have had the same place.
    pub(crate) number: u64,
    pub(crate) wishes: Wishes,
    connected: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// Tells it from all others there ever were.
    pub(crate) key: u64,
    pub(crate) place: Place,
    client: u64,
    pub(crate) subject: String,
    pub(crate) queue: Option<String>,
    pub(crate) sid: String,
    delivered: u64,
    /// Deliveries after which it ends; 0 is never.
    max: u64,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) publish: Publish,
    pub(crate) place: Place,
    /// The number of its publisher.
    pub(crate) publisher: u64,
    /// The publisher does not want it back.
    silent: bool,
    /// The publisher wants to know if nobody gets it.
    pub(crate) asks: bool,
}

/// What comes of an operation.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What its client is answered.
    pub(crate) reply: Vec<u8>,
    pub(crate) message: Option<Rc<Message>>,
    /// The connection ends.
    pub(crate) closes: bool,
}

impl Rules {
    pub(crate) fn new(max_subscriptions: Option<usize>) -> Self {
        Rules {
            clients: BTreeMap::new(),
            subscriptions: Vec::new(),
            max_subscriptions,
            keys: 0,
        }
    }

    /// Somebody connects.
    pub(crate) fn open(&mut self, place: Place) {
        let client = Client {
            number: self.key(),
            wishes: Wishes::default(),
            connected: false,
        };
        self.clients.insert(place, client);
    }

    /// All subscriptions of a connection end.
    pub(crate) fn forget(&mut self, place: Place) {
        self.subscriptions.retain(|it| it.place != place);
    }

    /// What comes of an operation for its client.
    pub(crate) fn operate(&mut self, place: Place, operation: &Operation) -> Outcome {
        let client = self.clients[&place].clone();
        let ok: &[u8] = if client.wishes.verbose {
            b"+OK\r\n"
        } else {
            b""
        };
        match operation {
            Operation::Ping => Outcome::reply(b"PONG\r\n"),
            Operation::Nonsense => Outcome::end(b"-ERR 'Unknown Protocol Operation'\r\n"),
            Operation::Connect(wishes) => self.connect(place, *wishes),
            Operation::Subscribe {
                subject,
                queue,
                sid,
            } => match self.subscribe(place, subject, queue.as_deref(), sid) {
                Ok(()) => Outcome::reply(ok),
                Err(text) => Outcome::reply(format!("-ERR '{text}'\r\n").as_bytes()),
            },
            Operation::Unsubscribe { sid, max } => {
                self.unsubscribe(place, sid, (*max).into());
                Outcome::reply(ok)
            }
            Operation::Publish(publish) if publish.headers.is_some() && !client.wishes.headers => {
                Outcome::end(b"")
            }
            Operation::Publish(publish) => {
                let mut outcome = Outcome::default();
                if client.wishes.pedantic && !is_literal(&publish.subject) {
                    let text = b"-ERR 'Invalid Publish Subject'\r\n";
                    outcome.reply.extend_from_slice(text);
                }
                outcome.reply.extend_from_slice(ok);
                outcome.message = Some(Rc::new(Message {
                    publish: publish.clone(),
                    place,
                    publisher: client.number,
                    silent: !client.wishes.echo,
                    asks: client.wishes.no_responders && !publish.reply.is_empty(),
                }));
                outcome
            }
        }
    }

    fn connect(&mut self, place: Place, wishes: Wishes) -> Outcome {
        if wishes.no_responders && !wishes.headers {
            return Outcome::end(b"-ERR 'no responders requires headers support'\r\n");
        }
        let client = self.clients.get_mut(&place).expect("somebody is there");
        client.wishes = wishes;
        if std::mem::replace(&mut client.connected, true) {
            self.forget(place);
        }
        Outcome::reply(if wishes.verbose { b"+OK\r\n" } else { b"" })
    }

    fn subscribe(
        &mut self,
        place: Place,
        subject: &str,
        queue: Option<&str>,
        sid: &str,
    ) -> Result<(), &'static str> {
        let full = |max| self.count_of(place) >= max;
        if self.max_subscriptions.is_some_and(full) {
            return Err("maximum subscriptions exceeded");
        }
        if self.of(place).any(|it| it.sid == sid) {
            return Ok(());
        }
        if !is_pattern(subject) {
            return Err("Invalid Subject");
        }
        let subscription = Subscription {
            key: self.key(),
            place,
            client: self.clients[&place].number,
            subject: subject.into(),
            queue: queue.map(Into::into),
            sid: sid.into(),
            delivered: 0,
            max: 0,
        };
        self.subscriptions.push(subscription);
        Ok(())
    }

    fn unsubscribe(&mut self, place: Place, sid: &str, max: u64) {
        self.subscriptions.retain_mut(|it| {
            if it.place != place || it.sid != sid {
                return true;
            }
            it.max = max;
            max > it.delivered
        });
    }

    /// A subscription got a message.
    pub(crate) fn delivered(&mut self, key: u64) {
        self.subscriptions.retain_mut(|it| {
            if it.key != key {
                return true;
            }
            it.delivered += 1;
            it.max == 0 || it.delivered < it.max
        });
    }

    /// The subscriptions of a connection.
    pub(crate) fn of(&self, place: Place) -> impl Iterator<Item = &Subscription> {
        self.subscriptions
            .iter()
            .filter(move |it| it.place == place)
    }

    pub(crate) fn count_of(&self, place: Place) -> usize {
        self.of(place).count()
    }

    /// The plain subscriptions that match a subject.
    pub(crate) fn plain(&self, subject: &str) -> Vec<Subscription> {
        let plain = self.subscriptions.iter().filter(|it| it.queue.is_none());
        plain.filter(|it| it.matches(subject)).cloned().collect()
    }

    /// The members of each queue group that match a subject.
    pub(crate) fn groups(&self, subject: &str) -> BTreeMap<String, Vec<Subscription>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for it in self.subscriptions.iter().filter(|it| it.matches(subject)) {
            if let Some(queue) = &it.queue {
                groups.entry(queue.clone()).or_default().push(it.clone());
            }
        }
        groups
    }

    /// What a subscription would get of a message.
    pub(crate) fn delivery(&self, to: &Subscription, message: &Message) -> Vec<u8> {
        let takes_headers = self.clients[&to.place].wishes.headers;
        message.publish.delivery(&to.sid, takes_headers)
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }
}

impl Subscription {
    fn matches(&self, subject: &str) -> bool {
        subject::matches(self.subject.as_bytes(), subject.as_bytes())
    }

    /// Whether it can take a message now.
    pub(crate) fn takes(&self, message: &Message, refusing: &BTreeSet<Place>) -> bool {
        let unwanted = message.silent && message.publisher == self.client;
        !unwanted && !refusing.contains(&self.place)
    }
}

impl Outcome {
    fn reply(reply: &[u8]) -> Self {
        Outcome {
            reply: reply.to_vec(),
            ..Outcome::default()
        }
    }

    fn end(reply: &[u8]) -> Self {
        Outcome {
            reply: reply.to_vec(),
            message: None,
            closes: true,
        }
    }
}

/// Whether one may publish to it.
fn is_literal(subject: &str) -> bool {
    subject
        .split('.')
        .all(|token| !matches!(token, "" | "*" | ">"))
}

/// Whether one may subscribe to it.
fn is_pattern(subject: &str) -> bool {
    let tokens: Vec<_> = subject.split('.').collect();
    let last = tokens.len() - 1;
    let mut tokens = tokens.iter().enumerate();
    tokens.all(|(at, &token)| !token.is_empty() && (token != ">" || at == last))
}
