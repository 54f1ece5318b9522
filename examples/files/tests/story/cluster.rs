//! A cluster for one test, and files for it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use files::client::FileClient;
use files::demo::{Running, Said, Stage};
use files::digest::{Digest, Hasher};
use files::home::Home;
use files::operation::OperationId;
use tempfile::TempDir;

/// A cluster in a directory of its own.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    work: TempDir,
}

impl Cluster {
    pub(crate) fn start(nodes: u64) -> Cluster {
        let work = TempDir::new().unwrap();
        // Small files of the log and some snapshots of a large file, so that the log is trimmed while a test looks.
        let part = large_bytes() / 3;
        let (segment, snapshot) = (part.min(64 << 20).to_string(), part.to_string());
        let settings =
            ["--segment-bytes", &segment, "--snapshot-every-bytes", &snapshot, "--keep-records", "4"];
        let stage = Stage::open(&program(), &work.path().join("cluster"), nodes, &settings).unwrap();
        stage.leader().unwrap();
        Cluster { stage, work }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Where a node answers readers.
    pub(crate) fn address(&self, node: u64) -> SocketAddr {
        self.home().address(node).unwrap()
    }

    pub(crate) fn home(&self) -> Home {
        Home::open(self.stage.dir()).unwrap()
    }

    /// A client in this process.
    pub(crate) fn client(&self) -> FileClient {
        FileClient::connect(&self.home(), Duration::from_secs(60), None).unwrap()
    }

    /// A file to put, and its path as text.
    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A file of noise to put, written piece by piece.
    pub(crate) fn noise(&self, name: &str, bytes: u64) -> (String, Digest) {
        let path = self.path(name);
        io::copy(&mut Noise::new(bytes).take(bytes), &mut File::create(&path).unwrap()).unwrap();
        (path.to_str().unwrap().to_owned(), digest_of(&path))
    }

    /// Puts what the test writes, piece by piece, so that there is a middle as long as it likes.
    pub(crate) fn put_piecemeal(&self, name: &str, id: OperationId) -> Piecemeal {
        let path = self.path(&format!("{name}.pipe"));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let args = ["put", path.to_str().unwrap(), "--as", name, "--id", &id.to_string()];
        let put = self.stage.begin(&args).unwrap();
        // Waits until the put has opened it, too.
        let pipe = File::options().write(true).open(&path).unwrap();
        Piecemeal { put, pipe }
    }

    /// Runs a command that has to end with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: i32, args: &[&str]) -> Said {
        let said = self.stage.run(args).unwrap();
        assert_eq!(said.status, Some(status), "{args:?} said {said:?}");
        said
    }

    /// Gets a file from this node, and gives its digest.
    #[track_caller]
    pub(crate) fn got(&self, name: &str, node: u64) -> Digest {
        let to = self.path(&format!("got-{node}"));
        self.expect(0, &["get", name, to.to_str().unwrap(), "--force", "--from", &node.to_string()]);
        digest_of(&to)
    }

    /// The serialized state of each node that runs.
    pub(crate) fn states(&self) -> Vec<String> {
        let reader = self.stage.reader().unwrap();
        reader.nodes().iter().filter_map(|node| reader.state(node).ok()).collect()
    }

    /// The files in a node's store that hold contents.
    pub(crate) fn blobs(&self, node: u64) -> Vec<PathBuf> {
        let store = self.stage.dir().join(format!("N{node:02}")).join("store");
        let current = fs::read_to_string(store.join("current")).unwrap();
        let entries = fs::read_dir(store.join(current.trim_end()).join("blobs")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_none());
        paths.sort();
        paths
    }
}

/// A put that is under way until its pipe is dropped.
pub(crate) struct Piecemeal {
    pub(crate) put: Running,
    pipe: File,
}

impl Piecemeal {
    /// Gives the put so many bytes more; waits until it has taken nearly all of them.
    pub(crate) fn give(&mut self, from: &mut File, bytes: u64) {
        assert_eq!(io::copy(&mut from.take(bytes), &mut self.pipe).unwrap(), bytes);
    }

    /// Gives it all the rest, and waits for its end.
    pub(crate) fn end(mut self, from: &mut File) -> Said {
        io::copy(from, &mut self.pipe).unwrap();
        drop(self.pipe);
        self.put.wait().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stage.close();
    }
}

/// The example's program, beside the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/files");
    let advice = "build it first: cargo build -p annals-example-files --examples";
    assert!(program.exists(), "{} is not there; {advice}", program.display());
    program
}

/// How large a large file is.
pub(crate) fn large_bytes() -> u64 {
    let mib = std::env::var("FILES_MIB").map_or(12, |mib| mib.parse().expect("FILES_MIB is a number"));
    mib << 20
}

pub(crate) fn digest_of(path: &Path) -> Digest {
    let mut hasher = Hasher::default();
    io::copy(&mut File::open(path).unwrap(), &mut hasher).unwrap();
    hasher.digest()
}

/// Bytes that look like nothing, and are the same each time.
struct Noise {
    word: u64,
}

impl Noise {
    fn new(seed: u64) -> Noise {
        Noise { word: seed | 1 }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for bytes in buffer.chunks_mut(8) {
            self.word ^= self.word << 13;
            self.word ^= self.word >> 7;
            self.word ^= self.word << 17;
            bytes.copy_from_slice(&self.word.to_le_bytes()[..bytes.len()]);
        }
        Ok(buffer.len())
    }
}
