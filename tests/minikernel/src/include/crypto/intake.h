/* Follows sys/crypto/intake.h (11.0): keys that the loader hands to GELI. Our own declarations. */
#ifndef MINIKERNEL_INTAKE_H
#define MINIKERNEL_INTAKE_H
#define MAX_KEY_BYTES 512
#define KEYBUF_TYPE_NONE 0
#define KEYBUF_TYPE_GELI 1
struct keybuf_ent {
	unsigned int ke_type;
	char ke_data[MAX_KEY_BYTES];
};
struct keybuf {
	unsigned int kb_nents;
	struct keybuf_ent kb_ents[];
};
#endif
