//! `create`: a replica's directory, once.

use annals::ReplicaId;

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
    let voters = voters(settings)?;
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

/// The replicas that the cluster begins with, each with its priority.
pub(crate) fn voters(settings: &ReplicaSettings) -> Result<Vec<(ReplicaId, u8)>> {
    let mut voters: Vec<(ReplicaId, u8)> = settings.members().map(|(member, _)| (member, 0)).collect();
    let preferences = settings.priorities.as_deref().unwrap_or_default();
    for (index, preference) in preferences.iter().enumerate() {
        let id = preference.id;
        if preferences[..index].iter().any(|before| before.id == id) {
            let reason = format!("`priorities` names replica {id} twice: leave one of them out");
            return Err(Error::BadSetting { reason });
        }
        let Some((_, priority)) = voters.iter_mut().find(|(voter, _)| *voter == id) else {
            let reason = format!(
                "`priorities` names replica {id}, which is none of those that the cluster begins with: for one that is \
                 added later, use `log-node add --priority`"
            );
            return Err(Error::BadSetting { reason });
        };
        *priority = preference.priority;
    }
    Ok(voters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(priorities: &str) -> Result<Vec<(u64, u8)>> {
        let text = format!("peers = [\"1=a:1\", \"2=b:1\", \"3=c:1\"]\n{priorities}");
        let voters = voters(&toml::from_str(&text).unwrap())?;
        Ok(voters.into_iter().map(|(id, priority)| (id.get(), priority)).collect())
    }

    /// They were 0, whatever anybody wanted: the policy `priority` could prefer nobody.
    #[test]
    fn the_first_voters_have_the_priorities_of_the_settings() {
        assert_eq!(with("").unwrap(), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(with(r#"priorities = ["3=5", "2=10"]"#).unwrap(), [(1, 0), (2, 10), (3, 5)]);
    }

    #[test]
    fn a_priority_of_a_stranger_and_two_of_one_replica_are_refused() {
        let error = with(r#"priorities = ["2=10", "4=5"]"#).unwrap_err().to_string();
        assert!(error.contains("names replica 4") && error.contains("add --priority"), "{error}");
        let error = with(r#"priorities = ["2=10", "3=1", "2=10"]"#).unwrap_err().to_string();
        assert!(error.contains("names replica 2 twice"), "{error}");
    }
}
