#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# cppcheck over everything that runs in the machine. Its findings fail the check; what it gets wrong is
# suppressed beside the code with the reason, not here.
#   cppcheck.sh BUILD
set -eu
mkdir -p "$1/cppcheck"
folders=
for d in kernel lib drivers supervisor recovery services faultinject bench efi; do
    [ -n "$(find $d -name '*.c' 2>/dev/null)" ] && folders="$folders $d"
done
# missingInclude*: cppcheck does not read system headers. constStatement in lib/sys.h: it does not know
# variables bound to registers, which is how system calls pass words.
# shellcheck disable=SC2086
exec cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --platform=unix64 \
    --enable=warning,portability --suppress=missingInclude --suppress=missingIncludeSystem \
    --suppress=constStatement:lib/sys.h \
    -D__x86_64__ -D__GNUC__=12 -I. -Ikernel -Ikernel/arch/x86_64 -Iefi \
    -j"${JOBS:-2}" --cppcheck-build-dir="$1/cppcheck" $folders
