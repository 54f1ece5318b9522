//! Certificates for replicas that speak over sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use annals::ClusterId;
use annals::node::ReplicaOptions;
use annals::transport::certs::{Authority, Validity};
use annals::transport::{TlsFiles, TransportOptions};

use crate::fleet::id;

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

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
        let files = self.files(number);
        options.listen(ANYWHERE).certificates(files.ca, files.cert, files.key)
    }

    /// The same, for a transport that the test makes itself.
    pub(crate) fn transport(&self, number: u64) -> TransportOptions {
        TransportOptions::new(ANYWHERE, id(number), self.authority.cluster(), self.files(number))
    }

    fn files(&self, number: u64) -> TlsFiles {
        let issued = self.authority.replica(id(number), Validity::days(1)).expect("a certificate");
        issued.write(self.dir.path(), &format!("replica-{number}")).expect("files")
    }
}
