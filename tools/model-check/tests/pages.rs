//! Every command of model-check on the pages runs, for no time at all: `.ci/run model_check` walks to the end.

use annals_scratch::Scratch;
use annals_scratch::script::{args, to_run, with_flags};

#[test]
fn every_command_on_the_pages_runs() {
    let scratch = Scratch::new(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_model-check"));
    for call in to_run("model-check", &[]) {
        let said = scratch.run(&with_flags(args("model-check", &call.text), &[("--secs", "0")]));
        // All states, or as many as there was time for.
        assert!(matches!(said.status, 0 | 2), "{call}: {}{}", said.out, said.err);
    }
}
