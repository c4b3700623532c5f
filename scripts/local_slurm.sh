#!/usr/bin/env bash
# A real SLURM on this one machine, for trying and testing what goes to a cluster.
#
#   scripts/local_slurm.sh [up]    install it if need be, start it, wait until it takes jobs; again: leaves it running
#   scripts/local_slurm.sh down    cancel its jobs and stop it; what was installed stays
#
# As root, on Debian or Ubuntu. All it writes lies in /etc/slurm, /etc/munge, /var/spool/slurm* and /var/log/slurm; an
# /etc/slurm/slurm.conf that it did not write is left alone, and it refuses.
set -euo pipefail

CONF=/etc/slurm/slurm.conf
MARK="# written by local_slurm.sh"
HOST=$(hostname -s)

fail() { echo "local_slurm: $*" >&2; exit 1; }
alive() { scontrol ping >/dev/null 2>&1 && [ "$(sinfo -h -o %t 2>/dev/null | head -n 1)" = "${1:-idle}" ]; }

install_packages() {
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  command -v apt-get >/dev/null || fail "needs apt-get; install the packages slurm-wlm and munge some other way."
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

start_munge() {
  munge -n >/dev/null 2>&1 && return
  mkdir -p /run/munge
  chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || runuser -u munge -- /usr/sbin/mungekey --create
  chmod 400 /etc/munge/munge.key
  runuser -u munge -- /usr/sbin/munged --force 2>/dev/null
  munge -n >/dev/null || fail "munged does not answer; see /var/log/munge/munged.log."
}

write_conf() {
  [ -e "$CONF" ] && ! grep -q "$MARK" "$CONF" && fail "$CONF is not ours; move it away, or use the SLURM that it describes."
  mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /run/slurm
  local memory
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.85)}' /proc/meminfo)
  cat > "$CONF" <<EOF
$MARK
ClusterName=local
SlurmctldHost=$HOST(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=10
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
EOF
}

up() {
  alive idle || alive mix || alive alloc && { echo "local_slurm: is up"; return; }
  [ "$(id -u)" = 0 ] || fail "must be run by root."
  install_packages
  start_munge
  write_conf
  pidof -q slurmctld || slurmctld -c # -c: what an earlier cluster left behind is forgotten
  pidof -q slurmd || slurmd -c
  for _ in $(seq 100); do
    alive idle && { echo "local_slurm: up with $(nproc --all) CPUs; try: srun --ntasks=2 hostname"; return; }
    sleep 0.2
  done
  fail "no node came up; see /var/log/slurm/slurmctld.log and slurmd.log."
}

stop() { # each by the pid it wrote, never by its name
  local file=$1
  [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
  for _ in $(seq 50); do
    [ -s "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null || return 0
    sleep 0.2
  done
  fail "the process of $file does not end."
}

down() {
  grep -q "$MARK" "$CONF" 2>/dev/null || fail "there is none of ours here."
  scancel --user=root >/dev/null 2>&1 || true
  stop /run/slurm/slurmd.pid
  stop /run/slurm/slurmctld.pid
  stop /run/munge/munged.pid
  echo "local_slurm: down"
}

case "${1:-up}" in
  up) up ;;
  down) down ;;
  *) fail "usage: $0 [up|down]" ;;
esac
