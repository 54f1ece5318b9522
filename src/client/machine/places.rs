//! Where replicas are found: the endpoints that were given, and what the cluster has told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LinkId;
use super::settings::Chance;
use crate::types::ReplicaId;

/// Addresses that are kept, at most.
const PLACES_MAX: usize = 64;
/// The pause before a place is dialed again, and what it grows to: as a replica's.
const REDIAL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// One of the places, for good: none is ever removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PlaceIndex(usize);

/// An address, and the connection to it.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) address: Arc<str>,
    /// Who is there, as its certificate said or another replica did.
    pub(super) id: Option<ReplicaId>,
    pub(super) link: Link,
    /// The round in which it was asked last on somebody's word.
    pub(super) asked_in: u64,
    /// The status that is awaited from it.
    pub(super) asked: Option<u64>,
    failures: u32,
}

/// The connection to a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// None; it is not dialed before then.
    Down {
        until: Option<Instant>,
    },
    Dialing(LinkId),
    Up(LinkId),
}

impl Link {
    const fn id(self) -> Option<LinkId> {
        match self {
            Link::Down { .. } => None,
            Link::Dialing(link) | Link::Up(link) => Some(link),
        }
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    spots: Vec<Spot>,
    links: u64,
    /// Where the next search begins.
    cursor: usize,
}

impl Places {
    /// The endpoints; a search begins at any of them, so that many clients do not all ask the same.
    pub(super) fn new(endpoints: &[Arc<str>], chance: &mut Chance) -> Places {
        let mut places = Places { spots: vec![], links: 0, cursor: 0 };
        for address in endpoints {
            places.add(address, None);
        }
        places.cursor = chance.below(places.spots.len() as u64) as usize;
        places
    }

    /// The place with this address, made if there is none and room for it.
    pub(super) fn add(&mut self, address: &Arc<str>, id: Option<ReplicaId>) -> Option<PlaceIndex> {
        if let Some(index) = self.spots.iter().position(|spot| spot.address == *address) {
            if let (Some(_), None) = (id, self.spots[index].id) {
                self.spots[index].id = id;
            }
            return Some(PlaceIndex(index));
        }
        if self.spots.len() == PLACES_MAX {
            return None;
        }
        let link = Link::Down { until: None };
        self.spots.push(Spot {
            address: Arc::clone(address),
            id,
            link,
            asked_in: 0,
            asked: None,
            failures: 0,
        });
        Some(PlaceIndex(self.spots.len() - 1))
    }

    /// A replica tells of another. Where that one is known and there, nothing changes.
    pub(super) fn told(&mut self, id: ReplicaId, address: &str) {
        let is_there = |spot: &Spot| {
            spot.id == Some(id) && (matches!(spot.link, Link::Up(_)) || *spot.address == *address)
        };
        if !self.spots.iter().any(is_there) {
            self.add(&address.into(), Some(id));
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = PlaceIndex> + use<> {
        (0..self.spots.len()).map(PlaceIndex)
    }

    pub(super) fn spot(&mut self, place: PlaceIndex) -> &mut Spot {
        &mut self.spots[place.0]
    }

    /// Where the replica with this id is; one with a connection before one without.
    pub(super) fn with_id(&self, id: ReplicaId) -> Option<PlaceIndex> {
        let known = || self.all().filter(|place| self.spots[place.0].id == Some(id));
        known().find(|place| self.up(*place).is_some()).or_else(|| {
            let reachable = |place: &PlaceIndex| self.spots[place.0].failures == 0;
            known().find(reachable).or_else(|| known().next())
        })
    }

    pub(super) fn at(&self, address: &str) -> Option<PlaceIndex> {
        self.all().find(|place| *self.spots[place.0].address == *address)
    }

    /// The place of a link, unless it is lost.
    pub(super) fn of(&self, link: LinkId) -> Option<PlaceIndex> {
        self.all().find(|place| self.spots[place.0].link.id() == Some(link))
    }

    /// The link to a place, if it is connected.
    pub(super) fn up(&self, place: PlaceIndex) -> Option<LinkId> {
        match self.spots[place.0].link {
            Link::Up(link) => Some(link),
            Link::Down { .. } | Link::Dialing(_) => None,
        }
    }

    /// Anything that is connected.
    pub(super) fn any_up(&self) -> Option<PlaceIndex> {
        self.all().find(|place| self.up(*place).is_some())
    }

    /// The next place to begin a search at.
    pub(super) fn next(&mut self) -> PlaceIndex {
        self.cursor = (self.cursor + 1) % self.spots.len();
        PlaceIndex(self.cursor)
    }

    /// A link to dial, with its address, if the place has none and may be dialed.
    pub(super) fn dial(&mut self, now: Instant, place: PlaceIndex) -> Option<(LinkId, Arc<str>)> {
        let spot = &mut self.spots[place.0];
        let Link::Down { until } = spot.link else { return None };
        if until.is_some_and(|until| now < until) {
            return None;
        }
        self.links += 1;
        let link = LinkId(self.links);
        spot.link = Link::Dialing(link);
        Some((link, Arc::clone(&spot.address)))
    }

    /// A link is there, to this replica.
    pub(super) fn connected(&mut self, link: LinkId, id: Option<ReplicaId>) -> Option<PlaceIndex> {
        let place = self.of(link)?;
        if id.is_some() {
            // Whoever was thought to be this replica is not: it would be asked in its stead.
            self.spots.iter_mut().filter(|spot| spot.id == id).for_each(|spot| {
                if !matches!(spot.link, Link::Up(_)) {
                    spot.id = None;
                }
            });
        }
        let spot = &mut self.spots[place.0];
        (spot.link, spot.id, spot.failures) = (Link::Up(link), id.or(spot.id), 0);
        Some(place)
    }

    /// A link is lost. It is dialed again after a pause that grows with each failure.
    pub(super) fn closed(&mut self, now: Instant, link: LinkId, chance: &mut Chance) -> Option<PlaceIndex> {
        let place = self.of(link)?;
        let spot = &mut self.spots[place.0];
        let pause = chance.pause(REDIAL, spot.failures);
        spot.link = Link::Down { until: Some(now + pause) };
        spot.asked = None;
        spot.failures = spot.failures.saturating_add(1);
        Some(place)
    }

    /// When a place may be dialed again, if it may not now.
    pub(super) fn wait_for(&self, place: PlaceIndex) -> Option<Instant> {
        match self.spots[place.0].link {
            Link::Down { until } => until,
            Link::Dialing(_) | Link::Up(_) => None,
        }
    }

    pub(super) fn links(&self) -> Vec<LinkId> {
        self.spots.iter().filter_map(|spot| spot.link.id()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_refuses_is_dialed_twice_a_second_or_so() {
        let (begin, minute) = (Instant::now(), Duration::from_secs(60));
        let mut chance = Chance::new(7);
        let mut places = Places::new(&["nobody:1".into()], &mut chance);
        let place = places.next();
        let (mut now, mut dialed) = (begin, 0);
        while now < begin + minute {
            let (link, _) = places.dial(now, place).unwrap();
            dialed += 1;
            places.closed(now, link, &mut chance);
            let again = places.wait_for(place).unwrap();
            assert!(again - now < Duration::from_millis(650), "it waits {:?}", again - now);
            now = again;
        }
        // A dead endpoint costs little.
        assert!(dialed < 200, "{dialed}");
    }

    #[test]
    fn a_place_is_dialed_again_soon_and_less_and_less_often_until_it_answers() {
        let mut chance = Chance::new(7);
        let mut places = Places::new(&["somebody:1".into()], &mut chance);
        let (mut now, place) = (Instant::now(), places.next());
        let mut fail = |places: &mut Places| {
            let (link, _) = places.dial(now, place).unwrap();
            places.closed(now, link, &mut chance);
            assert!(places.dial(now, place).is_none(), "dialed before its time");
            let again = places.wait_for(place).unwrap();
            (again - std::mem::replace(&mut now, again), again)
        };
        for about in [20, 40, 80, 160, 320, 500, 500].map(Duration::from_millis) {
            let (pause, _) = fail(&mut places);
            assert!((about * 3 / 4..=about * 5 / 4).contains(&pause), "{pause:?}, not about {about:?}");
        }
        let (_, again) = fail(&mut places);
        let (link, _) = places.dial(again, place).unwrap();
        places.connected(link, None).unwrap();
        places.closed(again, link, &mut Chance::new(7)).unwrap();
        let pause = places.wait_for(place).unwrap() - again;
        assert!(pause <= Duration::from_millis(25), "{pause:?} after a connection that stood");
    }
}
