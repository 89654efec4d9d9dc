//! One connection at work, and what it takes to carry out what its peer wants: each borrowed for itself.

use super::{Connection, Shared, Worker, context};
use crate::engine::Engine;
use crate::net::mailbox::Origin;
use crate::net::outlets::Outlets;
use crate::session::Context;

/// Parts of a worker, for one connection.
pub(super) struct Parts<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) engine: &'a mut Engine,
    pub(super) outlets: &'a mut Outlets,
    pub(super) context: Context<'a>,
    pub(super) shared: &'a Shared,
    /// What [`Connection::keep`] counts.
    pub(super) inbound: &'a mut usize,
}

impl Worker {
    /// Parts the worker for a connection, unless that is closing. From here on it is the origin of what is sent, and the
    /// one that has to pause.
    pub(super) fn parts(&mut self, conn: u32) -> Option<Parts<'_>> {
        let connection = self.connections.get_mut(conn as usize);
        let connection = connection.filter(|it| it.closing.is_none())?;
        let outlets = &mut self.outlets;
        outlets.begin(Origin {
            worker: self.index,
            conn,
            serial: connection.serial,
        });
        let context = context(&self.settings, &self.info, outlets.now);
        Some(Parts {
            connection,
            engine: &mut self.engine,
            outlets,
            context,
            shared: &self.shared,
            inbound: &mut self.inbound,
        })
    }

    /// The same, unless the connection that was meant has made room for another.
    pub(super) fn parts_of(&mut self, origin: Origin) -> Option<Parts<'_>> {
        let parts = self.parts(origin.conn);
        parts.filter(|it| it.connection.serial == origin.serial)
    }
}
