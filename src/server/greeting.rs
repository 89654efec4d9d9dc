//! What the log says of a server that starts.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::{Setup, missing};
use crate::clock;
use crate::config::options::{Options, Secret};
use crate::limits;
use crate::log::{Logger, info, warn};
use crate::proto::info::PROTOCOL_VERSION;

/// Logs who starts here, by what configuration, and what is doubtful about that, in the reference server's order.
pub(super) fn greet(setup: &Setup, server_id: &str) {
    let (log, options) = (&setup.log, &setup.loaded.options);
    let version = env!("CARGO_PKG_VERSION");
    info!(log, "Starting midge");
    info!(
        log,
        "  Version:  {version} (NATS protocol {PROTOCOL_VERSION})"
    );
    let name = options.server_name.as_deref().unwrap_or(server_id);
    info!(log, "  Name:     {name}");
    info!(log, "  ID:       {server_id}");
    if has_plain_password(options) {
        warn!(log, "Plaintext passwords detected, use nkeys or bcrypt");
    }
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
    if options.max_payload > limits::MAX_PAYLOAD_ADVISED {
        let advised = limits::MAX_PAYLOAD_ADVISED >> 20;
        let text = "are generally discouraged and could lead to poor performance";
        warn!(log, "Maximum payloads over {advised}.00 MB {text}");
    }
    warn_of_the_clock(log, options, SystemTime::now());
    for text in missing::without_effect(options) {
        warn!(log, "{text}");
    }
}

/// Logs that the clock is behind, where that matters: no certificate would be valid yet.
fn warn_of_the_clock(log: &Logger, options: &Options, now: SystemTime) {
    let uses_tls = options.tls.is_some() || options.cluster.tls.is_some();
    if !uses_tls || now >= clock::build_time() {
        return;
    }
    match options.clock_floor {
        Some(_) => warn!(
            log,
            "The clock is behind this program's build date: certificates are judged by clock_floor until it is set"
        ),
        None => warn!(
            log,
            "The clock is behind this program's build date: certificates may seem not valid yet; see clock_floor"
        ),
    }
}

/// Logs what clients may or must do about TLS.
pub(super) fn announce_tls(log: &Logger, options: &Options) {
    let Some(tls) = &options.tls else {
        return;
    };
    if options.takes_plain_clients() {
        info!(log, "TLS available for client connections");
    } else {
        info!(log, "TLS required for client connections");
    }
    if tls.handshake_first.is_always() {
        let text = "option will fail to connect";
        warn!(
            log,
            "Clients that are not using \"TLS Handshake First\" {text}"
        );
    }
    let is_open = !options.has_users() && options.user.is_none() && options.auth_token.is_none();
    if tls.verify && options.takes_plain_clients() && is_open {
        let text = "clients without TLS are let in without a certificate";
        warn!(log, "allow_non_tls beside verify: {text}");
    }
}

/// Logs which cluster this is, and where its servers connect.
pub(super) fn announce_cluster(log: &Logger, options: &Options, addr: SocketAddr, name: &str) {
    info!(log, "Cluster name is {name}");
    let cluster = &options.cluster;
    if cluster.name.is_none() {
        warn!(
            log,
            "Cluster name was dynamically generated, consider setting one"
        );
    }
    info!(log, "Listening for route connections on {addr}");
    if cluster.tls.as_ref().is_some_and(|tls| tls.insecure) {
        let text = "TLS certificate chain and hostname of solicited routes will not be verified.";
        warn!(log, "{text} DO NOT USE IN PRODUCTION!");
    }
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
