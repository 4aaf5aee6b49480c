#include "roles.h"
#include <unistd.h>
_Noreturn void tree_main(uint32_t id, const char *root, const char *s) { (void)id; (void)root; (void)s; _exit(1); }
