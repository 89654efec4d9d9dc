//! The subject trie ("sublist"): which subscriptions match a subject.
//!
//! [`Sublist`] is the trie; [`Matches`] what one walk of it finds, in buffers that are used again; [`Cache`] the last
//! walks of one worker, each good until a subscription that could change it comes or goes; [`Generations`] how that is
//! known without taking the trie's lock.

mod cache;
mod generations;
mod members;
mod text;
mod trie;

pub use cache::{Cache, CacheFigures};
pub use generations::{Generations, Stamp};
pub use members::{Group, Matches};
pub use text::Text;
pub use trie::{NodeId, Sublist};

/// A subscription as the trie knows it: whose it is, and where its owner finds it.
///
/// Only the owner can tell whether it still exists; a reference that outlived its subscription finds another `serial`
/// in the slot, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubRef {
    /// The worker whose connection it belongs to.
    pub worker: u16,
    /// The slot in that worker's subscription table.
    pub slot: u32,
    /// Tells this subscription from earlier ones in the same slot.
    pub serial: u32,
}
