//! The story, told by real processes: three nodes on this machine, commands as a person would type them, `kill -9`.
//!
//! Everything lies in one directory that is made for it and removed at the end, also after an error and after Ctrl-C. If
//! this process itself is killed, the nodes end with the pipe that they hold on to; only the directory stays behind.

mod scenes;
mod stage;
mod voice;

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use clap::Args;

use crate::error::{Error, Result};
use crate::lifeline;
use voice::Voice;

pub use stage::{Running, Said, Stage};

/// How many nodes the cluster begins with.
const NODES: u64 = 3;

/// What the demo is told.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Where everything goes: a directory that is not there yet, or is empty [default: a new one for temporary files]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// How large the large file is, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 48, value_parser = clap::value_parser!(u64).range(16..=65536))]
    mib: u64,
    /// Leave out the story: keep the cluster for you to try, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

/// Tells the story, or keeps a cluster.
///
/// # Errors
/// If something is not as the story says.
pub fn run(args: &DemoArgs) -> Result<()> {
    let program = std::env::current_exe().map_err(Error::file("find", Path::new("this program")))?;
    let home = Scratch::new(args.home.as_deref())?;
    let (ended, ends) = mpsc::channel();
    let stop = ended.clone();
    lifeline::on_signal(move || drop(stop.send(Err(Error::Stopped))))?;
    let voice = Voice::new();
    voice.say(&format!("a cluster of {NODES} nodes, each a process of its own, in {}", home.path.display()));
    // Small files of the log and some snapshots of the large file, so that the newcomer finds a trimmed log.
    let part = ((args.mib << 20) / 6).to_string();
    let settings = ["--segment-bytes", "4194304", "--snapshot-every-bytes", &part, "--keep-records", "8"];
    let stage = Stage::open(&program, &home.path, NODES, &settings)?;
    let closing = stage.clone();
    let (args, stays) = (args.clone(), args.stay);
    let work = home.path.with_extension("work");
    let _work = Scratch::new(Some(&work))?;
    // On a thread of its own, so that Ctrl-C is heard at every moment.
    let teller = std::thread::Builder::new().name("teller".to_owned()).spawn(move || {
        let told =
            if args.stay { scenes::stay(&stage, voice) } else { scenes::all(&stage, voice, &work, args.mib) };
        let _ = ended.send(told);
    });
    teller.map_err(Error::file("start a thread in", &home.path))?;
    let told = ends.recv().unwrap_or_else(|_| Err(Error::Demo("the story broke off".to_owned())));
    closing.close();
    match told {
        Err(Error::Stopped) if stays => {
            voice.say("\nall nodes have ended, and everything is removed");
            Ok(())
        }
        told => told,
    }
}

/// A directory that is gone when this is dropped, with all that is in it.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(path: Option<&Path>) -> Result<Scratch> {
        let Some(path) = path else {
            let temporary = std::env::temp_dir();
            let made = tempfile::Builder::new().prefix("annals-files-").tempdir();
            return Ok(Scratch { path: made.map_err(Error::file("write into", &temporary))?.keep() });
        };
        std::fs::create_dir_all(path).map_err(Error::file("make the directory", path))?;
        let is_empty = std::fs::read_dir(path).map_err(Error::file("look into", path))?.next().is_none();
        if !is_empty {
            return Err(Error::Usage(format!("{} is not empty: name a new directory", path.display())));
        }
        Ok(Scratch { path: path.to_owned() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left, if so, is said by its being there.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
