//! Certificates for replicas that speak over sockets.

use std::net::{Ipv4Addr, SocketAddr};

use annals::ClusterId;
use annals::node::ReplicaOptions;
use annals::transport::certs::{Authority, Validity};

use crate::fleet::id;

pub(crate) struct Papers {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Papers {
    pub(crate) fn new(cluster: ClusterId) -> Papers {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::create(dir.path(), cluster, Validity::days(1)).expect("an authority");
        Papers { dir, authority }
    }

    /// Lets the replica listen at a port of its own, with a certificate of its own.
    pub(crate) fn give_to(&self, options: ReplicaOptions, number: u64) -> ReplicaOptions {
        let issued = self.authority.replica(id(number), Validity::days(1)).expect("a certificate");
        let files = issued.write(self.dir.path(), &format!("replica-{number}")).expect("files");
        options
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .certificates(files.ca, files.cert, files.key)
    }
}
