//! Lame duck mode: a server that is about to end sends its clients elsewhere, a few at a time.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Server, State, distribute, lock};
use crate::id;
use crate::log::info;
use crate::net::acceptor::Control;
use crate::net::mailbox::Settings;
use crate::net::shared::Shared;
use crate::rng::Rng;
use crate::session::CloseReason;

/// The longest time between two clients that are closed.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Server {
    /// Accepts no more clients, tells those it has, and after a while closes them one by one. When that is done,
    /// `done` is called: then it is time to stop. Does nothing the second time.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread; then nothing has happened.
    pub fn enter_lame_duck(&mut self, done: impl FnOnce() + Send + 'static) -> io::Result<()> {
        if self.lame_duck.is_some() {
            return Ok(());
        }
        let (sender, cancelled) = mpsc::channel();
        let duck = LameDuck {
            shared: Arc::clone(&self.shared),
            control: Arc::clone(&self.control),
            state: Arc::clone(&self.state),
            cancelled,
        };
        self.lame_duck = Some(sender);
        self.spawn("lame-duck".into(), move || {
            duck.run();
            done();
        })
        .inspect_err(|_| self.lame_duck = None)
    }

    /// Whether it is on its way out by [`enter_lame_duck`](Server::enter_lame_duck).
    #[must_use]
    pub fn is_lame_duck(&self) -> bool {
        self.lame_duck.is_some()
    }
}

struct LameDuck {
    shared: Arc<Shared>,
    control: Arc<Control>,
    state: Arc<Mutex<State>>,
    /// Its other end goes when the server stops.
    cancelled: Receiver<()>,
}

impl LameDuck {
    fn run(self) {
        let log = &self.shared.log;
        info!(log, "Entering lame duck mode, stop accepting new clients");
        self.control.close_listener();
        if self.shared.connection_count() == 0 {
            return;
        }
        let settings = self.announce();
        let grace = settings.options.lame_duck_grace_period;
        if !self.waits(grace) {
            return;
        }
        info!(log, "Closing existing clients");
        self.close_clients(settings.options.lame_duck_duration.saturating_sub(grace));
    }

    /// Tells the clients, and those that will ask.
    fn announce(&self) -> Arc<Settings> {
        let mut state = lock(&self.state);
        let mut info = state.settings.info.clone();
        info.lame_duck = true;
        let options = state.settings.options.clone();
        let (auth, broker) = (&state.settings.auth, &state.settings.broker);
        state.settings = Arc::new(Settings {
            options,
            info,
            auth: Arc::clone(auth),
            broker: Arc::clone(broker),
            tls: Arc::clone(&state.settings.tls),
            digest: state.settings.digest.clone(),
            loaded: state.settings.loaded,
        });
        distribute(&self.shared, &self.control, &state.settings, true);
        Arc::clone(&state.settings)
    }

    /// Closes all clients in random order, so spread that it takes about `span` but never long for a few.
    fn close_clients(&self, span: Duration) {
        let mut rng = Rng::seeded(id::seed());
        let count = self.shared.connection_count();
        let pause = span / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let pause = pause.min(PAUSE_MAX);
        for left in (0..count).rev() {
            self.shared
                .close_some(1, CloseReason::ServerShutdown, &mut rng);
            // Anything from half to all of it, so that the clients do not come to the others in step.
            let random = rng.fraction() / 2.0;
            if left == 0
                || self.shared.connection_count() == 0
                || !self.waits(pause.mul_f64(0.5 + random))
            {
                return;
            }
        }
    }

    /// Waits; false if it need not go on.
    fn waits(&self, span: Duration) -> bool {
        self.cancelled.recv_timeout(span) == Err(RecvTimeoutError::Timeout)
    }
}
