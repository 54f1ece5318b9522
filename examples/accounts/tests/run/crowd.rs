//! A few hosts that have all connections of a node. On Linux only: there all of 127.0.0.0/8 are addresses of this machine.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use accounts::cast::Cast;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Anything that takes longer waits for a connection's own end.
const SOON: Duration = Duration::from_secs(5);

/// Each of eight hosts has as many connections as one may have; together they have all. There is a place for a ninth all the
/// same.
pub(crate) async fn a_ninth_host_has_a_place(cast: &Cast) {
    let mut greedy = vec![];
    for _ in 0..64 {
        for host in 2..10 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
            let mut stream = socket.connect(cast.http(3)).await.unwrap();
            // Half of a request: for its end a node waits for ten seconds.
            stream.write_all(b"GET /cluster HTTP/1.1\r\n").await.unwrap();
            greedy.push(stream);
        }
    }
    let asked = timeout(SOON, cast.get(3, "/cluster")).await;
    assert_eq!(asked.expect("it waits for the others").unwrap().status, 200);
    let mut oldest = JoinSet::new();
    for mut stream in greedy.drain(..8) {
        // Ended or reset: both are an end.
        oldest.spawn(async move { drop(stream.read(&mut [0]).await) });
    }
    let ended = timeout(SOON, oldest.join_next()).await;
    ended.expect("the oldest one of some host has made room").unwrap().unwrap();
    let is_open = |stream: &TcpStream| matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    assert!(oldest.try_join_next().is_none() && greedy.iter().all(is_open), "and no other");
}
