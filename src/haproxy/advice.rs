//! The commands that advice gives a person to run.

use std::net::IpAddr;

/// The command, run in the network namespace with this label (`netns`).
///
/// `ip netns exec` takes only a name. A namespace without one is entered through a process in it, and so is
/// one whose name a shell would not read as a single word, because any user may have chosen that name.
#[must_use]
pub fn in_network(netns: &str, command: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_number = netns.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = !is_number && !netns.starts_with('-') && netns.bytes().all(is_word);
    match netns {
        "" => command.to_owned(),
        name if is_name => format!("ip netns exec {name} {command}"),
        _ => format!("nsenter --net --target=PID_OF_HAPROXY {command}"),
    }
}

/// The command that lists the listening TCP and UDP sockets on a port, with the processes that hold them.
#[must_use]
pub fn list_holders(netns: &str, port: u16) -> String {
    in_network(netns, &format!("ss -Htulnp sport = {port}"))
}

/// The command that ends the TCP connection from a local port to a remote address and port.
#[must_use]
pub fn end_connection(netns: &str, port: u16, remote: (IpAddr, u16)) -> String {
    let address = match remote.0 {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    in_network(netns, &format!("ss -K dst {address} dport = {} sport = {port}", remote.1))
}

/// The command that asks a process of HAProxy for its soft stop, with what that does.
#[must_use]
pub fn soft_stop(pid: i32) -> String {
    format!("kill -USR1 {pid}: it closes its listeners and drains")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_run_in_its_network_namespace() {
        let table = [
            ("", "ss -Htulnp sport = 53"),
            ("blue", "ip netns exec blue ss -Htulnp sport = 53"),
            ("blue-2.x_y", "ip netns exec blue-2.x_y ss -Htulnp sport = 53"),
            ("4026532201", "nsenter --net --target=PID_OF_HAPROXY ss -Htulnp sport = 53"),
            ("a b", "nsenter --net --target=PID_OF_HAPROXY ss -Htulnp sport = 53"),
            ("$(reboot)", "nsenter --net --target=PID_OF_HAPROXY ss -Htulnp sport = 53"),
            ("-n", "nsenter --net --target=PID_OF_HAPROXY ss -Htulnp sport = 53"),
        ];
        for (netns, expected) in table {
            assert_eq!(list_holders(netns, 53), expected, "{netns:?}");
        }
    }

    #[test]
    fn an_ipv6_address_is_in_brackets() {
        let remote = |address: &str| (address.parse().unwrap(), 443);
        let table = [
            ("", "10.0.0.9", "ss -K dst 10.0.0.9 dport = 443 sport = 59044"),
            ("", "2001:db8::9", "ss -K dst [2001:db8::9] dport = 443 sport = 59044"),
            ("blue", "::1", "ip netns exec blue ss -K dst [::1] dport = 443 sport = 59044"),
        ];
        for (netns, address, expected) in table {
            assert_eq!(end_connection(netns, 59044, remote(address)), expected, "{address}");
        }
    }
}
