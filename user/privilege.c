// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "privilege.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include <cap-ng.h>

#include "log.h"

void privilege_hide(void)
{
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

bool privilege_to_attach(void)
{
	if (capng_get_caps_process())
		return false;
	return capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN) ||
	       (capng_have_capability(CAPNG_EFFECTIVE, CAP_BPF) &&
		capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN) &&
		capng_have_capability(CAPNG_EFFECTIVE, CAP_PERFMON));
}

int privilege_drop(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return fail("cannot give up privileges (no_new_privs): %s", strerror(errno));
	capng_clear(CAPNG_SELECT_ALL);
	/* The bounding set first, while we may: it takes CAP_SETPCAP. */
	capng_apply(CAPNG_SELECT_BOUNDS);
	errno = 0;
	if (capng_apply(CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT))
		return fail("cannot give up capabilities: %s", strerror(errno ?: EPERM));
	/* What is left by the kernel's own word, not the library's. */
	if (capng_get_caps_process() || capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE ||
	    capng_have_capabilities(CAPNG_SELECT_AMBIENT) != CAPNG_NONE)
		return fail("cannot give up capabilities: the kernel has left some");
	if (capng_have_capabilities(CAPNG_SELECT_BOUNDS) != CAPNG_NONE)
		note("the capability bounding set stays as it is, for want of CAP_SETPCAP; under "
		     "no_new_privs "
		     "it gives nothing");
	return EXIT_DONE;
}
