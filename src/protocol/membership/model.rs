//! Quorums beside a count from scratch, and whether those that decide always meet (trap: an incremental quorum that
//! forgets a half).

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

/// Few enough that all sets of them can be tried.
const MEMBERS: u64 = 6;

fn member(id: u64) -> Member {
    Member { id: ReplicaId::new(id), disk: DiskId::new(u128::from(id) + 1000) }
}

fn electorates() -> impl Strategy<Value = Electorate> {
    let quorums = prop_oneof![
        Just(Quorums::Majority),
        (1..=6_u8, 1..=6_u8).prop_map(|(write, election)| Quorums::Fixed { write, election }),
    ];
    let ids = subsequence((1..=MEMBERS).collect::<Vec<_>>(), 1..=MEMBERS as usize);
    (ids, quorums)
        .prop_map(|(ids, quorums)| {
            let voters = ids.into_iter().map(|id| Voter { member: member(id), priority: 0 }).collect();
            Electorate { voters, quorums }
        })
        .prop_filter("sound", Electorate::is_sound)
}

fn memberships() -> impl Strategy<Value = Membership> {
    (electorates(), proptest::option::of(electorates())).prop_map(|(electorate, outgoing)| Membership {
        generation: 1,
        electorate,
        outgoing,
        learners: Vec::new(),
    })
}

/// Each number from the greatest down is tried, by counting who has reached it.
fn reached(membership: &Membership, numbers: &[u64]) -> u64 {
    let halves: Vec<&Electorate> = [&membership.electorate].into_iter().chain(&membership.outgoing).collect();
    let has = |number: u64| {
        halves.iter().all(|half| {
            let there = half.voters.iter().filter(|voter| at(numbers, voter.member) >= number).count();
            there >= half.write_quorum()
        })
    };
    let mut tried: Vec<u64> = numbers.to_vec();
    tried.sort_unstable();
    tried.into_iter().rev().find(|&number| has(number)).unwrap_or(0)
}

fn at(numbers: &[u64], member: Member) -> u64 {
    numbers[member.id.get() as usize - 1]
}

/// The members in a set of bits.
fn is_in(set: u64, member: Member) -> bool {
    set >> (member.id.get() - 1) & 1 == 1
}

fn commits(membership: &Membership, set: u64) -> bool {
    membership.reached(|member| u64::from(is_in(set, member))) == 1
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_quorum_has_reached_is_what_counting_says(
        membership in memberships(), numbers in vec(0..9_u64, MEMBERS as usize),
    ) {
        let expected = reached(&membership, &numbers);
        prop_assert_eq!(membership.reached(|member| at(&numbers, member)), expected);
    }

    #[test]
    fn votes_are_counted_in_each_half(membership in memberships(), set in 0..1_u64 << MEMBERS) {
        let halves = [Some(&membership.electorate), membership.outgoing.as_ref()];
        let expected = halves.into_iter().flatten().all(|half| {
            let votes = (1..=MEMBERS).filter(|&id| half.has(member(id)) && is_in(set, member(id))).count();
            votes >= half.election_quorum()
        });
        prop_assert_eq!(membership.elects(|member| is_in(set, member)), expected);
    }

    #[test]
    fn those_who_elect_meet_those_who_commit_and_those_who_elect_through_a_change(
        old in electorates(), new in electorates(),
    ) {
        let alone = |electorate: &Electorate| Membership {
            generation: 1, electorate: electorate.clone(), outgoing: None, learners: Vec::new(),
        };
        let joint = Membership { outgoing: Some(old.clone()), ..alone(&new) };
        // The old one alone, the joint one and the new one alone each may be what somebody acts on beside the next.
        let (old, new) = (alone(&old), alone(&new));
        for (one, other) in [(&old, &old), (&old, &joint), (&joint, &old), (&joint, &joint), (&joint, &new), (&new, &joint)] {
            for set in (0..1_u64 << MEMBERS).filter(|&set| one.elects(|member| is_in(set, member))) {
                // Everybody outside of the set: they neither commit nor elect.
                let rest = !set & ((1 << MEMBERS) - 1);
                prop_assert!(!commits(other, rest), "{:b} elects, and {:b} commits", set, rest);
                prop_assert!(!other.elects(|member| is_in(rest, member)), "{:b} and {:b} elect", set, rest);
            }
        }
    }
}
