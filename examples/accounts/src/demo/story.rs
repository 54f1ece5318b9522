//! The story, step by step. What it says has been checked when it says so.

use std::time::Instant;

use serde_json::{Value, json};

use super::browser::{Answer, Ask};
use super::cast::{By, Cast, node_of};
use super::secrets::Looked;
use super::voice::Voice;
use crate::error::{Error, Result};
use crate::settings::{Policy, name};
use crate::token::RequestId;

const ADA: (&str, &str) = ("ada", "correct horse battery staple");
const ADA_LATER: &str = "an entirely new secret";
const BEN: (&str, &str) = ("ben", "hunter2 hunter2 hunter2");
const EVE: (&str, &str) = ("eve", "in the manual chapter only");
/// Looks at a cluster without a primary, each in another second, before it is said that nobody takes over. Where another
/// takes over by itself, that takes a fraction of one.
const LOOKS: u32 = 2;

/// All tokens that nodes have given.
type Given = Vec<String>;

/// Tells it all.
pub(crate) async fn tell(cast: &mut Cast, voice: &mut Voice) -> Result<()> {
    begin(cast, voice).await?;
    let mut given = vec![];
    let ada = users(cast, voice, &mut given).await?;
    refusals(cast, voice, &ada).await?;
    let successor = automatic(cast, voice, &ada, &mut given).await?;
    let ben = second_user(cast, voice, successor, &mut given).await?;
    come_back(cast, voice, [&ada, &ben], &mut given).await?;
    hand_back(cast, voice, &ada).await?;
    by_priority(cast, voice, &ada).await?;
    manual(cast, voice, &ada).await?;
    passwords(cast, voice, &ada, &mut given).await?;
    no_secrets(cast, voice, &given).await
}

async fn begin(cast: &mut Cast, voice: &mut Voice) -> Result<()> {
    voice.chapter("Four nodes, each a process with a replica, accounts and an HTTP port").await;
    cast.start_all()?;
    let seen = cast.wait_until_well().await?;
    for id in cast.ids() {
        let process = cast.process(id).unwrap_or_default();
        voice.tell(&format!("{} runs: process {process}, http://{}", name(id), cast.http(id)));
    }
    voice.tell(&format!("{} was elected, in epoch {}", word(&seen["primary"]), seen["epoch"]));
    if seen["primary"] != name(1) {
        let (_, seen) = cast.make_primary(1, By::Transfer).await?;
        voice
            .tell(&format!("N01 is preferred, and was handed the role: it leads in epoch {}", seen["epoch"]));
    }
    show(cast, voice).await
}

/// A user registers and logs in. Gives the session.
async fn users(cast: &mut Cast, voice: &mut Voice, given: &mut Given) -> Result<String> {
    voice.chapter("A user registers and logs in").await;
    let (name, password) = ADA;
    let body = json!({ "name": name, "password": password, "request": draw() });
    expect(&cast.post(1, "/register", &body).await?, 201)?;
    voice.tell("ada registers at N01");
    expect(&cast.post(2, "/register", &body).await?, 201)?;
    voice.tell("the same request once more, at N02: done once, and answered as if for the first time");
    let token = log_in(cast, given, 3, ADA).await?;
    voice.tell("ada logs in at N03, which is a backup");
    for id in cast.ids() {
        who(cast, id, &token, "ada").await?;
    }
    voice.tell("all four nodes know her by her session");
    same_everywhere(cast, voice, 1).await?;
    Ok(token)
}

async fn refusals(cast: &mut Cast, voice: &mut Voice, token: &str) -> Result<()> {
    voice.chapter("What a careful service refuses").await;
    let login = |name: &str, password: &str| json!({ "name": name, "password": password });
    let wrong = cast.post(2, "/login", &login("ada", "not her password")).await?;
    let nobody = cast.post(2, "/login", &login("nobody", "not her password")).await?;
    expect(&wrong, 401)?;
    check(wrong == nobody, || format!("a name that nobody has is told: {wrong:?}, {nobody:?}"))?;
    voice.tell(&format!(
        "a wrong password, and a name that nobody has: the same 401, {}",
        word(&wrong.json["message"])
    ));
    let twice = cast.post(4, "/register", &login("Ada", "another password")).await?;
    voice.tell(&format!("the name once more: {}, {}", expect(&twice, 409)?, word(&twice.json["message"])));
    let malformed = Ask::post(cast.http(1), "/login", &Value::Null).body("{\"name\":");
    voice.tell(&format!("half of a body: {}", expect(&cast.send_patiently(malformed).await?, 400)?));
    let long = cast.post(1, "/register", &login(&"x".repeat(33), "long enough")).await?;
    voice.tell(&format!("a name of 33 letters: {}, {}", expect(&long, 422)?, word(&long.json["message"])));
    let large = cast.post(1, "/register", &login("large", &"x".repeat(10_000))).await?;
    voice.tell(&format!("a body of 10 kB: {}", expect(&large, 413)?));
    let elsewhere = Ask::post(cast.http(1), "/logout", &json!({})).session(token);
    let elsewhere = cast.send_patiently(elsewhere.header("origin", "http://elsewhere.example")).await?;
    voice.tell(&format!("a page of another site, with her session: {}", expect(&elsewhere, 403)?));
    let mut attempts = 0;
    let flood = loop {
        attempts += 1;
        let attempt = cast.post(2, "/login", &login("nobody", &format!("guess {attempts}"))).await?;
        if attempt.status != 401 || attempts == 50 {
            break attempt;
        }
    };
    expect(&flood, 429)?;
    let wait = flood.retry_after_s.unwrap_or_default();
    check(wait > 0, || "a 429 without Retry-After".to_owned())?;
    voice.tell(&format!("a flood of guesses: {attempts} in, 429, Retry-After: {wait}"));
    Ok(())
}

/// The primary is killed; another is elected. Gives its number.
async fn automatic(cast: &mut Cast, voice: &mut Voice, token: &str, given: &mut Given) -> Result<u64> {
    voice.chapter("Automatic failover: kill -9 of the primary").await;
    let (successor, epoch) = kill_primary(cast, voice).await?;
    voice.tell(&format!(
        "{} was elected by the votes of those that are left, in epoch {epoch}",
        name(successor)
    ));
    who(cast, successor, token, "ada").await?;
    voice.tell(&format!("{} knows ada by the session that she had", name(successor)));
    log_in(cast, given, successor, ADA).await?;
    voice.tell("and she logs in there with her password");
    Ok(successor)
}

async fn second_user(cast: &mut Cast, voice: &mut Voice, primary: u64, given: &mut Given) -> Result<String> {
    voice.chapter("Life goes on with three nodes").await;
    let (name, password) = BEN;
    let body = json!({ "name": name, "password": password, "request": draw() });
    expect(&cast.post(primary, "/register", &body).await?, 201)?;
    let backup = cast.ids().into_iter().find(|id| cast.runs(*id) && *id != primary).unwrap_or(primary);
    let token = log_in(cast, given, backup, BEN).await?;
    voice.tell(&format!("ben registers at {}, and logs in at {}", self::name(primary), self::name(backup)));
    Ok(token)
}

async fn come_back(
    cast: &mut Cast,
    voice: &mut Voice,
    [ada, ben]: [&str; 2],
    given: &mut Given,
) -> Result<()> {
    voice.chapter("N01 comes back").await;
    cast.start(1, None)?;
    cast.wait_until_well().await?;
    voice.tell("N01 was started again, and brought up to date");
    same_everywhere(cast, voice, 2).await?;
    who(cast, 1, ada, "ada").await?;
    who(cast, 1, ben, "ben").await?;
    log_in(cast, given, 1, ADA).await?;
    log_in(cast, given, 1, BEN).await?;
    voice.tell("ada and ben: N01 knows their sessions, and both log in through it");
    Ok(())
}

async fn hand_back(cast: &mut Cast, voice: &mut Voice, token: &str) -> Result<()> {
    voice.chapter("The operator hands the role back").await;
    let (took, seen) = cast.make_primary(1, By::Transfer).await?;
    let milliseconds = took.as_millis();
    voice.tell(&format!("N01 leads in epoch {}; the hand-over took {milliseconds} ms", seen["epoch"]));
    who(cast, 1, token, "ada").await?;
    show(cast, voice).await
}

async fn by_priority(cast: &mut Cast, voice: &mut Voice, token: &str) -> Result<()> {
    voice.chapter("Failover by priority: N01 before N02 before N03 before N04").await;
    restart_all(cast, voice, Policy::Priority).await?;
    cast.wait_until_led_by(1).await?;
    voice.tell("N01 has the highest priority, and leads");
    cast.kill(1).await?;
    voice.tell("kill -9 of N01");
    let seen = cast.wait_until_led_by(2).await?;
    voice.tell(&format!("N02 is next: it leads in epoch {}", seen["epoch"]));
    who(cast, 4, token, "ada").await?;
    cast.start(1, Some(Policy::Priority))?;
    let seen = cast.wait_until_led_by(1).await?;
    voice.tell(&format!(
        "N01 was started again, caught up, and was handed the role by itself: epoch {}",
        seen["epoch"]
    ));
    who(cast, 1, token, "ada").await
}

async fn manual(cast: &mut Cast, voice: &mut Voice, token: &str) -> Result<()> {
    voice.chapter("Manual failover: nobody takes over until an operator says who").await;
    cast.end().await;
    cast.start_all_with(Some(Policy::Manual))?;
    let ids = cast.ids();
    let all_answer = |seen: &Value| ids.iter().all(|id| node_of(seen, *id)["role"] == "backup");
    cast.wait_for(1, "all nodes are backups", all_answer).await?;
    voice.tell("all nodes were stopped, and started with --policy manual: nobody leads");
    promote(cast, voice, 1).await?;
    who(cast, 2, token, "ada").await?;
    cast.kill(1).await?;
    voice.tell("kill -9 of N01");
    let (name, password) = EVE;
    let body = json!({ "name": name, "password": password, "request": draw() });
    // It waits for a primary as long as the node is patient.
    let refused = cast.send(Ask::post(cast.http(3), "/register", &body)).await?;
    voice.tell(&format!(
        "eve registers at N03: {}, {}",
        expect(&refused, 503)?,
        word(&refused.json["message"])
    ));
    let up_s = |seen: &Value| node_of(seen, 3)["up_s"].as_u64();
    let mut last = None;
    for _ in 0..LOOKS {
        let is_later = |seen: &Value| up_s(seen) > last || seen["primary"].is_string();
        let seen = cast.wait_for(3, "N03 has looked at the cluster again", is_later).await?;
        check(seen["primary"].is_null(), || format!("somebody took over: {seen}"))?;
        last = up_s(&seen);
    }
    voice.tell("nobody has taken over");
    promote(cast, voice, 3).await?;
    expect(&cast.post(3, "/register", &body).await?, 201)?;
    voice.tell("eve sends the same again: registered");
    who(cast, 4, token, "ada").await?;
    cast.start(1, Some(Policy::Manual))?;
    cast.wait_until_well().await?;
    same_everywhere(cast, voice, 3).await
}

async fn passwords(cast: &mut Cast, voice: &mut Voice, token: &str, given: &mut Given) -> Result<()> {
    voice.chapter("Another password, and the end of a session").await;
    let elsewhere = log_in(cast, given, 2, ADA).await?;
    let body = json!({ "old": ADA.1, "new": ADA_LATER, "request": draw() });
    let change = |id| Ask::post(cast.http(id), "/password", &body).session(token);
    expect(&cast.send_patiently(change(4)).await?, 204)?;
    expect(&cast.send_patiently(change(1)).await?, 204)?;
    voice.tell("ada changes her password at N04; the same request again, at N01, is done once");
    for id in cast.ids() {
        who(cast, id, token, "ada").await?;
        expect(&cast.send_patiently(Ask::get(cast.http(id), "/whoami").session(&elsewhere)).await?, 401)?;
    }
    voice.tell("the session that asked goes on, all others are over, on every node");
    let old = json!({ "name": ADA.0, "password": ADA.1 });
    expect(&cast.post(1, "/login", &old).await?, 401)?;
    log_in(cast, given, 1, (ADA.0, ADA_LATER)).await?;
    voice.tell("the old password is wrong now, and the new one right");
    expect(&cast.send_patiently(Ask::post(cast.http(2), "/logout", &json!({})).session(token)).await?, 204)?;
    expect(&cast.send_patiently(Ask::get(cast.http(4), "/whoami").session(token)).await?, 401)?;
    voice.tell("she logs out at N02, and N04 does not know her session any more");
    Ok(())
}

/// Looks into every file of every node for what must be in none.
async fn no_secrets(cast: &mut Cast, voice: &mut Voice, given: &Given) -> Result<()> {
    voice.chapter("What is on the disks").await;
    cast.end().await;
    let mut secrets = vec![ADA.1, ADA_LATER, BEN.1, EVE.1];
    secrets.extend(given.iter().map(String::as_str));
    let looked = Looked::below(cast.dir(), &secrets)?;
    check(looked.hashes > 0, || "no hash of a password was found: were the logs looked at?".to_owned())?;
    voice.tell(&format!(
        "{} files of all nodes, {} kB: {} hashes of passwords, and no password and no token in any",
        looked.files,
        looked.bytes >> 10,
        looked.hashes
    ));
    Ok(())
}

/// Kills N01, which leads, and waits for the next primary. Gives it and its epoch.
async fn kill_primary(cast: &mut Cast, voice: &Voice) -> Result<(u64, u64)> {
    let mut seen = cast.wait_until_well().await?;
    if seen["primary"] != name(1) {
        // On a busy machine the role may have gone on.
        (_, seen) = cast.make_primary(1, By::Transfer).await?;
    }
    let before = seen["epoch"].as_u64().unwrap_or_default();
    cast.kill(1).await?;
    let began = Instant::now();
    voice.tell(&format!("kill -9 of N01, in epoch {before}"));
    let is_led = |seen: &Value| seen["epoch"].as_u64() > Some(before) && seen["primary"].is_string();
    let seen = cast.wait_for(2, "another leads", is_led).await?;
    voice.tell(&format!("{} leads, {} ms later", word(&seen["primary"]), began.elapsed().as_millis()));
    let successor = cast.ids().into_iter().find(|id| seen["primary"] == name(*id));
    let successor = successor.ok_or_else(|| story(format!("nobody leads: {seen}")))?;
    Ok((successor, seen["epoch"].as_u64().unwrap_or_default()))
}

/// Has a node elected by the word of an operator.
async fn promote(cast: &mut Cast, voice: &Voice, id: u64) -> Result<()> {
    let (_, seen) = cast.make_primary(id, By::Promotion).await?;
    voice.tell(&format!("the operator promotes {}: it leads in epoch {}", name(id), seen["epoch"]));
    Ok(())
}

/// Restarts all nodes with another policy, one after the other, while the service goes on.
async fn restart_all(cast: &mut Cast, voice: &Voice, policy: Policy) -> Result<()> {
    // N01 first: whoever leads meanwhile by priority would hand over to it while it is on its way out.
    for id in cast.ids() {
        cast.stop(id).await?;
        cast.start(id, Some(policy))?;
        cast.wait_until_well().await?;
    }
    voice.tell(&format!("all nodes were restarted one by one, with --policy {policy}"));
    Ok(())
}

/// Says who is what.
async fn show(cast: &mut Cast, voice: &Voice) -> Result<()> {
    let seen = cast.wait_until_well().await?;
    for id in cast.ids() {
        let node = node_of(&seen, id);
        let (role, epoch, lag) = (word(&node["role"]), &node["epoch"], &node["lag"]);
        voice.tell(&format!("{}  {role:8} epoch {epoch}, {lag} records behind", name(id)));
    }
    Ok(())
}

/// All nodes have so many accounts and the same state, and have come to it by the same records in the same order.
async fn same_everywhere(cast: &mut Cast, voice: &Voice, accounts: u64) -> Result<()> {
    cast.wait_until_well().await?;
    let mut seen = vec![];
    for id in cast.ids() {
        // A look-up at each node first: it waits until the node has applied all that is committed.
        cast.send_patiently(Ask::get(cast.http(id), "/whoami").session(&"A".repeat(43))).await?;
        seen.push(cast.get(id, "/node").await?.json);
    }
    let is_same = |own: &Value| {
        let of_first = |key| own[key].is_string() && own[key] == seen[0][key];
        own["accounts"] == accounts && of_first("history") && of_first("state")
    };
    check(seen.iter().all(is_same), || format!("the nodes differ: {seen:?}"))?;
    let digest: String = word(&seen[0]["state"]).chars().take(16).collect();
    let what = if accounts == 1 { "account" } else { "accounts" };
    voice.tell(&format!("each of the four has {accounts} {what}, in the same state: {digest}..."));
    Ok(())
}

/// Logs in, and gives the session.
async fn log_in(cast: &Cast, given: &mut Given, id: u64, (name, password): (&str, &str)) -> Result<String> {
    let answer = cast.post(id, "/login", &json!({ "name": name, "password": password })).await?;
    expect(&answer, 200)?;
    let token = word(&answer.json["token"]).to_owned();
    given.push(token.clone());
    Ok(token)
}

/// A node knows whose session it is.
async fn who(cast: &Cast, id: u64, token: &str, user: &str) -> Result<()> {
    let answer = cast.send_patiently(Ask::get(cast.http(id), "/whoami").session(token)).await?;
    expect(&answer, 200)?;
    check(answer.json["name"] == user, || format!("{} takes {user} for another: {}", name(id), answer.text))
}

fn expect(answer: &Answer, status: u16) -> Result<u16> {
    check(answer.status == status, || {
        format!("expected the status {status}, and there came {}: {}", answer.status, answer.text)
    })?;
    Ok(status)
}

fn check(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if is_so { Ok(()) } else { Err(story(otherwise())) }
}

fn story(reason: String) -> Error {
    Error::Story { reason: format!("the story has gone another way: {reason}") }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("nobody")
}

fn draw() -> String {
    RequestId::draw().into()
}
