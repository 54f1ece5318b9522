//! The clocks of the replicas: each has its own origin, runs at its own rate, and may step forward.

use annals::protocol::Time;

/// One replica's clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// How much faster than true time it runs, in parts per million.
    drift_ppm: i64,
    /// True time and local time when the rate was set last.
    since: u64,
    at: u64,
}

impl Clock {
    pub(crate) fn new(origin: u64, drift_ppm: i64) -> Clock {
        Clock { drift_ppm, since: 0, at: origin }
    }

    /// What it shows at this true time.
    pub(crate) fn local(&self, now: u64) -> Time {
        let passed = i128::from(now - self.since);
        let passed = passed + passed * i128::from(self.drift_ppm) / 1_000_000;
        Time::from_nanos(self.at + passed as u64)
    }

    /// The true time at which it will show this, or a moment later; not before `now`.
    pub(crate) fn when(&self, local: Time, now: u64) -> u64 {
        let left = i128::from(local.since(self.local(now)).as_nanos() as u64);
        let left = left * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)) + i128::from(left > 0);
        now.saturating_add(left as u64)
    }

    /// Steps forward.
    pub(crate) fn step(&mut self, now: u64, nanos: u64) {
        self.at = self.local(now).nanos() + nanos;
        self.since = now;
    }

    /// Goes on at another rate.
    pub(crate) fn drift(&mut self, now: u64, ppm: i64) {
        self.at = self.local(now).nanos();
        self.since = now;
        self.drift_ppm = ppm;
    }
}
