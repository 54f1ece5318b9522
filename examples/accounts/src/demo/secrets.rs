//! A look into every file of a directory for what must be in none.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Files are looked at in pages of so many bytes.
const PAGE_BYTES: usize = 4096;

/// What was found in files.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) files: usize,
    pub(super) bytes: usize,
    /// Hashes of passwords: where there are none, it was looked in the wrong place.
    pub(super) hashes: usize,
}

impl Looked {
    /// Looks into all files below this directory, none of which may hold one of the secrets.
    pub(super) fn below(dir: &Path, secrets: &[&str]) -> Result<Looked> {
        let mut looked = Looked::default();
        looked.look_into(dir, secrets)?;
        Ok(looked)
    }

    fn look_into(&mut self, dir: &Path, secrets: &[&str]) -> Result<()> {
        for entry in fs::read_dir(dir).map_err(Error::path("look into", dir))? {
            let path = entry.map_err(Error::path("look into", dir))?.path();
            if path.is_dir() {
                self.look_into(&path, secrets)?;
                continue;
            }
            let bytes = fs::read(&path).map_err(Error::path("read", &path))?;
            for part in written(&bytes) {
                if let Some(secret) = secrets.iter().find(|secret| count(part, secret) > 0) {
                    let reason = format!("{} holds the secret {secret:?}", path.display());
                    return Err(Error::Story { reason });
                }
                self.hashes += count(part, "$argon2id$");
            }
            self.files += 1;
            self.bytes += bytes.len();
        }
        Ok(())
    }
}

/// The parts of a file that hold something: files are made larger than what is in them, and what is zero holds nothing.
fn written(bytes: &[u8]) -> Vec<&[u8]> {
    let is_zero = |page: &[u8]| *page == [0; PAGE_BYTES][..page.len()];
    let pages: Vec<&[u8]> = bytes.chunks(PAGE_BYTES).collect();
    let mut ends = 0;
    let mut parts = vec![];
    for run in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
        let begins = ends;
        ends += run.iter().map(|page| page.len()).sum::<usize>();
        if !is_zero(run[0]) {
            parts.push(&bytes[begins..ends]);
        }
    }
    parts
}

/// How often the text is among the bytes.
fn count(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_is_and_also_across_pages() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        let file = dir.path().join("below/file");
        for at in [0, PAGE_BYTES - 3, 3 * PAGE_BYTES - 1, 5 * PAGE_BYTES - 6] {
            let mut bytes = vec![0; 5 * PAGE_BYTES];
            bytes[at..at + 6].copy_from_slice(b"secret");
            fs::write(&file, bytes).unwrap();
            let Err(error) = Looked::below(dir.path(), &["another", "secret"]) else {
                panic!("not found at {at}")
            };
            assert!(error.to_string().contains("below/file holds the secret"), "{error}");
            assert!(Looked::below(dir.path(), &["secrets"]).is_ok());
        }
        fs::write(&file, "xx$argon2id$yy$argon2id$").unwrap();
        assert_eq!(Looked::below(dir.path(), &["secret"]).unwrap().hashes, 2);
    }
}
