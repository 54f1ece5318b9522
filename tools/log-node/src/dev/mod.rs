//! `dev`: a whole cluster on one machine, its replicas child processes of this one.

mod child;
mod home;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use annals::transport::{Credentials, TlsFiles};
use annals_terminal::Table;

use crate::cli::DevArgs;
use crate::error::{Error, Result};
use crate::lifeline;
use crate::out;
use crate::session::Sessions;
use crate::status::Status;
use child::Child;
use home::Home;

/// How long the replicas may take to end by themselves once they are asked to.
const FAREWELL_MAX: Duration = Duration::from_secs(10);
/// From one look at the replicas to the next, while they elect their first primary.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a replica may take to say what it is.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What happens to a cluster.
enum Event {
    /// A replica's process has ended.
    Ended {
        /// Which replica's.
        replica: u64,
    },
    /// It is led by this replica now, for the first time.
    Ready { primary: u64 },
    /// The user has asked for the end.
    Stop,
}

/// Starts the cluster, and waits for its end.
pub(crate) fn run(args: &DevArgs) -> Result<Status> {
    let (home, is_new) = home::open(args)?;
    let (events, heard) = mpsc::channel();
    let stop = events.clone();
    lifeline::on_signal(move || drop(stop.send(Event::Stop)))?;
    if args.lifeline.until_stdin_ends {
        let stop = events.clone();
        lifeline::on_end_of_input(move || drop(stop.send(Event::Stop)))?;
    }
    let mut children: Vec<Child> = vec![];
    for replica in home.replicas() {
        let ended = events.clone();
        let id = replica.id;
        // Those that are running already end when `children` is dropped.
        let child = Child::start(id, &replica.config, args.log_level.as_deref(), move || {
            drop(ended.send(Event::Ended { replica: id }));
        })?;
        children.push(child);
    }
    let what = if is_new { "new cluster" } else { "cluster" };
    out::print(&format!("{what} of {} replicas in {}, starting\n", children.len(), args.dir.display()))?;
    if home.is_manual() {
        let (program, config) = (home::program(), home.client_config());
        out::print(&format!(
            "nobody leads until you say who; from another terminal: {program} promote -c {config} 1\n"
        ))?;
    }
    let ready = events.clone();
    watch_for_primary(&home, move |primary| drop(ready.send(Event::Ready { primary })))?;
    attend(&home, &mut children, &heard)
}

/// Tells the user what happens, until all replicas have ended or the user has had enough.
fn attend(home: &Home, children: &mut Vec<Child>, heard: &Receiver<Event>) -> Result<Status> {
    while let Ok(event) = heard.recv() {
        match event {
            Event::Stop => {
                out::print("ending the replicas; once more to end them at once\n")?;
                dismiss(children, heard);
                out::print("all replicas have ended\n")?;
                return Ok(Status::Done);
            }
            Event::Ready { primary } => drop(out::print(&ready_text(home, children, primary))?),
            Event::Ended { replica } => {
                if let Some(index) = children.iter().position(|child| child.replica() == replica) {
                    let how = children.remove(index).reap();
                    out::print(&format!(
                        "replica {replica} has ended: {how}\n{}",
                        again_text(home, replica)
                    ))?;
                }
                if children.is_empty() {
                    out::print("all replicas have ended by themselves\n")?;
                    return Ok(Status::Unwell);
                }
            }
        }
    }
    Ok(Status::Done)
}

/// Ends the replicas: politely first.
fn dismiss(children: &mut Vec<Child>, heard: &Receiver<Event>) {
    children.iter_mut().for_each(Child::ask_to_end);
    let deadline = Instant::now() + FAREWELL_MAX;
    while !children.is_empty() {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Ended { replica }) => children.retain_mut(|child| {
                let is_over = child.replica() == replica;
                if is_over {
                    child.reap();
                }
                !is_over
            }),
            Ok(Event::Ready { .. }) => {}
            // Asked once more, or it takes too long. Dropping a child kills it.
            Ok(Event::Stop) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                children.clear()
            }
        }
    }
}

/// Looks, on a thread of its own, until there is a primary.
fn watch_for_primary(home: &Home, tell: impl FnOnce(u64) + Send + 'static) -> Result<()> {
    let files: TlsFiles = home.client_files();
    let credentials = Credentials::load(&files)?;
    let addresses = home.addresses();
    let look = move || {
        let mut sessions = Sessions::new(credentials);
        loop {
            let seen = sessions.overview(&addresses, LOOK_MAX);
            if let Some(primary) = seen.primary {
                return tell(primary);
            }
            thread::sleep(LOOK_EVERY);
        }
    };
    let spawned = thread::Builder::new().name("look".to_owned()).spawn(look);
    spawned.map(drop).map_err(|source| Error::path("start a thread for", &files.ca)(source))
}

fn ready_text(home: &Home, children: &[Child], primary: u64) -> String {
    let mut table = Table::new(&["replica", "role", "process", "address", "status page"]);
    for replica in home.replicas() {
        let process = children.iter().find(|child| child.replica() == replica.id);
        table.row([
            replica.id.to_string(),
            if replica.id == primary { "primary" } else { "backup" }.to_owned(),
            process.map_or("-".to_owned(), |child| child.process().to_string()),
            replica.address.clone(),
            replica.http.map_or(String::new(), |http| format!("http://{http}/")),
        ]);
    }
    let (program, config) = (home::program(), home.client_config());
    let victim = children.iter().find(|child| child.replica() == primary).map_or(0, Child::process);
    let commands = [
        (format!("{program} append -c {config}"), "each line is a record; Ctrl-D ends"),
        (format!("{program} tail -c {config} --follow"), "all records, and those to come"),
        (format!("{program} status -c {config} --watch"), "who leads, and how far each is"),
        (format!("kill -9 {victim}"), "the primary's process: nothing is lost"),
    ];
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let lines = commands.map(|(command, remark)| format!("  {command:width$}   {remark}\n"));
    format!(
        "ready: replica {primary} is primary\n\n{}\nFrom another terminal:\n{}Ctrl-C here ends all replicas.\n",
        table.text(),
        lines.concat()
    )
}

/// How to start a replica again.
fn again_text(home: &Home, replica: u64) -> String {
    let config =
        home.replicas().iter().find(|each| each.id == replica).map(|each| each.config.display().to_string());
    let config = annals_terminal::quoted(&config.unwrap_or_default());
    format!("  to start it again, in another terminal: {} run -c {config}\n", home::program())
}
