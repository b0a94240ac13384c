#!/usr/bin/env bash
# Writes to stdout, as a tar, what stands in for the image that the Dockerfile begins with: a C compiler, apt and the
# Rust toolchain, from this machine's own files, so that no registry of images is needed. The Debian packages in it
# are those named below with all they depend on, and its package database knows no others: what the Dockerfile
# installs is really installed.
#
#   builder.sh ROOTS.pem TARGET-DIR
#
# ROOTS.pem becomes its file of public roots. TARGET-DIR becomes /src/target, where cargo finds what it has compiled
# before.
set -euo pipefail
cd "$(dirname "$0")/../../.."
roots=$(realpath "$1") target=$(realpath "$2")
cargo_home=${CARGO_HOME:-$HOME/.cargo}
toolchain=$(dirname "$(dirname "$(rustup which rustc)")")
rustup_home=$(dirname "$(dirname "$toolchain")")
# One of these may be a link to another.
files_of_toolchain=$(realpath "$toolchain")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
made=$work/made

essential() { dpkg-query -W -f '${Package} ${Essential}\n' | awk '$2 == "yes" { print $1 }'; }

# The packages, one a line.
# shellcheck disable=SC2046
apt-cache depends --recurse --installed --no-{recommends,suggests,conflicts,breaks,replaces,enhances} \
  $(essential) mawk gcc libc6-dev apt debian-archive-keyring | grep '^[a-z0-9]' | sort -u >"$work/named"
dpkg-query -W -f '${db:Status-Status} ${Package} ${binary:Package}\n' |
  awk 'NR == FNR { named[$1]; next } $1 == "installed" && $2 in named' "$work/named" - >"$work/packages"

# What is not a file of a package.
mkdir -p "$made"/{dev,proc,sys,run,root,src,etc/ssl/certs,var/{log,tmp,cache/apt/archives/partial}} \
  "$made"/var/lib/{apt/lists,dpkg/updates}
mkdir -m 1777 "$made/tmp"
for name in bin sbin lib lib64; do ln -s "usr/$name" "$made/$name"; done
install -m 644 "$roots" "$made/etc/ssl/certs/ca-certificates.crt"
awk 'NR == FNR { kept[$2]; next } { split($1, first, " ") } first[2] in kept { print $0 "\n" }' \
  "$work/packages" RS= FS='\n' /var/lib/dpkg/status >"$made/var/lib/dpkg/status"

files() {
  # Debian's packages name files by the old places of /bin and /lib too, which are links.
  awk '{ print $3 }' "$work/packages" | xargs dpkg-query -L |
    sed -nE 's,^/(bin|sbin|lib|lib64)/,/usr/\1/,; /^\/(usr|etc)\//p' | grep -vE '^/usr/share/(doc|man|info|locale)/'
  awk '{ print "/var/lib/dpkg/info/" $3 "." }' "$work/packages" | while read -r file; do printf '%s\n' "$file"*; done
  find /usr/bin -lname '/etc/alternatives/*'
  find /etc/alternatives /etc/apt
  printf '%s\n' /etc/passwd /etc/group /etc/shadow
  printf '%s\n' "$cargo_home"/bin/{cargo,rustc,rustup} "$rustup_home/settings.toml"
  find "$files_of_toolchain" -path "$files_of_toolchain/share" -prune -o -print
  find "$cargo_home/registry/index"
  awk -F '"' '/^name = / { name = $2 } /^version = / { print name "-" $2 }' Cargo.lock | while read -r crate; do
    find "$cargo_home"/registry/{cache/*/"$crate.crate",src/*/"$crate"} 2>/dev/null || true
  done
  find "$target"
}
(cd "$made" && find . -mindepth 1) >"$work/list"
files | sort -u | grep -vxFf <(sed 's,^\.,,' "$work/list") >"$work/files"
cat "$work/files" >>"$work/list"
tar -C "$made" -c --no-recursion --ignore-failed-read --absolute-names --files-from "$work/list" \
  --transform "s,^$target,src/target,S;s,^$files_of_toolchain,$toolchain,S;s,^\.\?/,,S" 2>"$work/errors" || { cat "$work/errors" >&2; exit 1; }
