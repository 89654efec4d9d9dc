//! Tells systemd how far the server is (the `sd_notify` protocol: datagrams to the socket that `NOTIFY_SOCKET` names).
//!
//! Where nobody asked to be told, or nobody listens any more, all of this does nothing.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A line to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Tells nobody.
    pub fn none() -> Notifier {
        Notifier {
            manager: None,
            watchdog: None,
        }
    }

    /// Tells the manager that the environment names.
    pub fn from_env() -> Notifier {
        let environment = |name: &str| std::env::var_os(name);
        Notifier::from_variables(environment, std::process::id())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Notifier {
        let manager = variable("NOTIFY_SOCKET").and_then(|name| {
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that is busy must not hold the server up.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address(name.as_bytes())?))
        });
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // Children inherit the variables, but it is one process that is watched.
        let is_ours =
            variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(own_pid.into());
        let watchdog =
            number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours && manager.is_some());
        Notifier {
            manager,
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// The server accepts clients; also after a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is being read again; [`ready`](Notifier::ready) must follow, also where that fails.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The server is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The time between two calls of [`watchdog`](Notifier::watchdog): half of what the manager waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The server is alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.manager {
            // Nothing depends on it here, and there is nobody to complain to.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// A path, or a name without a file that begins with `@`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    match name {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)).ok(),
        [b'@', name @ ..] => abstract_address(name),
        _ => None,
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name).ok()
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> Option<SocketAddr> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(value))
        };
        Notifier::from_variables(variable, 42)
    }

    fn received(manager: &UnixDatagram) -> String {
        manager
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut buffer = [0; 256];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_at_a_path_hears_every_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        notifier.ready();
        assert_eq!(received(&manager), "READY=1");
        notifier.reloading();
        let reloading = received(&manager);
        let micros = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.status("two\nlines");
        assert_eq!(received(&manager), "STATUS=two lines");
        notifier.watchdog();
        assert_eq!(received(&manager), "WATCHDOG=1");
        notifier.stopping();
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_manager_with_an_abstract_name_hears_it_too() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("midge-notify-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))]).ready();
        assert_eq!(received(&manager), "READY=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_asked_or_nobody_is_left() {
        for notifier in [
            Notifier::none(),
            notifier(&[]),
            notifier(&[("NOTIFY_SOCKET", "relative")]),
        ] {
            assert!(notifier.manager.is_none());
            notifier.ready();
        }
        notifier(&[("NOTIFY_SOCKET", "/nowhere/notify")]).ready();
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_needed_by_the_watched_process_alone() {
        let interval = |usec, pid| {
            let mut variables = vec![("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", usec)];
            variables.extend(pid);
            notifier(&variables).watchdog_interval()
        };
        assert_eq!(interval("30000000", None), Some(Duration::from_secs(15)));
        assert_eq!(
            interval("30000000", Some(("WATCHDOG_PID", "42"))),
            Some(Duration::from_secs(15))
        );
        assert_eq!(interval("30000000", Some(("WATCHDOG_PID", "43"))), None);
        assert_eq!(interval("30000000", Some(("WATCHDOG_PID", "x"))), None);
        assert_eq!(interval("0", None), None);
        assert_eq!(interval("soon", None), None);
        assert_eq!(
            notifier(&[("WATCHDOG_USEC", "30000000")]).watchdog_interval(),
            None
        );
    }
}
