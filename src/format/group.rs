//! Groups: what one flush writes, under a header that is true of this disk only.

use super::checksum::{Digest, crc32};
use super::frame::Frame;
use super::layout::{FRAME_ALIGN, FRAME_HEADER_BYTES, GROUP_MAGIC, HEADER_BLOCK_BYTES, all_zero, group};
use super::segment::Incarnation;
use super::verdict::Damage;
use crate::types::Lsn;

/// Where a group lies: a header is valid in this place only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupPlace {
    /// The life of the file.
    pub incarnation: Incarnation,
    /// Offset of the group's header in the file, in bytes.
    pub position: u64,
}

/// The header of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupHeader {
    /// Where the group was written.
    pub place: GroupPlace,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// The newest LSN that was known durable on this disk when the group was written.
    pub durable_through: Lsn,
    /// Size of the frames with their padding, in bytes.
    pub frame_bytes: u32,
    /// How many frames there are, at least one.
    pub frames: u32,
    /// How many LSNs they take.
    pub records: u32,
    /// Digest over the checksums of the frames, seeded with the incarnation.
    pub digest: Digest,
}

impl GroupHeader {
    /// The header for `frames`, complete and in their order, in this place.
    ///
    /// Reads the frames' headers only.
    ///
    /// # Panics
    /// If `frames` are none, or are not frames one after the other with dense LSNs: they were just written.
    #[must_use]
    pub fn over(frames: &[u8], place: GroupPlace, durable_through: Lsn) -> GroupHeader {
        GroupHeader::noting(frames, place, durable_through, |_, _| ())
    }

    /// The same, telling each frame and its position in the file on the way.
    ///
    /// # Panics
    /// As for [`GroupHeader::over`].
    #[must_use]
    pub fn noting(
        frames: &[u8],
        place: GroupPlace,
        durable_through: Lsn,
        mut note: impl FnMut(u64, &Frame<'_>),
    ) -> GroupHeader {
        let mut header = GroupHeader {
            place,
            first_lsn: Lsn::ZERO,
            durable_through,
            frame_bytes: u32::try_from(frames.len()).expect("a group has less than 4 GiB"),
            frames: 0,
            records: 0,
            digest: place.digest_seed(),
        };
        let mut rest = frames;
        while !rest.is_empty() {
            let frame = Frame::parse(rest).expect("frames as they were written");
            if header.frames == 0 {
                header.first_lsn = frame.header().lsn;
            }
            let expected = header.first_lsn.plus(u64::from(header.records));
            assert!(frame.header().lsn == expected, "the LSNs of a group are dense");
            note(header.end() - rest.len() as u64, &frame);
            header.frames += 1;
            let records = header.records.checked_add(frame.header().count);
            header.records = records.expect("a group takes less than 2^32 LSNs");
            header.digest = header.digest.fold(u64::from(frame.header().checksum));
            rest = &rest[frame.stored().len()..];
        }
        assert!(header.is_possible(), "a group of frames in its place");
        header
    }

    /// Reads a header, checks its checksum and that its fields can be. Does not look at the frames.
    ///
    /// # Errors
    /// [`Damage::Cut`] under 64 bytes; [`Damage::Blank`], [`Damage::Malformed`] or [`Damage::Checksum`].
    pub fn decode(bytes: &[u8]) -> Result<GroupHeader, Damage> {
        let Some(bytes) = bytes.first_chunk::<{ group::BYTES }>() else { return Err(Damage::Cut) };
        if group::MAGIC.get(bytes) != GROUP_MAGIC {
            return Err(if all_zero(bytes) { Damage::Blank } else { Damage::Malformed });
        }
        if crc32(&bytes[group::CHECKSUM.end()..]) != group::CHECKSUM.get(bytes) {
            return Err(Damage::Checksum);
        }
        if group::ZERO.get(bytes) != 0 {
            return Err(Damage::Padding);
        }
        let header = GroupHeader {
            place: GroupPlace {
                incarnation: Incarnation::new(group::INCARNATION.get(bytes)),
                position: group::POSITION.get(bytes),
            },
            first_lsn: Lsn::new(group::FIRST_LSN.get(bytes)),
            durable_through: Lsn::new(group::DURABLE_THROUGH.get(bytes)),
            frame_bytes: group::FRAME_BYTES.get(bytes),
            frames: group::FRAMES.get(bytes),
            records: group::RECORDS.get(bytes),
            digest: Digest::new(group::DIGEST.get(bytes)),
        };
        if header.is_possible() { Ok(header) } else { Err(Damage::Malformed) }
    }

    /// Reads a header that has to be valid in this place.
    ///
    /// # Errors
    /// What [`GroupHeader::decode`] finds; [`Damage::Foreign`] for a header of another place.
    pub fn decode_at(bytes: &[u8], place: GroupPlace) -> Result<GroupHeader, Damage> {
        let header = GroupHeader::decode(bytes)?;
        if header.place == place { Ok(header) } else { Err(Damage::Foreign) }
    }

    /// Writes the header over the first 64 bytes of `bytes`.
    pub fn encode_into(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..group::BYTES];
        group::MAGIC.put(bytes, GROUP_MAGIC);
        group::INCARNATION.put(bytes, self.place.incarnation.get());
        group::POSITION.put(bytes, self.place.position);
        group::FIRST_LSN.put(bytes, self.first_lsn.get());
        group::DURABLE_THROUGH.put(bytes, self.durable_through.get());
        group::FRAME_BYTES.put(bytes, self.frame_bytes);
        group::FRAMES.put(bytes, self.frames);
        group::RECORDS.put(bytes, self.records);
        group::ZERO.put(bytes, 0);
        group::DIGEST.put(bytes, self.digest.get());
        let checksum = crc32(&bytes[group::CHECKSUM.end()..]);
        group::CHECKSUM.put(bytes, checksum);
    }

    /// Where the frames begin, as a position in the file.
    #[must_use]
    pub const fn frames_start(&self) -> u64 {
        self.place.position + group::BYTES as u64
    }

    /// Where the group ends, as a position in the file.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.frames_start() + self.frame_bytes as u64
    }

    /// LSN of the last record.
    #[must_use]
    pub const fn last_lsn(&self) -> Lsn {
        self.first_lsn.plus(self.records as u64 - 1)
    }

    fn is_possible(&self) -> bool {
        let position = self.place.position;
        let place = position >= HEADER_BLOCK_BYTES as u64
            && position.is_multiple_of(FRAME_ALIGN as u64)
            && position <= super::layout::SEGMENT_BYTES_MAX;
        let size = self.frame_bytes.is_multiple_of(FRAME_ALIGN as u32)
            && u64::from(self.frames) * FRAME_HEADER_BYTES as u64 <= u64::from(self.frame_bytes)
            && self.frames > 0
            && self.records >= self.frames;
        let lsns = self.first_lsn > self.durable_through
            && self.first_lsn.get().checked_add(u64::from(self.records)).is_some();
        place && size && lsns
    }
}

impl GroupPlace {
    /// What the digest of a group in this place begins with.
    #[must_use]
    pub const fn digest_seed(&self) -> Digest {
        Digest::new(self.incarnation.get())
    }
}
