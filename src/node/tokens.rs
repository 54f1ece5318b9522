//! Who waits for which answer of the driver.

use super::mail::Asker;

/// What somebody waits for.
pub(crate) struct Pending {
    /// Who.
    pub(crate) asker: Asker,
    /// What was asked.
    pub(crate) asked: Asked,
}

/// What the driver was asked, as far as its answer depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// To append.
    Append,
    /// For a producer id.
    Register,
    /// Up to where to read.
    Linearize,
    /// To change the membership.
    Change,
    /// To hand the role over.
    Transfer,
    /// To stand for election.
    Promote,
}

/// Tokens, each with whoever waits for its answer. A place is used again, and a token never.
#[derive(Default)]
pub(crate) struct Tokens {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    /// How often the place was used.
    life: u32,
    pending: Option<Pending>,
}

impl Tokens {
    /// A token for the driver, whose answer goes to whoever is pending.
    pub(crate) fn issue(&mut self, pending: Pending) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("fewer wait than fit 32 bits: the core is bounded")
        });
        let place = &mut self.places[index as usize];
        place.life = place.life.wrapping_add(1);
        place.pending = Some(pending);
        u64::from(place.life) << 32 | u64::from(index)
    }

    /// Who waits for this token's answer; nobody waits after that.
    pub(crate) fn redeem(&mut self, token: u64) -> Option<Pending> {
        let (life, index) = ((token >> 32) as u32, token as u32);
        let place = self.places.get_mut(index as usize).filter(|place| place.life == life)?;
        let pending = place.pending.take()?;
        self.free.push(index);
        Some(pending)
    }

    /// All who wait.
    pub(crate) fn redeem_all(&mut self) -> Vec<Pending> {
        self.free.clear();
        self.free.extend(0..u32::try_from(self.places.len()).expect("as for `issue`"));
        self.places.iter_mut().filter_map(|place| place.pending.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::SessionId;

    fn client(number: u64) -> Pending {
        Pending { asker: Asker::Client { session: SessionId(1), number }, asked: Asked::Append }
    }

    fn number(pending: Option<Pending>) -> Option<u64> {
        pending.map(|pending| match pending.asker {
            Asker::Client { number, .. } => number,
            Asker::Local(_) => unreachable!("only clients here"),
        })
    }

    #[test]
    fn each_token_is_redeemed_once_and_never_for_somebody_else() {
        let mut tokens = Tokens::default();
        let one = tokens.issue(client(1));
        let two = tokens.issue(client(2));
        assert_eq!(number(tokens.redeem(one)), Some(1));
        assert_eq!(number(tokens.redeem(one)), None);
        let three = tokens.issue(client(3));
        assert_ne!(three, one);
        assert_eq!(number(tokens.redeem(one)), None);
        assert_eq!(number(tokens.redeem(three)), Some(3));
        assert_eq!(tokens.redeem_all().len(), 1);
        assert_eq!(number(tokens.redeem(two)), None);
    }
}
