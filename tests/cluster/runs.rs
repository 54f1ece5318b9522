//! A seed is run, judged and reported.

use crate::mix::Mix;
use crate::oracle::Tally;
use crate::seeds::Chance;
use crate::world::World;

/// What a run is made of: the seed draws what the recipe leaves open.
pub(crate) type Recipe = fn(&mut Chance) -> Mix;

/// Runs one seed; panics with what was broken and the newest events.
pub(crate) fn run(seed: u64, recipe: Recipe) -> Tally {
    let ending = drawn(seed, recipe, std::env::var_os("ANNALS_TRACE").is_some()).run();
    if ending.violation.is_some() {
        // Again, with words for everything that happens.
        let told = drawn(seed, recipe, true).run();
        let violation =
            told.violation.map_or("not broken again".to_owned(), |violation| violation.to_string());
        let mix = &told.world.mix;
        panic!("{}\nwith {mix:?}\n{violation}", told.world.trace.report());
    }
    ending.world.oracle.tally
}

fn drawn(seed: u64, recipe: Recipe, is_traced: bool) -> World {
    let mut draw = Chance::new(seed);
    let mix = recipe(&mut draw);
    World::new(draw.next(), mix, is_traced)
}

/// The fingerprint of a run: the hash of all that happened, and how much it was.
pub(crate) fn print(seed: u64, recipe: Recipe) -> (u64, u64) {
    let trace = drawn(seed, recipe, true).run().world.trace;
    (trace.hash(), trace.events())
}
