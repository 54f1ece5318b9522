//! A client's attempts to connect to one address.
//!
//! Whoever starts at the other end is to be found soon. QUIC alone would not: a first packet that nobody takes is sent again
//! after pauses that double, and only a *connected* socket is told by the other host that nobody listens. So the port is
//! asked while a handshake is under way, and where nothing at all is answered, further attempts are made beside the first
//! one. They are few: a dead host costs a handful of packets, and a slow replica at most so many handshakes.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{Connecting, Connection, ConnectionError};
use tokio::time::{Instant, timeout_at};

use super::error::TransportError;
use super::probe::Probe;
use super::tls::{self, Speech};

/// After so long without an answer a second attempt is made; then a third after twice that time.
const PATIENCE: Duration = Duration::from_millis(250);
/// Attempts that are under way at once, at most.
const ATTEMPTS_MAX: usize = 3;
/// The longest pause between two questions to the port.
const ASK_MAX: Duration = Duration::from_millis(250);

/// The first connection that stands, or the first refusal. `begin` begins an attempt; `pace` is the first pause between two
/// questions to the port, or zero if it is asked only once. Gives nothing while nothing is answered.
pub(super) async fn connect(
    there: SocketAddr,
    address: &str,
    pace: Duration,
    begin: impl Fn() -> Result<Connecting, TransportError>,
) -> Result<Connection, TransportError> {
    let port = Probe::new(there).ok();
    let check = || match &port {
        Some(port) if port.is_refused() => Err(TransportError::Unreachable { address: address.to_owned() }),
        _ => Ok(()),
    };
    check()?;
    let mut attempts = vec![begin()?];
    let mut more = Pace::of_attempts(Instant::now());
    let mut ask = Pace::of_questions(Instant::now(), pace);
    loop {
        let until = if attempts.len() < ATTEMPTS_MAX { ask.at.min(more.at) } else { ask.at };
        if let Ok(done) = timeout_at(until, poll_fn(|cx| poll_any(&mut attempts, cx))).await {
            return done.map_err(|why| tls::explain(&why, address, Speech::Client));
        }
        let now = Instant::now();
        if ask.is_due(now) && !pace.is_zero() {
            check()?;
        }
        if attempts.len() < ATTEMPTS_MAX && more.is_due(now) {
            attempts.push(begin()?);
        }
    }
}

fn poll_any(attempts: &mut [Connecting], cx: &mut Context<'_>) -> Poll<Result<Connection, ConnectionError>> {
    let mut polled = attempts.iter_mut().map(|attempt| Pin::new(attempt).poll(cx));
    polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
}

/// Moments with pauses between them that double.
struct Pace {
    at: Instant,
    pause: Duration,
    most: Duration,
}

impl Pace {
    fn of_attempts(now: Instant) -> Pace {
        Pace::new(now, PATIENCE, PATIENCE * 2)
    }

    fn of_questions(now: Instant, first: Duration) -> Pace {
        Pace::new(now, first, ASK_MAX)
    }

    fn new(now: Instant, first: Duration, most: Duration) -> Pace {
        let pause = if first.is_zero() { most } else { first.min(most) };
        Pace { at: now + pause, pause, most }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.at;
        if is_due {
            self.pause = (self.pause * 2).min(self.most);
            self.at = now + self.pause;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses between the first moments of a pace, for somebody who is never late.
    fn pauses(begin: Instant, mut pace: Pace) -> Vec<u64> {
        let mut now = begin;
        let pause = |_| {
            let next = pace.at;
            assert!(!pace.is_due(next - Duration::from_millis(1)) && pace.is_due(next));
            let pause = next - now;
            now = next;
            pause.as_millis() as u64
        };
        (0..5).map(pause).collect()
    }

    #[test]
    fn all_attempts_are_made_before_quic_sends_a_first_packet_again() {
        let begin = Instant::now();
        let pauses = pauses(begin, Pace::of_attempts(begin));
        // Three times the round trip that it begins with, which is a third of a second (RFC 9002, section 6.2.2).
        assert!(pauses[..ATTEMPTS_MAX - 1].iter().sum::<u64>() < 999);
        // Whoever is there and far away has answered the first attempt by then.
        assert!(pauses[0] >= 200);
    }

    #[test]
    fn the_port_is_asked_after_pauses_that_double_up_to_a_quarter_of_a_second() {
        let begin = Instant::now();
        let first = Duration::from_millis(40);
        assert_eq!(pauses(begin, Pace::of_questions(begin, first)), [40, 80, 160, 250, 250]);
        assert_eq!(pauses(begin, Pace::of_questions(begin, first * 100))[0], 250);
    }
}
