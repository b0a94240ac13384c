# The work that scripts/release has a keyferry do to count which of its code runs: every way that bytes take through it, by
# the origin and the loads that scripts/bench has. Sourced from the root of the tree.

# An address of the loopback that nobody else is likely to listen on.
AT="127.$((RANDOM % 250 + 2)).$((RANDOM % 250 + 2)).$((RANDOM % 250 + 2))"
TOKEN=training-5d0f3a9be6c14d7d8f2b
PLACEHOLDER=training-placeholder-7c41aa
STARTED=()

# The oldest that reads what this compiler's programs count is 19.
find_profdata() {
  local found name
  found="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata"
  for name in "$found" llvm-profdata-{22,21,20,19} llvm-profdata; do
    if command -v "$name"; then return; fi
  done
  echo "scripts/release needs llvm-profdata, 19 or later: rustup component add llvm-tools; on Debian: apt-get install llvm-19" >&2
  return 1
}

# train KEYFERRY DIR: has it do the work, with DIR for all files.
train() {
  local work=$2 side
  cargo build --quiet --release --locked --manifest-path benches/side/Cargo.toml --target-dir target/side 9>&-
  side="$PWD/target/side/release/side"
  certificates "$work"
  start "$work" "$side" origin --listen "$AT:8443" --certificate "$work/origin.pem" --key "$work/origin.key" --authorization "Bearer $TOKEN"
  start "$work" "$side" origin --listen "$AT:8444" --certificate "$work/origin.pem" --key "$work/origin.key" --authorization "Bearer $TOKEN" \
    --only-http1
  config "$work" >"$work/keyferry.yaml"
  printf %s "$TOKEN" >"$work/token"
  HOME=$work LLVM_PROFILE_FILE="$work/none" "$1" ca export --config "$work/keyferry.yaml" >"$work/ca.pem"
  HOME=$work LLVM_PROFILE_FILE="$work/counts/%p.profraw" start "$work" "$1" serve --config "$work/keyferry.yaml"
  wait_for 8443
  wait_for 8444
  wait_for 8080

  # `new` and `n0` speak HTTP/2, `old` does not; `tunnel` is passed unopened.
  ask new kept --connections 32
  ask new kept
  ask new kept --connections 8 --path /json
  ask new kept --connections 4 --path /packed
  ask new kept --connections 8 --send 20000 --path /upload
  ask new kept --http2 --streams 32
  ask new kept --http2 --connections 8 --streams 8 --path /json
  ask new kept --http2 --streams 8 --send 20000 --path /upload
  ask new kept --http2 --streams 32 --grpc --path /unary
  ask new messages
  ask new events --every 5
  ask new down --path /big --times 1
  ask new up --times 1
  ask new fresh
  ask n0 names --names 50
  ask old kept --connections 32 --authorization "Bearer $PLACEHOLDER"
  ask old kept --connections 8 --authorization "Bearer $PLACEHOLDER" --path /json
  ask old kept --http2 --streams 32 --authorization "Bearer $PLACEHOLDER" --path /json
  ask tunnel kept --connections 8 --authorization "Bearer $TOKEN" --root "$work/origin-ca.pem"
  # What it counted is written as it ends.
  stop_all
}

# An authority, and a certificate of it for every name here.
certificates() {
  local names="subjectAltName=DNS:train.test,DNS:*.train.test"
  (
    cd "$1" &&
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out origin-ca.pem -days 2 -subj /CN=training-ca \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign &&
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout origin.key -out origin.csr -subj /CN=train.test &&
    openssl x509 -req -in origin.csr -CA origin-ca.pem -CAkey ca.key -CAcreateserial -days 2 -out origin.pem \
      -extfile <(printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n%s\n' "$names")
  ) 2>"$1/openssl.log" || { cat "$1/openssl.log" >&2 && return 1; }
}

# Every feature that a request passes in passing, and a hundred rules of which the last match.
config() {
  local n inject="inject: [{ bearer: token }]"
  cat <<YAML
listen: ["$AT:8080"]
ca: { dir: "$1/ca" }
audit: { file: "$1/audit.jsonl" }
secrets: { token: { file: "$1/token", placeholder: $PLACEHOLDER } }
limits: { agent_connections: 1000, agent_requests: 1000 }
upstream:
  roots: ["$1/origin-ca.pem"]
  allow_networks: [127.0.0.0/8]
  resolve:
    new.train.test: "$AT:8443"
    old.train.test: "$AT:8444"
    tunnel.train.test: "$AT:8443"
YAML
  for n in {1..50}; do echo "    h$n.train.test: \"$AT:8443\""; done
  echo "rules:"
  for n in {1..100}; do echo "  - { host: r$n.rules.test, allow: ['GET /**', 'POST /**'], $inject }"; done
  cat <<YAML
  - { host: tunnel.train.test, tunnel: true }
  - { host: old.train.test, allow: ['GET /**', 'POST /**'], inject: [{ placeholder: token, in: ['header:authorization'] }] }
  - { host: '*.train.test', allow: ['GET /**', 'POST /**'], $inject }
YAML
}

# start DIR COMMAND…
start() {
  "${@:2}" >>"$1/log" 2>&1 9>&- &
  STARTED+=($!)
}

stop_all() {
  [ ${#STARTED[@]} = 0 ] || kill "${STARTED[@]}" 2>/dev/null || true
  wait
  STARTED=()
}

wait_for() {
  local tries
  for tries in {1..100}; do
    if (exec 3<>"/dev/tcp/$AT/$1") 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "nothing listens on $AT:$1:" >&2
  tail "$work/log" >&2
  return 1
}

# ask HOST LOAD WORD…: a second of that load, which has to succeed.
ask() {
  local told
  told=$("$side" "$2" --addr "$AT:8080" --host "$1.train.test" --root "$work/ca.pem" --seconds 1 --warmup 0 "${@:3}" 9>&-)
  if [[ $told != *'"errors":0,'* ]] || [[ $told == *'"done":0,'* ]]; then
    echo "the work to count was not done: ${*}: $told" >&2
    tail "$work/log" >&2
    return 1
  fi
}
