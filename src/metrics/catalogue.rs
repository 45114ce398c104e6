//! The catalogue: name, type, labels and help of every metric. No other file spells their names.

use prometheus::proto::MetricType;

/// One metric of the catalogue.
#[derive(Debug)]
pub struct Row {
    /// The name, which ends with the unit.
    pub name: &'static str,
    /// The type.
    pub kind: MetricType,
    /// The labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// The help text, which says when a series is absent.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Row = Row {
                name: $name,
                kind: MetricType::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// Every metric, in the order of the page.
        pub const ALL: &[&Row] = &[$(&$id),*];
    };
}

catalogue! {
    HAPROXYS: GAUGE "haproxy_host_haproxys" []
        "HAProxy services seen on this host.";
    INFO: GAUGE "haproxy_host_info"
        ["haproxy", "mode", "unit", "config", "pidfile", "version"]
        "Facts about a HAProxy service; always 1.";
    UP: GAUGE "haproxy_host_up" ["haproxy", "origin"]
        "1 when a current process serves; absent when unknown.";
    PROCESSES: GAUGE "haproxy_host_processes" ["haproxy", "role", "generation"]
        "Processes by role and generation.";
    STALE_PROCESSES: GAUGE "haproxy_host_stale_processes" ["haproxy", "state"]
        "Stale processes by the reason they are still alive; absent when the generations are unknown.";
    STALE_CONNECTIONS: GAUGE "haproxy_host_stale_connections" ["haproxy", "state"]
        "Connections held by stale processes; absent when they could not be read.";
    STALE_OLDEST_TIMESTAMP: GAUGE "haproxy_host_stale_oldest_timestamp_seconds" ["haproxy"]
        "When the longest-stale process was superseded; absent when none is stale.";
    GENERATIONS: GAUGE "haproxy_host_generations" ["haproxy"]
        "Distinct generations alive; absent when unknown.";
    GENERATION_START: GAUGE "haproxy_host_generation_start_timestamp_seconds" ["haproxy"]
        "Start of the serving generation; absent when there is none.";
    RELOADS: COUNTER "haproxy_host_reloads_total" ["haproxy", "result"]
        "Reloads observed; failures only with a master, where they can be known.";
    LAST_RELOAD_SUCCESSFUL: GAUGE "haproxy_host_last_reload_successful" ["haproxy"]
        "1 when the last reload succeeded; absent without a master or a reload.";
    LAST_RELOAD_TIMESTAMP: GAUGE "haproxy_host_last_reload_timestamp_seconds" ["haproxy"]
        "Time of the last known reload; absent when none is known.";
    THRESHOLD: GAUGE "haproxy_host_threshold" ["haproxy", "name"]
        "The policy's thresholds, for alerting rules to compare with.";
    RESIDENT_MEMORY: GAUGE "haproxy_host_resident_memory_bytes" ["haproxy", "generation"]
        "Anonymous resident memory by generation.";
    MEMORY_AVAILABLE: GAUGE "haproxy_host_memory_available_bytes" ["haproxy"]
        "Memory left to the service: the host's or its cgroup's, the smaller.";
    PIDS_AVAILABLE: GAUGE "haproxy_host_pids_available" ["haproxy"]
        "Processes and threads left to the service: the host's or its cgroup's, the smaller.";
    OPEN_FDS: GAUGE "haproxy_host_open_fds" ["haproxy", "generation"]
        "Open descriptors of the process nearest its limit.";
    MAX_FDS: GAUGE "haproxy_host_max_fds" ["haproxy", "generation"]
        "Limit on descriptors of the process nearest its limit.";
    BOUND_PORTS: GAUGE "haproxy_host_bound_ports" ["haproxy", "protocol", "generation"]
        "Listeners: distinct address, port, interface and network namespace.";
    DECLARED_PORTS: GAUGE "haproxy_host_declared_ports" ["haproxy", "protocol"]
        "Listeners the configuration on disk declares; absent when it could not be read.";
    CONFIG_MTIME: GAUGE "haproxy_host_config_mtime_seconds" ["haproxy"]
        "When the newest configuration file was changed; absent when none could be read.";
    CONFIG_HASH: GAUGE "haproxy_host_config_hash" ["haproxy"]
        "First 48 bits of the SHA-256 of the configuration on disk without its secrets; absent when a file could not be read.";
    ALLOWED_PORTS: GAUGE "haproxy_host_allowed_ports" ["haproxy", "protocol"]
        "Distinct port numbers the policy permits, without those of reserved_ports.";
    PORT_INFO: GAUGE "haproxy_host_port_info"
        ["haproxy", "protocol", "address", "port", "interface", "netns", "generation"]
        "A listener; always 1. Capped by metrics.max_port_series.";
    LISTEN_QUEUE_LENGTH: GAUGE "haproxy_host_listen_queue_length"
        ["haproxy", "protocol", "address", "port", "interface", "netns"]
        "Connections waiting in the port's fullest accept queue.";
    LISTEN_QUEUE_LIMIT: GAUGE "haproxy_host_listen_queue_limit"
        ["haproxy", "protocol", "address", "port", "interface", "netns"]
        "Limit of the port's fullest accept queue.";
    LISTEN_DROPS: COUNTER "haproxy_host_listen_drops_total"
        ["haproxy", "protocol", "address", "port", "interface", "netns"]
        "Connections dropped at the port's sockets since the exporter first saw the port.";
    ANOMALIES: GAUGE "haproxy_host_anomalies" ["haproxy", "kind"]
        "Firing anomalies; absent for a kind that could not be judged.";
    ANOMALY_INFO: GAUGE "haproxy_host_anomaly_info"
        ["haproxy", "kind", "protocol", "address", "port", "interface", "netns", "holder"]
        "A firing anomaly; always 1. Capped by metrics.max_port_series.";
    ANOMALY_START: GAUGE "haproxy_host_anomaly_start_timestamp_seconds"
        ["haproxy", "kind", "protocol", "address", "port", "interface", "netns", "holder"]
        "Since when a firing anomaly holds.";
    ANOMALIES_OBSERVED: COUNTER "haproxy_host_anomalies_observed_total" ["haproxy", "kind"]
        "Anomalies that began while the exporter watched.";
    BACKUP_LAST_SUCCESS: GAUGE "haproxy_host_backup_last_success_timestamp_seconds" ["haproxy"]
        "When the newest complete backup was taken; absent without one or without backup.directory.";
    BACKUP_LAST_VERIFIED: GAUGE "haproxy_host_backup_last_verified_timestamp_seconds" ["haproxy"]
        "When the newest backup that verifies was last verified; absent without one or without backup.directory.";
    BACKUP_CONFIG_DIFFERS: GAUGE "haproxy_host_backup_config_differs" ["haproxy"]
        "1 when the configuration is in no verified backup; absent when unknown or without backup.directory.";
    UNREADABLE: GAUGE "haproxy_host_unreadable" ["what"]
        "Processes or sources that could not be read; 0 when all was seen.";
    SERIES_DROPPED: GAUGE "haproxy_host_series_dropped" ["metric"]
        "Series left out by the caps on ports of one service and on the whole page.";
    SAMPLE_DURATION: GAUGE "haproxy_host_sample_duration_seconds" ["collector"]
        "Time a collector took for the sample.";
    SAMPLE_SUCCESS: GAUGE "haproxy_host_sample_success" ["collector"]
        "1 when a collector saw everything it is meant to see.";
    SAMPLE_TIMESTAMP: GAUGE "haproxy_host_sample_timestamp_seconds" []
        "When the host was looked at for this page. It is looked at on a timer (--sample.interval) and not for each scrape.";
    BUILD_INFO: GAUGE "haproxy_host_exporter_build_info" ["version", "revision", "rustversion"]
        "The exporter's build; always 1.";
    CONFIG_RELOAD_SUCCESSFUL: GAUGE "haproxy_host_exporter_config_last_reload_successful" []
        "1 when the exporter's own configuration was last read without error.";
    CONFIG_RELOAD_TIMESTAMP: GAUGE
        "haproxy_host_exporter_config_last_reload_success_timestamp_seconds" []
        "When the exporter's own configuration was last read without error.";
    REAP_STEPS: COUNTER "haproxy_host_reap_steps_total" ["haproxy", "signal", "state", "result"]
        "Signals that reap sent, and what came of them; absent without a state file of reap.";
    REAP_PORTS_RELEASED: COUNTER "haproxy_host_reap_ports_released_total" ["haproxy"]
        "Listeners that stale processes released after a signal of reap; absent without a state file.";
    REAP_PENDING: GAUGE "haproxy_host_reap_pending" ["haproxy"]
        "Steps the reap policy allows and a dry run, a cap, a quiet time or a missing right holds back.";
    REAP_LAST_RUN_TIMESTAMP: GAUGE "haproxy_host_reap_last_run_timestamp_seconds" []
        "When reap last ended a run or a round of --watch; absent without a state file.";
    REAP_LAST_RUN_SUCCESS: GAUGE "haproxy_host_reap_last_run_success" []
        "1 when reap's last run saw everything and had the right to signal.";
    PROCESS_CPU: COUNTER "process_cpu_seconds_total" []
        "User and system CPU time the exporter has used.";
    PROCESS_OPEN_FDS: GAUGE "process_open_fds" []
        "Open descriptors of the exporter.";
    PROCESS_MAX_FDS: GAUGE "process_max_fds" []
        "Limit on descriptors of the exporter.";
    PROCESS_VIRTUAL_MEMORY: GAUGE "process_virtual_memory_bytes" []
        "Virtual memory of the exporter.";
    PROCESS_RESIDENT_MEMORY: GAUGE "process_resident_memory_bytes" []
        "Resident memory of the exporter.";
    PROCESS_START: GAUGE "process_start_time_seconds" []
        "Start of the exporter, in unix time.";
    PROCESS_THREADS: GAUGE "process_threads" []
        "Threads of the exporter.";
}
