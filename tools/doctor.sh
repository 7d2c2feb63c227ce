#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Says what this machine has of what Coppice needs. Changes nothing. Exit 0: ready; 3: something is missing.
cd "$(dirname "$0")/.." || exit 4
status=0
say() { printf '%-12s %s\n' "$1" "$2"; }

if [ -r /etc/os-release ]; then say system "$(. /etc/os-release; echo "$PRETTY_NAME"), $(uname -m), $(nproc) CPUs"; fi
missing=$(COPPICE_NO_INSTALL=1 tools/deps.sh 2>&1) || status=3
if [ $status = 0 ]; then
    say packages 'all installed'
else
    say packages "missing; any target installs them as root or through sudo, or run as root:"
    say '' "$(printf '%s\n' "$missing" | tail -n 1)"
fi
if [ "$(id -u)" = 0 ]; then say install 'possible: root'
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then say install 'possible: sudo without a password'
elif command -v sudo >/dev/null; then say install 'possible: sudo, asks for a password on a terminal'
else say install 'not possible: neither root nor sudo'; fi
if command -v qemu-system-x86_64 >/dev/null; then say qemu "$(qemu-system-x86_64 --version | head -n 1)"; fi
if [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ]; then say firmware 'OVMF 4M'; fi
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    say kvm '/dev/kvm opens, which proves nothing; ACCEL=auto boots a probe guest to see (default: tcg)'
else
    say kvm 'not available; tcg is used, as by default'
fi
say disk "$(df -Ph . | awk 'NR == 2 { print $4 }') free here (a full build and a chaos run take about 1 GB)"
exit $status
