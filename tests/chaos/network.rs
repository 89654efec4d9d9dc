//! The network between the nodes: each of them is reached through a gate, which can hold back or cut what goes between two.
//!
//! ```text
//! node 1 ─ dials ─▶ gate of node 0 ─▶ node 0      which link this is tells the id in the dialler's CONNECT
//! ```
//!
//! A link that is *held* takes connections and bytes and passes nothing on, in one direction or in both: a half-open
//! connection, to the servers at its ends. One that is *cut* has no connections, and every new one ends at once.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use serde_json::Value;

use crate::support::DEADLINE;

/// Bytes that a gate's socket takes in before its sender notices that nothing goes on.
const WINDOW: usize = 32 * 1024;
/// Bytes passed on at once.
const PIECE: usize = 16 * 1024;
/// The longest CONNECT.
const CONNECT_MAX: usize = 64 * 1024;

/// See the module's documentation. Dropping it ends every connection.
#[derive(Debug)]
pub(crate) struct Network {
    inner: Arc<Inner>,
    gates: Vec<SocketAddr>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    /// Which node a server id belongs to.
    ids: HashMap<String, usize>,
    /// Where a node takes routes, while it lives.
    nodes: HashMap<usize, SocketAddr>,
    cuts: HashMap<Link, Cut>,
    /// The directions in which nothing goes.
    held: Vec<(usize, usize)>,
    pipes: BTreeMap<u64, Pipe>,
    last_pipe: u64,
}

/// What was cut of a link.
#[derive(Debug, Default)]
struct Cut {
    is_down: bool,
    /// How often it was cut.
    count: u64,
}

/// Two nodes, the lower one first.
pub(crate) type Link = (usize, usize);

/// One connection through a gate.
#[derive(Debug)]
struct Pipe {
    link: Link,
    ends: [TcpStream; 2],
}

impl Network {
    /// Gates for so many nodes.
    pub(crate) fn new(count: usize) -> Network {
        let inner = Arc::new(Inner::default());
        let mut gates = Vec::new();
        for node in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            gates.push(listener.local_addr().expect("it is bound"));
            let inner = Arc::clone(&inner);
            thread::spawn(move || inner.keep_gate(node, &listener));
        }
        Network { inner, gates }
    }

    /// Where a node is reached.
    pub(crate) fn gate(&self, node: usize) -> SocketAddr {
        self.gates[node]
    }

    /// A node lives, under this id, and takes routes at this address.
    pub(crate) fn register(&self, node: usize, id: &str, address: SocketAddr) {
        let mut state = self.inner.lock();
        state.ids.insert(id.into(), node);
        state.nodes.insert(node, address);
        self.inner.changed.notify_all();
    }

    /// A node does not live any more.
    pub(crate) fn unregister(&self, node: usize) {
        self.inner.lock().nodes.remove(&node);
    }

    /// Ends all connections between two nodes, with a reset or in good order, and lets none through.
    pub(crate) fn cut(&self, link: Link, resets: bool) {
        let mut state = self.inner.lock();
        let cut = state.cuts.entry(link).or_default();
        cut.is_down = true;
        cut.count += 1;
        state.pipes.retain(|_, pipe| {
            let stays = pipe.link != link;
            if !stays {
                pipe.end(resets);
            }
            stays
        });
        self.inner.changed.notify_all();
    }

    /// Ends one connection between two nodes, the oldest but `skip`; says whether there was one.
    pub(crate) fn cut_one(&self, link: Link, skip: usize, resets: bool) -> bool {
        let mut state = self.inner.lock();
        let mut all = state.pipes.iter().filter(|(_, pipe)| pipe.link == link);
        let Some(id) = all.nth(skip).map(|(&id, _)| id) else {
            return false;
        };
        if let Some(pipe) = state.pipes.remove(&id) {
            pipe.end(resets);
        }
        self.inner.changed.notify_all();
        true
    }

    /// Lets no new connection through, and leaves those that there are.
    pub(crate) fn refuse(&self, link: Link) {
        let mut state = self.inner.lock();
        state.cuts.entry(link).or_default().is_down = true;
        self.inner.changed.notify_all();
    }

    /// Passes nothing on from one node to another.
    pub(crate) fn hold(&self, from: usize, to: usize) {
        self.inner.lock().held.push((from, to));
    }

    /// Everything goes again.
    pub(crate) fn heal(&self) {
        let mut state = self.inner.lock();
        state.held.clear();
        state.cuts.values_mut().for_each(|cut| cut.is_down = false);
        self.inner.changed.notify_all();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.is_over = true;
        for pipe in state.pipes.values() {
            pipe.end(false);
        }
        drop(state);
        self.inner.changed.notify_all();
        // Wakes those that wait for somebody to come.
        for &gate in &self.gates {
            let _ = TcpStream::connect(gate);
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn keep_gate(self: &Arc<Self>, node: usize, listener: &TcpListener) {
        for socket in listener.incoming() {
            if self.lock().is_over {
                return;
            }
            let Ok(socket) = socket else { continue };
            let inner = Arc::clone(self);
            thread::spawn(move || inner.serve(node, socket));
        }
    }

    /// Serves one connection to `node` until it ends.
    fn serve(self: &Arc<Self>, node: usize, mut socket: TcpStream) {
        let Some((first, id)) = connect_line(&mut socket) else {
            return;
        };
        let Some(from) = self.node_of(&id) else {
            return;
        };
        let link = (from.min(node), from.max(node));
        let count = self.lock().cuts.get(&link).map_or(0, |cut| cut.count);
        let is_current = |state: &State| {
            let cut = state.cuts.get(&link);
            cut.is_none_or(|cut| !cut.is_down && cut.count == count)
        };
        if !self.wait_for_way(from, node, is_current) {
            return reset(&socket);
        }
        let target = self.lock().nodes.get(&node).copied();
        let Some(mut target) = target.and_then(|it| TcpStream::connect(it).ok()) else {
            return reset(&socket);
        };
        for end in [&socket, &target] {
            let _ = end.set_nodelay(true);
            let _ = set_socket_recv_buffer_size(end, WINDOW);
        }
        let (Ok(one), Ok(other)) = (socket.try_clone(), target.try_clone()) else {
            return;
        };
        let mut state = self.lock();
        if state.is_over || !is_current(&state) {
            return reset(&socket);
        }
        state.last_pipe += 1;
        let pipe = state.last_pipe;
        let ends = [one, other];
        state.pipes.insert(pipe, Pipe { link, ends });
        drop(state);
        if target.write_all(&first).is_err() {
            return self.forget(pipe);
        }
        let (Ok(back_from), Ok(back_to)) = (target.try_clone(), socket.try_clone()) else {
            return self.forget(pipe);
        };
        let inner = Arc::clone(self);
        let back = thread::spawn(move || inner.pass(pipe, (node, from), back_from, back_to));
        self.pass(pipe, (from, node), socket, target);
        let _ = back.join();
        self.forget(pipe);
    }

    /// Passes on what goes in one direction.
    fn pass(
        &self,
        pipe: u64,
        (from, to): (usize, usize),
        mut source: TcpStream,
        mut sink: TcpStream,
    ) {
        let mut piece = [0; PIECE];
        let is_there = |state: &State| state.pipes.contains_key(&pipe);
        loop {
            let len = match source.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(len) => len,
            };
            let part = piece.get(..len).unwrap_or_default();
            if !self.wait_for_way(from, to, is_there) || sink.write_all(part).is_err() {
                let _ = source.shutdown(Shutdown::Both);
                break;
            }
        }
        if self.wait_for_way(from, to, is_there) {
            let _ = sink.shutdown(Shutdown::Write);
        }
    }

    fn forget(&self, pipe: u64) {
        if let Some(pipe) = self.lock().pipes.remove(&pipe) {
            pipe.end(false);
        }
    }

    /// Waits until something can go from one node to the other; false if `is_current` does not hold any more.
    fn wait_for_way(&self, from: usize, to: usize, is_current: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !state.is_over && is_current(&state) {
            if !state.held.contains(&(from, to)) {
                return true;
            }
            state = self
                .changed
                .wait(state)
                .expect("no holder of this lock panics");
        }
        false
    }

    /// The node of this id, which may be about to be registered.
    fn node_of(&self, id: &str) -> Option<usize> {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.lock();
        while !state.is_over && Instant::now() < deadline {
            if let Some(&node) = state.ids.get(id) {
                return Some(node);
            }
            let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
            (state, _) = waited.expect("no holder of this lock panics");
        }
        None
    }
}

impl Pipe {
    fn end(&self, resets: bool) {
        for end in &self.ends {
            if resets {
                let _ = set_socket_linger(end, Some(Duration::ZERO));
            }
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn reset(socket: &TcpStream) {
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}

/// Reads CONNECT: gives its bytes, and the server id in it.
fn connect_line(socket: &mut TcpStream) -> Option<(Vec<u8>, String)> {
    socket.set_read_timeout(Some(DEADLINE)).ok()?;
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\n") && bytes.len() < CONNECT_MAX {
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.extend_from_slice(&byte);
    }
    socket.set_read_timeout(None).ok()?;
    let json: Value = serde_json::from_slice(bytes.strip_prefix(b"CONNECT ")?).ok()?;
    let id = json["name"].as_str()?.to_owned();
    Some((bytes, id))
}
