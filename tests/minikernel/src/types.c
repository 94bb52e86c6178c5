/*
 * The unit that is compiled with -fno-eliminate-unused-debug-types: every type of every header above is in its debug
 * information, whether anything uses it or not.
 */
#include "kernel.h"
/* Not for the others: it defines members of its structures as macros. */
#include <geom/mirror/g_mirror.h>
