//! A highly available registry of users: an annals replica inside of each node.

use std::process::ExitCode;

fn main() -> ExitCode {
    accounts::run()
}
