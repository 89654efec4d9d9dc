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

pub use cache::{Cache, CacheFigures, Found};
pub use generations::{Generations, Stamp};
pub use members::{Group, Matches};
pub use text::Text;
pub use trie::{LocalInterest, NodeId, Sublist};

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

impl SubRef {
    /// Marks the worker's number where what is interested is not a client of this server but another server.
    const ROUTE: u16 = 1 << 15;

    /// The worker's number of what stands in a trie for the server itself: no other server is to hear of it.
    pub const INTERNAL: u16 = SubRef::ROUTE - 1;

    /// All that came over one link to another server: `slot` is the link's at its worker. The trie has it once for each
    /// subject, and it sorts behind all subscriptions.
    #[must_use]
    pub fn route(worker: u16, slot: u32, serial: u32) -> Self {
        SubRef {
            worker: worker | SubRef::ROUTE,
            slot,
            serial,
        }
    }

    /// Whether it stands for another server.
    #[must_use]
    pub fn is_route(self) -> bool {
        self.worker & SubRef::ROUTE != 0
    }

    /// Whether it is a subscription of this server's, which other servers hear of.
    #[must_use]
    pub fn is_local(self) -> bool {
        self.worker < SubRef::INTERNAL
    }

    /// The worker that has the connection.
    #[must_use]
    pub fn owner(self) -> u16 {
        self.worker & !SubRef::ROUTE
    }
}
