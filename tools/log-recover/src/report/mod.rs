//! What was found and done, as text for people and as JSON for programs.

pub(crate) mod inspect;
pub(crate) mod json;
pub(crate) mod map;
pub(crate) mod steps;
pub(crate) mod stretches;
pub(crate) mod verdict;
pub(crate) mod words;
