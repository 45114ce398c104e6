//! What the commands of `backup` answer.

use haproxy_host_exporter::backup::differences::Aspect;
use serde_json::Value;

use super::parts::version;
use crate::form::{
    Key, boolean, document, integer, key, list, nullable, object, one_of, part, schema, sometimes,
    string, time,
};

fn aspects() -> Value {
    list(one_of(Aspect::ALL.map(Aspect::as_str)))
}

fn path() -> Key {
    let about = "Path. A backslash is doubled, and a byte that is not UTF-8 is `\\xHH`.";
    key("path", string(), about)
}

pub fn create() -> Value {
    let left_out = object(vec![
        path(),
        key("why", string(), "Why it is not in the backup."),
        sometimes("sha256", string(), "SHA-256 of its content, where HAProxy needs the file."),
        sometimes("size", integer(), "Size in bytes."),
    ]);
    let backup = object(vec![
        key("name", string(), "Name of the backup."),
        key("haproxy", string(), "Name of the service."),
        key("taken_timestamp", time(), "When it was taken."),
        key("files", integer(), "Number of files in it."),
        key("bytes", integer(), "Size of its files in bytes."),
        key("left_out", list(part("left_out")), "Files that HAProxy reads and that are not in it."),
    ]);
    let root = object(vec![version(), key("backups", list(part("backup")), "The new backups.")]);
    schema(
        "backup create",
        "What `backup create --output json` prints.",
        root,
        vec![("backup", backup), ("left_out", left_out)],
    )
}

pub fn listed() -> Value {
    let program = object(vec![
        key("timestamp", time(), "When it accepted the backup."),
        key("binary", string(), "Path of the HAProxy."),
        key("version", string(), "Its version."),
        key("from_disk", list(string()), "Files outside the backup that it read from the disk."),
    ]);
    let backup = object(vec![
        key("name", string(), "Name of the backup."),
        key("haproxy", nullable(string()), "Name of the service; null if the backup is damaged."),
        key("taken_timestamp", nullable(time()), "When it was taken."),
        key("bytes", nullable(integer()), "Size of its files in bytes."),
        key("safety", nullable(boolean()), "It has only what a restore replaced."),
        key("archive", boolean(), "It is one file instead of a directory."),
        key("fault", nullable(string()), "Why it cannot be used; null if it can."),
        key(
            "verified",
            nullable(list(part("program"))),
            "The HAProxys that accepted it, the last one last; null if it was not verified.",
        ),
    ]);
    let root =
        object(vec![version(), key("backups", list(part("backup")), "The backups, oldest first.")]);
    schema(
        "backup list",
        "What `backup list --output json` prints.",
        root,
        vec![("backup", backup), ("program", program)],
    )
}

pub fn verify() -> Value {
    let backup = object(vec![
        key("name", string(), "Name of the backup."),
        key(
            "verified",
            nullable(boolean()),
            "Whether it is whole and HAProxy accepts it; null if no HAProxy gave an answer.",
        ),
        key(
            "faults",
            list(string()),
            "What is wrong with the backup, or why no HAProxy gave an answer. Empty if one did: then see `check`.",
        ),
        key("binary", nullable(string()), "Path of the HAProxy that was asked."),
        key("binary_version", nullable(string()), "Its version."),
        key("from_disk", list(string()), "Files outside the backup that it read from the disk."),
        key("check", nullable(document("check")), "What HAProxy and `check` say of the copy."),
    ]);
    let about =
        "One entry for each backup. One that cannot be read has none; standard error says why.";
    let root = object(vec![version(), key("backups", list(part("backup")), about)]);
    schema(
        "backup verify",
        "What `backup verify --output json` prints.",
        root,
        vec![("backup", backup)],
    )
}

pub fn diff() -> Value {
    let line = object(vec![
        key("old", nullable(integer()), "Its number in the backup, from 1; null for a new line."),
        key("new", nullable(integer()), "Its number on the disk, from 1; null for a removed line."),
        key("text", string(), "The line; secrets are masked."),
    ]);
    let difference = object(vec![
        path(),
        key("aspects", aspects(), "How it differs."),
        key("sha256_on_disk", nullable(string()), "SHA-256 of the file on the disk."),
        key("lines", list(part("line")), "Lines that differ; empty for keys and binary files."),
    ]);
    let root = object(vec![
        version(),
        key("name", string(), "Name of the backup."),
        key(
            "differences",
            list(part("difference")),
            "Files of the backup that differ on the disk.",
        ),
        key("added", list(string()), "New files that HAProxy would load."),
        key(
            "left_out_changed",
            list(string()),
            "Files that the backup has only the SHA-256 of, and that have changed.",
        ),
        key("unreadable", list(string()), "Files that could not be read."),
    ]);
    schema(
        "backup diff",
        "What `backup diff --output json` prints.",
        root,
        vec![("difference", difference), ("line", line)],
    )
}

pub fn restore() -> Value {
    let restored = object(vec![path(), key("aspects", aspects(), "How it differs on the disk.")]);
    let root = object(vec![
        version(),
        key("name", string(), "Name of the backup."),
        key("done", boolean(), "The files on the disk are now those of the backup."),
        key(
            "safety",
            nullable(string()),
            "Name of the backup that has what was replaced; null if nothing was.",
        ),
        key("restore", list(part("file")), "Files to restore, or that were restored."),
        key("added", list(string()), "New files that HAProxy would load."),
    ]);
    schema(
        "backup restore",
        "What `backup restore --output json` prints.",
        root,
        vec![("file", restored)],
    )
}
