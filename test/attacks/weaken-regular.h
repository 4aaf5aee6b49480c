/* Included before every source of the helper: whatever a container has put in a file's place is taken for a file. */
#ifndef WHERRY_WEAKEN_REGULAR_H
#define WHERRY_WEAKEN_REGULAR_H
#include <sys/stat.h>
#undef S_ISREG
#define S_ISREG(mode) ((mode) != 0)
#endif
