# Runs in a network namespace of its own. One port is all that the system may choose for the connecting end of a connection,
# and the foreign daemon `Sensor` listens there. EXE, HOME_DIR, PEER and SENSOR come from the test, which reads what this says.
dae() { "$EXE" --home "$HOME_DIR" "$@"; }
until_true() { for _ in $(seq 300); do eval "$1" && return; sleep 0.1; done; echo "LATE: $1"; exit 1; }
sensor() { python3 "$SENSOR" & SENSOR_PID=$!; until_true 'dae scan --json | grep -q Sensor'; }
ports() { echo "$1" >/proc/sys/net/ipv4/ip_local_port_range; }

ip link set lo up && ports "40123 40123" && echo 0 >/proc/sys/net/ipv4/tcp_max_tw_buckets || { echo UNABLE; exit; }
python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 40123))' || { echo UNABLE; exit; }
ports "32768 60999"
# Not by the function: it would run in a shell of its own, which alone would get the signal below.
"$EXE" --home "$HOME_DIR" run 2>"$HOME_DIR/stderr" & HOST_PID=$!
trap 'kill $HOST_PID $SENSOR_PID' EXIT
until_true 'dae list >/dev/null 2>&1'
dae install Peer "$PEER" >/dev/null
sensor
NUMBER=$(dae call Peer connect Sensor)
dae call Peer follow "$NUMBER" >/dev/null
echo "there: $(dae call Sensor read 5) $(dae call Peer ask "$NUMBER" read 5)"

kill $SENSOR_PID; wait $SENSOR_PID
ports "40123 40123"
echo "gone: $(dae call Sensor read 5 2>&1)"
until_true 'dae call Peer heard | grep -q disconnect'
# By name, the daemon connects anew at each call.
for _ in 1 2 3 4 5; do echo "gone by name: $(dae call Peer call Sensor read 5 2>&1)"; done
echo "gone: $(dae call Peer heard)"
ports "32768 60999"
sensor
until_true 'dae call Peer heard | grep -q " connect\|\"connect"'
echo "again: $(dae call Peer ask "$NUMBER" read 6)"
