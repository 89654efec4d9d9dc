//! Sockets and the threads that serve them.
//!
//! Each [`worker`] is one thread with one poll loop and owns its connections alone; workers talk through
//! [`mailbox`]es. This is the only place that knows mio.

pub mod acceptor;
mod addresses;
pub mod busy_poll;
pub mod cluster;
mod fan_out;
#[cfg(test)]
mod fixture;
mod flow;
pub mod interfaces;
pub mod mailbox;
pub mod monitor;
mod outlet;
mod outlets;
pub mod pulse;
mod read_size;
pub mod shared;
mod timers;
pub mod tls;
mod trace;
mod transport;
pub mod verifier;
pub mod worker;
