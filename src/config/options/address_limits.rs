//! Limits for the connections from one address.

/// What one address may have: an IPv4 address, or an IPv6 network of 64 bits. Not in the reference server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at a time; `None` is unlimited.
    pub max_connections: Option<usize>,
    /// New connections a second, in the long run; `None` is unlimited.
    pub rate: Option<u32>,
    /// New connections at once, when there was none for a while; `rate` when absent.
    pub burst: Option<u32>,
}

impl AddressLimits {
    /// Whether there is any limit.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.max_connections.is_some() || self.rate.is_some()
    }
}
