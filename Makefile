# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
#   make                build/xdp-handshake
#   make demo           as root: the main job, shown on a veth pair
#   make check          as root: every test
#   make test           the tests that need neither root nor network
#   make bench          as root: what it costs, beside what others cost
#   make forge          as root: the odds of a forged cookie, by 2^27 tries
#   make soak           as root: all at once, for SECONDS=120
#   make check-kernels  the same build in other kernels, in QEMU
#   make deps           install what a build needs (deps-demo, deps-check, deps-kernels: what those need)
#   make install        to $(DESTDIR)$(PREFIX)
#   make clean
#
# V=1 shows the commands.

.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX ?= /usr/local

CC ?= cc
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
PKG_CONFIG ?= pkg-config
B := build
T := $(B)/tests

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
endif

WARN := -Wall -Wextra -Werror
CFLAGS ?= -O2 -g
# Asked when used, not when read: `make deps` runs where there is no compiler yet.
MULTIARCH = $(addprefix -I/usr/include/,$(shell $(CC) -print-multiarch 2>/dev/null))
BPF_CFLAGS = -O2 -g -fno-strict-aliasing -target bpf -mcpu=v3 $(WARN) -Wno-unused-parameter -Iinclude $(MULTIARCH)
HOST_CFLAGS := -std=gnu11 $(WARN) -Wmissing-prototypes -Wstrict-prototypes -D_GNU_SOURCE -Iinclude -I$(B)/bpf \
	-DXDPH_VERSION='"$(VERSION)"'
LIBS = $(shell $(PKG_CONFIG) --libs libbpf jansson libnftables libpcap libcap-ng 2>/dev/null || \
	echo -lbpf -ljansson -lnftables -lpcap -lcap-ng)

BPF_HEADERS := $(wildcard bpf/*.h include/*.h include/*.def)
USER_HEADERS := $(wildcard user/*.h include/*.h include/*.def)
USER_OBJECTS := $(patsubst user/%.c,$(B)/user/%.o,$(wildcard user/*.c))

all: $(B)/xdp-handshake $(B)/bpf/xdp_pass.bpf.o

# ---- the product ----

$(B)/bpf/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS) Makefile | tools
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(B)/bpf/%.skel.h: $(B)/bpf/%.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(B)/user/%.o: user/%.c $(USER_HEADERS) $(B)/bpf/handshake.skel.h Makefile
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(HOST_CFLAGS) -c $< -o $@

$(B)/xdp-handshake: $(USER_OBJECTS)
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LIBS) -o $@

# One line that names what is missing, instead of a compiler's page.
tools:
	$(Q)for tool in $(CC) $(CLANG) $(BPFTOOL) $(PKG_CONFIG); do command -v $$tool >/dev/null || \
		{ echo "$$tool is missing: run 'make deps' as root" >&2; exit 1; }; done
	$(Q)$(PKG_CONFIG) --exists libbpf jansson libnftables libpcap libcap-ng || \
		{ echo "libbpf, jansson, libnftables, libpcap or libcap-ng is missing: run 'make deps' as root" >&2; exit 1; }

install: all
	install -D -m 755 $(B)/xdp-handshake $(DESTDIR)$(PREFIX)/sbin/xdp-handshake
	install -D -m 644 $(B)/bpf/xdp_pass.bpf.o $(DESTDIR)$(PREFIX)/lib/xdp-handshake/xdp_pass.bpf.o

# ---- the demo ----

TOOLS := $(addprefix $(T)/tools/,delay flood respond churn)

demo: deps-demo
	$(Q)$(MAKE) --no-print-directory all $(T)/tools/flood $(T)/demo/far_end.bpf.o
	$(Q)tests/demo/demo

# ---- tests: how they are built; tests/run runs and counts them ----

TEST_CFLAGS := -std=gnu11 $(WARN) -D_GNU_SOURCE -Itests/lib -Iinclude -I$(B)/bpf -I$(T)/lib -I$(T)/tools -I$(T)/prog -I$(T)/bench
TEST_BPF_CFLAGS = -O2 -g -target bpf -mcpu=v3 $(WARN) -Itests/lib -Iinclude $(MULTIARCH)
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-format-overflow -Wno-format-truncation
TEST_HEADERS := $(wildcard tests/*/*.h include/*.h include/*.def)
TEST_LIB := $(addprefix $(T)/lib/,report.o netns.o frame.o wire.o batch.o live.o sha256.o toolchain.o)
UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
UNIT_TESTS := $(UNIT:%=$(T)/unit/%)
SAN_TESTS := $(UNIT:%=$(T)/san/%)
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
NET := $(patsubst tests/net/%.c,%,$(filter-out tests/net/product.c,$(wildcard tests/net/*.c)))
NET_TESTS := $(NET:%=$(T)/net/%)
PROG_TESTS := $(addprefix $(T)/prog/,table native mutate filter forge sizes)

$(T)/%.bpf.o: tests/%.bpf.c $(TEST_HEADERS) Makefile | tools
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(TEST_BPF_CFLAGS) -c $< -o $@

$(T)/%.skel.h: $(T)/%.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name $(*F)_bpf > $@

$(T)/lib/batch.o: $(T)/lib/inject.skel.h
$(T)/lib/selftest.o: $(T)/lib/selftest.skel.h
$(T)/tools/flood.o: $(T)/tools/flood.skel.h
$(T)/net/listeners.o: $(T)/lib/needs_ecn.skel.h
$(T)/prog/forge.o: $(T)/prog/forge.skel.h
$(T)/bench/generator.o: $(T)/bench/traffic.skel.h

$(T)/%.o: tests/%.c $(TEST_HEADERS) Makefile
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(TEST_CFLAGS) -c $< -o $@

$(T)/libtest.a: $(TEST_LIB)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(TOOLS) $(T)/lib/selftest $(T)/tools/selftest: %: %.o $(T)/libtest.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $^ -lbpf -lnet -o $@

$(NET_TESTS) $(T)/bench/keeping: %: %.o $(T)/net/product.o $(T)/libtest.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $^ -lbpf -lnet -ljansson -lm -o $@

BENCH := $(filter-out %/programs.o %/keeping.o,$(patsubst tests/%.c,$(T)/%.o,$(filter-out %.bpf.c,$(wildcard tests/bench/*.c))))

$(T)/bench/bench: $(BENCH) $(T)/net/product.o $(T)/libtest.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $^ -lbpf -lnet -ljansson -lm -o $@

# The loader once more: with sanitizers, for maps that others have written to; and with another layout of the maps.
LOADERS := $(addprefix $(T)/loader/,sanitized other)
LOADER_CFLAGS = -O1 -g $(SAN) $(HOST_CFLAGS)

$(T)/net/faults: | $(LOADERS)

$(T)/loader/sanitized: $(wildcard user/*.c) $(USER_HEADERS) $(B)/bpf/handshake.skel.h Makefile
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LOADER_CFLAGS) $(filter user/%.c,$^) $(LIBS) -o $@

# More fields in front of the others: whoever took one layout for the other would read and write nonsense.
$(T)/loader/abi.h: include/abi.h
	$(Q)mkdir -p $(@D)
	$(Q)sed -e 's/ABI_LAYOUT = [0-9]*/ABI_LAYOUT = 999/' \
		-e '/^\t__u32 flags;.*settings_flag/a \\t__u64 of_another_layout[3];' \
		-e '/^struct service {$$/a \\t__u64 of_another_layout;' $< > $@
	$(Q)[ "$$(grep -c of_another_layout $@)" = 2 ] || { echo "$@: not what it should be" >&2; exit 1; }

$(T)/loader/handshake.bpf.o: bpf/handshake.bpf.c $(T)/loader/abi.h $(BPF_HEADERS) Makefile | tools
	$(say) BPF $@
	$(Q)$(CLANG) -I$(T)/loader $(BPF_CFLAGS) -c $< -o $@

$(T)/loader/handshake.skel.h: $(T)/loader/handshake.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name handshake_bpf > $@

$(T)/loader/other: $(wildcard user/*.c) $(USER_HEADERS) $(T)/loader/abi.h $(T)/loader/handshake.skel.h Makefile
	$(say) CC $@
	$(Q)$(CC) $(CFLAGS) -I$(T)/loader $(HOST_CFLAGS) $(filter user/%.c,$^) $(LIBS) -o $@

# Pure code, built from the very headers that the BPF programs are built from; and once more with sanitizers.
PURE_SOURCES := user/format.c user/ports.c user/ruleset.c user/segment.c
UNIT_SOURCES := tests/lib/report.c $(PURE_SOURCES)

$(UNIT_TESTS): $(T)/unit/%: tests/unit/%.c $(UNIT_SOURCES) $(TEST_HEADERS) $(USER_HEADERS) $(BPF_HEADERS) Makefile
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(TEST_CFLAGS) $< $(UNIT_SOURCES) -ljansson -lm -o $@

$(SAN_TESTS): $(T)/san/%: tests/unit/%.c $(UNIT_SOURCES) $(TEST_HEADERS) $(USER_HEADERS) $(BPF_HEADERS) Makefile
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O1 -g $(SAN) $(TEST_CFLAGS) $< $(UNIT_SOURCES) -ljansson -lm -o $@

# Once for all targets; what a target does not call is left out.
FUZZ_SAN := -O1 -g -ffunction-sections -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_OBJECTS := $(patsubst user/%.c,$(T)/fuzz/user/%.o,$(PURE_SOURCES) user/explain.c user/output.c)

$(FUZZ_OBJECTS): $(T)/fuzz/user/%.o: user/%.c $(USER_HEADERS) Makefile
	$(say) FUZZ $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_SAN) -fsanitize=fuzzer-no-link $(TEST_CFLAGS) -c $< -o $@

# `command` is made of the commands themselves.
$(FUZZ:%=$(T)/fuzz/%): $(T)/fuzz/%: tests/fuzz/%.c $(FUZZ_OBJECTS) $(wildcard tests/fuzz/*.h) $(TEST_HEADERS) $(USER_HEADERS) \
		$(BPF_HEADERS) $(wildcard user/cmd_*.c) Makefile
	$(say) FUZZ $@
	$(Q)$(CLANG) $(FUZZ_SAN) -fsanitize=fuzzer $(TEST_CFLAGS) $< $(FUZZ_OBJECTS) -Wl,--gc-sections -ljansson -o $@

$(T)/prog/mutate: $(addprefix $(T)/prog/,judge.o mutator.o scene.o)
$(PROG_TESTS) $(T)/bench/programs: %: %.o $(T)/prog/environment.o $(T)/prog/expect.o $(T)/prog/syns.o $(T)/libtest.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $^ -lbpf -lnet -lm -o $@

# The programs with so many bits of a cookie's MAC unchecked (include/cookie.h): odds that can be counted.
$(T)/forge/unchecked_%.bpf.o: bpf/handshake.bpf.c $(BPF_HEADERS) Makefile | tools
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -DCOOKIE_MAC_UNCHECKED=$* -c $< -o $@

$(T)/prog/forge: | $(patsubst %,$(T)/forge/unchecked_%.bpf.o,12 16 20)

test: $(UNIT_TESTS) $(SAN_TESTS)
	$(Q)tests/run --two $^

check: deps-check
	$(Q)$(MAKE) --no-print-directory check-now

# What needs a kernel that can do it all, and what does not. Where this machine's cannot (tests/vm/needed says why), the
# former run in two emulated machines.
HOST_CHECKS = tests/static $(UNIT_TESTS) $(SAN_TESTS) $(FUZZ:%='tests/fuzz/run %')
# Left out in there: what asks for rates or times that an emulated CPU does not reach.
RATE_CHECKS = $(addprefix $(T)/net/,nginx change loss rtt queue firewall handshake held listeners live sequence books flood guard replay crafted prefix forging soak faults privilege) \
	$(T)/prog/filter $(T)/tools/selftest
KERNEL_CHECKS = $(T)/lib/selftest $(T)/tools/selftest $(PROG_TESTS) $(NET_TESTS)
# Three at a time: they wait for timers of the kernel's more than they work, and measure nothing.
BESIDE_CHECKS = $(addprefix $(T)/net/,change firewall handshake foreign faults live paths layers sequence options privilege)

check-now: all $(UNIT_TESTS) $(SAN_TESTS) $(FUZZ:%=$(T)/fuzz/%) $(T)/lib/selftest $(T)/tools/selftest $(TOOLS) \
		$(PROG_TESTS) $(NET_TESTS)
	$(Q)[ "$$(id -u)" = 0 ] || { echo "make check needs root (make test does not)" >&2; exit 1; }
	$(Q)if tests/vm/needed; then \
		echo "so the tests on a network run in emulated machines, which takes an hour; left out: $(notdir $(RATE_CHECKS))"; \
		$(MAKE) --no-print-directory deps-kernels && \
		TIMEOUT=4800 tests/run --two $(HOST_CHECKS) --alone 'tests/vm/check -j 2 $(filter-out $(RATE_CHECKS),$(KERNEL_CHECKS))'; \
	else \
		tests/run --two $(HOST_CHECKS) --alone $(filter-out $(BESIDE_CHECKS),$(KERNEL_CHECKS)) --beside $(BESIDE_CHECKS); \
	fi

# What the tests on a network are made of, to run one of them by hand: build/tests/net/handshake "one NAPI"
net-tests: all $(TOOLS) $(NET_TESTS)

# What it costs beside what others cost, in one run of some five minutes: tests/bench/main.c. BENCH_ROUNDS=60 for more.
bench: deps-check
	$(Q)$(MAKE) --no-print-directory bench-now

bench-now: all $(TOOLS) $(T)/demo/far_end.bpf.o $(addprefix $(T)/bench/,bench programs keeping)
	$(Q)[ "$$(id -u)" = 0 ] || { echo "make bench needs root" >&2; exit 1; }
	$(Q)$(T)/bench/programs
	$(Q)$(T)/bench/keeping
	$(Q)$(T)/bench/bench

# The odds of forging a cookie, at full width and with fewer bits to guess: some minutes.
forge: all $(T)/prog/forge
	$(Q)$(T)/prog/forge full

# Flood, load, and all that an operator does, together (tests/net/soak.c); twenty seconds of it are part of `make check`.
SECONDS ?= 120

soak: deps-check
	$(Q)$(MAKE) --no-print-directory all $(TOOLS) $(T)/net/soak
	$(Q)SOAK_SECONDS=$(SECONDS) $(T)/net/soak

check-kernels: deps-kernels
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/vm/run

# ---- packages: the only place that knows a package manager ----

BUILD_PACKAGES := make gcc libc6-dev clang llvm libbpf-dev libelf-dev libjansson-dev libnftables-dev libpcap-dev libcap-ng-dev bpftool pkg-config \
	linux-libc-dev
DEMO_PACKAGES := $(BUILD_PACKAGES) libnet1-dev nginx-light curl iproute2 ethtool util-linux procps
CHECK_PACKAGES := $(DEMO_PACKAGES) git diffutils wrk netbase nftables iptables sparse clang-format jq libclang-rt-dev libcap2-bin
KERNELS_PACKAGES := $(BUILD_PACKAGES) qemu-system-x86 busybox-static ethtool iproute2 nftables util-linux xz-utils \
	debian-archive-keyring

# Says what it installs; nothing where all is there. A policy for the time being keeps packages from starting
# services.
define install
	$(Q)missing=; for package in $(1); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get >/dev/null || { echo "install these by hand, or their like:$$missing" >&2; exit 1; }; \
	as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	echo "installing:$$missing"; \
	policy=/usr/sbin/policy-rc.d; ours=; \
	if ! [ -e $$policy ]; then printf '#!/bin/sh\nexit 101\n' | $$as tee $$policy >/dev/null; $$as chmod +x $$policy; ours=1; fi; \
	trap '[ -z "$$ours" ] || $$as rm -f $$policy' EXIT INT TERM; \
	$$as apt-get -qq update && \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null
endef

deps:
	$(call install,$(BUILD_PACKAGES))

deps-demo:
	$(call install,$(DEMO_PACKAGES))

deps-check:
	$(call install,$(CHECK_PACKAGES))

deps-kernels:
	$(call install,$(KERNELS_PACKAGES))

clean:
	$(Q)rm -rf $(B)

help:
	$(Q)sed -n '3,15s/^# \{0,1\}//p' Makefile

.PHONY: all tools install demo test check check-now net-tests bench bench-now forge soak check-kernels deps deps-demo deps-check deps-kernels clean help
