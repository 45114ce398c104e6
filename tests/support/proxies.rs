//! The proxies the scenarios configure.

use super::Page;

/// Takes TCP connections on port 8001 and keeps them: one socket for each, nothing behind it.
pub const WAITING_ROOM: &str = "
listen waiting-room
    mode tcp
    bind 127.0.0.1:8001
    tcp-request inspect-delay 1h
    tcp-request content accept if WAIT_END
    server nobody 127.0.0.1:9
";

/// Where [`WAITING_ROOM`] listens.
pub const WAITING_ROOM_ADDRESS: &str = "127.0.0.1:8001";

/// Passes TCP connections on port 8002 to an echo server at port 9000.
pub const ECHO: &str = "
listen echo
    mode tcp
    bind 127.0.0.1:8002
    server echo 127.0.0.1:9000
";

/// Connects to the echo server only when the client has sent something.
pub const PATIENT_ECHO: &str = "
listen echo
    mode tcp
    bind 127.0.0.1:8002
    option nolinger
    tcp-request inspect-delay 1h
    tcp-request content accept if { req.len gt 0 }
    server echo 127.0.0.1:9000
";

/// Waits on port 8003 for the bodies of HTTP requests.
pub const HTTP_WAITING_ROOM: &str = "
frontend http-waiting-room
    mode http
    bind 127.0.0.1:8003
    http-request wait-for-body time 1h
    http-request return status 200
";

/// No configuration has this line.
pub const BROKEN: &str = "
listen broken
    nonsense here
";

/// A TCP listener per port.
pub fn listeners(ports: &[u16]) -> String {
    let binds: Vec<String> =
        ports.iter().map(|port| format!("    bind 127.0.0.1:{port}\n")).collect();
    format!("\nlisten many\n    mode tcp\n    server nobody 127.0.0.1:9\n{}", binds.concat())
}

/// Is any haproxy on the page down?
pub fn something_down(page: &Page) -> bool {
    page.all("haproxy_host_up", &[]).any(|sample| sample.value == 0.0)
}

/// How many living processes the page calls stale. A launcher just ended is a zombie for a moment.
pub fn stale(page: &Page) -> f64 {
    page.sum("haproxy_host_stale_processes", &[]) - page.stale("zombie")
}

/// Does the page show any anomaly?
pub fn something_wrong(page: &Page) -> bool {
    !page.anomalies().is_empty()
}
