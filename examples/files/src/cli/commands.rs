//! What the commands do that put, get and look.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use super::nodes;
use super::out::{print, size};
use super::{DeleteArgs, GetArgs, ListArgs, PutArgs, RenameArgs, StatArgs};
use crate::client::{FileClient, Got, PutOptions};
use crate::error::{Error, Result};
use crate::home;
use crate::name::FileName;
use crate::operation::OperationId;
use crate::report::FileReport;
use crate::state::Outcome;

/// From this size on a put says at once how it is gone on with: it may be killed.
const LARGE_BYTES: u64 = 8 << 20;
/// How often a file is read that is replaced each time before all of it was.
const ATTEMPTS: u32 = 3;

pub(super) fn put(args: &PutArgs) -> Result<()> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.file)?,
    };
    let id = args.id.map_or_else(random, Ok)?;
    let (mut contents, bytes) = source(&args.file)?;
    if args.id.is_none() && bytes.is_none_or(|bytes| bytes >= LARGE_BYTES) {
        eprintln!("if this is interrupted, go on with --id {id}");
    }
    let options = PutOptions {
        id,
        is_retry: args.id.is_some(),
        name: name.clone(),
        replace: args.replace,
        bytes_per_s: args.rate,
    };
    let client = args.reach.client()?;
    let put = client.put(&options, &mut *contents)?;
    say(&match put {
        put if put.was_done && !is_there(&client, &options)? => format!(
            "an earlier attempt was done with record {}, and what it has put is not called {name} now; nothing was \
             changed\n",
            put.finished.lsn
        ),
        put if put.was_done => {
            format!(
                "{name}: an earlier attempt has done it, with record {}; nothing was changed\n",
                put.finished.lsn
            )
        }
        put if put.chunks_before > 0 => format!(
            "{name}: done with record {}; of {} chunks {} were there from an earlier attempt\n",
            put.finished.lsn, put.chunks, put.chunks_before
        ),
        put => format!(
            "{name}: done with record {}, {} of 256 KiB at most\n",
            put.finished.lsn,
            counted(put.chunks)
        ),
    })
}

/// Whether the file is what this put has brought.
fn is_there(client: &FileClient, options: &PutOptions) -> Result<bool> {
    let file = client.reader().file(&options.name, client.now()?)?;
    Ok(file.is_some_and(|file| file.put == options.id))
}

fn name_of(file: &Path) -> Result<FileName> {
    let name = file.file_name().and_then(|name| name.to_str()).filter(|_| file != Path::new("-"));
    let unnamed =
        || Error::Usage(format!("{} has no name that can be used: give one with --as", file.display()));
    Ok(name.ok_or_else(unnamed)?.parse()?)
}

/// What to read, and its size as far as known.
fn source(path: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path).map_err(Error::file("read", path))?;
    let about = file.metadata().map_err(Error::file("read", path))?;
    if about.is_dir() {
        let reason = format!("{} is a directory: put its files one by one", path.display());
        return Err(Error::Usage(reason));
    }
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}

pub(super) fn get(args: &GetArgs) -> Result<()> {
    let client = args.reach.client()?;
    if args.to.as_deref() == Some(Path::new("-")) {
        let got = client.get(&args.name, &mut io::stdout().lock())?;
        warn(&got);
        return Ok(());
    }
    let mut to = args.to.clone().unwrap_or_default();
    if args.to.is_none() || to.is_dir() {
        to.push(args.name.last_part());
    }
    if to.is_dir() {
        return Err(Error::Usage(format!("{} is a directory: name the file to write", to.display())));
    }
    if to.exists() && !args.force {
        return Err(Error::Usage(format!("{} is there already: --force replaces it", to.display())));
    }
    let got = receive_whole(&client, &args.name, &to)?;
    warn(&got);
    let nodes: Vec<String> = got.nodes.iter().map(|node| home::name(*node)).collect();
    let from = if nodes.is_empty() { String::new() } else { format!(" from {}", nodes.join(", then ")) };
    say(&format!(
        "{}: {}{from}, sha256 {} checked\n",
        to.display(),
        size(got.file.bytes),
        got.file.digest.short()
    ))
}

/// A file that is replaced while it is read is read once more: as it was then, or as it is now, and never a part of both.
fn receive_whole(client: &FileClient, name: &FileName, to: &Path) -> Result<Got> {
    for _ in 1..ATTEMPTS {
        match receive(client, name, to) {
            Err(Error::Changed { .. }) => {}
            received => return received,
        }
    }
    receive(client, name, to)
}

/// The file has its name only once all of it is checked.
fn receive(client: &FileClient, name: &FileName, to: &Path) -> Result<Got> {
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::metadata(dir).map_err(Error::file("write into", dir))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".getting-");
    // As any new file: what the process's mask lets through.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut staged = builder.tempfile_in(dir).map_err(Error::file("write into", dir))?;
    let got = client.get(name, &mut staged)?;
    staged.flush().and_then(|()| staged.as_file().sync_all()).map_err(Error::file("write", to))?;
    staged.persist(to).map_err(|error| Error::file("write", to)(error.error))?;
    Ok(got)
}

fn warn(got: &Got) {
    for (node, why) in &got.failed {
        eprintln!("{} could not be read from: {why}", home::name(*node));
    }
}

pub(super) fn list(args: &ListArgs) -> Result<()> {
    let client = args.reach.client()?;
    let at = client.now()?;
    let mut after: Option<String> = None;
    loop {
        let files = client.reader().files(after.as_deref(), at)?;
        let Some(last) = files.last() else { return Ok(()) };
        after = Some(last.name.clone());
        let wanted =
            |file: &&FileReport| args.prefix.as_ref().is_none_or(|prefix| file.name.starts_with(prefix));
        let lines = files.iter().filter(wanted);
        let lines = lines.map(|file| format!("{:>12}  {}  {}\n", file.bytes, file.digest.short(), file.name));
        say(&lines.collect::<String>())?;
    }
}

pub(super) fn delete(args: &DeleteArgs) -> Result<()> {
    let id = args.id.map_or_else(random, Ok)?;
    let finished = args.reach.client()?.delete(id, &args.name)?;
    say(&format!("{}: deleted with record {}\n", args.name, finished.lsn))
}

pub(super) fn rename(args: &RenameArgs) -> Result<()> {
    let id = args.id.map_or_else(random, Ok)?;
    let finished = args.reach.client()?.rename(id, &args.old, &args.new, args.replace)?;
    say(&format!("{} is {} now, with record {}\n", args.old, args.new, finished.lsn))
}

pub(super) fn stat(args: &StatArgs) -> Result<ExitCode> {
    let Some(name) = &args.name else { return nodes::stat(args) };
    let client = args.reach.client()?;
    let file = client.reader().file(name, client.now()?)?.ok_or(Error::Refused(Outcome::Missing))?;
    say(&format!(
        "name    {}\nbytes   {}\nchunks  {}\nsha256  {}\nput     {}\nrecord  {}\n",
        file.name, file.bytes, file.chunks, file.digest, file.put, file.lsn
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn counted(chunks: u64) -> String {
    if chunks == 1 { "1 chunk".to_owned() } else { format!("{chunks} chunks") }
}

fn random() -> Result<OperationId> {
    OperationId::random().map_err(Error::file("draw a random number for", Path::new("the operation")))
}

pub(super) fn say(text: &str) -> Result<()> {
    print(text).map_err(Error::file("write to", Path::new("standard output")))
}
