#!/bin/bash
# A Slurm of several nodes on this machine.  Each node has its host name and its processes for itself, so that one
# can be switched off.
#   slurm.sh start DIR NODES
#   slurm.sh crash DIR nodeK    without power: kill its slurmd and all its jobs
#   slurm.sh boot  DIR nodeK    again
#   slurm.sh stop  DIR
# PORT: of the controller, a free one; the nodes' are PORT+1 and so on.  CPUS, GPUS: of each node, pretended.
# Clients find it by SLURM_CONF=DIR/slurm.conf.
cmd=${1:?}; shift
. "$(dirname "$0")/../../hosts/parts/common.sh"
export SLURM_CONF=$D/slurm.conf
CPUS=${CPUS:-4}; GPUS=${GPUS:-2}

config() { # NODES
    local i g me=$(id -un)
    cat <<C
ClusterName=parts
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$PORT
AuthType=auth/none
CredType=cred/none
SlurmUser=$me
SlurmdUser=$me
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0,requeue_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdTimeout=10
KillWait=20
JobRequeue=1
MaxArraySize=1001
GresTypes=gpu
C
    for i in $(seq $1); do
        echo "NodeName=node$i NodeHostname=node$i NodeAddr=127.0.0.$((10+i)) Port=$((PORT+i)) CPUs=$CPUS RealMemory=2000 Gres=gpu:$GPUS State=UNKNOWN"
    done
    echo "PartitionName=main Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE State=UP"
    # pretended GPUs: character devices that Slurm hands out as it does real ones
    for g in $(seq 0 $((GPUS-1))); do [ -e $D/gpu$g ] || mknod $D/gpu$g c 1 3; done
    echo "Name=gpu File=$D/gpu[0-$((GPUS-1))]" >$D/gres.conf
    { grep -v -w -E 'node[0-9]+' /etc/hosts; for i in $(seq $1); do echo "127.0.0.$((10+i)) node$i"; done; } >$D/hosts
}
# bash is the first process of the node, and reaps; killing `unshare` kills it and so all others
boot() { # nodeK
    mkdir -p $D/spool/$1
    setsid unshare --uts --mount --pid --fork --kill-child --mount-proc bash -c \
        "hostname $1; mount --bind $D/hosts /etc/hosts; slurmd -D -N $1 -f $SLURM_CONF & wait \$!; while wait -n; do :; done" \
        >>$D/log/$1.out 2>&1 </dev/null &
    echo $! >$D/run/$1.pid
}
crash() { # nodeK
    local p=$(cat $D/run/$1.pid)
    kill -9 $p 2>/dev/null; await_gone $p
}
idle() { sinfo -h -N -o %t 2>/dev/null | grep -c '^idle$'; }
start() { # NODES
    local i
    mkdir -p $D/{state,spool,log,run}; config $1 >$SLURM_CONF
    setsid slurmctld -D -f $SLURM_CONF >$D/log/ctld.out 2>&1 </dev/null &
    echo $! >$D/run/ctld.pid
    for i in $(seq $1); do boot node$i; done
    for i in $(seq 300); do [ "$(idle)" -ge $1 ] && return; alive $D/run/ctld.pid || break; sleep 0.1; done
    sinfo; tail -n 5 $D/log/*; return 1
}
stop() {
    local f p
    for f in $D/run/node*.pid; do [ -e $f ] && crash $(basename $f .pid); done
    if alive $D/run/ctld.pid; then p=$(cat $D/run/ctld.pid); kill $p; await_gone $p || kill -9 $p; fi
    true
}

case $cmd in
start)   start ${1:-3};;
crash)   crash $1;;
boot)    boot $1;;
stop)    stop;;
*)       echo "unknown: $cmd" >&2; exit 2;;
esac
