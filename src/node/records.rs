//! The records of one append, without a copy of them.

use std::fmt;
use std::iter::FusedIterator;

use bytes::Bytes;

/// The bytes of records, back to back in one buffer that is shared and not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Records {
    bytes: Bytes,
    /// Of each record; one alone has all the bytes, and takes no allocation.
    sizes: Option<Vec<u32>>,
}

/// Sizes that are not those of the bytes, or of no record at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSizes;

impl fmt::Display for BadSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sizes of the records are not those of their bytes")
    }
}

impl std::error::Error for BadSizes {}

impl Records {
    /// One record.
    pub fn one(bytes: impl Into<Bytes>) -> Records {
        Records { bytes: bytes.into(), sizes: None }
    }

    /// Records of these sizes, one right after the other.
    ///
    /// # Errors
    /// If the sizes do not make up the bytes, or there are none.
    pub fn back_to_back(bytes: Bytes, sizes: Vec<u32>) -> Result<Records, BadSizes> {
        let total = sizes.iter().fold(0_u64, |total, size| total.saturating_add(u64::from(*size)));
        match sizes.len() {
            0 => Err(BadSizes),
            _ if total != bytes.len() as u64 => Err(BadSizes),
            1 => Ok(Records::one(bytes)),
            _ => Ok(Records { bytes, sizes: Some(sizes) }),
        }
    }

    /// How many there are, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sizes.as_ref().map_or(1, Vec::len)
    }

    /// Their bytes, back to back.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + FusedIterator {
        Slices { rest: &self.bytes, sizes: self.sizes.as_deref(), left: self.count() }
    }
}

/// Records that are cut from a buffer one by one.
struct Slices<'a> {
    rest: &'a [u8],
    sizes: Option<&'a [u32]>,
    left: usize,
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let Some(sizes) = self.sizes else { return Some(self.rest) };
        let (size, sizes) = sizes.split_first()?;
        let (record, rest) = self.rest.split_at(*size as usize);
        (self.rest, self.sizes) = (rest, Some(sizes));
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Slices<'_> {}
impl FusedIterator for Slices<'_> {}
