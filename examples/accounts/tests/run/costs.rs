//! Another cost of a hash than that at which passwords were set.

use std::fs;
use std::path::Path;

use accounts::cast::Cast;
use accounts::{Costs, Home};
use serde_json::json;

use crate::program::{path, scratch};

/// Starts all nodes at this cost.
async fn start(dir: &Path, memory_kib: u32) -> Cast {
    let (home, _) = Home::open(dir, Costs { memory_kib: 64, passes: 1 }).unwrap();
    for id in 1..=4 {
        let file = dir.join(format!("N{id:02}.toml"));
        let lines = fs::read_to_string(&file).unwrap();
        let lines = lines.lines().map(|line| match line.starts_with("hash_memory_kib") {
            true => format!("hash_memory_kib = {memory_kib}\n"),
            false => format!("{line}\n"),
        });
        fs::write(&file, lines.collect::<String>()).unwrap();
    }
    let mut cast = Cast::new(home, &path()).unwrap();
    cast.start_all().unwrap();
    cast.wait_until_well().await.unwrap();
    cast
}

/// How many records of the log of N01 have a hash of this memory.
fn hashes(dir: &Path, memory_kib: u32) -> usize {
    let hash = format!("$argon2id$v=19$m={memory_kib},");
    let files = fs::read_dir(dir.join("N01")).unwrap().map(|entry| entry.unwrap().path());
    let bytes: Vec<u8> =
        files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).unwrap()).collect();
    bytes.windows(hash.len()).filter(|window| *window == hash.as_bytes()).count()
}

#[tokio::test]
async fn a_log_in_hashes_anew_what_was_hashed_at_another_cost() {
    let dir = scratch();
    let mut cast = start(dir.path(), 64).await;
    let user = json!({ "name": "ada", "password": "long enough", "request": "1".repeat(32) });
    assert_eq!(cast.post(1, "/register", &user).await.unwrap().status, 201);
    cast.end().await;
    assert_eq!((hashes(dir.path(), 64), hashes(dir.path(), 128)), (1, 0));
    drop(cast);

    let mut cast = start(dir.path(), 128).await;
    let login = json!({ "name": "ada", "password": "long enough" });
    for id in 1..=4 {
        let wrong = json!({ "name": "ada", "password": "not hers" });
        assert_eq!(cast.post(id, "/login", &wrong).await.unwrap().status, 401);
        assert_eq!(cast.post(id, "/login", &login).await.unwrap().status, 200);
    }
    cast.end().await;
    assert_eq!(
        (hashes(dir.path(), 64), hashes(dir.path(), 128)),
        (1, 1),
        "once, by the first right password"
    );
}
