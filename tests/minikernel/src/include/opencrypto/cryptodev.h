/* Installed systems have sys/opencrypto/cryptodev.h as crypto/cryptodev.h. */
#include <crypto/cryptodev.h>
