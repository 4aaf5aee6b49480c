/* The stub's first words to the daemon. They can be said before libc has started: libc asks the processor what it is by CPUID some forty times, and in a
 * virtual machine each asks the hypervisor, a millisecond in all. The daemon works meanwhile.
 *
 * So there is nothing here but system calls: no libc (not even memcpy, which is chosen at its start), no errno, no stack protector, no table of pointers
 * (which would have to be relocated first). */
#include "hello.h"
#include "stub.h"
#include "sys.h"
#include "wire.h"

#include <asm/termbits.h>
#include <linux/limits.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifdef WHERRY_EARLY
#pragma GCC optimize("no-tree-loop-distribute-patterns", "no-stack-protector")
#endif

enum { HELLO_VERSION = 1, KERNEL_SIGSET = 8 };

/* The result, or -errno. */
#ifdef __x86_64__
static long call(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}
#else
static long call(long number, long a, long b, long c, long d) {
  long result = syscall(number, a, b, c, d);
  return result < 0 ? -errno : result;
}
#endif
static long send_to(int socket, const void *data, size_t n) {
#ifdef __x86_64__
  struct iovec part = {(void *)data, n};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  return call(SYS_sendmsg, socket, (long)&message, MSG_NOSIGNAL, 0);
#else
  long done = send(socket, data, n, MSG_NOSIGNAL);
  return done < 0 ? -errno : done;
#endif
}

static size_t length_of(const char *text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}

int connect_to(const char *directory, const char *name) {
  struct sockaddr_un address;
  size_t n = length_of(directory), m = length_of(name);
  if (n + 1 + m >= sizeof address.sun_path) return -1;
  address.sun_family = AF_UNIX;
  for (size_t i = 0; i < n; i++) address.sun_path[i] = directory[i];
  address.sun_path[n] = '/';
  for (size_t i = 0; i <= m; i++) address.sun_path[n + 1 + i] = name[i];
  int fd = (int)call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
  if (fd < 0) return -1;
  if (call(SYS_connect, fd, (long)&address, (long)(offsetof(struct sockaddr_un, sun_path) + n + 1 + m + 1), 0) == 0) return fd;
  call(SYS_close, fd, 0, 0, 0);
  return -1;
}

void hand_over_descriptors(const char *directory, char token[TOKEN + 1]) {
  uint8_t random[TOKEN / 2];
  token[0] = 0;
  int fd = connect_to(directory, "fd.sock");
  if (fd < 0 || call(SYS_getrandom, (long)random, sizeof random, 0, 0) != sizeof random) return;
  char text[TOKEN];
  for (int i = 0; i < TOKEN; i++) {
    int digit = (i % 2 ? random[i / 2] : random[i / 2] >> 4) & 15;
    text[i] = (char)(digit < 10 ? '0' + digit : 'a' + digit - 10);
  }
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(3 * sizeof(int))];
  } control;
  struct iovec part = {text, TOKEN};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN(3 * sizeof(int));
  int *descriptors = (int *)(void *)CMSG_DATA(&control.head);
  for (int i = 0; i < 3; i++) descriptors[i] = i;
  if (call(SYS_sendmsg, fd, (long)&message, MSG_NOSIGNAL, 0) != TOKEN) {
    call(SYS_close, fd, 0, 0, 0);
    return;
  }
  for (int i = 0; i < TOKEN; i++) token[i] = text[i];
  token[TOKEN] = 0;
}

struct winsize window(void) {
  struct winsize size;
  for (int fd = 0; fd < 3; fd++)
    if (call(SYS_ioctl, fd, TIOCGWINSZ, (long)&size, 0) == 0 && size.ws_row > 0) return size;
  size.ws_row = size.ws_col = size.ws_xpixel = size.ws_ypixel = 0;
  return size;
}

/* The hello is measured first (no `data`) and written second, by the same code. */
struct builder {
  uint8_t *data;
  size_t n;
};
static void add(struct builder *b, const void *data, size_t n) {
  if (b->data)
    for (size_t i = 0; i < n; i++) b->data[b->n + i] = ((const uint8_t *)data)[i];
  b->n += n;
}
static void add_u32(struct builder *b, uint32_t v) {
  uint8_t bytes[4];
  put_u32(bytes, v);
  add(b, bytes, sizeof bytes);
}
static void add_str(struct builder *b, const char *text) {
  size_t n = length_of(text);
  add_u32(b, (uint32_t)n);
  add(b, text, n);
}
static void add_list(struct builder *b, char **list) {
  uint32_t n = 0;
  while (list[n]) n++;
  add_u32(b, n);
  for (uint32_t i = 0; i < n; i++) add_str(b, list[i]);
}

static bool is_terminal(int fd) {
  struct termios settings;
  return call(SYS_ioctl, fd, TCGETS, (long)&settings, 0) == 0;
}

size_t build_hello(uint8_t *to, const char *token, char **argv, char **envp) {
  static char cwd[PATH_MAX];
  struct builder b = {to, STUB_HEAD};
  struct winsize size = window();
  uint8_t bits = (uint8_t)((is_terminal(0) ? 1 : 0) | (is_terminal(1) ? 2 : 0) | (is_terminal(2) ? 4 : 0));
  uint8_t dimensions[5] = {bits, (uint8_t)size.ws_row, (uint8_t)(size.ws_row >> 8), (uint8_t)size.ws_col, (uint8_t)(size.ws_col >> 8)};
  uint32_t mask = (uint32_t)call(SYS_umask, 0, 0, 0, 0);
  call(SYS_umask, (long)mask, 0, 0, 0);
  /* The kernel's answer does not begin with "/" where we cannot see the root. */
  if (call(SYS_getcwd, (long)cwd, sizeof cwd, 0, 0) <= 0 || cwd[0] != '/') cwd[0] = '/', cwd[1] = 0;
  add_u32(&b, HELLO_VERSION);
  add_str(&b, token);
  add(&b, dimensions, sizeof dimensions);
  add_u32(&b, mask);
  add_str(&b, cwd);
  add_list(&b, argv);
  add_list(&b, envp);
  if (to) {
    to[0] = HELLO;
    put_u32(to + 1, (uint32_t)(b.n - STUB_HEAD));
  }
  return b.n;
}

void send_all(int socket, const uint8_t *data, size_t n) {
  while (n > 0) {
    long done = send_to(socket, data, n);
    if (done == -EINTR) continue;
    if (done <= 0) return; /* the receiving side will tell */
    data += done;
    n -= (size_t)done;
  }
}

/* --- before libc */

static struct early early = {.socket = -1};

const struct early *early_hello(void) { return early.socket >= 0 ? &early : NULL; }

#ifdef WHERRY_EARLY
static uint8_t frame[64 << 10];
static char self[PATH_MAX], directory[PATH_MAX];

static const char *after(const char *text, const char *prefix) {
  while (*prefix)
    if (*text++ != *prefix++) return NULL;
  return text;
}

static bool ends_with(const char *text, size_t n, const char *end) {
  size_t m = length_of(end);
  return n >= m && after(text + n - m, end) == text + n;
}

/* The last one counts, as in getenv(3) there is but one. */
static const char *environment(char **envp, const char *name) {
  for (; *envp; envp++) {
    const char *value = after(*envp, name);
    if (value && *value) return value;
  }
  return NULL;
}

/* What there is to say when this is `wherry COMMAND…` and nothing is out of the ordinary; else the same is done, or something else, after libc's start. */
__attribute__((used)) void say_early(long *stack) {
  int argc = (int)stack[0];
  char **argv = (char **)(stack + 1), **envp = argv + argc + 1;
  if (argc < 2 || argv[1][0] == '-') return;
  size_t n = length_of(argv[0]);
  if (!(ends_with(argv[0], n, "/wherry") || (n == 6 && ends_with(argv[0], n, "wherry")))) return;
  long m = call(SYS_readlink, (long)"/proc/self/exe", (long)self, sizeof self, 0);
  if (m <= 0 || !ends_with(self, (size_t)m, "/wherry")) return;
  for (int fd = 0; fd < 3; fd++)
    if (call(SYS_fcntl, fd, F_GETFD, 0, 0) < 0) return;
  const char *host = environment(envp, "WHERRY_HOST=");
  if (!host) host = environment(envp, "DOCKER_HOST=");
  const char *path = host ? after(host, "unix://") : "/run/wherry/wherry.sock";
  if (!path || length_of(path) >= sizeof directory) return;
  size_t slash = SIZE_MAX;
  for (size_t i = 0; path[i]; i++) {
    directory[i] = path[i];
    if (path[i] == '/') slash = i;
  }
  if (slash == SIZE_MAX) return;
  directory[slash] = 0;
  static const char longest[TOKEN + 1] = "................................";
  if (build_hello(NULL, longest, argv, envp) > sizeof frame) return;
  int socket = connect_to(directory, "cli.sock");
  if (socket < 0) return;
  hand_over_descriptors(directory, early.token);
  size_t length = build_hello(frame, early.token, argv, envp);
  /* From here on a signal is the command's: it waits until we can pass it on. */
  uint64_t signals = 0;
  for (int i = 0; i < 64; i++)
    if (forwards_signal(i)) signals |= 1ull << (i - 1);
  call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&signals, (long)&early.mask, KERNEL_SIGSET);
  send_all(socket, frame, length);
  early.socket = socket;
}

__asm__(
    ".text\n"
    ".globl early_entry\n"
    ".hidden early_entry\n"
    ".type early_entry, @function\n"
    "early_entry:\n"
    "  mov %rsp, %rbx\n"
    "  mov %rdx, %r12\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call say_early\n"
    "  mov %rbx, %rsp\n"
    "  mov %r12, %rdx\n"
    "  jmp _start\n");
#endif

bool forwards_signal(int number) {
  return number == SIGHUP || number == SIGINT || number == SIGQUIT || number == SIGUSR1 || number == SIGUSR2 || number == SIGTERM || number == SIGALRM ||
         number == SIGCONT || number == SIGTSTP || number == SIGWINCH;
}
