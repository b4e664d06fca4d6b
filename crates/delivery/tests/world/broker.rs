//! The broker of a world: it holds items, hands them over and takes them back.

use longhaul_delivery::{
    DeliveryId, Digest, Epoch, Identity, Input, ItemId, LogId, Mark, OrderKey, Outline, Settlement,
};

use super::World;

/// An item in the broker, or a copy of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) class: usize,
    pub(super) mark: Option<Mark>,
    pub(super) attempts: u32,
    pub(super) returns: u32,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Ready,
    Out(DeliveryId),
    /// Another replica has it.
    Away,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    pub(super) class: usize,
    pub(super) mark: Mark,
    pub(super) attempts: u32,
    pub(super) landed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settle {
    pub(super) id: DeliveryId,
    pub(super) how: Settlement,
}

impl Stored {
    pub(super) fn new(class: usize) -> Self {
        Stored { class, mark: None, attempts: 0, returns: 0, place: Place::Ready }
    }

    pub(super) fn give_back(&mut self) {
        self.place = Place::Ready;
        self.returns += 1;
    }
}

impl World {
    pub(super) fn deliver(&mut self, index: usize) {
        let stored = self.stored[index].clone();
        // Within a session an item is handed over again only after a return, so this tag is unique.
        let tag = index as u64 + 100 * u64::from(stored.returns);
        let id = DeliveryId { epoch: Epoch(self.session.epoch), tag };
        self.stored[index].place = Place::Out(id);
        self.delivered.insert(id, stored.class);
        let redelivered = stored.returns > 0 && !self.setting.unique;
        let attempts_before = match stored.mark {
            Some(_) => stored.attempts,
            None if self.setting.unique => 0,
            None => stored.returns,
        };
        self.tell(Input::Received(Outline {
            id,
            identity: self.identity(index),
            redelivered,
            attempts_before,
            body_bytes: 1,
            kept_bytes: 1,
            order_key: self.setting.keys.get(index).copied().flatten().map(OrderKey),
            near_limit: self.setting.near_limit.is_some_and(|limit| stored.returns >= limit),
            ask_peers: redelivered && self.setting.policy.peers,
            shared: false,
            undecodable: self.is_undecodable(stored.class),
        }));
    }

    pub(super) fn identity(&self, index: usize) -> Identity {
        let stored = &self.stored[index];
        match &stored.mark {
            Some(mark) => Identity::Copy { mark: *mark, content: Digest([stored.class as u8; 16]) },
            None if self.setting.unique => Identity::Record {
                log: LogId(1),
                topic: "t".into(),
                partition: 0,
                offset: index as i64,
                content: Digest([stored.class as u8; 16]),
            },
            None => Identity::Content(Digest([stored.class as u8; 16])),
        }
    }

    /// Whether the source cannot decode the items of this class.
    pub(super) fn is_undecodable(&self, class: usize) -> bool {
        class < self.setting.undecodable
    }

    pub(super) fn is_copy(&self, id: DeliveryId) -> bool {
        self.stored.iter().any(|stored| stored.place == Place::Out(id) && stored.mark.is_some())
    }

    pub(super) fn land_copy(&mut self, item: ItemId) {
        let Some(copy) = self.copying.get_mut(&item) else { return };
        copy.landed = true;
        let copy = copy.clone();
        self.store_copy(&copy);
    }

    pub(super) fn store_copy(&mut self, copy: &Copy) {
        self.tallies[copy.class].copies += 1;
        let stored = Stored { mark: Some(copy.mark), attempts: copy.attempts, ..Stored::new(copy.class) };
        self.stored.push(stored);
    }

    /// Returns the mark in the message of a delivery.
    pub(super) fn mark_of_delivery(&self, id: DeliveryId) -> Option<Mark> {
        let stored = self.stored.iter().find(|stored| stored.place == Place::Out(id))?;
        stored.mark
    }

    pub(super) fn return_from_away(&mut self, index: usize) {
        self.stored[index].place = Place::Ready;
        self.stored[index].returns += 1;
    }

    /// Loses the result of a settle: the bridge never hears of it.
    pub(super) fn doubt(&mut self, settle: Settle) {
        // If the delivery can be told from all others, it is remembered instead.
        if settle.how == Settlement::Ack
            && !self.setting.unique
            && self.mark_of_delivery(settle.id).is_none()
            && let Some(class) = self.delivered.get(&settle.id)
        {
            self.tallies[*class].doubtful += 1;
        }
    }

    pub(super) fn apply(&mut self, settle: Settle) {
        let Some(stored) = self.stored.iter_mut().find(|stored| stored.place == Place::Out(settle.id)) else {
            return;
        };
        match settle.how {
            Settlement::Ack => {
                self.tallies[stored.class].gone += 1;
                stored.place = Place::Gone;
            }
            Settlement::Return => stored.give_back(),
        }
    }

    /// Makes every unsettled delivery ready again.
    pub(super) fn take_back(&mut self) {
        let out = |stored: &&mut Stored| matches!(stored.place, Place::Out(_));
        self.stored.iter_mut().filter(out).for_each(Stored::give_back);
    }
}
