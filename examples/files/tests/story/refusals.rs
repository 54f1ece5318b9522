//! What is refused, and what is said then.

use std::fs;
use std::io;
use std::process::Command;

use files::error::Error;

use crate::cluster::{Cluster, program};

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do_next() {
    let cluster = Cluster::start(1);
    let file = cluster.write("a", b"one");
    let dir = cluster.path("").to_str().unwrap().to_owned();
    let missing = cluster.path("missing").to_str().unwrap().to_owned();
    let long = "x".repeat(256);
    cluster.expect(0, &["put", &file]);
    cluster.expect(0, &["put", &file, "--as", "b"]);
    let nowhere = cluster.path("no/such/dir").to_str().unwrap().to_owned();
    for (status, args, told) in [
        (3, &["put", &missing][..], "cannot read"),
        (64, &["put", &dir, "--as", "d"], "is a directory"),
        (64, &["put", "-"], "--as"),
        (64, &["put", &file, "--as", "../a"], "'.' or '..'"),
        (64, &["put", &file, "--as", &long], "255 bytes"),
        (64, &["put", &file, "--id", "xyz"], "hexadecimal"),
        (64, &["put", &file, "--rate", "0"], "1.."),
        (1, &["put", &file], "--replace"),
        (1, &["get", "c"], "no file of that name"),
        (64, &["get", "a", &file], "--force"),
        (3, &["get", "a", &nowhere], "cannot write into"),
        (64, &["get", "a", "-", "--from", "9"], "no node 9"),
        (1, &["rename", "a", "b"], "--replace"),
        (1, &["rename", "c", "d"], "no file of that name"),
        (1, &["delete", "c"], "no file of that name"),
        (1, &["stat", "c"], "no file of that name"),
        (64, &["stat"], "required"),
        (64, &["frobnicate"], "unrecognized"),
    ] {
        let said = cluster.expect(status, args);
        assert!(said.err.contains(told) && said.out.is_empty(), "{args:?}: {said:?}");
    }
    assert_eq!(cluster.expect(0, &["list"]).out.lines().count(), 2);
    assert_eq!(cluster.expect(0, &["get", "a", "-"]).out, "one");
}

#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    let cluster = Cluster::start(1);
    cluster.expect(0, &["put", &cluster.write("a", b"one")]);
    let mut get = Command::new(program());
    get.args(["get", "a", "-", "--home"]).arg(cluster.stage.dir());
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        // The discard port, at which nobody answers.
        get.env(variable, "http://127.0.0.1:9");
    }
    let said = get.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    assert_eq!(said.stdout, b"one", "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn files_come_and_go_and_change_their_names() {
    let cluster = Cluster::start(1);
    let (one, two, empty) = (cluster.write("1", b"one"), cluster.write("2", b"two"), cluster.write("0", b""));
    cluster.expect(0, &["put", &one, "--as", "a"]);
    cluster.expect(0, &["put", &two, "--as", "b/\u{fc} %&+ c"]);
    cluster.expect(0, &["put", &empty, "--as", "empty"]);
    cluster.expect(0, &["rename", "a", "empty", "--replace"]);
    assert_eq!(cluster.expect(0, &["get", "empty", "-"]).out, "one");
    assert_eq!(cluster.expect(0, &["get", "b/\u{fc} %&+ c", "-"]).out, "two");
    assert_eq!(cluster.expect(0, &["list", "b/"]).out.lines().count(), 1);
    cluster.expect(0, &["put", &empty, "--as", "empty", "--replace"]);
    assert_eq!(cluster.expect(0, &["get", "empty", "-"]).out, "");
    // As anybody asks who has only HTTP.
    let url = format!("http://{}/v1/content?name=empty", cluster.address(1));
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let mut answer = agent.get(url).call().unwrap();
    assert_eq!((answer.status().as_u16(), answer.body_mut().read_to_vec().unwrap()), (200, vec![]));
    // An operation that is given once more with its id is told what became of it, and does nothing.
    cluster.expect(0, &["delete", "empty", "--id", "77"]);
    cluster.expect(0, &["put", &one, "--as", "empty"]);
    cluster.expect(0, &["delete", "empty", "--id", "77"]);
    assert_eq!(cluster.expect(0, &["list"]).out.lines().count(), 2);
}

/// Does something at the first write.
struct Meanwhile<'a>(Option<&'a dyn Fn()>);

impl io::Write for Meanwhile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(happens) = self.0.take() {
            happens();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_never_half_of_one_and_half_of_another() {
    let cluster = Cluster::start(2);
    // More than one answer of a node.
    let (one, two) = (cluster.noise("1", 9 << 20).0, cluster.noise("2", 9 << 20 | 1).0);
    let (client, name) = (cluster.client(), "a".parse().unwrap());
    cluster.expect(0, &["put", &one, "--as", "a"]);
    let during =
        |change: &[&str]| client.get(&name, &mut Meanwhile(Some(&|| drop(cluster.expect(0, change)))));
    for change in [&["put", &two, "--as", "a", "--replace"][..], &["rename", "a", "b"]] {
        let Err(error) = during(change) else { panic!("{change:?} was not noticed") };
        let (text, advice) = (error.to_string(), error.advice().unwrap());
        assert!(matches!(error, Error::Changed { .. }) && error.status() == 1, "{error:?}");
        assert!(text.contains("not whole") && advice.contains("get it again"), "{text}; {advice}");
    }
    // What has nothing to do with it is no matter.
    cluster.expect(0, &["rename", "b", "a"]);
    during(&["put", &one, "--as", "c"]).unwrap();
    // Into a directory it goes by its own name, and a directory is never written over.
    let into = cluster.path("into");
    fs::create_dir_all(into.join("taken/a")).unwrap();
    cluster.expect(0, &["get", "a", into.to_str().unwrap()]);
    assert_eq!(fs::metadata(into.join("a")).unwrap().len(), 9 << 20 | 1);
    let said = cluster.expect(64, &["get", "a", into.join("taken").to_str().unwrap(), "--force"]);
    assert!(said.err.contains("is a directory"), "{}", said.err);
}

#[test]
fn a_retry_with_other_contents_is_refused() {
    let cluster = Cluster::start(1);
    let before = vec![1; 600 << 10];
    let file = cluster.write("a", &before);
    let id = files::operation::OperationId::new(5);
    let putting = cluster.stage.begin(&["put", &file, "--id", "5", "--rate", "25000"]).unwrap();
    cluster.stage.chunks_of(id, 1).unwrap();
    putting.kill();
    let mut after = before;
    after[0] = 2;
    fs::write(&file, after).unwrap();
    let said = cluster.expect(1, &["put", &file, "--id", "5"]);
    assert!(said.err.contains("other contents") && said.err.contains("without --id"), "{}", said.err);
    assert_eq!(cluster.expect(0, &["list"]).out, "");
    // And so it stays.
    cluster.expect(1, &["put", &file, "--id", "5"]);
    cluster.expect(0, &["put", &file]);
}

#[test]
fn a_port_in_clear_that_other_machines_reach_is_opened_only_if_that_is_said() {
    let cluster = Cluster::start(1);
    let layout = cluster.stage.dir().join("cluster.json");
    cluster.stage.kill(1);
    let home = cluster.stage.dir().to_str().unwrap();
    let node = |args: &[&str]| {
        let said =
            Command::new(program()).args(["node", "--id", "1", "--home", home]).args(args).output().unwrap();
        (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    // Those of a network for documentation are no machine's: where it would be let in, it cannot listen.
    let text = fs::read_to_string(&layout).unwrap();
    for address in ["192.0.2.1:4711", "[2001:db8::1]:4711"] {
        fs::write(&layout, text.replace(&cluster_address(&text), address)).unwrap();
        let (status, said) = node(&[]);
        assert!(status == Some(64) && said.contains("--reads-in-clear") && said.contains(address), "{said}");
        let (status, said) = node(&["--reads-in-clear"]);
        assert!(status == Some(3) && said.contains("cannot listen for readers"), "{said}");
    }
    // All addresses are not the loopback alone.
    fs::write(&layout, text.replace("127.0.0.1", "0.0.0.0")).unwrap();
    assert_eq!(node(&[]).0, Some(64));
}

/// The only address in the text.
fn cluster_address(text: &str) -> String {
    let begin = text.find("127.0.0.1:").unwrap();
    text[begin..].chars().take_while(|char| *char != '"').collect()
}
