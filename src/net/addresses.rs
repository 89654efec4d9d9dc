//! How many connections come from one address: at a time, and how fast.
//!
//! The unit is what one subscriber of a network provider usually has: an IPv4 address, or an IPv6 network of 64 bits, in
//! which a host picks addresses as it likes. New connections are let in by a token bucket for each: it holds `burst`
//! tokens, and `rate` new ones come in a second.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::config::options::AddressLimits;
use crate::limits;
use crate::session::CloseReason;

/// One connection, counted at its address until this is dropped.
#[derive(Debug)]
pub struct Place {
    _counted: Arc<()>,
}

/// A connection that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Which limit it is beyond.
    pub reason: CloseReason,
    /// Connections of this address that were refused since the log was last told; `None` when that was a moment ago.
    pub untold: Option<u32>,
}

/// What is known of the addresses that connections come from.
#[derive(Debug, Default)]
pub struct Addresses {
    known: HashMap<Network, Entry, RandomState>,
    /// Entries at which it is time to look which of them are of no use any more.
    sweep_at: usize,
}

/// An IPv4 address, or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

#[derive(Debug)]
struct Entry {
    /// Shared with the connections there are.
    counted: Arc<()>,
    tokens: f64,
    /// When `tokens` was right.
    filled_at: Instant,
    refused: u32,
    told_at: Option<Instant>,
}

impl Network {
    /// The one that an address is in.
    #[must_use]
    pub(super) fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V6(addr) => {
                let host = u128::from(u64::MAX);
                Network(Ipv6Addr::from_bits(addr.to_bits() & !host).into())
            }
            addr => Network(addr),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(addr) => addr.fmt(f),
            IpAddr::V6(addr) => write!(f, "{addr}/64"),
        }
    }
}

impl Addresses {
    /// Lets a connection in, or not.
    ///
    /// # Errors
    ///
    /// If its address has too many, or too many lately.
    pub fn admit(
        &mut self,
        addr: IpAddr,
        limits: &AddressLimits,
        now: Instant,
    ) -> Result<Place, Excess> {
        let burst = limits.burst.or(limits.rate).map_or(0.0, f64::from);
        let entry = self.entry(addr, limits, now);
        entry.fill(limits, now);
        let count = entry.count();
        if limits.max_connections.is_some_and(|max| count >= max) {
            return Err(entry.refuse(CloseReason::AddressConnections, now));
        }
        if limits.rate.is_some() {
            if entry.tokens < 1.0 {
                return Err(entry.refuse(CloseReason::AddressRate, now));
            }
            entry.tokens = entry.tokens.min(burst) - 1.0;
        }
        Ok(entry.place())
    }

    /// Counts a connection that is there already.
    pub fn count(&mut self, addr: IpAddr, limits: &AddressLimits, now: Instant) -> Place {
        self.entry(addr, limits, now).place()
    }

    fn entry(&mut self, addr: IpAddr, limits: &AddressLimits, now: Instant) -> &mut Entry {
        if self.known.len() >= self.sweep_at {
            self.sweep(limits, now);
        }
        let burst = limits.burst.or(limits.rate).map_or(0.0, f64::from);
        self.known
            .entry(Network::of(addr))
            .or_insert_with(|| Entry {
                counted: Arc::default(),
                tokens: burst,
                filled_at: now,
                refused: 0,
                told_at: None,
            })
    }

    /// Forgets who has no connection and a full bucket: whoever is unknown is just that.
    fn sweep(&mut self, limits: &AddressLimits, now: Instant) {
        let burst = limits.burst.or(limits.rate).map_or(0.0, f64::from);
        self.known.retain(|_, entry| {
            entry.fill(limits, now);
            entry.count() > 0 || entry.tokens < burst
        });
        if self.known.len() >= limits::ADDRESSES_MAX {
            // So many at once are no customers; those who stay connected count on.
            self.known.retain(|_, entry| entry.count() > 0);
        }
        self.known.shrink_to(2 * self.known.len());
        self.sweep_at = (2 * self.known.len()).max(64);
    }
}

impl Entry {
    fn count(&self) -> usize {
        Arc::strong_count(&self.counted) - 1
    }

    fn place(&self) -> Place {
        Place {
            _counted: Arc::clone(&self.counted),
        }
    }

    fn fill(&mut self, limits: &AddressLimits, now: Instant) {
        let rate = limits.rate.map_or(0.0, f64::from);
        let burst = limits.burst.map_or(rate, f64::from);
        let span = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + span.as_secs_f64() * rate).min(burst);
        self.filled_at = now;
    }

    /// Counts a refusal. The log hears of one a second, and of how many there were.
    fn refuse(&mut self, reason: CloseReason, now: Instant) -> Excess {
        const PAUSE: Duration = Duration::from_secs(1);
        self.refused = self.refused.saturating_add(1);
        let is_quiet = self.told_at.is_some_and(|told| now < told + PAUSE);
        let untold = (!is_quiet).then(|| std::mem::take(&mut self.refused));
        if untold.is_some() {
            self.told_at = Some(now);
        }
        Excess { reason, untold }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AddressLimits = AddressLimits {
        max_connections: Some(3),
        rate: Some(2),
        burst: Some(4),
    };

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_at_a_time_and_no_more() {
        let (mut known, now, a) = (Addresses::default(), Instant::now(), addr("192.0.2.1"));
        let mut places: Vec<_> = (0..3)
            .map(|_| known.admit(a, &LIMITS, now).unwrap())
            .collect();
        let excess = known.admit(a, &LIMITS, now).unwrap_err();
        assert_eq!(excess.reason, CloseReason::AddressConnections);
        // Another address has places of its own; the same one written otherwise has not.
        known.admit(addr("192.0.2.2"), &LIMITS, now).unwrap();
        known
            .admit(addr("::ffff:192.0.2.1"), &LIMITS, now)
            .unwrap_err();
        places.pop();
        known.admit(a, &LIMITS, now).unwrap();
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (mut known, mut now, a) = (Addresses::default(), Instant::now(), addr("192.0.2.1"));
        let mut let_in = |now, count| {
            let admitted = (0..count).filter(|_| known.admit(a, &LIMITS, now).is_ok());
            admitted.count()
        };
        assert_eq!(let_in(now, 10), 4);
        now += Duration::from_millis(400);
        assert_eq!(let_in(now, 10), 0);
        now += Duration::from_millis(700);
        assert_eq!(let_in(now, 10), 2);
        now += Duration::from_secs(3600);
        assert_eq!(let_in(now, 10), 4);
    }

    #[test]
    fn the_hosts_of_an_ipv6_network_are_one() {
        let (mut known, now) = (Addresses::default(), Instant::now());
        let places: Vec<_> = (0..4)
            .filter_map(|host| {
                let addr = addr(&format!("2001:db8:0:1:{host}::{host}"));
                known.admit(addr, &LIMITS, now).ok()
            })
            .collect();
        assert_eq!(places.len(), 3);
        known.admit(addr("2001:db8:0:2::"), &LIMITS, now).unwrap();
        let network = Network::of(addr("2001:db8:0:1:2::3"));
        assert_eq!(network.to_string(), "2001:db8:0:1::/64");
    }

    #[test]
    fn the_log_hears_of_a_flood_once_a_second() {
        let (mut known, mut now, a) = (Addresses::default(), Instant::now(), addr("192.0.2.1"));
        let none = AddressLimits {
            max_connections: Some(0),
            ..LIMITS
        };
        let mut untold = |now| known.admit(a, &none, now).unwrap_err().untold;
        assert_eq!(
            (untold(now), untold(now), untold(now)),
            (Some(1), None, None)
        );
        now += Duration::from_secs(1);
        assert_eq!((untold(now), untold(now)), (Some(3), None));
    }

    #[test]
    fn a_crowd_of_addresses_leaves_nothing_behind() {
        let (mut known, mut now) = (Addresses::default(), Instant::now());
        let stays = known.admit(addr("192.0.2.1"), &LIMITS, now).unwrap();
        for host in 0..200_000_u32 {
            let addr = IpAddr::V4((0x0a00_0000 + host).into());
            drop(known.admit(addr, &LIMITS, now).unwrap());
            assert!(known.known.len() <= 2 * limits::ADDRESSES_MAX);
        }
        now += Duration::from_secs(10);
        known.sweep(&LIMITS, now);
        assert_eq!(known.known.len(), 1);
        drop(stays);
    }
}
