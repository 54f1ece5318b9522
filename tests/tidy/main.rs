//! The house rules, read from the sources: who may import whom, how long things may be, which words may
//! not appear, that nothing is dead and nothing is missing.
//!
//! Each rule is a function from sources to findings, and has a test of its own on a small source that
//! breaks it: a rule that never fires is no rule. A finding names the place, the rule and what to do.

mod arrows;
mod links;
mod metrics;
mod reach;
mod scan;
mod shape;
mod tree;
mod words;

use std::fmt;
use std::path::Path;

use tree::Repository;

/// One place that breaks one rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl Finding {
    fn new(file: &str, line: usize, rule: &'static str, advice: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, rule, advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.advice)
    }
}

fn repository() -> Repository {
    Repository::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the sources can be read")
}

#[track_caller]
fn assert_none(findings: impl IntoIterator<Item = Finding>) {
    let list: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(list.is_empty(), "{} house rules broken:\n{}", list.len(), list.join("\n"));
}

#[test]
fn the_sources_are_found() {
    let repository = repository();
    for path in ["src/lib.rs", "src/types/mod.rs", "tests/tidy/main.rs"] {
        assert!(repository.sources.contains_key(path), "{path} was not read");
    }
    assert!(repository.pages.contains_key("README.md"));
    assert!(repository.manifests.contains_key("Cargo.toml"));
}

#[test]
fn rooms_import_only_from_rooms_above_them() {
    assert_none(repository().sources.values().flat_map(arrows::wrong_way));
}

#[test]
fn pure_rooms_name_no_file_no_socket_no_thread_and_no_clock() {
    assert_none(repository().sources.values().flat_map(arrows::impure));
}

#[test]
fn files_are_short() {
    assert_none(repository().sources.values().flat_map(shape::long_file));
}

#[test]
fn functions_are_short() {
    assert_none(repository().sources.values().flat_map(shape::long_functions));
}

#[test]
fn sources_are_ascii() {
    assert_none(repository().texts().flat_map(|(path, text)| shape::beyond_ascii(path, text)));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let repository = repository();
    let pages = repository.pages.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    assert_none(repository.texts().chain(pages).flat_map(|(path, text)| shape::machine_paths(path, text)));
}

#[test]
fn forbidden_words_stay_out() {
    assert_none(repository().sources.values().flat_map(words::forbidden));
}

#[test]
fn names_are_words_of_the_domain() {
    assert_none(repository().sources.values().flat_map(words::vague_names));
}

#[test]
fn every_source_is_reached_by_a_mod_line() {
    assert_none(reach::dead_files(&repository()));
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    assert_none(tree::strangers(&repository().top_level));
}

#[test]
fn tools_are_members_with_the_lints_of_the_workspace() {
    assert_none(tree::manifests(&repository().manifests));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let repository = repository();
    assert_none(links::broken(&repository.pages, |path| repository.exists(path)));
}

#[test]
fn every_page_under_docs_is_linked() {
    assert_none(links::unlinked(&repository().pages));
}

#[test]
fn every_metric_is_explained() {
    let repository = repository();
    assert_none(
        repository.sources.values().flat_map(|source| metrics::unexplained(source, &repository.pages)),
    );
}

#[test]
fn the_map_of_the_house_stays_a_map() {
    assert_none(links::long_map(&repository().pages));
}

#[test]
fn the_readme_has_exactly_two_set_up_commands() {
    assert_none(links::set_up_commands(&repository().pages));
}
