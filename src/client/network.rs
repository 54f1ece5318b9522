//! Between the client and its connections.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::error::{ClientError, Result};
use super::machine::LinkId;
use super::shared::Shared;
use crate::protocol::request::{ClientRole, Reply, Request};
use crate::transport::{ClientLink, Credentials, LinkEvents, LinkOptions, TlsFiles, TransportError};
use crate::types::ReplicaId;

/// What a client connects over.
pub(super) trait Network: Send + Sync + fmt::Debug {
    /// Begins to connect, without waiting; what comes of it is told to the ear.
    fn dial(&self, address: &str, ear: Ear) -> Option<Box<dyn Line>>;

    /// Reads the certificates again, for connections to come. May wait for a disk.
    fn reload(&self) -> Result<()> {
        Ok(())
    }
}

/// A connection, or one that is being made. Dropping it closes it.
pub(super) trait Line: Send + fmt::Debug {
    /// Sends a request; never waits. What cannot be sent is lost, and the ear is told that the line is closed.
    fn send(&self, number: u64, request: &Request, payload: Bytes);
}

/// Who is told what comes over a line.
#[derive(Debug)]
pub(super) struct Ear {
    shared: Weak<Shared>,
    link: LinkId,
}

impl Ear {
    pub(super) fn new(shared: Weak<Shared>, link: LinkId) -> Ear {
        Ear { shared, link }
    }

    pub(super) fn opened(&self, id: Option<ReplicaId>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.with(|machine, now| machine.connected(now, self.link, id));
        }
    }

    /// All that have come together: whoever waits is woken for all of them.
    pub(super) fn replies(&self, replies: &mut Vec<(u64, Reply, Bytes)>) {
        let Some(shared) = self.shared.upgrade() else { return replies.clear() };
        shared.with(|machine, now| {
            for (number, reply, payload) in replies.drain(..) {
                machine.reply(now, self.link, number, reply, payload);
            }
            machine.drive(now);
        });
    }

    pub(super) fn closed(&self, reason: &str) {
        if let Some(shared) = self.shared.upgrade() {
            let reason = reason.into();
            shared.with(|machine, now| machine.closed(now, self.link, &reason));
        }
    }
}

/// Connections over QUIC.
#[derive(Debug)]
pub(super) struct Quic {
    /// Held while they are read again: of two who do so at a time the later one has the last word.
    files: Mutex<TlsFiles>,
    /// Never held while something is read.
    credentials: RwLock<Credentials>,
}

impl Quic {
    pub(super) fn load(tls: &TlsFiles) -> Result<Quic> {
        let credentials = Loaded::load(tls).map_err(failed)?;
        Ok(Quic { files: Mutex::new(tls.clone()), credentials: RwLock::new(credentials) })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: TransportError) -> ClientError {
    ClientError::Network { reason: error.to_string().into() }
}

/// Credentials, and the bytes of the files that they were made of.
struct Loaded {
    files: TlsFiles,
    bytes: [Vec<u8>; 3],
    credentials: Credentials,
}

/// All that were loaded by this process, the newest of each three files.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

impl Loaded {
    /// The same credentials as before if the files have not changed: links that have the same share connections, and a
    /// datagram costs more than what is in it.
    fn load(files: &TlsFiles) -> std::result::Result<Credentials, TransportError> {
        // An error is told by whoever reads them for good.
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        let bytes = [read(&files.ca), read(&files.cert), read(&files.key)];
        let mut all = LOADED.lock();
        if let Some(loaded) = all.iter().find(|loaded| loaded.files == *files && loaded.bytes == bytes) {
            return Ok(loaded.credentials.clone());
        }
        let credentials = Credentials::load(files)?;
        all.retain(|loaded| loaded.files != *files);
        all.push(Loaded { files: files.clone(), bytes, credentials: credentials.clone() });
        Ok(credentials)
    }
}

impl Network for Quic {
    fn dial(&self, address: &str, ear: Ear) -> Option<Box<dyn Line>> {
        let credentials = self.credentials.read().clone();
        let link = ClientLink::open(&credentials, address, LinkOptions::default(), Arc::new(ear));
        link.ok().map(|link| Box::new(link) as Box<dyn Line>)
    }

    fn reload(&self) -> Result<()> {
        let files = self.files.lock();
        let credentials = Loaded::load(&files).map_err(failed)?;
        // The appends of a producer are numbered for one cluster.
        let (expected, found) = (self.credentials.read().cluster(), credentials.cluster());
        if expected != found {
            let (expected, found) = (format!("cluster {expected}"), credentials.identity().to_string());
            return Err(failed(TransportError::WrongIdentity { expected, found }));
        }
        *self.credentials.write() = credentials;
        Ok(())
    }
}

impl Line for ClientLink {
    fn send(&self, number: u64, request: &Request, payload: Bytes) {
        // An error says that the link is closed, and so will the ear be told.
        let _ = ClientLink::send(self, number, request, std::slice::from_ref(&payload));
    }
}

impl LinkEvents for Ear {
    fn opened(&self, id: ReplicaId, _role: ClientRole) {
        Ear::opened(self, Some(id));
    }

    fn replies(&self, replies: &mut Vec<(u64, Reply, Bytes)>) {
        Ear::replies(self, replies);
    }

    fn closed(&self, error: TransportError) {
        Ear::closed(self, &error.to_string());
    }
}
