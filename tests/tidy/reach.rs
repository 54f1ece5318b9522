//! Which files a build reaches, and through which of them only tests come.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::scan::{Kind, Source};
use crate::tree::Repository;

/// Files that no `mod` line leads to, so that nothing compiles them.
pub(crate) fn dead_files(repository: &Repository) -> Vec<Finding> {
    let reached = reach(&repository.sources, roots(&repository.sources, &repository.manifests));
    let dead = repository.sources.keys().filter(|path| !reached.contains_key(*path));
    dead.map(|path| {
        Finding::new(path, 1, "dead files", "no `mod` line leads here; add one, or remove the file")
    })
    .collect()
}

/// Marks the files that are compiled for tests only.
pub(crate) fn mark_tests(repository: &mut Repository) {
    let reached = reach(&repository.sources, roots(&repository.sources, &repository.manifests));
    for (path, is_test) in reached {
        if let Some(source) = repository.sources.get_mut(&path) {
            source.is_test |= is_test;
        }
    }
}

/// The files that cargo compiles by itself: by their place, or because a manifest names them.
fn roots(sources: &BTreeMap<String, Source>, manifests: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    let packages: Vec<&str> =
        manifests.keys().filter_map(|path| path.strip_suffix("Cargo.toml")).chain([".ci/"]).collect();
    for path in sources.keys() {
        let inside = packages.iter().filter_map(|package| path.strip_prefix(package));
        // The longest prefix is the package that the file is in.
        let Some(inside) = inside.min_by_key(|inside| inside.len()) else { continue };
        let parts: Vec<&str> = inside.split('/').collect();
        let is_root = matches!(
            parts.as_slice(),
            [_] | ["src", "lib.rs" | "main.rs"]
                | ["src", "bin", _]
                | ["src", "bin", _, "main.rs"]
                | ["tests" | "benches" | "examples", _]
                | ["tests" | "benches" | "examples", _, "main.rs"]
        );
        if is_root {
            roots.insert(path.clone());
        }
    }
    for (manifest, text) in manifests {
        let package = manifest.trim_end_matches("Cargo.toml");
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("path = \"")?.split('"').next());
        roots.extend(named.filter(|path| path.ends_with(".rs")).map(|path| format!("{package}{path}")));
    }
    roots
}

/// All files that the roots lead to, and whether only tests lead there.
fn reach(sources: &BTreeMap<String, Source>, roots: BTreeSet<String>) -> BTreeMap<String, bool> {
    let mut reached = BTreeMap::new();
    let mut ahead: Vec<(String, bool, bool)> = roots.into_iter().map(|path| (path, true, false)).collect();
    while let Some((path, is_root, by_test)) = ahead.pop() {
        let Some(source) = sources.get(&path) else { continue };
        let is_test = by_test || source.is_test;
        let was_test = reached.insert(path.clone(), is_test);
        if was_test.is_some_and(|was_test| !was_test || is_test) {
            reached.insert(path, was_test == Some(true) && is_test);
            continue;
        }
        for (index, name) in module_lines(source) {
            let is_test = is_test || source.in_test(source.tokens[index].line);
            let ways = ways_to(source, is_root, index, name);
            ahead.extend(ways.into_iter().map(|way| (way, false, is_test)));
        }
    }
    reached
}

/// The places of `mod name;` in a file.
fn module_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let places = 0..source.tokens.len();
    places
        .filter(|&index| source.is_word(index, "mod") && source.is_mark(index + 2, ";"))
        .map(|index| (index, source.at(index + 1)))
}

/// The paths where the compiler looks for the module at `index`.
fn ways_to(source: &Source, is_root: bool, index: usize, name: &str) -> Vec<String> {
    let (directory, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    if let Some(path) = path_attribute(source, index) {
        return vec![resolved(directory, path)];
    }
    let mut directory = directory.to_owned();
    let stem = file.trim_end_matches(".rs");
    let owned = if is_root || stem == "mod" { vec![] } else { vec![stem] };
    for part in owned.into_iter().chain(source.inline_modules(index)) {
        directory = format!("{directory}/{part}");
    }
    vec![format!("{directory}/{name}.rs"), format!("{directory}/{name}/mod.rs")]
}

/// `path` as seen from `directory`, without a `..` at its start.
fn resolved(directory: &str, path: &str) -> String {
    let (mut directory, mut path) = (directory, path);
    while let Some(rest) = path.strip_prefix("../") {
        directory = directory.rsplit_once('/').map_or("", |(above, _)| above);
        path = rest;
    }
    format!("{directory}/{path}")
}

/// The `#[path = "..."]` on the item at `index`.
fn path_attribute(source: &Source, index: usize) -> Option<&str> {
    let start = (0..index).rev().find(|&at| [";", "}", "{"].iter().any(|mark| source.is_mark(at, mark)));
    (start.unwrap_or(0)..index)
        .find(|&at| source.is_word(at, "path") && source.is_mark(at + 1, "="))
        .and_then(|at| source.tokens.get(at + 2))
        .filter(|token| token.kind == Kind::Text)
        .map(|token| token.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(files: &[(&str, &str)]) -> BTreeMap<String, bool> {
        let sources: BTreeMap<String, Source> =
            files.iter().map(|(path, text)| ((*path).to_owned(), Source::parse(path, text))).collect();
        let fuzz = "[[bin]]\nname = \"frame\"\npath = \"targets/frame.rs\"\n";
        let manifests = [("Cargo.toml", ""), ("tools/fuzz/Cargo.toml", fuzz)];
        let manifests = manifests.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let roots = roots(&sources, &manifests);
        reach(&sources, roots)
    }

    #[test]
    fn a_file_without_a_mod_line_is_dead() {
        let files = [
            ("src/lib.rs", "mod log; mod inline { mod deep; }\n#[path = \"odd.rs\"]\nmod even;"),
            ("src/log/mod.rs", "pub(crate) mod ticket;"),
            ("src/log/ticket.rs", "mod future; // mod ghost;"),
            ("src/log/ticket/future.rs", ""),
            ("src/inline/deep.rs", ""),
            ("src/odd.rs", ""),
            ("src/log/ghost.rs", ""),
            ("tests/a.rs", ""),
            ("tests/b/main.rs", "mod c;\n#[path = \"../shared/d.rs\"]\nmod d;"),
            ("tests/b/c.rs", ""),
            ("tests/shared/d.rs", ""),
            ("tests/b/ghost.rs", ""),
            ("tools/fuzz/targets/frame.rs", ""),
            ("tools/fuzz/targets/ghost.rs", ""),
        ];
        let reached = reached(&files);
        let dead: Vec<&str> =
            files.iter().map(|(path, _)| *path).filter(|path| !reached.contains_key(*path)).collect();
        assert_eq!(dead, ["src/log/ghost.rs", "tests/b/ghost.rs", "tools/fuzz/targets/ghost.rs"]);
    }

    #[test]
    fn what_only_tests_lead_to_is_test_code() {
        let reached = reached(&[
            ("src/lib.rs", "mod log;\n#[cfg(test)]\nmod tests;"),
            ("src/log.rs", "\n\n\n"),
            ("src/tests.rs", "mod model;"),
            ("src/tests/model.rs", ""),
        ]);
        let tests: Vec<&str> =
            reached.iter().filter(|(_, is_test)| **is_test).map(|(path, _)| path.as_str()).collect();
        assert_eq!(tests, ["src/tests.rs", "src/tests/model.rs"]);
    }
}
