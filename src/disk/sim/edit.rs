//! Damage to stored files behind the back of programs, and copies of them.
//!
//! Whatever was still to be synced in a file counts as synced first. Maps that live go on showing what they
//! showed: open the log after the damage.

use std::collections::BTreeMap;
use std::ops::Range;

use super::SimDisk;
use super::image::Image;
use super::state::{Inode, NameChange, State};

/// All files of a directory at one moment.
#[derive(Clone)]
pub struct SimSnapshot(BTreeMap<String, Image>);

impl std::fmt::Debug for SimSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, image)| (name, image.bytes))).finish()
    }
}

/// # Panics
/// All of these panic where there is no such file, because a test that damages nothing tests nothing.
impl SimDisk {
    /// What programs read in a file.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.shared.state.lock();
        state.inodes[&state.must_find(name)].visible.contents()
    }

    /// What programs would read in a file if all that is unsynced were lost.
    #[must_use]
    pub fn durable_contents(&self, name: &str) -> Vec<u8> {
        let state = self.shared.state.lock();
        state.inodes[&state.must_find(name)].durable.contents()
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        assert!(bit < 8, "a byte has eight bits");
        self.edit(name, |image| {
            assert!(offset < image.bytes, "the file is shorter");
            let mut byte = [0];
            image.peek(&mut byte, offset);
            image.write(&[byte[0] ^ (1 << bit)], offset);
        });
    }

    /// Writes `bytes` at `offset`.
    pub fn overwrite(&self, name: &str, offset: u64, bytes: &[u8]) {
        self.edit(name, |image| image.write(bytes, offset));
    }

    /// Lets reads of the pages that hold a byte of the range fail, whatever the file is called by then, until a page is
    /// written as a whole: a disk takes another sector for it.
    ///
    /// [`contents`](Self::contents) and maps go on showing them: a read of such a page by a map would be the end of
    /// the process.
    pub fn lose_sectors(&self, name: &str, range: Range<u64>) {
        self.edit(name, |image| image.break_pages(&range));
    }

    /// Cuts a file to `bytes`, or lets it grow by zeros.
    pub fn truncate_file(&self, name: &str, bytes: u64) {
        self.edit(name, |image| image.set_length(bytes));
    }

    /// Removes a file.
    pub fn delete(&self, name: &str) {
        let mut state = self.shared.state.lock();
        state.must_find(name);
        state.change_names(NameChange::Remove { name: name.to_owned() });
        state.sync_names();
    }

    /// Exchanges the names of two files.
    pub fn swap(&self, one: &str, other: &str) {
        let mut state = self.shared.state.lock();
        let ids = (state.must_find(one), state.must_find(other));
        state.sync_names();
        for (name, id) in [(one, ids.1), (other, ids.0)] {
            name.clone_into(&mut state.inode(id).name);
            state.names.insert(name.to_owned(), id);
            state.durable_names.insert(name.to_owned(), id);
        }
    }

    /// Puts the file `from` of `other`, as programs see it there, here under the name `to`, replacing what
    /// has it. `other` may be this disk.
    pub fn copy_from(&self, other: &SimDisk, from: &str, to: &str) {
        let image = {
            let state = other.shared.state.lock();
            state.inodes[&state.must_find(from)].visible.clone()
        };
        let mut state = self.shared.state.lock();
        state.sync_names();
        state.place(to, image);
    }

    /// All files as programs see them.
    #[must_use]
    pub fn snapshot(&self) -> SimSnapshot {
        let state = self.shared.state.lock();
        let image_of = |id: &u64| state.inodes[id].visible.clone();
        SimSnapshot(state.names.iter().map(|(name, id)| (name.clone(), image_of(id))).collect())
    }

    /// Replaces all files by those of a snapshot.
    pub fn restore(&self, snapshot: &SimSnapshot) {
        let mut state = self.shared.state.lock();
        state.pending_names.clear();
        state.names.clear();
        state.durable_names.clear();
        for (name, image) in &snapshot.0 {
            state.place(name, image.clone());
        }
        state.forget_all_unreachable();
    }

    fn edit(&self, name: &str, edit: impl Fn(&mut Image)) {
        let mut state = self.shared.state.lock();
        let id = state.must_find(name);
        let inode = state.inode(id);
        inode.settle();
        edit(&mut inode.durable);
        edit(&mut inode.visible);
    }
}

impl State {
    fn must_find(&self, name: &str) -> u64 {
        self.find(name).unwrap_or_else(|_| panic!("no file {name} on the simulated disk"))
    }

    /// Puts a synced file under a name that is synced too.
    pub(super) fn place(&mut self, name: &str, image: Image) -> u64 {
        let id = self.next_id();
        self.inodes.insert(id, Inode::holding(name, image));
        self.names.insert(name.to_owned(), id);
        self.durable_names.insert(name.to_owned(), id);
        id
    }

    /// Gives it one name more, which is synced too.
    pub(super) fn place_again(&mut self, name: &str, id: u64) {
        self.inode(id).is_linked = true;
        self.names.insert(name.to_owned(), id);
        self.durable_names.insert(name.to_owned(), id);
    }
}
