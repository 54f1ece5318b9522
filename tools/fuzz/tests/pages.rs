//! Every command of annals-fuzz on the pages runs.

use annals_scratch::Scratch;
use annals_scratch::script::{args, filled_in, to_run};

#[test]
fn every_command_on_the_pages_runs() {
    for call in to_run("annals-fuzz", &[]) {
        let scratch = Scratch::new(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_annals-fuzz"));
        std::fs::write(scratch.path("input"), "noise").expect("a file of noise");
        let args = filled_in(args("annals-fuzz", &call.text), &[("DIR", "seeds"), ("FILE", "input")]);
        let said = scratch.run(&args);
        assert_eq!(said.status, 0, "{call}: {}{}", said.out, said.err);
    }
}
