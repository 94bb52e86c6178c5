/* Follows sys/crypto/sha2/sha512.h: the hash state that GELI's HMAC embeds. Our own declaration. */
#ifndef MINIKERNEL_SHA512_H
#define MINIKERNEL_SHA512_H
#define SHA512_DIGEST_LENGTH 64
typedef struct SHA512Context {
	uint64_t state[8];
	uint64_t count[2];
	uint8_t buf[128];
} SHA512_CTX;
#endif
