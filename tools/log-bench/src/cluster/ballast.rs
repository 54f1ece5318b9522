//! An application with a state of some size, which goes into snapshots and is restored from them.

use std::io::{self, Read, Write};

use annals::node::{Frozen, StateMachine};
use annals::{Epoch, Lsn};

/// What the state is made of, one after the other.
static PIECE: [u8; 64 << 10] = [7; 64 << 10];

/// A state of so many bytes, which no record changes.
#[derive(Debug)]
pub(crate) struct Ballast {
    bytes: u64,
}

impl Ballast {
    pub(crate) const fn new(bytes: u64) -> Ballast {
        Ballast { bytes }
    }
}

impl StateMachine for Ballast {
    fn apply(&mut self, _: Lsn, _: Epoch, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Frozen {
        let mut left = self.bytes;
        Box::new(move |to: &mut dyn Write| {
            while left > 0 {
                let piece = piece_of(left);
                to.write_all(piece)?;
                left -= piece.len() as u64;
            }
            Ok(())
        })
    }

    fn restore(&mut self, from: &mut dyn Read, _: Lsn) -> io::Result<()> {
        let mut left = self.bytes;
        let mut read = vec![0; PIECE.len()];
        while left > 0 {
            let piece = piece_of(left);
            let read = &mut read[..piece.len()];
            from.read_exact(read)?;
            if read != piece {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not the state that was written"));
            }
            left -= piece.len() as u64;
        }
        Ok(())
    }
}

/// The next piece, where so much is left.
fn piece_of(left: u64) -> &'static [u8] {
    &PIECE[..usize::try_from(left).map_or(PIECE.len(), |left| left.min(PIECE.len()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_frozen_is_restored_and_anything_else_is_refused() {
        for bytes in [0, 1, 65_536, 200_000] {
            let mut frozen = Vec::new();
            Ballast::new(bytes).snapshot()(&mut frozen).unwrap();
            assert_eq!(frozen.len() as u64, bytes);
            Ballast::new(bytes).restore(&mut &*frozen, Lsn::FIRST).unwrap();
            assert!(Ballast::new(bytes + 1).restore(&mut &*frozen, Lsn::FIRST).is_err());
            if let Some(last) = frozen.last_mut() {
                *last ^= 1;
                assert!(Ballast::new(bytes).restore(&mut &*frozen, Lsn::FIRST).is_err());
            }
        }
    }
}
