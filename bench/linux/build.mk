# SPDX-License-Identifier: BSD-2-Clause
# The Linux guest of `make bench PEERS=linux`: build/linux/NAME/boot.img, one a kernel command line. Part of
# tools/build.mk; nothing else depends on it, and musl and the kernel are wanted only when it is asked for.
LINUX_KERNEL := $(THIRD_PARTY)/linux
# musl's headers first, then the kernel's of the build machine
LINUX_CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Werror -static -idirafter /usr/include \
                -idirafter /usr/include/x86_64-linux-gnu
LINUX_SOURCES := $(filter-out bench/linux/loader.c,$(wildcard bench/linux/*.c))
LINUX_IMAGES := linux linux-noiommu
linux-noiommu_options := intel_iommu=off# linux: none, as Debian installs it, which uses an IOMMU that is there

linux: $(LINUX_IMAGES:%=$(BUILD)/linux/%/boot.img)
.PHONY: linux

$(LINUX_KERNEL)/version: bench/linux/fetch.sh
	$(Q)bench/linux/fetch.sh $(@D)
	$(Q)touch $@
$(BUILD)/linux/init: $(LINUX_SOURCES) $(wildcard bench/linux/*.h) bench/linux/build.mk
	$(dir)
	$(call say,MUSL)
	$(Q)musl-gcc $(LINUX_CFLAGS) $(LINUX_SOURCES) -s -o $@
$(BUILD)/linux/%/BOOTX64.EFI: bench/linux/loader.c bench/linux/build.mk tools/build.mk
	$(dir)
	$(call say,EFI)
	$(Q)$(CC) $(EFI_CFLAGS) -DOPTIONS='"$($*_options)"' -c $< -o $(@D)/loader.o
	$(call efi_link,$(@D)/loader.o)
$(BUILD)/linux/%/boot.img: $(BUILD)/linux/%/BOOTX64.EFI $(BUILD)/linux/init $(LINUX_KERNEL)/version \
                           bench/linux/image.py tools/mkimage.py
	$(call say,DISK)
	$(Q)$(PYTHON) bench/linux/image.py --kernel $(LINUX_KERNEL) --init $(BUILD)/linux/init --loader $< -o $@
