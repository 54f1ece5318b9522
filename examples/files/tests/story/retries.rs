//! Puts that find the store in some state, and puts whose contents cannot be read to their end.

use std::io::{self, Read};

use files::client::PutOptions;
use files::error::Error;
use files::operation::OperationId;
use files::record::CHUNK_BYTES;
use files::report::OperationReport;
use files::state::MEMORY_RECORDS;

use crate::cluster::Cluster;

/// How many records the log has.
fn records(cluster: &Cluster) -> u64 {
    cluster.stage.reports().unwrap()[0].last
}

#[test]
fn what_would_be_refused_is_not_sent() {
    let cluster = Cluster::start(1);
    let (file, _) = cluster.noise("a", 1 << 20);
    cluster.expect(0, &["put", &file, "--id", "1"]);
    let before = records(&cluster);
    cluster.expect(1, &["put", &file]);
    // Nor what was done already.
    cluster.expect(0, &["put", &file, "--id", "1"]);
    assert_eq!(records(&cluster), before);
    cluster.expect(0, &["put", &file, "--replace"]);
    assert!(records(&cluster) >= before + 5, "four chunks and the commit");
}

#[test]
fn a_retry_that_comes_after_its_outcome_is_forgotten_is_told_by_the_file() {
    let cluster = Cluster::start(1);
    let (file, digest) = cluster.noise("a", 1 << 20);
    cluster.expect(0, &["put", &file, "--id", "1"]);
    let client = cluster.client();
    let sent = (0..MEMORY_RECORDS + 200).map(|_| client.log().append(b"no record of this store").unwrap());
    for ticket in sent.collect::<Vec<_>>() {
        ticket.wait().unwrap();
    }
    assert_eq!(client.operation(OperationId::new(1)).unwrap(), OperationReport::Unheard);
    let before = records(&cluster);
    let said = cluster.expect(0, &["put", &file, "--id", "1"]).out;
    assert!(said.contains("an earlier attempt has done it") && records(&cluster) == before, "{said}");
    assert_eq!(cluster.got("a", 1), digest);
}

#[test]
fn contents_that_cannot_be_read_to_their_end_make_no_file_and_a_retry_goes_on() {
    let cluster = Cluster::start(1);
    let client = cluster.client();
    let contents = vec![7; 3 * CHUNK_BYTES];
    let put = |is_retry| PutOptions {
        id: OperationId::new(1),
        is_retry,
        name: "a".parse().unwrap(),
        replace: false,
        bytes_per_s: None,
    };
    let mut broken = contents[..2 * CHUNK_BYTES].chain(Broken);
    let error = client.put(&put(false), &mut broken).unwrap_err();
    assert!(matches!(error, Error::File { .. }) && error.to_string().contains("a bad block"), "{error}");
    assert_eq!(cluster.expect(0, &["list"]).out, "");
    cluster.stage.chunks_of(OperationId::new(1), 2).unwrap();
    let put = client.put(&put(true), &mut &contents[..]).unwrap();
    assert_eq!((put.chunks, put.chunks_before, put.was_done), (3, 2, false));
    assert_eq!(cluster.expect(0, &["list"]).out.lines().count(), 1);
}

/// Opened it can be; its first bytes are no memory of the process.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_read_is_told() {
    let cluster = Cluster::start(1);
    let said = cluster.expect(3, &["put", "/proc/self/mem", "--as", "a"]);
    assert!(said.err.contains("cannot read the contents of a") && said.out.is_empty(), "{said:?}");
    assert_eq!(cluster.expect(0, &["list"]).out, "");
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("a bad block"))
    }
}
