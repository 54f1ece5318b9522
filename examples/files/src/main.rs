//! A small distributed file store: an annals replica inside of each node. See the crate `files`.

use std::process::ExitCode;

fn main() -> ExitCode {
    files::cli::main()
}
