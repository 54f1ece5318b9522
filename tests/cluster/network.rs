//! The network between the replicas: what it does to a message, and when that arrives.

use annals::transport::Lane;

use crate::seeds::Chance;

const MS: u64 = 1_000_000;

/// One direction between two replicas.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Nothing arrives.
    is_cut: bool,
    /// How many times slower than usual.
    slow: u64,
    /// When the newest message of each lane arrives: within a lane the order is kept.
    arrived: [u64; 3],
    /// Grows when a connection is reset: what was on its way is lost.
    life: u64,
}

/// What goes wrong everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Messages lost, in a thousand.
    pub(crate) loss: u64,
    /// Messages that arrive twice, in a thousand.
    pub(crate) twice: u64,
    /// Messages that overtake or come late, in a thousand.
    pub(crate) astray: u64,
    /// How late those come at most, in milliseconds.
    pub(crate) late_ms: u64,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    links: Vec<Link>,
    pub(crate) weather: Weather,
    /// The usual delay, at least and at most, in nanoseconds.
    pub(crate) delay: (u64, u64),
    draw: Chance,
}

/// Where and when something arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    pub(crate) life: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize, mut draw: Chance) -> Network {
        let least = draw.between(20_000, MS);
        let delay = (least, least * draw.between(2, 5));
        let links = vec![Link { slow: 1, ..Link::default() }; nodes * nodes];
        Network { nodes, links, weather: Weather::default(), delay, draw }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    /// When a message that leaves now arrives: never, once or twice.
    pub(crate) fn send(&mut self, now: u64, (from, to): (usize, usize), lane: Lane) -> Vec<Arrival> {
        if self.link(from, to).is_cut || self.draw.below(1000) < self.weather.loss {
            return vec![];
        }
        let copies = 1 + usize::from(self.draw.below(1000) < self.weather.twice);
        let lane = lane as usize;
        (0..copies)
            .map(|copy| {
                let delay = self.draw.between(self.delay.0, self.delay.1) * self.link(from, to).slow;
                let is_astray = copy > 0 || self.draw.below(1000) < self.weather.astray;
                let late = if is_astray { self.draw.below(self.weather.late_ms.max(1) * MS) } else { 0 };
                let link = self.link(from, to);
                let at =
                    if is_astray { now + delay + late } else { (now + delay).max(link.arrived[lane] + 1) };
                if !is_astray {
                    link.arrived[lane] = at;
                }
                Arrival { at, life: link.life }
            })
            .collect()
    }

    /// Whether a message that was to arrive still does.
    pub(crate) fn arrives(&mut self, (from, to): (usize, usize), life: u64) -> bool {
        let link = self.link(from, to);
        !link.is_cut && link.life == life
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        self.link(from, to).is_cut = is_cut;
    }

    pub(crate) fn slow(&mut self, from: usize, to: usize, times: u64) {
        self.link(from, to).slow = times;
    }

    /// What is on its way between the two, either way, is lost.
    pub(crate) fn reset(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let link = self.link(from, to);
            link.life += 1;
            link.arrived = [0; 3];
        }
    }

    /// All links are as they should be, but for the weather.
    pub(crate) fn heal(&mut self, weather: Weather) {
        self.weather = weather;
        for link in &mut self.links {
            (link.is_cut, link.slow) = (false, 1);
        }
    }
}
