//! One stream of QUIC from this process to another: what catch-up is measured against.
//!
//! Between two processes of this machine, as catch-up is, with the same TLS. Nothing is read, written or looked at.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use annals::transport::yardstick::{Setup, Sink, pour};

use crate::cli::ChildSinkArgs;
use crate::error::{Error, Result};

/// What goes wrong is told as this.
const DOING: &str = "receiving a stream";

/// What a stream moves that lasts for so long, in MB/s.
pub(crate) fn mb_per_s(setup: Setup, lasting: Duration, dir: &Path) -> Result<f64> {
    let program = std::env::current_exe().map_err(Error::io("find", Path::new("log-bench itself")))?;
    let mut command = Command::new(program);
    command.arg("child-sink").arg(dir);
    if setup == Setup::Tuned {
        command.arg("--tuned");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io("start a child process for", dir))?;
    let mut told = BufReader::new(child.stdout.take().expect("asked for above"));
    let mut line = String::new();
    let poured = match told.read_line(&mut line).ok().and_then(|_| line.trim().parse::<SocketAddr>().ok()) {
        Some(address) => {
            pour(setup, lasting, dir, address).map_err(Error::cluster("measure a stream beside"))
        }
        // It says why, below.
        None => Ok(()),
    };
    if poured.is_err() {
        let _ = child.kill();
    }
    let mut rest = String::new();
    let heard = told.read_to_string(&mut rest);
    let output = child.wait_with_output().map_err(Error::io("wait for a child process in", dir))?;
    poured?;
    let mut figures = rest.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    match (heard, figures.next(), figures.next()) {
        (Ok(_), Some(bytes), Some(secs)) if output.status.success() => Ok(bytes / 1e6 / secs),
        _ => {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_string();
            let left = if words.is_empty() { output.status.to_string() } else { words };
            Err(Error::Child { doing: DOING, left })
        }
    }
}

/// The child's side: says where it listens, and then the bytes and the seconds.
pub(crate) fn child(args: &ChildSinkArgs) -> Result<()> {
    let dir = &args.dir;
    let setup = if args.tuned { Setup::Tuned } else { Setup::Stock };
    let wrong = || Error::cluster("measure a stream beside");
    let sink = Sink::bind(setup, dir).map_err(wrong())?;
    println!("{}", sink.address().map_err(wrong())?);
    std::io::stdout().flush().map_err(Error::io("tell the parent of", dir))?;
    let (bytes, taken) = sink.receive().map_err(wrong())?;
    println!("{bytes} {}", taken.as_secs_f64());
    Ok(())
}
