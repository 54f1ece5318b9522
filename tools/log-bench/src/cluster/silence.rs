//! When commits were acknowledged, and the longest time in which none was.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Moments of acknowledgements, one list for each thread that appends.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    began: Instant,
    of_threads: Vec<Mutex<Vec<Duration>>>,
}

/// A time without a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    /// The last commit before it, since the beginning.
    pub(crate) from: Duration,
    /// The first one after it.
    pub(crate) to: Duration,
}

impl Silence {
    /// How long it was.
    pub(crate) fn length(self) -> Duration {
        self.to - self.from
    }
}

impl Acknowledgements {
    pub(crate) fn new(threads: usize) -> Acknowledgements {
        Acknowledgements {
            began: Instant::now(),
            of_threads: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    /// When the lists began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Notes that an append of this thread was acknowledged just now.
    pub(crate) fn note(&self, thread: usize) {
        let now = self.began.elapsed();
        self.of_threads[thread].lock().expect("no thread panics while it notes").push(now);
    }

    /// All moments in order, from one on.
    pub(crate) fn since(&self, from: Duration) -> Vec<Duration> {
        let mut all: Vec<Duration> = Vec::new();
        for thread in &self.of_threads {
            let moments = thread.lock().expect("no thread panics while it notes");
            let start = moments.partition_point(|moment| *moment < from);
            all.extend_from_slice(&moments[start..]);
        }
        all.sort_unstable();
        all
    }

    /// Whether there is a commit after this moment.
    pub(crate) fn has_any_after(&self, moment: Duration) -> bool {
        self.of_threads.iter().any(|thread| {
            let moments = thread.lock().expect("no thread panics while it notes");
            moments.last().is_some_and(|last| *last > moment)
        })
    }

    /// The longest time without a commit of those that touch the time from one moment to another.
    pub(crate) fn longest_silence(&self, from: Duration, to: Duration) -> Option<Silence> {
        // What began before may reach into it.
        const BEFORE: Duration = Duration::from_secs(1);
        let all = self.since(from.saturating_sub(BEFORE));
        let pairs = all.windows(2).map(|pair| Silence { from: pair[0], to: pair[1] });
        pairs
            .filter(|silence| silence.to >= from && silence.from <= to)
            .max_by_key(|silence| silence.length())
    }

    /// Commits a second in each of the stretches of this length, from one moment to the last commit before another: for a
    /// plot, in seconds from the first moment on.
    pub(crate) fn rates(&self, from: Duration, to: Duration, stretch: Duration) -> Vec<(f64, f64)> {
        let mut all = self.since(from);
        all.truncate(all.partition_point(|moment| *moment < to));
        let Some(last) = all.last() else { return Vec::new() };
        let place = |moment: &Duration| ((*moment - from).as_nanos() / stretch.as_nanos()) as usize;
        let mut counts = vec![0_u64; place(last) + 1];
        all.iter().for_each(|moment| counts[place(moment)] += 1);
        let second = stretch.as_secs_f64();
        counts.iter().enumerate().map(|(at, count)| (at as f64 * second, *count as f64 / second)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_longest_silence_is_found_over_all_threads_together() {
        let acknowledgements = Acknowledgements::new(2);
        let moments: [&[u64]; 2] = [&[10, 20, 30, 500, 510], &[15, 100, 505, 900]];
        for (list, moments) in acknowledgements.of_threads.iter().zip(moments) {
            list.lock().unwrap().extend(moments.iter().map(|at| ms(*at)));
        }
        // 100 to 500: the second thread was heard at 100.
        let silence = acknowledgements.longest_silence(ms(90), ms(600)).unwrap();
        assert_eq!(silence, Silence { from: ms(100), to: ms(500) });
        assert_eq!(acknowledgements.longest_silence(ms(505), ms(507)).unwrap().length(), ms(5));
        assert!(acknowledgements.has_any_after(ms(899)) && !acknowledgements.has_any_after(ms(900)));
        assert_eq!(acknowledgements.rates(ms(0), Duration::MAX, ms(500)), vec![(0.0, 10.0), (0.5, 8.0)]);
        assert_eq!(
            acknowledgements.rates(ms(20), ms(31), ms(5)),
            vec![(0.0, 200.0), (0.005, 0.0), (0.01, 200.0)]
        );
    }
}
