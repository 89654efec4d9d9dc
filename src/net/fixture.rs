//! For tests of this layer: what a server makes at its start, without a thread or a listener.

use std::sync::Arc;
use std::time::Instant;

use mio::Poll;

use super::mailbox::{Mailbox, Settings};
use super::shared::Shared;
use super::tls::TlsContexts;
use crate::broker::Broker;
use crate::config::options::{CertFiles, Options, TlsConfig};
use crate::log::Logger;
use crate::proto::info::ServerInfo;
use crate::session::Authenticator;

/// What so many workers share, and the polls that they sleep on.
pub(super) fn shared(workers: usize) -> (Vec<Poll>, Arc<Shared>) {
    let mailboxes = (0..workers).map(|_| Mailbox::open().expect("a descriptor"));
    let (polls, mailboxes) = mailboxes.unzip();
    let shared = Shared::new(mailboxes, Logger::discard(), 1);
    (polls, Arc::new(shared))
}

/// The settings of a server with these options.
pub(super) fn settings(options: Options) -> Arc<Settings> {
    let auth = Authenticator::new(&options);
    let broker = Broker::new(auth.names_and_limits()).planned(&options);
    Arc::new(Settings {
        info: ServerInfo {
            max_payload: options.max_payload,
            ..ServerInfo::default()
        },
        auth: Arc::new(auth),
        digest: String::new(),
        loaded: Instant::now(),
        broker: Arc::new(broker),
        tls: Arc::new(TlsContexts::default()),
        options,
    })
}

/// A block `tls` with a certificate, by which a client looks at no other.
pub(super) fn tls() -> TlsConfig {
    TlsConfig {
        certs: vec![CertFiles {
            cert_file: "certs/server-cert.pem".into(),
            key_file: "certs/server-key.pem".into(),
        }],
        insecure: true,
        ..TlsConfig::default()
    }
}
