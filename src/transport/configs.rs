//! The certificates in use, and what connections are made with: all of it can be replaced while connections stand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use quinn::{ClientConfig, EndpointConfig, ServerConfig};

use super::error::TransportError;
use super::identity::Identity;
use super::options::TransportOptions;
use super::reset::ResetKeys;
use super::tls::{Proof, Speech};
use super::tuning;

/// Initial packets of connections that are not accepted or refused yet, at most.
const INCOMING_BYTES_MAX: u64 = 8 << 20;

/// What connections are made with.
pub(crate) struct Configs {
    current: RwLock<Current>,
    /// Of the private key with which the process began: what connections were told at their beginning cannot be taken back.
    resets: ResetKeys,
}

struct Current {
    server_local: Arc<ServerConfig>,
    server_remote: Arc<ServerConfig>,
    peer: ClientConfig,
    catch_up: ClientConfig,
    /// Of the certificate.
    end: Option<SystemTime>,
}

impl Configs {
    /// Reads the files.
    pub(crate) fn load(options: &TransportOptions) -> Result<Configs, TransportError> {
        let proof = proof(options)?;
        let current = RwLock::new(Current::new(&proof, options)?);
        Ok(Configs { current, resets: proof.reset_keys() })
    }

    /// Reads the files again. If they are good, connections made from now on use them.
    pub(crate) fn reload(&self, options: &TransportOptions) -> Result<(), TransportError> {
        let current = Current::new(&proof(options)?, options)?;
        *self.current.write() = current;
        Ok(())
    }

    /// When the certificate in use ends, if that can be read.
    pub(crate) fn end(&self) -> Option<SystemTime> {
        self.current.read().end
    }

    /// For the socket.
    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let mut config = tuning::endpoint_config();
        self.resets.put_into(&mut config);
        config
    }

    /// For a connection from there.
    pub(crate) fn server(&self, here: SocketAddr, there: SocketAddr) -> Arc<ServerConfig> {
        let current = self.current.read();
        let is_local = tuning::is_local(here, there);
        Arc::clone(if is_local { &current.server_local } else { &current.server_remote })
    }

    /// For a connection to a replica there.
    pub(crate) fn dial(
        &self,
        options: &TransportOptions,
        here: SocketAddr,
        there: SocketAddr,
        is_catch_up: bool,
    ) -> ClientConfig {
        let current = self.current.read();
        let mut config = if is_catch_up { &current.catch_up } else { &current.peer }.clone();
        let timing = &options.timing;
        // A catch-up connection ends by itself when it is not used any more.
        let keep_alive = (!is_catch_up).then_some(timing.keep_alive);
        let is_local = tuning::is_local(here, there);
        config.transport_config(Arc::new(tuning::transport_config(is_local, timing.idle_max, keep_alive)));
        config
    }
}

fn proof(options: &TransportOptions) -> Result<Proof, TransportError> {
    let proof = Proof::load(&options.tls)?;
    let expected = Identity::Replica { cluster: options.cluster, id: options.me };
    if proof.identity != expected {
        let (expected, found) = (expected.to_string(), proof.identity.to_string());
        return Err(TransportError::WrongIdentity { expected, found });
    }
    Ok(proof)
}

impl Current {
    fn new(proof: &Proof, options: &TransportOptions) -> Result<Current, TransportError> {
        let server = |is_local| -> Result<_, TransportError> {
            let mut config = ServerConfig::with_crypto(Arc::new(proof.server(&options.tls)?));
            let idle_max: Duration = options.timing.idle_max;
            config
                .transport_config(Arc::new(tuning::transport_config(is_local, idle_max, None)))
                // A copy that overtakes its packet must not take the connection elsewhere. And quinn-proto 0.11 leaves the
                // old path's loss timer running where one moves: in a debug build that ends the process.
                .migration(false)
                .max_incoming(options.limits.handshakes_max)
                .incoming_buffer_size(INCOMING_BYTES_MAX / 64)
                .incoming_buffer_size_total(INCOMING_BYTES_MAX);
            Ok(Arc::new(config))
        };
        Ok(Current {
            server_local: server(true)?,
            server_remote: server(false)?,
            peer: proof.client(&options.tls, Speech::Peer)?,
            catch_up: proof.client(&options.tls, Speech::CatchUp)?,
            end: proof.end,
        })
    }
}
