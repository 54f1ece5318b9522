//! Appends: what is to be appended is looked at, copied where it is large, and given its place once there is room.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use super::Client;
use super::error::{ClientError, Result};
use super::machine::{Batch, Machine, Place};
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
        self.append_when_room(&[record], copies)
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
        let records = &[record];
        let load = self.load(records)?;
        let place =
            self.handle.shared.with_room_now(|machine, now| load.append_to(machine, now, Copies::Quorum));
        self.ticket(place)
    }

    /// Appends a record, and awaits room for it instead of blocking; the ticket is awaited by itself.
    ///
    /// What is awaited first is the record's place: until the future has been polled to its end nothing is appended, and
    /// dropped before that it appends nothing. Room is awaited for as long as it takes: what is in flight is settled by the
    /// client's deadline at the latest, but others may be quicker to take the room. Any runtime will do, or none.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let ticket = client.append_async(b"two lamps").await?; // has its place
    /// let receipt = ticket.await?; // is synced by a quorum
    /// # assert!(receipt.is_committed());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the ticket says, and [`ClientError::Closed`] if the client is closed meanwhile.
    pub async fn append_async(&self, record: &[u8]) -> Result<Ticket> {
        self.append_with_async(record, Copies::Quorum).await
    }

    /// Appends a record and says how durable it is to be, as [`append_with`](Client::append_with) does; room for it is
    /// awaited, as by [`append_async`](Client::append_async), and the durability by the ticket.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// use annals::protocol::request::Copies;
    ///
    /// let ticket = client.append_with_async(b"two lamps", Copies::All).await?; // has its place
    /// let receipt = ticket.await?; // is synced by every voter
    /// # assert!(receipt.is_committed());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append_async`](Client::append_async).
    pub async fn append_with_async(&self, record: &[u8], copies: Copies) -> Result<Ticket> {
        self.append_once_room(&[record], copies).await
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
        self.append_when_room(records, copies)
    }

    /// Appends records that live or die together, as [`append_batch`](Client::append_batch) does; room for them is awaited,
    /// as by [`append_async`](Client::append_async).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let ticket = client.append_batch_async(&["two lamps", "one shade"]).await?; // both have their places
    /// let receipt = ticket.await?; // both are synced by a quorum
    /// assert_eq!(receipt.range().map(|range| range.records()), Some(2));
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::EmptyBatch`] without any, [`ClientError::TooManyRecords`] with more than 65,536, both without waiting
    /// for room; otherwise as for [`append_async`](Client::append_async).
    pub async fn append_batch_async<T: AsRef<[u8]>>(&self, records: &[T]) -> Result<Ticket> {
        self.append_batch_with_async(records, Copies::Quorum).await
    }

    /// Appends records that live or die together, and says how durable they are to be; room for them is awaited, as by
    /// [`append_async`](Client::append_async), and the durability by the ticket.
    ///
    /// # Errors
    /// As for [`append_batch_async`](Client::append_batch_async).
    pub async fn append_batch_with_async<T: AsRef<[u8]>>(
        &self,
        records: &[T],
        copies: Copies,
    ) -> Result<Ticket> {
        self.append_once_room(records, copies).await
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

    /// The thread waits for room.
    fn append_when_room<T: AsRef<[u8]>>(&self, records: &[T], copies: Copies) -> Result<Ticket> {
        let load = self.load(records)?;
        let deadline = Instant::now() + self.handle.deadline;
        let shared = &self.handle.shared;
        let place = shared.with_room(deadline, |machine, now| load.append_to(machine, now, copies));
        self.ticket(place)
    }

    /// The task waits for room.
    async fn append_once_room<T: AsRef<[u8]>>(&self, records: &[T], copies: Copies) -> Result<Ticket> {
        let mut load = Some(self.load(records)?);
        let place = poll_fn(|context| {
            self.handle.shared.poll_with_room(context, |machine, now| {
                load.take().expect("there is room once").append_to(machine, now, copies)
            })
        });
        self.ticket(place.await)
    }

    /// What is to be appended; copied here if it is large: not under the lock of all.
    fn load<'a, T: AsRef<[u8]>>(&self, records: &'a [T]) -> Result<Load<'a, T>> {
        if records.is_empty() {
            return Err(ClientError::EmptyBatch);
        }
        if records.len() > BATCH_RECORDS_MAX {
            let (records, max) = (records.len() as u64, BATCH_RECORDS_MAX as u64);
            return Err(ClientError::TooManyRecords { records, max });
        }
        let bytes = records.iter().map(|record| record.as_ref().len()).sum();
        if bytes < self.handle.alone_bytes {
            return Ok(Load::Small { records, bytes });
        }
        put_together(records.iter().map(AsRef::as_ref), bytes).map(Load::Large)
    }

    fn ticket(&self, place: Result<Place>) -> Result<Ticket> {
        place.map(|place| Ticket::new(place, Arc::clone(&self.handle)))
    }
}

/// What waits for room to be appended.
enum Load<'a, T> {
    /// Records of so many bytes in all, which join others.
    Small { records: &'a [T], bytes: usize },
    /// Those that go alone.
    Large(Batch),
}

impl<T: AsRef<[u8]>> Load<'_, T> {
    fn append_to(self, machine: &mut Machine, now: Instant, copies: Copies) -> Place {
        match self {
            Load::Small { records, bytes } => {
                machine.append(now, copies, records.iter().map(AsRef::as_ref), bytes)
            }
            Load::Large(batch) => machine.append_whole(now, copies, batch),
        }
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::client::ClientOptions;
    use crate::client::network::{Ear, Line, Network};
    use crate::client::testing::status_of;
    use crate::protocol::request::{Appended, Reply, Request};
    use crate::types::{Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

    /// Nothing here takes so long, however busy the machine is.
    const LONG: Duration = Duration::from_secs(60);
    /// Fills a client's window by itself.
    const FILLS: &[u8] = b"fills the window";

    /// A primary that answers appends only when it is told to.
    #[derive(Clone, Debug, Default)]
    struct Desk(Arc<Mutex<Waiting>>);

    #[derive(Debug, Default)]
    struct Waiting {
        asked: VecDeque<Asked>,
        last: Lsn,
    }

    /// An append that waits for its answer.
    #[derive(Debug)]
    struct Asked {
        ear: Arc<Ear>,
        number: u64,
        copies: Copies,
        records: u64,
    }

    impl Desk {
        /// A client that may have no more than one append in flight.
        fn client(&self) -> Client {
            let options = ClientOptions::new(["primary:1"]).in_flight_bytes_max(1).gather_bytes(1 << 10);
            options.deadline(LONG).connect_over(Arc::new(self.clone())).unwrap()
        }

        /// Answers the oldest append: all copies that it asked for are there.
        fn answer(&self) {
            let (asked, reply) = self.next_answer();
            tell(&asked.ear, asked.number, reply);
        }

        /// The oldest append, and its answer.
        fn next_answer(&self) -> (Asked, Reply) {
            let mut waiting = self.0.lock();
            let asked = waiting.asked.pop_front().expect("something was asked");
            let first = waiting.last.next();
            waiting.last = waiting.last.plus(asked.records);
            let range = LsnRange::new(first, waiting.last);
            drop(waiting);
            let holders = match asked.copies {
                Copies::Local => 1,
                Copies::Quorum => 2,
                Copies::All => 3,
                Copies::AtLeast(copies) => u64::from(copies),
            };
            let appended = Appended {
                range,
                epoch: Epoch::new(1),
                holders: (1..=holders).map(ReplicaId::new).collect(),
                is_committed: true,
                is_duplicate: false,
            };
            (asked, Reply::Appended(appended))
        }
    }

    fn tell(ear: &Ear, number: u64, reply: Reply) {
        ear.replies(&mut vec![(number, reply, Bytes::new())]);
    }

    impl Network for Desk {
        fn dial(&self, _address: &str, ear: Ear) -> Option<Box<dyn Line>> {
            ear.opened(Some(ReplicaId::new(1)));
            Some(Box::new(Wire { desk: self.clone(), ear: Arc::new(ear) }))
        }
    }

    #[derive(Debug)]
    struct Wire {
        desk: Desk,
        ear: Arc<Ear>,
    }

    impl Line for Wire {
        fn send(&self, number: u64, request: &Request, _payload: Bytes) {
            match request {
                Request::Status => tell(&self.ear, number, status_of(1, 1)),
                Request::Register => tell(&self.ear, number, Reply::Registered(ProducerId::new(1))),
                Request::Append { copies, sizes, .. } => {
                    let (ear, records) = (Arc::clone(&self.ear), sizes.len() as u64);
                    self.desk.0.lock().asked.push_back(Asked { ear, number, copies: *copies, records });
                }
                other => panic!("nobody asks {other:?}"),
            }
        }
    }

    /// A task that is polled by hand, and what its ticket is to say.
    struct Task<'a> {
        future: Pin<Box<dyn Future<Output = Result<Ticket>> + 'a>>,
        woken: Arc<Woken>,
        /// How many records, on how many replicas.
        expected: (u64, usize),
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl<'a> Task<'a> {
        fn new(future: impl Future<Output = Result<Ticket>> + 'a, expected: (u64, usize)) -> Task<'a> {
            Task { future: Box::pin(future), woken: Arc::default(), expected }
        }

        fn poll(&mut self) -> Poll<Result<Ticket>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            self.future.as_mut().poll(&mut Context::from_waker(&waker))
        }

        /// Since this was asked last.
        fn was_woken(&self) -> bool {
            self.woken.0.swap(false, Ordering::Relaxed)
        }
    }

    #[test]
    fn a_task_waits_for_room_without_its_thread_and_gets_the_copies_that_it_asked_for() {
        let desk = Desk::default();
        let client = desk.client();
        let large = vec![7; 1 << 10];
        let larges = [&large, &large];
        let (all, four) = (Copies::All, Copies::AtLeast(4));
        let mut before = (client.append(FILLS).unwrap(), (1, 2));
        assert_eq!(client.try_append(FILLS).unwrap_err(), ClientError::Full);
        let mut tasks = VecDeque::from([
            Task::new(client.append_async(FILLS), (1, 2)),
            Task::new(client.append_with_async(FILLS, all), (1, 3)),
            Task::new(client.append_with_async(&large, four), (1, 4)),
            Task::new(client.append_batch_async(&[FILLS, FILLS]), (2, 2)),
            Task::new(client.append_batch_with_async(&[FILLS, FILLS, FILLS], four), (3, 4)),
            Task::new(client.append_batch_with_async(&larges, all), (2, 3)),
        ]);
        loop {
            // All of them: who was woken for room that another one has taken waits again.
            for task in &mut tasks {
                assert!(task.poll().is_pending(), "there is no room");
                assert!(!task.was_woken());
            }
            let (ticket, (records, holders)) = before;
            assert!(!ticket.is_settled(), "its place is not its receipt");
            desk.answer();
            let receipt = ticket.wait().unwrap();
            assert_eq!((receipt.range().unwrap().records(), receipt.holders().len()), (records, holders));
            assert!(tasks.iter().all(Task::was_woken), "all are told that there is room");
            let Some(mut next) = tasks.pop_front() else { break };
            let Poll::Ready(Ok(ticket)) = next.poll() else { panic!("there is room") };
            before = (ticket, next.expected);
        }
    }

    #[test]
    fn a_client_may_never_suspect_anybody() {
        let desk = Desk::default();
        let options = ClientOptions::new(["primary:1"]).suspect_after(Duration::MAX).deadline(Duration::MAX);
        let client = options.connect_over(Arc::new(desk.clone())).unwrap();
        let ticket = client.append(FILLS).unwrap();
        desk.answer();
        assert_eq!(ticket.wait().unwrap().lsn(), Lsn::FIRST);
    }

    /// Answers that came together were lost with the first waker that panicked, and whoever waited for them waited for ever.
    #[test]
    fn a_waker_that_panics_keeps_no_answer_from_anybody_else() {
        let desk = Desk::default();
        let options = ClientOptions::new(["primary:1"]).depth_eager(2).deadline(LONG);
        let client = options.connect_over(Arc::new(desk.clone())).unwrap();
        let [mut first, second] = [FILLS, FILLS].map(|record| client.append(record).unwrap());
        let waker = crate::sync::wakes::panicking();
        assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
        let ([one, next], mut replies) = ([desk.next_answer(), desk.next_answer()], vec![]);
        let ear = Arc::clone(&one.0.ear);
        for (asked, reply) in [one, next] {
            replies.push((asked.number, reply, Bytes::new()));
        }
        ear.replies(&mut replies);
        assert_eq!(second.wait_timeout(LONG).unwrap().map(|receipt| receipt.lsn()), Some(Lsn::new(2)));
        assert_eq!(first.wait().unwrap().lsn(), Lsn::FIRST);
    }

    #[test]
    fn a_task_that_waits_for_room_is_told_of_the_end() {
        let desk = Desk::default();
        let client = desk.client();
        let _before = client.append(FILLS).unwrap();
        let empty: [&[u8]; 0] = [];
        let nothing = Task::new(client.append_batch_async(&empty), (0, 0)).poll();
        assert!(
            matches!(nothing, Poll::Ready(Err(ClientError::EmptyBatch))),
            "not even a full window matters"
        );
        let mut waits = Task::new(client.append_with_async(FILLS, Copies::All), (1, 3));
        assert!(waits.poll().is_pending());
        client.handle.shared.with(|machine, _| machine.close());
        assert!(waits.was_woken());
        assert!(matches!(waits.poll(), Poll::Ready(Err(ClientError::Closed))));
    }
}
