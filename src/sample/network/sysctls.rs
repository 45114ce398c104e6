//! Reads the sysctls of a network namespace that decide about its ports.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The longest text of a sysctl that is read: a list of every second port is shorter.
const LONGEST_SYSCTL: usize = 256 * 1024;

/// The ports that the kernel gives to outgoing connections, and those that it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralPorts {
    /// `net.ipv4.ip_local_port_range`, inclusive; it serves IPv6 too.
    pub range: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved: Vec<RangeInclusive<u16>>,
}

/// The sysctls of one network namespace (ip(7), ipv6(7)), held open.
///
/// An open sysctl keeps showing the namespace in which it was opened, from any thread, and does not
/// keep that namespace alive (`proc_sys_make_inode()`, `fs/proc/proc_sysctl.c`).
#[derive(Debug)]
pub struct Sysctls {
    range: File,
    reserved: File,
    /// `net.ipv6.bindv6only`; `None` where the kernel has no IPv6.
    v6only: Option<File>,
}

impl Sysctls {
    /// Opens them in the network namespace of the calling thread.
    pub fn open(procfs: &Path) -> io::Result<Sysctls> {
        let sysctl = |name| File::open(procfs.join("sys/net").join(name));
        Ok(Sysctls {
            range: sysctl("ipv4/ip_local_port_range")?,
            reserved: sysctl("ipv4/ip_local_reserved_ports")?,
            v6only: sysctl("ipv6/bindv6only").ok(),
        })
    }

    /// Whether an IPv6 socket leaves IPv4 alone unless it asks for both (`net.ipv6.bindv6only`).
    #[must_use]
    pub fn v6only(&self) -> bool {
        self.v6only
            .as_ref()
            .and_then(|file| whole(file).ok())
            .is_some_and(|text| text.trim() == "1")
    }

    /// Reads the present ephemeral ports.
    pub fn ephemeral(&self) -> io::Result<EphemeralPorts> {
        parse_ephemeral(&whole(&self.range)?, &whole(&self.reserved)?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected sysctl text"))
    }
}

/// Reads a whole sysctl. The kernel fills one buffer and answers the next read with nothing, so the
/// buffer must be large enough for all of it.
fn whole(sysctl: &File) -> io::Result<String> {
    let mut room = 4096;
    loop {
        let mut text = vec![0; room];
        let length = sysctl.read_at(&mut text, 0)?;
        if length < room || room >= LONGEST_SYSCTL {
            text.truncate(length);
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        room *= 8;
    }
}

fn parse_ephemeral(range: &str, reserved: &str) -> Option<EphemeralPorts> {
    let mut ends = range.split_ascii_whitespace().map(str::parse::<u16>);
    let range = ends.next()?.ok()?..=ends.next()?.ok()?;
    let reserved = reserved
        .trim()
        .split(',')
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            Some(low.parse().ok()?..=high.parse().ok()?)
        })
        .collect::<Option<_>>()?;
    Some(EphemeralPorts { range, reserved })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_texts_are_read() {
        let read = parse_ephemeral("32768\t60999\n", "8080,9000-9010\n").unwrap();
        assert_eq!(read.range, 32768..=60999);
        assert_eq!(read.reserved, [8080..=8080, 9000..=9010]);
        assert_eq!(parse_ephemeral("1 2", "\n").unwrap().reserved, []);
        assert_eq!(parse_ephemeral("1 70000", "\n"), None);
    }
}
