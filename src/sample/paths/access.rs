//! Whether a user could have read a file along the way by which it was found.
//!
//! The exporter reads files that other users cannot. Before anything of a file is shown, every user who may
//! have chosen that file must have been able to read it: the starter of the HAProxy that names it, and each
//! user who could have changed a link or a directory on the way to it.

use super::route::{Step, StepKind};

const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// A user, or a set of users, who may have chosen a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// Root, or a file that the operator named in the exporter's own configuration.
    Root,
    /// A user, with the groups that are known.
    User {
        /// User id, as the host numbers users.
        uid: u32,
        /// Group ids, supplementary ones included.
        groups: Vec<u32>,
    },
    /// Any member of a group.
    Member(u32),
    /// Any user at all.
    Anyone,
}

impl Reader {
    /// The permission bits of a step grant `wanted` to this reader. Access control lists are not
    /// looked at; with one, the group's bits are the most that it can grant.
    fn may(&self, wanted: u32, step: &Step) -> bool {
        let class = match self {
            Reader::Root => return true,
            Reader::User { uid, .. } if *uid == ROOT => return true,
            Reader::User { uid, .. } if *uid == step.owner => 6,
            Reader::User { groups, .. } if groups.contains(&step.group) => 3,
            Reader::Member(group) if *group == step.group => 3,
            Reader::User { .. } | Reader::Member(_) | Reader::Anyone => 0,
        };
        (step.mode >> class) & wanted == wanted
    }

    fn owner_of(step: &Step) -> Option<Reader> {
        (step.owner != ROOT).then(|| Reader::User { uid: step.owner, groups: Vec::new() })
    }
}

/// Everyone who may have chosen the file at the end of `steps` can read it: the starter, and each
/// user who can change a link or a directory on the way. Those lend only their own rights.
#[must_use]
pub fn may_be_shown(starter: Reader, steps: &[Step]) -> bool {
    let mut readers = vec![starter];
    let mut shared = false;
    for step in steps {
        match step.kind {
            StepKind::Directory => {
                if !readers.iter().all(|reader| reader.may(SEARCH, step)) {
                    return false;
                }
                let writable = |class: u32| (step.mode >> class) & WRITE != 0;
                shared = writable(0) && step.mode & STICKY != 0;
                readers.extend(Reader::owner_of(step));
                if writable(3) && step.group != ROOT && step.mode & STICKY == 0 {
                    readers.push(Reader::Member(step.group));
                }
                if writable(0) && !shared {
                    readers.push(Reader::Anyone);
                }
            }
            StepKind::Link => readers.extend(Reader::owner_of(step)),
            StepKind::End => {
                // Where everyone may create files, a second name of another's file proves nothing.
                if shared && step.names > 1 {
                    readers.push(Reader::Anyone);
                }
                return readers.iter().all(|reader| reader.may(READ, step));
            }
        }
    }
    // The path ends at a directory, whose names are listed.
    steps.last().is_none_or(|step| readers.iter().all(|reader| reader.may(READ, step)))
}

/// Everyone who may have chosen the way can search its directories, and so could see where it ends.
/// Otherwise not even the absence of a file may be shown.
#[must_use]
pub fn may_be_followed(starter: Reader, steps: &[Step]) -> bool {
    let found = Step { kind: StepKind::End, owner: ROOT, group: ROOT, mode: 0o444, names: 1 };
    let steps: Vec<Step> = steps.iter().copied().chain([found]).collect();
    may_be_shown(starter, &steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: StepKind, mode: u32, owner: u32, group: u32) -> Step {
        Step { kind, owner, group, mode, names: 1 }
    }

    fn directory(mode: u32, owner: u32, group: u32) -> Step {
        step(StepKind::Directory, mode, owner, group)
    }

    fn link(owner: u32) -> Step {
        step(StepKind::Link, 0o777, owner, owner)
    }

    fn file(mode: u32, owner: u32, group: u32) -> Step {
        step(StepKind::End, mode, owner, group)
    }

    #[test]
    fn only_what_all_who_chose_it_could_read_is_shown() {
        let etc = directory(0o755, 0, 0);
        let alice = || Reader::User { uid: 1000, groups: vec![1000, 50] };
        let two_names = Step { names: 2, ..file(0o600, 0, 0) };
        let table: [(&str, Reader, Vec<Step>, bool); 22] = [
            ("world-readable", alice(), vec![etc, file(0o644, 0, 0)], true),
            ("root's secret", alice(), vec![etc, file(0o600, 0, 0)], false),
            ("root's secret, started by root", Reader::Root, vec![etc, file(0o600, 0, 0)], true),
            ("her own", alice(), vec![etc, file(0o600, 1000, 1000)], true),
            ("her own, which she cannot read", alice(), vec![etc, file(0o044, 1000, 9)], false),
            ("by a supplementary group", alice(), vec![etc, file(0o640, 0, 50)], true),
            ("a group without the right, others with it", alice(), vec![file(0o604, 0, 50)], false),
            (
                "a directory she cannot search",
                alice(),
                vec![directory(0o750, 0, 0), file(0o644, 0, 0)],
                false,
            ),
            (
                "a directory of her group",
                alice(),
                vec![directory(0o710, 0, 50), file(0o644, 0, 0)],
                true,
            ),
            ("her link to her file", alice(), vec![etc, link(1000), file(0o600, 1000, 1000)], true),
            (
                "root's HAProxy over her link to a secret",
                Reader::Root,
                vec![etc, link(1000), file(0o600, 0, 0)],
                false,
            ),
            (
                "root's HAProxy over her link to what all may read",
                Reader::Root,
                vec![etc, link(1000), file(0o644, 0, 0)],
                true,
            ),
            (
                "root's HAProxy in her directory, her file",
                Reader::Root,
                vec![etc, directory(0o700, 1000, 1000), file(0o600, 1000, 1000)],
                true,
            ),
            (
                "root's HAProxy in her directory, a secret",
                Reader::Root,
                vec![etc, directory(0o700, 1000, 1000), file(0o600, 0, 0)],
                false,
            ),
            (
                "a directory that a group may write",
                Reader::Root,
                vec![directory(0o775, 0, 50), file(0o640, 0, 50)],
                true,
            ),
            (
                "the same, the file not for the group",
                Reader::Root,
                vec![directory(0o775, 0, 50), file(0o600, 0, 0)],
                false,
            ),
            (
                "a directory that all may write",
                Reader::Root,
                vec![directory(0o777, 0, 0), file(0o640, 0, 0)],
                false,
            ),
            (
                "a sticky one, root's own file",
                Reader::Root,
                vec![directory(0o1777, 0, 0), file(0o600, 0, 0)],
                true,
            ),
            (
                "a sticky one, a link of bob's",
                Reader::Root,
                vec![directory(0o1777, 0, 0), link(1001), file(0o600, 0, 0)],
                false,
            ),
            (
                "a sticky one, a second name",
                Reader::Root,
                vec![directory(0o1777, 0, 0), two_names],
                false,
            ),
            ("a directory of configurations", alice(), vec![etc, directory(0o755, 0, 0)], true),
            (
                "one that she may search and not list",
                alice(),
                vec![etc, directory(0o711, 0, 0)],
                false,
            ),
        ];
        for (what, starter, steps, expected) in table {
            assert_eq!(may_be_shown(starter, &steps), expected, "{what}");
        }
    }

    #[test]
    fn that_there_is_no_file_is_shown_to_those_who_could_see_it() {
        let alice = || Reader::User { uid: 1000, groups: vec![1000] };
        let (etc, closed) = (directory(0o711, 0, 0), directory(0o700, 0, 0));
        let lent = directory(0o755, 1000, 1000);
        for (what, starter, steps, expected) in [
            ("a directory she may search", alice(), vec![etc], true),
            ("one that is closed to her", alice(), vec![etc, closed], false),
            ("the same to root", Reader::Root, vec![etc, closed], true),
            ("to root by her link", Reader::Root, vec![etc, lent, link(1000), closed], false),
        ] {
            assert_eq!(may_be_followed(starter, &steps), expected, "{what}");
        }
    }
}
