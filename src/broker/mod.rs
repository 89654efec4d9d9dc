//! Who gets a message: accounts with their tries, and each worker's table of subscriptions.

mod account;
mod subscriptions;

pub use account::{Account, Broker, GLOBAL};
pub use subscriptions::{Subscription, Subscriptions};
