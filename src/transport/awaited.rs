//! What a link waits for: the replies to its requests, and, as long as it subscribes, whatever comes next.

use std::collections::BTreeSet;

use crate::protocol::request::{Reply, Request};

/// What a request means to whoever waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// It has one reply.
    Once(u64),
    /// It has replies until it is over.
    Standing(u64),
    /// A standing one is over; this request itself has no reply.
    Over(u64),
    /// It has no reply.
    Nothing,
}

impl Asked {
    /// By this request, which bears this number.
    pub(crate) const fn by(number: u64, request: &Request) -> Asked {
        match request {
            Request::Subscribe { .. } => Asked::Standing(number),
            Request::Unsubscribe { subscription } => Asked::Over(*subscription),
            Request::Credit { .. } => Asked::Nothing,
            _ => Asked::Once(number),
        }
    }
}

/// The numbers of the requests that have replies to come.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    once: BTreeSet<u64>,
    standing: BTreeSet<u64>,
}

impl Awaited {
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_urgent() && self.standing.is_empty()
    }

    /// Whether there is more than subscriptions, which may well be quiet.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.once.is_empty()
    }

    pub(crate) fn ask(&mut self, asked: Asked) {
        match asked {
            Asked::Once(number) => drop(self.once.insert(number)),
            Asked::Standing(number) => drop(self.standing.insert(number)),
            Asked::Over(number) => drop(self.standing.remove(&number)),
            Asked::Nothing => {}
        }
    }

    pub(crate) fn take(&mut self, number: u64, reply: &Reply) {
        self.once.remove(&number);
        if matches!(reply, Reply::Refused(_)) {
            self.standing.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::Refused;
    use crate::types::Lsn;

    fn asked(awaited: &mut Awaited, number: u64, request: &Request) {
        awaited.ask(Asked::by(number, request));
    }

    #[test]
    fn a_request_is_awaited_until_its_reply() {
        let mut awaited = Awaited::default();
        asked(&mut awaited, 1, &Request::Status);
        asked(&mut awaited, 2, &Request::Register);
        awaited.take(2, &Reply::Done);
        assert!(awaited.is_urgent());
        // One that nobody asked for changes nothing.
        awaited.take(3, &Reply::Done);
        assert!(awaited.is_urgent());
        awaited.take(1, &Reply::Done);
        assert!(awaited.is_empty());
    }

    #[test]
    fn a_subscription_is_awaited_until_it_is_over() {
        let subscribe = Request::Subscribe { from: Lsn::FIRST, credit_bytes: 1 };
        let mut awaited = Awaited::default();
        asked(&mut awaited, 1, &subscribe);
        asked(&mut awaited, 2, &subscribe);
        for _ in 0..3 {
            awaited.take(1, &Reply::Done);
            asked(&mut awaited, 3, &Request::Credit { subscription: 1, bytes: 1 });
        }
        assert!(!awaited.is_empty() && !awaited.is_urgent());
        asked(&mut awaited, 4, &Request::Unsubscribe { subscription: 1 });
        assert!(!awaited.is_empty());
        awaited.take(2, &Reply::Refused(Refused::Busy));
        assert!(awaited.is_empty());
        // What was on its way then.
        awaited.take(1, &Reply::Done);
        assert!(awaited.is_empty());
    }
}
