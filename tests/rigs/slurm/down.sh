#!/usr/bin/env bash
# Cancels the jobs of the cluster that up.sh started in DIR, stops its daemons and removes DIR.
#
#   tests/rigs/slurm/down.sh DIR
set -uo pipefail

dir=$(realpath -m "${1:?"which directory? see the head of $0"}")
export SLURM_CONF=$dir/slurm.conf
[ -e "$SLURM_CONF" ] || { echo "$dir is not the directory of a cluster" >&2; exit 2; }

# the daemon of a pid file, unless it has ended: a zombie that nobody has reaped has ended, too
running() { grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }

for _ in $(seq 50); do
    jobs=$(timeout 5 squeue --noheader --array --format=%A 2>/dev/null) && [ "$jobs" ] || break
    # shellcheck disable=SC2086
    timeout 5 scancel $jobs
    sleep 0.1
done
for daemon in slurmd slurmctld munged; do
    pid=$(cat "$dir/$daemon.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null
    for _ in $(seq 100); do
        running "$pid" || break
        sleep 0.05
    done
    ! running "$pid" || kill -9 "$pid"
done
rm -rf "$dir"
