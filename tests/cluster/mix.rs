//! Which faults a run is tried with, and what its cluster is like.

use annals::protocol::{FailoverPolicy, Quorums, Rules};

use crate::network::Weather;
use crate::seeds::Chance;

/// A kind of fault, or of work that an operator gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The replicas part into two that do not hear each other.
    Symmetric,
    /// One hears, and is not heard; or the other way round.
    OneWay,
    /// Two do not hear each other, but both hear the rest.
    Partial,
    /// Each hears only its neighbours.
    Chain,
    SlowLink,
    Reset,
    Kill,
    PowerLoss,
    Pause,
    ClockStep,
    ClockDrift,
    /// The transport says that a peer is gone: sometimes it is not.
    PeerLost,
    DiskFails,
    DiskStalls,
    DiskFull,
    /// The power fails inside of a step of the store.
    CutShort,
    /// The disk says no inside of a step of the store.
    StepFails,
    /// The disk runs full under the store.
    StepFills,
    /// Records are lost; found when the process starts again.
    Rot,
    /// The base is lost; found when the process starts again.
    RotBase,
    /// A disk is replaced by a blank one.
    Blank,
    Snapshot,
    /// The log is trimmed although somebody catches up.
    Trim,
    Transfer,
    Change,
    /// Other numbers of copies and votes are to suffice.
    Quorums,
    Promote,
    Garbage,
    /// A directory is copied, and the copy put back later; also what a disk leaves that lies about syncs.
    OldCopy,
}

impl Kind {
    pub(crate) const ALL: [Kind; 28] = [
        Kind::Symmetric,
        Kind::OneWay,
        Kind::Partial,
        Kind::Chain,
        Kind::SlowLink,
        Kind::Reset,
        Kind::Kill,
        Kind::PowerLoss,
        Kind::Pause,
        Kind::ClockStep,
        Kind::ClockDrift,
        Kind::PeerLost,
        Kind::DiskFails,
        Kind::DiskStalls,
        Kind::DiskFull,
        Kind::CutShort,
        Kind::StepFails,
        Kind::StepFills,
        Kind::Rot,
        Kind::RotBase,
        Kind::Blank,
        Kind::Snapshot,
        Kind::Trim,
        Kind::Transfer,
        Kind::Change,
        Kind::Quorums,
        Kind::Promote,
        Kind::Garbage,
    ];
}

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) nodes: usize,
    /// Replicas that nobody has added yet.
    pub(crate) spares: usize,
    pub(crate) clients: usize,
    /// When everything heals.
    pub(crate) run_ms: u64,
    pub(crate) weather: Weather,
    /// What happens, each as likely as it is often in here.
    pub(crate) kinds: Vec<Kind>,
    /// From one fault to the next, at most.
    pub(crate) every_ms: u64,
    pub(crate) drift_ppm: i64,
    pub(crate) policy: FailoverPolicy,
    pub(crate) quorums: Quorums,
    pub(crate) lease_drift_ppm: Option<u32>,
    pub(crate) window_bytes: u64,
    pub(crate) catch_up_bytes_per_s: Option<u64>,
    pub(crate) producers_max: u32,
    /// Bytes of chunks and repairs that change on the way to the disk, in a thousand.
    pub(crate) tampers: u64,
    /// Whether nothing but the disk keeps a stalled primary from handing over (S12): then it has to.
    pub(crate) watches_stalls: bool,
    /// Whether the real store is on the disks, or a model of it.
    pub(crate) is_real: bool,
    pub(crate) rules: Rules,
}

impl Mix {
    /// A cluster without faults, of a size and with habits that the seed draws.
    pub(crate) fn calm(draw: &mut Chance) -> Mix {
        let nodes = draw.pick(&[3, 3, 3, 5, 5, 4, 7]);
        Mix {
            nodes,
            spares: 0,
            clients: draw.between(3, 6) as usize,
            run_ms: draw.between(2500, 5000),
            weather: Weather::default(),
            kinds: vec![],
            every_ms: draw.between(100, 1200),
            drift_ppm: 200,
            policy: FailoverPolicy::Automatic,
            quorums: Quorums::Majority,
            lease_drift_ppm: None,
            window_bytes: draw.pick(&[1 << 10, 8 << 10, 64 << 10]),
            catch_up_bytes_per_s: draw.pick(&[None, None, Some(200_000)]),
            producers_max: draw.pick(&[2, 16]),
            tampers: 0,
            watches_stalls: false,
            is_real: std::env::var_os("ANNALS_MODEL").is_none(),
            rules: Rules::default(),
        }
    }

    /// With disks that stand still for longer than a primary may bear, and nothing else.
    pub(crate) fn stalling(draw: &mut Chance) -> Mix {
        let mix = Mix { watches_stalls: true, run_ms: 9000, every_ms: 4000, ..Mix::calm(draw) };
        mix.with(&[Kind::DiskStalls])
    }

    /// With these faults, and a process that takes snapshots whenever there may be a use for them.
    pub(crate) fn with(mut self, kinds: &[Kind]) -> Mix {
        self.kinds.extend_from_slice(kinds);
        if kinds.contains(&Kind::Change) {
            self.spares = self.spares.max(2);
        }
        self
    }

    /// A mixture that the seed draws.
    pub(crate) fn drawn(draw: &mut Chance) -> Mix {
        let mut mix = Mix::calm(draw);
        let count = draw.between(2, 8);
        let kinds: Vec<Kind> = (0..count).map(|_| draw.pick(&Kind::ALL)).collect();
        mix = mix.with(&kinds).with(&[Kind::Kill, Kind::Snapshot]);
        let scale = draw.pick(&[0, 0, 10, 50, 150]);
        let mut part = || if scale == 0 { 0 } else { draw.below(scale + 1) };
        mix.weather = Weather { loss: part(), twice: part(), astray: part(), late_ms: 0 };
        mix.weather.late_ms = draw.pick(&[100, 300, 3000]);
        mix.policy = draw.pick(&[
            FailoverPolicy::Automatic,
            FailoverPolicy::Automatic,
            FailoverPolicy::Priority,
            FailoverPolicy::Manual,
        ]);
        mix.drift_ppm = draw.pick(&[200, 5_000, 50_000]);
        if draw.below(4) == 0 {
            let write = draw.between(1, mix.nodes as u64);
            let least = (mix.nodes as u64 - write + 1).max(mix.nodes as u64 / 2 + 1);
            let election = draw.between(least, mix.nodes as u64);
            mix.quorums = Quorums::Fixed { write: write as u8, election: election as u8 };
        }
        if draw.below(4) == 0 && !mix.kinds.contains(&Kind::ClockStep) {
            mix.lease_drift_ppm = Some(2 * mix.drift_ppm as u32 + 1_000);
            mix.kinds.retain(|kind| *kind != Kind::ClockDrift);
        }
        // A damaged replica does not vote: where all have to, it would never be whole again.
        if mix.kinds.iter().any(|kind| matches!(kind, Kind::Rot | Kind::RotBase | Kind::Blank)) {
            mix.kinds.retain(|kind| *kind != Kind::Quorums);
        }
        mix.tampers = draw.pick(&[0, 0, 100]);
        mix
    }
}
