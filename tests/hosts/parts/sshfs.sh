#!/bin/bash
# A folder (DIR/served), served by an sshd, and sshfs mounts of it (DIR/mnt1 …), each by a host with a network of its own.
#   sshfs.sh start DIR MOUNTS
#   sshfs.sh stall|resume DIR      stop, and continue, the server's processes
#   sshfs.sh restart DIR           end the connections; sshfs makes new ones
#   sshfs.sh cut|heal DIR K        unplug the network cable of the host of DIR/mntK, and plug it in
#   sshfs.sh stop  DIR
cmd=${1:?}; shift
. "$(dirname "$0")/common.sh"
PORT=2022

below() { local c; for c in $(cat /proc/$1/task/*/children 2>/dev/null); do echo $c; below $c; done; }
sessions() { below $(cat $D/sshd.pid); }
start() { # MOUNTS
    local i
    mkdir -p $D/served; net_up; server_up
    [ "$(id -u)" = 0 ] && mkdir -p /run/sshd
    ssh_key; sshd_config $PORT $SERVER none >$D/sshd_config
    printf 'Host server\n  HostName %s\n  Port %s\n' $SERVER $PORT | ssh_config >$D/ssh_config
    setsid nsenter --target $(cat $D/net.pid) --net $(command -v sshd) -D -e -f $D/sshd_config >$D/log 2>&1 </dev/null &
    echo $! >$D/sshd.pid
    for i in $(seq 100); do in_net ssh -F $D/ssh_config server true 2>/dev/null && break; sleep 0.05; done
    for i in $(seq $1); do
        mkdir -p $D/mnt$i
        host_up $i && on_host $i sshfs -F $D/ssh_config -o reconnect,idmap=none server:$D/served $D/mnt$i || return 1
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
cut)     unplug $1;;
heal)    plug_in $1;;
stop)    stop;;
*)       echo "unknown: $cmd" >&2; exit 2;;
esac
