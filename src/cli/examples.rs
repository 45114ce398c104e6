//! The end of each command's help: two examples, and the exit codes that the command uses.

/// The end of the help of the program.
pub const PROGRAM: &str = "\
Examples:
  haproxy-host-exporter
  haproxy-host-exporter --config.file /etc/haproxy-host-exporter/config.yaml

Exit codes: 0 nothing wrong; 1 anomalies found; 2 wrong usage or configuration; 3 could not read
enough to answer. The help of each command says what they mean there.";

/// The end of the help of `serve`.
pub const SERVE: &str = "\
Examples:
  haproxy-host-exporter serve --web.listen-address 127.0.0.1:10101
  haproxy-host-exporter --config.file /etc/haproxy-host-exporter --config.check

Exit codes: 0 stopped by SIGTERM or SIGINT, or the configuration is valid; 2 wrong usage or
configuration, or an address that cannot be listened on.";

/// The end of the help of `inspect`.
pub const INSPECT: &str = "\
Examples:
  haproxy-host-exporter inspect --haproxy lbagent --watch
  haproxy-host-exporter inspect --port 59044

Exit codes: 0 nothing wrong, or the metrics of --output prometheus were printed; 1 anomalies found;
2 wrong usage or configuration; 3 could not read enough to answer.";

/// The end of the help of `check`.
pub const CHECK: &str = "\
Examples:
  haproxy-host-exporter check -f /etc/haproxy/haproxy.cfg
  haproxy-host-exporter check --haproxy lbagent --free 3 --within 20000-29999

Exit codes: 0 no errors, all ports free; 1 errors, do not reload, or some port is not free;
2 wrong usage or configuration; 3 could not see enough to answer, or not in time.";

/// The end of the help of `reap`.
pub const REAP: &str = "\
Examples:
  haproxy-host-exporter reap --haproxy lbagent
  haproxy-host-exporter reap --haproxy lbagent --execute --audit-log /var/log/haproxy-reap.log

Exit codes: 0 nothing left to end; 1 steps proposed, held back or without effect; 2 wrong usage
or configuration; 3 could not see enough, could not keep its records, or lacks the right to signal.";

/// The end of the help of `backup`.
pub const BACKUP: &str = "\
Examples:
  haproxy-host-exporter backup create --to /var/backups/haproxy
  haproxy-host-exporter backup restore latest --to /var/backups/haproxy

Exit codes: 0 done, the same, or verified; 1 differs, does not verify, or not done; 2 wrong usage or
configuration; 3 could not read enough. A failed command leaves nothing half done.";

/// The end of the help of `backup create`.
pub const BACKUP_CREATE: &str = "\
Examples:
  haproxy-host-exporter backup create --to /var/backups/haproxy
  haproxy-host-exporter backup create --haproxy lbagent --keep 30

Exit codes: 0 every backup was taken; 1 at least one was not; 2 wrong usage or configuration;
3 could not read enough.";

/// The end of the help of `backup list`.
pub const BACKUP_LIST: &str = "\
Examples:
  haproxy-host-exporter backup list --to /var/backups/haproxy
  haproxy-host-exporter backup list --haproxy lbagent --output json

Exit codes: 0 listed; 1 a backup is damaged, or the directory cannot be read; 2 wrong usage or
configuration; 3 lacks the right to read the directory.";

/// The end of the help of `backup verify`.
pub const BACKUP_VERIFY: &str = "\
Examples:
  haproxy-host-exporter backup verify latest
  haproxy-host-exporter backup verify latest --binary /opt/haproxy-3.2/sbin/haproxy

Exit codes: 0 verified; 1 damaged, or HAProxy refuses it; 2 wrong usage or configuration; 3 could
not read enough, or HAProxy gave no answer in time.";

/// The end of the help of `backup diff`.
pub const BACKUP_DIFF: &str = "\
Examples:
  haproxy-host-exporter backup diff latest
  haproxy-host-exporter backup diff lbagent-20261129T012233Z --show-secrets

Exit codes: 0 the same as the disk; 1 differs, or there is no such backup; 2 wrong usage or
configuration; 3 could not read enough.";

/// The end of the help of `backup restore`.
pub const BACKUP_RESTORE: &str = "\
Examples:
  haproxy-host-exporter backup restore latest
  haproxy-host-exporter backup restore latest haproxy.cfg --execute

Exit codes: 0 restored, or the same already; 1 would change something, not restored, or check finds
errors afterwards; 2 wrong usage or configuration; 3 could not read enough.";

/// The end of the help of `healthcheck`.
pub const HEALTHCHECK: &str = "\
Examples:
  haproxy-host-exporter healthcheck
  haproxy-host-exporter healthcheck --url http://127.0.0.1:10101/-/ready

Exit codes: 0 healthy; 1 another answer, or none in time; 2 wrong usage.";

/// The end of the help of `explain`.
pub const EXPLAIN: &str = "\
Examples:
  haproxy-host-exporter explain port_blocked
  haproxy-host-exporter explain HAProxyDown

Exit codes: 0 printed; 2 wrong usage, or there is no such runbook.";

/// The end of the help of `completions`.
pub const COMPLETIONS: &str = "\
Examples:
  haproxy-host-exporter completions bash > /etc/bash_completion.d/haproxy-host-exporter
  haproxy-host-exporter completions fish | source

Exit codes: 0 printed; 2 wrong usage.";

/// The end of the help of `man`.
pub const MAN: &str = "\
Examples:
  haproxy-host-exporter man | man -l -
  haproxy-host-exporter man check > haproxy-host-exporter-check.8

Exit codes: 0 printed; 2 wrong usage.";
