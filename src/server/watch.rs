//! `tls { watch }`: looks now and then whether certificates were renewed on disk, and goes over to the new ones.
//!
//! A thread of its own, which sleeps in between and is there only where some `tls` block asks for it. What cannot be
//! used, such as a certificate whose key has not arrived yet, is said once and looked at again when it changes.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};

use super::{AbortOnPanic, Server, ServerError, State, distribute, lock};
use crate::config::options::Options;
use crate::log::{error, info};
use crate::net::acceptor::Control;
use crate::net::mailbox::Settings;
use crate::net::shared::Shared;
use crate::net::tls::{Stamps, TlsContexts};

struct Watch {
    shared: Arc<Shared>,
    control: Arc<Control>,
    state: Arc<Mutex<State>>,
    /// Told of another interval; its other end goes when the server stops.
    orders: Receiver<()>,
    /// Files that were found and could not be used.
    refused: Option<Stamps>,
}

impl Server {
    /// Watches the files of TLS, if these options want that, as soon as they are in force: until then the state is to
    /// stay locked. One that watches already is told to look at them, too.
    pub(super) fn watch_files(&self, state: &mut State, options: &Options) -> io::Result<()> {
        if let Some(watch) = &state.watch {
            // It has not ended, or it would not stand here.
            let _ = watch.send(());
            return Ok(());
        }
        if interval(options).is_none() {
            return Ok(());
        }
        let (sender, orders) = mpsc::channel();
        let watch = Watch {
            shared: Arc::clone(&self.shared),
            control: Arc::clone(&self.control),
            state: Arc::clone(&self.state),
            orders,
            refused: None,
        };
        let thread = thread::Builder::new().name("watch".into());
        thread.spawn(move || {
            let _guard = AbortOnPanic;
            watch.run();
        })?;
        state.watch = Some(sender);
        Ok(())
    }
}

impl Watch {
    fn run(mut self) {
        loop {
            let interval = {
                let mut state = lock(&self.state);
                let interval = interval(&state.settings.options);
                if interval.is_none() {
                    state.watch = None;
                }
                interval
            };
            let Some(interval) = interval else { return };
            match self.orders.recv_timeout(interval) {
                // A reload may have brought another interval.
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        let mut state = lock(&self.state);
        let Settings {
            options,
            info,
            auth,
            broker,
            tls,
            digest,
            loaded,
        } = &*state.settings;
        let now = Stamps::now(options);
        if now == tls.files || self.refused.as_ref() == Some(&now) {
            return;
        }
        let log = &self.shared.log;
        match TlsContexts::load(options) {
            Ok(tls) => {
                state.settings = Arc::new(Settings {
                    options: options.clone(),
                    info: info.clone(),
                    auth: Arc::clone(auth),
                    broker: Arc::clone(broker),
                    tls: Arc::new(tls),
                    digest: digest.clone(),
                    loaded: *loaded,
                });
                distribute(&self.shared, &self.control, &state.settings, false);
                info!(log, "TLS files have changed and are in use");
                self.refused = None;
            }
            Err(errors) => {
                let why = ServerError::Tls(errors);
                let kept = "the old ones stay in use";
                error!(
                    log,
                    "TLS files have changed and cannot be used: {why}; {kept}"
                );
                self.refused = Some(now);
            }
        }
    }
}

/// The time between two looks.
fn interval(options: &Options) -> Option<Duration> {
    let blocks = [options.tls.as_ref(), options.cluster.tls.as_ref()];
    blocks
        .into_iter()
        .flatten()
        .filter_map(|tls| tls.watch)
        .min()
}
