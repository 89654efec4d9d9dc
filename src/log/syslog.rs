//! Syslog, near or far, in the form the reference server sends it (RFC 3164 with a year where there is a host).

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::SystemTime;

use super::civil::Civil;
use super::line::Style;
use super::socket::{Outlet, Peer};
use super::{Level, LogError};
use crate::cause::cause;

/// Where systems keep the socket of their syslog.
const LOCAL_PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// Facility `daemon`, in place.
const FACILITY_DAEMON: u8 = 3 << 3;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// An open connection to a syslog server.
pub(super) struct Syslog {
    outlet: Outlet,
    facility: u8,
    /// Named in lines to another machine, which have an RFC 3339 time as well.
    host: Option<String>,
    tag: String,
}

impl Syslog {
    /// Connects to the system's own syslog.
    pub(super) fn local() -> Result<Syslog, LogError> {
        Syslog::local_at(&LOCAL_PATHS.map(PathBuf::from))
    }

    /// Connects to the first of these sockets that takes it. Most are for datagrams; which kind one is only shows then.
    fn local_at(paths: &[PathBuf]) -> Result<Syslog, LogError> {
        let peers = paths.iter().flat_map(|path| {
            [
                Peer::UnixDatagram(path.clone()),
                Peer::UnixStream(path.clone()),
            ]
        });
        let outlet = peers.filter_map(|peer| Outlet::open(peer).ok()).next();
        let outlet = outlet
            .ok_or_else(|| LogError::SyslogConnect("no local syslog accepts lines".into()))?;
        Ok(Syslog {
            outlet,
            facility: FACILITY_DAEMON,
            host: None,
            tag: tag(),
        })
    }

    /// Connects to `udp://host:port`, `tcp://host:port` or `unix://path`.
    pub(super) fn remote(url: &str) -> Result<Syslog, LogError> {
        let (scheme, address) = url.split_once("://").unwrap_or(("", url));
        let scheme = scheme.to_ascii_lowercase();
        let to_peer: fn(SocketAddr) -> Peer = match &*scheme {
            "udp" => Peer::Udp,
            "tcp" => Peer::Tcp,
            "unix" => return Syslog::unix(address),
            _ => return Err(LogError::SyslogScheme(scheme)),
        };
        let failed = |error: io::Error| {
            LogError::SyslogConnect(format!("dial {scheme} {address}: {}", cause(&error)))
        };
        let mut last = io::ErrorKind::NotFound.into();
        // A port alone is one of this host.
        let here = if address.starts_with(':') {
            "localhost"
        } else {
            ""
        };
        let named = format!("{here}{}", address.trim_end_matches('/'));
        for address in named.to_socket_addrs().map_err(failed)? {
            match Outlet::open(to_peer(address)) {
                Ok(outlet) => {
                    return Ok(Syslog {
                        outlet,
                        facility: 0,
                        host: Some(host()),
                        tag: tag(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    fn unix(path: &str) -> Result<Syslog, LogError> {
        let failed = |error: io::Error| {
            LogError::SyslogConnect(format!("dial unix {path}: connect: {}", cause(&error)))
        };
        let outlet = Outlet::open(Peer::UnixStream(path.into())).map_err(failed)?;
        Ok(Syslog {
            outlet,
            facility: 0,
            host: None,
            tag: tag(),
        })
    }

    /// Sends one line, composed in `line`; false if it had to be dropped.
    pub(super) fn write(
        &mut self,
        line: &mut String,
        style: &Style,
        now: SystemTime,
        level: Level,
        message: &str,
    ) -> bool {
        self.push_header(line, style, now, level);
        style.render_bare(line, now, level, message);
        line.push('\n');
        self.outlet.send(line.as_bytes())
    }

    /// The number of lines lost after they had been taken, and zero it.
    pub(super) fn take_lost(&mut self) -> u64 {
        self.outlet.take_lost()
    }

    fn push_header(&self, line: &mut String, style: &Style, now: SystemTime, level: Level) {
        let _ = write!(line, "<{}>", self.facility + severity(level));
        match &self.host {
            Some(host) => {
                style.push_rfc3339(line, now, None);
                let _ = write!(line, " {host}");
            }
            None => push_stamp(line, style.stamp(now).0),
        }
        let _ = write!(line, " {}[{}]: ", self.tag, style.pid);
    }
}

/// `Jan _2 15:04:05`, the day padded with a space.
fn push_stamp(line: &mut String, at: Civil) {
    let month = MONTHS
        .get(usize::from(at.month) - 1)
        .copied()
        .unwrap_or("Jan");
    let _ = write!(line, "{month} {:2} ", at.day);
    at.push_time(line, ':');
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Fatal => 2,
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info | Level::Trace => 5,
        Level::Debug => 7,
    }
}

/// The base name of the program as it was invoked.
fn tag() -> String {
    let invoked = std::env::args_os().next().map(PathBuf::from);
    let name = invoked
        .as_deref()
        .and_then(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| env!("CARGO_PKG_NAME").into())
}

fn host() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::time::Duration;

    use super::super::zone::Zone;
    use super::super::{LineFormat, LogOptions, Logger, error, info, warn};
    use super::*;

    fn style() -> Style {
        Style {
            format: LineFormat::Text,
            time: true,
            utc: true,
            zone: Zone::utc(),
            colour: false,
            priority: false,
            pid: 42,
        }
    }

    fn remote(url: String) -> LogOptions {
        LogOptions {
            remote_syslog: Some(url),
            utc: true,
            ..LogOptions::default()
        }
    }

    /// Splits `<PRI>time rest` after the time, which has `words` words.
    fn without_time(line: &str, words: usize) -> (String, String) {
        let (priority, rest) = line.split_once('>').unwrap();
        let rest: Vec<&str> = rest.split_whitespace().collect();
        (format!("{priority}>"), rest.get(words..).unwrap().join(" "))
    }

    #[test]
    fn a_udp_server_gets_one_datagram_a_line() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let logger =
            Logger::new(&remote(format!("UDP://{}/", server.local_addr().unwrap()))).unwrap();
        info!(logger, "Server is ready");
        let mut buffer = [0; 512];
        let count = server.recv(&mut buffer).unwrap();
        let line = std::str::from_utf8(buffer.get(..count).unwrap()).unwrap();
        assert!(line.ends_with('\n') && line.contains("Z "), "{line:?}");
        let expected = format!(
            "{} {}[{}]: Server is ready",
            host(),
            tag(),
            std::process::id()
        );
        assert_eq!(without_time(line, 1), ("<5>".into(), expected));
    }

    #[test]
    fn a_tcp_server_gets_severities() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let logger =
            Logger::new(&remote(format!("tcp://{}", server.local_addr().unwrap()))).unwrap();
        let mut lines = BufReader::new(server.accept().unwrap().0).lines();
        warn!(logger, "w");
        error!(logger, "a\nb");
        assert!(lines.next().unwrap().unwrap().starts_with("<4>"));
        let second = lines.next().unwrap().unwrap();
        assert!(
            second.starts_with("<3>") && second.ends_with("]: a\\nb"),
            "{second:?}"
        );
    }

    #[test]
    fn a_unix_stream_gets_the_short_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixListener::bind(&path).unwrap();
        let logger = Logger::new(&remote(format!("unix://{}", path.display()))).unwrap();
        let mut lines = BufReader::new(server.accept().unwrap().0).lines();
        info!(logger, "hi");
        let expected = format!("{}[{}]: hi", tag(), std::process::id());
        assert_eq!(
            without_time(&lines.next().unwrap().unwrap(), 3),
            ("<5>".into(), expected)
        );
    }

    #[test]
    fn the_local_syslog_is_found_as_datagrams_and_as_a_stream() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["missing", "log"].map(|name| directory.path().join(name));
        assert!(Syslog::local_at(&paths).is_err());
        let style = style();
        let server = UnixDatagram::bind(&paths[1]).unwrap();
        let mut syslog = Syslog::local_at(&paths).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert!(syslog.write(&mut String::new(), &style, now, Level::Warn, "hi"));
        let mut buffer = [0; 512];
        let count = server.recv(&mut buffer).unwrap();
        let expected = format!("<28>Jan  2 03:04:05 {}[{}]: hi\n", tag(), style.pid);
        assert_eq!(std::str::from_utf8(&buffer[..count]).unwrap(), expected);

        drop(server);
        std::fs::remove_file(&paths[1]).unwrap();
        let server = UnixListener::bind(&paths[1]).unwrap();
        let mut syslog = Syslog::local_at(&paths).unwrap();
        assert!(syslog.write(&mut String::new(), &style, now, Level::Warn, "hi"));
        let mut lines = BufReader::new(server.accept().unwrap().0).lines();
        assert_eq!(lines.next().unwrap().unwrap(), expected.trim_end());
    }

    #[test]
    fn the_short_form_pads_the_day_with_a_space() {
        let mut line = String::new();
        push_stamp(&mut line, Civil::from_seconds(1_767_323_045));
        assert_eq!(line, "Jan  2 03:04:05");
    }

    #[test]
    fn a_bad_address_says_what_is_wrong_with_it() {
        let message = |url: &str| Logger::new(&remote(url.into())).unwrap_err().to_string();
        assert_eq!(
            message("syslog://h:1"),
            "error invalid network type: \"syslog\""
        );
        assert_eq!(message("h:1"), "error invalid network type: \"\"");
        let expected = "error connecting to syslog: \"dial unix /nowhere: connect: no such file or directory\"";
        assert_eq!(message("unix:///nowhere"), expected);
        assert!(
            message("tcp://127.0.0.1")
                .starts_with("error connecting to syslog: \"dial tcp 127.0.0.1: ")
        );
    }
}
