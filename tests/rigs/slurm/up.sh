#!/usr/bin/env bash
# A SLURM cluster of one node on this machine: munge, slurmctld and slurmd, without systemd.
#
#   tests/rigs/slurm/up.sh DIR [CPUS=32] [PORT=17000]     about 1 s, 10 s to install the packages
#   export SLURM_CONF=DIR/slurm.conf                      then sbatch, srun, squeue, scancel work
#   tests/rigs/slurm/down.sh DIR
#
# DIR is made, and holds everything: configuration, key, sockets, state and logs. Two ports are
# used from PORT on. Needs root, and Debian's apt unless the packages are there; says on standard
# error why it cannot, and exits with 2 then.
set -euo pipefail

dir=$(realpath -m "${1:?"which directory? see the head of $0"}")
cpus=${2:-32}
port=${3:-17000}
host=$(hostname -s)

refuse() {
    echo "no SLURM here: $1" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || refuse "slurmctld and slurmd are started by root only"
[ ! -e "$dir" ] || refuse "$dir exists (tests/rigs/slurm/down.sh $dir removes it)"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if [ "$(command -v munged slurmctld slurmd sbatch | wc -l)" != 4 ]; then
    command -v apt-get >/dev/null || refuse "slurmctld and slurmd are missing, and so is apt-get"
    apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
    { apt update && apt install --no-install-recommends munge slurmctld slurmd slurm-client; } \
        </dev/null >/dev/null 2>&1 || refuse "apt-get could not install slurmctld and slurmd"
fi

mkdir -p "$dir"/{log,state,spool}
chmod 700 "$dir/log"
(umask 077 && head -c 128 /dev/urandom >"$dir/munge.key")
cat >"$dir/slurm.conf" <<CONF
ClusterName=test
# job numbers that no earlier cluster on this machine has used: MPICH names shared memory by them
FirstJobId=$(($(date +%s) % 60000000 + 1))
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
# no cgroups, no accounting, no mail
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
# CPUs as written below, more than the machine has; several jobs share the node
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# start and end jobs without delay
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1
KillWait=2
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$cpus RealMemory=1000
PartitionName=all Nodes=ALL Default=YES DefaultTime=10 MaxTime=INFINITE State=UP
CONF

# jobs get a /dev/shm of their own, if this machine allows that: what killed ones leave goes with it
private=(unshare --mount --ipc sh -c 'mount -t tmpfs shm /dev/shm && exec "$@"' sh)
"${private[@]}" true 2>/dev/null || private=()

# all three go to the background by themselves; in a session of their own a Ctrl-C passes them by
trap '"$(dirname "$0")/down.sh" "$dir"' EXIT
export SLURM_CONF=$dir/slurm.conf
setsid munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
    --pid-file="$dir/munged.pid" --seed-file="$dir/munge.seed" --log-file="$dir/log/munged.log"
setsid slurmctld -c
setsid "${private[@]}" slurmd
for _ in $(seq 100); do
    if [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = 1 ]; then
        trap - EXIT
        echo "SLURM is up with $cpus CPUs: export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 0.1
done
tail -n 5 "$dir"/log/slurm*.log >&2
echo "the node did not become idle within 10 s" >&2
exit 1
