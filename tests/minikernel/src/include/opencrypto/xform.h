/* sys/opencrypto/xform.h is not in the header sets; netipsec/xform.h needs no type of it complete. */
