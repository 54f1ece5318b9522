//! Who may be connected: so many at a time, so many of one network, and when all places are taken, each network its share.
//!
//! While there is room, whoever comes has a place. When there is none, the network that has most gives its oldest one up to
//! one that would still have fewer: max-min fairness. So as long as there are not more networks than places, each of
//! them has at least one, whatever a few others do together.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// The places of a node.
#[derive(Clone)]
pub(super) struct Crowd {
    shared: Arc<Shared>,
}

struct Shared {
    places_max: usize,
    of_one_network_max: usize,
    taken: Mutex<Taken>,
    /// A place was left.
    left: Notify,
}

#[derive(Default)]
struct Taken {
    /// Those of proxies, which count for no network, are among them.
    places: usize,
    /// The connections of each network, the oldest first.
    networks: HashMap<IpAddr, VecDeque<Connection>>,
    next_number: u64,
}

/// A connection that has a place.
struct Connection {
    number: u64,
    /// Dropped to have it leave.
    _stays: oneshot::Sender<()>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    /// Whose it is, and its number there; `None` if it counts for no network.
    holder: Option<(IpAddr, u64)>,
    stays: Option<oneshot::Receiver<()>>,
}

impl Crowd {
    pub(super) fn new(places_max: usize, of_one_network_max: usize) -> Crowd {
        let (taken, left) = (Mutex::default(), Notify::new());
        Crowd { shared: Arc::new(Shared { places_max, of_one_network_max, taken, left }) }
    }

    /// A place for a connection of this network; `None` if it has as many as it may have now.
    pub(super) fn enter(&self, network: IpAddr) -> Option<Place> {
        let mut taken = self.shared.taken.lock();
        let count = taken.networks.get(&network).map_or(0, VecDeque::len);
        if count >= self.shared.of_one_network_max {
            return None;
        }
        if taken.places == self.shared.places_max {
            // Whoever would have as many then is not asked: the two would only take turns.
            taken.give_up_one(count + 1)?;
        }
        let (stays, asked) = oneshot::channel();
        let number = taken.next_number;
        taken.next_number += 1;
        taken.places += 1;
        taken.networks.entry(network).or_default().push_back(Connection { number, _stays: stays });
        Some(Place { shared: Arc::clone(&self.shared), holder: Some((network, number)), stays: Some(asked) })
    }

    /// A place for a connection that counts for no network, and is never asked for: waits until there is one.
    pub(super) async fn enter_uncounted(&self) -> Place {
        loop {
            // Before the look, so that none is missed that is left after it.
            let left = self.shared.left.notified();
            {
                let mut taken = self.shared.taken.lock();
                if taken.places < self.shared.places_max || taken.give_up_one(0).is_some() {
                    taken.places += 1;
                    return Place { shared: Arc::clone(&self.shared), holder: None, stays: None };
                }
            }
            left.await;
        }
    }
}

impl Taken {
    /// The network that has most loses its oldest place, if it has more than so many.
    fn give_up_one(&mut self, more_than: usize) -> Option<()> {
        let (network, connections) = self.networks.iter_mut().max_by_key(|(_, list)| list.len())?;
        if connections.len() <= more_than {
            return None;
        }
        let network = *network;
        drop(connections.pop_front());
        self.forget_if_empty(network);
        self.places -= 1;
        Some(())
    }

    fn leave(&mut self, holder: Option<(IpAddr, u64)>) {
        let Some((network, number)) = holder else {
            self.places -= 1;
            return;
        };
        let Some(connections) = self.networks.get_mut(&network) else { return };
        // One that was given up is not there any more.
        if let Ok(index) = connections.binary_search_by_key(&number, |connection| connection.number) {
            connections.remove(index);
            self.places -= 1;
        }
        self.forget_if_empty(network);
    }

    fn forget_if_empty(&mut self, network: IpAddr) {
        if self.networks.get(&network).is_some_and(VecDeque::is_empty) {
            self.networks.remove(&network);
        }
    }
}

impl Place {
    /// Waits until the place is given to another network.
    pub(super) async fn lost(&mut self) {
        match &mut self.stays {
            Some(stays) => {
                // Nothing is ever sent: it is dropped.
                let _ = stays.await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.taken.lock().leave(self.holder);
        self.shared.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(last: usize) -> IpAddr {
        let [.., high, low] = last.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    fn is_lost(place: &mut Place) -> bool {
        place
            .stays
            .as_mut()
            .is_some_and(|stays| stays.try_recv() == Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn one_network_cannot_have_all_connections() {
        let crowd = Crowd::new(512, 64);
        let mut all: Vec<_> = (0..64).map(|_| crowd.enter(network(1)).unwrap()).collect();
        assert!(crowd.enter(network(1)).is_none());
        assert!(crowd.enter(network(2)).is_some());
        all.pop();
        all.extend(crowd.enter(network(1)));
        assert_eq!(all.len(), 64);
        assert!(all.iter_mut().all(|place| !is_lost(place)), "there was room for all");
        drop(all);
        let taken = crowd.shared.taken.lock();
        assert!(taken.networks.is_empty() && taken.places == 0);
    }

    #[test]
    fn networks_that_have_all_connections_together_give_some_up() {
        let crowd = Crowd::new(512, 64);
        let mut greedy: Vec<Place> =
            (0..512).map(|number| crowd.enter(network(number % 8)).unwrap()).collect();
        let mut ours = vec![];
        while let Some(place) = crowd.enter(network(8)) {
            ours.push(place);
        }
        // A ninth of them, and the oldest of the others have gone for it.
        assert_eq!(ours.len(), 512 / 9);
        assert!(ours.iter_mut().all(|place| !is_lost(place)));
        let lost: Vec<bool> = greedy.iter_mut().map(is_lost).collect();
        let expected: Vec<bool> = (0..512).map(|number| number < ours.len()).collect();
        assert_eq!(lost, expected);
        assert_eq!(crowd.shared.taken.lock().places, 512);
        drop((greedy, ours));
        assert_eq!(crowd.shared.taken.lock().places, 0);
    }

    #[test]
    fn whoever_has_one_connection_keeps_it() {
        let crowd = Crowd::new(512, 64);
        let mut all: Vec<_> = (0..512).map(|number| crowd.enter(network(number)).unwrap()).collect();
        assert!(crowd.enter(network(512)).is_none());
        assert!(crowd.enter(network(0)).is_none());
        assert!(all.iter_mut().all(|place| !is_lost(place)));
    }

    #[tokio::test]
    async fn a_proxy_waits_for_its_own_connections_and_for_nobody_elses() {
        let crowd = Crowd::new(2, 1);
        let first = crowd.enter_uncounted().await;
        let mut other = crowd.enter(network(1)).unwrap();
        let second = crowd.enter_uncounted().await;
        assert!(is_lost(&mut other));
        assert!(crowd.enter(network(1)).is_none());
        let third = tokio::spawn({
            let crowd = crowd.clone();
            async move { crowd.enter_uncounted().await }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(other);
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "what was given up before is no place");
        drop(second);
        let third = third.await.unwrap();
        drop((first, third));
        assert_eq!(crowd.shared.taken.lock().places, 0);
    }
}
