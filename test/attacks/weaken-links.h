/* Included before every source of the helper: links are followed where they must not be. */
#ifndef WHERRY_WEAKEN_LINKS_H
#define WHERRY_WEAKEN_LINKS_H
#include <fcntl.h>
#undef O_NOFOLLOW
#define O_NOFOLLOW 0
#endif
