//! What moves on the connections of a process that is about to be ended.

/// The traffic of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// The number of its TCP connections.
    pub connections: u64,
    /// The number of distinct remote addresses of its TCP connections.
    pub peers: u64,
    /// The bytes that its TCP connections have received, and sent and seen acknowledged, in all
    /// (`tcpi_bytes_received`, `tcpi_bytes_acked`); `None` if the kernel did not say.
    pub moved_bytes: Option<u64>,
    /// It has TCP connections and no other, and each is half closed or being opened: in CLOSE_WAIT,
    /// FIN_WAIT1, FIN_WAIT2 or SYN_SENT.
    pub only_half_closed: bool,
}
