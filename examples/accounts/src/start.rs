//! `start`: four nodes until Ctrl-C, for whoever wants to play with them.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

use crate::cli::StartArgs;
use crate::demo::Signals;
use crate::demo::cast::{By, Cast, node_of};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::settings::{Policy, name};

/// From one look at the processes to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const COMMANDS: &str = "\
kill N       end a node as a power cut would    stop N       end it in good order
start N      start it again                     transfer N   hand the primary's role to it
promote N    have it stand for election         status       who is what
Ctrl-C       end all of them";

/// Runs the four nodes, and does what the user types.
pub(crate) async fn run(program: &Path, args: &StartArgs) -> Result<()> {
    // First, so that whoever stops it while it is set up leaves nothing either.
    let mut signals = Signals::listen()?;
    let (dir, kept) = match &args.dir {
        Some(dir) => (None, dir.clone()),
        None => {
            let dir = tempfile::Builder::new().prefix("annals-accounts-").tempdir();
            let dir = dir.map_err(Error::path("make a directory in", &std::env::temp_dir()))?;
            let path = dir.path().to_owned();
            (Some(dir), path)
        }
    };
    let (home, is_new) = Home::open(&kept, args.costs.costs())?;
    let mut cast = Cast::new(home, program)?;
    let ran = tokio::select! {
        ran = play(&mut cast, args.policy, is_new) => ran,
        stopped = signals.stopped() => stopped,
    };
    println!("ending the nodes");
    cast.end().await;
    if let Some(dir) = dir {
        let path = dir.path().to_owned();
        dir.close().map_err(Error::path("remove", &path))?;
    }
    // To be stopped is how this ends.
    if matches!(ran, Err(Error::Stopped)) { Ok(()) } else { ran }
}

async fn play(cast: &mut Cast, policy: Option<Policy>, is_new: bool) -> Result<()> {
    cast.start_all_with(policy)?;
    match policy {
        // Nobody leads before the user says who.
        Some(Policy::Manual) => drop(cast.wait_for(1, "N01 answers", |seen| seen["nodes"].is_array()).await?),
        _ => {
            let seen = cast.wait_until_well().await?;
            // In a new cluster N01 is the primary; later on whoever was elected.
            if is_new && seen["primary"] != name(1) {
                cast.make_primary(1, By::Transfer).await?;
            }
        }
    }
    println!("four nodes run in {}", cast.dir().display());
    for id in cast.ids() {
        println!("  {}  http://{}/", name(id), cast.http(id));
    }
    println!("open one of these in a browser. What can be typed here:\n{COMMANDS}");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = next(&mut lines) => obey(cast, policy, &line).await,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        for (id, status) in cast.ended() {
            println!("{} has ended by itself: {status}; type start {id} to start it again", name(id));
        }
    }
}

/// The next line; there is none when standard input is at its end, as it is in a script.
async fn next(lines: &mut Lines<BufReader<Stdin>>) -> String {
    match lines.next_line().await {
        Ok(Some(line)) => line,
        _ => std::future::pending().await,
    }
}

async fn obey(cast: &mut Cast, policy: Option<Policy>, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let node = |word: &str| {
        let number = word.trim_start_matches(['N', 'n']).parse().ok();
        number.filter(|number| cast.ids().contains(number))
    };
    let done = match words[..] {
        [] => return,
        ["status"] => status(cast).await,
        [verb, word] => match (verb, node(word)) {
            ("kill", Some(id)) => cast.kill(id).await,
            ("stop", Some(id)) => cast.stop(id).await,
            ("start", Some(id)) => cast.start(id, policy),
            ("transfer", Some(id)) => cast.transfer(id).await.map_err(Error::from),
            ("promote", Some(id)) => cast.promote(id).await.map_err(Error::from),
            _ => return println!("{COMMANDS}"),
        },
        _ => return println!("{COMMANDS}"),
    };
    match done {
        Ok(()) => println!("done: {line}"),
        Err(error) => println!("not done: {error}"),
    }
}

async fn status(cast: &Cast) -> Result<()> {
    let Some(witness) = cast.ids().into_iter().find(|id| cast.runs(*id)) else {
        println!("no node runs");
        return Ok(());
    };
    let seen = cast.get(witness, "/cluster").await?.json;
    for id in cast.ids() {
        let node = node_of(&seen, id);
        let lag = node["lag"].as_u64().map_or("-".to_owned(), |lag| lag.to_string());
        let epoch = node["epoch"].as_u64().map_or("-".to_owned(), |epoch| epoch.to_string());
        let role = node["role"].as_str().unwrap_or_default();
        println!("  {}  {role:10} epoch {epoch:>4}  {lag:>6} records behind", name(id));
    }
    Ok(())
}
