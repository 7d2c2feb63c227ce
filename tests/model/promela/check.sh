#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Checks tests/model/promela/ledger.pml with spin: check.sh FOLDER [long]. The model must hold, and must fail for
# the right reason when a step of the protocol is left out. The functions that its steps are named after must exist.
# `long` checks two deaths as well. Exit: 0 as it should be, 1 not.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
folder=$1
rm -rf "$folder"
mkdir -p "$folder"

for name in slot_issue slot_replay block_replay driver_complete block_serve block_report; do
    grep -q "^[a-z].*\\b$name(" "$root/lib/driver_block.c" || { echo "model: $name is not in lib/driver_block.c"; exit 1; }
done
for name in sessions_report driver_serve driver_may_sleep; do
    grep -q "^[a-z].*\\b$name(" "$root/lib/driver.c" || { echo "model: $name is not in lib/driver.c"; exit 1; }
done
for name in block_submit block_kick block_take_slot block_arm block_wait; do
    grep -q "^[a-z].*\\b$name(" "$root/lib/session_block.c" || { echo "model: $name is not in lib/session_block.c"; exit 1; }
done
for name in entry_nonsense slot_clear slot_in_flight slot_take_over ledger_take_over; do
    grep -q "^[a-z].*\\b$name(" "$root/recovery/core_ledger.c" || { echo "model: $name is not in recovery/core_ledger.c"; exit 1; }
done
for name in is_current on_death on_complaint step_kill start; do
    grep -q "^[a-z].*\\b$name(" "$root/supervisor/core.c" || { echo "model: $name is not in supervisor/core.c"; exit 1; }
done

verify() { # name, options of pan, macros; the result is in $folder/NAME/out
    at=$folder/$1
    options=$2
    shift 2
    mkdir -p "$at"
    cp "$here/ledger.pml" "$at/"
    safety=-DSAFETY\ -DNOCLAIM
    case $options in *-a*) safety=-DNFAIR=3 ;; esac
    # shellcheck disable=SC2086
    (cd "$at" && spin -a "$@" ledger.pml >spin.out 2>&1 &&
        gcc -O1 -w $safety -DCOLLAPSE -o pan pan.c && ./pan -m500000 $options >out 2>&1) || true
}
holds() { # name, options, macros
    verify "$@"
    if ! grep -q 'errors: 0$' "$folder/$1/out" || grep -q 'max search depth too small' "$folder/$1/out"; then
        echo "model: $1 FAILED; the trail is in $folder/$1"
        tail -n 20 "$folder/$1/out"
        exit 1
    fi
    echo "model: $1 holds, $(awk '/states, stored/ { print $1 }' "$folder/$1/out") states"
}
fails() { # macro, what spin must say
    verify "$1" -n -DKILLS=1 "-D$1"
    grep -q "$2" "$folder/$1/out" || {
        echo "model: without the step, $1 was not found ($2)"
        tail -n 20 "$folder/$1/out"
        exit 1
    }
    echo "model: $1 is found: $(sed -n 's/^pan:1: \(.*\) (at.*/\1/p' "$folder/$1/out")"
}

holds one_slot -n -DKILLS=1
holds two_slots -n -DKILLS=1 -DSLOTS=2 -DNO_COMPLAINT
holds settles '-a -f -N settles' -DKILLS=1 -DNO_COMPLAINT
[ "${2:-}" != long ] || holds two_deaths -n -DKILLS=2
[ "${2:-}" != long ] || holds two_slots_complaint -n -DKILLS=1 -DSLOTS=2
fails NO_DRAIN 'past_reset<=dead'
fails NO_REPLAY 'invalid end state'
fails NO_ANNOUNCE 'invalid end state'
fails NO_FENCE 'alive==1'
fails NO_GENERATION 'g==generation'
fails NO_SECOND_LOOK 'invalid end state'
fails NO_TAKING 'delivered'
fails NO_EXECUTION 'disk'
fails NO_FLUSH 'stable'
