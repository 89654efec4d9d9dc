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
    /// What is wrong with each of the blocks; at least one.
    pub fn load(options: &Options) -> Result<Self, Vec<TlsError>> {
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
        let mut errors = Vec::new();
        let contexts = TlsContexts {
            files,
            clients: made(clients.map(server(Listening::Clients)), &mut errors),
            monitoring: made(monitored.map(server(Listening::Monitoring)), &mut errors),
            routes: made(cluster.map(server(Listening::Routes)), &mut errors),
            dialled_routes: made(cluster.map(client), &mut errors),
        };
        if errors.is_empty() {
            Ok(contexts)
        } else {
            Err(errors)
        }
    }
}

/// What was made, or nothing and one more error. A block that serves twice has its error once.
fn made<T>(result: Option<Result<T, TlsError>>, errors: &mut Vec<TlsError>) -> Option<T> {
    let error = match result? {
        Ok(context) => return Some(context),
        Err(error) => error,
    };
    let text = error.to_string();
    if errors.iter().all(|earlier| earlier.to_string() != text) {
        errors.push(error);
    }
    None
}
