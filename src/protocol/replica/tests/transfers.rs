//! To whom the role is handed over, where nobody says it.

use super::*;

/// A primary whose two backups have everything.
fn followed() -> Bench {
    let mut bench = Bench::new();
    bench.reign();
    bench.sync(1);
    let mut history = EpochHistory::default();
    history.append(Epoch::new(1), range(1, 1));
    for backup in [2, 3] {
        let reply =
            ProbeReply { through: Lsn::LAST, history: history.clone(), incarnation: LIFE, staged: None };
        bench.hear(backup, 1, Message::ProbeReply(Box::new(reply)));
        says_what_it_has(&mut bench, backup);
    }
    bench
}

fn says_what_it_has(bench: &mut Bench, backup: u64) -> Vec<Effect> {
    bench.hear(backup, 1, Message::Ack { incarnation: LIFE, durable: Lsn::new(1), is_whole: true })
}

fn told(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(Envelope { to, message: Message::TakeOver { .. }, .. }) => Some(to.id.get()),
        _ => None,
    })
}

/// Heartbeat after heartbeat, answered by replica 2 alone; who is told to take over meanwhile.
fn told_while_only_two_answers(bench: &mut Bench) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..6 {
        bench.now = bench.now.plus(Timing::default().heartbeat);
        all.extend(told(&says_what_it_has(bench, 2)));
    }
    all
}

/// A backup was killed, the next hand-over was to it, and came to nothing two seconds later.
#[test]
fn a_successor_that_has_fallen_silent_is_not_waited_for_while_another_one_is_there() {
    let mut bench = followed();
    let first = told(&bench.give(Input::Transfer { token: 7, to: None }));
    assert_eq!(first, Some(3), "it was heard as lately as the other one");
    assert_eq!(told_while_only_two_answers(&mut bench), [3, 3, 3, 2, 2, 2]);
}

#[test]
fn whoever_is_asked_for_is_waited_for() {
    let mut bench = followed();
    assert_eq!(told(&bench.give(Input::Transfer { token: 7, to: Some(ReplicaId::new(3)) })), Some(3));
    assert_eq!(told_while_only_two_answers(&mut bench), [3; 6]);
}
