//! TLS by rustls, with the cryptography of ring: what a `tls` block comes to, ready for the transport of a connection.
//!
//! A [`TlsServer`] or [`TlsClient`] holds everything that sessions of one listener share. It is made when the server
//! starts and at each reload, and replaced as a whole: sessions that are open keep what they began with, and tickets of
//! the old one are of no use with the new one, so that nobody comes in again who would be refused today.

mod blocking;
mod client;
mod clock;
mod contexts;
mod error;
mod failure;
mod files;
mod rate;
mod server;
mod session;
mod stamps;
mod suites;

pub use blocking::Blocking;
pub use client::TlsClient;
pub use contexts::TlsContexts;
pub use error::TlsError;
pub(super) use failure::describe_failure;
pub use rate::HandshakeRate;
pub use server::{Listening, TlsServer};
pub use session::{Inflow, Session};
pub use stamps::Stamps;
