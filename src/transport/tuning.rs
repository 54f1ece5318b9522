//! How QUIC is set up. `docs/transport.md` has the figures behind each choice, and the command that prints them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Asked of the operating system for each direction of a socket; it may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams to the same host: ten of them, as many as go out with one call, fill what one call may carry.
const LOCAL_DATAGRAM_BYTES: u16 = 6500;
/// Datagrams to other hosts, if the path takes them: jumbo frames of 9000 bytes, less the headers of IPv6 and UDP.
const REMOTE_DATAGRAM_BYTES: u16 = 8952;
/// What a stream may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// What all streams of a connection may.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// What is kept of what was sent until it is acknowledged.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// One-way streams that the other side may open: one for each lane, and while an epoch follows another.
const LANES_MAX: u32 = 8;
/// Streams that clients of one process may open on the connection that they share.
pub(crate) const SESSIONS_MAX: u32 = 64;

/// How to talk over one path.
pub(crate) fn transport_config(
    is_local: bool,
    idle_max: Duration,
    keep_alive: Option<Duration>,
) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(idle_max).unwrap_or(IdleTimeout::from(VarInt::MAX))))
        .keep_alive_interval(keep_alive)
        .max_concurrent_uni_streams(VarInt::from_u32(LANES_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(SESSIONS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(congestion::CubicConfig::default()))
        .initial_rtt(Duration::from_millis(100));
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(if is_local { LOCAL_DATAGRAM_BYTES } else { REMOTE_DATAGRAM_BYTES });
    config.mtu_discovery_config(Some(discovery));
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(10));
    config.ack_frequency_config(Some(acknowledgements));
    config
}

/// What holds for all connections of a socket.
pub(crate) fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(LOCAL_DATAGRAM_BYTES.max(REMOTE_DATAGRAM_BYTES))
        .expect("it is more than the least that QUIC allows");
    config
}

/// Whether datagrams from here to there stay on this host.
pub(crate) fn is_local(here: SocketAddr, there: SocketAddr) -> bool {
    there.ip().to_canonical().is_loopback() || there.ip().to_canonical() == here.ip().to_canonical()
}

/// A socket with room for what arrives while a turn is under way.
pub(crate) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A wish: the operating system caps it (Linux at net.core.rmem_max), and less is slower but not wrong.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
