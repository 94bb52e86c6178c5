/* A module with everything that makes modules different: its own VNET and DPCPU sets, metadata, sysctls, functions. */
#include "kernel.h"

VNET_DEFINE(int, mini_connections) = 7;
VNET_DEFINE_STATIC(uint64_t, mini_private) = 0x0123456789abcdefULL;
DPCPU_DEFINE(int, mini_hits) = 11;
DPCPU_DEFINE_STATIC(uint64_t, mini_cycles) = 0xfedcba9876543210ULL;

struct mini_softc {
	LIST_ENTRY(mini_softc) ms_list;
	int ms_unit;
	char ms_name[16];
};
static LIST_HEAD(, mini_softc) mini_softcs = LIST_HEAD_INITIALIZER(mini_softcs);
int mini_debug = 1;
const char mini_banner[] = "mini module";

SYSCTL_INT(_kern, OID_AUTO, mini_debug, CTLFLAG_RW, &mini_debug, 0, "Debugging of the mini module");

int
mini_ioctl(struct mini_softc *sc, u_long command)
{
	return (sc != NULL && command != 0 ? mini_debug : 0);
}

static int
mini_modevent(module_t module, int what, void *arg)
{
	return (what == MOD_LOAD ? mini_ioctl(LIST_FIRST(&mini_softcs), 1) : 0);
}

static moduledata_t mini_mod = { "mini", mini_modevent, NULL };
DECLARE_MODULE(mini, mini_mod, SI_SUB_DRIVERS, SI_ORDER_ANY);
MODULE_VERSION(mini, 1);
