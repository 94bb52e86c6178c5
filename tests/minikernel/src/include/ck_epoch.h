/* The part of Concurrency Kit's epoch that struct epoch_tracker embeds. Our own declaration. */
#ifndef MINIKERNEL_CK_EPOCH_H
#define MINIKERNEL_CK_EPOCH_H

typedef struct ck_epoch_section {
	unsigned int bucket;
} ck_epoch_section_t;

#endif
