//! What each client has under way with the readers, and how much of that is allowed.

use std::collections::{HashMap, HashSet};

use crate::protocol::request::{ClientRole, READS_MAX, Refused, SUBSCRIPTIONS_MAX};

/// A client's connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) role: ClientRole,
    /// The numbers of its reads that are not answered.
    reads: HashSet<u64>,
    /// Its subscriptions, by their numbers: each with its life.
    subscriptions: HashMap<u64, u64>,
    /// How many subscriptions have begun.
    lives: u64,
}

impl Session {
    pub(super) fn new(role: ClientRole) -> Session {
        Session { role, reads: HashSet::new(), subscriptions: HashMap::new(), lives: 0 }
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

    /// It subscribes. Gives the life of the subscription: another one may bear its number later, and what was read for this
    /// one, or is said of its end, may come only then.
    ///
    /// # Errors
    /// Why that is not done.
    pub(super) fn begin_subscription(&mut self, number: u64) -> Result<u64, Refused> {
        self.check(number)?;
        if self.subscriptions.len() == SUBSCRIPTIONS_MAX {
            // It is only the client itself that can end one: to ask again later would not help.
            let reason = format!(
                "a connection has at most {SUBSCRIPTIONS_MAX} subscriptions; end one, or open another connection"
            );
            return Err(Refused::NotPossible { reason });
        }
        self.lives += 1;
        self.subscriptions.insert(number, self.lives);
        Ok(self.lives)
    }

    /// Whether this is the life of the subscription that bears the number now.
    pub(super) fn has(&self, number: u64, life: u64) -> bool {
        self.subscriptions.get(&number) == Some(&life)
    }

    /// No more of a subscription.
    pub(super) fn end_subscription(&mut self, number: u64) {
        self.subscriptions.remove(&number);
    }

    /// The readers have read once, or could not.
    pub(super) fn has_read(&mut self, number: u64) {
        self.reads.remove(&number);
    }

    fn check(&self, number: u64) -> Result<(), Refused> {
        if self.reads.contains(&number) || self.subscriptions.contains_key(&number) {
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
            session.begin_subscription(number).unwrap();
        }
        assert!(matches!(session.begin_subscription(3000), Err(Refused::NotPossible { .. })));

        // A read ends with its answer, a subscription when it is ended.
        session.has_read(5);
        assert_eq!(session.begin_read(1000), Ok(()));
        session.has_read(2000);
        assert!(session.begin_subscription(3000).is_err());
        session.end_subscription(2000);
        session.begin_subscription(3000).unwrap();
        assert!(session.begin_subscription(3001).is_err());
    }

    #[test]
    fn what_is_said_late_of_a_subscription_that_has_ended_is_not_taken_for_the_next_of_its_number() {
        let mut session = Session::new(ClientRole::Read);
        let before = session.begin_subscription(1).unwrap();
        assert!(session.has(1, before));
        session.end_subscription(1);
        assert!(!session.has(1, before));
        let next = session.begin_subscription(1).unwrap();
        assert!(session.has(1, next) && !session.has(1, before));
    }

    #[test]
    fn a_number_is_used_by_one_request_at_a_time() {
        let mut session = Session::new(ClientRole::Read);
        assert_eq!(session.begin_read(1), Ok(()));
        session.begin_subscription(2).unwrap();
        for number in [1, 2] {
            assert!(matches!(session.begin_read(number), Err(Refused::NotPossible { .. })));
            assert!(matches!(session.begin_subscription(number), Err(Refused::NotPossible { .. })));
        }
        session.has_read(1);
        assert_eq!(session.begin_read(1), Ok(()));
    }
}
