#include "union.h"

enum { BUCKETS = 1 << 14 };

struct branches B = {.at = -1};
struct node root_node = {.lookups = 1, .type = S_IFDIR};
static struct name *by_name[BUCKETS];
static struct node *by_inode[BUCKETS];

int go(int branch) {
  if (B.at == branch) return 0;
  if (fchdir(B.fd[branch]) < 0) return B.at = -1, -1;
  return B.at = branch, 0;
}

static size_t hash_of(const struct node *parent, const char *text) {
  uint64_t hash = 1469598103934665603ull ^ (uintptr_t)parent;
  for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 1099511628211ull;
  return (hash ^ (hash >> 29)) % BUCKETS;
}

const char *path_in(const struct node *parent, const char *name, char *buffer) {
  char *at = buffer + UNION_PATH - 1;
  *at = 0;
  for (;;) {
    size_t n = strlen(name);
    if ((size_t)(at - buffer) < n + 1) return errno = ENAMETOOLONG, NULL;
    at -= n;
    memcpy(at, name, n);
    if (parent == &root_node) return at;
    if (!parent->names) return errno = ENOENT, NULL;
    *--at = '/';
    name = parent->names->text;
    parent = parent->names->parent;
  }
}

const char *path_of(const struct node *node, char *buffer) {
  if (node == &root_node) return ".";
  if (!node->names) return errno = ENOENT, NULL;
  return path_in(node->names->parent, node->names->text, buffer);
}

struct name *find_name(const struct node *parent, const char *text) {
  for (struct name *n = by_name[hash_of(parent, text)]; n; n = n->next_in_hash)
    if (n->parent == parent && strcmp(n->text, text) == 0) return n;
  return NULL;
}

struct name *add_name(struct node *parent, const char *text, struct node *node) {
  size_t length = strlen(text) + 1;
  struct name *name = malloc(sizeof *name + length), **bucket = &by_name[hash_of(parent, text)];
  if (!name) return NULL;
  *name = (struct name){parent, node, *bucket, node->names};
  memcpy(name->text, text, length);
  *bucket = node->names = name;
  parent->children++;
  return name;
}

static void forget_link(struct node *node) {
  for (struct node **at = &by_inode[node->real % BUCKETS]; *at; at = &(*at)->next_linked)
    if (*at == node) {
      *at = node->next_linked;
      return;
    }
}

static void free_unused(struct node *node) {
  while (node != &root_node && node->lookups == 0 && node->children == 0 && !node->handles) {
    struct node *parent = node->names ? node->names->parent : NULL;
    struct name *next;
    for (struct name *n = node->names; n; n = next) {
      next = n->next_of_node;
      for (struct name **at = &by_name[hash_of(n->parent, n->text)]; *at; at = &(*at)->next_in_hash)
        if (*at == n) {
          *at = n->next_in_hash;
          break;
        }
      n->parent->children--;
      /* A file's further names may lie elsewhere; their directories go when they are forgotten themselves. */
      free(n);
    }
    if (node->real) forget_link(node);
    free(node->lowers);
    free(node);
    if (!(node = parent)) return;
  }
}

void drop_name(struct name *name) {
  struct node *node = name->node, *parent = name->parent;
  for (struct name **at = &by_name[hash_of(parent, name->text)]; *at; at = &(*at)->next_in_hash)
    if (*at == name) {
      *at = name->next_in_hash;
      break;
    }
  for (struct name **at = &node->names; *at; at = &(*at)->next_of_node)
    if (*at == name) {
      *at = name->next_of_node;
      break;
    }
  free(name);
  parent->children--;
  free_unused(node);
  free_unused(parent);
}

void forget_node(struct node *node, uint64_t lookups) {
  node->lookups -= lookups < node->lookups ? lookups : node->lookups;
  free_unused(node);
}

bool is_whiteout(const struct stat *st) { return S_ISCHR(st->st_mode) && st->st_rdev == 0; }

static bool is_opaque(const char *path) {
  char value;
  return lgetxattr(path, OPAQUE_XATTR, &value, 1) == 1 && value == 'y';
}

static uint64_t told_inode(const char *path, const struct stat *st) {
  uint64_t ino;
  return !S_ISDIR(st->st_mode) && lgetxattr(path, INODE_XATTR, &ino, sizeof ino) == sizeof ino ? ino : st->st_ino;
}

void remember_link(struct node *node, const struct stat *st) {
  if (node->real || S_ISDIR(st->st_mode)) return;
  node->dev = st->st_dev;
  node->real = st->st_ino;
  struct node **bucket = &by_inode[st->st_ino % BUCKETS];
  node->next_linked = *bucket;
  *bucket = node;
}

static struct node *known_link(const struct stat *st) {
  for (struct node *node = by_inode[st->st_ino % BUCKETS]; node; node = node->next_linked)
    if (node->real == st->st_ino && node->dev == st->st_dev) return node;
  return NULL;
}

/* Branches of a directory, top-most first: the upper one (when it is there) and lowers. */
static int branch_at(const struct node *directory, int index) {
  if (directory->in_upper) return index == 0 ? UPPER : directory->lowers[index - 1];
  return directory->lowers[index];
}

static int branches_of(const struct node *directory) { return directory->n_lowers + directory->in_upper; }

struct node *lookup_node(struct node *parent, const char *text, struct stat *st) {
  char buffer[UNION_PATH];
  struct name *known = find_name(parent, text);
  if (known) return stat_node(known->node, st) < 0 ? NULL : known->node;
  const char *path = path_in(parent, text, buffer);
  if (!path) return NULL;
  struct node *node = NULL;
  for (int i = 0; i < branches_of(parent); i++) {
    struct stat here;
    int branch = branch_at(parent, i);
    if (go(branch) < 0) return NULL;
    if (lstat(path, &here) < 0) {
      if (errno == ENOENT || errno == ENOTDIR) continue;
      return NULL;
    }
    if (is_whiteout(&here)) break;
    if (!node) {
      *st = here;
      if (B.writable && branch == UPPER && here.st_nlink > 1 && !S_ISDIR(here.st_mode) && (node = known_link(&here))) break;
      if (!(node = calloc(1, sizeof *node))) return errno = ENOMEM, NULL;
      node->type = here.st_mode & S_IFMT;
      node->branch = branch;
      node->ino = told_inode(path, &here);
      if (B.writable && branch == UPPER) remember_link(node, &here);
      if (!S_ISDIR(here.st_mode)) break;
      if (!(node->lowers = malloc(sizeof *node->lowers * (size_t)B.count))) return free(node), errno = ENOMEM, NULL;
    } else if (!S_ISDIR(here.st_mode)) {
      break;
    }
    if (B.writable && branch == UPPER) node->in_upper = true;
    else node->lowers[node->n_lowers++] = (uint16_t)branch;
    if (is_opaque(path)) break;
  }
  if (!node) return errno = ENOENT, NULL;
  if (!add_name(parent, text, node)) return errno = ENOMEM, NULL;
  st->st_ino = node->ino;
  return node;
}

int stat_node(struct node *node, struct stat *st) {
  char buffer[UNION_PATH];
  const char *path = path_of(node, buffer);
  if (!path) {
    for (struct handle *h = node->handles; h; h = h->next)
      if (h->fd >= 0) return fstat(h->fd, st) < 0 ? -1 : (st->st_ino = node->ino, 0);
    return -1;
  }
  int branch = S_ISDIR(node->type) ? (branches_of(node) > 0 ? branch_at(node, 0) : UPPER) : node->branch;
  if (go(branch) < 0 || lstat(path, st) < 0) return -1;
  st->st_ino = node->ino;
  return 0;
}

bool lower_has(struct node *parent, const char *text) {
  char buffer[UNION_PATH];
  const char *path = path_in(parent, text, buffer);
  for (int i = 0; path && i < parent->n_lowers; i++) {
    struct stat here;
    if (go(parent->lowers[i]) == 0 && lstat(path, &here) == 0) return !is_whiteout(&here);
  }
  return false;
}
