//! What the examples in the docs stand on.

use annals::client::ClientOptions;

use crate::alone::{Alone, alone};

#[test]
fn a_replica_alone_leads_and_has_a_client() {
    let Alone { replica, address, client: files, dir } = alone(|options| options).unwrap();
    let client =
        ClientOptions::new([address]).certificates(files.ca, files.cert, files.key).connect().unwrap();
    let lsn = client.append_durable(b"two lamps").unwrap().lsn();
    assert_eq!(&replica.read(lsn).unwrap().unwrap().bytes[..], b"two lamps");
    client.close().unwrap();
    replica.shutdown().unwrap();
    assert!(dir.path().join("log").join("superblock").exists());
}
