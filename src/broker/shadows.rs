//! Shadows: what subscriptions cast on the accounts that they import streams from.
//!
//! ```text
//! account A imports ev.* of B as x.*        SUB x.a 7   in A's trie
//!                                             └─shadow─► ev.a   in B's trie
//! ```
//!
//! To the trie a shadow is a subscription like any other; only its owner can tell, by the slot, and finds the real one.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use slab::Slab;

use crate::subject::renaming::Renaming;
use crate::sublist::{NodeId, SubRef};

/// What sets the slots of shadows apart from those of subscriptions.
const MARK: u32 = 1 << 31;

/// The shadow of one subscription in another account.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// The subscription that casts it.
    pub of: SubRef,
    /// The account of that subscription.
    pub home: u32,
    /// The account whose trie it is in.
    pub account: u32,
    /// Where there.
    pub node: Option<NodeId>,
    /// The subjects there and at home.
    pub renaming: Arc<Renaming>,
    serial: u32,
}

/// The shadows of a worker's subscriptions.
#[derive(Debug, Default)]
pub struct Shadows {
    slots: Slab<Shadow>,
    /// By the slot of the subscription that casts them.
    cast: HashMap<u32, Vec<SubRef>, RandomState>,
    next_serial: u32,
}

impl Shadows {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds the shadow of a subscription of account `home` in `account`, and gives the reference for the trie there.
    ///
    /// # Panics
    ///
    /// With 2^31 shadows, which fit in no memory.
    pub fn cast(
        &mut self,
        of: SubRef,
        home: u32,
        account: u32,
        renaming: &Arc<Renaming>,
    ) -> SubRef {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let key = self.slots.insert(Shadow {
            of,
            home,
            account,
            node: None,
            renaming: Arc::clone(renaming),
            serial,
        });
        let slot = u32::try_from(key).expect("fewer than 2^31 shadows fit in memory") | MARK;
        let sub = SubRef { slot, serial, ..of };
        self.cast.entry(of.slot).or_default().push(sub);
        sub
    }

    /// Notes where in the trie a shadow stands.
    pub fn place(&mut self, sub: SubRef, node: NodeId) {
        if let Some(shadow) = self.slots.get_mut((sub.slot & !MARK) as usize) {
            shadow.node = Some(node);
        }
    }

    /// The shadow that `sub` refers to, if it is one that still exists.
    #[must_use]
    pub fn get(&self, sub: SubRef) -> Option<&Shadow> {
        let key = sub.slot.checked_sub(MARK)?;
        self.slots
            .get(key as usize)
            .filter(|it| it.serial == sub.serial)
    }

    /// All shadows of a subscription.
    pub fn of(&self, of: SubRef) -> impl Iterator<Item = (SubRef, &Shadow)> {
        let subs = self.cast.get(&of.slot).into_iter().flatten();
        subs.filter_map(|&sub| Some((sub, self.get(sub)?)))
    }

    /// Whether the shadows of a subscription are those that it casts by these imports: the accounts that they are from, and
    /// the subjects. If so, they go on by these.
    pub fn keep<'i>(
        &mut self,
        of: SubRef,
        imports: impl Iterator<Item = (u32, &'i Arc<Renaming>)> + Clone,
    ) -> bool {
        {
            let mut held = self.of(of).map(|(_, shadow)| shadow);
            let is_next = |(account, renaming): (u32, &Arc<Renaming>)| {
                let next = held.next();
                next.is_some_and(|it| it.account == account && it.renaming == *renaming)
            };
            if !imports.clone().all(is_next) || held.next().is_some() {
                return false;
            }
        }
        for (sub, (_, renaming)) in self.cast.get(&of.slot).into_iter().flatten().zip(imports) {
            if let Some(shadow) = self.slots.get_mut((sub.slot & !MARK) as usize) {
                shadow.renaming = Arc::clone(renaming);
            }
        }
        true
    }

    /// Takes out all shadows of a subscription.
    pub fn lift(&mut self, of: SubRef) -> Vec<(SubRef, Shadow)> {
        let subs = self.cast.remove(&of.slot).unwrap_or_default();
        let gone = subs.into_iter().filter_map(|sub| {
            let shadow = self.slots.try_remove((sub.slot & !MARK) as usize)?;
            Some((sub, shadow))
        });
        let gone = gone.collect();
        if self.slots.is_empty() {
            *self = Shadows {
                next_serial: self.next_serial,
                ..Shadows::default()
            };
        }
        gone
    }
}
