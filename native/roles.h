/* One program, several roles; main.c chooses by name. */
#ifndef WHERRY_ROLES_H
#define WHERRY_ROLES_H
#include "wire.h"

int helper_main(int argc, char **argv);
/* Performs one plan for a caller that does not stay. */
int launch_main(int argc, char **argv);
/* Executes this program anew from a sealed copy in memory, unless it runs from one. */
void seal(char **argv);
int stub_main(int argc, char **argv);
/* A union of directories over FUSE; see union.h. */
int union_main(int argc, char **argv);
/* `wherry-runtime`, the OCI command: starts Node with it. */
int runtime_main(int argc, char **argv);
/* `docker-init -- COMMAND…`: a small pid 1. */
int init_main(int argc, char **argv);
/* File work below one directory, for one engine connection. Runs in a process forked by the helper. With a plan (not empty), its steps are performed
 * first and leave the directory in slot 0: the root of a container, which may change its tree at any moment (see tree.h, guarded). */
_Noreturn void tree_main(uint32_t id, const char *root, const char *socket_path, struct reader plan);
#endif
