/*
 * The shapes of Concurrency Kit's queues, as far as FreeBSD's headers name them. The order of the pointers is that of
 * sys/queue.h; only the members' names differ. Our own declarations.
 */
#ifndef MINIKERNEL_CK_QUEUE_H
#define MINIKERNEL_CK_QUEUE_H

#define CK_SLIST_HEAD(name, type) struct name { struct type *cslh_first; }
#define CK_SLIST_ENTRY(type) struct { struct type *csle_next; }

#define CK_STAILQ_HEAD(name, type) struct name { struct type *cstqh_first; struct type **cstqh_last; }
#define CK_STAILQ_ENTRY(type) struct { struct type *cstqe_next; }
#define CK_STAILQ_FIRST(head) ((head)->cstqh_first)
#define CK_STAILQ_NEXT(element, field) ((element)->field.cstqe_next)
#define CK_STAILQ_FOREACH(var, head, field) for ((var) = (head)->cstqh_first; (var); (var) = (var)->field.cstqe_next)

#define CK_LIST_HEAD(name, type) struct name { struct type *clh_first; }
#define CK_LIST_ENTRY(type) struct { struct type *cle_next; struct type **cle_prev; }
#define CK_LIST_EMPTY(head) ((head)->clh_first == 0)
#define CK_LIST_FOREACH(var, head, field) for ((var) = (head)->clh_first; (var); (var) = (var)->field.cle_next)

#endif
