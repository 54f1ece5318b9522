//! How a replica begins: whose directory it is, and how it finds the others.

use annals::ClusterId;
use annals::node::ReplicaError;

use crate::fleet::{Fleet, id};

#[test]
fn a_directory_is_that_of_one_replica_of_one_cluster() {
    let fleet = Fleet::asleep(3);
    let start = |options: annals::node::ReplicaOptions, number| {
        options.start_on(fleet.disk(number), fleet.net.place(id(number)))
    };
    let other = start(fleet.options(2), 1).expect_err("it is that of replica 1");
    assert!(matches!(other, ReplicaError::OtherReplica { asked, found } if (asked, found) == (id(2), id(1))));
    let elsewhere = start(fleet.options(1).cluster(ClusterId::new(8)), 1).expect_err("of cluster 7");
    assert!(matches!(elsewhere, ReplicaError::OtherCluster { .. }), "{elsewhere}");
    let again = fleet.options(1).bootstrap_on(&fleet.disk(1), [(id(1), 0)]).expect_err("it is there");
    assert!(matches!(again, ReplicaError::Log(annals::Error::NotEmpty)), "{again}");
    let again = fleet.options(1).join_on(&fleet.disk(1)).expect_err("it is there");
    assert!(matches!(again, ReplicaError::Log(annals::Error::NotEmpty)), "{again}");
}

#[test]
fn a_cluster_cannot_begin_with_quorums_that_may_miss_each_other() {
    use annals::protocol::{ConfigError, Quorums};
    let fleet = Fleet::asleep(1);
    let disk = annals::disk::sim::SimDisk::new(5);
    let disk: std::sync::Arc<dyn annals::disk::Disk> = std::sync::Arc::new(disk);
    let voters = || (1..=3).map(|number| (id(number), 0));
    let bad = fleet.options(1).quorums(Quorums::Fixed { write: 1, election: 2 });
    let refused = bad.bootstrap_on(&disk, voters()).expect_err("they may miss each other");
    assert!(matches!(refused, ReplicaError::Config(ConfigError::Membership)), "{refused}");
    let absent = fleet.options(4).bootstrap_on(&disk, voters()).expect_err("it is not one of them");
    assert!(matches!(absent, ReplicaError::Config(ConfigError::Membership)), "{absent}");
    fleet.options(1).bootstrap_on(&disk, voters()).expect("nothing was written before");
}

#[cfg(feature = "quic")]
mod quic {
    use annals::protocol::{Change, Member, Role};

    use crate::fleet::{Fleet, id, until};

    #[test]
    fn where_the_others_are_is_learned_from_them_and_known_after_a_restart() {
        let mut fleet = Fleet::over_quic(3, |options| options);
        // The first one was told of nobody: the others have come to it.
        let knows = |fleet: &Fleet, number: u64, count: usize| {
            until("it knows where they are", || {
                let addresses = fleet.replica(number).status().expect("it runs").addresses;
                (addresses.len() == count).then_some(addresses)
            })
        };
        knows(&fleet, 1, 3);

        fleet.add_disk();
        let disk = fleet.options(4).join_on(&fleet.disk(4)).expect("a blank disk");
        fleet.start(4);
        let add = Change::AddLearner(Member { id: id(4), disk });
        until("it is added", || fleet.replica(fleet.primary()).change(add).expect("it runs").wait().ok());
        fleet.all_show(fleet.append(b"to all").lsn());
        assert_eq!(fleet.replica(4).status().expect("it runs").role, Role::Learner);
        let known = knows(&fleet, 1, 4);

        (1..=4).for_each(|number| fleet.kill(number));
        fleet.start(1);
        let again = knows(&fleet, 1, 4);
        let others = |addresses: Vec<(annals::ReplicaId, String)>| -> Vec<_> {
            addresses.into_iter().filter(|(other, _)| *other != id(1)).collect()
        };
        assert_eq!(others(again), others(known));
    }
}
