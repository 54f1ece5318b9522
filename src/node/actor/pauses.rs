//! How long a store that has failed is left alone before it is opened again.

use std::time::{Duration, Instant};

/// The first pause.
const MIN: Duration = Duration::from_millis(50);
/// The longest.
const MAX: Duration = Duration::from_secs(5);
/// A store that was open for so long has failed for another reason than before.
const STEADY: Duration = Duration::from_secs(30);

/// Doubles the pause with each failure that comes soon after the one before: a disk that is full lets itself be opened, and
/// fails with the first write, and each time the others lose a backup, or their patience.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The last pause, and when the store was opened after it.
    last: Option<(Duration, Instant)>,
}

impl Pauses {
    /// The store has failed, or could not be opened: how long to leave it alone.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        let before = self.last.filter(|(_, opened)| now.saturating_duration_since(*opened) < STEADY);
        let pause = before.map_or(MIN, |(pause, _)| (pause * 2).min(MAX));
        self.last = Some((pause, now));
        pause
    }

    /// The store is open again.
    pub(super) fn opened(&mut self, now: Instant) {
        if let Some((_, opened)) = &mut self.last {
            *opened = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_tried_less_and_less_often_and_a_healthy_one_at_once() {
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        let mut fail = |after: Duration| {
            now += after;
            let pause = pauses.failed(now);
            now += pause;
            pauses.opened(now);
            pause
        };
        let soon = Duration::from_millis(3);
        let found: Vec<u128> = (0..9).map(|_| fail(soon).as_millis()).collect();
        assert_eq!(found, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        // There is room, and it works for a while: whatever fails then is something new.
        assert_eq!(fail(STEADY * 2), MIN);
    }
}
