# SPDX-License-Identifier: BSD-2-Clause
# Every action a person takes. How things are built is in tools/build.mk; an action first sees that the
# Debian packages are there, then builds what it needs, then runs. `make help` prints the list below.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/sh
PYTHON := /usr/bin/python3
TARGETS := all image run debug test model fuzz chaos hardware powercut media bias stress leaks corrupt sim hostile exhaust bench warm update scale soak check docs format size doctor deps clean help
VARIABLES := SMP MEM ACCEL IOMMU SEED SEEDS SERVICES KILLS DRIVER FAULT DISK SECONDS QEMU_EXTRA V BUILD NOREPLAY JOBS PEERS PAIRS \
             CALLS RUNS TARGET PLANT KEEP UPDATES FLIPS ONLY

# Only the command line sets options: a SEED or DISK in somebody's environment means something else.
from_command_line = $(if $(filter command,$(firstword $(origin $1))),,$(eval $1 := $2))
$(call from_command_line,SMP,1)
$(call from_command_line,MEM,256M)
$(call from_command_line,ACCEL,tcg)
$(call from_command_line,IOMMU,1)
$(call from_command_line,SEED,)
$(call from_command_line,SERVICES,)
$(call from_command_line,SEEDS,)
$(call from_command_line,KILLS,)
$(call from_command_line,DRIVER,)
$(call from_command_line,FAULT,)
$(call from_command_line,DISK,)
$(call from_command_line,SECONDS,)
$(call from_command_line,QEMU_EXTRA,)
$(call from_command_line,V,0)
$(call from_command_line,NOREPLAY,0)
$(call from_command_line,BUILD,$(if $(filter 1,$(NOREPLAY)),build/noreplay,build))
$(call from_command_line,JOBS,$(shell nproc))
$(call from_command_line,PEERS,)
$(call from_command_line,PAIRS,)
$(call from_command_line,CALLS,10000000)
$(call from_command_line,RUNS,10000000)
$(call from_command_line,TARGET,)
$(call from_command_line,PLANT,0)
$(call from_command_line,KEEP,0)
$(call from_command_line,UPDATES,1000)
$(call from_command_line,FLIPS,1000)
$(call from_command_line,ONLY,)
export SMP MEM ACCEL IOMMU SEED SEEDS SERVICES KILLS DRIVER FAULT DISK SECONDS QEMU_EXTRA V BUILD NOREPLAY JOBS PEERS PAIRS
export CALLS RUNS TARGET PLANT KEEP UPDATES FLIPS ONLY

given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
unknown := $(filter-out $(VARIABLES) MAKEFLAGS,$(given))
ifneq ($(unknown),)
    $(error unknown variable $(unknown). Allowed: $(VARIABLES))
endif
unknown := $(filter-out $(TARGETS) $(BUILD)/%,$(MAKECMDGOALS))
ifneq ($(unknown),)
    $(error unknown target $(unknown). Allowed: $(TARGETS))
endif

# A variable that the target would not look at is a mistake too.
machine_options := SMP MEM ACCEL IOMMU DISK QEMU_EXTRA
options_run := $(machine_options)
options_debug := $(machine_options)
options_chaos := $(machine_options) SEED KILLS DRIVER FAULT
options_hardware := SMP MEM ACCEL IOMMU QEMU_EXTRA SEED
options_powercut := SMP MEM ACCEL IOMMU QEMU_EXTRA SEED KILLS
options_media := SEED RUNS
options_bias := SMP MEM ACCEL IOMMU QEMU_EXTRA SEED KILLS PAIRS
options_stress := SMP MEM ACCEL IOMMU QEMU_EXTRA KILLS
options_leaks := SMP MEM ACCEL IOMMU QEMU_EXTRA SEED KILLS
options_corrupt := SMP MEM ACCEL IOMMU QEMU_EXTRA SEED FLIPS
options_test := SEED
options_sim := SEED SEEDS
options_model := SEED CALLS
options_fuzz := SEED RUNS TARGET PLANT KEEP
options_hostile := SMP MEM ACCEL IOMMU QEMU_EXTRA SEED SECONDS
options_exhaust := SMP MEM ACCEL IOMMU QEMU_EXTRA SECONDS
options_bench := MEM QEMU_EXTRA IOMMU PEERS PAIRS
options_warm := MEM QEMU_EXTRA IOMMU
options_update := MEM QEMU_EXTRA IOMMU UPDATES
options_soak := ONLY
options_scale := MEM QEMU_EXTRA SERVICES KILLS SEED
options_help := $(VARIABLES)
options_doctor := $(VARIABLES)
options_every := V BUILD NOREPLAY JOBS MAKEFLAGS
refuse = $(if $(filter-out $(options_every) $(options_$1),$(given)),$(error `make $1` does not use \
    $(filter-out $(options_every) $(options_$1),$(given)). Allowed: $(options_$1) $(filter-out MAKEFLAGS,$(options_every))))
$(foreach goal,$(or $(MAKECMDGOALS),help),$(call refuse,$(goal)))

build = @$(MAKE) -f tools/build.mk -j$(JOBS)
quoted = '$(subst ','\'',$($1))'
machine = --smp $(SMP) --mem $(MEM) --accel $(ACCEL) --iommu $(IOMMU) $(if $(DISK),--disk $(call quoted,DISK)) \
          $(if $(QEMU_EXTRA),--qemu-extra=$(call quoted,QEMU_EXTRA))

.PHONY: $(TARGETS) options
all: image ## build everything
	$(build) programs tests

image: deps ## boot disks of all system manifests: build/image/NAME/boot.img
	$(build) images

run: deps ## boot to the console in this terminal (leave: Ctrl-A X)
	$(build) $(BUILD)/image/default/boot.img
	@exec $(PYTHON) tools/qemu.py run --image $(BUILD)/image/default --run $(BUILD)/run $(machine) \
	    $(if $(filter 1,$(V)),--verbose)

debug: deps ## the same stopped at reset, with gdb and the symbols of kernel and processes
	@tools/deps.sh gdb
	$(build) $(BUILD)/image/default/boot.img
	@exec $(PYTHON) tools/qemu.py debug --image $(BUILD)/image/default --run $(BUILD)/debug $(machine) \
	    --build $(BUILD) $(if $(filter 1,$(V)),--verbose)

test: deps ## unit, model and system tests
	$(build) images tests
	@$(PYTHON) tools/test.py --build $(BUILD)

model: deps ## random system calls against the reference model, every invariant after each
	$(build) $(BUILD)/tests/model/syscalls
	@$(PYTHON) tools/model.py --build $(BUILD) --calls $(CALLS) --jobs $(JOBS) $(if $(SEED),--seed $(SEED))

fuzz: deps ## libFuzzer on everything that reads what others wrote (PLANT=1: planted bugs must be found)
	@tools/deps.sh clang libclang-rt-14-dev patch
	$(build) $(if $(TARGET),$(BUILD)/fuzz/$(TARGET),fuzz)
	@$(PYTHON) tools/fuzz.py $(if $(filter 1,$(PLANT)),plant,run) --build $(BUILD) --runs $(RUNS) --jobs $(JOBS) \
	    $(if $(SEED),--seed $(SEED)) $(if $(TARGET),--target $(TARGET)) $(if $(filter 1,$(KEEP)),--keep)

chaos: deps ## kill drivers under load, check that nothing is lost, print recovery times
	$(build) $(BUILD)/image/chaos/boot.img
	@$(PYTHON) -m faultinject.fi run $(machine) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) \
	    $(if $(DRIVER),--driver $(call quoted,DRIVER)) $(if $(FAULT),--fault $(call quoted,FAULT))

sim: deps ## play random fault schedules against the supervisor and recovery cores, on this machine
	$(build) $(BUILD)/tests/sim/sim
	@$(BUILD)/tests/sim/sim --jobs $(JOBS) $(if $(SEEDS)$(if $(SEED),,x),--seeds $(or $(SEEDS),100000) \
	    --first $(or $(SEED),1),--seed $(SEED))

hardware: deps ## faults of disk, interrupts and machine, done by QEMU: each must end as it must
	$(build) $(BUILD)/image/chaos/boot.img
	@faultinject/fi hardware $(machine) $(if $(SEED),--seed $(SEED))

powercut: deps ## kill drivers, then cut the power after every write: what was flushed must be there
	$(build) $(BUILD)/image/chaos/boot.img
	@faultinject/fi powercut $(machine) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS))

media: deps ## start from damaged boot disks: the loader must say what is wrong, or all must run
	$(build) $(BUILD)/image/chaos/boot.img
	@faultinject/fi media $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS))

bias: deps ## do saved boots bias what campaigns measure? pairs of boots, a permutation test
	$(build) $(BUILD)/image/chaos/boot.img
	@faultinject/fi bias $(machine) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) $(if $(PAIRS),--pairs $(PAIRS))

stress: deps ## end processes and take memory away on all CPUs at once: make stress SMP=4 KILLS=10000
	$(build) $(BUILD)/image/stress/boot.img
	@$(PYTHON) faultinject/stress.py --build $(BUILD) $(machine) --smp $(if $(filter SMP,$(given)),$(SMP),4) $(if $(KILLS),--kills $(KILLS))

leaks: deps ## kill everybody many times, count everything after each kill: make leaks KILLS=100000
	$(build) $(BUILD)/image/leaks/boot.img $(BUILD)/kernel/kernel.elf
	@$(PYTHON) faultinject/leaks.py --build $(BUILD) $(machine) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS))

corrupt: deps ## turn bits in the memory of a store without checkpoint code: make corrupt FLIPS=10000
	$(build) $(BUILD)/image/kv/boot.img $(BUILD)/kernel/kernel.elf
	@$(PYTHON) faultinject/corrupt.py --build $(BUILD) $(machine) --flips $(FLIPS) $(if $(SEED),--seed $(SEED))

scale: deps ## 1,024 services: kill some, what each costs, is a recovery slower than among 8
	$(build) $(BUILD)/image/scale/boot.img \
	    $(patsubst %,$(BUILD)/image/scale-%/boot.img,8 $(filter-out 1024,$(SERVICES)))
	@$(PYTHON) bench/scale.py --build $(BUILD) --mem $(MEM) $(if $(SERVICES),--services $(SERVICES)) \
	    $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(QEMU_EXTRA),--qemu-extra=$(call quoted,QEMU_EXTRA))

hostile: deps ## a hostile process attacks while the workload runs; the kernel's records are judged from outside
	$(build) $(BUILD)/image/hostile/boot.img $(BUILD)/kernel/kernel.elf
	@$(PYTHON) faultinject/isolation.py attack --build $(BUILD) $(machine) $(if $(SEED),--seed $(SEED)) \
	    $(if $(SECONDS),--seconds $(SECONDS))

exhaust: deps ## floods of everything, and what the others feel of each
	$(build) $(BUILD)/image/hostile/boot.img $(BUILD)/kernel/kernel.elf
	@$(PYTHON) faultinject/isolation.py exhaust --build $(BUILD) $(machine) $(if $(SECONDS),--seconds $(SECONDS))

bench: deps ## measure: build/bench/latest/bench.json; PEERS=linux: with Linux beside it
	$(if $(PEERS),@tools/deps.sh musl-tools)
	$(build) $(foreach i,bench warm default,$(BUILD)/image/$i/boot.img) $(PEERS)
	@$(PYTHON) $(if $(PEERS),-m bench.peers,bench/bench.py)

warm: deps ## what kills cost the throughput of a driver that has a spare: 1 and 10 a second
	$(build) $(BUILD)/image/warm/boot.img
	@$(PYTHON) bench/load.py

update: deps ## update the block driver to other versions under load, each tenth to one that must be rolled back
	$(build) $(BUILD)/image/update/boot.img
	@$(PYTHON) bench/update.py --build $(BUILD) --mem $(MEM) --iommu $(IOMMU) --updates $(UPDATES) \
	    $(if $(QEMU_EXTRA),--qemu-extra=$(call quoted,QEMU_EXTRA))

soak: deps ## every long target, one after another, some three hours: make soak ONLY='stress hostile'
	@$(PYTHON) tools/soak.py --build $(BUILD) $(if $(ONLY),--only $(ONLY))

check: deps ## format, warnings as errors, cppcheck, layering, generated documents, kernel size
	$(build) --keep-going check

docs: deps ## write docs/ABI.md from abi/*.def
	@$(PYTHON) tools/abi_doc.py -o docs/ABI.md

format: deps ## reformat all C
	$(build) format

size: deps ## lines of the kernel, bytes of the bootable image; fails above their limits
	$(build) size

doctor: options ## what this machine has, and what is missing
	@tools/doctor.sh

deps: options ## install missing Debian packages (as root or through sudo)
	@tools/deps.sh

clean: options ## remove what was built (fetched sources stay in build/third_party)
	@if [ -d '$(BUILD)' ]; then find '$(BUILD)' -mindepth 1 -maxdepth 1 ! -name third_party -exec rm -rf {} +; fi

help: options ## this list
	@echo 'make TARGET [VARIABLE=value ...]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12
	@echo
	@tools/options.sh --help

options:
	@tools/options.sh

# A single file, by its path: make build/kernel/kernel.elf
$(BUILD)/%: deps
	$(build) $@
