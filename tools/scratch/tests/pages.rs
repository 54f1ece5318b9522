//! That every command on a page is somebody's, and names what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use annals_scratch::pages::{Call, Owner, calls, nameless, root};

/// Lines of shell without a program of this project, and why no test runs them.
const SHELL: &[(&str, &str)] = &[
    ("kill -9 PID", "tools/log-node/tests/run/readme.rs kills the primary itself: it knows the process"),
    ("for file in kept", "reads gigabytes past the page cache, by GNU dd"),
];

fn all_of(owner: impl Fn(&Owner) -> bool) -> Vec<Call> {
    calls().into_iter().filter(|call| owner(&call.owner)).collect()
}

#[test]
fn every_program_on_the_pages_has_a_test_that_runs_its_commands() {
    let owners: BTreeSet<Owner> = calls().into_iter().map(|call| call.owner).collect();
    for owner in &owners {
        let Owner::Tool(tool) = owner else { continue };
        let folder = format!("tools/{}", tool.trim_start_matches("annals-"));
        let places = [format!("{folder}/tests/pages.rs"), format!("{folder}/tests/run/pages.rs")];
        let text = places.iter().find_map(|place| fs::read_to_string(root().join(place)).ok());
        let calls = all_of(|of| of == owner);
        assert!(
            text.is_some_and(|text| text.contains("to_run(")),
            "{} is run by nobody: write {}, which asks `to_run` for the commands of {tool}",
            calls[0],
            places[0]
        );
    }
}

#[test]
fn a_command_can_be_typed_as_it_stands() {
    let pages: BTreeSet<String> = calls().into_iter().map(|call| call.page).collect();
    let found = pages.iter().flat_map(|page| {
        let text = fs::read_to_string(root().join(page)).expect("a page can be read");
        nameless(&text).into_iter().map(move |(line, code)| format!("{page}:{line}: `{code}`"))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "write the program before these:\n{}", found.join("\n"));
}

#[test]
fn shell_lines_are_run_or_excused() {
    let calls = all_of(|owner| *owner == Owner::Shell);
    for call in &calls {
        let is_excused = SHELL.iter().any(|(beginning, _)| call.text.starts_with(beginning));
        assert!(is_excused, "{call} is run by no test: say why in `SHELL`, or let a tool's test run it");
    }
    for (beginning, reason) in SHELL {
        let is_there = calls.iter().any(|call| call.text.starts_with(beginning));
        assert!(is_there && !reason.is_empty(), "no page has `{beginning}` any more: take it out of `SHELL`");
    }
}

#[test]
fn examples_are_there_and_the_checks_run_them() {
    let checks = fs::read_to_string(root().join(".ci/run")).expect("the checks can be read");
    for call in all_of(|owner| matches!(owner, Owner::Example(_))) {
        let Owner::Example(name) = &call.owner else { continue };
        let places = [format!("examples/{name}.rs"), format!("examples/{name}/Cargo.toml")];
        assert!(places.iter().any(|place| root().join(place).exists()), "{call}: there is no such example");
        assert!(checks.contains("step_examples()"), "{call}: .ci/run has no step for examples");
    }
}

/// What `cargo test`, `cargo bench`, `cargo build` and `.ci/run` name is there: the tests themselves are run by
/// `cargo test --workspace`, the benches and steps by the checks.
#[test]
fn what_cargo_and_the_checks_are_to_run_is_there() {
    let checks = fs::read_to_string(root().join(".ci/run")).expect("the checks can be read");
    let mut wrong = vec![];
    for call in all_of(|owner| *owner == Owner::Builder) {
        if let Err(reason) = is_there(&call.text, &checks) {
            wrong.push(format!("{call}: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_there(text: &str, checks: &str) -> Result<(), String> {
    let words: Vec<&str> = text.split_whitespace().skip_while(|word| word.contains('=')).collect();
    let Some(("cargo", words)) = words.split_first().map(|(first, rest)| (*first, rest)) else {
        return steps_are_there(&words[1..], checks);
    };
    let line = Line::parse(words);
    let package = match line.value("-p") {
        None | Some("annals") => root(),
        Some(name) => package_of(name).ok_or("no such package")?,
    };
    let target = ["test", "bench"].iter().find_map(|kind| Some((*kind, line.value(&format!("--{kind}"))?)));
    let sources = match target {
        None => vec![package.join("src"), package.join("tests")],
        Some((kind, name)) => {
            let folder = package.join(if kind == "test" { "tests" } else { "benches" });
            let places = [folder.join(format!("{name}.rs")), folder.join(name)];
            vec![places.into_iter().find(|place| place.exists()).ok_or(format!("no {kind} {name}"))?]
        }
    };
    match line.filter {
        Some(filter) if !sources.iter().any(|place| has_test(place, filter)) => {
            Err(format!("no test has `{filter}` in its name"))
        }
        _ => Ok(()),
    }
}

/// Where the package of this name lies.
fn package_of(name: &str) -> Option<PathBuf> {
    let folders = ["tools", "examples"].into_iter().flat_map(|folder| fs::read_dir(root().join(folder)));
    let packages = folders.flatten().flatten().map(|entry| entry.path());
    packages.into_iter().find(|package| {
        let manifest = fs::read_to_string(package.join("Cargo.toml"));
        manifest.is_ok_and(|text| text.contains(&format!("\nname = \"{name}\"\n")))
    })
}

/// Whether the checks have these steps; `NAME...` stands for any.
fn steps_are_there(words: &[&str], checks: &str) -> Result<(), String> {
    let is_step = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match words.iter().filter(is_step).find(|step| !checks.contains(&format!("step_{step}()"))) {
        Some(step) => Err(format!("no step {step}")),
        None => Ok(()),
    }
}

/// Cargo's command line, as far as the pages use it.
struct Line<'a> {
    flags: Vec<(&'a str, &'a str)>,
    /// What tests have to have in their name.
    filter: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(words: &[&'a str]) -> Line<'a> {
        const WITH_VALUE: [&str; 5] = ["-p", "--test", "--bench", "--features", "--target"];
        let mut line = Line { flags: vec![], filter: None };
        let mut words = words.iter().skip(1).take_while(|word| **word != "--");
        while let Some(word) = words.next() {
            if WITH_VALUE.contains(word) {
                line.flags.push((word, words.next().copied().unwrap_or_default()));
            } else if !word.starts_with('-') && *word != "..." {
                line.filter = Some(word);
            }
        }
        line
    }

    fn value(&self, flag: &str) -> Option<&'a str> {
        self.flags.iter().find(|(name, _)| *name == flag).map(|(_, value)| *value)
    }
}

/// Whether a test below `place`, or the module that it is in, has this in its name.
fn has_test(place: &Path, filter: &str) -> bool {
    let last = filter.rsplit("::").next().unwrap_or(filter);
    if place.is_dir() {
        let entries = fs::read_dir(place).expect("a folder can be read");
        return entries.flatten().any(|entry| has_test(&entry.path(), filter));
    }
    let name = place.file_stem().unwrap_or_default().to_string_lossy();
    let folder = place.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    name == last
        || (folder == last && name == "mod")
        || fs::read_to_string(place).is_ok_and(|text| {
            text.lines().any(|line| line.trim_start().starts_with("fn ") && line.contains(last))
        })
}
