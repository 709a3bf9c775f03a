# What the parts share.  DIR is the first argument of each; its processes keep their pids in files there.
set -u
D=$(realpath -m "${1:?DIR}"); shift
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

running() { case "$(sed 's/.*) //' /proc/$1/stat 2>/dev/null)" in ''|[ZX]*) return 1;; esac; }   # a zombie is not
alive() { [ -s "$1" ] && running "$(cat "$1")"; }                                                # by pid file
await_gone() { local i; for i in $(seq 100); do running $1 || return 0; sleep 0.05; done; return 1; }

# A network of the part's own.  A process holds it, so that nothing is left of it when that process is gone.
new_net() { # PIDFILE
    setsid unshare --net sleep infinity </dev/null >/dev/null 2>&1 &
    echo $! >$1
    local i; for i in $(seq 100); do [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.02; done
    nsenter --target $! --net ip link set lo up
}
net_up() { new_net $D/net.pid; }
in_net() { nsenter --target $(cat $D/net.pid) --net "$@"; }
net_down() {
    local file net p
    for file in $D/host*.net.pid $D/net.pid; do
        alive $file || continue
        net=$(readlink /proc/$(cat $file)/ns/net)
        for p in /proc/[0-9]*; do
            [ "$(readlink $p/ns/net 2>/dev/null)" = "$net" ] && kill -9 ${p#/proc/} && await_gone ${p#/proc/}
        done
        rm -f $file
    done
}

# Hosts 1, 2 … of that network, each with a cable of its own to SERVER.
SERVER=10.97.0.1
server_up() { in_net ip addr add $SERVER/32 dev lo; }
host_up() { # K
    new_net $D/host$1.net.pid
    in_net ip link add c$1 type veth peer name eth0 netns $(cat $D/host$1.net.pid) &&
        in_net ip addr add 10.97.$1.1/24 dev c$1 && in_net ip link set c$1 up &&
        on_host $1 ip addr add 10.97.$1.2/24 dev eth0 && on_host $1 ip link set eth0 up &&
        on_host $1 ip route add default via 10.97.$1.1
}
on_host() { local k=$1; shift; nsenter --target $(cat $D/host$k.net.pid) --net "$@"; } # K COMMAND
unplug() { in_net ip link set c$1 down; }    # what is sent is lost, and nobody is told
plug_in() { in_net ip link set c$1 up; }

# An sshd of the part's own takes this key and no other, and nothing is written to anybody's ~/.ssh.
ssh_key() { [ -e $D/id ] || ssh-keygen -q -t ed25519 -N '' -f $D/id; }
sshd_config() { # PORT ADDRESS PIDFILE
    [ -e $D/hostkey ] || ssh-keygen -q -t ed25519 -N '' -f $D/hostkey
    cat <<C
Port $1
ListenAddress $2
HostKey $D/hostkey
AuthorizedKeysFile $D/id.pub
PidFile $3
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
C
}
ssh_config() { # the lines on each host come from standard input
    cat
    cat <<C
Host *
  IdentityFile $D/id
  IdentitiesOnly yes
  UserKnownHostsFile $D/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  HostKeyAlias parts
  BatchMode yes
  LogLevel ERROR
  ServerAliveInterval 2
  ServerAliveCountMax 5
C
    echo "parts $(cut -d' ' -f1,2 $D/hostkey.pub)" >$D/known_hosts
}
