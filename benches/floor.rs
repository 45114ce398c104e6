//! What a sample of a host must cost at least on Linux: the system calls without which no process, listener
//! or holder can be known, and nothing else. `benches/run` holds the exporter's samples against it.
//!
//! It prints what one round costs: the list of all processes; a reading of `stat`, kept open, of each that is called
//! haproxy; a dump of the listening TCP sockets over IPv4; and a reading of the link of each descriptor that is one of
//! them. It also prints what other ways to ask the same would cost for each file or link; README.md says which of them
//! the exporter uses.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, StatxFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: u32 = 20;
/// Links that are kept open for a comparison; a process may have a thousand descriptors.
const LINKS: usize = 500;
/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` of `linux/netlink.h`.
const DUMP: u16 = 0x301;
const DONE: u16 = 3;
const TCP: u8 = 6;
/// The state LISTEN in the mask of states.
const LISTEN: u32 = 1 << 10;
/// Where an answer has the socket's inode: at the end of `struct inet_diag_msg`, behind the header.
const INODE: usize = 16 + 68;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One HAProxy: its directory, its status, its descriptors, and the names of those that are listeners.
struct Watched {
    place: File,
    stat: File,
    descriptors: OwnedFd,
    listeners: Vec<String>,
}

fn main() -> Result<()> {
    let kind = (AddressFamily::NETLINK, SocketType::DGRAM);
    let socket = rustix::net::socket(kind.0, kind.1, Some(netlink::SOCK_DIAG))?;
    let proc = rustix::fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let (listening, _) = listening(&socket)?;
    let watched = watched(&listening)?;
    let mut calls = round(&proc, &socket, &watched)?;
    let begun = cpu_seconds();
    for _ in 0..ROUNDS {
        calls = round(&proc, &socket, &watched)?;
    }
    let seconds = (cpu_seconds() - begun) / f64::from(ROUNDS);
    let ways =
        ways(&watched)?.map(|(name, seconds)| format!("\"{name}\": {seconds:.9}")).join(", ");
    println!("{{\"cpu_seconds\": {seconds:.9}, \"system_calls\": {calls}, \"ways\": {{{ways}}}}}");
    Ok(())
}

/// The CPU seconds of one reading of `stat`, opened each time and kept open, and of one look at the link of a
/// descriptor, by its name and through a link that is kept open.
fn ways(watched: &[Watched]) -> Result<[(&'static str, f64); 5]> {
    let mut buffer = [0; 1024];
    let opened = each(watched, |process| {
        let file = rustix::fs::openat(&process.place, "stat", OFlags::RDONLY, Mode::empty())?;
        rustix::io::read(&file, &mut buffer)?;
        Ok(())
    })?;
    let kept = each(watched, |process| {
        rustix::io::pread(&process.stat, &mut buffer, 0)?;
        Ok(())
    })?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let links: Vec<(&OwnedFd, &str, OwnedFd)> = watched
        .iter()
        .flat_map(|process| {
            process.listeners.iter().map(|name| (&process.descriptors, name.as_str()))
        })
        .take(LINKS)
        .map(|(place, name)| {
            Ok((place, name, rustix::fs::openat(place, name, flags, Mode::empty())?))
        })
        .collect::<Result<_>>()?;
    let mut target = [MaybeUninit::uninit(); 64];
    let named = each(&links, |(place, name, _)| {
        rustix::fs::readlinkat_raw(place, *name, &mut target)?;
        Ok(())
    })?;
    let read = each(&links, |(_, _, link)| {
        rustix::fs::readlinkat_raw(link, "", &mut target)?;
        Ok(())
    })?;
    let unfollowed = each(&links, |(_, _, link)| {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statx(link, "", flags, StatxFlags::INO | StatxFlags::MODE)?;
        Ok(())
    })?;
    Ok([
        ("stat_opened", opened),
        ("stat_kept", kept),
        ("link_by_name", named),
        ("link_kept", read),
        ("link_statx", unfollowed),
    ])
}

/// The CPU seconds that `work` takes for one of them, of some thousand times.
#[allow(clippy::cast_precision_loss)] // of a few thousand
fn each<T>(all: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<f64> {
    let times = (5000 / all.len().max(1)).max(1);
    let begun = cpu_seconds();
    for _ in 0..times {
        all.iter().try_for_each(&mut work)?;
    }
    Ok((cpu_seconds() - begun) / (times * all.len()).max(1) as f64)
}

/// One look. Gives the number of its system calls.
fn round(proc: &OwnedFd, socket: &OwnedFd, watched: &[Watched]) -> Result<usize> {
    let mut calls = 1;
    rustix::fs::seek(proc, SeekFrom::Start(0))?;
    let mut space = vec![MaybeUninit::uninit(); 32_768];
    let mut entries = RawDir::new(proc, &mut space);
    while let Some(entry) = entries.next() {
        entry?;
        calls += usize::from(entries.is_buffer_empty());
    }
    let mut buffer = [0; 1024];
    for process in watched {
        rustix::io::pread(&process.stat, &mut buffer, 0)?;
    }
    let (_, of_dump) = listening(socket)?;
    for process in watched {
        for name in &process.listeners {
            rustix::fs::readlinkat(&process.descriptors, name.as_str(), Vec::new())?;
        }
    }
    let links: usize = watched.iter().map(|process| process.listeners.len()).sum();
    Ok(calls + watched.len() + of_dump + links)
}

#[allow(clippy::cast_precision_loss)] // of a few seconds
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The inodes of all listening TCP sockets over IPv4, and the number of system calls that told them.
fn listening(socket: &OwnedFd) -> Result<(HashSet<u32>, usize)> {
    let mut request = Vec::new();
    request.extend(72_u32.to_ne_bytes()); // the length of all
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([2, TCP, 0, 0]); // AF_INET, without extensions
    request.extend(LISTEN.to_ne_bytes());
    request.extend([0; 48]); // any socket
    rustix::net::send(socket, &request, SendFlags::empty())?;
    let (mut inodes, mut calls) = (HashSet::new(), 1);
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, _) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        calls += 1;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((head, _)) = rest.split_at_checked(16) {
            let size = number(head, 0).ok_or("a message without a length")? as usize;
            if head.get(4..6) == Some(&DONE.to_ne_bytes()) {
                return Ok((inodes, calls));
            }
            inodes.extend(number(rest, INODE));
            rest = rest.get(size.div_ceil(4) * 4..).unwrap_or_default();
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// All processes that are called haproxy.
fn watched(listening: &HashSet<u32>) -> Result<Vec<Watched>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let place = entry.path();
        if !fs::read_to_string(place.join("comm")).is_ok_and(|name| name == "haproxy\n") {
            continue;
        }
        let links = fs::read_dir(place.join("fd"))?.flatten();
        let listeners = links.filter_map(|link| {
            let target = fs::read_link(link.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            listening.contains(&inode.parse().ok()?).then(|| link.file_name().into_string().ok())?
        });
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        found.push(Watched {
            listeners: listeners.collect(),
            place: File::open(&place)?,
            stat: File::open(place.join("stat"))?,
            descriptors: rustix::fs::open(place.join("fd"), directory, Mode::empty())?,
        });
    }
    Ok(found)
}
