#!/bin/bash
# A folder (DIR/served) and several sshfs mounts of it, by an sshd of its own: DIR/mnt1 …
#   sshfs.sh start DIR MOUNTS
#   sshfs.sh stall|resume DIR      stop, and continue, the server's processes
#   sshfs.sh restart DIR           end the connections; sshfs makes new ones
#   sshfs.sh stop  DIR
cmd=${1:?}; shift
. "$(dirname "$0")/common.sh"
PORT=2022

below() { local c; for c in $(cat /proc/$1/task/*/children 2>/dev/null); do echo $c; below $c; done; }
sessions() { below $(cat $D/sshd.pid); }
start() { # MOUNTS
    local i
    mkdir -p $D/served; net_up
    [ "$(id -u)" = 0 ] && mkdir -p /run/sshd
    ssh_key; sshd_config $PORT 127.0.0.1 none >$D/sshd_config
    printf 'Host server\n  HostName 127.0.0.1\n  Port %s\n' $PORT | ssh_config >$D/ssh_config
    setsid nsenter --target $(cat $D/net.pid) --net $(command -v sshd) -D -e -f $D/sshd_config >$D/log 2>&1 </dev/null &
    echo $! >$D/sshd.pid
    for i in $(seq 100); do in_net ssh -F $D/ssh_config server true 2>/dev/null && break; sleep 0.05; done
    for i in $(seq $1); do
        mkdir -p $D/mnt$i
        in_net sshfs -F $D/ssh_config -o reconnect,idmap=none server:$D/served $D/mnt$i || return 1
    done
}
stop() {
    local m
    kill -CONT $(sessions) 2>/dev/null
    for m in $D/mnt*; do mountpoint -q $m && { timeout 5 umount $m 2>/dev/null || umount -l $m; }; done
    net_down
}

case $cmd in
start)   start ${1:-2};;
stall)   kill -STOP $(sessions);;
resume)  kill -CONT $(sessions);;
restart) kill -9 $(sessions);;
stop)    stop;;
*)       echo "unknown: $cmd" >&2; exit 2;;
esac
