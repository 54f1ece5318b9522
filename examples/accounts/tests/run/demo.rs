//! `demo`: the story, and its ends.

use std::fs;

use crate::program::{Program, scratch, wait_until_free, wait_until_made};

/// Each line of the story has been checked by the program when it is said; that all of them are said is checked here.
#[test]
fn the_whole_story_is_told_and_nothing_of_it_stays() {
    let temporary = scratch();
    let mut demo = Program::run(&["demo"], temporary.path());
    let status = demo.end();
    let said = demo.said.join("\n");
    assert_eq!(status, Some(0), "{said}");
    let steps = [
        "ada registers at N01",
        "the same request once more, at N02",
        "ada logs in at N03",
        "all four nodes know her",
        "each of the four has 1 account,",
        "the same 401",
        "the name once more: 409",
        "half of a body: 400",
        "a name of 33 letters: 422",
        "a body of 10 kB: 413",
        "a flood of guesses",
        "kill -9 of N01",
        "by the session that she had",
        "and she logs in there with her password",
        "ben registers",
        "N01 was started again, and brought up to date",
        "each of the four has 2 accounts",
        "N01 knows their sessions, and both log in through it",
        "the hand-over took",
        "with --policy priority",
        "N02 is next",
        "was handed the role by itself",
        "with --policy manual: nobody leads",
        "the operator promotes N01",
        "eve registers at N03: 503",
        "the operator promotes N03",
        "eve sends the same again: registered",
        "is done once",
        "no password and no token in any",
        "All four nodes have ended",
    ];
    let mut rest = said.as_str();
    for step in steps {
        let (_, after) = rest.split_once(step).unwrap_or_else(|| panic!("{step:?} is not told in:\n{said}"));
        rest = after;
    }
    wait_until_free(&demo.addresses());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "files are left");
}

#[test]
fn ctrl_c_ends_the_story_and_cleans_up() {
    let temporary = scratch();
    let mut demo = Program::run(&["demo"], temporary.path());
    demo.wait_for("ada registers at N01");
    demo.signal("INT");
    assert_eq!(demo.end(), Some(130), "{}", demo.said.join("\n"));
    wait_until_free(&demo.addresses());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "files are left");
}

#[test]
fn ctrl_c_while_it_is_set_up_cleans_up_as_well() {
    let temporary = scratch();
    let mut demo = Program::run(&["demo"], temporary.path());
    wait_until_made(temporary.path());
    demo.signal("INT");
    assert_eq!(demo.end(), Some(130), "{}", demo.said.join("\n"));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "files are left");
}

#[test]
fn a_killed_story_leaves_no_process() {
    let temporary = scratch();
    let mut demo = Program::run(&["demo"], temporary.path());
    demo.wait_for("ada registers at N01");
    demo.signal("KILL");
    assert_eq!(demo.end(), None);
    wait_until_free(&demo.addresses());
}
