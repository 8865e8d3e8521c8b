/* What went wrong, kept in memory that the caller owns. */
#ifndef EO_FAILURE_H
#define EO_FAILURE_H

struct eo_failure {
    char where[256];    /* option, file or engine */
    char message[1024]; /* what was wrong and what was expected */
};

/* Fills `failure` (cut where too long) and returns -1, so that a caller can return it. */
int eo_fail(struct eo_failure *failure, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
