//! A node: a replica of the log in this process, a [`Store`] that it applies its records to, and a port for readers.
//!
//! Who changes something is a client of the log, by QUIC with certificates; see [`crate::client`]. Who reads asks a
//! node by HTTP on the TCP port of the same number: HTTP because a large answer is streamed and a part of it can be asked
//! for, because every system has a client for it (`curl` works), and because axum and ureq have solved what is not this
//! example's subject. It is in clear and without users, so it listens on this machine only, unless it is told that
//! something in front of it takes care.

mod join;
mod port;
mod reads;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};

use annals::ReplicaId;
use annals::node::{Replica, ReplicaOptions};
use clap::Args;

use crate::error::{Error, Result};
use crate::home::{self, Home};
use crate::lifeline;
use crate::store::{Machine, Store};

/// What a node is told.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", env = "FILES_HOME")]
    pub home: PathBuf,
    /// Which node of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..100))]
    pub id: u64,
    /// A new node: it is made, taken in, and votes once it has caught up
    #[arg(long)]
    pub join: bool,
    /// A snapshot after so many bytes of records
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub snapshot_every_bytes: u64,
    /// The log is trimmed after each snapshot, but for so many records before it
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub keep_records: u64,
    /// Bytes of a file of the log; it is trimmed by whole files
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub segment_bytes: u64,
    /// Let readers of other machines in, although the port has no users and is in clear
    #[arg(long)]
    pub reads_in_clear: bool,
    /// End when standard input does
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

/// What the main thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    /// The process is to end.
    End,
    /// There is room on the disk again, and the store has to be opened anew.
    Reopen,
}

/// Runs a node until it is asked to end.
///
/// # Errors
/// If it cannot start, or not end cleanly.
pub fn run(args: &NodeArgs) -> Result<()> {
    end_with_any_thread();
    let mut home = Home::open(&args.home)?;
    if args.join {
        home.add(args.id)?;
    }
    let address = home.address(args.id)?;
    if !address.ip().is_loopback() && !args.reads_in_clear {
        return Err(Error::Usage(format!(
            "{address} can be reached by other machines, and the port for readers has no users and is in clear: put \
             something in front of it that takes care, and give --reads-in-clear"
        )));
    }
    let place = address.to_string();
    let listener =
        TcpListener::bind(address).map_err(Error::file("listen for readers at", Path::new(&place)))?;
    let (tell, told) = mpsc::channel();
    listen_for_the_end(args.until_stdin_ends, &tell)?;
    loop {
        let serving = Serving::start(args, &home, &listener, &tell)?;
        println!("{} runs at {address}", home::name(args.id));
        let word = told.recv();
        let ended = serving.end();
        match word {
            Ok(Word::Reopen) => {
                // The disk was full, perhaps for the log, too: what was not closed cleanly is recovered now.
                if let Err(error) = ended {
                    eprintln!("{}: the log is opened again: {error}", home::name(args.id));
                }
                eprintln!("there is room again: the store goes on from its checkpoint");
            }
            // Whoever could tell is gone only together with the process.
            Ok(Word::End) | Err(_) => return ended,
        }
    }
}

/// What a node consists of while it runs.
#[derive(Debug)]
struct Serving {
    replica: Replica,
    port: port::Port,
}

impl Serving {
    fn start(args: &NodeArgs, home: &Home, listener: &TcpListener, tell: &Sender<Word>) -> Result<Serving> {
        let path = home.node_dir(args.id);
        let (store, reason) = Store::open(&path.join("store"), home.cluster())
            .map_err(Error::file("open the store in", &path))?;
        if let Some(reason) = reason {
            eprintln!("{}: the store is made anew from the log: {reason}", home::name(args.id));
        }
        let shared = store.shared();
        let tell = tell.clone();
        let machine = Machine::new(store).told_to_reopen(move || {
            // Refused once the node is ending already.
            let _ = tell.send(Word::Reopen);
        });
        let replica = replica(args, home, machine)?;
        let reads = reads::Reads::new(replica.clone(), shared);
        let port = listener.try_clone().and_then(|listener| port::Port::open(listener, reads));
        let port = port.map_err(Error::file("listen for readers in", &path))?;
        if args.join {
            join::spawn(home, args.id, replica.clone())?;
        }
        Ok(Serving { replica, port })
    }

    /// Waits until nothing of it is left: neither the machine nor its store.
    fn end(self) -> Result<()> {
        drop(self.port);
        Ok(self.replica.shutdown()?)
    }
}

fn replica(args: &NodeArgs, home: &Home, machine: Machine) -> Result<Replica> {
    let id = ReplicaId::new(args.id);
    let files = home.node_files(args.id);
    let others = home.nodes().filter(|(node, _)| *node != args.id);
    let others: Vec<_> = others.map(|(node, at)| (ReplicaId::new(node), at.to_string())).collect();
    let options = ReplicaOptions::new(id, home.node_dir(args.id).join("replica"))
        .cluster(home.cluster())
        .listen(home.address(args.id)?)
        .peers(others)
        .certificates(&files.ca, &files.cert, &files.key)
        .segment_bytes(args.segment_bytes)
        .snapshot_every_bytes(args.snapshot_every_bytes)
        .keep_records(args.keep_records)
        .state_machine(machine);
    if args.join && options.is_blank()? {
        options.join()?;
    }
    Ok(options.start()?)
}

/// Makes the directories of the nodes that a cluster begins with.
///
/// # Errors
/// If they are there already, or cannot be made.
pub fn bootstrap(home: &Home) -> Result<()> {
    let voters: Vec<(ReplicaId, u8)> = home.nodes().map(|(node, _)| (ReplicaId::new(node), 0)).collect();
    for (node, _) in home.nodes() {
        let options = ReplicaOptions::new(ReplicaId::new(node), home.node_dir(node).join("replica"));
        options.cluster(home.cluster()).bootstrap(voters.iter().copied())?;
    }
    Ok(())
}

/// Tells when the process is to end.
fn listen_for_the_end(until_stdin_ends: bool, tell: &Sender<Word>) -> Result<()> {
    let tell = tell.clone();
    let stop = move || {
        // Refused once the node is ending already.
        let _ = tell.send(Word::End);
    };
    if until_stdin_ends {
        lifeline::on_end_of_input(stop.clone())?;
    }
    lifeline::on_signal(stop)
}

/// A panic in any thread ends the process: a node without one of its threads would only be in the way of the others.
fn end_with_any_thread() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}
