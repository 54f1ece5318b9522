//! What each client has under way with the readers, and how much of that is allowed.

use std::collections::HashSet;

use crate::protocol::request::{ClientRole, READS_MAX, Refused, SUBSCRIPTIONS_MAX};

/// A client's connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) role: ClientRole,
    /// The numbers of its reads that are not answered.
    reads: HashSet<u64>,
    /// The numbers of its subscriptions.
    subscriptions: HashSet<u64>,
}

impl Session {
    pub(super) fn new(role: ClientRole) -> Session {
        Session { role, reads: HashSet::new(), subscriptions: HashSet::new() }
    }

    /// Something is to be read once.
    ///
    /// # Errors
    /// Why that is not done.
    pub(super) fn begin_read(&mut self, number: u64) -> Result<(), Refused> {
        self.check(number)?;
        if self.reads.len() == READS_MAX {
            return Err(Refused::Busy);
        }
        self.reads.insert(number);
        Ok(())
    }

    /// It subscribes.
    ///
    /// # Errors
    /// Why that is not done.
    pub(super) fn begin_subscription(&mut self, number: u64) -> Result<(), Refused> {
        self.check(number)?;
        if self.subscriptions.len() == SUBSCRIPTIONS_MAX {
            // It is only the client itself that can end one: to ask again later would not help.
            let reason = format!(
                "a connection has at most {SUBSCRIPTIONS_MAX} subscriptions; end one, or open another connection"
            );
            return Err(Refused::NotPossible { reason });
        }
        self.subscriptions.insert(number);
        Ok(())
    }

    /// No more of a subscription.
    pub(super) fn end_subscription(&mut self, number: u64) {
        self.subscriptions.remove(&number);
    }

    /// The readers have answered: a read that is the end of it, a subscription only if it is refused.
    pub(super) fn answered(&mut self, number: u64, is_refused: bool) {
        if !self.reads.remove(&number) && is_refused {
            self.subscriptions.remove(&number);
        }
    }

    fn check(&self, number: u64) -> Result<(), Refused> {
        if self.reads.contains(&number) || self.subscriptions.contains(&number) {
            let reason = format!("request {number} is under way; give each its own number");
            return Err(Refused::NotPossible { reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_under_way_and_no_more() {
        let mut session = Session::new(ClientRole::Read);
        for number in 0..READS_MAX as u64 {
            assert_eq!(session.begin_read(number), Ok(()));
        }
        assert_eq!(session.begin_read(1000), Err(Refused::Busy));
        for number in 2000..2000 + SUBSCRIPTIONS_MAX as u64 {
            assert_eq!(session.begin_subscription(number), Ok(()));
        }
        assert!(matches!(session.begin_subscription(3000), Err(Refused::NotPossible { .. })));

        // A read ends with its answer; a subscription when it is refused, or ended.
        session.answered(5, false);
        assert_eq!(session.begin_read(1000), Ok(()));
        session.answered(2000, false);
        assert!(session.begin_subscription(3000).is_err());
        session.answered(2000, true);
        assert_eq!(session.begin_subscription(3000), Ok(()));
        session.end_subscription(3000);
        assert_eq!(session.begin_subscription(3001), Ok(()));
    }

    #[test]
    fn a_number_is_used_by_one_request_at_a_time() {
        let mut session = Session::new(ClientRole::Read);
        assert_eq!(session.begin_read(1), Ok(()));
        assert_eq!(session.begin_subscription(2), Ok(()));
        for number in [1, 2] {
            assert!(matches!(session.begin_read(number), Err(Refused::NotPossible { .. })));
            assert!(matches!(session.begin_subscription(number), Err(Refused::NotPossible { .. })));
        }
        session.answered(1, false);
        assert_eq!(session.begin_read(1), Ok(()));
    }
}
