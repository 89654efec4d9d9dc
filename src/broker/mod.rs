//! Who gets a message: accounts with their tries and plans, and each worker's table of subscriptions.

mod account;
mod denials;
mod elsewhere;
mod interest;
mod mappings;
mod plan;
mod replies;
mod shadows;
mod subscriptions;

pub use account::{Account, Broker, GLOBAL, SERVICES, Standing};
pub use denials::{Denial, Denials};
pub use elsewhere::Elsewhere;
pub use interest::{Mark, RouteWorkers, pool_index};
pub use mappings::Mappings;
pub use plan::{Plan, ServiceImport, StreamImport};
pub use replies::{Replies, WayBack};
pub use shadows::{Shadow, Shadows};
pub use subscriptions::{Subscription, Subscriptions};
