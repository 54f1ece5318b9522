//! A log's directory as plain bytes.

use std::collections::BTreeMap;

use annals::disk::Disk;
use annals::disk::sim::SimDisk;

pub(crate) const SUPERBLOCK: &str = "superblock";

/// The files of a directory, by name.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Directory(pub(crate) BTreeMap<String, Vec<u8>>);

impl Directory {
    /// What programs see on a disk, but for the file that every attempt to open writes.
    pub(crate) fn of(disk: &SimDisk) -> Directory {
        let names = disk.list().unwrap().into_iter().filter(|name| name != "LOCK");
        Directory(names.map(|name| (name.clone(), disk.contents(&name))).collect())
    }

    /// A disk that holds these files, durably.
    pub(crate) fn disk(&self, seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        for (name, bytes) in &self.0 {
            let file = disk.create(name).unwrap();
            file.write_at(bytes, 0).unwrap();
            file.sync().unwrap();
        }
        disk.sync_dir().unwrap();
        disk
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|bytes| &**bytes)
    }

    pub(crate) fn edit(&mut self, name: &str) -> &mut Vec<u8> {
        self.0.get_mut(name).unwrap_or_else(|| panic!("no file {name}"))
    }

    /// Names of files that are named as segments, or as spares.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.0.keys().filter(|name| name.ends_with(".seg")).cloned().collect()
    }

    /// Where two directories differ, for a message.
    pub(crate) fn difference(&self, other: &Directory) -> String {
        let mut text = String::new();
        for name in self.0.keys().chain(other.0.keys().filter(|name| !self.0.contains_key(*name))) {
            let says = match (self.bytes(name), other.bytes(name)) {
                (Some(one), Some(two)) if one == two => continue,
                (Some(one), Some(two)) => {
                    let at = one.iter().zip(two).position(|(one, two)| one != two);
                    format!("{name}: {} and {} bytes, other from {at:?} on; ", one.len(), two.len())
                }
                (Some(_), None) => format!("{name} is gone; "),
                (None, _) => format!("{name} is new; "),
            };
            text.push_str(&says);
        }
        text
    }
}
