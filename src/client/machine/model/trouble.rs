//! What goes wrong: replicas crash and stand still, links are cut, others are elected.

use super::world::{Event, World};
use crate::client::machine::LinkId;

impl World {
    pub(super) fn trouble(&mut self) {
        if !self.is_troubled() {
            (0..3).for_each(|at| self.replicas[at].is_up = true);
            return;
        }
        let at = self.chance.below(3) as usize;
        match self.chance.below(6) {
            0 => self.crash(at),
            1 => {
                if let Some(reign) = self.reign {
                    self.crash(reign);
                }
            }
            2 => self.after_us(0, 1, Event::Elect),
            3 => {
                self.replicas[at].is_paused = true;
                self.after_us(1_000, 1_500_000, Event::Resume(at));
                if self.reign == Some(at) {
                    self.after_us(100_000, 300_000, Event::Elect);
                }
            }
            _ => {
                let links: Vec<LinkId> = self.links.keys().copied().collect();
                for link in links {
                    if self.chance.below(2) == 0 {
                        self.cut(link);
                    }
                }
            }
        }
        self.after_us(10_000, 300_000, Event::Trouble);
    }

    fn crash(&mut self, at: usize) {
        if !std::mem::replace(&mut self.replicas[at].is_up, false) {
            return;
        }
        let replica = &mut self.replicas[at];
        (replica.leads, replica.is_paused) = (false, false);
        replica.waiting.clear();
        self.held.retain(|(of, _)| *of != at);
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, line)| line.replica == at).map(|(link, _)| *link).collect();
        links.into_iter().for_each(|link| self.cut(link));
        self.after_us(10_000, 2_000_000, Event::Restart(at));
        if self.reign == Some(at) {
            self.after_us(50_000, 300_000, Event::Elect);
        }
    }

    fn cut(&mut self, link: LinkId) {
        let (arrives, is_late) = (self.chance.below(2) == 0, self.chance.below(4) == 0);
        let Some(line) = self.links.get_mut(&link).filter(|line| !line.is_cut) else { return };
        (line.is_cut, line.arrives) = (true, arrives);
        self.after_us(100, if is_late { 3_000_000 } else { 30_000 }, Event::Closed(link));
    }
}
