#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Refuses bad values of make's variables (found in the environment) with what is allowed; exit 2.
# DRIVER and FAULT are checked by the harness, which owns their lists. --help prints the variables.
set -eu

if [ "${1:-}" = --help ]; then
    cat <<'TEXT'
  SMP=1           CPUs of the machine, 1 to 16; the kernel uses 8
  MEM=256M        its memory, 128M or more; a number with M or G
  ACCEL=tcg       tcg, kvm, or auto (kvm only if a probe guest really starts)
  IOMMU=1         0: a machine without one; only drivers whose manifest says dma = "unprotected" run
  SEED=n          decides every fault of a run; printed, so that a run can be repeated
  SEEDS=n         schedules of make sim, from SEED on; SEED alone: that one, with what it does
  KILLS=n         faults to inject, 1 to 1000000
  SERVICES=1024   of make scale, 16 to 2047
  DRIVER=name     strike only this service (make chaos DRIVER=? lists them)
  FAULT=kind      only this kind of fault (make chaos FAULT=? lists them)
  DISK=file       also attach this raw or qcow2 image, or a tar archive of programs (make run); it is never written
  PEERS=linux     also measure this one, on the same machine (make bench)
  PAIRS=5         how often, 1 to 100 (with PEERS)
  SECONDS=60      how long make hostile attacks; for make exhaust, each flood (5)
  QEMU_EXTRA=...  further arguments of QEMU
  V=1             print commands
  BUILD=build     where everything is built        JOBS=n  compile n files at once
  CALLS=n         system calls that make model makes in all (10000000)
  RUNS=n          executions of each fuzz target (10000000)
  TARGET=name     only this fuzz target (file names in tests/fuzz)
  PLANT=1         make fuzz: build each target with a planted bug, which must be found
  KEEP=1          make fuzz: what was found new goes, minimised, into the kept corpus
  UPDATES=1000    how many make update makes
  FLIPS=1000      how many bits make corrupt turns
  ONLY=names      of make soak, these runs only
  NOREPLAY=1      without recovery's replay, in build/noreplay: shows that chaos can fail
TEXT
    exit 0
fi

refuse() {
    echo "coppice: $1. Allowed: $2" >&2
    exit 2
}
number() { # name, value, lowest, highest
    case $2 in '' | *[!0-9]* | ???????????*) refuse "$1=$2 is not a number in range" "$3 to $4" ;; esac
    if [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then refuse "$1=$2 is out of range" "$3 to $4"; fi
}

number SMP "$SMP" 1 16
number JOBS "$JOBS" 1 1024
number CALLS "$CALLS" 1 9999999999
number RUNS "$RUNS" 1 9999999999
number UPDATES "${UPDATES:-1000}" 1 1000000
number FLIPS "${FLIPS:-1000}" 1 1000000
[ -z "$SEED" ] || number SEED "$SEED" 0 4294967295
[ -z "$SEEDS" ] || number SEEDS "$SEEDS" 1 4294967295
[ -z "$SECONDS" ] || number SECONDS "$SECONDS" 1 86400
[ -z "${SERVICES:-}" ] || number SERVICES "$SERVICES" 16 2047
[ -z "$KILLS" ] || number KILLS "$KILLS" 1 1000000
case $PEERS in '' | linux) ;; *) refuse "PEERS=$PEERS" "linux" ;; esac
[ -z "$PAIRS" ] || number PAIRS "$PAIRS" 1 100
[ -z "$PAIRS" ] || [ -n "$PEERS" ] || refuse "PAIRS=$PAIRS without a peer" "PAIRS with PEERS=linux"
case $MEM in
*[MG]) number "MEM" "${MEM%[MG]}" 1 1048576 ;;
*) refuse "MEM=$MEM" "a number with M or G, such as 256M" ;;
esac
case $MEM in *M) [ "${MEM%M}" -ge 128 ] || refuse "MEM=$MEM is too small" "128M or more" ;; esac
case $ACCEL in tcg | kvm | auto) ;; *) refuse "ACCEL=$ACCEL" "tcg kvm auto" ;; esac
case $IOMMU in 0 | 1) ;; *) refuse "IOMMU=$IOMMU" "0 1" ;; esac
case $V in 0 | 1) ;; *) refuse "V=$V" "0 1" ;; esac
case $PLANT in 0 | 1) ;; *) refuse "PLANT=$PLANT" "0 1" ;; esac
case $KEEP in 0 | 1) ;; *) refuse "KEEP=$KEEP" "0 1" ;; esac
case $TARGET in '') ;; *) [ "$TARGET" != standalone ] && [ -f "tests/fuzz/$TARGET.c" ] ||
    refuse "TARGET=$TARGET" "$(cd tests/fuzz && for f in *.c; do [ $f = standalone.c ] || printf '%s ' "${f%.c}"; done)" ;; esac
case ${ONLY:-} in *[!a-z0-9\ -]*) refuse "ONLY=$ONLY" "names of runs (tools/soak.py --help)" ;; esac
case $NOREPLAY in 0 | 1) ;; *) refuse "NOREPLAY=$NOREPLAY" "0 1" ;; esac
case $BUILD in build | build/*) ;; *) refuse "BUILD=$BUILD" "build, or a folder below build/" ;; esac
case $BUILD in *..* | *[!A-Za-z0-9_./-]*) refuse "BUILD=$BUILD" "letters, digits, - _ . /, and no .." ;; esac
if [ -n "$DISK" ] && { [ ! -f "$DISK" ] || [ ! -r "$DISK" ]; } && [ ! -b "$DISK" ]; then
    refuse "DISK=$DISK cannot be read" "a raw or qcow2 image file"
fi
