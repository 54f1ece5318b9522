//! Somebody who writes a log and keeps the account of it.

use std::collections::VecDeque;
use std::sync::Arc;

use annals::disk::Disk;
use annals::{Durability, Error, Log, LogOptions, Lsn, Result, Ticket};

use super::ledger::{Ledger, Shown};
use super::seeds::Chance;

/// A log, its account, and the tickets that were not redeemed yet.
pub(crate) struct Author {
    pub(crate) log: Log,
    pub(crate) ledger: Ledger,
    pub(crate) chance: Chance,
    tickets: VecDeque<Ticket>,
}

impl Author {
    /// Opens a log, whose account so far is `ledger`, and compares the two.
    pub(crate) fn open(options: LogOptions, disk: Option<Arc<dyn Disk>>, ledger: &Ledger) -> Result<Author> {
        let log = match disk {
            Some(disk) => options.open_with(disk)?,
            None => options.open()?,
        };
        let shown = Shown::of(&log)?;
        ledger.check(&shown).unwrap_or_else(|wrong| panic!("the opened log {wrong}"));
        let mut ledger = ledger.clone();
        ledger.settle(&shown);
        let chance = Chance::new(ledger.last());
        Ok(Author { log, ledger, chance, tickets: VecDeque::new() })
    }

    pub(crate) fn append(&mut self, bytes: usize, durability: Durability) -> Result<()> {
        let payload = self.chance.payload(bytes);
        let ticket = self.log.append_with(&payload, durability)?;
        self.appended(ticket, &[payload], durability);
        Ok(())
    }

    /// Appends what the caller has in mind.
    pub(crate) fn append_bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        let ticket = self.log.append(&bytes)?;
        self.appended(ticket, &[bytes], Durability::Durable);
        Ok(())
    }

    /// Returns whether there was room.
    pub(crate) fn try_append(&mut self, bytes: usize) -> Result<bool> {
        let payload = self.chance.payload(bytes);
        match self.log.try_append(&payload) {
            Ok(ticket) => self.appended(ticket, &[payload], Durability::Durable),
            Err(Error::WouldBlock) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    pub(crate) fn append_batch(&mut self, sizes: &[usize]) -> Result<()> {
        let payloads: Vec<_> = sizes.iter().map(|&bytes| self.chance.payload(bytes)).collect();
        let ticket = self.log.append_batch(&payloads)?;
        self.appended(ticket, &payloads, Durability::Durable);
        Ok(())
    }

    /// The record is in the account before its outcome is known: a failure may still leave it in the log.
    pub(crate) fn append_durable(&mut self, bytes: usize) -> Result<()> {
        self.append(bytes, Durability::Durable)?;
        let ticket = self.tickets.pop_back().expect("just appended");
        self.redeem(ticket)
    }

    fn appended(&mut self, ticket: Ticket, records: &[Vec<u8>], durability: Durability) {
        self.ledger.appended(ticket.lsn(), records);
        if durability == Durability::Durable {
            self.tickets.push_back(ticket);
        }
    }

    /// Waits for the oldest tickets.
    pub(crate) fn redeem_oldest(&mut self, tickets: usize) -> Result<()> {
        for _ in 0..tickets.min(self.tickets.len()) {
            let ticket = self.tickets.pop_front().expect("counted");
            self.redeem(ticket)?;
        }
        Ok(())
    }

    pub(crate) fn redeem_all(&mut self) -> Result<()> {
        self.redeem_oldest(usize::MAX)
    }

    fn redeem(&mut self, ticket: Ticket) -> Result<()> {
        let first = ticket.lsn();
        let receipt = ticket.wait()?;
        assert_eq!(receipt.lsn(), first);
        let batch = self.ledger.batch(first.get()).map(|(_, last)| last);
        assert_eq!(batch, Some(receipt.last_lsn().get()));
        self.ledger.acknowledge(receipt.last_lsn());
        Ok(())
    }

    /// Drops all tickets.
    pub(crate) fn forget_tickets(&mut self) {
        self.tickets.clear();
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        let through = self.log.sync()?;
        assert_eq!(through.get(), self.ledger.last(), "a sync covers all that was appended before");
        self.ledger.acknowledge(through);
        Ok(())
    }

    pub(crate) fn trim(&mut self, before: u64) -> Result<()> {
        self.ledger.begin_trim(before);
        self.log.trim(Lsn::new(before))?;
        self.ledger.end_trim();
        Ok(())
    }

    pub(crate) fn truncate(&mut self, after: u64) -> Result<()> {
        // A truncation makes durable what it keeps; tickets of what goes tell nothing any more.
        self.redeem_all()?;
        self.ledger.begin_truncation(after);
        self.log.truncate(Lsn::new(after))?;
        self.ledger.end_truncation();
        Ok(())
    }

    pub(crate) fn mark(&mut self, lsn: u64, bytes: usize) -> Result<()> {
        let text = self.chance.payload(bytes);
        self.ledger.begin_mark(lsn, &text);
        self.log.set_mark(Lsn::new(lsn), &text)?;
        self.ledger.end_mark();
        Ok(())
    }

    /// Closes the log. The account goes on, also when that failed.
    pub(crate) fn close(self) -> (Ledger, Result<()>) {
        let Author { log, mut ledger, .. } = self;
        let closed = log.close();
        if closed.is_ok() {
            ledger.acknowledge(Lsn::new(ledger.last()));
        }
        (ledger, closed)
    }

    /// Lets go of the log without asking it anything, and keeps the account.
    pub(crate) fn part(self) -> Ledger {
        self.ledger
    }
}
