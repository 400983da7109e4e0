# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
#   make          build/xdp-handshake
#   make demo     as root: the main job, shown on a veth pair
#   make check    as root: every test          make test   those that need neither root nor network
#   make help     the other targets

.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0

CC ?= cc
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
PKG_CONFIG ?= pkg-config
B := build

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
endif

WARN := -Wall -Wextra -Werror
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 $(WARN) -Wno-unused-parameter -Iinclude \
	$(if $(MULTIARCH),-I/usr/include/$(MULTIARCH))
CFLAGS ?= -O2 -g
HOST_CFLAGS := -std=gnu11 $(WARN) -Wmissing-prototypes -Wstrict-prototypes -D_GNU_SOURCE -Iinclude -I$(B)/bpf \
	-DXDPH_VERSION='"$(VERSION)"'
LIBS := $(shell $(PKG_CONFIG) --libs libbpf jansson 2>/dev/null || echo -lbpf -ljansson)

BPF_HEADERS := $(wildcard bpf/*.h include/*.h include/*.def)
USER_SOURCES := $(wildcard user/*.c)
USER_HEADERS := $(wildcard user/*.h include/*.h include/*.def)
USER_OBJECTS := $(USER_SOURCES:user/%.c=$(B)/user/%.o)

all: $(B)/xdp-handshake $(B)/bpf/xdp_pass.bpf.o

$(B)/bpf/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS) Makefile
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

.SECONDARY:

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

# ---- tests: tests/run knows what there is; here only how it is built ----

T := $(B)/tests
TEST_CFLAGS := -std=gnu11 $(WARN) -D_GNU_SOURCE -Itests/lib -Iinclude -I$(B)/bpf -I$(T)/lib -I$(T)/tools
TEST_BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 $(WARN) -Itests/lib $(if $(MULTIARCH),-I/usr/include/$(MULTIARCH))
TEST_LIB := $(addprefix $(T)/lib/,report.o netns.o frame.o wire.o batch.o live.o sha256.o)
TEST_HEADERS := $(wildcard tests/lib/*.h tests/tools/*.h tests/net/*.h)
TOOLS := $(addprefix $(T)/tools/,delay flood respond churn)
NET_TESTS := $(patsubst tests/net/%.c,$(T)/net/%,$(filter-out tests/net/product.c,$(wildcard tests/net/*.c)))

$(T)/%.bpf.o: tests/%.bpf.c $(TEST_HEADERS)
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(TEST_BPF_CFLAGS) -c $< -o $@

$(T)/%.skel.h: $(T)/%.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name $(*F)_bpf > $@

$(T)/lib/batch.o: $(T)/lib/inject.skel.h
$(T)/lib/selftest.o: $(T)/lib/selftest.skel.h
$(T)/tools/flood.o: $(T)/tools/flood.skel.h

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

$(NET_TESTS): %: %.o $(T)/net/product.o $(T)/libtest.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $^ -lbpf -lnet -ljansson -o $@

net-tests: all $(TOOLS) $(NET_TESTS)

clean:
	$(Q)rm -rf $(B)

.PHONY: all clean
