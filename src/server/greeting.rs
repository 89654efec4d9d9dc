//! What the log says of a server that starts.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::{Setup, with_port};
use crate::clock;
use crate::config::options::{Options, Secret};
use crate::limits;
use crate::log::{Logger, debug, info, warn};
use crate::proto::info::PROTOCOL_VERSION;

/// Logs who starts here, in which cluster, by what configuration, and what is doubtful about that, in the reference
/// server's order.
pub(super) fn greet(setup: &Setup, server_id: &str, cluster: Option<&str>) {
    let (log, options) = (&setup.log, &setup.loaded.options);
    let version = env!("CARGO_PKG_VERSION");
    info!(log, "Starting midge");
    info!(
        log,
        "  Version:  {version} (NATS protocol {PROTOCOL_VERSION})"
    );
    if let Some(cluster) = cluster {
        info!(log, "  Cluster:  {cluster}");
    }
    let name = options.server_name.as_deref().unwrap_or(server_id);
    info!(log, "  Name:     {name}");
    info!(log, "  ID:       {server_id}");
    warn_of(log, passwords(options));
    if let Some(file) = &setup.config_file {
        let digest = &setup.loaded.digest;
        info!(
            log,
            "Using configuration file: {} ({digest})",
            file.display()
        );
    }
    for warning in &setup.loaded.warnings {
        warn!(log, "{warning}");
    }
    warn_of(log, payloads(options));
    warn_of(log, clock(options, SystemTime::now()));
    let is_given = |name: &&str| options.accounts.iter().any(|it| it.name == **name);
    if let Some(name) = options.system_account().filter(|name| !is_given(name)) {
        debug!(log, "Created system account: \"{name}\"");
    }
}

/// All that is doubtful about options by themselves, in the order of the log.
pub(super) fn doubts(options: &Options) -> Vec<String> {
    let now = SystemTime::now();
    let texts = [passwords(options), payloads(options), clock(options, now)];
    let texts = texts.into_iter().chain(handshakes(options));
    texts
        .chain(cluster(options))
        .flatten()
        .map(Into::into)
        .collect()
}

fn warn_of(log: &Logger, doubts: impl IntoIterator<Item = &'static str>) {
    for text in doubts {
        warn!(log, "{text}");
    }
}

fn passwords(options: &Options) -> Option<&'static str> {
    has_plain_password(options).then_some("Plaintext passwords detected, use nkeys or bcrypt")
}

fn payloads(options: &Options) -> Option<&'static str> {
    const { assert!(limits::MAX_PAYLOAD_ADVISED == 8 << 20, "the text names it") };
    (options.max_payload > limits::MAX_PAYLOAD_ADVISED).then_some(
        "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance",
    )
}

/// The clock is behind, where that matters: no certificate would be valid yet.
fn clock(options: &Options, now: SystemTime) -> Option<&'static str> {
    let uses_tls = options.tls.is_some() || options.cluster.tls.is_some();
    let is_behind = uses_tls && now < clock::build_time();
    is_behind.then_some(match options.clock_floor {
        Some(_) => {
            "The clock is behind this program's build date: certificates are judged by clock_floor until it is set"
        }
        None => {
            "The clock is behind this program's build date: certificates may seem not valid yet; see clock_floor"
        }
    })
}

/// What clients without TLS, or with TLS after INFO, can and cannot do.
fn handshakes(options: &Options) -> [Option<&'static str>; 2] {
    let tls = options.tls.as_ref();
    let is_first = tls.is_some_and(|tls| tls.handshake_first.is_always());
    let is_open = !options.has_users() && options.user.is_none() && options.auth_token.is_none();
    let is_bypassed = tls.is_some_and(|tls| tls.verify) && options.takes_plain_clients() && is_open;
    [
        is_first.then_some(
            "Clients that are not using \"TLS Handshake First\" option will fail to connect",
        ),
        is_bypassed.then_some(
            "allow_non_tls beside verify: clients without TLS are let in without a certificate",
        ),
    ]
}

fn cluster(options: &Options) -> [Option<&'static str>; 2] {
    let cluster = &options.cluster;
    let is_on = cluster.port.is_some();
    let is_insecure = cluster.tls.as_ref().is_some_and(|tls| tls.insecure);
    [
        (is_on && cluster.name.is_none())
            .then_some("Cluster name was dynamically generated, consider setting one"),
        (is_on && is_insecure).then_some(
            "TLS certificate chain and hostname of solicited routes will not be verified. DO NOT USE IN PRODUCTION!",
        ),
    ]
}

/// Logs what clients may or must do about TLS.
pub(super) fn announce_tls(log: &Logger, options: &Options) {
    if options.tls.is_none() {
        return;
    }
    if options.takes_plain_clients() {
        info!(log, "TLS available for client connections");
    } else {
        info!(log, "TLS required for client connections");
    }
    warn_of(log, handshakes(options).into_iter().flatten());
}

/// Logs which cluster this is, and where its servers connect.
pub(super) fn announce_cluster(log: &Logger, options: &Options, addr: SocketAddr, name: &str) {
    info!(log, "Cluster name is {name}");
    let [unnamed, insecure] = cluster(options);
    warn_of(log, unnamed);
    let listening = with_port(&options.cluster.host, addr.port());
    info!(log, "Listening for route connections on {listening}");
    warn_of(log, insecure);
}

fn has_plain_password(options: &Options) -> bool {
    let users = options.accounts.iter().flat_map(|account| &account.users);
    let passwords = users.chain(&options.users).map(|user| &user.password);
    passwords
        .chain(&options.password)
        .chain(&options.auth_token)
        .any(is_plain)
}

fn is_plain(secret: &Secret) -> bool {
    let text = secret.reveal();
    !text.is_empty() && !text.starts_with("$2")
}
