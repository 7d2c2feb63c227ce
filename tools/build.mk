# SPDX-License-Identifier: BSD-2-Clause
# How everything is built. Used by the Makefile, which has seen to packages and options; file names are
# relative to the repository. Rules for whoever adds a file:
#   - kernel/*.c and kernel/arch/x86_64/*.[cS] are the kernel; kernel/arch/host/*.c is its host port.
#   - A program is a folder (PROGRAM_FOLDERS); its *.[cS] with lib/*.[cS] become build/user/FOLDER.elf.
#     A file `sources` in the folder names sources of another program that are its own too.
#     A file `uses_bearssl` in the folder adds BearSSL's SHA-256 (#include "bearssl_hash.h").
#   - tests/unit/X.c and tests/model/X.c become one Criterion program each, linked on demand from
#     archives of the host-built pure cores and lib/ or, if named kernel_*.c or in model/, of the
#     kernel's host port. What a test #includes as source is not taken from the archives.
#   - system/NAME.toml becomes build/image/NAME/{system.img,BOOTX64.EFI,boot.img}.

MAKEFLAGS += --no-builtin-rules --no-builtin-variables
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

BUILD ?= build
V ?= 0
PYTHON := /usr/bin/python3
THIRD_PARTY := build/third_party
BEARSSL := $(THIRD_PARTY)/bearssl
CC := gcc
LD := ld
AR := ar

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' $1 $@)
dir = @mkdir -p $(@D)

all: images programs tests

# --- Flags ---------------------------------------------------------------------------------------------
common := -std=gnu11 -g -Wall -Wextra -Werror -fno-common -fno-strict-aliasing \
          -ffile-prefix-map=$(CURDIR)/= -MMD -MP -I.
ifeq ($(NOREPLAY),1)
    common += -DCOPPICE_NO_REPLAY
endif
freestanding := $(common) -ffreestanding -O2 -mgeneral-regs-only -fno-asynchronous-unwind-tables \
                -fcf-protection=none
KERNEL_CFLAGS := $(freestanding) -mcmodel=kernel -mno-red-zone -fno-pic -fno-omit-frame-pointer \
                 -momit-leaf-frame-pointer -fstack-protector-strong -Ikernel -Ikernel/arch/x86_64
USER_CFLAGS := $(freestanding) -fno-pic -fno-stack-protector -ffunction-sections -fdata-sections
EFI_CFLAGS := $(freestanding) -fpic -fno-stack-protector -fshort-wchar -mno-red-zone \
              -maccumulate-outgoing-args -DGNU_EFI_USE_MS_ABI -Iefi -isystem $(BEARSSL)/inc \
              -isystem /usr/include/efi -isystem /usr/include/efi/x86_64
HOST_CFLAGS := $(common) -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
               -fno-sanitize-recover=all -isystem $(BEARSSL)/inc
HOST_KERNEL := -Ikernel -Ikernel/arch/host
link := -nostdlib -static -z max-page-size=4096 -z separate-code -z noexecstack -z norelro --build-id=none \
        --fatal-warnings
LIBGCC := $(shell $(CC) -print-libgcc-file-name)# integer helpers, such as population count

# --- Third-party source, fetched and hash-checked --------------------------------------------------------
BEARSSL_TARBALL := bearssl_0.6+dfsg.1.orig.tar.xz
BEARSSL_SHA256 := 102a625bd8f6155260867a50c508df8d8c3f796985dd744df1a68e5cd1a79004
SHA256_SOURCES := src/hash/sha2small src/codec/dec32be src/codec/enc32be
$(THIRD_PARTY)/bearssl.stamp: tools/third_party.sh
	$(dir)
	$(Q)tools/third_party.sh bearssl $(BEARSSL_TARBALL) $(BEARSSL_SHA256) $(THIRD_PARTY)
	$(Q)touch $@
$(addprefix $(BEARSSL)/,$(addsuffix .c,$(SHA256_SOURCES))): $(THIRD_PARTY)/bearssl.stamp ;

# Objects of SHA-256 for a kind of program: $(call sha256,efi)
sha256 = $(addprefix $(BUILD)/$1/bearssl/,$(addsuffix .o,$(SHA256_SOURCES)))
define bearssl_rule
$(BUILD)/$1/bearssl/%.o: $(BEARSSL)/%.c $(THIRD_PARTY)/bearssl.stamp
	$$(dir)
	$$(call say,CC)
	$$(Q)$$(CC) $2 -w -I$(BEARSSL)/inc -I$(BEARSSL)/src -c $$< -o $$@
endef
$(eval $(call bearssl_rule,efi,$(EFI_CFLAGS)))
$(eval $(call bearssl_rule,user,$(USER_CFLAGS)))
$(eval $(call bearssl_rule,host,$(HOST_CFLAGS)))

# --- Kernel ------------------------------------------------------------------------------------------------
KERNEL_SOURCES := $(wildcard kernel/*.c kernel/*.S kernel/arch/x86_64/*.c kernel/arch/x86_64/*.S)
KERNEL_OBJECTS := $(patsubst %,$(BUILD)/kernel/obj/%.o,$(KERNEL_SOURCES))
KERNEL_SCRIPT := kernel/arch/x86_64/kernel.ld

$(BUILD)/kernel/obj/%.o: % tools/build.mk
	$(dir)
	$(call say,CC)
	$(Q)$(CC) $(KERNEL_CFLAGS) -c $< -o $@
$(BUILD)/kernel/kernel.elf: $(KERNEL_OBJECTS) $(KERNEL_SCRIPT) $(BUILD)/kernel/sources
	$(call say,LD)
	$(Q)$(LD) $(link) -T $(KERNEL_SCRIPT) $(KERNEL_OBJECTS) -o $@
# What is booted keeps its symbol table (panics name functions) and loses debug information.
$(BUILD)/kernel/kernel.boot: $(BUILD)/kernel/kernel.elf
	$(Q)objcopy --strip-debug $< $@

# A list of sources, rewritten only when it changes: a removed file relinks what it was part of.
define sources_rule
$1: always
	@mkdir -p $$(@D)
	@echo '$2' | cmp -s - $$@ || echo '$2' > $$@
endef
.PHONY: always
$(eval $(call sources_rule,$(BUILD)/kernel/sources,$(KERNEL_SOURCES)))

# --- Programs ------------------------------------------------------------------------------------------------
PROGRAM_FOLDERS := $(foreach d,supervisor recovery $(wildcard drivers/* services/*) faultinject/injector \
                   bench/guest,$(if $(wildcard $d/*.c),$d))
PROGRAMS := $(notdir $(PROGRAM_FOLDERS))
LIB_SOURCES := $(wildcard lib/*.c lib/*.S)
user_objects = $(patsubst %,$(BUILD)/user/obj/%.o,$1)
programs: $(PROGRAMS:%=$(BUILD)/user/%.elf)

$(BUILD)/user/obj/%.o: % tools/build.mk
	$(dir)
	$(call say,CC)
	$(Q)$(CC) $(USER_CFLAGS) $(EXTRA_CFLAGS) -c $< -o $@

# $1: folder
define program_rules
$(notdir $1)_sources := $(wildcard $1/*.c $1/*.S) $(if $(wildcard $1/sources),$(shell cat $1/sources)) $(LIB_SOURCES)
$(notdir $1)_objects := $$(call user_objects,$$($(notdir $1)_sources)) \
                        $(if $(wildcard $1/uses_bearssl),$(call sha256,user))
$(BUILD)/user/$(notdir $1).elf: $$($(notdir $1)_objects) lib/user.ld $(BUILD)/user/$(notdir $1).sources
	$$(call say,LD)
	$$(Q)$$(LD) $$(link) -T lib/user.ld --gc-sections $$($(notdir $1)_objects) $(LIBGCC) -o $$@
$(BUILD)/user/obj/$1/%.o: EXTRA_CFLAGS = $(if $(wildcard $1/uses_bearssl),-isystem $(BEARSSL)/inc)
$(call user_objects,$(if $(wildcard $1/uses_bearssl),$(wildcard $1/*.c))): | $(THIRD_PARTY)/bearssl.stamp
$(call sources_rule,$(BUILD)/user/$(notdir $1).sources,$$($(notdir $1)_sources))
endef
$(foreach d,$(PROGRAM_FOLDERS),$(eval $(call program_rules,$d)))

# As they go into system images.
$(BUILD)/user/boot/%.elf: $(BUILD)/user/%.elf
	$(dir)
	$(Q)objcopy --strip-all $< $@

# --- Loader ----------------------------------------------------------------------------------------------------
EFI_SOURCES := $(wildcard efi/*.c efi/*.S)
EFI_OBJECTS := $(patsubst %,$(BUILD)/efi/obj/%.o,$(EFI_SOURCES)) $(call sha256,efi)
$(BUILD)/efi/obj/%.o: % tools/build.mk | $(THIRD_PARTY)/bearssl.stamp
	$(dir)
	$(call say,CC)
	$(Q)$(CC) $(EFI_CFLAGS) -c $< -o $@

# From objects to the target, an EFI program.
define efi_link
$(Q)$(LD) -nostdlib -znocombreloc -shared -Bsymbolic --no-undefined --build-id=none -z noexecstack \
    -T /usr/lib/elf_x86_64_efi.lds /usr/lib/crt0-efi-x86_64.o $1 -L/usr/lib -lefi -lgnuefi -o $(@D)/loader.so
$(Q)objcopy -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j .rel -j .rela -j '.rel.*' -j '.rela.*' \
    -j .reloc --target efi-app-x86_64 --subsystem=10 $(@D)/loader.so $@
endef

# --- System images and boot disks ----------------------------------------------------------------------------
SYSTEMS := $(patsubst system/%.toml,%,$(wildcard system/*.toml))
MANIFESTS := $(wildcard supervisor/manifest.toml recovery/manifest.toml drivers/*/manifest.toml \
             services/*/manifest.toml faultinject/injector/manifest.toml bench/guest/manifest.toml)
images: $(SYSTEMS:%=$(BUILD)/image/%/boot.img) $(BUILD)/image/scale-8/boot.img

# The compiled manifest, and a rule that says which programs the image is made of.
$(BUILD)/image/%/programs.mk: system/%.toml $(MANIFESTS) tools/manifest.py tools/build.mk
	$(dir)
	$(call say,MANIF)
	$(Q)$(PYTHON) tools/manifest.py $< -o $(@D)/manifest.bin
	$(Q)$(PYTHON) tools/manifest.py $< --list-images > $(@D)/images.txt && \
	    for n in supervisor $$(cat $(@D)/images.txt); do echo "$(@D)/system.img: $(BUILD)/user/boot/$$n.elf"; done > $@
ifeq ($(filter check-% format,$(MAKECMDGOALS)),)
    -include $(SYSTEMS:%=$(BUILD)/image/%/programs.mk)
endif

# scale-N: the same programs as scale, N services.
$(BUILD)/image/scale-%/programs.mk: system/scale.toml $(MANIFESTS) tools/manifest.py $(BUILD)/image/scale/system.img
	$(dir)
	$(call say,MANIF)
	$(Q)$(PYTHON) tools/manifest.py $< --services $* -o $(@D)/manifest.bin && touch $@

$(BUILD)/image/%/system.img: $(BUILD)/image/%/programs.mk tools/mkimage.py abi/bundle.h
	$(call say,BUNDLE)
	$(Q)$(PYTHON) tools/mkimage.py bundle --manifest $(@D)/manifest.bin --programs $(BUILD)/user/boot -o $@
$(BUILD)/image/%/digests.c: $(BUILD)/kernel/kernel.boot $(BUILD)/image/%/system.img tools/mkimage.py
	$(Q)$(PYTHON) tools/mkimage.py digests --kernel $(BUILD)/kernel/kernel.boot --image $(@D)/system.img -o $@
$(BUILD)/image/%/BOOTX64.EFI: $(BUILD)/image/%/digests.c $(EFI_OBJECTS)
	$(call say,EFI)
	$(Q)$(CC) $(EFI_CFLAGS) -c $< -o $(@D)/digests.o
	$(call efi_link,$(EFI_OBJECTS) $(@D)/digests.o)
$(BUILD)/image/%/boot.img: $(BUILD)/image/%/BOOTX64.EFI tools/mkimage.py
	$(call say,DISK)
	$(Q)$(PYTHON) tools/mkimage.py disk --loader $< --kernel $(BUILD)/kernel/kernel.boot \
	    --image $(@D)/system.img -o $@

# --- The other system of `make bench PEERS=linux`
include bench/linux/build.mk

# --- Tests on the build machine --------------------------------------------------------------------------------
CORE_SOURCES := $(wildcard supervisor/core*.c recovery/core*.c) efi/ranges.c efi/tables.c efi/verify.c
HOST_KERNEL_SOURCES := $(wildcard kernel/*.c kernel/arch/host/*.c)
UNIT_TESTS := $(patsubst %.c,%,$(wildcard tests/unit/*.c tests/model/*.c))
tests: $(UNIT_TESTS:%=$(BUILD)/%) fuzz-replay

$(BUILD)/host/obj/%.o: % tools/build.mk | $(THIRD_PARTY)/bearssl.stamp
	$(dir)
	$(call say,CC)
	$(Q)$(CC) $(HOST_CFLAGS) $(if $(filter kernel/%,$<),$(HOST_KERNEL)) $(if $(filter efi/%,$<),-Iefi) \
	    -c $< -o $@
define archive
$(call say,AR)
$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)
endef
$(BUILD)/host/core.a: $(patsubst %,$(BUILD)/host/obj/%.o,$(CORE_SOURCES)) $(call sha256,host)
	$(archive)
$(BUILD)/host/kernel.a: $(patsubst %,$(BUILD)/host/obj/%.o,$(HOST_KERNEL_SOURCES))
	$(archive)
# The host has a libc and its own start.
HOST_LIB_SOURCES := $(filter-out lib/string.c lib/start.c,$(filter %.c,$(LIB_SOURCES)))
$(BUILD)/host/lib.a: $(patsubst %,$(BUILD)/host/obj/%.o,$(HOST_LIB_SOURCES))
	$(archive)

needs_kernel = $(filter tests/model/% tests/unit/kernel_%,$1)
define test_rule
$(BUILD)/$1: $1.c tools/build.mk $(if $(call needs_kernel,$1),$(BUILD)/host/kernel.a,$(BUILD)/host/core.a \
             $(BUILD)/host/lib.a)
	$$(dir)
	$$(call say,CC)
	$$(Q)$$(CC) $(HOST_CFLAGS) -MF $$@.d -MT $$@ $(if $(call needs_kernel,$1),$(HOST_KERNEL),-Iefi) $$< \
	    $$(filter %.a,$$^) -lcriterion -o $$@
endef
$(foreach t,$(UNIT_TESTS),$(eval $(call test_rule,$t)))

# The simulator: optimised to play many schedules, and with sanitizers to play some. Plants (test_sim.py) are
# linked from these objects and one that was changed.
SIM_SOURCES := $(wildcard tests/sim/*.c supervisor/core*.c recovery/core*.c)
SIM_CFLAGS := $(common) -O2
tests: $(BUILD)/tests/sim/sim $(BUILD)/tests/sim/sim_checked
$(BUILD)/tests/sim/obj/%.o: % tools/build.mk
	$(dir)
	$(call say,CC)
	$(Q)$(CC) $(SIM_CFLAGS) -c $< -o $@
$(BUILD)/tests/sim/sim: $(patsubst %,$(BUILD)/tests/sim/obj/%.o,$(SIM_SOURCES))
	$(dir)
	$(call say,LD)
	$(Q)$(CC) $^ -o $@
$(BUILD)/tests/sim/sim_checked: $(patsubst %,$(BUILD)/host/obj/%.o,$(SIM_SOURCES))
	$(dir)
	$(call say,LD)
	$(Q)$(CC) $(HOST_CFLAGS) $^ -o $@

# --- Fuzzing -------------------------------------------------------------------------------------------------------
# tests/fuzz/X.c becomes build/fuzz/X (clang, libFuzzer; `make fuzz`) and build/fuzz/replay/X (the compiler of the other
# tests, takes files). It includes the sources that it attacks or has them from the archive of the pure cores.
# The target syscall has the kernel's host port beside it, whose variables lie in sections of their own, so that
# one copy of them makes the machine new.
FUZZ_TARGETS := $(filter-out standalone,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
FUZZ_CC := clang
FUZZ_INCLUDES := -Itests/fuzz/include $(HOST_KERNEL) -Iefi
FUZZ_CFLAGS := $(filter-out -Wall -Wextra -Werror,$(common)) -w -O2 -fno-pic -fno-omit-frame-pointer \
               -fsanitize=address,undefined -fno-sanitize-recover=all -D__SANITIZE_ADDRESS__=1 $(FUZZ_INCLUDES)
FUZZ_STATE := --rename-section .data=fuzz_data --rename-section .bss=fuzz_bss,alloc,load,data,contents
fuzz: $(FUZZ_TARGETS:%=$(BUILD)/fuzz/%)
fuzz-replay: $(FUZZ_TARGETS:%=$(BUILD)/fuzz/replay/%)

$(BUILD)/fuzz/obj/%.o: %.c tools/build.mk
	$(dir)
	$(call say,CLANG)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c $< -o $@
	$(Q)$(if $(filter tests/fuzz/syscall.c kernel/%,$<),objcopy $(FUZZ_STATE) $@)
FUZZ_KERNEL := $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(HOST_KERNEL_SOURCES))
FUZZ_CORE := $(filter supervisor/% recovery/%,$(CORE_SOURCES))
$(BUILD)/fuzz/core.a: $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(FUZZ_CORE))
	$(archive)
fuzz_needs = $(if $(filter syscall,$1),$2,$3)
define fuzz_rule
$(BUILD)/fuzz/$1: $(call fuzz_needs,$1,$(FUZZ_KERNEL),$(BUILD)/fuzz/core.a)
$(BUILD)/fuzz/replay/$1: $(call fuzz_needs,$1,$(BUILD)/host/kernel.a,$(BUILD)/host/core.a)
endef
$(foreach t,$(FUZZ_TARGETS),$(eval $(call fuzz_rule,$t)))
$(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/%.o
	$(call say,LD)
	$(Q)$(FUZZ_CC) -no-pie -fsanitize=address,undefined,fuzzer $(filter %.o %.a,$^) -o $@
$(BUILD)/fuzz/replay/%: tests/fuzz/%.c tests/fuzz/standalone.c tools/build.mk
	$(dir)
	$(call say,CC)
	$(Q)$(CC) $(HOST_CFLAGS) -Wno-unused-function -MF $@.d -MT $@ $(FUZZ_INCLUDES) $(filter %.c %.a,$^) -o $@
.PHONY: fuzz fuzz-replay

# --- Checks -----------------------------------------------------------------------------------------------------
C_FILES := $(shell find abi kernel lib drivers supervisor recovery services faultinject bench efi tests \
           -name '*.[ch]' 2>/dev/null | sort)
CHECKS := check-format check-layering check-docs check-cppcheck check-size check-model
.PHONY: all images programs tests check format size $(CHECKS)

check: $(CHECKS) images programs tests
	@echo 'check: all passed'
check-format:
	$(Q)for f in $(C_FILES); do clang-format $$f | cmp -s - $$f || { echo "$$f: run make format"; bad=1; }; done; \
	    [ -z "$$bad" ]
format:
	$(Q)clang-format -i $(C_FILES)
check-layering:
	$(Q)$(PYTHON) tools/layering.py
check-docs:
	$(Q)$(PYTHON) tools/abi_doc.py --check docs/ABI.md
check-cppcheck:
	$(Q)tools/cppcheck.sh $(BUILD)
# The protocol's model, once for each version of the model and of the sources whose functions it names.
MODEL_SOURCES := tests/model/promela/ledger.pml tests/model/promela/check.sh lib/driver.c lib/driver_block.c \
                 lib/session_block.c recovery/core_ledger.c supervisor/core.c
check-model: $(BUILD)/model.ok
$(BUILD)/model.ok: $(MODEL_SOURCES)
	$(dir)
	$(call say,SPIN)
	$(Q)tests/model/promela/check.sh $(BUILD)/model $(if $(filter 1,$(V)),,> $(BUILD)/model.log 2>&1 || \
	    { cat $(BUILD)/model.log; exit 1; })
	$(Q)touch $@
check-size:
	$(Q)$(PYTHON) tools/size.py --max 10000
size: $(BUILD)/image/default/boot.img
	$(Q)$(PYTHON) tools/size.py --max 10000 --image $(BUILD)/image/default/BOOTX64.EFI $(BUILD)/kernel/kernel.boot \
	    $(BUILD)/image/default/system.img

-include $(shell find $(BUILD)/kernel $(BUILD)/user $(BUILD)/efi $(BUILD)/host $(BUILD)/tests $(BUILD)/fuzz/obj \
           $(BUILD)/fuzz/replay \
           -name '*.d' 2>/dev/null)
