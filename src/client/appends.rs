//! Appends: what is to be appended is looked at, copied where it is large, and given its place once there is room.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use super::Client;
use super::error::{ClientError, Result};
use super::machine::{Batch, Place};
use super::options::BATCH_RECORDS_MAX;
use super::ticket::{Receipt, Ticket};
use crate::protocol::request::Copies;

impl Client {
    /// Appends a record, to be synced by a write quorum. Returns at once with a ticket, unless too much is in flight: then
    /// it waits for room.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// let tickets = [client.append(b"one")?, client.append(b"two")?]; // on their way together
    /// let mut lsns = Vec::new();
    /// for ticket in tickets {
    ///     lsns.push(ticket.wait()?.lsn());
    /// }
    /// assert_eq!(lsns[1], lsns[0].next());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] if there is no room by the deadline, and what the ticket says.
    pub fn append(&self, record: &[u8]) -> Result<Ticket> {
        self.append_with(record, Copies::Quorum)
    }

    /// Appends a record and says how durable it is to be before its ticket is answered.
    ///
    /// With [`Copies::Local`] it may be lost after that, so it is not numbered either: if the primary is lost before it
    /// answers, the outcome is [`ClientError::Unknown`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::protocol::request::Copies;
    ///
    /// let receipt = client.append_with(b"two lamps", Copies::All)?.wait()?; // synced by every voter
    /// assert!(receipt.is_committed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Client::append).
    pub fn append_with(&self, record: &[u8], copies: Copies) -> Result<Ticket> {
        if let Some(batch) = self.alone(record)? {
            return self.append_alone(batch, copies);
        }
        let deadline = Instant::now() + self.handle.deadline;
        let place = self.handle.shared.with_room(deadline, |machine, now| {
            machine.append(now, copies, [record].into_iter(), record.len())
        });
        self.ticket(place)
    }

    /// Appends a record if there is room for it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::client::ClientError;
    ///
    /// match client.try_append(b"two lamps") {
    ///     Ok(ticket) => println!("it is record {}", ticket.wait()?.lsn()),
    ///     Err(ClientError::Full) => println!("too much is on its way: later"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Full`] if not, and what the ticket says.
    pub fn try_append(&self, record: &[u8]) -> Result<Ticket> {
        let copies = Copies::Quorum;
        let place = match self.alone(record)? {
            Some(batch) => {
                self.handle.shared.with_room_now(|machine, now| machine.append_whole(now, copies, batch))
            }
            None => self.handle.shared.with_room_now(|machine, now| {
                machine.append(now, copies, [record].into_iter(), record.len())
            }),
        };
        self.ticket(place)
    }

    /// Appends a record, and awaits room for it instead of blocking; the ticket is awaited by itself.
    ///
    /// ```no_run
    /// # async fn order(client: &annals::client::Client) -> annals::client::Result<()> {
    /// let ticket = client.append_async(b"two lamps").await?; // has its place
    /// let receipt = ticket.await?; // is synced by a quorum
    /// # let _ = receipt;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the ticket says.
    pub async fn append_async(&self, record: &[u8]) -> Result<Ticket> {
        loop {
            match self.try_append(record) {
                Err(ClientError::Full) => {
                    poll_fn(|context| self.handle.shared.poll_room(context)).await;
                }
                appended => return appended,
            }
        }
    }

    /// Appends records that live or die together, with LSNs that follow on one another.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// let receipt = client.append_batch(&["two lamps", "one shade"])?.wait()?;
    /// assert_eq!(receipt.range().map(|range| range.records()), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::EmptyBatch`] without any, [`ClientError::TooManyRecords`] with more than 65,536; otherwise as for
    /// [`append`](Client::append).
    pub fn append_batch<T: AsRef<[u8]>>(&self, records: &[T]) -> Result<Ticket> {
        self.append_batch_with(records, Copies::Quorum)
    }

    /// Appends records that live or die together, and says how durable they are to be.
    ///
    /// # Errors
    /// As for [`append_batch`](Client::append_batch).
    pub fn append_batch_with<T: AsRef<[u8]>>(&self, records: &[T], copies: Copies) -> Result<Ticket> {
        if records.is_empty() {
            return Err(ClientError::EmptyBatch);
        }
        if records.len() > BATCH_RECORDS_MAX {
            let (records, max) = (records.len() as u64, BATCH_RECORDS_MAX as u64);
            return Err(ClientError::TooManyRecords { records, max });
        }
        let bytes = records.iter().map(|record| record.as_ref().len()).sum();
        if bytes >= self.handle.alone_bytes {
            return self.append_alone(put_together(records.iter().map(AsRef::as_ref), bytes)?, copies);
        }
        let deadline = Instant::now() + self.handle.deadline;
        let place = self.handle.shared.with_room(deadline, |machine, now| {
            machine.append(now, copies, records.iter().map(AsRef::as_ref), bytes)
        });
        self.ticket(place)
    }

    /// Appends a record and waits for it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// let receipt = client.append_durable(b"two lamps")?;
    /// println!("record {} is on {:?}", receipt.lsn(), receipt.holders());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Client::append) and [`Ticket::wait`].
    pub fn append_durable(&self, record: &[u8]) -> Result<Receipt> {
        self.append(record)?.wait()
    }

    /// A large record, copied here: not under the lock of all.
    fn alone(&self, record: &[u8]) -> Result<Option<Batch>> {
        if record.len() < self.handle.alone_bytes {
            return Ok(None);
        }
        put_together([record].into_iter(), record.len()).map(Some)
    }

    fn append_alone(&self, batch: Batch, copies: Copies) -> Result<Ticket> {
        let deadline = Instant::now() + self.handle.deadline;
        let place =
            self.handle.shared.with_room(deadline, |machine, now| machine.append_whole(now, copies, batch));
        self.ticket(place)
    }

    fn ticket(&self, place: Result<Place>) -> Result<Ticket> {
        place.map(|place| Ticket::new(place, Arc::clone(&self.handle)))
    }
}

/// Records back to back, of so many bytes in all.
fn put_together<'a>(records: impl Iterator<Item = &'a [u8]>, bytes: usize) -> Result<Batch> {
    let mut sizes = Vec::with_capacity(records.size_hint().0);
    let mut payload = Vec::with_capacity(bytes);
    for record in records {
        let too_large = || ClientError::TooLarge { bytes: record.len() as u64, max: u64::from(u32::MAX) };
        sizes.push(u32::try_from(record.len()).map_err(|_| too_large())?);
        payload.extend_from_slice(record);
    }
    Ok(Batch { sizes, payload: payload.into() })
}
