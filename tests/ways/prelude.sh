# The vocabulary of the table's shell lines. HAPROXY and OTHER are two versions' programs, D is the
# row's directory, P1 to P9 are its ports, CGROUPS is a directory of control groups.
# shellcheck shell=bash

# web BIND…: a configuration whose answer on each bind is the pid of the process that accepted.
# A request with a body that does not come is held for an hour. GLOBAL and MORE add lines.
web() {
    printf 'global\n'
    printf '    %s\n' "${GLOBAL:-maxconn 200}"
    printf 'defaults\n    mode http\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n'
    printf 'frontend f\n'
    for bind; do
        case $bind in
        *[!0-9]*) printf '    bind %s\n' "$bind" ;;
        *) printf '    bind 127.0.0.1:%s\n' "$bind" ;;
        esac
    done
    printf '    http-request wait-for-body time 1h if METH_POST\n'
    printf '    http-request return status 200 content-type text/plain lf-string %%pid\n'
    printf '%s\n' "${MORE:-}"
}

# pid_at PORT [ADDRESS]: the pid of the process that accepts there.
pid_at() { curl -s -m 2 "http://${2:-127.0.0.1}:$1/"; }

# info SOCKET: the pid of the process that answers at an admin socket.
info() { echo 'show info' | socat -t 2 - "UNIX-CONNECT:$1" | sed -n 's/^Pid: //p' | grep .; }

# later COMMAND…: runs it beside this shell; the bed's init adopts it.
later() { "$@" >>"$D/log" 2>&1 </dev/null & }

# freeze PID: stops it, and returns when each of its threads has: a thread stops when it is next
# scheduled, and on a busy machine another may run until then.
freeze() {
    kill -STOP "$1"
    until ! grep -h '^State:' "/proc/$1"/task/*/status | grep -qv 'T (stopped)'; do sleep 0.05; done
}

# contain NAME FLAGS…: namespaces of their own, which `within NAME COMMAND…` enters.
contain() {
    name=$1
    shift
    echo "ip link set lo up 2>/dev/null; ${INSIDE:-:}; echo up >$D/$name.up; exec tini -s -- sleep infinity" >"$D/$name.sh"
    later unshare "$@" --fork --kill-child sh "$D/$name.sh"
    until [ -s "$D/$name.up" ]; do sleep 0.05; done
    pgrep -P $! >"$D/$name.init"
}
within() {
    init=$(cat "$D/$1.init")
    shift
    nsenter -t "$init" --all --wd=/ "$@"
}

# unit NAME COMMAND…: runs it in the control group of a unit of that name.
unit() {
    group=$CGROUPS/$1
    shift
    mkdir -p "$group"
    sh -c 'echo 0 >"$0/cgroup.procs"; exec "$@"' "$group" "$@"
}

# as UID COMMAND…: runs it as another user.
as() {
    uid=$1
    shift
    setpriv --reuid="$uid" --regid="$uid" --clear-groups "$@"
}

# client PORT [COMMAND…]: half a request to that port, held for ten minutes; COMMAND enters its network.
client() {
    port=$1
    shift
    cat >"$D/client-$port.sh" <<-END
	(printf 'POST / HTTP/1.1\\r\\nHost: w\\r\\nContent-Length: 9\\r\\n\\r\\n'; exec sleep 600) | socat - TCP:127.0.0.1:$port
	END
    later "$@" sh "$D/client-$port.sh"
    for _ in $(seq 100); do
        [ -z "$("$@" ss -Htn state established "sport = :$port")" ] || return 0
        sleep 0.1
    done
    return 1
}
