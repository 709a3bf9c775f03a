#!/bin/bash
# A Redis server that writes down every change before it answers.
#   redis.sh start DIR        prints its port
#   redis.sh kill DIR         as a power cut
#   redis.sh restart DIR      on the same port, with what it had written down
#   redis.sh stall|resume DIR a server that hangs
#   redis.sh stop DIR
cmd=${1:?}; shift
D=$(realpath -m "${1:?DIR}"); shift
set -u
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

running() { case "$(sed 's/.*) //' /proc/$1/stat 2>/dev/null)" in ''|[ZX]*) return 1;; esac; }   # a zombie is not
end() { # SIGNAL
    [ -s $D/pid ] || return 0
    local i p=$(cat $D/pid)
    kill -CONT $p 2>/dev/null; kill -$1 $p 2>/dev/null
    for i in $(seq 200); do running $p || return 0; sleep 0.02; done
}
run() { # PORT
    setsid redis-server --bind 127.0.0.1 --port $1 --dir $D --save '' --appendonly yes --appendfsync always \
        --daemonize no --logfile $D/log </dev/null >/dev/null 2>&1 &
    echo $! >$D/pid
    local i; for i in $(seq 200); do
        [ "$(redis-cli -p $1 ping 2>/dev/null)" = PONG ] && { echo $1; return 0; }
        running $! || return 1
        sleep 0.02
    done
    return 1
}
start() {
    mkdir -p $D
    local i p; for i in $(seq 20); do               # another may be quicker to take a free port
        p=$((RANDOM % 20000 + 10000)); echo $p >$D/port
        run $p && return 0
    done
    cat $D/log >&2; return 1
}

case $cmd in
start)   start;;
kill)    end KILL;;
restart) run $(cat $D/port) >/dev/null;;
stall)   kill -STOP $(cat $D/pid);;
resume)  kill -CONT $(cat $D/pid);;
stop)    end KILL;;
*)       echo "unknown: $cmd" >&2; exit 2;;
esac
