//! How QUIC is set up. `docs/transport.md` has the figures behind each choice, and the commands that print them: what is in
//! [`Tuning`] can be chosen otherwise for a bench, and by nobody else.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion,
};
use socket2::{Domain, Protocol, Socket, Type};

/// What was chosen by measuring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) congestion: Congestion,
    /// Datagrams to the same host.
    pub(crate) local_datagram_bytes: u16,
    /// Whether the kernel is handed several datagrams with one call.
    pub(crate) has_offload: bool,
    /// After so many packets the other side acknowledges them.
    pub(crate) acknowledged_after: u32,
    /// What a stream may send ahead of its reader, and what is kept of what was sent until it is acknowledged; all streams of
    /// a connection together may send twice as much ahead.
    pub(crate) window_bytes: u32,
    /// Asked of the operating system for each direction of a socket; it may give less.
    pub(crate) socket_buffer_bytes: usize,
}

/// What says how much may be on its way. One is chosen, and the others are there to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Congestion {
    Cubic,
    #[cfg(feature = "bench")]
    NewReno,
    #[cfg(feature = "bench")]
    Bbr,
}

const CHOSEN: Tuning = Tuning {
    congestion: Congestion::Cubic,
    // Ten of them, as many as go out with one call, fill what one call may carry.
    local_datagram_bytes: 6500,
    has_offload: true,
    acknowledged_after: 10,
    window_bytes: 16 << 20,
    socket_buffer_bytes: 4 << 20,
};

/// What a bench has chosen instead.
#[cfg(feature = "bench")]
pub(crate) static OTHER: parking_lot::Mutex<Option<Tuning>> = parking_lot::Mutex::new(None);

/// What holds for sockets and connections that begin now.
pub(crate) fn tuning() -> Tuning {
    #[cfg(feature = "bench")]
    if let Some(other) = *OTHER.lock() {
        return other;
    }
    CHOSEN
}

/// Datagrams to other hosts, if the path takes them: jumbo frames of 9000 bytes, less the headers of IPv6 and UDP.
const REMOTE_DATAGRAM_BYTES: u16 = 8952;
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
    let tuning = tuning();
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(idle_max).unwrap_or(IdleTimeout::from(VarInt::MAX))))
        .keep_alive_interval(keep_alive)
        .max_concurrent_uni_streams(VarInt::from_u32(LANES_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(SESSIONS_MAX))
        .stream_receive_window(VarInt::from_u32(tuning.window_bytes))
        .receive_window(VarInt::from_u32(tuning.window_bytes.saturating_mul(2)))
        .send_window(tuning.window_bytes.into())
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(tuning.has_offload)
        .congestion_controller_factory(match tuning.congestion {
            Congestion::Cubic => Arc::new(congestion::CubicConfig::default()),
            #[cfg(feature = "bench")]
            Congestion::NewReno => Arc::new(congestion::NewRenoConfig::default()),
            #[cfg(feature = "bench")]
            Congestion::Bbr => Arc::new(congestion::BbrConfig::default()),
        })
        .initial_rtt(Duration::from_millis(100));
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(if is_local { tuning.local_datagram_bytes } else { REMOTE_DATAGRAM_BYTES });
    config.mtu_discovery_config(Some(discovery));
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(tuning.acknowledged_after));
    config.ack_frequency_config(Some(acknowledgements));
    config
}

/// What holds for all connections of a socket.
pub(crate) fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(tuning().local_datagram_bytes.max(REMOTE_DATAGRAM_BYTES))
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
    let bytes = tuning().socket_buffer_bytes;
    let _ = socket.set_recv_buffer_size(bytes);
    let _ = socket.set_send_buffer_size(bytes);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
