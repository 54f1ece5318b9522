//! `create`: a replica's directory, once.

use crate::cli::CreateArgs;
use crate::error::{Error, Result};
use crate::out;
use crate::replica;
use crate::settings::{ReplicaSettings, required};
use crate::status::Status;

/// Makes the directory, and says what comes next.
pub(crate) fn run(args: &CreateArgs) -> Result<Status> {
    let settings = args.settings.clone().with_file(args.config.as_deref())?;
    replica(&settings, args.join)?;
    let id = required(settings.id, "id")?;
    let next = if args.join { ", then `log-node add` it" } else { "" };
    out::print(&format!("replica {id} is made; next: `log-node run` with the same settings{next}\n"))?;
    Ok(Status::Done)
}

/// Makes the directory of one of the replicas that a cluster begins with, or of a newcomer.
pub(crate) fn replica(settings: &ReplicaSettings, is_newcomer: bool) -> Result<()> {
    let options = replica::options(settings)?;
    if is_newcomer {
        options.join()?;
        return Ok(());
    }
    let id = required(settings.id, "id")?;
    let voters: Vec<_> = settings.members().map(|(member, _)| (member, 0)).collect();
    if !voters.iter().any(|(member, _)| member.get() == id) {
        return Err(Error::BadSetting {
            reason: format!(
                "`peers` does not name replica {id} itself; name all replicas that the cluster begins with, or use \
                 --join for one that is added later"
            ),
        });
    }
    options.bootstrap(voters)?;
    Ok(())
}
