//! Every command of power-cut on the pages is understood. None is run here: they are for root, and take minutes.

use annals_scratch::Scratch;
use annals_scratch::script::{args, to_run};

#[test]
fn every_command_on_the_pages_is_understood() {
    let scratch = Scratch::new(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_power-cut"));
    for call in to_run("power-cut", &[]) {
        // Flags that it does not know are found before the help is shown.
        let said = scratch.run(&format!("{} --help", args("power-cut", &call.text)));
        assert_eq!(said.status, 0, "{call}: {}{}", said.out, said.err);
    }
}
