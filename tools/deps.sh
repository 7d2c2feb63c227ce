#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Sees that the Debian packages of tools/packages.txt (and those named as arguments) are installed.
# Nothing missing: silent, in well under 0.3 s. Else installs as root or through sudo; where neither is
# possible, prints the line to run and exits with 3. COPPICE_NO_INSTALL=1: never installs, only prints.
set -eu
here=$(dirname "$0")
wanted="$(sed 's/#.*//' "$here/packages.txt") $*"

missing() { # names of wanted packages that are not fully installed
    # shellcheck disable=SC2086
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' $wanted 2>/dev/null |
        awk -v wanted="$wanted" '$2 == "installed" { have[$1] = 1 }
            END { n = split(wanted, w); for (i = 1; i <= n; i++) if (!(w[i] in have)) printf "%s ", w[i] }'
}

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "coppice: this is not a Debian system: install the equivalents of tools/packages.txt" >&2
    exit 3
fi
need=$(missing)
[ -z "$need" ] && exit 0

install="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $need"
by_hand="apt-get update && $install"
refuse() {
    echo "coppice: $1. As root, run:" >&2
    echo "$by_hand" >&2
    exit 3
}

[ "${COPPICE_NO_INSTALL:-0}" = 1 ] && refuse "packages are missing"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=sudo # without a terminal only where it needs no password: a prompt would hang a CI run
else
    refuse "packages are missing, and there is neither root nor sudo"
fi
echo "coppice: installing: $need"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An update that fails in a repository we do not need must not stop us: the install decides.
$as_root apt-get update >"$log" 2>&1 || true
# shellcheck disable=SC2086
if ! $as_root $install >>"$log" 2>&1; then
    tail -n 15 "$log" >&2
    refuse "the packages could not be installed"
fi
[ -z "$(missing)" ] || refuse "packages are still missing: $(missing)"
