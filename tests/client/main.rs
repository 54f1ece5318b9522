//! The client against three replicas over QUIC: appends, reads, subscriptions, failover.

#![cfg(feature = "quic")]
#![allow(clippy::unwrap_used)]

mod fleet;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use annals::client::{Client, ClientError, Target};
use annals::protocol::request::{ClientRole, Copies};
use annals::{Lsn, ReplicaId};

use crate::fleet::Fleet;

/// Awaits without a runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// All records of the log, by LSN.
fn everything(client: &Client) -> BTreeMap<u64, Vec<u8>> {
    let end = client.linearizable_read().wait().unwrap();
    let (mut next, mut found) = (Lsn::FIRST, BTreeMap::new());
    while next <= end {
        let read = client.read(Target::Primary, next, 1 << 20).wait().unwrap();
        assert!(read.next > next || read.committed < end, "a read goes on");
        found.extend(read.records.into_iter().map(|record| (record.lsn.get(), record.bytes.to_vec())));
        next = read.next;
    }
    found
}

#[test]
fn what_is_appended_is_read_and_subscribed_to() {
    let fleet = Fleet::start();
    let client = fleet.client(ClientRole::Append, &[2]).connect().unwrap();
    let receipt = client.append(b"two lamps").unwrap().wait().unwrap();
    assert!(receipt.is_committed() && receipt.holders().len() >= 2, "{receipt:?}");
    let batch = client.append_batch(&[&b"three"[..], b"chairs"]).unwrap().wait().unwrap();
    assert_eq!(batch.range().unwrap().records(), 2);
    let large = vec![7; 3 << 20];
    let alone = block_on(async { client.append_async(&large).await.unwrap().await.unwrap() });
    let all = client.append_with(b"all", Copies::All).unwrap().wait().unwrap();
    assert_eq!(all.holders().len(), 3);

    let found = everything(&client);
    let lsns = [receipt.lsn(), batch.lsn(), batch.lsn().next(), alone.lsn(), all.lsn()];
    let expected: Vec<&[u8]> = vec![b"two lamps", b"three", b"chairs", &large, b"all"];
    assert!(found.values().map(Vec::as_slice).eq(expected.iter().copied()));
    assert!(found.keys().copied().eq(lsns.map(Lsn::get)));

    let mut subscription = client.subscribe_with(Target::Any, Lsn::FIRST, 64 << 10);
    for expected in expected {
        assert_eq!(subscription.next().unwrap().unwrap().bytes, expected);
    }
    assert_eq!(subscription.next_timeout(Duration::from_millis(1)), Ok(None));
    client.append(b"late").unwrap().wait().unwrap();
    assert_eq!(block_on(subscription.next_async()).unwrap().unwrap().bytes, b"late"[..]);
}

#[test]
fn many_threads_share_a_client_and_each_finds_its_record() {
    let fleet = Fleet::start();
    let client = fleet.appender();
    let (threads, each) = (16, 100);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let client = client.clone();
            scope.spawn(move || {
                let mut before = Lsn::ZERO;
                for number in 0..each {
                    let receipt =
                        client.append(format!("{thread} {number}").as_bytes()).unwrap().wait().unwrap();
                    assert!(receipt.lsn() > before, "in order");
                    before = receipt.lsn();
                }
            });
        }
    });
    assert_eq!(everything(&client).len(), threads * each);
}

#[test]
fn through_a_failover_each_append_is_taken_once_and_in_order() {
    let mut fleet = Fleet::start();
    let client = fleet.appender();
    let (is_over, given) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut lsns = vec![];
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| {
            let mut tickets = vec![];
            while !is_over.load(Ordering::Relaxed) {
                let number = given.fetch_add(1, Ordering::Relaxed);
                tickets.push(client.append(&number.to_le_bytes()).unwrap());
                if number % 8 == 0 {
                    tickets.last().unwrap().wait_timeout(Duration::from_secs(20)).unwrap().unwrap();
                }
            }
            tickets.into_iter().map(|ticket| ticket.wait().unwrap().lsn().get()).collect::<Vec<_>>()
        });
        for _ in 0..3 {
            let more = given.load(Ordering::Relaxed) + 200;
            wait_until(|| given.load(Ordering::Relaxed) > more);
            let primary = fleet.primary();
            fleet.kill(primary);
            let more = given.load(Ordering::Relaxed) + 200;
            wait_until(|| given.load(Ordering::Relaxed) > more);
            fleet.restart(primary);
        }
        is_over.store(true, Ordering::Relaxed);
        lsns = appender.join().unwrap();
    });
    let found = everything(&client);
    let numbers: Vec<u64> =
        found.values().map(|bytes| u64::from_le_bytes(bytes[..].try_into().unwrap())).collect();
    assert!(numbers.iter().copied().eq(0..given.into_inner()), "each once, and in order");
    assert!(
        lsns.iter().zip(found.keys()).all(|(told, found)| *told == 0 || told == found),
        "receipts are true"
    );
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_transfer_fails_no_append() {
    let fleet = Fleet::start();
    let admin = fleet.client(ClientRole::Admin, &[1, 2, 3]).connect().unwrap();
    let client = fleet.appender();
    for number in 0..30_u64 {
        let tickets: Vec<_> = (0..20).map(|_| client.append(b"x").unwrap()).collect();
        if number % 10 == 5 {
            let primary = fleet.primary();
            let next = ReplicaId::new(primary % 3 + 1);
            let transferred = admin.transfer(Some(next)).wait();
            assert!(matches!(
                transferred,
                Ok(()) | Err(ClientError::Unknown | ClientError::NotPossible { .. })
            ));
        }
        tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    }
    assert_eq!(everything(&client).len(), 600);
}

#[test]
fn a_role_that_does_not_suffice_is_told_so() {
    let fleet = Fleet::start();
    let reader = fleet.client(ClientRole::Read, &[1, 2, 3]).connect().unwrap();
    let denied = reader.append(b"no").unwrap().wait().unwrap_err();
    assert_eq!(denied, ClientError::Denied { needs: ClientRole::Append });
    let denied = reader.transfer(None).wait().unwrap_err();
    assert_eq!(denied, ClientError::Denied { needs: ClientRole::Admin });
    let status = reader.status(Target::Replica(ReplicaId::new(2))).wait().unwrap();
    assert_eq!(status.id, ReplicaId::new(2));
}

#[test]
fn without_a_cluster_an_append_says_that_it_was_not_done() {
    let mut fleet = Fleet::start();
    (1..=3).for_each(|id| fleet.kill(id));
    let client =
        fleet.client(ClientRole::Append, &[1, 2, 3]).deadline(Duration::from_millis(300)).connect().unwrap();
    let error = client.append(b"nobody").unwrap().wait().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}
