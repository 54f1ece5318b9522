//! How patient a client is, and how much it keeps in flight.

use std::time::Duration;

/// How patient a client is, and how much it keeps in flight.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A request is given up after so long.
    pub(crate) deadline: Duration,
    /// Append requests in flight at most.
    pub(crate) depth: usize,
    /// While so many append requests are in flight, another one goes only once it is full.
    pub(crate) depth_eager: usize,
    /// Bytes of records that go together in one request; a larger record goes alone.
    pub(crate) unit_bytes: usize,
    /// Bytes of records that wait or are in flight, at most.
    pub(crate) in_flight_bytes_max: u64,
    /// A primary that is silent for so long while something is asked of it is suspected.
    pub(crate) suspect_after: Duration,
    /// The first replica that is asked who leads may take so long before all are asked.
    pub(crate) round_first: Duration,
    /// The shortest and the longest time between two rounds of asking all.
    pub(crate) round: (Duration, Duration),
    /// The shortest and the longest pause before something is asked again.
    pub(crate) pause: (Duration, Duration),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            deadline: Duration::from_secs(30),
            depth: 8,
            depth_eager: 1,
            unit_bytes: 128 << 10,
            in_flight_bytes_max: 64 << 20,
            suspect_after: Duration::from_millis(40),
            round_first: Duration::from_millis(150),
            round: (Duration::from_millis(25), Duration::from_millis(200)),
            pause: (Duration::from_millis(1), Duration::from_millis(100)),
        }
    }
}

/// A small generator of numbers (SplitMix64), so that clients do not all do the same at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, or 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// The shorter of the two, doubled so many times, but not past the longer; then three quarters of that, or up to
    /// five.
    pub(crate) fn pause(&mut self, (min, max): (Duration, Duration), doublings: u32) -> Duration {
        let pause = min.saturating_mul(1 << doublings.min(16)).min(max);
        let quarter = u64::try_from(pause.as_nanos() / 4).unwrap_or(u64::MAX);
        pause - Duration::from_nanos(quarter) + Duration::from_nanos(self.below(quarter.saturating_mul(2)))
    }
}
