//! Garbage on the port of a replica that runs: noise, what looks like QUIC, and genuine packets that are changed, cut
//! or sent once more.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, lines};
use crate::scratch::wait_until;

/// Datagrams in all, at least.
const DATAGRAMS: u64 = 20_000;
/// Genuine packets that are kept, at most.
const KEPT_MAX: usize = 1000;
/// Memory that a replica may take more than before.
const MORE_BYTES_MAX: u64 = 64 << 20;

/// Passes on what a client and a replica say to each other, and remembers what the client says.
struct Relay {
    socket: UdpSocket,
    replica: SocketAddr,
    client: Mutex<Option<SocketAddr>>,
    packets: Mutex<Vec<Vec<u8>>>,
    is_over: AtomicBool,
}

impl Relay {
    fn to(replica: SocketAddr) -> Arc<Relay> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let relay = Arc::new(Relay {
            socket,
            replica,
            client: Mutex::default(),
            packets: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let passing = Arc::clone(&relay);
        thread::spawn(move || passing.pass());
        relay
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn pass(&self) {
        let mut packet = [0; 65_536];
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok((bytes, from)) = self.socket.recv_from(&mut packet) else { continue };
            let packet = &packet[..bytes];
            if from == self.replica {
                let client = *self.client.lock().unwrap();
                client.map(|client| self.socket.send_to(packet, client));
                continue;
            }
            *self.client.lock().unwrap() = Some(from);
            let mut kept = self.packets.lock().unwrap();
            if kept.len() < KEPT_MAX {
                kept.push(packet.to_vec());
            }
            let _ = self.socket.send_to(packet, self.replica);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Numbers without a pattern (xorshift64, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// A header of the long form (RFC 9000, section 17.2) of this version, and noise.
    fn long(&mut self, version: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0xc0 | self.bytes(1)[0]];
        packet.extend(version);
        for _ in 0..2 {
            let length = self.below(22);
            packet.push(u8::try_from(length).unwrap());
            packet.extend(self.bytes(length));
        }
        let rest = 1200 + self.below(200);
        packet.extend(self.bytes(rest));
        packet
    }

    fn garbage(&mut self, genuine: &[Vec<u8>]) -> Vec<u8> {
        let kind = self.below(if genuine.is_empty() { 4 } else { 7 });
        match kind {
            0 => {
                let length = self.below(1500);
                self.bytes(length)
            }
            1 => self.long([0, 0, 0, 1]),
            2 => {
                let version = self.bytes(4).try_into().unwrap();
                self.long(version)
            }
            3 => {
                let length = 1 + self.below(100);
                let mut short = self.bytes(length);
                short[0] = short[0] & 0x3f | 0x40;
                short
            }
            _ => {
                let mut packet = genuine[self.below(genuine.len())].clone();
                match kind {
                    4 => {
                        for _ in 0..=self.below(8) {
                            let at = self.below(packet.len());
                            packet[at] ^= 1 << self.below(8);
                        }
                    }
                    5 => packet.truncate(self.below(packet.len() + 1)),
                    _ => {}
                }
                packet
            }
        }
    }
}

/// Memory of a process, where the system tells.
fn memory_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn garbage_at_the_port_of_a_replica_disturbs_nobody() {
    let cluster = Cluster::start();
    let primary = cluster.primary();
    let address = cluster.addresses()[usize::try_from(primary).unwrap() - 1].clone();
    let relay = Relay::to(address.parse().unwrap());
    // Somebody whose genuine packets can be had, and whose connection must outlive what is made of them.
    let args = format!("status -c c/client.toml --watch --endpoints {}", relay.address());
    let mut watching = cluster.scratch.start(&args);
    watching.wait_for("primary");
    let before = memory_bytes(cluster.processes[&primary]);
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in [0x9e37_79b9_7f4a_7c15, 0x1234_5678_9abc_def1] {
            let (relay, is_over, sent) = (&relay, &is_over, &sent);
            scope.spawn(move || {
                let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                let mut chance = Chance(seed);
                while !is_over.load(Ordering::Relaxed) {
                    let genuine = relay.packets.lock().unwrap().clone();
                    for _ in 0..100 {
                        let garbage = chance.garbage(&genuine);
                        // From where the genuine ones come, and from somewhere else.
                        let socket = if chance.below(2) == 0 { &relay.socket } else { &stranger };
                        let _ = socket.send_to(&garbage, relay.replica);
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 0..5 {
            cluster.append(&lines(&format!("round {round}"), 50));
        }
        wait_until("enough was sent", || sent.load(Ordering::Relaxed) >= DATAGRAMS);
        is_over.store(true, Ordering::Relaxed);
    });
    cluster.wait_until_well();
    let all: Vec<String> = (0..5).flat_map(|round| lines(&format!("round {round}"), 50)).collect();
    assert_eq!(cluster.records(), all);
    // It still looks, over the connection that it had.
    watching.said.clear();
    watching.wait_for("primary");
    let after = memory_bytes(cluster.processes[&primary]);
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + MORE_BYTES_MAX, "memory went from {before} to {after} bytes");
    }
}
