//! What the records of the simulated log are: every one can be told from every other.

use std::rc::Rc;

use annals::format::{self, FrameKind};
use annals::protocol::{Content, Group, Span, wire};
use annals::{Epoch, Lsn, LsnRange, ProducerId};
use bytes::Bytes;

/// The number that a client gives a record; its bytes follow from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Payload(pub(crate) u64);

impl Payload {
    /// The payload whose bytes these are.
    fn of(bytes: &[u8]) -> Option<Payload> {
        let payload = Payload(u64::from_le_bytes(*bytes.first_chunk()?));
        (payload.bytes() == bytes).then_some(payload)
    }

    /// The bytes: the number, then as many more as it says itself.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let fill = (mix(self.0, 7) % 90) as usize;
        let mut bytes = self.0.to_le_bytes().to_vec();
        bytes.resize(8 + fill, self.0 as u8);
        bytes
    }
}

/// One frame: records of one client that live or die together, or the protocol's own record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) epoch: Epoch,
    pub(crate) first: Lsn,
    pub(crate) body: Body,
    /// Its size in the log.
    pub(crate) bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    Records { payloads: Vec<Payload>, producer: Option<(ProducerId, u64)> },
    Control(Content),
}

/// Frames that travel together.
pub(crate) type Frames = Vec<Rc<Frame>>;

impl Frame {
    pub(crate) fn records(&self) -> u64 {
        match &self.body {
            Body::Records { payloads, .. } => payloads.len() as u64,
            Body::Control(_) => 1,
        }
    }

    pub(crate) fn range(&self) -> LsnRange {
        LsnRange { first: self.first, last: Lsn::new(self.first.get() + self.records() - 1) }
    }

    /// What tells the record at this place in the frame from every other record, but for its LSN.
    pub(crate) fn print(&self, place: usize) -> u64 {
        let what = match &self.body {
            Body::Records { payloads, producer } => {
                let (id, sequence) = producer.map_or((0, 0), |(id, sequence)| (id.get(), sequence));
                mix(mix(payloads[place].0, payloads.len() as u64), mix(id, sequence))
            }
            Body::Control(content) => text(&format!("{content:?}")),
        };
        mix(what, self.epoch.get())
    }

    fn span(&self) -> Option<Span> {
        let Body::Records { payloads, producer: Some((producer, sequence)) } = &self.body else {
            return None;
        };
        let records = payloads.len() as u32;
        Some(Span { producer: *producer, sequence: *sequence, lsn: self.first, records })
    }

    /// What the core has to know of it.
    pub(crate) fn content(&self) -> Content {
        match &self.body {
            Body::Control(content) => content.clone(),
            Body::Records { .. } => Content::Records(self.span().into_iter().collect()),
        }
    }
}

/// The group that these frames are: dense, of one epoch, a control record alone.
pub(crate) fn group_of(frames: &[Rc<Frame>]) -> Group {
    let first = &frames[0];
    let content = match &first.body {
        Body::Control(content) => content.clone(),
        Body::Records { .. } => Content::Records(frames.iter().filter_map(|frame| frame.span()).collect()),
    };
    let last = frames[frames.len() - 1].range().last;
    let bytes = frames.iter().map(|frame| frame.bytes).sum();
    Group { epoch: first.epoch, range: LsnRange { first: first.first, last }, bytes, content }
}

/// The bytes of a frame as they are stored and sent.
pub(crate) fn encode(frame: &Rc<Frame>) -> Vec<u8> {
    let payloads: Vec<Vec<u8>> = match &frame.body {
        Body::Records { payloads, .. } => payloads.iter().map(|payload| payload.bytes()).collect(),
        Body::Control(_) => vec![],
    };
    annals::node::frame_group(&group_of(std::slice::from_ref(frame)), &payloads)
}

/// The bytes of frames as they are stored and sent.
pub(crate) fn encode_all(frames: &[Rc<Frame>]) -> Bytes {
    frames.iter().flat_map(encode).collect::<Vec<u8>>().into()
}

/// The frames that these bytes are; `None` if they are none of this simulation.
pub(crate) fn decode(bytes: &[u8]) -> Option<Frames> {
    let mut frames = Frames::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let stored = format::Frame::parse(rest).ok()?;
        stored.check().ok()?;
        frames.push(Rc::new(of_stored(&stored)?));
        rest = &rest[stored.stored().len()..];
    }
    Some(frames)
}

fn of_stored(stored: &format::Frame<'_>) -> Option<Frame> {
    let header = stored.header();
    let (body, bytes) = match header.kind {
        FrameKind::EpochStart => (Body::Control(Content::EpochStart), 0),
        FrameKind::Control => {
            let payload = stored.payload();
            (Body::Control(wire::decode_control(payload).ok()?), payload.len() as u64)
        }
        FrameKind::Gap => return None,
        _ => {
            let lsns = header.lsn.get()..=header.last_lsn().get();
            let payloads =
                lsns.map(|lsn| Payload::of(stored.record(Lsn::new(lsn))?)).collect::<Option<_>>()?;
            let producer = stored.origin().map(|origin| (origin.producer, origin.sequence));
            (Body::Records { payloads, producer }, header.frame_bytes())
        }
    };
    Some(Frame { epoch: header.epoch, first: header.lsn, body, bytes })
}

/// A part of the application's state, which follows from the chain over all that it covers.
pub(crate) fn application(chain: u64, offset: u64, bytes: u64) -> Vec<u8> {
    (offset..offset + bytes).map(|at| (mix(chain, at / 8) >> (at % 8 * 8)) as u8).collect()
}

/// Two numbers in one.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut mixed = a.rotate_left(23) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 29)
}

/// A text as a number.
pub(crate) fn text(text: &str) -> u64 {
    text.bytes().fold(3, |sum, byte| mix(sum, u64::from(byte)))
}
