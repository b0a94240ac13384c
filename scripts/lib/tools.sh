# Installs what the tests need. Sourced by scripts/test from the root of the tree; each step is
# quick when its tool is already there. Nothing but apt packages leaves target/.

TOOLS="$PWD/target/test-tools"
NPM_PACKAGES="$PWD/tests/it/clients/npm"
PIP_PACKAGES="$PWD/tests/it/clients/requirements.txt"

say() { printf '== %s\n' "$*" >&2; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# apt_install PACKAGE…
apt_install() {
  say "installing with apt: $*"
  as_root apt-get -o DPkg::Lock::Timeout=300 -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends \
    install "$@" >/dev/null
}

# apt packages, by the program that each is for.
install_apt() {
  local missing=()
  command -v cc >/dev/null || missing+=(build-essential)
  command -v curl >/dev/null || missing+=(curl)
  command -v wget >/dev/null || missing+=(wget)
  command -v git >/dev/null || missing+=(git)
  command -v openssl >/dev/null || missing+=(openssl)
  command -v gnutls-cli >/dev/null || missing+=(gnutls-bin)
  command -v go >/dev/null || missing+=(golang-go)
  command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
  command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v nft >/dev/null || [ -x /usr/sbin/nft ] || missing+=(nftables)
  command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || missing+=(iptables)
  command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
  command -v proxychains4 >/dev/null || missing+=(proxychains4)
  command -v h2load >/dev/null || missing+=(nghttp2-client)
  command -v testssl >/dev/null || missing+=(testssl.sh bsdextrautils dnsutils procps)
  command -v faketime >/dev/null || missing+=(faketime)
  command -v squid >/dev/null || [ -x /usr/sbin/squid ] || missing+=(squid-openssl)
  command -v tinyproxy >/dev/null || missing+=(tinyproxy)
  command -v microsocks >/dev/null || missing+=(microsocks)
  { command -v unshare && command -v nsenter; } >/dev/null || missing+=(util-linux)
  command -v mount >/dev/null || missing+=(mount)
  command -v python3 >/dev/null || missing+=(python3)
  # Debian's python has venv in a package of its own.
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  command -v dpkg-deb >/dev/null || missing+=(dpkg)
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then missing+=(nodejs npm); fi
  [ ${#missing[@]} = 0 ] && return
  apt_install "${missing[@]}"
  # A package may start its server; the tests start their own.
  local started
  for started in nginx-light:nginx haproxy:haproxy squid-openssl:squid tinyproxy:tinyproxy; do
    if [[ " ${missing[*]} " == *" ${started%:*} "* ]]; then
      as_root service "${started#*:}" stop >/dev/null 2>&1 || true
    fi
  done
}

# Runs "$2…" unless the file "$1" was already handled with this content.
once_for() {
  local file=$1 stamp
  shift
  stamp="$TOOLS/stamps/$(basename "$file")-$(sha256sum "$file" | cut -c1-16)"
  [ -e "$stamp" ] && return
  "$@"
  mkdir -p "$TOOLS/stamps"
  touch "$stamp"
}

pip_into_venv() {
  say "python packages into target/test-tools/venv"
  python3 -m venv "$TOOLS/venv"
  "$TOOLS/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$PIP_PACKAGES"
}

npm_into_tools() {
  say "npm packages into target/test-tools/node"
  mkdir -p "$TOOLS/node"
  cp "$NPM_PACKAGES/package.json" "$TOOLS/node/package.json"
  # Install scripts only where a package is useless without its own; see allowScripts there.
  npm install --prefix "$TOOLS/node" --no-audit --no-fund --loglevel=error
}

# cargo_tool NAME SUBCOMMAND: into target/test-tools, unless the machine has it.
cargo_tool() {
  PATH="$TOOLS/bin:$PATH" command -v "cargo-$1" >/dev/null && return
  say "cargo install cargo-$1 (a few minutes, once)"
  cargo install --quiet --locked --root "$TOOLS" "cargo-$1"
}

install_tools() {
  mkdir -p "$TOOLS"
  export PATH="$TOOLS/bin:$PATH"
  install_apt
  once_for "$PIP_PACKAGES" pip_into_venv
  once_for "$NPM_PACKAGES/package.json" npm_into_tools
  cargo_tool nextest
  cargo_tool deny
}
