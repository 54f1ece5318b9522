//! The one thread that wakes clients at their deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::shared::Shared;

/// Deadlines that are closer than this are looked at together.
const TICK: Duration = Duration::from_millis(1);

/// Wakes all clients of the process.
#[derive(Debug, Default)]
pub(super) struct Clock {
    alarms: Mutex<BinaryHeap<Reverse<Alarm>>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Alarm {
    at: Instant,
    whose: Weak<Shared>,
}

impl Clock {
    /// The clock of this process; its thread is started with the first client, and sleeps while nothing is due.
    pub(super) fn of_process() -> &'static Clock {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        static THREAD: OnceLock<()> = OnceLock::new();
        let clock = CLOCK.get_or_init(Clock::default);
        THREAD.get_or_init(|| {
            let thread = std::thread::Builder::new().name("annals-client".to_owned());
            // Without it nothing would ever time out: a process that cannot start a thread is at its end anyway.
            thread.spawn(|| clock.run()).expect("a thread can be started");
        });
        clock
    }

    /// The client wants to be woken then. It may be woken for other reasons, too.
    pub(super) fn set(&self, at: Instant, whose: Weak<Shared>) {
        let mut alarms = self.alarms.lock();
        let is_next = alarms.peek().is_none_or(|Reverse(next)| at < next.at);
        alarms.push(Reverse(Alarm { at, whose }));
        drop(alarms);
        if is_next {
            self.changed.notify_one();
        }
    }

    fn run(&self) -> ! {
        let mut due = Vec::new();
        loop {
            let rest = Instant::now() + TICK;
            self.wait(rest, &mut due);
            for Alarm { at, whose } in due.drain(..) {
                if let Some(shared) = whose.upgrade() {
                    shared.alarm(at);
                }
            }
        }
    }

    /// Takes what is due, once there is something, and not before `rest`.
    fn wait(&self, rest: Instant, due: &mut Vec<Alarm>) {
        let mut alarms = self.alarms.lock();
        loop {
            let now = Instant::now();
            if now < rest {
                self.changed.wait_until(&mut alarms, rest);
                continue;
            }
            while alarms.peek().is_some_and(|Reverse(next)| next.at <= now) {
                due.extend(alarms.pop().map(|Reverse(alarm)| alarm));
            }
            if !due.is_empty() {
                return;
            }
            match alarms.peek().map(|Reverse(next)| next.at) {
                Some(at) => drop(self.changed.wait_until(&mut alarms, at)),
                None => self.changed.wait(&mut alarms),
            }
        }
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Alarm) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Alarm) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Alarm) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
