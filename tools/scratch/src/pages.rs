//! The commands on the project's pages: README, changelog and `docs/`.
//!
//! A command is each line of a fenced block of `sh` or `bash`, each line of one of `text` that begins with a program of
//! this project, and each piece of code in a sentence or a table that does and has arguments. Whoever adds one to a
//! page finds it run by the tests of its program, or has to give them the reason why not.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The programs of this project, and those that build them.
const PROGRAMS: [&str; 8] =
    ["cargo", ".ci/run", "log-bench", "log-node", "log-recover", "power-cut", "model-check", "annals-fuzz"];

/// A command on a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The page, from the root of the repository.
    pub page: String,
    /// The line that it begins on.
    pub line: usize,
    /// As it stands there.
    pub text: String,
    /// Whose command it is.
    pub owner: Owner,
}

/// Whose tests run a command.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// A program of the workspace: its own.
    Tool(String),
    /// An example: the checks' step `examples`, and its own tests.
    Example(String),
    /// Cargo itself, or the checks, which run all tests: here it is only looked up that there is what it names.
    Builder,
    /// A line of shell without a program of this project.
    Shell,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: `{}`", self.page, self.line, self.text)
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All commands on all pages, in order.
pub fn calls() -> Vec<Call> {
    let mut pages = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    let docs = fs::read_dir(root().join("docs")).expect("docs/ can be read");
    let names = docs.map(|entry| entry.expect("docs/ can be read").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("names are text")).collect();
    names.retain(|name| name.ends_with(".md"));
    names.sort();
    pages.extend(names.into_iter().map(|name| format!("docs/{name}")));
    let read = |page: &String| fs::read_to_string(root().join(page)).expect("a page can be read");
    pages.iter().flat_map(|page| of_page(page, &read(page))).collect()
}

/// The commands of one tool, each once.
pub fn calls_of(tool: &str) -> Vec<Call> {
    let mut calls = calls();
    calls.retain(|call| call.owner == Owner::Tool(tool.to_owned()));
    let mut seen = vec![];
    calls.retain(|call| {
        let is_new = !seen.contains(&call.text);
        seen.push(call.text.clone());
        is_new
    });
    calls
}

/// The commands on one page.
pub fn of_page(page: &str, text: &str) -> Vec<Call> {
    let mut calls = vec![];
    let mut fence: Option<&str> = None;
    let mut prose = String::new();
    for (line, number) in text.lines().zip(1..) {
        let is_fence = line.starts_with("```");
        match (fence, is_fence) {
            (None, true) => fence = Some(line.trim_start_matches('`').trim()),
            (Some(_), true) => fence = None,
            (Some(language), false) => calls.extend(of_block(page, number, language, line)),
            (None, false) => prose.push_str(line),
        }
        // A sentence's code may go on in the next line: lines are counted in the prose, too.
        prose.push('\n');
    }
    // Every second piece between backticks is code.
    let mut line = 1;
    for (place, piece) in prose.split('`').enumerate() {
        if place % 2 == 1 {
            calls.extend(in_prose(page, line, piece));
        }
        line += piece.matches('\n').count();
    }
    calls.sort_by_key(|call| call.line);
    calls
}

/// A line of a fenced block.
fn of_block(page: &str, line: usize, language: &str, text: &str) -> Option<Call> {
    // What stands far to the right is a remark.
    let text = text.split("   ").next().unwrap_or_default().trim();
    let owner = match language {
        "sh" | "bash" if !text.is_empty() => owner(text).unwrap_or(Owner::Shell),
        "text" => owner(text)?,
        _ => return None,
    };
    Some(Call { page: page.to_owned(), line, text: text.to_owned(), owner })
}

/// A piece of code in a sentence. A program's name alone is no command, nor is the beginning of one.
fn in_prose(page: &str, line: usize, text: &str) -> Option<Call> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let owner = owner(&text)?;
    let is_name = !text.contains(' ') || text.ends_with(" --");
    (!is_name).then(|| Call { page: page.to_owned(), line, text, owner })
}

/// Code in sentences that has flags and names no program, with its line: nobody could type it.
pub fn nameless(text: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    let mut in_fence = false;
    for (line, number) in text.lines().zip(1..) {
        in_fence ^= line.starts_with("```");
        let code = line.split('`').skip(1).step_by(2);
        let is_nameless = |code: &&str| {
            let first = code.split(' ').next().unwrap_or_default();
            code.contains(" --") && first.bytes().all(|byte| byte.is_ascii_lowercase())
        };
        let flags = code.filter(|code| !in_fence && is_nameless(code) && owner(code).is_none());
        found.extend(flags.map(|code| (number, code.to_owned())));
    }
    found
}

/// Whose command this is: `None` if no program of this project is in it.
fn owner(text: &str) -> Option<Owner> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_assignment = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    };
    let first = *words.iter().find(|word| !is_assignment(word))?;
    if first == "cargo" && words.contains(&"run") {
        let value = |flag: &str| words.iter().skip_while(|word| **word != flag).nth(1).copied();
        if let Some(example) = value("--example") {
            return Some(Owner::Example(example.to_owned()));
        }
        return value("-p").map(|tool| Owner::Tool(tool.to_owned()));
    }
    if matches!(first, "cargo" | ".ci/run") {
        return Some(Owner::Builder);
    }
    // As a path in a line of shell, or as the first word.
    let built = words.iter().find_map(|word| word.strip_prefix("target/release/"));
    built.or(PROGRAMS.contains(&first).then_some(first)).map(|tool| Owner::Tool(tool.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String, Owner)> {
        of_page("a.md", text).into_iter().map(|call| (call.line, call.text, call.owner)).collect()
    }

    #[test]
    fn commands_are_found_in_blocks_sentences_and_tables() {
        let page = "Run `cargo run --release -p log-bench` or\n`log-node\nstatus -c a.toml`, not `log-node`.\n\n\
                    ```sh\ncargo test --workspace\n```\n```bash\nseq 9 | target/release/log-node append\nls\n```\n\
                    ```text\nlog-node run -c a.toml      on each machine\nread 3 MiB\n```\n\
                    | a | `ANNALS_ROUNDS=3 cargo test` |\n```toml\nlog-node run\n```\n";
        let tool = |name: &str| Owner::Tool(name.to_owned());
        let expected = [
            (1, "cargo run --release -p log-bench", tool("log-bench")),
            (2, "log-node status -c a.toml", tool("log-node")),
            (6, "cargo test --workspace", Owner::Builder),
            (9, "seq 9 | target/release/log-node append", tool("log-node")),
            (10, "ls", Owner::Shell),
            (13, "log-node run -c a.toml", tool("log-node")),
            (16, "ANNALS_ROUNDS=3 cargo test", Owner::Builder),
        ];
        assert_eq!(found(page), expected.map(|(line, text, owner)| (line, text.to_owned(), owner)));
    }

    #[test]
    fn an_example_has_tests_of_its_own() {
        let page = "`cargo run --release --example accounts -- demo`";
        assert_eq!(found(page)[0].2, Owner::Example("accounts".to_owned()));
    }

    #[test]
    fn code_with_flags_and_no_program_is_found() {
        let page = "`verify DIR --json`, `log-recover verify DIR --json`, `--json`\n```\n`a --b`\n```\n";
        assert_eq!(nameless(page), [(1, "verify DIR --json".to_owned())]);
    }
}
