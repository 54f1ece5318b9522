//! Who may begin another handshake: how many are under way, in all and from each address.
//!
//! A limit for all is not enough: one host that begins handshakes and leads none of them on would have all places, again and
//! again, and nobody else would be let in. So no address may have more under way than are free: alone it gets half of the
//! places, and of a few that take all they can get each has as much as is left for the next one. That is more for
//! one address than a fixed share would be, and so less in the way of many honest clients behind one address translator.
//!
//! Only an address that is proved (Retry) is refused for it: packets that somebody has sent in another's name do not shut that
//! one out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::refusals::Reason;

/// Over this share of the handshakes that may be under way, whoever comes must prove first that it is where it says it is.
const RETRY_SHARE: usize = 4;
/// What of an IPv6 address says which network it is in: a host has all that begin so (RFC 4291, section 2.5.4).
const NETWORK_V6: u128 = !(u64::MAX as u128);

/// The handshakes that are under way.
pub(crate) struct Crowd {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: usize,
    /// Of each address that has any: as many entries as handshakes, at most.
    of: HashMap<IpAddr, usize>,
}

/// What is done with somebody who comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    Welcome,
    /// First it must prove that it is where it says it is.
    Prove,
    Refuse(Reason),
}

/// A handshake that is under way, until it is dropped.
pub(crate) struct UnderWay {
    crowd: Arc<Crowd>,
    source: IpAddr,
    /// How many there are, with this one.
    all: usize,
    /// How many of its address.
    own: usize,
}

impl Crowd {
    pub(crate) fn new(max: usize) -> Crowd {
        Crowd { max, state: Mutex::default() }
    }

    /// Another one, from there, whether it may go on or not.
    pub(crate) fn come(self: &Arc<Crowd>, there: IpAddr) -> UnderWay {
        let source = source(there);
        let mut state = self.state.lock();
        state.all += 1;
        let own = state.of.entry(source).or_default();
        *own += 1;
        let own = *own;
        UnderWay { crowd: Arc::clone(self), source, all: state.all, own }
    }
}

impl UnderWay {
    /// Whether it may go on. `may_prove` is not so once the address is proved.
    pub(crate) fn admission(&self, may_prove: bool) -> Admission {
        let UnderWay { all, own, .. } = *self;
        let max = self.crowd.max;
        if all > max {
            Admission::Refuse(Reason::Limit)
        } else if all > max / RETRY_SHARE && may_prove {
            // An address that was validated has cost its owner a round trip, and cannot be made up.
            Admission::Prove
        } else if own - 1 > max - all {
            // More than half are under way then, so its address is proved; and what others have begun in its name before one had
            // to be is a quarter of all, at most.
            Admission::Refuse(Reason::Address)
        } else {
            Admission::Welcome
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.crowd.state.lock();
        state.all -= 1;
        let own = state.of.get_mut(&self.source).expect("counted when it came");
        *own -= 1;
        if *own == 0 {
            state.of.remove(&self.source);
        }
    }
}

/// Whom an address stands for.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK_V6).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn host(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    /// Those of this address that are let in, until it is refused.
    fn press_in(crowd: &Arc<Crowd>, there: IpAddr) -> Vec<UnderWay> {
        let next = || Some(crowd.come(there)).filter(|one| one.admission(false) == Admission::Welcome);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn one_address_gets_half_of_the_places_and_the_next_ones_still_get_in() {
        let crowd = Arc::new(Crowd::new(256));
        let first = press_in(&crowd, HOST);
        assert_eq!(first.len(), 128);
        assert_eq!(crowd.come(HOST).admission(false), Admission::Refuse(Reason::Address));
        let others: Vec<_> = (0..100).map(|number| crowd.come(host(number))).collect();
        assert!(others.iter().all(|one| one.admission(false) == Admission::Welcome));
        // What has ended makes room again, for its own address too.
        drop(first);
        assert_eq!(press_in(&crowd, HOST).len(), 78);
        drop(others);
        assert!(crowd.state.lock().of.is_empty());
    }

    /// Each takes what it gets, again and again.
    #[test]
    fn where_a_few_take_all_they_can_get_there_is_as_much_left_as_each_of_them_has() {
        let crowd = Arc::new(Crowd::new(256));
        let mut theirs: Vec<Vec<UnderWay>> = (0..7).map(|_| Vec::new()).collect();
        for round in 0..2000 {
            let (at, one) = (round % 7, host((round % 7) as u8));
            // One of them ends, and as many come anew as are let in.
            theirs[at].pop();
            theirs[at].extend(press_in(&crowd, one));
        }
        let left = 256 - crowd.state.lock().all;
        assert!((25..=40).contains(&left), "{left} for the eighth");
        assert!(theirs.iter().all(|own| own.len() <= left + 1));
        assert_eq!(press_in(&crowd, HOST).len(), left.div_ceil(2));
    }

    #[test]
    fn from_a_quarter_on_an_address_is_to_be_proved_before_it_is_refused() {
        let crowd = Arc::new(Crowd::new(8));
        let come = |number| crowd.come(if number < 6 { HOST } else { host(number) });
        let all: Vec<UnderWay> = (0..10).map(come).collect();
        let admissions: Vec<Admission> = all.iter().map(|one| one.admission(true)).collect();
        let limit = Admission::Refuse(Reason::Limit);
        let [w, p] = [Admission::Welcome, Admission::Prove];
        assert_eq!(admissions, [w, w, p, p, p, p, p, p, limit, limit]);
    }

    #[test]
    fn all_addresses_of_a_host_count_together() {
        let address = |text: &str| source(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1:2:3"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
    }
}
