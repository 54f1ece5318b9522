//! Who may import whom.

use crate::Finding;
use crate::scan::Source;

/// The rooms of the library with their layers: a room imports from lower layers and from itself.
const ROOMS: &[(&str, u8)] = &[
    ("types", 0),
    ("error", 0),
    ("sync", 0),
    ("format", 1),
    ("protocol", 1),
    ("disk", 2),
    ("transport", 2),
    ("segment", 3),
    ("log", 4),
    ("snapshot", 4),
    ("repair", 4),
    ("node", 5),
    ("client", 5),
];

/// Rooms of one layer that stand in an order of their own: the first of each pair may import the second.
const WITHIN_A_LAYER: &[(&str, &str)] = &[("error", "types"), ("sync", "types"), ("sync", "error")];

/// Rooms that take time as an argument and open nothing.
const PURE: &[&str] = &["types", "format", "protocol"];

/// Crates with one home.
const TENANTS: &[(&str, &str)] =
    &[("quinn", "transport"), ("quinn_proto", "transport"), ("ring", "transport"), ("tokio", "transport")];

/// A path of the crate that some code names, from the root of the crate.
struct Arrow {
    path: Vec<String>,
    line: usize,
    is_macro: bool,
}

/// Imports from a room that is not above the importing one, and rooms that the table does not have.
pub(crate) fn wrong_way(source: &Source) -> Vec<Finding> {
    let Some(module) = module_of(&source.path).filter(|module| !module.is_empty()) else { return vec![] };
    let room = module[0].as_str();
    let Some(layer) = layer_of(room) else {
        let advice = format!("`{room}` is no room of the table in docs/architecture.md; move the file");
        return vec![Finding::new(&source.path, 1, "rooms", advice)];
    };
    let mut findings = vec![];
    for arrow in arrows(source, &module) {
        let to = arrow.path.first().map_or("*", String::as_str);
        let advice = match layer_of(to) {
            _ if to == room || (arrow.is_macro && arrow.path.len() == 1) => continue,
            Some(target) if target < layer || WITHIN_A_LAYER.contains(&(room, to)) => continue,
            Some(_) => format!("`{room}` may not import `{to}`; turn the arrow round, or move the code down"),
            None => format!("`{to}` is taken from the root of the crate; name the room that defines it"),
        };
        findings.push(Finding::new(&source.path, arrow.line, "arrows", advice));
    }
    findings.extend(lodgers(source, room));
    findings
}

/// Files, sockets, threads and clocks in a pure room, outside its tests.
pub(crate) fn impure(source: &Source) -> Vec<Finding> {
    let Some(module) = module_of(&source.path) else { return vec![] };
    if !module.first().is_some_and(|room| PURE.contains(&room.as_str())) {
        return vec![];
    }
    let mut found = vec![];
    for index in 0..source.tokens.len() {
        if source.is_word(index, "std") && source.is_mark(index + 1, "::") {
            follow(source, index + 2, vec!["std".to_owned()], &mut found);
        } else if source.is_word(index, "SystemTime") {
            found.push(Arrow::new(source, index, vec!["SystemTime".to_owned()]));
        } else if source.is_word(index, "Instant") && source.is_word(index + 2, "now") {
            found.push(Arrow::new(source, index, vec!["Instant::now".to_owned()]));
        }
    }
    let banned = |arrow: &Arrow| {
        let last = arrow.path.last().map_or("", String::as_str);
        arrow.path.len() == 1 || matches!(last, "fs" | "net" | "thread")
    };
    found
        .iter()
        .filter(|arrow| banned(arrow) && !source.in_test(arrow.line))
        .map(|arrow| {
            let advice = format!("`{}` in a pure room; take the value as an argument", arrow.path.join("::"));
            Finding::new(&source.path, arrow.line, "pure rooms", advice)
        })
        .collect()
}

/// Crates that live in another room than this.
fn lodgers(source: &Source, room: &str) -> Vec<Finding> {
    let mut findings = vec![];
    for &(tenant, home) in TENANTS.iter().filter(|(_, home)| *home != room) {
        let named = (0..source.tokens.len())
            .filter(|&index| source.is_word(index, tenant) && source.is_mark(index + 1, "::"));
        findings.extend(named.map(|index| {
            let advice = format!("`{tenant}` lives in `{home}` only; go through its seam");
            Finding::new(&source.path, source.tokens[index].line, "arrows", advice)
        }));
    }
    findings
}

fn layer_of(room: &str) -> Option<u8> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

/// The module that a file of the library is, from the root; `None` for files outside `src/`.
fn module_of(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    Some(module)
}

fn arrows(source: &Source, module: &[String]) -> Vec<Arrow> {
    let mut found = vec![];
    for index in 0..source.tokens.len() {
        let starts_path = source.before(index, 1) != "::" && source.is_mark(index + 1, "::");
        // `pub(in super::super)` says who may look in, and takes nothing.
        let is_visibility = source.before(index, 1) == "in" && source.before(index, 2) == "(";
        if !starts_path || is_visibility {
            continue;
        }
        if source.is_word(index, "crate") || source.is_word(index, "annals") {
            follow(source, index + 2, vec![], &mut found);
        } else if source.is_word(index, "super") {
            let mut base = module.to_vec();
            base.extend(source.inline_modules(index).into_iter().map(str::to_owned));
            follow(source, index, base, &mut found);
        }
    }
    found
}

/// Follows the path or `use` tree at `index` one step past `base`, into each branch of braces.
fn follow(source: &Source, index: usize, mut base: Vec<String>, found: &mut Vec<Arrow>) {
    match source.at(index) {
        "super" if source.is_mark(index + 1, "::") => {
            base.pop();
            follow(source, index + 2, base, found);
        }
        "super" => {
            base.pop();
            found.push(Arrow::new(source, index, base));
        }
        "self" if source.is_mark(index + 1, "::") => follow(source, index + 2, base, found),
        "{" => {
            let close = source.closing(index);
            let mut at = index + 1;
            while at < close {
                follow(source, at, base.clone(), found);
                while at < close && !source.is_mark(at, ",") {
                    at = if source.is_mark(at, "{") { source.closing(at) } else { at } + 1;
                }
                at += 1;
            }
        }
        "*" | "self" => found.push(Arrow::new(source, index, base)),
        name => {
            base.push(name.to_owned());
            found.push(Arrow::new(source, index, base));
        }
    }
}

impl Arrow {
    fn new(source: &Source, index: usize, path: Vec<String>) -> Arrow {
        Arrow { path, line: source.tokens[index].line, is_macro: source.is_mark(index + 1, "!") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        wrong_way(&Source::parse(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_arrow_upwards_is_found_however_it_is_written() {
        for text in [
            "use crate::log::Log;",
            "use crate::{types::Lsn, log::{Log, Ticket}};",
            "use crate::{\n types::{self, Lsn},\n log };",
            "use super::log::Log;",
            "use super::{log::Log};",
            "fn a() { crate::log::open() }",
            "fn a() { annals::log::open() }",
            "mod inner { use super::super::log::Log; }",
            "mod inner { mod deep { fn a() { super::super::super::log::open() } } }",
            "fn a() -> crate::log::Log {}",
            "#[cfg(test)] mod tests { use crate::log::Log; }",
        ] {
            assert_eq!(lines("src/disk/mod.rs", text).len(), 1, "{text}");
        }
        assert_eq!(lines("src/disk/sim/mod.rs", "use super::super::segment::Tail;"), [1]);
        assert_eq!(lines("src/disk/map.rs", "\nuse super::super::segment::Tail;"), [2]);
    }

    #[test]
    fn an_arrow_to_a_room_of_the_same_layer_is_found() {
        assert_eq!(lines("src/types/mod.rs", "use crate::error::Error;"), [1]);
        assert_eq!(lines("src/error.rs", "use crate::types::Lsn;"), [0; 0]);
        assert_eq!(lines("src/format/mod.rs", "use crate::protocol::Vote;"), [1]);
        assert_eq!(lines("src/transport/mod.rs", "use crate::disk::Disk;"), [1]);
    }

    #[test]
    fn arrows_downwards_and_inside_a_room_are_fine() {
        for text in [
            "use crate::types::{Lsn, Epoch};\nuse crate::format::frame;",
            "use super::Disk;\nuse super::sim::Fault;\nmod tests { use super::*; }",
            "use crate::disk::Disk;\npub(crate) fn a() {}\npub(in crate::disk) fn b() {}",
            "macro_rules! m { ($name:ident) => { mod $name { use super::super::Disk; pub(in super::super) fn a() {} } } }",
            "// crate::log::Log\nconst A: &str = \"crate::log\";",
            "crate::some_macro!(1);",
        ] {
            assert_eq!(lines("src/disk/map.rs", text), [0; 0], "{text}");
        }
        assert_eq!(lines("src/lib.rs", "pub use crate::log::Log;"), [0; 0]);
        assert_eq!(lines("tests/a.rs", "use annals::log::Log;"), [0; 0]);
    }

    #[test]
    fn the_root_is_not_a_way_round_the_table() {
        assert_eq!(lines("src/disk/mod.rs", "use crate::Error;"), [1]);
        assert_eq!(lines("src/disk/mod.rs", "use crate::*;"), [1]);
        assert_eq!(lines("src/disk/mod.rs", "use super::*;"), [1]);
        assert_eq!(lines("src/disk/mod.rs", "use crate as root;\nuse super::{self};"), [2]);
    }

    #[test]
    fn a_room_that_is_not_in_the_table_is_found() {
        assert_eq!(lines("src/attic.rs", ""), [1]);
        assert_eq!(lines("src/attic/mod.rs", ""), [1]);
    }

    #[test]
    fn a_crate_stays_in_its_home() {
        assert_eq!(lines("src/log/mod.rs", "use tokio::task;"), [1]);
        assert_eq!(lines("src/transport/mod.rs", "use tokio::task;\nuse quinn::Endpoint;"), [0; 0]);
    }

    #[test]
    fn a_pure_room_reads_no_clock_and_opens_nothing() {
        let found = |text: &str| impure(&Source::parse("src/format/mod.rs", text)).len();
        for text in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::net::TcpStream;",
            "fn a() { std::thread::spawn(b); }",
            "fn a() { let now = Instant::now(); }",
            "use std::time::SystemTime;",
        ] {
            assert_eq!(found(text), 1, "{text}");
        }
        assert_eq!(found("use std::time::Instant;\nuse std::fmt;\nfn handle(now: Instant) {}"), 0);
        assert_eq!(found("#[cfg(test)]\nmod tests {\nuse std::fs;\n}"), 0);
        assert_eq!(impure(&Source::parse("src/disk/mod.rs", "use std::fs;")).len(), 0);
    }
}
