# The proxies that scripts/bench compares with. Sourced from the root of the tree; what is fetched or built lies in
# target/peers, but for apt packages. A peer that cannot be had is said, and left out.

PEERS="$PWD/target/peers"

install_peers() {
  mkdir -p "$PEERS"
  peers_from_apt
  peer_from_crates hudsucker hudsucker
  peer_from_crates nono nono-proxy
  peer_mitmproxy
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

peers_from_apt() {
  local missing=() own=
  PATH="$PATH:/usr/sbin" command -v haproxy >/dev/null || missing+=(haproxy)
  PATH="$PATH:/usr/sbin" command -v squid >/dev/null || missing+=(squid-openssl)
  [ ${#missing[@]} = 0 ] && return
  # Their programs are wanted, not their services.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod +x /usr/sbin/policy-rc.d
    own=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends \
    install "${missing[@]}" >/dev/null || echo "cannot install ${missing[*]}: left out" >&2
  [ -z "$own" ] || as_root rm -f /usr/sbin/policy-rc.d
}

# peer_from_crates NAME CRATE: builds benches/side/peers/NAME.
peer_from_crates() {
  local from="benches/side/peers/$1" to="$PEERS/side-$1"
  cargo build --release --quiet --manifest-path "$from/Cargo.toml" --target-dir "target/side-$1" ||
    { echo "cannot build $1: left out" >&2; return 0; }
  cp "target/side-$1/release/side-$1" "$to"
  grep -A1 "^name = \"$2\"" "$from/Cargo.lock" | sed -n "s/version = \"\(.*\)\"/$2 \1/p" >"$to.version"
}

peer_mitmproxy() {
  [ -x "$PEERS/mitmproxy/bin/mitmdump" ] && return
  python3 -m venv "$PEERS/mitmproxy" && "$PEERS/mitmproxy/bin/python" -m pip install --quiet --disable-pip-version-check mitmproxy ||
    echo "cannot install mitmproxy: left out" >&2
}
