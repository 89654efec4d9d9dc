//! The wire protocol: bytes in, frames out, and back.
//!
//! Nothing here knows a socket, a clock or a lock, so the fuzzer, the simulator and the unit tests drive the real code.

pub mod connect;
pub mod encode;
pub mod error;
pub mod frame;
pub mod headers;
pub mod info;
mod json;
pub mod parser;
pub mod route;
pub mod tracing;
