//! Timers that can be moved to later without waking anybody at the earlier time.
//!
//! A sleep of tokio that is moved to later keeps its place in the wheel of timers: the thread wakes up there, finds
//! nothing due and moves it on. That is cheap for whoever is awake anyway. In an idle cluster, where each heartbeat moves
//! the timers of a connection and of the hub, it was almost every second waking of a backup: 155 a second, and now 82.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::time::{Sleep, sleep_until};

/// A time to wait for.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(super) fn at(due: Instant) -> Timer {
        Timer { sleep: Box::pin(sleep_until(due.into())) }
    }

    /// Waits for another time, and no longer for the one before.
    pub(super) fn set(&mut self, due: Instant) {
        if self.sleep.deadline().into_std() != due {
            self.sleep.set(sleep_until(due.into()));
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.sleep.as_mut(), cx)
    }
}

impl AsyncTimer for Timer {
    fn reset(self: Pin<&mut Self>, due: Instant) {
        self.get_mut().set(due);
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context) -> Poll<()> {
        self.get_mut().poll(cx)
    }
}

/// quinn on tokio, with these timers.
#[derive(Debug)]
pub(super) struct Tokio;

impl Runtime for Tokio {
    fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer::at(due))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_that_is_moved_to_later_wakes_nobody_at_the_earlier_time() {
        let parked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&parked);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let count_parks = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let runtime = builder.enable_time().on_thread_park(count_parks).build().unwrap();
        runtime.block_on(async {
            let begun = Instant::now();
            let times = (1..=20).map(|place| begun + place * Duration::from_millis(5));
            let mut timers: Vec<_> = times.map(Timer::at).collect();
            let moved = poll_fn(|cx| {
                for timer in &mut timers {
                    let _ = timer.poll(cx);
                    timer.set(begun + Duration::from_secs(3600));
                    let _ = timer.poll(cx);
                }
                Poll::Ready(())
            });
            moved.await;
            parked.store(0, Ordering::Relaxed);
            sleep_until((begun + Duration::from_millis(110)).into()).await;
        });
        // One for the time that is waited for, and one or two because the wheel is coarse far ahead.
        let parked = parked.load(Ordering::Relaxed);
        assert!(parked <= 5, "{parked}");
    }

    #[test]
    fn a_timer_that_is_moved_to_earlier_is_due_then() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::at(Instant::now() + Duration::from_secs(3600));
            let moved = poll_fn(|cx| {
                assert!(timer.poll(cx).is_pending());
                timer.set(Instant::now() + Duration::from_millis(1));
                Poll::Ready(())
            });
            moved.await;
            poll_fn(|cx| timer.poll(cx)).await;
        });
    }
}
