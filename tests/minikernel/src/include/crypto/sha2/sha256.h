/* Follows sys/crypto/sha2/sha256.h: the hash state that struct g_eli_softc embeds. Our own declaration. */
#ifndef MINIKERNEL_SHA256_H
#define MINIKERNEL_SHA256_H
#define SHA256_DIGEST_LENGTH 32
typedef struct SHA256Context {
	uint32_t state[8];
	uint64_t count;
	uint8_t buf[64];
} SHA256_CTX;
#endif
