/* sys/opencrypto/_cryptodev.h is not in the header sets. */
#ifndef MINIKERNEL__CRYPTODEV_H
#define MINIKERNEL__CRYPTODEV_H
struct crypto_session;
struct cryptop;
typedef struct crypto_session *crypto_session_t;
#endif
