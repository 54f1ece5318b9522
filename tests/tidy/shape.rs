//! How long files and functions may be, and which characters they hold.

use crate::Finding;
use crate::scan::Source;

/// Lines of a file, not counting what stands under `#[cfg(test)]`.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// A file that needs to be split. Modules that exist only for tests may be longer.
pub(crate) fn long_file(source: &Source) -> Option<Finding> {
    let is_test_module = source.is_test && source.path.starts_with("src/");
    let lines = match source.is_test {
        true => source.text.lines().count(),
        false => (1..=source.text.lines().count()).filter(|&line| !source.in_test(line)).count(),
    };
    (lines > FILE_LINES_MAX && !is_test_module).then(|| {
        let advice = format!("{lines} lines without tests, at most {FILE_LINES_MAX}; split it by noun");
        Finding::new(&source.path, FILE_LINES_MAX, "file length", advice)
    })
}

/// Functions that need to be split.
pub(crate) fn long_functions(source: &Source) -> Vec<Finding> {
    let mut findings = vec![];
    for index in (0..source.tokens.len()).filter(|&index| source.is_word(index, "fn")) {
        let body = source.body_or_end(index);
        // A pointer type has no name, and a declaration no body.
        if source.is_mark(index + 1, "(") || !source.is_mark(body, "{") {
            continue;
        }
        let first = source.tokens[index].line;
        let lines = source.tokens[source.closing(body)].line + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let name = source.at(index + 1);
            let advice = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}; name its steps");
            findings.push(Finding::new(&source.path, first, "function length", advice));
        }
    }
    findings
}

/// Lines with a character that is not ASCII.
pub(crate) fn beyond_ascii(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().zip(1..).filter_map(|(text, line)| {
        let char = text.chars().find(|char| !char.is_ascii())?;
        let advice = format!("{} is not ASCII; write it in ASCII or as an escape", char.escape_unicode());
        Some(Finding::new(path, line, "ascii", advice))
    });
    lines.collect()
}

/// Absolute paths that exist on somebody's machine only.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    // Spelled in two halves, so that this file does not find itself.
    let homes = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("C:", "\\"),
    ];
    let mut findings = vec![];
    for (text, line) in text.lines().zip(1..) {
        for home in homes {
            let starts = |(at, _): &(usize, &str)| {
                !text[..*at].ends_with(|c: char| c.is_alphanumeric() || "._-~$}/".contains(c))
            };
            if text.match_indices(home).any(|found| starts(&found)) {
                let advice = format!("`{home}` is a path of one machine; take it from the environment");
                findings.push(Finding::new(path, line, "machine paths", advice));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let found = |path: &str, text: String| long_file(&Source::parse(path, &text)).is_some();
        assert!(found("src/a.rs", "const A: u8 = 0;\n".repeat(601)));
        assert!(!found("src/a.rs", "const A: u8 = 0;\n".repeat(600)));
        let tests = "const A: u8 = 0;\n".repeat(700);
        assert!(!found("src/a.rs", format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{tests}}}\n")));
        assert!(found("tests/a.rs", tests));
    }

    #[test]
    fn a_long_function_is_found_whatever_its_strings_hold() {
        let found = |text: String| long_functions(&Source::parse("src/a.rs", &text)).len();
        let body = "    let brace = \"}\"; // }\n    let char = '}';\n".repeat(34);
        assert_eq!(found(format!("fn a() {{\n{body}}}\n")), 0);
        assert_eq!(found(format!("fn a() {{\n\n{body}}}\n")), 1);
        assert_eq!(found(format!("fn a<const N: usize>() -> [u8; {{ 4 }}]\nwhere\n{{\n{body}}}\n")), 1);
        assert_eq!(found(format!("type A = fn(u8) -> u8;\nconst B: &str = \"\n{body}\";\n")), 0);
    }

    #[test]
    fn a_character_beyond_ascii_is_found() {
        assert_eq!(
            beyond_ascii("a", "ok\nna\u{ef}ve\n"),
            [Finding::new("a", 2, "ascii", "\\u{ef} is not ASCII; write it in ASCII or as an escape")]
        );
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let found = |text: &str| machine_paths("a", text).len();
        assert_eq!(found(concat!("let dir = \"/ho", "me/ann/log\";")), 1);
        assert_eq!(found(concat!("see https://example.org/ho", "me/page and $ROOT/ro", "ot/")), 0);
    }
}
