//! How the parts of a replica are put together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::Mutex;

use super::actor::{Node, Upkeep, Ways};
use super::apply::{Applied, Applier};
use super::disk::{self, Pulse};
use super::driver::Driver;
use super::error::{ReplicaError, Result};
use super::feed;
use super::identity::{self, Peers};
use super::life::{Body, Life};
use super::mail::Mail;
use super::options::ReplicaOptions;
use super::place::Place;
use super::readers::Readers;
use super::replica::Replica;
use super::scribble::Scribbler;
use super::scrub;
use super::shown::Shown;
use crate::disk::Disk;
use crate::protocol::Time;

/// Recovers the replica from its disk, and starts its threads.
pub(crate) fn start(
    mut options: ReplicaOptions,
    disk: Arc<dyn Disk>,
    place: Box<dyn Place>,
) -> Result<Replica> {
    let id = options.id;
    let (me, known) = identity::check(&*disk, options.known_cluster()?, id)?;
    let config = options.config(me, disk.entropy())?;
    let peers = with_options(&known, &options);
    let is_simulated = disk.simulated();
    if is_simulated {
        // The logs of tests are short, and are opened as long ones are.
        options.store.newest_bytes = options.store.segment_bytes;
    }
    let (store, state) = disk::open(&disk, options.store, !peers.addresses.is_empty())?;
    let store = store.ok_or(ReplicaError::Blank { id })?;
    if peers != known {
        peers.store(&*disk)?;
    }
    let listens = place.local_addr().map(|address| address.to_string());
    let own = options.advertise.clone().or(listens);

    let (mail, notes) = Mail::new(place.bell());
    let (shown, applied, pulse) = (Shown::new(), Arc::new(Applied::default()), Pulse::new());
    shown.reopened(Some(store.reader()));
    let newest = state.base.position.lsn;
    shown.advance(newest);
    let upkeep = Upkeep::new(options.policy, options.machine.is_some(), (newest, store.bytes_after(newest)));
    let origin = Instant::now();
    let driver = Driver::recover(config.clone(), options.driver, state, Time::ZERO)?;

    let (to_disk, disk_thread) =
        disk::spawn(disk, (options.store, store), Arc::clone(&mail), Arc::clone(&pulse))?;
    let scribbler = Scribbler::new(to_disk.clone(), Arc::clone(&mail), options.policy.snapshot_bytes_per_s);
    let machine = options.machine.take();
    let watermarks = (Arc::clone(&shown), Arc::clone(&applied));
    let (to_apply, apply_thread) = Applier::new(machine, watermarks, Arc::clone(&mail), scribbler).spawn()?;
    let readers = Readers::new(Arc::clone(&shown), Arc::clone(&mail));
    let audience = readers.audience();
    let (to_readers, readers_thread) = readers.spawn()?;

    let (to_feeder, feeder_thread) = feed::spawn(Arc::clone(&shown), to_disk.clone(), Arc::clone(&mail))?;

    let ways = Ways {
        mail: Arc::clone(&mail),
        notes,
        disk: to_disk.clone(),
        pulse,
        feed: to_feeder,
        apply: to_apply,
        applied,
        readers: to_readers,
        audience,
        shown: Arc::clone(&shown),
    };
    let (transfer_max, close_max) = (config.timing.transfer_max, options.close_max);
    let node = Node::new((config, options.driver), (driver, origin), ways, upkeep, (own, peers));
    let running = place.begin(Box::new(node))?;
    let mut others = vec![apply_thread, readers_thread, feeder_thread];
    let mut goes_on = None;
    if let Some(bytes_per_s) = options.scrub_bytes_per_s {
        let (scrub, scrub_thread) =
            scrub::spawn(Arc::clone(&shown), Arc::clone(&mail), (bytes_per_s, is_simulated))?;
        others.push(scrub_thread);
        goes_on = Some(scrub);
    }
    let body = Mutex::new(Some(Body { running, others, scrub: goes_on, disk: (to_disk, disk_thread) }));
    let is_ending = AtomicBool::new(false);
    Ok(Replica::new(Arc::new(Life { me, shown, mail, transfer_max, close_max, is_ending, body })))
}

/// What is said now of where the others are goes before what was known.
fn with_options(known: &Peers, options: &ReplicaOptions) -> Peers {
    let mut addresses: BTreeMap<_, _> = known.addresses.clone();
    addresses.extend(options.peers.iter().filter(|(id, _)| *id != options.id).cloned());
    Peers { addresses, ..known.clone() }
}
