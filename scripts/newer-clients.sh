#!/usr/bin/env bash
# Compose v2 for test/compat/compose-v2.test.ts: Debian trixie's package, unpacked below build/newer; nothing is installed. Fails when the registry has it not.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/newer
[ -x "$out/usr/libexec/docker/cli-plugins/docker-compose" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} trixie main" >"$work/sources.list"
apt=(-q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/nonexistent -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update >/dev/null
(cd "$work" && apt-get "${apt[@]}" download docker-compose >/dev/null)
mkdir -p "$out"
dpkg -x "$work"/docker-compose_*.deb "$out"
[ -x "$out/usr/libexec/docker/cli-plugins/docker-compose" ]
