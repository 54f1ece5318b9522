//! The files of the repository, and what may stand where.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Finding;
use crate::reach;
use crate::scan::Source;

/// What the top level may hold beside dot-files. `target` is what cargo builds.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "docs",
    "examples",
    "src",
    "target",
    "tests",
    "tools",
];

/// Everything that a rule reads, by path from the root of the repository.
pub(crate) struct Repository {
    root: PathBuf,
    pub(crate) top_level: Vec<String>,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) manifests: BTreeMap<String, String>,
    pub(crate) pages: BTreeMap<String, String>,
    scripts: BTreeMap<String, String>,
}

impl Repository {
    pub(crate) fn read(root: &Path) -> io::Result<Repository> {
        let mut repository = Repository {
            root: root.to_owned(),
            top_level: names(root)?,
            sources: BTreeMap::new(),
            manifests: BTreeMap::new(),
            pages: BTreeMap::new(),
            scripts: BTreeMap::new(),
        };
        for name in repository.top_level.clone() {
            // Of the dot-directories only the one with the checks is ours.
            if name != "target" && (!name.starts_with('.') || name == ".ci") {
                repository.read_path(&name)?;
            }
        }
        reach::mark_tests(&mut repository);
        Ok(repository)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Sources, manifests, scripts and the like: what has to be ASCII.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let sources = self.sources.values().map(|source| (source.path.as_str(), source.text.as_str()));
        let rest = self.manifests.iter().chain(&self.scripts);
        sources.chain(rest.map(|(path, text)| (path.as_str(), text.as_str())))
    }

    fn read_path(&mut self, path: &str) -> io::Result<()> {
        let full = self.root.join(path);
        if full.is_dir() {
            for name in names(&full)? {
                if name != "target" {
                    self.read_path(&format!("{path}/{name}"))?;
                }
            }
            return Ok(());
        }
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        let shelf = match extension {
            "rs" => {
                self.sources.insert(path.to_owned(), Source::parse(path, &fs::read_to_string(full)?));
                return Ok(());
            }
            "toml" => &mut self.manifests,
            "md" => &mut self.pages,
            "html" | "css" | "js" | "sh" => &mut self.scripts,
            _ if path.starts_with(".ci/") => &mut self.scripts,
            _ => return Ok(()),
        };
        shelf.insert(path.to_owned(), fs::read_to_string(full)?);
        Ok(())
    }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// What does not belong at the top level.
pub(crate) fn strangers(top_level: &[String]) -> Vec<Finding> {
    let allowed = |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name);
    let advice = "does not belong at the top level; move it into a directory, or remove it";
    let strange = top_level.iter().filter(|name| !allowed(name));
    strange.map(|name| Finding::new(name, 1, "top level", advice)).collect()
}

/// Tools that `cargo --workspace` would pass by, and packages without the lints of the workspace.
pub(crate) fn manifests(manifests: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = vec![];
    let workspace = manifests.get("Cargo.toml").map_or("", String::as_str);
    for (path, text) in manifests.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let package = path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let is_member = package.is_empty() || workspace.contains(&format!("\"{package}\""));
        if !is_member && !workspace.contains("\"tools/*\"") {
            let advice = "is no member of the workspace; add it to `members` in Cargo.toml";
            findings.push(Finding::new(path, 1, "workspace", advice));
        }
        if !text.replace(' ', "").contains("[lints]\nworkspace=true") {
            let advice = "does not take the lints; add `[lints]` with `workspace = true`";
            findings.push(Finding::new(path, 1, "workspace", advice));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_at_the_top_level_is_found() {
        let names = [".gitignore", "Cargo.toml", "notes.txt", "src", "scripts"].map(str::to_owned);
        let found: Vec<_> = strangers(&names).into_iter().map(|finding| finding.file).collect();
        assert_eq!(found, ["notes.txt", "scripts"]);
    }

    #[test]
    fn a_tool_outside_the_workspace_or_its_lints_is_found() {
        let lints = "[lints]\nworkspace = true\n";
        let with = |tool: &str| {
            let root = format!("members = [\"tools/a\"]\n{lints}");
            let files = [("Cargo.toml", root.as_str()), (tool, lints)];
            manifests(&files.map(|(path, text)| (path.to_owned(), text.to_owned())).into()).len()
        };
        assert_eq!(with("tools/a/Cargo.toml"), 0);
        assert_eq!(with("tools/b/Cargo.toml"), 1);
        let bare = [("Cargo.toml".to_owned(), "[package]\n".to_owned())].into();
        assert_eq!(manifests(&bare).len(), 1);
    }
}
