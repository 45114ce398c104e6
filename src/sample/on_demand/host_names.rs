//! Looks host names up as HAProxy does when it reads a `bind` line.

use std::net::{IpAddr, ToSocketAddrs as _};

use crate::model::declared::{Family, HostQuery};

/// Asks the system's resolver (getaddrinfo(3)), and takes the first address of the family, as HAProxy
/// does (`str2ip2()` in `src/tools.c`). It waits as long as the resolver does.
///
/// The error says in words why the name has no address.
pub fn look_up(query: &HostQuery) -> Result<IpAddr, String> {
    let found = (query.name.as_str(), 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let of_family = |address: &IpAddr| match query.family {
        None => true,
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
    };
    let first = found.map(|socket| socket.ip()).find(of_family);
    let family = query.family.map_or("internet", Family::as_str);
    first.ok_or_else(|| format!("it has no {family} address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, family: Option<Family>) -> Result<IpAddr, String> {
        look_up(&HostQuery { name: name.to_owned(), family })
    }

    #[test]
    fn short_addresses_resolve() {
        assert_eq!(of("127.0.0.1", Some(Family::V4)), Ok("127.0.0.1".parse().unwrap()));
        assert_eq!(of("127.1", None), Ok("127.0.0.1".parse().unwrap()));
        assert_eq!(of("127.1", Some(Family::V6)), Err("it has no ipv6 address".to_owned()));
        assert!(of("a name with blanks", None).is_err());
    }
}
