//! midge: a messaging server that speaks the NATS protocol.
//!
//! Small enough for a router with 64 MiB of memory, fast enough for a big machine, and a drop-in for users of the
//! reference server: the same protocol, configuration language, command line and monitoring.
//!
//! Layers, each using only those before it:
//!
//! - plain values: `subject`, `limits`, `clock`, `rng`, `id`, `stats`, `order`, `log`
//! - bytes and grammar: `proto`, `s2`, `sublist`, `config`
//! - meaning: `session`, `broker`
//! - one action carried out: `engine`; and what pages show of it: `monitor`
//! - sockets and threads: `net`
//! - life cycle: `server`, `cli`
//!
//! A server in process:
//!
//! ```
//! use midge::{Options, Server};
//!
//! let options = Options {
//!     host: "127.0.0.1".into(),
//!     port: 0,
//!     ..Options::default()
//! };
//! let server = Server::start(options)?;
//! println!("clients connect to nats://{}", server.client_addr());
//! server.stop();
//! # Ok::<(), midge::ServerError>(())
//! ```

pub mod broker;
mod cause;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod heap;
pub mod id;
pub mod limits;
pub mod log;
pub mod mkpasswd;
pub mod monitor;
pub mod net;
pub mod nkey;
pub mod notify;
mod order;
pub mod proto;
pub mod rng;
pub mod s2;
pub mod server;
pub mod session;
pub mod stats;
pub mod subject;
pub mod sublist;

pub use config::options::Options;
pub use server::{Server, ServerError};
