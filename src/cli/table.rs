//! Every flag, once: its names, its value, its help, and where its value goes.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::Invocation;
use super::flags::Port;
use super::value::{parse_cluster, parse_routes};
use crate::config::options::Secret;
use crate::limits::WORKERS_MAX;

/// Flags that belong together, under a title of the help text.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) flags: &'static [Flag],
}

/// One flag.
pub(super) struct Flag {
    /// All spellings, without dashes.
    pub(super) names: &'static [&'static str],
    pub(super) value: Value,
    /// For the help text; a flag without it is not listed there.
    pub(super) help: &'static str,
}

/// What a flag takes: a word for it in the help text, and where it goes.
pub(super) enum Value {
    /// Anything that the function takes; it says what is wrong without showing the value.
    Checked(
        &'static str,
        fn(&mut Invocation, &str) -> Result<(), String>,
    ),
    Integer(&'static str, RangeInclusive<i64>, fn(&mut Invocation, i64)),
    /// A text that may be left out.
    Optional(&'static str, fn(&mut Invocation, Option<String>)),
    /// On where it stands alone.
    Switch(fn(&mut Invocation, bool)),
    Text(&'static str, fn(&mut Invocation, String)),
    /// A flag of the reference server for something that there is not here; without an argument it is a switch.
    Unsupported {
        argument: Option<&'static str>,
        why: &'static str,
    },
}

const PORTS: RangeInclusive<i64> = -1..=65535;
const NO_JETSTREAM: &str = "midge has no JetStream";

const fn flag(names: &'static [&'static str], value: Value, help: &'static str) -> Flag {
    Flag { names, value, help }
}

/// The table, in the order of the help text.
pub(super) static GROUPS: &[Group] = &[
    Group {
        title: "Server",
        flags: SERVER,
    },
    Group {
        title: "Logging",
        flags: LOGGING,
    },
    Group {
        title: "JetStream",
        flags: JETSTREAM,
    },
    Group {
        title: "Authorization",
        flags: AUTHORIZATION,
    },
    Group {
        title: "TLS",
        flags: TLS,
    },
    Group {
        title: "Cluster",
        flags: CLUSTER,
    },
    Group {
        title: "Profiling",
        flags: PROFILING,
    },
    Group {
        title: "Common",
        flags: COMMON,
    },
];

static SERVER: &[Flag] = &[
    flag(
        &["a", "addr", "net"],
        Value::Text("host", |to, host| to.flags.host = Some(host)),
        "accept clients at this host or address (default: 0.0.0.0)",
    ),
    flag(
        &["p", "port"],
        Value::Integer("port", PORTS, |to, port| {
            to.flags.port = Some(optional_port(port))
        }),
        "accept clients at this port (default: 4222; -1 or 0: any free one)",
    ),
    flag(
        &["n", "name", "server_name"],
        Value::Text("name", |to, name| to.flags.server_name = Some(name)),
        "name of this server (default: its id)",
    ),
    flag(
        &["workers"],
        Value::Integer("number", 1..=WORKERS_MAX as i64, |to, number| {
            to.flags.workers = usize::try_from(number).ok()
        }),
        "worker threads, 1 to 64 (default: the number of cores)",
    ),
    flag(
        &["P", "pid"],
        Value::Text("file", |to, file| to.flags.pid_file = Some(file.into())),
        "write the process id to this file",
    ),
    flag(
        &["m", "http_port"],
        Value::Integer("port", PORTS, |to, port| {
            to.flags.http_port = Some(optional_port(port))
        }),
        "port for monitoring over HTTP",
    ),
    flag(
        &["ms", "https_port"],
        Value::Integer("port", PORTS, |to, port| {
            to.flags.https_port = Some(optional_port(port))
        }),
        "port for monitoring over HTTPS",
    ),
    flag(
        &["c", "config"],
        Value::Text("file", |to, file| {
            to.flags.config = Some(file)
                .filter(|file| !file.is_empty())
                .map(PathBuf::from)
        }),
        "configuration file",
    ),
    flag(
        &["t"],
        Value::Switch(|to, on| to.check = on),
        "check the configuration file and exit",
    ),
    flag(
        &["sl", "signal"],
        Value::Text("command[=process]", |to, signal| to.signal = Some(signal)),
        "send ldm, stop, quit, term, reopen or reload to a running server;\n\
         the process is its id (which may end in *) or a file that holds it",
    ),
    flag(
        &["healthcheck"],
        Value::Optional("url", |to, url| to.health_check = Some(url)),
        "ask a running server for its health; exit with 0 if it is well;\n\
         without an address: the one that -c, -m or -ms would start",
    ),
    flag(
        &["client_advertise"],
        Value::Text("host:port", |to, address| {
            to.flags.client_advertise = Some(address)
        }),
        "address to tell clients instead of the server's own",
    ),
    flag(
        &["ports_file_dir"],
        Value::Text("directory", |to, directory| {
            to.flags.ports_file_dir = Some(directory.into())
        }),
        "write the ports in use to <program>_<pid>.ports in this directory",
    ),
];

static LOGGING: &[Flag] = &[
    flag(
        &["l", "log"],
        Value::Text("file", |to, file| to.flags.log_file = Some(file.into())),
        "log to this file rather than to standard error",
    ),
    flag(
        &["T", "logtime"],
        Value::Switch(|to, on| to.flags.logtime = Some(on)),
        "begin log lines with the time (default: true)",
    ),
    flag(
        &["logtime_utc"],
        Value::Switch(|to, on| to.flags.logtime_utc = Some(on)),
        "that time in UTC, not local (default: false)",
    ),
    flag(
        &["s", "syslog"],
        Value::Switch(|to, on| to.flags.syslog = Some(on)),
        "log to the system's syslog",
    ),
    flag(
        &["r", "remote_syslog"],
        Value::Text("url", |to, url| to.flags.remote_syslog = Some(url)),
        "log to this syslog server: udp://host:port, tcp://host:port or unix://path",
    ),
    flag(
        &["D", "debug"],
        Value::Switch(|to, on| to.flags.debug = Some(on)),
        "log debugging output",
    ),
    flag(
        &["V", "trace"],
        Value::Switch(|to, on| to.flags.trace = Some(on)),
        "log every protocol line",
    ),
    flag(
        &["VV"],
        Value::Switch(|to, on| {
            to.flags.trace = Some(on);
            to.flags.trace_verbose = Some(on);
        }),
        "the same, and the system account's",
    ),
    flag(
        &["DV"],
        Value::Switch(|to, on| {
            to.flags.debug = Some(on);
            to.flags.trace = Some(on);
        }),
        "-D and -V",
    ),
    flag(
        &["DVV"],
        Value::Switch(|to, on| {
            to.flags.debug = Some(on);
            to.flags.trace = Some(on);
            to.flags.trace_verbose = Some(on);
        }),
        "-D and -VV",
    ),
    flag(
        &["log_size_limit"],
        Value::Integer("bytes", 0..=i64::MAX, |to, bytes| {
            to.flags.log_size_limit = u64::try_from(bytes).ok()
        }),
        "rotate the log file when it is larger than this (default: 0, never)",
    ),
    flag(
        &["max_traced_msg_len"],
        Value::Integer("bytes", 0..=i32::MAX as i64, |to, bytes| {
            to.flags.max_traced_msg_len = usize::try_from(bytes).ok();
        }),
        "show so much of a payload in trace lines (default: 0, all of it)",
    ),
];

static JETSTREAM: &[Flag] = &[
    flag(
        &["js", "jetstream"],
        Value::Unsupported {
            argument: None,
            why: NO_JETSTREAM,
        },
        "",
    ),
    flag(
        &["sd", "store_dir"],
        Value::Unsupported {
            argument: Some("directory"),
            why: NO_JETSTREAM,
        },
        "",
    ),
];

static AUTHORIZATION: &[Flag] = &[
    flag(
        &["user"],
        Value::Text("user", |to, user| to.flags.user = Some(user)),
        "user that clients must give",
    ),
    flag(
        &["pass"],
        Value::Text("password", |to, password| {
            to.flags.pass = Some(Secret::new(password))
        }),
        "password that clients must give",
    ),
    flag(
        &["auth"],
        Value::Text("token", |to, token| {
            to.flags.auth = Some(Secret::new(token))
        }),
        "token that clients must give",
    ),
];

static TLS: &[Flag] = &[
    flag(
        &["tls"],
        Value::Switch(|to, on| to.flags.tls = Some(on)),
        "use TLS, client certificates not needed (default: false)",
    ),
    flag(
        &["tlscert"],
        Value::Text("file", |to, file| to.flags.tls_cert = Some(file.into())),
        "certificate of this server",
    ),
    flag(
        &["tlskey"],
        Value::Text("file", |to, file| to.flags.tls_key = Some(file.into())),
        "its private key",
    ),
    flag(
        &["tlsverify"],
        Value::Switch(|to, on| to.flags.tls_verify = Some(on)),
        "use TLS, client certificates needed and verified",
    ),
    flag(
        &["tlscacert"],
        Value::Text("file", |to, file| to.flags.tls_ca_cert = Some(file.into())),
        "authorities that sign client certificates",
    ),
];

static CLUSTER: &[Flag] = &[
    flag(
        &["routes"],
        Value::Checked("url,url", |to, urls| {
            to.flags.routes = Some(parse_routes(urls)?);
            Ok(())
        }),
        "open routes to these servers",
    ),
    flag(
        &["cluster", "cluster_listen"],
        Value::Checked("url", |to, url| {
            to.flags.cluster = Some(parse_cluster(url)?);
            Ok(())
        }),
        "accept routes here: nats://[user:password@]host:port",
    ),
    flag(
        &["cluster_name"],
        Value::Text("name", |to, name| to.flags.cluster_name = Some(name)),
        "name of the cluster (default: a random one)",
    ),
    flag(
        &["no_advertise"],
        Value::Switch(|to, on| to.flags.no_advertise = Some(on)),
        "tell clients nothing about the other servers",
    ),
    flag(
        &["cluster_advertise"],
        Value::Text("host:port", |to, address| {
            to.flags.cluster_advertise = Some(address)
        }),
        "address to tell other servers instead of the server's own",
    ),
    flag(
        &["connect_retries"],
        Value::Integer("number", 0..=i32::MAX as i64, |to, number| {
            to.flags.connect_retries = u32::try_from(number).ok()
        }),
        "attempts to open a route that another server told of",
    ),
];

static PROFILING: &[Flag] = &[flag(
    &["profile"],
    Value::Unsupported {
        argument: Some("port"),
        why: "midge has no profiling port",
    },
    "",
)];

static COMMON: &[Flag] = &[
    flag(
        &["h", "help"],
        Value::Switch(|to, on| to.help = on),
        "show this text",
    ),
    flag(
        &["v", "version"],
        Value::Switch(|to, on| to.version = on),
        "show the version",
    ),
    flag(
        &["help_config"],
        Value::Switch(|to, on| to.help_config = on),
        "show every option of a configuration file",
    ),
    flag(
        &["help_tls"],
        Value::Switch(|to, on| to.help_tls = on),
        "show how to configure TLS",
    ),
];

/// A number that is in `PORTS`.
fn optional_port(number: i64) -> Port {
    match u16::try_from(number) {
        Ok(0) => Port::Off,
        Ok(port) => Port::Fixed(port),
        Err(_) => Port::Any,
    }
}
