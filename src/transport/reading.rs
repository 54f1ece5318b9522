//! The tasks that read what peers and clients send, and leave it for the next turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use quinn::{ReadError, RecvStream};

use super::close::CloseCode;
use super::error::{CertificateFault, TransportError, Whose};
use super::frame::{Assembler, Frame, FrameLimits};
use super::inbox::{Event, Inbox, Line};
use super::refusals::Reason;
use super::{Arrival, Lane, SessionId};
use crate::protocol::request::{self, ClientRole, Refused, Reply};
use crate::protocol::wire::{self, BadMessage};
use crate::types::{ClusterId, ReplicaId};

/// Chunks that are taken from a stream with one call.
const CHUNKS: usize = 32;
/// The head of an offer bears all that is known of the producers; see `protocol::wire::PRODUCERS_MAX`.
const PEER_HEAD_BYTES_MAX: u32 = 256 << 20;
/// The head of a request: the sizes of its records, at most.
const REQUEST_HEAD_BYTES_MAX: u32 = 1 << 20;

/// What the readers of peers know.
pub(crate) struct PeerReader {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) cluster: ClusterId,
    pub(crate) me: ReplicaId,
    pub(crate) group_bytes_max: u32,
}

/// Takes the streams of a connection to a replica until it ends.
pub(crate) async fn read_peer(reader: Arc<PeerReader>, line: Arc<Line>) {
    let why = loop {
        match line.connection.accept_uni().await {
            Ok(stream) => {
                let (reader, line) = (Arc::clone(&reader), Arc::clone(&line));
                tokio::spawn(async move { reader.read_stream(&line, stream).await });
            }
            Err(why) => break why,
        }
    };
    let address = line.connection.remote_address().to_string();
    let error = match super::tls::explain(&why, &address, super::tls::Speech::Peer) {
        TransportError::Unreachable { .. } => TransportError::Lost,
        other => other,
    };
    reader.inbox.happen(Event::PeerDown { line, error }, None);
}

impl PeerReader {
    /// One lane's stream, until it ends or breaks a rule; then the connection ends too.
    async fn read_stream(&self, line: &Line, mut stream: RecvStream) {
        let limits =
            FrameLimits { head_bytes_max: PEER_HEAD_BYTES_MAX, payload_bytes_max: self.group_bytes_max };
        let index = stream.id().index();
        let mut input = Input::new(limits);
        let mut lane = None;
        let mut arrivals = Vec::new();
        loop {
            match input.read(&mut stream).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.cut_off(line, &error),
            }
            line.heard.fetch_add(1, Ordering::Relaxed);
            if lane.is_none() {
                match self.greet(line, &input) {
                    Ok(Some(found)) => {
                        line.newest[found as usize].fetch_max(index, Ordering::Relaxed);
                        lane = Some(found);
                    }
                    Ok(None) => continue,
                    Err(error) => return self.cut_off(line, &error),
                }
            }
            let newest = lane.map_or(index, |lane| line.newest[lane as usize].load(Ordering::Relaxed));
            if index < newest || line.is_over.load(Ordering::Relaxed) {
                return;
            }
            for frame in input.frames.drain(..) {
                match self.message(line.id, frame) {
                    Ok(arrival) => arrivals.push(arrival),
                    Err(error) => {
                        self.inbox.arrive(&mut arrivals);
                        return self.cut_off(line, &error);
                    }
                }
            }
            self.inbox.arrive(&mut arrivals);
        }
    }

    /// Which lane it is, once the stream's greeting has come.
    fn greet(&self, line: &Line, input: &Input) -> Result<Option<Lane>, TransportError> {
        let Some(greeting) = input.assembler.greeting() else { return Ok(None) };
        let lane = match greeting.kind {
            0 => Lane::Control,
            1 => Lane::Bulk,
            2 => Lane::CatchUp,
            _ => return Err(TransportError::BadMessage(BadMessage::Malformed)),
        };
        if lane == Lane::Control && !greeting.text.is_empty() {
            let found = Event::Found { id: line.id, address: greeting.text.clone() };
            self.inbox.happen(found, None);
        }
        Ok(Some(lane))
    }

    fn message(&self, id: ReplicaId, frame: Frame) -> Result<Arrival, TransportError> {
        let envelope = wire::decode(&frame.head).map_err(TransportError::BadMessage)?;
        // Who sends it is in the certificate; what the envelope says beside that is a mistake or a lie.
        if envelope.from.id != id || envelope.cluster != self.cluster || envelope.to.id != self.me {
            let fault = CertificateFault::WrongName;
            return Err(TransportError::Certificate { whose: Whose::Theirs, fault });
        }
        Ok(Arrival::Message { envelope, payload: frame.payload })
    }

    fn cut_off(&self, line: &Line, error: &TransportError) {
        if let Some(code) = CloseCode::of(error) {
            self.inbox.refusals.add(Reason::of(error));
            line.connection.close(code.number(), error.to_string().as_bytes());
        }
    }
}

/// Reads a client's requests until it has no more, or breaks a rule.
pub(crate) async fn read_session(
    inbox: &Inbox,
    stream: &mut RecvStream,
    session: SessionId,
    role: ClientRole,
    request_bytes_max: u32,
) -> TransportError {
    let limits = FrameLimits { head_bytes_max: REQUEST_HEAD_BYTES_MAX, payload_bytes_max: request_bytes_max };
    let mut input = Input::new(limits);
    let mut arrivals = Vec::new();
    loop {
        match input.read(stream).await {
            Ok(true) => {}
            Ok(false) => return TransportError::Closed,
            Err(error) => return error,
        }
        for frame in input.frames.drain(..) {
            match request::decode_request(&frame.head) {
                Ok(request) if request.needs() > role => inbox
                    .happen(Event::Denied { session, number: frame.number, needs: request.needs() }, None),
                Ok(request) => {
                    let Frame { number, payload, .. } = frame;
                    arrivals.push(Arrival::Asked { session, number, request, payload });
                }
                Err(why) => return TransportError::BadMessage(why),
            }
        }
        inbox.arrive(&mut arrivals);
    }
}

/// What a client that may not do something is told.
pub(crate) const fn denied(needs: ClientRole) -> Reply {
    Reply::Refused(Refused::Denied { needs })
}

/// A stream's chunks, and the frames that they make.
pub(crate) struct Input {
    chunks: [Bytes; CHUNKS],
    pub(crate) assembler: Assembler,
    pub(crate) frames: Vec<Frame>,
}

impl Input {
    pub(crate) fn new(limits: FrameLimits) -> Input {
        Input {
            chunks: [const { Bytes::new() }; CHUNKS],
            assembler: Assembler::new(limits),
            frames: Vec::new(),
        }
    }

    /// Waits for more, and takes what is there. `false` when nothing will come any more.
    pub(crate) async fn read(&mut self, stream: &mut RecvStream) -> Result<bool, TransportError> {
        let read = match stream.read_chunks(&mut self.chunks).await {
            Ok(Some(read)) => read,
            // The end of the connection is told by the connection.
            Ok(None) | Err(ReadError::ConnectionLost(_)) => return Ok(false),
            Err(ReadError::Reset(code)) => return Err(CloseCode::explain(code.into())),
            Err(why) => return Err(TransportError::Other { reason: why.to_string() }),
        };
        for chunk in &mut self.chunks[..read] {
            self.assembler.push(std::mem::take(chunk), &mut self.frames)?;
        }
        Ok(true)
    }
}
