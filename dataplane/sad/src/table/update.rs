//! Changing the configuration of a live SA in place: its counters are not touched.

use thiserror::Error;
use zeroize::Zeroizing;

use super::Table;
use super::put::PutError;
use super::writer::{WriteError, Writer};
use crate::layout::{CONFIG_WORDS, header, slot};
use crate::sa::{Direction, Sa, SaError, decode, encode, holds_key, name_tag};
use crate::seqlock;
use crate::slot::{SaHandle, state};
use crate::sync::{AtomicU64, Ordering, add_single_writer, fence};

/// Why an update was refused. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The new configuration cannot be.
    #[error(transparent)]
    Invalid(#[from] SaError),
    /// There is no such SA.
    #[error("there is no {direction} SA {key:#x} to update; install it")]
    NotFound {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
    },
    /// Another SA, not an update of this one.
    #[error("the installed {direction} SA {key:#x} has another key or SPI; install the new one in its place")]
    OtherSa {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
    },
    /// No slot is free to keep the old configuration in meanwhile.
    #[error(transparent)]
    NoSlot(PutError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Table {
    /// Gives an installed SA another configuration under the same SPI and key. Its counters, its slot
    /// and whether it is frozen stay; its generation is another one, so that workers read it again.
    ///
    /// # Errors
    /// [`UpdateError::OtherSa`] if the key or SPI is not the installed one, and others.
    pub fn update(&self, sa: &Sa) -> Result<SaHandle, UpdateError> {
        sa.validate()?;
        let (direction, key) = (sa.direction, sa.index_key());
        let writer = self.write()?;
        let number = self.shared().resolve(direction, key);
        let number = number.ok_or(UpdateError::NotFound { direction, key })?;
        if !writer.is_same_sa(number, sa) {
            return Err(UpdateError::OtherSa { direction, key });
        }
        let transaction = writer.begin();
        let undo = writer.make_available(1).map(|()| writer.allocate());
        match undo {
            Ok(Some(undo)) => writer.rewrite(number, undo, transaction, sa),
            Ok(None) => {}
            Err(error) => {
                writer.end();
                return Err(UpdateError::NoSlot(error));
            }
        }
        writer.end();
        Ok(writer.handle(number))
    }
}

impl Writer<'_> {
    fn is_same_sa(&self, number: u32, sa: &Sa) -> bool {
        let config = &self.words(number)[slot::CONFIG..];
        let spi = config[0].load(Ordering::Relaxed) >> 32;
        spi == u64::from(sa.spi) && holds_key(config, &sa.key)
    }

    fn rewrite(&self, number: u32, undo: u32, transaction: u64, sa: &Sa) {
        self.save(number, undo);
        let words = self.words(number);
        let odd = seqlock::begin_write(&words[slot::VERSION]);
        seqlock::copy_in(&words[slot::CONFIG..], &*encode(sa));
        self.set_tag(number, name_tag(sa.name.as_str()));
        self.set(header::COMMITTED, transaction);
        seqlock::end_write(&words[slot::VERSION], odd);
        self.finish_update(number);
        self.wipe(undo);
        self.release(undo);
    }

    /// Keeps the old configuration where recovery finds it.
    fn save(&self, number: u32, undo: u32) {
        self.set_state(undo, state::FILLING);
        let saved = &self.words(undo)[slot::CONFIG..];
        copy_config(&self.words(number)[slot::CONFIG..], saved);
        self.set(header::INTENT_UNDO, u64::from(undo));
        // Armed: from here on recovery restores the slot from the copy.
        self.set(header::INTENT_SLOT, u64::from(number) + 1);
        fence(Ordering::Release);
    }

    /// Tells the workers of another configuration, and disarms the undoing.
    fn finish_update(&self, number: u32) {
        add_single_writer(&self.words(number)[slot::GENERATION], 1);
        self.add(header::CHANGE_COUNT, 1);
        self.set(header::INTENT_SLOT, 0);
    }

    /// Completes or undoes the update that a dead writer was in.
    pub(super) fn recover_update(&self) {
        let Some(number) = (self.value(header::INTENT_SLOT) as u32).checked_sub(1) else { return };
        let words = self.words(number);
        let odd = seqlock::begin_write(&words[slot::VERSION]);
        if self.value(header::COMMITTED) != self.value(header::INTENT) {
            let saved = &self.words(self.value(header::INTENT_UNDO) as u32)[slot::CONFIG..];
            copy_config(saved, &words[slot::CONFIG..]);
        }
        self.restore_tag(number);
        seqlock::end_write(&words[slot::VERSION], odd);
        self.finish_update(number);
    }

    /// The tag of the name in the slot's configuration.
    fn restore_tag(&self, number: u32) {
        let mut words = Zeroizing::new([0; CONFIG_WORDS]);
        seqlock::copy_out(&self.words(number)[slot::CONFIG..], &mut *words);
        if let Some(sa) = decode(&words) {
            self.set_tag(number, name_tag(sa.name.as_str()));
        }
    }
}

fn copy_config(from: &[AtomicU64], to: &[AtomicU64]) {
    let mut words = Zeroizing::new([0; CONFIG_WORDS]);
    seqlock::copy_out(from, &mut *words);
    seqlock::copy_in(to, &*words);
}
