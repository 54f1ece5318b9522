//! Messages, control records and what a replica keeps in small files, as bytes.
//!
//! All forms begin with the same four bytes, and all numbers are little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 2 | [`VERSION`] |
//! | 2 | 1 | the form: 1 envelope, 2 control record, 3 base, 4 meta, 5 snapshot offer, 6 request, 7 reply |
//! | 3 | 1 | which message, control record, request or reply; 0 in the others |
//!
//! Then come the fields in the order in which the types declare them: flags in one byte (0 or 1), what may be absent
//! behind such a flag, lists behind their count (4 bytes), identities of clusters and disks in 16 bytes, all else in 8
//! but where the type is smaller. There is no padding and no checksum: whoever carries or keeps the bytes has one.
//!
//! What is decoded is sound in itself: LSNs exist, ranges run forward, spans lie in their group, quorums intersect.
//! How the parts of a message stand to each other and to what is known is for the [`Replica`](super::Replica) to judge,
//! which counts what it refuses. Only one sequence of bytes stands for each value, and every count is held against its
//! bound and against the bytes that are there before anything is allocated.

pub(super) mod field;
mod group;
mod history;
mod membership;
mod message;
mod state;

use std::fmt;

use self::field::{Coded, Field, Reader};
use super::group::Content;
use super::message::{Envelope, SnapshotOffer};
use super::state::{Base, Meta};

/// The version of the wire form; another one is refused by the transport before any message.
pub const VERSION: u16 = 1;

/// Epochs in the part of a history that a [`ProbeReply`](super::ProbeReply) bears, at most.
///
/// Two logs part within the newest few epochs, or the probe goes on further down: a longer part only costs bytes.
pub const HISTORY_EPOCHS_MAX: usize = 64;
/// Producers in a base, at most: a hundred times the default limit, and with all their spans 200 MB.
pub const PRODUCERS_MAX: usize = 1 << 20;
/// Spans in a group, at most: a group is cut before it has more, so that what goes with its bytes stays small (230 kB).
pub const GROUP_SPANS_MAX: usize = 8192;
/// The greatest epoch, or generation, in a message: no cluster lives to see so many, and there is always a next one.
pub const REIGN_MAX: u64 = u64::MAX >> 1;

/// Bytes before the fields.
const PREAMBLE_BYTES: usize = 4;

/// What the bytes are of.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Envelope = 1,
    Control = 2,
    Base = 3,
    Meta = 4,
    Offer = 5,
    Request = 6,
    Reply = 7,
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BadMessage {
    /// They are of another version, which is no damage.
    Version {
        /// Which.
        found: u16,
    },
    /// It ends too early.
    Cut,
    /// It goes on after its end.
    Surplus,
    /// A value that cannot be.
    Malformed,
    /// A count or size over the limit.
    TooLarge,
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadMessage::Version { found } => {
                write!(f, "the bytes are of version {found}, and this is version {VERSION}")
            }
            BadMessage::Cut => f.write_str("the bytes end too early"),
            BadMessage::Surplus => f.write_str("the bytes go on after their end"),
            BadMessage::Malformed => f.write_str("a value that cannot be"),
            BadMessage::TooLarge => f.write_str("a count over its limit"),
        }
    }
}

impl std::error::Error for BadMessage {}

/// Appends the envelope's bytes. Bytes of groups and chunks travel beside it.
///
/// # Panics
/// If it is over a bound of this module, or contradicts itself: no replica makes such a message.
pub fn encode(envelope: &Envelope, out: &mut Vec<u8>) {
    put_preamble(Form::Envelope, message::code(&envelope.message), out);
    message::put_envelope(envelope, out);
}

/// Reads an envelope.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode(bytes: &[u8]) -> Result<Envelope, BadMessage> {
    let mut reader = Reader::new(bytes);
    let code = take_preamble(Form::Envelope, &mut reader)?;
    let envelope = message::take_envelope(code, &mut reader)?;
    reader.end(envelope)
}

/// Appends the payload of a control record: what a frame of kind `Control` holds.
///
/// # Panics
/// If the content is records or the start of an epoch: they have frames of their own.
pub fn encode_control(content: &Content, out: &mut Vec<u8>) {
    assert!(group::has_control_frame(content), "only these are in control frames");
    put_preamble(Form::Control, group::code(content), out);
    group::put_content(content, out);
}

/// Size of a control record's payload, in bytes; nothing for other contents.
#[must_use]
pub(crate) fn control_bytes(content: &Content) -> u64 {
    let mut payload = Vec::new();
    if group::has_control_frame(content) {
        encode_control(content, &mut payload);
    }
    payload.len() as u64
}

/// Reads the payload of a control record.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode_control(bytes: &[u8]) -> Result<Content, BadMessage> {
    let mut reader = Reader::new(bytes);
    let code = take_preamble(Form::Control, &mut reader)?;
    let content = group::take_content(code, &mut reader)?;
    if group::has_control_frame(&content) { reader.end(content) } else { Err(BadMessage::Malformed) }
}

/// Appends the bytes of a base, for the file in which it is kept.
///
/// # Panics
/// If it is over a bound of this module, or its producers are not all committed.
pub fn encode_base(base: &Base, out: &mut Vec<u8>) {
    put_preamble(Form::Base, 0, out);
    base.put(out);
}

/// Reads a base.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode_base(bytes: &[u8]) -> Result<Base, BadMessage> {
    decode_whole(Form::Base, bytes)
}

/// Appends the bytes of a snapshot's offer, for the file that is kept with the snapshot.
///
/// # Panics
/// As [`encode_base`].
pub fn encode_offer(offer: &SnapshotOffer, out: &mut Vec<u8>) {
    put_preamble(Form::Offer, 0, out);
    offer.put(out);
}

/// Reads a snapshot's offer.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode_offer(bytes: &[u8]) -> Result<SnapshotOffer, BadMessage> {
    decode_whole(Form::Offer, bytes)
}

/// Appends the bytes of a meta, for where it is saved.
pub fn encode_meta(meta: &Meta, out: &mut Vec<u8>) {
    put_preamble(Form::Meta, 0, out);
    meta.put(out);
}

/// Reads a meta.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode_meta(bytes: &[u8]) -> Result<Meta, BadMessage> {
    decode_whole(Form::Meta, bytes)
}

fn decode_whole<T: Field>(form: Form, bytes: &[u8]) -> Result<T, BadMessage> {
    let mut reader = Reader::new(bytes);
    match take_preamble(form, &mut reader)? {
        0 => T::take(&mut reader).and_then(|value| reader.end(value)),
        _ => Err(BadMessage::Malformed),
    }
}

/// Appends the bytes of one of several.
pub(super) fn encode_coded<T: Coded>(form: Form, value: &T, out: &mut Vec<u8>) {
    put_preamble(form, value.code(), out);
    value.put_fields(out);
}

/// Reads one of several.
pub(super) fn decode_coded<T: Coded>(form: Form, bytes: &[u8]) -> Result<T, BadMessage> {
    let mut reader = Reader::new(bytes);
    let code = take_preamble(form, &mut reader)?;
    T::take_fields(code, &mut reader).and_then(|value| reader.end(value))
}

fn put_preamble(form: Form, code: u8, out: &mut Vec<u8>) {
    let [low, high] = VERSION.to_le_bytes();
    let preamble: [u8; PREAMBLE_BYTES] = [low, high, form as u8, code];
    out.extend_from_slice(&preamble);
}

/// The code that follows on the version and the form.
fn take_preamble(form: Form, reader: &mut Reader<'_>) -> Result<u8, BadMessage> {
    let [low, high, found, code]: [u8; PREAMBLE_BYTES] = reader.array()?;
    let version = u16::from_le_bytes([low, high]);
    if version != VERSION {
        return Err(BadMessage::Version { found: version });
    }
    if found == form as u8 { Ok(code) } else { Err(BadMessage::Malformed) }
}
