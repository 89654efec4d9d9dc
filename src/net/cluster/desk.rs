//! Where workers leave for the control thread what happens on routes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::{io, mem};

use crate::net::acceptor::Control;
use crate::net::mailbox::Origin;
use crate::session::RouteEvent;

/// Something that happened.
#[derive(Debug)]
pub enum Happening {
    /// On a route.
    Event(Origin, RouteEvent),
    /// A connection to another server is ending.
    Closed {
        /// The connection.
        origin: Origin,
        /// The number of the attempt to dial it, if it was us who dialled.
        dial: Option<u64>,
    },
    /// A name was looked up for an attempt to dial.
    Resolved {
        /// The number of the attempt.
        dial: u64,
        /// What it stands for.
        result: io::Result<Vec<SocketAddr>>,
    },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Desk {
    happenings: Mutex<Vec<Happening>>,
    control: OnceLock<Arc<Control>>,
}

impl Desk {
    /// Says whom to wake.
    pub fn open(&self, control: Arc<Control>) {
        // There is one control thread in a server's life.
        let _ = self.control.set(control);
    }

    /// Leaves something.
    pub fn post(&self, happening: Happening) {
        self.lock().push(happening);
        if let Some(control) = self.control.get() {
            control.look();
        }
    }

    /// Takes everything that was left.
    pub fn take(&self) -> Vec<Happening> {
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Happening>> {
        self.happenings
            .lock()
            .expect("no thread panics and lives on")
    }
}
