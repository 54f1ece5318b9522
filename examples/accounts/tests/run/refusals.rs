//! What the service refuses, on four real nodes. The cost of a hash is as low as it can be: how much it costs is not what
//! is tried here.

use std::sync::atomic::{AtomicU64, Ordering};

use accounts::browser::{Answer, Ask};
use accounts::cast::Cast;
use accounts::{Costs, Home};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program;

const CHEAP: Costs = Costs { memory_kib: 64, passes: 1 };
/// Attempts at one name until one must be refused: one each six seconds is allowed, and as many as that never last so long.
const ATTEMPTS_MAX: usize = 50;

struct Nodes {
    cast: Cast,
    _dir: TempDir,
}

impl Nodes {
    async fn start() -> Nodes {
        let dir = program::scratch();
        let (home, _) = Home::open(dir.path(), CHEAP).unwrap();
        let mut cast = Cast::new(home, &program::path()).unwrap();
        cast.start_all().unwrap();
        cast.wait_until_well().await.unwrap();
        Nodes { cast, _dir: dir }
    }

    async fn post(&self, id: u64, path: &str, body: &Value) -> Answer {
        self.cast.post(id, path, body).await.unwrap()
    }

    async fn send(&self, ask: Ask) -> Answer {
        self.cast.send(ask).await.unwrap()
    }

    /// A new account's session, and its cookie.
    async fn user(&self, name: &str) -> (String, String) {
        let password = "long enough";
        assert_eq!(self.post(2, "/register", &registration(name, password)).await.status, 201);
        let answer = self.post(3, "/login", &json!({ "name": name, "password": password })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        (answer.json["token"].as_str().unwrap().to_owned(), answer.cookie.unwrap())
    }

    fn get(&self, path: &str) -> Ask {
        Ask::get(self.cast.http(4), path)
    }

    fn put_together(&self, path: &str) -> Ask {
        Ask::post(self.cast.http(4), path, &json!({}))
    }
}

/// With a number of its own: it is sent again when nobody knows what came of it, and the account is then its own.
fn registration(name: &str, password: &str) -> Value {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({ "name": name, "password": password, "request": format!("{number:032x}") })
}

#[tokio::test]
async fn a_careful_service_refuses() {
    let nodes = Nodes::start().await;
    bodies(&nodes).await;
    fields(&nodes).await;
    paths_and_headers(&nodes).await;
    sessions(&nodes).await;
    cookies(&nodes).await;
    one_name_for_many(&nodes).await;
    #[cfg(target_os = "linux")]
    crate::crowd::a_ninth_host_has_a_place(&nodes.cast).await;
    floods(&nodes).await;
}

async fn bodies(nodes: &Nodes) {
    for path in ["/register", "/login", "/password", "/logout"] {
        let plain = nodes.put_together(path).header("content-type", "text/plain");
        assert_eq!(nodes.send(plain).await.status, 415, "{path}");
        for (body, status) in [
            (String::new(), 400),
            ("{".to_owned(), 400),
            ("null".to_owned(), 400),
            ("[]".to_owned(), 400),
            (r#"{"name":1,"password":2}"#.to_owned(), 400),
            (r#"{"surprise":true}"#.to_owned(), 400),
            ("\u{0}\u{1}".to_owned(), 400),
            ("[".repeat(4000), 400),
            ("x".repeat(5000), 413),
        ] {
            let answer = nodes.send(nodes.put_together(path).body(&body)).await;
            let start: String = body.chars().take(20).collect();
            assert_eq!(answer.status, status, "{path} {start}: {}", answer.text);
            assert!(answer.json["message"].is_string(), "{}", answer.text);
        }
    }
}

async fn fields(nodes: &Nodes) {
    let long = "x".repeat(257);
    for (name, password) in [
        ("ab", "long enough"),
        ("", "long enough"),
        ("a b c", "long enough"),
        ("<script>", "long enough"),
        ("../../etc", "long enough"),
        ("user", "short"),
        ("user", ""),
        ("user", &long),
    ] {
        let body = json!({ "name": name, "password": password });
        let answer = nodes.post(1, "/register", &body).await;
        assert_eq!(answer.status, 422, "{name} {password}: {}", answer.text);
        assert!(!answer.text.contains(&long), "a password comes back");
    }
    let body = json!({ "name": "user", "password": "long enough", "request": "12" });
    assert_eq!(nodes.post(1, "/register", &body).await.status, 422);
}

async fn paths_and_headers(nodes: &Nodes) {
    let nothing = nodes.send(nodes.get("/nothing")).await;
    assert_eq!((nothing.status, &nothing.json["error"]), (404, &json!("not_found")));
    let method = nodes.send(nodes.get("/login")).await;
    assert_eq!((method.status, &method.json["error"]), (405, &json!("other_method")));
    let large = nodes.send(nodes.get("/whoami").header("x-large", &"x".repeat(40_000))).await;
    assert_eq!(large.status, 431);
    let page = nodes.send(nodes.get("/")).await;
    assert!(page.status == 200 && page.text.contains("</html>"));
}

async fn sessions(nodes: &Nodes) {
    for token in ["", "nonsense", &"A".repeat(43), &"A".repeat(9000)] {
        assert_eq!(nodes.send(nodes.get("/whoami").session(token)).await.status, 401, "{token}");
    }
    assert_eq!(nodes.send(nodes.get("/whoami")).await.status, 401);
    assert_eq!(nodes.send(nodes.put_together("/logout")).await.status, 401);
    let (token, _) = nodes.user("mallory").await;
    let change = json!({ "old": "not the old one", "new": "long enough too" });
    let change = Ask::post(nodes.cast.http(4), "/password", &change);
    assert_eq!(nodes.send(change.session(&token)).await.status, 403);
    assert_eq!(nodes.send(nodes.get("/whoami").session(&token)).await.status, 200);
    for _ in 0..2 {
        assert_eq!(nodes.send(nodes.put_together("/logout").session(&token)).await.status, 204);
    }
    assert_eq!(nodes.send(nodes.get("/whoami").session(&token)).await.status, 401);
}

async fn cookies(nodes: &Nodes) {
    let (_, cookie) = nodes.user("trent").await;
    let with = |ask: Ask| ask.header("cookie", &cookie);
    assert_eq!(nodes.send(with(nodes.get("/whoami"))).await.json["name"], "trent");
    let foreign = with(nodes.put_together("/logout")).header("origin", "http://elsewhere.example");
    assert_eq!(nodes.send(foreign).await.status, 403);
    let form =
        with(nodes.put_together("/logout")).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(nodes.send(form).await.status, 415);
    assert_eq!(nodes.send(with(nodes.get("/whoami"))).await.status, 200);
}

/// Whoever is asked, and however many at the same time: one gets the name.
async fn one_name_for_many(nodes: &Nodes) {
    for round in 0..5 {
        let attempt = |id| async move {
            let body = registration(&format!("coveted-{round}"), &format!("password of {id}"));
            nodes.post(id, "/register", &body).await.status
        };
        let (one, two, three, four) = tokio::join!(attempt(1), attempt(2), attempt(3), attempt(4));
        let mut statuses = [one, two, three, four];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409]);
    }
}

async fn floods(nodes: &Nodes) {
    // One name: refused after ten attempts, known or not, and others are not touched.
    for name in ["trent", "nobody"] {
        let guess = json!({ "name": name, "password": "a guess" });
        // A slow machine is allowed some more: time passes meanwhile.
        let mut allowed = 0;
        let refused = loop {
            let answer = nodes.post(1, "/login", &guess).await;
            if answer.status != 401 || allowed == ATTEMPTS_MAX {
                break answer;
            }
            allowed += 1;
        };
        assert!(refused.status == 429 && allowed >= 10, "after {allowed} for {name}: {refused:?}");
        let wait = refused.retry_after_s;
        assert!(wait.is_some_and(|seconds| (1..=6).contains(&seconds)), "{refused:?}");
    }
    // One address: many names.
    let mut attempts = 0;
    let flood = loop {
        let body = registration(&format!("flood-{attempts}"), "long enough");
        let answer = nodes.post(1, "/register", &body).await;
        if answer.status != 201 || attempts == 200 {
            break answer;
        }
        attempts += 1;
    };
    assert_eq!(flood.status, 429, "after {attempts}");
    assert_eq!(flood.retry_after_s, Some(1));
    // Another node counts for itself, and goes on with what costs a hash.
    let body = registration("elsewhere", "long enough");
    assert_eq!(nodes.post(4, "/register", &body).await.status, 201);
}
