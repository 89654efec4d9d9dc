//! What a peer's operations mean, and what it is answered.
//!
//! A session takes one frame at a time. What concerns only its peer (`PONG`, `+OK`, `INFO`, `-ERR`) it writes at once;
//! what concerns others comes back as an [`Action`] for the engine to carry out. It owns no socket and reads no clock.

mod action;
mod auth;
mod client;
mod cluster;
mod compression;
mod keepalive;
mod permissions;
mod route;
mod signature;

pub use action::{Action, CloseReason, Violation};
pub use auth::{AccountEntry, Authenticator, Challenge, Identity, Mapped, Review, Verdict, Who};
pub use client::{Client, Context};
pub use cluster::{ClusterFacts, Hello, RouteEvent, Services, SubjectFilter};
pub use compression::Agreement;
pub use keepalive::{Beat, Keepalive};
pub use permissions::{Admission, Guard, Rules};
pub use route::{Dial, Route, RouteAction, Side};
pub use signature::Flaw;
