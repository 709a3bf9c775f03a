#!/bin/bash
# A GlusterFS volume, and several mounts of it, each by a client host with a network of its own.
#   gluster.sh start DIR MOUNTS LAYOUT    LAYOUT: distN (N bricks, files spread by name) or replicaN
#   gluster.sh stall|resume DIR           stop, and continue, the bricks: a server that hangs
#   gluster.sh restart DIR                kill the bricks, and start them again after DOWN seconds
#   gluster.sh cut|heal DIR K             unplug the network cable of the host of DIR/mntK, and plug it in
#   gluster.sh stop  DIR
# Mounts: DIR/mnt1 …
cmd=${1:?}; shift
. "$(dirname "$0")/common.sh"
VOLUME=tasks

cli() { in_net gluster --mode=script --glusterd-sock=$D/run/glusterd.socket "$@"; }
bricks() { for f in $D/run/vols/$VOLUME/*.pid; do [ -s $f ] && p=$(cat $f) && running $p && echo $p; done; }
config() {
    cat <<V
volume management
    type mgmt/glusterd
    option working-directory $D/work
    option run-directory $D/run
    option glusterd-sockfile $D/run/glusterd.socket
    option transport-type socket
    option transport.socket.read-fail-log off
    option transport.address-family inet
    option max-port 60999
end-volume
V
}
start() { # MOUNTS LAYOUT
    local i n=${2//[a-z]/} places= replica=
    case $2 in replica*) replica="replica $n";; esac
    mkdir -p $D/work $D/log $D/run; net_up; server_up
    config >$D/glusterd.vol
    setsid nsenter --target $(cat $D/net.pid) --net glusterd -N -f $D/glusterd.vol -p $D/run/glusterd.pid \
        -l $D/log/glusterd.log -S $D/run/services.socket >$D/log/out 2>&1 </dev/null &
    for i in $(seq 100); do cli volume list >/dev/null 2>&1 && break; sleep 0.1; done
    for i in $(seq $n); do mkdir -p $D/brick/$i; places="$places $SERVER:$D/brick/$i"; done
    cli volume create $VOLUME $replica $places force >$D/log/create 2>&1 &&
        cli volume start $VOLUME >>$D/log/create 2>&1 || { cat $D/log/create >&2; return 1; }
    for i in $(seq $1); do
        mkdir -p $D/mnt$i
        host_up $i && on_host $i mount -t glusterfs -o log-file=$D/log/mnt$i $SERVER:/$VOLUME $D/mnt$i || return 1
    done
}
stop() {
    local m
    kill -CONT $(bricks) 2>/dev/null
    for m in $D/mnt*; do mountpoint -q $m && { timeout 5 umount $m 2>/dev/null || umount -l $m; }; done
    net_down            # all that is left are glusterd, bricks and the like
}

case $cmd in
start)   start ${1:-2} ${2:-dist2};;
stall)   kill -STOP $(bricks);;
resume)  kill -CONT $(bricks);;
restart) kill -9 $(bricks); sleep ${DOWN:-2}; cli volume start $VOLUME force >/dev/null;;
cut)     unplug $1;;
heal)    plug_in $1;;
stop)    stop;;
*)       echo "unknown: $cmd" >&2; exit 2;;
esac
