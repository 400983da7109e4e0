/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a BPF object was built with, by the object itself: the compiler at hand may be another one by now.
 */
#pragma once

/* "clang version 14.0.6", in a static buffer, from its debug information; NULL if it does not say. */
const char *toolchain_clang(const char *object);
/* The major version alone; 0 if it does not say. */
int toolchain_clang_major(const char *object);
