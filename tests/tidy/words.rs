//! Words that may not appear in code, and names that say nothing.

use crate::Finding;
use crate::scan::{Kind, Source};

/// Files that may call `thread::sleep` although they are no tool, each with its reason. Keep it empty.
const SLEEPERS: &[(&str, &str)] = &[];

/// Words that say nothing about what a thing is.
const VAGUE: &[&str] = &["util", "utils", "helper", "helpers", "manager"];
/// Words that say nothing about what is in a file.
const VAGUE_FILES: &[&str] = &["common", "misc"];

/// Unfinished work, panics in disguise, tests switched off, guesses at timing, and `unsafe` out of its room.
pub(crate) fn forbidden(source: &Source) -> Vec<Finding> {
    let in_code = source.tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word);
    let mut findings: Vec<Finding> = in_code
        .filter_map(|(index, token)| {
            let (rule, advice) = verdict(source, index)?;
            Some(Finding::new(&source.path, token.line, rule, advice))
        })
        .collect();
    for comment in &source.comments {
        let mut words = comment.text.split(|char: char| !char.is_ascii_alphanumeric());
        if words.any(|word| matches!(word, "TODO" | "FIXME" | "XXX")) {
            let advice = "do it now, or write an issue and drop the note";
            findings.push(Finding::new(&source.path, comment.line, "unfinished", advice));
        }
        if comment.text.contains("```") && comment.text.contains("ignore") {
            let advice = "let the example run, or at least compile with `no_run`";
            findings.push(Finding::new(&source.path, comment.line, "ignored tests", advice));
        }
    }
    findings
}

/// What is wrong with the word at `index`, and what to do.
fn verdict(source: &Source, index: usize) -> Option<(&'static str, &'static str)> {
    let (before, after) = (source.before(index, 1), source.at(index + 1));
    let line = source.tokens[index].line;
    match source.at(index) {
        "unsafe" if !source.path.starts_with("src/disk/") => {
            Some(("unsafe", "lives in src/disk/ only; give it a safe face there"))
        }
        "todo" | "unimplemented" | "dbg" if after == "!" => Some(("unfinished", "finish it or take it out")),
        "unwrap" | "unwrap_err" if before == "." && after == "(" && !source.in_test(line) => {
            Some(("unwrap", "return the error, or `expect` with the invariant"))
        }
        "ignore" if before == "[" && source.before(index, 2) == "#" => {
            Some(("ignored tests", "make the test fit the suite, or take it out"))
        }
        "sleep" if after == "(" && !matches!(before, "fn" | ".") && must_stay_awake(source) => {
            Some(("sleep", "wait for the event itself: a condvar with a deadline, a channel, a join"))
        }
        "allow" if after == "(" && matches!(before, "[" | ",") && !is_excused(source, index + 2) => {
            Some(("allow", "mend what the lint has found, or add `reason = \"...\"`"))
        }
        "fn" if after.starts_with("get_") => Some(("names", "drop the `get_`: an accessor is a noun")),
        _ => None,
    }
}

/// Whether a lint may be allowed: with a reason, or where the rules of the house are the reason.
fn is_excused(source: &Source, index: usize) -> bool {
    let words = || (index..).map(|index| source.at(index)).take_while(|word| !matches!(*word, ")" | ""));
    let is_test = !source.path.starts_with("src/");
    let is_rule = |word: &str| match word {
        "unwrap_used" => is_test,
        "unsafe_code" => source.path.starts_with("src/disk/"),
        word => word == "reason",
    };
    words().any(is_rule)
}

/// Whether code in this file may not sleep: the library and all tests; a tool may keep a pace.
fn must_stay_awake(source: &Source) -> bool {
    let allowed = SLEEPERS.iter().any(|(path, _)| *path == source.path);
    !allowed && (source.is_test || source.path.starts_with("src/"))
}

/// Files and items whose name says nothing.
pub(crate) fn vague_names(source: &Source) -> Vec<Finding> {
    let mut findings = vec![];
    let advice = |name: &str, word: &str| format!("`{name}` says nothing by `{word}`; use the domain's noun");
    for part in source.path.trim_end_matches(".rs").split('/') {
        if let Some(word) = vague_word(part).or_else(|| VAGUE_FILES.contains(&part).then(|| part.to_owned()))
        {
            findings.push(Finding::new(&source.path, 1, "names", advice(part, &word)));
        }
    }
    for (index, token) in source.tokens.iter().enumerate() {
        let declares = matches!(token.text.as_str(), "struct" | "enum" | "trait" | "mod" | "type" | "fn");
        if let Some(word) = vague_word(source.at(index + 1)).filter(|_| declares && token.kind == Kind::Word)
        {
            findings.push(Finding::new(
                &source.path,
                token.line,
                "names",
                advice(source.at(index + 1), &word),
            ));
        }
    }
    findings
}

/// The first word of `SomeName`, `some_name` or `some-name` that says nothing.
fn vague_word(name: &str) -> Option<String> {
    let mut words = vec![String::new()];
    for char in name.chars() {
        if char.is_ascii_uppercase() || matches!(char, '_' | '-') {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| char.is_ascii_alphanumeric()) {
            word.push(char.to_ascii_lowercase());
        }
    }
    words.into_iter().find(|word| VAGUE.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let source = Source::parse(path, text);
        forbidden(&source).into_iter().chain(vague_names(&source)).map(|finding| finding.rule).collect()
    }

    #[test]
    fn each_forbidden_word_is_found() {
        for (text, rule) in [
            ("fn a() { unsafe { b() } }", "unsafe"),
            ("fn a() { todo!() }", "unfinished"),
            ("fn a() { unimplemented!(\"later\") }", "unfinished"),
            ("fn a() { dbg!(1); }", "unfinished"),
            ("// TODO: the rest", "unfinished"),
            ("/* a\n FIXME */", "unfinished"),
            ("fn a() { b().unwrap(); }", "unwrap"),
            ("fn a() { b().unwrap_err(); }", "unwrap"),
            ("#[test]\n#[ignore]\nfn a() {}", "ignored tests"),
            ("#[ignore = \"slow\"]\nfn a() {}", "ignored tests"),
            ("/// ```ignore\n/// a\n/// ```\nfn a() {}", "ignored tests"),
            ("fn a() { std::thread::sleep(b); }", "sleep"),
            ("fn a() { sleep(b); }", "sleep"),
            ("#[allow(dead_code)]\nfn a() {}", "allow"),
            ("#![cfg_attr(b, allow(unused_variables))]", "allow"),
            ("#![allow(clippy::unwrap_used)]", "allow"),
            ("fn get_lsn() {}", "names"),
            ("struct LogManager;", "names"),
            ("mod helpers {}", "names"),
        ] {
            assert_eq!(rules("src/a.rs", text), [rule], "{text}");
        }
        assert_eq!(rules("src/a.rs", "#[allow(dead_code, reason = \"b\")]\nfn allow(a: B) {}"), [""; 0]);
        assert_eq!(rules("src/disk/a.rs", "#![allow(unsafe_code)]"), [""; 0]);
        assert_eq!(rules("tests/a.rs", "#![allow(clippy::unwrap_used)]"), [""; 0]);
        assert_eq!(rules("src/log/util.rs", ""), ["names"]);
        assert_eq!(rules("tests/common/mod.rs", ""), ["names"]);
        assert_eq!(rules("tests/a.rs", "fn a() { thread::sleep(b); }"), ["sleep"]);
    }

    #[test]
    fn what_is_allowed_is_let_through() {
        for text in [
            "#[cfg(test)]\nmod tests {\n fn a() { b().unwrap(); }\n}",
            "fn a() { b().unwrap_or(0); c.expect(\"checked above\"); }",
            "const A: &str = \"unsafe TODO todo!() .unwrap()\"; // says nothing unsafe",
            "#![deny(unsafe_code)]\nfn utilization() { clock.sleep(b); }",
            "struct Common; // flags that all subcommands have",
        ] {
            assert_eq!(rules("src/a.rs", text), [""; 0], "{text}");
        }
        assert_eq!(rules("src/disk/map.rs", "fn a() { unsafe { b() } }"), [""; 0]);
        assert_eq!(rules("tests/a.rs", "fn a() { b().unwrap(); }"), [""; 0]);
        assert_eq!(rules("tools/a/src/main.rs", "fn a() { thread::sleep(pace); }"), [""; 0]);
    }
}
