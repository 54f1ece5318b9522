// The examples in the docs include this where they need a cluster: one replica on the loopback, with certificates, in a
// directory that goes with it.

/// A cluster of one replica, which leads it.
pub(crate) struct Alone {
    /// The replica.
    pub(crate) replica: annals::node::Replica,
    /// Where it is reached.
    pub(crate) address: String,
    /// The certificates of a client that may do everything: authority, certificate, key.
    pub(crate) client: annals::transport::TlsFiles,
    /// Holds all files.
    pub(crate) dir: tempfile::TempDir,
}

/// Makes it, and waits until it leads.
pub(crate) fn alone(
    with: impl FnOnce(annals::node::ReplicaOptions) -> annals::node::ReplicaOptions,
) -> Result<Alone, Box<dyn std::error::Error>> {
    use annals::protocol::request::ClientRole;
    use annals::transport::certs::{Authority, Validity};

    let (dir, one) = (tempfile::tempdir()?, annals::ReplicaId::new(1));
    let authority = Authority::create(dir.path(), annals::ClusterId::new(4711), Validity::days(1))?;
    let mine = authority.replica(one, Validity::days(1))?.write(dir.path(), "replica-1")?;
    let client =
        authority.client(ClientRole::Admin, "me", Validity::days(1))?.write(dir.path(), "admin-me")?;
    let options = annals::node::ReplicaOptions::new(one, dir.path().join("log"))
        .cluster(authority.cluster())
        .listen("127.0.0.1:0".parse()?)
        .segment_bytes(1 << 20)
        .certificates(mine.ca, mine.cert, mine.key);
    options.bootstrap([(one, 0)])?;
    let replica = with(options).start()?;
    let address = replica.local_addr().expect("it listens on a socket").to_string();
    while replica.status()?.role != annals::protocol::Role::Primary {
        std::thread::yield_now();
    }
    Ok(Alone { replica, address, client, dir })
}
