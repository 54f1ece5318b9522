//! A client's attempts to connect to one address.
//!
//! Whoever starts at the other end is to be found soon. QUIC alone would not: a first packet that nobody takes is sent again
//! after pauses that double, and only a *connected* socket is told by the other host that nobody listens. So the port is
//! asked while a handshake is under way, and where nothing at all is answered, further attempts are made beside the first
//! one, whose packets fall into its pauses. They are few: each costs a silent host packets of its own, and a slow replica a
//! handshake. A replica that has no room for one more is sent no more of them.

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
/// Attempts, at most.
const ATTEMPTS_MAX: usize = 3;
/// The longest pause between two questions to the port.
const ASK_MAX: Duration = Duration::from_millis(250);

/// The first connection that stands, or a refusal that holds for all attempts, or the last one's failure. `begin` begins an
/// attempt; `pace` is the first pause between two questions to the port, or zero if it is asked only once. Gives nothing while
/// nothing is answered.
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
    let mut attempts = Attempts { under_way: vec![begin()?], left: ATTEMPTS_MAX - 1 };
    let mut more = Pace::of_attempts(Instant::now());
    let mut ask = Pace::of_questions(Instant::now(), pace);
    loop {
        let until = if attempts.left > 0 { ask.at.min(more.at) } else { ask.at };
        if let Ok(done) = timeout_at(until, poll_fn(|cx| attempts.poll(cx))).await {
            return done.map_err(|why| tls::explain(&why, address, Speech::Client));
        }
        let now = Instant::now();
        if ask.is_due(now) && !pace.is_zero() {
            check()?;
        }
        if attempts.left > 0 && more.is_due(now) {
            attempts.left -= 1;
            attempts.under_way.push(begin()?);
        }
    }
}

/// Those that are under way, at least one.
struct Attempts<A> {
    under_way: Vec<A>,
    /// So many more may be made.
    left: usize,
}

impl<A, C> Attempts<A>
where
    A: Future<Output = Result<C, ConnectionError>> + Unpin,
{
    /// The first connection that stands, or why there will be none. What concerns one attempt alone ends that one alone, while
    /// others are under way: the other side may be nearly done with those.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<C, ConnectionError>> {
        let mut at = 0;
        while let Some(attempt) = self.under_way.get_mut(at) {
            match Pin::new(attempt).poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Err(why)) if !tls::is_verdict(&why) && self.under_way.len() > 1 => {
                    drop(self.under_way.swap_remove(at));
                    if matches!(tls::explain(&why, "", Speech::Client), TransportError::TooMany) {
                        self.left = 0;
                    }
                }
                done @ Poll::Ready(_) => return done,
            }
        }
        Poll::Pending
    }
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
    use std::task::Waker;

    use bytes::Bytes;
    use quinn::{ApplicationClose, ConnectionClose, TransportErrorCode};

    use super::super::close::CloseCode;
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

    /// The first few attempts, each with what it comes to, and what they come to together.
    fn together<const N: usize>(
        attempts: [Poll<Result<u8, ConnectionError>>; N],
    ) -> (Poll<Result<u8, ConnectionError>>, Attempts<impl Future>) {
        let under_way = attempts.map(|outcome| poll_fn(move |_| outcome.clone())).into();
        let mut attempts = Attempts { under_way, left: ATTEMPTS_MAX - N };
        (attempts.poll(&mut Context::from_waker(Waker::noop())), attempts)
    }

    /// As the other side says it before there is a connection.
    fn closed(code: TransportErrorCode) -> ConnectionError {
        let close = ConnectionClose { error_code: code, frame_type: None, reason: Bytes::new() };
        ConnectionError::ConnectionClosed(close)
    }

    fn too_many() -> ConnectionError {
        closed(TransportErrorCode::CONNECTION_REFUSED)
    }

    /// Many clients begin their second attempts at a busy replica: those are too many, and the first ones are nearly done.
    #[test]
    fn an_attempt_that_is_one_too_many_ends_alone_and_is_the_last_one() {
        let (outcome, attempts) = together([Poll::Pending, Poll::Ready(Err(too_many()))]);
        assert_eq!(outcome, Poll::Pending);
        assert_eq!((attempts.under_way.len(), attempts.left), (1, 0));
    }

    /// Where a connection may be silent for less long than it may take to connect.
    #[test]
    fn an_attempt_that_is_over_its_time_ends_alone() {
        let (outcome, attempts) = together([Poll::Ready(Err(ConnectionError::TimedOut)), Poll::Pending]);
        assert_eq!(outcome, Poll::Pending);
        assert_eq!((attempts.under_way.len(), attempts.left), (1, ATTEMPTS_MAX - 2));
        let timed_out = || Poll::Ready(Err(ConnectionError::TimedOut));
        assert_eq!(together([timed_out(), Poll::Ready(Ok(2))]).0, Poll::Ready(Ok(2)));
    }

    #[test]
    fn the_last_attempts_failure_is_that_of_all() {
        for why in [too_many(), ConnectionError::TimedOut] {
            assert_eq!(together([Poll::Ready(Err(why.clone()))]).0, Poll::Ready(Err(why.clone())));
            let both = [Poll::Ready(Err(too_many())), Poll::Ready(Err(why.clone()))];
            assert_eq!(together(both).0, Poll::Ready(Err(why)));
        }
    }

    /// Every attempt would be told the same.
    #[test]
    fn a_verdict_ends_all_attempts() {
        let own = ConnectionError::TransportError(TransportErrorCode::crypto(42).into());
        let wrong_name = ApplicationClose { error_code: CloseCode::WrongName.number(), reason: Bytes::new() };
        let theirs = [48, 120, 40].map(|alert| closed(TransportErrorCode::crypto(alert)));
        let others = [own, ConnectionError::ApplicationClosed(wrong_name), ConnectionError::VersionMismatch];
        for why in theirs.into_iter().chain(others) {
            assert_eq!(together([Poll::Pending, Poll::Ready(Err(why.clone()))]).0, Poll::Ready(Err(why)));
        }
    }

    #[test]
    fn a_second_attempt_is_made_after_a_quarter_of_a_second_and_a_third_after_twice_that() {
        let begin = Instant::now();
        assert_eq!(pauses(begin, Pace::of_attempts(begin))[..ATTEMPTS_MAX - 1], [250, 500]);
    }

    #[test]
    fn the_port_is_asked_after_pauses_that_double_up_to_a_quarter_of_a_second() {
        let begin = Instant::now();
        let first = Duration::from_millis(40);
        assert_eq!(pauses(begin, Pace::of_questions(begin, first)), [40, 80, 160, 250, 250]);
        assert_eq!(pauses(begin, Pace::of_questions(begin, first * 100))[0], 250);
    }
}
