//! Plain counters. Each belongs to one thread; whoever wants the whole adds them up.

/// Messages and bytes in one direction; bytes are those of headers and payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub msgs: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Adds what came elsewhere.
    #[inline]
    pub fn add(&mut self, more: Traffic) {
        self.msgs += more.msgs;
        self.bytes += more.bytes;
    }
}

/// The count of connections of each kind that something happened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind {
    /// Clients.
    pub clients: u64,
    /// Routes.
    pub routes: u64,
    /// Leaf nodes.
    pub leafs: u64,
}

impl ByKind {
    /// All of them.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.clients + self.routes + self.leafs
    }
}
