//! The protocol that servers of a cluster speak with each other over routes.
//!
//! Lines like those of clients, with other verbs: `RS+` and `RS-` for interest, `RMSG` and `HMSG` for messages, and an
//! `INFO` and a `CONNECT` of their own.

mod connect;
mod encode;
mod frame;
mod info;
mod parser;

pub use connect::RouteConnect;
pub use encode::{interest_line, message_head, message_head_len_max, no_interest_line};
pub use frame::{RouteFrame, RouteMessage};
pub use info::{RouteInfo, SubjectLists};
pub use parser::{RouteLimits, RouteParser, RouteStep};
