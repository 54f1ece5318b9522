//! How often somebody may ask, counted for each address and for each name.
//!
//! Keys are hashed into a fixed number of places, with a hash that nobody outside can foresee: however many names and
//! addresses somebody makes up, the memory has a bound, and only by rare chance do two share a place.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::name::Name;

/// Places of one limit: at about 100 bytes each.
const PLACES: u64 = 1 << 16;

/// So many at once, and then one more each time so long.
#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Whatever one address asks.
const REQUESTS: Rate = Rate { burst: 200, every: Duration::from_millis(20) };
/// What costs a hash, from one address.
const HASHES: Rate = Rate { burst: 40, every: Duration::from_secs(1) };
/// Attempts at the password of one name, from one address: so that nobody locks somebody else out from elsewhere.
const ATTEMPTS: Rate = Rate { burst: 10, every: Duration::from_secs(6) };
/// The same from anywhere, for guesses that come from many addresses: more than a dozen of them can use up, each allowed as
/// many as above.
const GUESSES: Rate = Rate { burst: 150, every: Duration::from_millis(500) };
/// Attempts to change the password of one name: only whoever has a session of it can use these up.
const CHANGES: Rate = Rate { burst: 10, every: Duration::from_secs(6) };

/// The limits of one node.
pub(crate) struct Limits<C: Clock = DefaultClock> {
    requests: Limit<C>,
    hashes: Limit<C>,
    attempts: Limit<C>,
    guesses: Limit<C>,
    changes: Limit<C>,
}

/// Asked too often: come again after this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooOften {
    pub(crate) wait: Duration,
}

/// One limit for many keys.
struct Limit<C: Clock> {
    limiter: RateLimiter<u64, HashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    places: RandomState,
}

impl Limits {
    pub(crate) fn new() -> Limits {
        Limits::with_clock(&DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with_clock(clock: &C) -> Limits<C> {
        Limits {
            requests: Limit::new(REQUESTS, clock),
            hashes: Limit::new(HASHES, clock),
            attempts: Limit::new(ATTEMPTS, clock),
            guesses: Limit::new(GUESSES, clock),
            changes: Limit::new(CHANGES, clock),
        }
    }

    /// Counts a request of this address.
    pub(crate) fn request(&self, from: IpAddr) -> Result<(), TooOften> {
        self.requests.take(&network(from))
    }

    /// Counts a request of this address that costs a hash.
    pub(crate) fn hash(&self, from: IpAddr) -> Result<(), TooOften> {
        self.hashes.take(&network(from))
    }

    /// Counts an attempt of this address at the password of this name.
    pub(crate) fn attempt(&self, name: &Name, from: IpAddr) -> Result<(), TooOften> {
        // In this order: what is refused to one address takes nothing from the others.
        self.attempts.take(&(name, network(from)))?;
        self.guesses.take(name)
    }

    /// Counts an attempt to change the password of this name.
    pub(crate) fn change(&self, name: &Name) -> Result<(), TooOften> {
        self.changes.take(name)
    }
}

impl<C: Clock + Clone> Limit<C> {
    fn new(rate: Rate, clock: &C) -> Limit<C> {
        let quota = Quota::with_period(rate.every).expect("a period is longer than nothing");
        let quota = quota.allow_burst(NonZeroU32::new(rate.burst).expect("a burst is more than nothing"));
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), clock.clone());
        Limit { limiter, clock: clock.clone(), places: RandomState::new() }
    }

    fn take(&self, key: &impl std::hash::Hash) -> Result<(), TooOften> {
        let place = self.places.hash_one(key) % PLACES;
        let refused = self.limiter.check_key(&place).err();
        refused.map_or(Ok(()), |until| Err(TooOften { wait: until.wait_time_from(self.clock.now()) }))
    }
}

/// Who can choose among many addresses counts as one: a host of IPv4, and a network of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn attempts_at_one_name_are_refused_until_time_has_passed() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::with_clock(&clock);
        let (ada, ben) = (Name::typed("ada").unwrap(), Name::typed("ben").unwrap());
        let from = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..10 {
            assert_eq!(limits.attempt(&ada, from), Ok(()));
        }
        assert_eq!(limits.attempt(&ada, from), Err(TooOften { wait: Duration::from_secs(6) }));
        assert_eq!(limits.attempt(&ben, from), Ok(()));
        clock.advance(Duration::from_secs(5));
        assert_eq!(limits.attempt(&ada, from), Err(TooOften { wait: Duration::from_secs(1) }));
        clock.advance(Duration::from_secs(1));
        assert_eq!(limits.attempt(&ada, from), Ok(()));
        assert!(limits.attempt(&ada, from).is_err());
    }

    #[test]
    fn wrong_attempts_from_elsewhere_lock_nobody_out() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::with_clock(&clock);
        let ada = Name::typed("ada").unwrap();
        let home = IpAddr::from([192, 0, 2, 1]);
        // Ends in a second in which each of them may try once more.
        for _ in 0..=600 {
            clock.advance(Duration::from_secs(1));
            for last in 1..=12 {
                while limits.attempt(&ada, [203, 0, 113, last].into()).is_ok() {}
            }
        }
        assert_eq!(limits.attempt(&ada, home), Ok(()));
        // Whoever has found a session neither, nor do attempts keep its owner from changing the password.
        while limits.change(&ada).is_ok() {}
        assert_eq!(limits.attempt(&ada, home), Ok(()));
        // Guesses from many addresses together have a bound all the same.
        let allowed = (0..=255).filter(|last| limits.attempt(&ada, [198, 51, 100, *last].into()).is_ok());
        assert!(allowed.count() < 150);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let limits = Limits::with_clock(&FakeRelativeClock::default());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for number in 0..40 {
            assert_eq!(limits.hash(address(&format!("2001:db8::{number}"))), Ok(()));
        }
        assert!(limits.hash(address("2001:db8::ffff")).is_err());
        assert_eq!(limits.hash(address("2001:db8:0:1::1")), Ok(()));
        assert_eq!(limits.hash(address("192.0.2.1")), Ok(()));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn made_up_names_take_a_bounded_memory() {
        let limits = Limits::with_clock(&FakeRelativeClock::default());
        for number in 0..100_000 {
            let _ = limits.attempts.take(&number);
        }
        assert!(limits.attempts.limiter.len() <= PLACES as usize);
    }
}
