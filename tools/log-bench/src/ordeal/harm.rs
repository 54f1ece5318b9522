//! Damage to the files of a replica that is down.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use annals_ledger::Chance;

use super::trouble::Harm;
use crate::error::{Error, Result};

/// Bytes of a block.
const BLOCK: u64 = 4096;

/// Damages complete segments in a replica's directory; gives how many.
///
/// The newest segment is spared: damage to what nothing vouches for cannot be told from a write that was torn.
pub(crate) fn complete_segments(dir: &Path, harms: &[Harm], chance: &mut Chance) -> Result<u64> {
    let mut segments = segments(dir).map_err(Error::io("list", dir))?;
    segments.pop();
    let mut harmed = 0;
    for harm in harms {
        if segments.is_empty() {
            break;
        }
        let path = segments.swap_remove(chance.below(segments.len() as u64) as usize);
        do_harm(&path, *harm, chance).map_err(Error::io("damage", &path))?;
        harmed += 1;
    }
    Ok(harmed)
}

/// All segments that have their own names, the oldest first.
fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = names.collect::<io::Result<_>>()?;
    let is_segment = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(".seg").is_some_and(|lsn| lsn.bytes().all(|digit| digit.is_ascii_digit()))
    };
    paths.retain(is_segment);
    paths.sort();
    Ok(paths)
}

fn do_harm(path: &Path, harm: Harm, chance: &mut Chance) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    match harm {
        Harm::Flip(bits) => (0..bits).try_for_each(|_| flip(&file, chance.below(bytes), chance.below(8)))?,
        Harm::Blank => {
            let block = chance.below(bytes / BLOCK);
            write_at(&file, &[0; BLOCK as usize], block * BLOCK)?;
        }
        Harm::Shorten => file.set_len(chance.below(bytes))?,
        Harm::Delete => fs::remove_file(path)?,
    }
    file.sync_all()
}

fn flip(mut file: &File, at: u64, bit: u64) -> io::Result<()> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    write_at(file, &[byte[0] ^ (1 << bit)], at)
}

fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}
