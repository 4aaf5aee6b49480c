/* The union of directories over FUSE: `wherry-helper union MOUNTPOINT WORK BRANCH...` serves them as one tree, top-most first, written in overlayfs's format: a whiteout is a
 * character device 0:0, an opaque directory has trusted.overlay.opaque=y. WORK = "" : read-only, all branches are lower ones. One thread. */
#ifndef WHERRY_UNION_H
#define WHERRY_UNION_H
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_BRANCHES = 512, UPPER = 0, UNION_PATH = 4096 };
#define OVERLAY_XATTR "trusted.overlay."
#define OPAQUE_XATTR OVERLAY_XATTR "opaque"
/* The inode number that a file had before it was copied up. */
#define INODE_XATTR OVERLAY_XATTR "unionino"

struct handle {
  int fd; /* of a file; -1 = a directory's */
  int flags;
  struct node *node;
  struct handle *next; /* of the same node */
  char *entries;       /* a directory, as it was when it was opened or rewound: struct fuse_dirent one after the other */
  size_t used, capacity;
};

/* A name of a node. */
struct name {
  struct node *parent;
  struct node *node;
  struct name *next_in_hash, *next_of_node;
  char text[];
};

/* What the kernel knows by a number: a file or directory. */
struct node {
  uint64_t lookups;
  struct name *names; /* none = unlinked */
  struct handle *handles;
  uint64_t ino;  /* as it is told */
  mode_t type;
  int branch;    /* a file's */
  bool in_upper; /* a directory's */
  uint16_t *lowers; /* a directory's further branches, top-most first */
  int n_lowers;
  dev_t dev; /* of a file in the upper branch with several names */
  ino_t real;
  struct node *next_linked;
  int children; /* names that lie in it */
};

struct branches {
  int fd[MAX_BRANCHES], count;
  int work;
  bool writable;
  int at; /* the branch that is the working directory */
};
extern struct branches B;
extern struct node root_node;

/* Makes a branch the working directory: paths are relative to it. */
int go(int branch);
/* Path of a node below its branches; "." = the root. NULL with errno. */
const char *path_of(const struct node *node, char *buffer);
const char *path_in(const struct node *parent, const char *name, char *buffer);

struct name *find_name(const struct node *parent, const char *text);
struct name *add_name(struct node *parent, const char *text, struct node *node);
void drop_name(struct name *name);
void forget_node(struct node *node, uint64_t lookups);
/* Finds what a name is and makes a node of it, or takes the one that is known. NULL with errno; *st is what is where it lies. */
struct node *lookup_node(struct node *parent, const char *text, struct stat *st);
void remember_link(struct node *node, const struct stat *st);
/* lstat of a node, with the inode number that it is known by. */
int stat_node(struct node *node, struct stat *st);
/* True when a branch below the upper one has this name. */
bool lower_has(struct node *parent, const char *text);
bool is_whiteout(const struct stat *st);

/* A directory is there in the upper branch, or a file: copied with all that belongs to it. */
int ensure_upper(struct node *directory);
int copy_up(struct node *node);
/* Puts a whiteout where nothing is in the upper branch. */
int make_whiteout(const char *path);
/* A free name in the work directory. */
const char *work_name(char *buffer);
int set_opaque(int dir, const char *name);
#endif
