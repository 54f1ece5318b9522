//! Every command of log-recover on the pages runs.

use annals_scratch::script::Reason::{self, Tested};
use annals_scratch::script::{args, filled_in, to_run};

use crate::scratch::Scratch;

/// What is not run here, and why.
const LEFT_OUT: &[(&str, Reason)] = &[
    (
        "repair DIR --from-peer",
        Tested(
            "tools/log-recover/tests/run/peer.rs",
            "exactly_what_a_replica_has_lost_comes_back_from_a_peer",
        ),
    ),
    (
        "scrub DIR --rate 16 --repeat",
        Tested("tools/log-recover/tests/run/shell.rs", "a_signal_ends_it_with_status_130"),
    ),
];

/// A log with two records that are lost for good, and one that a repair gets back.
fn damaged() -> Scratch {
    let scratch = Scratch::with_log();
    scratch.flip(60);
    scratch.spoil(17);
    scratch.spoil(120);
    scratch
}

#[test]
fn every_command_on_the_pages_runs() {
    for call in to_run("log-recover", LEFT_OUT) {
        let args = args("log-recover", &call.text);
        let scratch = damaged();
        let command = args.split(' ').next().unwrap_or_default();
        if command == "undo" {
            scratch.expect(0, "repair log --accept-loss 2");
        }
        let real = [
            ("DIR", "log"),
            ("COPY", "log"),
            ("kept/data/log", "log"),
            ("NEW", "new"),
            ("FILE", "records"),
            ("LSN", "5"),
            ("1920", "2"),
        ];
        // A sentence may name a command without saying of what.
        let is_bare = !args.contains(' ');
        let args = if is_bare { format!("{args} --help") } else { filled_in(args, &real) };
        let said = scratch.shell("log-recover", &format!("target/release/log-recover {args}"));
        let is_looking = matches!(command, "verify" | "inspect" | "plan" | "scrub" | "dump" | "salvage");
        let expected: &[i32] = match command {
            // Damage is what there is to be found; a part of a log may be whole.
            _ if is_looking && !is_bare => &[0, 2],
            "repair" if !is_bare && !args.contains("--accept-loss") => &[2],
            _ => &[0],
        };
        assert!(expected.contains(&said.status), "{call}: {}: {}{}", said.status, said.out, said.err);
    }
}
