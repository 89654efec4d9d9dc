//! What the log says of a server that starts.

use super::{Setup, missing};
use crate::config::options::{Options, Secret};
use crate::limits;
use crate::log::{info, warn};
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
    for text in missing::without_effect(options) {
        warn!(log, "{text}");
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
