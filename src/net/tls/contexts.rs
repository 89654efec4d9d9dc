//! What all `tls` blocks of a configuration come to: one context for each listener, and for what is dialled.

use std::sync::Arc;

use super::{Listening, Stamps, TlsClient, TlsError, TlsServer};
use crate::config::options::Options;

/// See the module's documentation. Made whole or not at all, at start and at each reload.
#[derive(Debug, Default)]
pub struct TlsContexts {
    /// The files it was made of, as they were just before they were read.
    pub files: Stamps,
    /// For clients.
    pub clients: Option<Arc<TlsServer>>,
    /// For monitoring by HTTPS.
    pub monitoring: Option<Arc<TlsServer>>,
    /// For routes that are accepted.
    pub routes: Option<Arc<TlsServer>>,
    /// For routes that are dialled.
    pub dialled_routes: Option<Arc<TlsClient>>,
}

impl TlsContexts {
    /// Loads every file that the options name.
    ///
    /// # Errors
    ///
    /// The first that cannot be used.
    pub fn load(options: &Options) -> Result<Self, TlsError> {
        let floor = options.clock_floor;
        let (clients, cluster) = (options.tls.as_ref(), options.cluster.tls.as_ref());
        let server = |listening| {
            move |tls| {
                let made = TlsServer::new(tls, listening, floor);
                made.map(Arc::new).map_err(|error| error.of(tls))
            }
        };
        let client = |tls| {
            let made = TlsClient::new(tls, floor);
            made.map(Arc::new).map_err(|error| error.of(tls))
        };
        let monitored = clients.filter(|_| options.https_port.is_some());
        let files = Stamps::now(options);
        Ok(TlsContexts {
            files,
            clients: clients.map(server(Listening::Clients)).transpose()?,
            monitoring: monitored.map(server(Listening::Monitoring)).transpose()?,
            routes: cluster.map(server(Listening::Routes)).transpose()?,
            dialled_routes: cluster.map(client).transpose()?,
        })
    }
}
