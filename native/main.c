#include "roles.h"
#include "sys.h"

#include <string.h>
#include <unistd.h>

/* argv's bytes are where ps(1) reads a title. The strings are copied by whoever needs them later: no role does. */
static void remember_title(int argc, char **argv) {
  title_start = argv[0];
  title_size = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]) + 1;
}

/* `wherry-helper hold`: does nothing until its stdin ends. systemd makes no scope without a process. */
static int hold_main(void) {
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  return 0;
}

/* The file's own name: callers give runtimes other names by links. */
static bool is_runtime(const char *name) {
  static const char own[] = "/wherry-runtime";
  char self[4096];
  if (strcmp(name, own + 1) == 0) return true;
  ssize_t n = readlink("/proc/self/exe", self, sizeof self);
  return n >= (ssize_t)sizeof own && n < (ssize_t)sizeof self && memcmp(self + n - (sizeof own - 1), own, sizeof own - 1) == 0;
}

int main(int argc, char **argv) {
  if (argc < 1) return 125;
  const char *slash = strrchr(argv[0], '/');
  const char *name = slash ? slash + 1 : argv[0];
  if (strcmp(name, "docker-init") == 0) return init_main(argc, argv);
  if (strcmp(name, "wherry-helper") == 0 || strcmp(name, "helper") == 0) {
    if (argc > 1 && strcmp(argv[1], "helper") == 0) {
      remember_title(argc, argv);
      return helper_main(argc, argv);
    }
    if (argc > 1 && strcmp(argv[1], "launch") == 0) return launch_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "hold") == 0) return hold_main();
    if (argc > 1 && strcmp(argv[1], "union") == 0) return union_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--init") == 0) return init_main(argc - 1, argv + 1);
  }
  if (is_runtime(name)) return runtime_main(argc, argv);
  return stub_main(argc, argv);
}
