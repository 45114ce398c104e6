//! The commands of `backup`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::examples;
use super::options::{CheckOutput, Options, timeout};

/// What to do with backups.
#[derive(Debug, Clone, Subcommand)]
pub enum Backup {
    /// Copy everything that the HAProxys of this host read: configuration, certificates, maps, pages,
    /// scripts, units. Files with private keys are listed and not copied.
    Create(BackupCreate),
    /// List the backups: age, size, and when each was verified.
    List(BackupList),
    /// Prove that a backup is complete and that a HAProxy accepts it, by running that HAProxy on the copy.
    Verify(BackupVerify),
    /// Show what differs between a backup and the disk. Secrets are masked.
    Diff(BackupDiff),
    /// Show what a restore would change. With --execute, back up the present state and do it.
    Restore(BackupRestore),
}

impl Backup {
    /// The flags that commands share.
    #[must_use]
    pub fn options(&self) -> &Options {
        match self {
            Backup::Create(create) => &create.options,
            Backup::List(list) => &list.options,
            Backup::Verify(verify) => &verify.options,
            Backup::Diff(diff) => &diff.options,
            Backup::Restore(restore) => &restore.options,
        }
    }
}

/// The options of `backup create`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What to keep", after_help = examples::BACKUP_CREATE)]
pub struct BackupCreate {
    /// Copy only what this HAProxy service reads.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Directory of backups; by default that of the configuration (backup.directory).
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Afterwards remove the oldest backups of the service, so that this many remain. The newest that
    /// verifies is never removed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Copy files with private keys, too.
    #[arg(long)]
    pub include_keys: bool,
    /// Leave out the files of these paths; * stands for any characters, ? for one. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Write one file (tar, zstd) instead of a directory.
    #[arg(long)]
    pub archive: bool,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}

/// The options of `backup list`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which backups", after_help = examples::BACKUP_LIST)]
pub struct BackupList {
    /// Only the backups of this HAProxy service.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Directory of backups; by default that of the configuration (backup.directory).
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}

/// The options of `backup verify`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which backup", after_help = examples::BACKUP_VERIFY)]
pub struct BackupVerify {
    /// Name of the backup. The name latest means the newest of each service.
    #[arg(help_heading = None)]
    pub name: String,
    /// HAProxy service whose latest backup is meant, if the directory has backups of several.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Directory of backups; by default that of the configuration (backup.directory).
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// HAProxy executable that has to accept the backup, for example the one you are upgrading to. Without
    /// this flag it is the executable that ran when the backup was taken, if no other user can change it.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Give up on HAProxy after this time, with exit code 3.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    pub timeout: Duration,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}

/// The options of `backup diff`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which backup", after_help = examples::BACKUP_DIFF)]
pub struct BackupDiff {
    /// Name of the backup. The name latest means the newest that verifies.
    #[arg(help_heading = None)]
    pub name: String,
    /// HAProxy service whose latest backup is meant, if the directory has backups of several.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Directory of backups; by default that of the configuration (backup.directory).
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Show passwords and values of variables. Keys are shown as hashes even so.
    #[arg(long, help_heading = "Answer")]
    pub show_secrets: bool,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}

/// The options of `backup restore`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What to restore", after_help = examples::BACKUP_RESTORE)]
pub struct BackupRestore {
    /// Name of the backup. The name latest means the newest that verifies.
    #[arg(help_heading = None)]
    pub name: String,
    /// Restore only these files: a path, a directory, or the name of a file.
    #[arg(value_name = "FILE", help_heading = None)]
    pub files: Vec<PathBuf>,
    /// HAProxy service whose latest backup is meant, if the directory has backups of several.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Directory of backups; by default that of the configuration (backup.directory).
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Restore below this directory instead of /.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Move files that were added since, and that HAProxy would load, out of the way: into the backup of
    /// the present state.
    #[arg(long)]
    pub remove_added: bool,
    /// Do it. Without this flag nothing is changed.
    #[arg(long)]
    pub execute: bool,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}
