//! How messages lie in a stream, one after another.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | size of the head: an envelope, a request or a reply |
//! | 4 | 4 | size of the payload: the bytes that travel beside it |
//! | 8 | 8 | the number that a reply shares with its request; 0 between replicas |
//! | 16 | | the head, then the payload |
//!
//! All numbers are little-endian. There is no checksum: TLS has one. A stream begins with a [`Greeting`].

use std::mem;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::TransportError;
use crate::protocol::wire::BadMessage;

/// Bytes before the head.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of a greeting, before its text.
const GREETING_BYTES: usize = 16;
/// Bytes of a greeting's text, at most.
const TEXT_BYTES_MAX: usize = 256;
/// Room for so much is made at once; for more, as it comes: whoever announces much has to send it.
const ROOM_BYTES: usize = 4 << 20;

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
}

/// How large a frame's parts may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    pub(crate) head_bytes_max: u32,
    pub(crate) payload_bytes_max: u32,
}

/// What is said first in each direction of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Greeting {
    /// Between replicas the lane; from a replica to a client what the client may do.
    pub(crate) kind: u8,
    /// Who says it, if it is a replica.
    pub(crate) id: u64,
    /// On a control lane, where the replica is found.
    pub(crate) text: String,
}

impl Greeting {
    /// Its bytes: the kind, 3 of zeros, the text's size in 4, the id in 8, the text.
    pub(crate) fn encode(&self) -> Bytes {
        let mut text = self.text.as_str();
        if text.len() > TEXT_BYTES_MAX {
            text = "";
        }
        let mut out = BytesMut::with_capacity(GREETING_BYTES + text.len());
        out.put_u32_le(u32::from(self.kind));
        out.put_u32_le(u32::try_from(text.len()).expect("bounded above"));
        out.put_u64_le(self.id);
        out.put_slice(text.as_bytes());
        out.freeze()
    }
}

/// Puts a stream's chunks together: first a greeting, then frames.
#[derive(Debug)]
pub(crate) struct Assembler {
    limits: FrameLimits,
    greeting: Option<Greeting>,
    stage: Stage,
    part: Part,
    /// Of the frame whose payload comes next.
    head: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Greeting,
    GreetingText { kind: u8, id: u64 },
    Header,
    Head { number: u64, payload_bytes: usize },
    Payload { number: u64 },
}

impl Assembler {
    pub(crate) fn new(limits: FrameLimits) -> Assembler {
        let (stage, part) = (Stage::Greeting, Part::new(GREETING_BYTES));
        Assembler { limits, greeting: None, stage, part, head: Bytes::new() }
    }

    /// The greeting, once it has come.
    pub(crate) const fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// Takes a chunk, and appends the frames that are whole now.
    pub(crate) fn push(&mut self, mut chunk: Bytes, frames: &mut Vec<Frame>) -> Result<(), TransportError> {
        while let Some(part) = self.part.fill(&mut chunk) {
            match self.stage {
                Stage::Greeting => self.begin_greeting(&part)?,
                Stage::GreetingText { kind, id } => {
                    let text = String::from_utf8(part.to_vec()).map_err(|_| malformed())?;
                    self.greeting = Some(Greeting { kind, id, text });
                    self.await_part(Stage::Header, HEADER_BYTES);
                }
                Stage::Header => self.begin_frame(&part)?,
                Stage::Head { number, payload_bytes } => {
                    self.head = part;
                    self.await_part(Stage::Payload { number }, payload_bytes);
                }
                Stage::Payload { number } => {
                    frames.push(Frame { number, head: mem::take(&mut self.head), payload: part });
                    self.await_part(Stage::Header, HEADER_BYTES);
                }
            }
        }
        Ok(())
    }

    fn begin_greeting(&mut self, mut bytes: &[u8]) -> Result<(), TransportError> {
        let (kind, text_bytes, id) = (bytes.get_u32_le(), bytes.get_u32_le() as usize, bytes.get_u64_le());
        let kind = u8::try_from(kind).map_err(|_| malformed())?;
        if text_bytes > TEXT_BYTES_MAX {
            return Err(malformed());
        }
        self.await_part(Stage::GreetingText { kind, id }, text_bytes);
        Ok(())
    }

    fn begin_frame(&mut self, mut bytes: &[u8]) -> Result<(), TransportError> {
        let (head, payload, number) = (bytes.get_u32_le(), bytes.get_u32_le(), bytes.get_u64_le());
        let FrameLimits { head_bytes_max, payload_bytes_max } = self.limits;
        for (given, max) in [(head, head_bytes_max), (payload, payload_bytes_max)] {
            if given > max {
                return Err(TransportError::TooLarge { bytes: given.into(), max: max.into() });
            }
        }
        self.await_part(Stage::Head { number, payload_bytes: payload as usize }, head as usize);
        Ok(())
    }

    fn await_part(&mut self, stage: Stage, bytes: usize) {
        self.stage = stage;
        self.part = Part::new(bytes);
    }
}

fn malformed() -> TransportError {
    TransportError::BadMessage(BadMessage::Malformed)
}

/// The part that is being put together.
#[derive(Debug)]
struct Part {
    bytes: usize,
    gathered: BytesMut,
}

impl Part {
    fn new(bytes: usize) -> Part {
        Part { bytes, gathered: BytesMut::new() }
    }

    /// Takes what it lacks from the chunk: without a copy, if the whole of it is there. `None` if more must come.
    fn fill(&mut self, chunk: &mut Bytes) -> Option<Bytes> {
        if self.gathered.is_empty() && chunk.len() >= self.bytes {
            return Some(chunk.split_to(self.bytes));
        }
        if chunk.is_empty() {
            return None;
        }
        let lacking = self.bytes - self.gathered.len();
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(self.bytes.min(ROOM_BYTES));
        }
        let taken = chunk.split_to(lacking.min(chunk.len()));
        self.gathered.extend_from_slice(&taken);
        (self.gathered.len() == self.bytes).then(|| mem::take(&mut self.gathered).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { head_bytes_max: 100, payload_bytes_max: 1000 };

    fn stream(frames: &[(u64, usize, usize)]) -> Vec<u8> {
        let mut bytes = Greeting { kind: 1, id: 7, text: "here:1".to_owned() }.encode().to_vec();
        for (number, head, payload) in frames {
            bytes.put_u32_le(u32::try_from(*head).unwrap());
            bytes.put_u32_le(u32::try_from(*payload).unwrap());
            bytes.put_u64_le(*number);
            bytes.extend(std::iter::repeat_n(0xaa, *head));
            bytes.extend(std::iter::repeat_n(0xbb, *payload));
        }
        bytes
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let wanted = [(1, 10, 0), (2, 100, 1000), (3, 0, 5), (4, 1, 1)];
        let bytes = stream(&wanted);
        for cut in 1..bytes.len() {
            let mut assembler = Assembler::new(LIMITS);
            let mut frames = Vec::new();
            for chunk in bytes.chunks(cut) {
                assembler.push(Bytes::copy_from_slice(chunk), &mut frames).unwrap();
            }
            let greeting = Greeting { kind: 1, id: 7, text: "here:1".to_owned() };
            assert_eq!(assembler.greeting(), Some(&greeting));
            let found: Vec<_> = frames.iter().map(|f| (f.number, f.head.len(), f.payload.len())).collect();
            assert_eq!(found, wanted, "cut into pieces of {cut}");
            assert!(frames.iter().all(|f| f.head.iter().all(|b| *b == 0xaa)));
            assert!(frames.iter().all(|f| f.payload.iter().all(|b| *b == 0xbb)));
        }
    }

    #[test]
    fn what_is_over_a_limit_is_refused_before_there_is_room_for_it() {
        for (head, payload) in [(101, 0), (0, 1001)] {
            let bytes = stream(&[(1, head, payload)]);
            let mut assembler = Assembler::new(LIMITS);
            let refused = assembler.push(Bytes::from(bytes), &mut Vec::new());
            assert!(matches!(refused, Err(TransportError::TooLarge { .. })), "{refused:?}");
            assert_eq!(assembler.part.gathered.capacity(), 0);
        }
    }
}
