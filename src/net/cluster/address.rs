//! Addresses that servers tell others, and what the system should watch on a route's socket.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mio::net::TcpStream;

use crate::config::options::Options;
use crate::net::interfaces;
use crate::proto::info::ServerInfo;

/// `host[:port]`, with an IPv6 address in brackets or, without a port, bare.
pub(super) fn split(text: &str, default: u16) -> (String, u16) {
    let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
    let has_port = text.ends_with(']') || text.matches(':').count() != 1 && !text.contains("]:");
    if has_port {
        return (bare(text), default);
    }
    match text.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) if port > 0 => (bare(host), port),
            _ => (bare(host), default),
        },
        None => (bare(text), default),
    }
}

/// `host:port`, with an IPv6 address in brackets.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Where clients can connect: what is to be told them, or the address of the listener; if that is every address there is,
/// the ones by which others reach this machine.
pub(super) fn client_urls(options: &Options, info: &ServerInfo) -> Vec<String> {
    let host = info.host.trim_matches(['[', ']']);
    let is_told = options.client_advertise.is_some();
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() && !is_told => {
            let found = own_addresses(ip);
            let urls = found.into_iter().map(|ip| join(&ip.to_string(), info.port));
            urls.collect()
        }
        _ => vec![join(host, info.port)],
    }
}

/// The addresses of this machine that others can reach; where it has none, only those on it can reach it.
fn own_addresses(unspecified: IpAddr) -> Vec<IpAddr> {
    let all = interfaces::reachable(unspecified).into_iter();
    let is_of_use = |ip: &IpAddr| {
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        !ip.is_unspecified() && !ip.is_loopback() && !is_link_local
    };
    let found: Vec<IpAddr> = all.filter(is_of_use).collect();
    if found.is_empty() {
        return vec![Ipv4Addr::LOCALHOST.into()];
    }
    found
}

/// Has the system end a connection on which sent bytes go unacknowledged for so long, as far as it can.
pub(super) fn limit_silence(socket: &TcpStream, span: Duration) {
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        // Without it the PINGs find out, later.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, millis);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_optional() {
        for (text, host, port) in [
            ("a", "a", 1),
            ("a:2", "a", 2),
            ("[::1]:2", "::1", 2),
            ("[::1]", "::1", 1),
            ("::1", "::1", 1),
            ("a:0", "a", 1),
        ] {
            assert_eq!(split(text, 1), (host.into(), port), "{text}");
        }
        assert_eq!(
            (join("::1", 2), join("a", 2)),
            ("[::1]:2".into(), "a:2".into())
        );
    }

    #[test]
    fn a_server_that_listens_everywhere_tells_addresses_that_can_be_dialled() {
        let found = own_addresses(Ipv4Addr::UNSPECIFIED.into());
        assert!(!found.is_empty() && found.iter().all(|ip| !ip.is_unspecified()));
    }
}
