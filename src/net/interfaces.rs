//! The addresses of this machine, for those who are told where a listener on all of them can be reached.
//!
//! Read from the tables that Linux shows below `/proc`, which needs neither privileges nor unsafe code. Where they are not
//! there, nothing is known.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::order;

/// What a listener at `bound` can be reached at: itself, or every address of the machine where it stands for all of
/// them; IPv6 ones only if it is an IPv6 listener.
#[must_use]
pub fn reachable(bound: IpAddr) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    let mut found = ipv4(&table("/proc/self/net/fib_trie"));
    if bound.is_ipv6() {
        found.extend(ipv6(&table("/proc/self/net/if_inet6")));
    }
    if found.is_empty() {
        found.push(bound);
    }
    each_once(found)
}

/// In their order, the IPv4 ones first: the routes have an address in several places.
fn each_once(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    order::sort(&mut addresses);
    addresses.dedup();
    addresses
}

/// The addresses that routes deliver to the machine itself: an address, and below it `/32 host LOCAL`.
fn ipv4(fib_trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("|-- ") {
            last = text.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.map(IpAddr::from));
        }
    }
    found
}

/// The addresses of the interfaces, but for those that mean something on one link only: 32 digits, and the scope as the
/// fourth word.
fn ipv6(if_inet6: &str) -> Vec<IpAddr> {
    const LINK: &str = "20";
    let addr = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (digits, scope) = (words.next()?, words.nth(2)?);
        let bits = u128::from_str_radix(digits, 16).ok()?;
        (scope != LINK).then(|| Ipv6Addr::from_bits(bits).into())
    };
    if_inet6.lines().filter_map(addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 192.0.2.7
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
Local:
     |-- 192.0.2.7
        /32 host LOCAL
";
    const IF_INET6: &str = "\
20010db8000000000000000000000002 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
";

    #[test]
    fn the_tables_of_the_system_are_understood() {
        let found = [ipv6(IF_INET6), ipv4(FIB_TRIE)].concat();
        let shown: Vec<String> = each_once(found).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1", "192.0.2.7", "::1", "2001:db8::2"]);
        for nonsense in ["", "|--", "|-- x\n/32 host LOCAL", "1 2 3 4\nxyz 1 2 3"] {
            let found = ipv6(nonsense);
            assert!(ipv4(nonsense).is_empty() && found.len() <= 1, "{nonsense}");
        }
    }

    #[test]
    fn one_address_is_that_one_and_all_are_at_least_the_loopback() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(reachable(loopback), [loopback]);
        let all = reachable(Ipv4Addr::UNSPECIFIED.into());
        assert!(!all.is_empty() && all.iter().all(IpAddr::is_ipv4));
        if fs::exists("/proc/self/net/fib_trie").unwrap_or(false) {
            assert!(all.contains(&loopback));
        }
    }
}
