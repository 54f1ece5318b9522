//! Who takes part, as bytes.

use super::BadMessage;
use super::field::{Field, Reader, fields, put_list, sound, take_reign};
use crate::protocol::membership::{Electorate, Member, Membership, Quorums, Voter};

/// The bytes of a [`Member`].
const MEMBER_BYTES: usize = 24;
/// The bytes of a [`Voter`].
const VOTER_BYTES: usize = MEMBER_BYTES + 1;

fields! {
    Member { id, disk }
    Voter { member, priority }
}

impl Field for Quorums {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Quorums::Majority => out.push(0),
            Quorums::Fixed { write, election } => out.extend_from_slice(&[1, write, election]),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Quorums, BadMessage> {
        if bool::take(reader)? {
            let [write, election] = reader.array()?;
            Ok(Quorums::Fixed { write, election })
        } else {
            Ok(Quorums::Majority)
        }
    }
}

impl Field for Electorate {
    fn put(&self, out: &mut Vec<u8>) {
        put_list(&self.voters, Electorate::VOTERS_MAX, out);
        self.quorums.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Electorate, BadMessage> {
        let voters = reader.list(Electorate::VOTERS_MAX, VOTER_BYTES)?;
        Ok(Electorate { voters, quorums: Quorums::take(reader)? })
    }
}

impl Field for Membership {
    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.is_sound(), "only a sound membership is ever told or kept");
        self.generation.put(out);
        self.electorate.put(out);
        self.outgoing.put(out);
        put_list(&self.learners, Membership::LEARNERS_MAX, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Membership, BadMessage> {
        let membership = Membership {
            generation: take_reign(reader)?,
            electorate: Electorate::take(reader)?,
            outgoing: Field::take(reader)?,
            learners: reader.list(Membership::LEARNERS_MAX, MEMBER_BYTES)?,
        };
        let is_sound = membership.is_sound();
        sound(membership, is_sound)
    }
}
