//! Whatever was written, however it ended, and whatever became of it: a report and an open agree.

use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::{Error, Lsn, repair};

use crate::logs::{BLOCK, SUPERBLOCK, copy, looked, options, payload};
use crate::seeds::{Cases, Chance};

/// A log that was written in some way, and ended in some way.
fn some_log(chance: &mut Chance) -> SimDisk {
    let disk = SimDisk::new(chance.next());
    let depth = chance.pick(&[1, 4]);
    let log = options().depth(depth).open_with(Arc::new(disk.clone())).unwrap();
    if chance.below(3) == 0 {
        disk.crash_after(chance.between(10, 200));
    }
    let written = (|| {
        for _ in 0..chance.between(1, 70) {
            let (lsn, bytes) = (log.last_lsn().get() + 1, chance.pick(&[0, 10, 700, 3000]));
            match chance.below(20) {
                0 => log.truncate(Lsn::new(lsn - 1 - chance.below(lsn.min(20))))?,
                1 => log.trim(Lsn::new(lsn / 2))?,
                2..=8 => drop(log.append(&payload(lsn, bytes))?),
                _ => drop(log.append_durable(&payload(lsn, bytes))?),
            }
        }
        Ok::<(), Error>(())
    })();
    if written.is_err() || chance.below(2) == 0 {
        return disk.crash(CrashPolicy::seeded(chance.next()));
    }
    match log.close() {
        Ok(()) => disk,
        Err(_) => disk.crash(CrashPolicy::seeded(chance.next())),
    }
}

fn some_damage(chance: &mut Chance, disk: &SimDisk, other: &SimDisk) -> String {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".seg") || name == SUPERBLOCK);
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let name = names[chance.below(names.len() as u64) as usize].clone();
    let bytes = disk.contents(&name).len() as u64;
    let at = chance.below(bytes.max(1)) & chance.pick(&[!0, !7, !(BLOCK - 1)]);
    let some = chance.pick(&[1, 8, 64, BLOCK, 5 * BLOCK]).min(bytes - at.min(bytes));
    let to = match chance.below(4) {
        0 => "spare-000777.seg".to_owned(),
        1 => format!("{:020}.seg", chance.below(100)),
        _ => names[chance.below(names.len() as u64) as usize].clone(),
    };
    let what = chance.below(10);
    match what {
        _ if bytes == 0 => {}
        0 => disk.flip_bit(&name, at, chance.below(8) as u8),
        1 | 2 => disk.overwrite(&name, at, &vec![0; some as usize]),
        3 | 4 => disk.overwrite(&name, at, &chance.payload(some as usize)),
        5 => disk.truncate_file(&name, at),
        6 => disk.delete(&name),
        7 if disk.list().unwrap().contains(&to) => disk.swap(&name, &to),
        7 => {
            disk.rename(&name, &to).unwrap();
            disk.sync_dir().unwrap();
        }
        8 if name != SUPERBLOCK && to != SUPERBLOCK => disk.copy_from(disk, &name, &to),
        _ if other.list().unwrap().contains(&name) => disk.copy_from(other, &name, &name),
        _ => {}
    }
    format!("{what} at {at}, {some} bytes, of {name}, {to}")
}

#[test]
fn whatever_happened_a_report_and_an_open_agree() {
    let test = "whatever_happened_a_report_and_an_open_agree";
    Cases { file: "agree", test, usual: 400 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let disk = some_log(&mut chance);
        let report = looked("undamaged", &disk);
        assert!(report.lost.is_empty(), "{report:#?}");
        let other = some_log(&mut chance);
        for _ in 0..chance.between(1, 3) {
            let what = some_damage(&mut chance, &disk, &other);
            if let Err(error) = repair::inspect(&disk) {
                let opened = options().open_with(Arc::new(copy(&disk)));
                assert!(matches!(error, Error::NotALog), "{what}: {error}");
                assert!(opened.is_ok() || matches!(opened, Err(Error::NotEmpty)), "{what}: {opened:?}");
                return;
            }
            looked(&what, &disk);
        }
    });
}
