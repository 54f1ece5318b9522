//! How it behaves among other programs: help, usage, pipes, signals, completions, manual pages.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::scratch::Scratch;

const COMMANDS: [&str; 10] =
    ["inspect", "verify", "dump", "plan", "repair", "undo", "salvage", "scrub", "completions", "man"];

#[test]
fn every_command_has_help() {
    let scratch = Scratch::new();
    let help = scratch.expect(0, "--help").out;
    for command in COMMANDS {
        assert!(help.contains(command), "{command}");
        let said = scratch.expect(0, &format!("{command} --help"));
        assert!(said.out.contains("Usage: log-recover") && said.err.is_empty(), "{command}");
        assert_eq!(scratch.expect(0, &format!("help {command}")).out, said.out);
    }
    assert!(help.contains("Exit status:") && help.contains("64 "));
    assert!(scratch.expect(0, "--version").out.starts_with("log-recover "));
}

#[test]
fn wrong_usage_is_status_64() {
    let scratch = Scratch::with_log();
    for args in [
        "",
        "mend log",
        "verify",
        "verify log more",
        "verify log --threads none",
        "dump log --from 0",
        "dump log --from 9 --to 8",
        "dump log --raw --hex",
        "--json dump log --raw",
        "repair log --accept-loss some",
        "salvage log",
        "salvage log --out log/new",
        "salvage log --records log",
        "scrub log --rate 0",
        "completions tcl",
        "man --json",
    ] {
        let said = scratch.expect(64, args);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{args}");
        let is_told = !args.contains("--from 0") || said.err.contains("the number of a record, from 1");
        assert!(is_told, "{args}: {}", said.err);
    }
    assert!(!scratch.path("log/new").exists());
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let scratch = Scratch::with_log();
    for args in ["dump log", "dump log --raw", "dump log --json", "verify log", "inspect log", "man"] {
        let mut child = scratch.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        // One byte is read and then nobody is there any more.
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args}");
    }
}

#[test]
fn a_signal_ends_it_with_status_130() {
    let scratch = Scratch::with_log();
    let mut scrub = scratch.command("scrub log --rate 1000 --repeat 3600");
    let mut child = scrub.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("pass 1: read "), "{line}");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = child.wait().unwrap();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(status.code(), Some(130), "{line}");
    assert!(line.contains("stopped by a signal"), "{line}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let scratch = Scratch::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(scratch.expect(0, &format!("completions {shell}")).out.contains("accept-loss"), "{shell}");
    }
    let page = scratch.expect(0, "man").out;
    for word in [".TH", "EXIT STATUS", "acknowledged records are lost", "130"] {
        assert!(page.contains(word), "{word}");
    }
    scratch.expect(0, "man --out pages/man1");
    let names = fs::read_dir(scratch.path("pages/man1")).unwrap().count();
    assert_eq!(names, COMMANDS.len() + 1);
    let page = fs::read_to_string(scratch.path("pages/man1/log-recover-repair.1")).unwrap();
    assert!(page.contains("accept\\-loss") && page.contains("EXIT STATUS"), "{page}");
}
