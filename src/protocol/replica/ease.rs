//! How much may be on its way to those who catch up, so that those who append hardly notice.
//!
//! After LEDBAT (RFC 6817), which yields to other traffic by the delay that it causes, and like it takes the least delay of
//! the recent past for the usual one. Two things are different: the delay is that of commits, in which network, disk and
//! processors all show; and what is kept low is not its mean but its tail. Whoever catches up is fed at least twice as fast as
//! the log grows, late commits or not: else it would never be done.
//!
//! What may be on its way is also spread over time. On a quick network a small part of the log is on a disk and acknowledged
//! at once, and the next follows: the disk was then synced thousands of times a second, for which all others waited who share
//! it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::time::Time;
use crate::types::Lsn;

/// So much may always be on its way.
const BYTES_MIN: u64 = 512 << 10;
/// In this time no more is sent while somebody appends than may be on its way at once.
const SPREAD: Duration = Duration::from_millis(8);
/// Who catches up is fed so many times as fast as the log grows, at least.
const LEAD: u64 = 2;
/// Without a commit for so long nobody appends, and nobody is in the way.
const QUIET: Duration = Duration::from_millis(100);
/// A commit that takes longer than so many times what is usual is late.
const LATE_TIMES: u32 = 2;
/// The part by which what may be on its way grows with each commit that is not late. A late one halves it: so one in
/// ninety or so is late.
const GROWTH: u64 = 128;
/// The part by which what is usual shrinks with each commit that is quicker; a slower one makes it grow by so many times
/// that part: so two of a hundred are slower.
const USUAL: (u32, u32) = (128, 49);
/// The first commits say what is usual, also while somebody is fed.
const LEARNED_MIN: u32 = 64;
/// What is usual is learned in stretches of this length and of that many commits, and the calmest of the last ones counts: a
/// replica that starts disturbs all others before it is fed, and would else be taken for usual.
const STRETCH: Duration = Duration::from_secs(1);
const STRETCHES: usize = 8;

/// How much may be on its way to each who catches up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ease {
    /// This primary's own groups that are not committed: their last records, and when they were appended.
    groups: VecDeque<(Lsn, Time)>,
    /// Almost no commit takes longer while nobody is fed, as far as so many commits tell since then.
    usual: Duration,
    learned: u32,
    learning_since: Time,
    /// What was usual in the last stretches.
    stretches: VecDeque<Duration>,
    /// What may be on its way while somebody appends.
    bytes: u64,
    /// It is not less than this, which grows while the log grows too fast for who catches up.
    bytes_least: u64,
    /// Bytes that were appended, and that were read for those who catch up, since the last heartbeat.
    appended: u64,
    fed: u64,
    /// Whether nothing can be committed without those who catch up: then nobody gains if they wait.
    is_needed: bool,
    /// When something was appended or committed last.
    heard: Time,
}

impl Ease {
    pub(super) const fn new(now: Time) -> Ease {
        Ease {
            groups: VecDeque::new(),
            usual: Duration::ZERO,
            learned: 0,
            learning_since: now,
            stretches: VecDeque::new(),
            bytes: BYTES_MIN,
            bytes_least: BYTES_MIN,
            appended: 0,
            fed: 0,
            is_needed: false,
            heard: now,
        }
    }

    /// Bytes that may be on their way to somebody who catches up.
    pub(super) fn bytes(&self, window: u64, now: Time) -> u64 {
        if self.yields(now) { self.bytes.min(window) } else { window }
    }

    /// Bytes of a snapshot that may be on their way. Beside those who append none may when a chunk more is sent: the one
    /// before it is staged by then.
    pub(super) fn snapshot_bytes(&self, window: u64, now: Time) -> u64 {
        if self.yields(now) { 0 } else { window }
    }

    /// Bytes a second that somebody who catches up is fed at most; `None` if nobody is in the way, or `rate` is less.
    pub(super) fn bytes_per_s(&self, rate: Option<u64>, now: Time) -> Option<u64> {
        // Where clocks stand still nothing is ever before its time.
        let knows_time = self.usual().is_some();
        let parts = u64::from(SPREAD.subsec_millis());
        let eased = (knows_time && self.yields(now)).then(|| self.bytes.saturating_mul(1000) / parts);
        eased.into_iter().chain(rate).min()
    }

    /// Whether somebody else would wait.
    fn yields(&self, now: Time) -> bool {
        let is_quiet = self.groups.is_empty() && now.since(self.heard) >= QUIET;
        !is_quiet && !self.is_needed
    }

    /// A group of clients' records was appended.
    pub(super) fn appended(&mut self, last: Lsn, bytes: u64, now: Time) {
        self.groups.push_back((last, now));
        self.appended += bytes;
        self.heard = now;
    }

    /// Something was read for one who catches up.
    pub(super) const fn fed(&mut self, bytes: u64) {
        self.fed += bytes;
    }

    /// With each heartbeat: so many catch up, and without them a quorum is there or is not.
    pub(super) fn beat(&mut self, fed_peers: u64, is_needed: bool, window: u64) {
        let is_slow = self.fed < self.appended * fed_peers * LEAD;
        let least = if is_slow { self.bytes_least * 2 } else { self.bytes_least / 2 };
        self.bytes_least = least.clamp(BYTES_MIN, window.max(BYTES_MIN));
        self.bytes = self.bytes.max(self.bytes_least);
        if fed_peers == 0 {
            // The next one begins with little, as this one did.
            (self.bytes, self.bytes_least) = (BYTES_MIN, BYTES_MIN);
        }
        (self.appended, self.fed) = (0, 0);
        self.is_needed = is_needed;
    }

    /// Everything up to here is committed; `is_feeding`: while somebody catches up.
    pub(super) fn committed(&mut self, commit: Lsn, is_feeding: bool, window: u64, now: Time) {
        while let Some((_, appended)) = self.groups.pop_front_if(|(last, _)| *last <= commit) {
            self.heard = now;
            let took = now.since(appended);
            // Where clocks stand still, as they do for a model, nothing is learned.
            if took.is_zero() {
                continue;
            }
            if is_feeding && let Some(usual) = self.usual() {
                let is_late = took > usual * LATE_TIMES;
                let bytes = if is_late { self.bytes / 2 } else { self.bytes + self.bytes / GROWTH };
                self.bytes = bytes.clamp(self.bytes_least, window.max(self.bytes_least));
            } else {
                self.learn(took, now);
            }
        }
    }

    /// What was usual in the calmest of the last stretches, the present one too once it says enough.
    fn usual(&self) -> Option<Duration> {
        let present = (self.learned >= LEARNED_MIN).then_some(self.usual);
        self.stretches.iter().copied().chain(present).min()
    }

    fn learn(&mut self, took: Duration, now: Time) {
        if self.learned >= LEARNED_MIN && now.since(self.learning_since) >= STRETCH {
            if self.stretches.len() == STRETCHES {
                self.stretches.pop_front();
            }
            self.stretches.push_back(self.usual);
            (self.learned, self.learning_since) = (0, now);
        }
        let (part, times) = USUAL;
        self.learned = self.learned.saturating_add(1).min(LEARNED_MIN);
        self.usual = match took.cmp(&self.usual) {
            _ if self.usual.is_zero() => took,
            std::cmp::Ordering::Greater => took.min(self.usual + self.usual / part * times),
            _ => self.usual - self.usual / part,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 16 << 20;

    /// Groups one after another, each committed after so long.
    fn commit(ease: &mut Ease, now: &mut Time, took: impl Iterator<Item = Duration>, is_feeding: bool) {
        for took in took {
            ease.appended(Lsn::FIRST, 100, *now);
            *now = now.plus(took);
            ease.committed(Lsn::FIRST, is_feeding, WINDOW, *now);
        }
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn whoever_catches_up_has_the_window_for_itself_while_nobody_appends() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO.plus(QUIET));
        assert_eq!(ease.bytes(WINDOW, now), WINDOW);
        commit(&mut ease, &mut now, [micros(200)].into_iter(), false);
        assert_eq!(ease.bytes(WINDOW, now), BYTES_MIN);
        // A commit that does not come is no sign of quiet.
        ease.appended(Lsn::FIRST, 100, now);
        now = now.plus(QUIET * 2);
        assert_eq!(ease.bytes(WINDOW, now), BYTES_MIN);
        ease.committed(Lsn::FIRST, true, WINDOW, now);
        assert_eq!(ease.bytes(WINDOW, now.plus(QUIET)), WINDOW);
    }

    #[test]
    fn whoever_is_needed_for_a_commit_is_not_held_back() {
        let mut ease = Ease::new(Time::ZERO);
        ease.appended(Lsn::FIRST, 100, Time::ZERO);
        ease.beat(1, true, WINDOW);
        assert_eq!(ease.bytes(WINDOW, Time::ZERO), WINDOW);
        ease.beat(1, false, WINDOW);
        assert!(ease.bytes(WINDOW, Time::ZERO) < WINDOW);
    }

    #[test]
    fn whoever_catches_up_is_fed_faster_than_the_log_grows_however_late_commits_are() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO);
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(200), 9), false);
        for _ in 0..100 {
            // 3 MiB with each heartbeat, in which the window is filled and emptied twice.
            ease.appended(Lsn::FIRST, 3 << 20, now);
            ease.fed(2 * ease.bytes(WINDOW, now));
            now = now.plus(micros(30_000));
            ease.committed(Lsn::FIRST, true, WINDOW, now);
            ease.beat(1, false, WINDOW);
        }
        assert!((2 << 20..=8 << 20).contains(&ease.bytes), "{ease:?}");
    }

    #[test]
    fn what_is_on_its_way_grows_until_one_commit_of_a_hundred_is_late() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO);
        commit(&mut ease, &mut now, (0..2000).map(|at| micros(200 + at % 100)), false);
        let usual = ease.usual;
        assert!((micros(250)..micros(350)).contains(&usual), "{usual:?}");
        // The more is on its way, the longer commits take: twice what is usual at 4 MiB.
        let mut late = 0;
        for _ in 0..5000 {
            let took = usual.mul_f64(ease.bytes as f64 / f64::from(4 << 20) + 1.0);
            late += u32::from(took > usual * LATE_TIMES);
            commit(&mut ease, &mut now, [took].into_iter(), true);
        }
        assert!((2 << 20..4 << 20).contains(&ease.bytes) && (20..80).contains(&late), "{late} {ease:?}");
        // It never stops, and begins with little again.
        commit(&mut ease, &mut now, std::iter::repeat_n(usual * 10, 20), true);
        assert_eq!(ease.bytes(WINDOW, now), BYTES_MIN);
    }

    #[test]
    fn whoever_comes_next_begins_with_little() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO);
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(200), 2000), false);
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(200), 300), true);
        ease.appended(Lsn::FIRST, 100, now);
        assert!(ease.bytes(WINDOW, now) > 4 * BYTES_MIN, "{ease:?}");
        // Somebody who is gone is not fed, and taken for slow.
        (0..10).for_each(|_| ease.beat(1, false, WINDOW));
        ease.beat(0, false, WINDOW);
        assert_eq!(ease.bytes(WINDOW, now), BYTES_MIN);
    }

    /// Its start was taken for usual, and then it was fed as fast as it took.
    #[test]
    fn a_replica_that_starts_does_not_change_what_is_usual() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO);
        commit(&mut ease, &mut now, (0..8000).map(|at| micros(400 + at % 100)), false);
        // It reads its log, and one commit of ten takes long.
        commit(&mut ease, &mut now, (0..250).map(|at| micros(if at % 10 == 0 { 9000 } else { 450 })), false);
        assert!(ease.usual > micros(2000), "{ease:?}");
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(1500), 20), true);
        ease.appended(Lsn::FIRST, 100, now);
        assert_eq!(ease.bytes(WINDOW, now), BYTES_MIN);
    }

    #[test]
    fn what_takes_longer_for_long_is_usual() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO);
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(300), 8000), false);
        assert!(ease.usual().is_some_and(|usual| (micros(290)..=micros(300)).contains(&usual)), "{ease:?}");
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(3000), 8000), false);
        assert!(ease.usual().is_some_and(|usual| (micros(2900)..=micros(3000)).contains(&usual)), "{ease:?}");
    }

    #[test]
    fn what_may_be_on_its_way_is_spread_over_time_while_somebody_appends() {
        let (mut ease, mut now) = (Ease::new(Time::ZERO), Time::ZERO);
        ease.appended(Lsn::FIRST, 100, now);
        // Where clocks stand still nobody would be fed again.
        assert_eq!((ease.bytes_per_s(None, now), ease.bytes_per_s(Some(7), now)), (None, Some(7)));
        commit(&mut ease, &mut now, std::iter::repeat_n(micros(200), 100), false);
        ease.appended(Lsn::FIRST, 100, now);
        let eased = BYTES_MIN * 1000 / 8;
        assert_eq!(ease.bytes_per_s(None, now), Some(eased));
        assert_eq!(
            (ease.bytes_per_s(Some(7), now), ease.bytes_per_s(Some(eased * 2), now)),
            (Some(7), Some(eased))
        );
        ease.beat(1, true, WINDOW);
        assert_eq!(ease.bytes_per_s(None, now), None);
        ease.beat(1, false, WINDOW);
        ease.committed(Lsn::FIRST, true, WINDOW, now);
        assert_eq!(ease.bytes_per_s(None, now.plus(QUIET)), None);
    }
}
