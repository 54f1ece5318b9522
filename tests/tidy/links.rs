//! The pages: README, changelog and `docs/`.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;

/// A page that is longer than this is no map.
const MAP_LINES_MAX: usize = 200;

/// A link from one page, with the line it stands on.
struct Link {
    line: usize,
    target: String,
}

/// Relative links to files that are not there, and to headings that the page does not have.
pub(crate) fn broken(pages: &BTreeMap<String, String>, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = vec![];
    for (path, text) in pages {
        for Link { line, target } in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let to = if file.is_empty() { path.clone() } else { resolved(path, file) };
            let advice = if !exists(&to) {
                format!("`{target}` leads nowhere; correct or remove the link")
            } else if !heading.is_empty() && pages.get(&to).is_some_and(|page| !has_heading(page, heading)) {
                format!("`{to}` has no heading `{heading}`; correct the link")
            } else {
                continue;
            };
            findings.push(Finding::new(path, line, "links", advice));
        }
    }
    findings
}

/// Pages under `docs/` that no other page links to.
pub(crate) fn unlinked(pages: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut linked = BTreeSet::new();
    for (path, text) in pages {
        let targets = links(text).into_iter().map(|link| link.target);
        let files = targets.filter_map(|target| Some(resolved(path, target.split('#').next()?)));
        linked.extend(files.filter(|to| to != path));
    }
    let lonely = pages.keys().filter(|path| path.starts_with("docs/") && !linked.contains(*path));
    lonely
        .map(|path| {
            Finding::new(path, 1, "links", "no page links here; link it from README.md or another page")
        })
        .collect()
}

/// A map of the house that has grown into a book.
pub(crate) fn long_map(pages: &BTreeMap<String, String>) -> Option<Finding> {
    let path = "docs/architecture.md";
    let lines = pages.get(path).map_or(0, |text| text.lines().count());
    (lines == 0 || lines > MAP_LINES_MAX).then(|| {
        let advice = format!("{lines} lines; keep the map between 1 and {MAP_LINES_MAX}");
        Finding::new(path, lines, "map", advice)
    })
}

/// A README with more or fewer commands in its `sh` blocks than the main job and the tests.
pub(crate) fn set_up_commands(pages: &BTreeMap<String, String>) -> Option<Finding> {
    let text = pages.get("README.md").map_or("", String::as_str);
    let mut fence = None;
    let mut commands = 0;
    for line in text.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(language), None) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (None, Some("sh")) => commands += usize::from(!line.trim().is_empty()),
            _ => {}
        }
    }
    (commands != 2).then(|| {
        let advice =
            format!("{commands} commands in `sh` blocks; two are enough: the main job, and the tests");
        Finding::new("README.md", 1, "set-up", advice)
    })
}

/// The links of a page, `[text](target)` and `[name]: target`, outside of code.
fn links(text: &str) -> Vec<Link> {
    let mut found = vec![];
    let mut in_fence = false;
    for (text, line) in text.lines().zip(1..) {
        if text.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        // Every second piece between backticks is code.
        let prose: String = text.split('`').step_by(2).collect();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let named = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        let targets = inline.chain(named.map(|(_, target)| target.trim()));
        found.extend(targets.map(|target| Link { line, target: target.to_owned() }));
    }
    found
}

/// `target` as seen from the page at `from`, as a path from the root.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether a heading of `page` has this anchor, made the way that forges make them.
fn has_heading(page: &str, anchor: &str) -> bool {
    page.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
        kept.map(|char| if char == ' ' { '-' } else { char }).eq(anchor.chars())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let readme = "[a](docs/a.md) [b](docs/b.md)\n[c](docs/a.md#the-end) [d](docs/a.md#gone)\n\
                      `[e](code)` [f](https://example.org)\n```\n[g](fenced)\n```\n[h]: docs/h.md\n";
        let pages =
            pages(&[("README.md", readme), ("docs/a.md", "## The `end`\n[up](../README.md) [i](x.md)")]);
        let found: Vec<_> = broken(&pages, |path| pages.contains_key(path))
            .into_iter()
            .map(|finding| (finding.file, finding.line))
            .collect();
        let expected = [("README.md", 1), ("README.md", 2), ("README.md", 7), ("docs/a.md", 2)];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn a_page_that_nothing_links_to_is_found() {
        let pages = pages(&[
            ("README.md", "[a](docs/a.md)"),
            ("docs/a.md", "[b](b.md#x)"),
            ("docs/b.md", ""),
            ("docs/c.md", "[me](c.md)"),
        ]);
        let found: Vec<_> = unlinked(&pages).into_iter().map(|finding| finding.file).collect();
        assert_eq!(found, ["docs/c.md"]);
    }

    #[test]
    fn a_map_that_is_too_long_or_missing_is_found() {
        let with = |text: &str| long_map(&pages(&[("docs/architecture.md", text)])).is_some();
        assert!(!with("a map\n"));
        assert!(with(&"a line\n".repeat(201)));
        assert!(long_map(&pages(&[])).is_some());
    }

    #[test]
    fn a_third_set_up_command_is_found() {
        let with = |text: &str| set_up_commands(&pages(&[("README.md", text)])).is_some();
        let two = "```sh\ncargo run\n```\n\n```sh\ncargo test\n```\n```text\ncargo fmt\n```\n";
        assert!(!with(two));
        assert!(with(&format!("{two}```sh\nmake\n```\n")));
        assert!(with("no commands"));
    }
}
