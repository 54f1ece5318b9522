//! Payloads for those who do not care what is in them.

use super::seeds::Chance;

impl Chance {
    /// A payload: zeros, one letter or noise.
    pub(crate) fn payload(&mut self, bytes: usize) -> Vec<u8> {
        match self.below(8) {
            0 => vec![0; bytes],
            1 => vec![self.next() as u8; bytes],
            _ => (0..bytes.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(bytes).collect(),
        }
    }
}
