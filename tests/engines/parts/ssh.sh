#!/bin/bash
# Hosts that are reached by ssh, on a network of their own: each has its host name and its processes for itself.
#   ssh.sh start DIR N           boot host1 … hostN
#   ssh.sh cut|heal DIR hostK    unplug its network cable, and plug it in
#   ssh.sh crash DIR hostK       without power: kill all its processes, unplugged, so that its peers hear nothing of it
#   ssh.sh boot  DIR hostK       again
#   ssh.sh stop  DIR
# `ssh -F DIR/ssh_config hostK` gets there; nobody answers for a hostK that was not booted.
cmd=${1:?}; shift
. "$(dirname "$0")/../../hosts/parts/common.sh"

addr() { echo 10.97.0.$((10+${1#host})); }
config() { # N
    local k
    ssh_key; sshd_config 22 0.0.0.0 none >$D/sshd_config
    { echo "127.0.0.1 localhost"; for k in $(seq 9); do echo "$(addr host$k) host$k"; done; } >$D/hosts
    { for k in $(seq 9); do echo "Host host$k"; echo "  HostName $(addr host$k)"; done
      echo "Host *"; echo "  ProxyCommand nsenter --target $(cat $D/net.pid) --net nc %h %p"
    } | ssh_config >$D/ssh_config
}
# A host's network has one cable, to the bridge in the network that `net_up` has made.  The host's first process is
# bash, which reaps; killing `unshare` kills it and so all others.
boot() { # hostK
    local h=$1 i p
    setsid unshare --net --uts --ipc --mount --pid --fork --kill-child --mount-proc bash -c "
        until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
        ip link set lo up; ip addr add $(addr $h)/24 dev eth0; ip link set eth0 up
        hostname $h; mount --bind $D/hosts /etc/hosts; mount -t tmpfs tmpfs /run; mkdir -p /run/sshd
        $(command -v sshd) -D -e -f $D/sshd_config & while :; do wait -n || sleep 0.2; done" >>$D/$h.log 2>&1 </dev/null &
    p=$!; echo $p >$D/$h.pid
    for i in $(seq 100); do [ "$(readlink /proc/$p/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.02; done
    in_net ip link add $h type veth peer name eth0 netns $p
    in_net ip link set $h master br0 up
    in_net ip neigh flush all                   # its card is a new one
    for i in $(seq 200); do ssh -F $D/ssh_config -o ConnectTimeout=2 $h true 2>/dev/null && return; sleep 0.05; done
    tail -n 5 $D/$h.log; return 1
}
crash() { # hostK
    alive $D/$1.pid || return 0
    local p=$(cat $D/$1.pid)
    in_net ip link set $1 down 2>/dev/null; in_net ip link del $1 2>/dev/null
    kill -9 $p; await_gone $p
}
start() { # N
    local k
    mkdir -p $D; net_up
    in_net ip link add br0 type bridge; in_net ip addr add 10.97.0.1/24 dev br0; in_net ip link set br0 up
    config
    for k in $(seq $1); do boot host$k || return 1; done
}
stop() {
    local f
    for f in $D/host*.pid; do [ -e $f ] && crash $(basename $f .pid); done
    net_down
    true
}

case $cmd in
start)   start ${1:-2};;
cut)     in_net ip link set $1 down;;
heal)    in_net ip link set $1 up;;
crash)   crash $1;;
boot)    boot $1;;
stop)    stop;;
*)       echo "unknown: $cmd" >&2; exit 2;;
esac
