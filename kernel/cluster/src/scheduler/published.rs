//! Values under a name: they outlive every handle, and the program that made them.

use super::{Comm, Scheduler};
use crate::{
    model::{cluster::Published, ids::ClientId},
    wire::protocol::{Answer, Asker},
};

/// Holds published values in place of a program.
const PUBLISHER: ClientId = ClientId(0);

impl Scheduler {
    /// Keeps values under a name, if all of them are there; what had the name before is let go. The client is
    /// told all names.
    pub fn publish(&mut self, asker: Asker, published: Published, comm: &mut impl Comm) {
        let Published { name, keys, .. } = &published;
        if !keys.iter().all(|key| self.tasks.contains_key(key)) {
            return self.tell_published(asker, comm);
        }
        let before = self.published.remove(name);
        for key in keys {
            if let Some(record) = self.tasks.get_mut(key) {
                record.wanted_by.push(PUBLISHER);
            }
        }
        let task = keys.first().map(|key| self.name_of(*key)).unwrap_or_default();
        self.published
            .insert(name.clone(), Published { task, ..published });
        if let Some(before) = before {
            self.release(PUBLISHER, &before.keys, comm);
        }
        self.tell_published(asker, comm);
    }

    pub fn unpublish(&mut self, asker: Asker, name: &str, comm: &mut impl Comm) {
        if let Some(published) = self.published.remove(name) {
            self.release(PUBLISHER, &published.keys, comm);
        }
        self.tell_published(asker, comm);
    }

    pub fn tell_published(&self, asker: Asker, comm: &mut impl Comm) {
        comm.answer(
            asker,
            Answer::Published(self.published.values().cloned().collect()),
        );
    }
}
