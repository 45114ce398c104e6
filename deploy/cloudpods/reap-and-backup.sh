#!/bin/sh
# On a node of lbagent, as root. Each step only looks, unless it says otherwise.
set -eu
policy=${POLICY:-/etc/haproxy-host-exporter/lbagent.yaml}
backups=${BACKUPS:-/var/backups/lbagent}

# What a reload has left behind, and what reap would do about it. With --execute it does.
# Exit code 1: there is something to end.
haproxy-host-exporter reap --config.file "$policy" --haproxy lbagent || [ $? -eq 1 ]

# Writes: what HAProxy has loaded, without private keys, and the proof that HAProxy accepts it.
install -d -m 700 "$backups"
haproxy-host-exporter backup create --config.file "$policy" --haproxy lbagent --to "$backups" --keep 14
haproxy-host-exporter backup verify latest --config.file "$policy" --haproxy lbagent --to "$backups"
