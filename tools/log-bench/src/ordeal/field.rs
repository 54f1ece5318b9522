//! One cluster, the load on it, and what is being done to it.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use annals::ReplicaId;
use annals::client::{Client, ClientError, Target};
use annals::disk::{Disk, RealDisk};
use annals::repair::{self, Silent};
use annals_ledger::Chance;

use super::Count;
use super::harm;
use super::network::Network;
use super::readmit::readmit;
use super::trouble::{Cut, Kind, Trouble, Who};
use super::witness::{self, Witness};
use crate::cluster::account::Verdict;
use crate::cluster::args::{ClusterArgs, OrdealArgs};
use crate::cluster::load::Load;
use crate::cluster::sick::Sickness;
use crate::cluster::{Cluster, Ground, HANG, PAUSE};
use crate::error::{Error, Result};
use crate::place::Place;
use crate::progress;

/// What the state of each replica's application has: so that a snapshot does not come all at once.
const STATE_BYTES: u64 = 8 << 20;
/// Between two looks at the agenda.
const TICK: Duration = Duration::from_millis(2);

/// What can be done with a replica now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Up,
    Down,
    Paused,
    Sick,
    /// Its directory is gone: it comes back as a newcomer once all others are well.
    Lost,
}

/// Something that is due at some time.
#[derive(Clone, Debug)]
enum Step {
    Strike(Kind, Trouble),
    Restart { index: usize, again: Vec<Duration> },
    Resume(usize),
    Cure(usize),
    Mend(usize, Cut),
    KillPrimary,
}

/// One cluster under ordeal.
pub(crate) struct Field<'a> {
    cluster: Cluster,
    client: Client,
    load: Load,
    witness: Witness,
    network: Option<&'a Network>,
    chance: Chance,
    shapes: Vec<Shape>,
    agenda: Vec<(Instant, Step)>,
    trims: bool,
    /// Those whose directory is gone, and how long they live when they come back.
    lost: Vec<Lost>,
}

/// A replica whose directory is gone.
#[derive(Clone, Debug, Default)]
struct Lost {
    index: usize,
    is_trimmed: bool,
    lives: Vec<Duration>,
}

impl<'a> Field<'a> {
    /// Starts the cluster, and the load on it.
    pub(crate) fn begin(
        args: &OrdealArgs,
        place: &Place,
        network: Option<&'a Network>,
        seed: u64,
    ) -> Result<Field<'a>> {
        let cluster = ClusterArgs {
            replicas: args.replicas,
            segment_bytes: Some(args.segment_bytes),
            depth: None,
            snapshot_every: None,
            is_gated: false,
            state_bytes: Some(STATE_BYTES),
        };
        let homes = network.map(Network::homes).unwrap_or_default();
        let cluster =
            Cluster::start_on(&cluster, place, &Ground { is_sickly: true, homes, ..Ground::default() })?;
        let client = cluster.connect()?;
        cluster.wait_until_in_sync(&client)?;
        let load =
            Load::start(&cluster, (args.clients, args.durability), args.size as usize, Some(args.rate))?;
        Ok(Field {
            shapes: vec![Shape::Up; cluster.len()],
            cluster,
            client,
            load,
            witness: Witness::default(),
            network,
            chance: Chance::new(&[seed, 0x4F52_4445]),
            agenda: Vec::new(),
            trims: false,
            lost: Vec::new(),
        })
    }

    /// One round: everything of the plan happens and heals again, and then all is compared.
    pub(crate) fn round(
        &mut self,
        plan: Vec<(Duration, Kind, Trouble)>,
        count: &mut Count,
    ) -> Result<Verdict> {
        let began = Instant::now();
        self.agenda = plan.into_iter().map(|(at, kind, it)| (began + at, Step::Strike(kind, it))).collect();
        while !self.agenda.is_empty() {
            progress::check_stopped()?;
            let next = (0..self.agenda.len()).min_by_key(|at| self.agenda[*at].0).expect("it is not empty");
            if self.agenda[next].0 > Instant::now() {
                thread::sleep(TICK);
                continue;
            }
            let (_, step) = self.agenda.remove(next);
            self.take(step, count)?;
        }
        for Lost { index, is_trimmed, lives } in std::mem::take(&mut self.lost) {
            if is_trimmed {
                self.forget_before(index)?;
            }
            readmit(&mut self.cluster, &self.client, index, &lives)?;
            count.newcomers_killed += lives.len() as u64;
            self.shapes[index] = Shape::Up;
        }
        self.judge()
    }

    /// What the last append said that failed.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.load.last_failure()
    }

    /// Ends the cluster in good order, and looks at each byte that it has left.
    pub(crate) fn end(self) -> Result<u64> {
        let dirs: Vec<_> = (0..self.cluster.len()).map(|at| self.cluster.dir(at).to_path_buf()).collect();
        let failed = self.load.end_without_reading();
        self.cluster.end();
        dirs.iter().try_for_each(|dir| examine(dir))?;
        Ok(failed)
    }

    /// What the replicas say of themselves, for whoever looks into a failure.
    pub(crate) fn describe(&self) -> String {
        let say = |id: ReplicaId| match self
            .client
            .status(Target::Replica(id))
            .wait_timeout(Duration::from_secs(2))
        {
            Ok(Some(status)) => format!("replica {id}: {status:?}"),
            Ok(None) => format!("replica {id} does not answer"),
            Err(error) => format!("replica {id}: {error}"),
        };
        self.cluster.ids().map(say).collect::<Vec<_>>().join("\n")
    }

    /// With everything healed: nobody has ended by itself, all follow one primary, hold the same, and that is what
    /// was promised.
    fn judge(&mut self) -> Result<Verdict> {
        if let Some((id, words)) = self.cluster.ended().into_iter().next() {
            let left = format!("replica {id} has ended by itself: {words}");
            return Err(Error::Child { doing: "being a replica", left });
        }
        self.cluster.wait_until_in_sync(&self.client)?;
        self.load.wait_for_commit_after(self.load.now(), Duration::ZERO)?;
        if std::mem::take(&mut self.trims) {
            self.trim()?;
        }
        self.load.hold()?;
        let last = self.client.linearizable_read().wait().map_err(Error::cluster("read from"))?;
        self.witness.read_on(&self.client, last)?;
        let verdict = self.load.judge(self.witness.records());
        let ids: Vec<ReplicaId> = self.cluster.ids().collect();
        witness::compare_replicas(&self.client, &ids, last)?;
        self.load.go_on();
        Ok(verdict)
    }

    /// Each replica takes a snapshot and forgets a part of what was compared before.
    fn trim(&mut self) -> Result<()> {
        for id in self.cluster.ids().collect::<Vec<_>>() {
            let taken = again("take a snapshot in", || self.client.snapshot(Target::Replica(id)).wait())?;
            let most = self.witness.through().get().min(taken.get());
            let through = annals::Lsn::new(self.chance.below(most + 1));
            again("trim a replica of", || self.client.trim(Target::Replica(id), through).wait())?;
        }
        Ok(())
    }

    /// All but one take a snapshot and forget all that was compared before: so that one will not get it from the log.
    fn forget_before(&mut self, gone: usize) -> Result<()> {
        let through = self.witness.through();
        for id in self.cluster.ids().filter(|id| self.cluster.index_of(*id) != gone) {
            let taken = again("take a snapshot in", || self.client.snapshot(Target::Replica(id)).wait())?;
            let through = through.min(taken);
            again("trim a replica of", || self.client.trim(Target::Replica(id), through).wait())?;
        }
        Ok(())
    }

    fn take(&mut self, step: Step, count: &mut Count) -> Result<()> {
        match step {
            Step::Strike(kind, trouble) => {
                if self.strike(trouble)? {
                    *count.troubles.entry(kind).or_default() += 1;
                }
            }
            Step::Restart { index, mut again } => match again.pop() {
                Some(life) => {
                    self.cluster.restart_for(index, life)?;
                    self.agenda.push((Instant::now(), Step::Restart { index, again }));
                }
                None => {
                    self.cluster.restart(index)?;
                    self.shapes[index] = Shape::Up;
                }
            },
            Step::Resume(index) => {
                self.cluster.resume(index)?;
                self.shapes[index] = Shape::Up;
            }
            Step::Cure(index) => {
                self.cluster.sicken(index, Sickness::Well)?;
                self.shapes[index] = Shape::Up;
            }
            Step::Mend(index, cut) => self.links(index, cut, false)?,
            Step::KillPrimary => {
                if let Some(index) = self.choose(Who::Primary) {
                    self.kill(index, Duration::from_millis(100), Vec::new());
                }
            }
        }
        Ok(())
    }

    /// Does it, if there is anybody left to do it to.
    fn strike(&mut self, trouble: Trouble) -> Result<bool> {
        match trouble {
            Trouble::KillAll { downs } => {
                for (index, down) in (0..self.shapes.len()).zip(downs) {
                    if self.shapes[index] == Shape::Up {
                        self.kill(index, down, Vec::new());
                    }
                }
            }
            Trouble::Transfer { kill } => {
                // Whether it succeeds is not the question; others may be struck meanwhile.
                drop(self.client.transfer(None));
                self.agenda.extend(kill.map(|after| (Instant::now() + after, Step::KillPrimary)));
            }
            Trouble::Swap => return self.swap(),
            Trouble::Trim => self.trims = true,
            Trouble::Kill { who, .. }
            | Trouble::Pause { who, .. }
            | Trouble::Sick { who, .. }
            | Trouble::Rot { who, .. }
            | Trouble::Wipe { who }
            | Trouble::Newcomer { who, .. }
            | Trouble::Cut { who, .. } => {
                let Some(index) = self.choose(who) else { return Ok(false) };
                return self.strike_one(index, trouble);
            }
        }
        Ok(true)
    }

    fn strike_one(&mut self, index: usize, trouble: Trouble) -> Result<bool> {
        match trouble {
            Trouble::Kill { down, again, .. } => self.kill(index, down, again),
            Trouble::Pause { length, .. } => {
                self.cluster.pause(index)?;
                self.shapes[index] = Shape::Paused;
                self.agenda.push((Instant::now() + length, Step::Resume(index)));
            }
            Trouble::Sick { sickness, length, .. } => {
                self.cluster.sicken(index, sickness)?;
                self.shapes[index] = Shape::Sick;
                self.agenda.push((Instant::now() + length, Step::Cure(index)));
            }
            Trouble::Rot { harms, down, .. } => {
                self.kill(index, down, Vec::new());
                return Ok(harm::complete_segments(self.cluster.dir(index), &harms, &mut self.chance)? > 0);
            }
            Trouble::Wipe { .. } => self.lose(Lost { index, ..Lost::default() })?,
            Trouble::Newcomer { is_trimmed, lives, .. } => self.lose(Lost { index, is_trimmed, lives })?,
            Trouble::Cut { cut, length, .. } => {
                self.links(index, cut, true)?;
                self.agenda.push((Instant::now() + length, Step::Mend(index, cut)));
            }
            Trouble::KillAll { .. } | Trouble::Transfer { .. } | Trouble::Swap | Trouble::Trim => {
                unreachable!("it strikes nobody in particular")
            }
        }
        Ok(true)
    }

    /// A replica's directory is deleted: it must not start without it.
    fn lose(&mut self, lost: Lost) -> Result<()> {
        let index = lost.index;
        self.cluster.kill(index);
        self.shapes[index] = Shape::Lost;
        self.lost.push(lost);
        let dir = self.cluster.dir(index);
        std::fs::remove_dir_all(dir).map_err(Error::io("remove", dir))?;
        self.expect_refusal(index, "holds no replica")
    }

    fn kill(&mut self, index: usize, down: Duration, again: Vec<Duration>) {
        self.cluster.kill(index);
        self.shapes[index] = Shape::Down;
        self.agenda.push((Instant::now() + down, Step::Restart { index, again }));
    }

    /// Two replicas find each other's directories, and refuse them.
    fn swap(&mut self) -> Result<bool> {
        let up: Vec<usize> = (0..self.shapes.len()).filter(|at| self.shapes[*at] == Shape::Up).collect();
        let &[one, other, ..] = &up[..] else { return Ok(false) };
        self.cluster.kill(one);
        self.cluster.kill(other);
        let swapped = [(one, other), (other, one)];
        exchange(self.cluster.dir(one), self.cluster.dir(other))?;
        for (index, _) in swapped {
            self.expect_refusal(index, "the directory is that of replica")?;
        }
        exchange(self.cluster.dir(one), self.cluster.dir(other))?;
        for (index, _) in swapped {
            self.cluster.restart(index)?;
        }
        Ok(true)
    }

    /// It must not start on what is in its directory now.
    fn expect_refusal(&mut self, index: usize, because: &str) -> Result<()> {
        let left = match self.cluster.restart(index) {
            Err(Error::Child { left, .. }) if left.contains(because) => return Ok(()),
            Err(error) => format!("it was refused otherwise: {error}"),
            Ok(()) => "it started as if nothing had happened".to_string(),
        };
        Err(Error::Child { doing: "refusing a directory that is not its own", left })
    }

    /// Cuts links around a replica, or mends them.
    fn links(&mut self, index: usize, cut: Cut, is_cut: bool) -> Result<()> {
        let Some(network) = self.network else { return Ok(()) };
        let others = (0..self.shapes.len()).filter(|other| *other != index);
        let next = (index + 1) % self.shapes.len();
        let set = |from, to| if is_cut { network.cut(from, to) } else { network.mend(from, to) };
        match cut {
            Cut::Unplugged if is_cut => network.unplug(index),
            Cut::Unplugged => network.plug(index),
            Cut::Alone => others.into_iter().try_for_each(|other| set(other, index).and(set(index, other))),
            Cut::Deaf => others.into_iter().try_for_each(|other| set(other, index)),
            Cut::Mute => others.into_iter().try_for_each(|other| set(index, other)),
            Cut::Pair => set(next, index).and(set(index, next)),
            Cut::OneWay => set(index, next),
        }
    }

    /// One that is up, of this role if there is one.
    fn choose(&mut self, who: Who) -> Option<usize> {
        let up: Vec<usize> = (0..self.shapes.len()).filter(|at| self.shapes[*at] == Shape::Up).collect();
        let any = up.get(self.chance.below(up.len() as u64) as usize).copied();
        let role = self.client.status(Target::Primary).wait_timeout(Duration::from_millis(100));
        let Ok(Some(status)) = role else { return any };
        let primary = self.cluster.index_of(status.id);
        match who {
            Who::Primary if up.contains(&primary) => Some(primary),
            Who::Backup => {
                up.iter().copied().find(|index| *index != primary && self.chance.percent(70)).or(any)
            }
            _ => any,
        }
    }
}

/// Asks until it is possible: a replica that was just started knows of nothing that is committed.
fn again<T>(doing: &'static str, ask: impl Fn() -> Result<T, ClientError>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(ClientError::NotPossible { .. }) if began.elapsed() < HANG => thread::sleep(PAUSE),
            answer => return answer.map_err(Error::cluster(doing)),
        }
    }
}

/// Two directories change places.
fn exchange(one: &Path, other: &Path) -> Result<()> {
    let aside = one.with_extension("aside");
    for (from, to) in [(one, &*aside), (other, one), (&*aside, other)] {
        std::fs::rename(from, to).map_err(Error::io("rename", from))?;
    }
    Ok(())
}

/// Looks at each byte of a replica that was closed.
fn examine(dir: &Path) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir).map_err(Error::io("open", dir))?);
    let report = repair::verify(&disk, 2, &Silent).map_err(Error::log("examine"))?;
    if report.is_whole() {
        return Ok(());
    }
    let left = format!("{}: lost {:?}, {:?}", dir.display(), report.lost, report.stretches);
    Err(Error::Child { doing: "leaving a whole log", left })
}
