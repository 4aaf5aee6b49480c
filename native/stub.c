/* `wherry`: hands the command line, its surroundings and its descriptors to the warm daemon, and is its hands at the terminal until it answers an
 * exit code. Node takes 30–110 ms to start; this takes one. docs/stub-protocol.md has the bytes. */
#include "roles.h"
#include "hello.h"
#include "stub.h"
#include "wire.h"
#include "sys.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

extern char **environ;

enum { BUFFER = 64 << 10 };

static struct {
  int socket;
  char token[TOKEN + 1];
  uint8_t in[BUFFER];
  size_t start, end;
  uint32_t output_left; /* of the STDOUT or STDERR frame that is being written */
  int output_fd;
  uint32_t credit; /* bytes of stdin that the daemon wants */
  bool stdin_ended, raw;
  struct termios terminal;
} S;

static void say(const char *text) {
  ssize_t ignored = write(2, text, strlen(text));
  (void)ignored;
}

/* --- finding the daemon */

const char *environment_host(void) {
  const char *host = getenv("WHERRY_HOST");
  if (!host || !*host) host = getenv("DOCKER_HOST");
  return host && *host ? host : NULL;
}

/* The host that the command line or the environment names; NULL = the default. */
static const char *named_host(int argc, char **argv) {
  for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
    if (strncmp(argv[i], "--host=", 7) == 0) return argv[i] + 7;
    if (strcmp(argv[i], "--host") == 0 || strcmp(argv[i], "-H") == 0) return i + 1 < argc ? argv[i + 1] : "";
    if (strncmp(argv[i], "-H", 2) == 0) return argv[i][2] == '=' ? argv[i] + 3 : argv[i] + 2;
    /* The other global options with a value of their own. */
    static const char *const valued[] = {"-c", "--context", "-l", "--log-level", "--config", "--tlscacert", "--tlscert", "--tlskey"};
    for (size_t k = 0; k < sizeof valued / sizeof *valued; k++)
      if (strcmp(argv[i], valued[k]) == 0) {
        i++;
        break;
      }
  }
  return environment_host();
}

/* The directory of the daemon's sockets; nonzero when the host is not a unix socket. */
int socket_directory(const char *host, char directory[PATH_MAX]) {
  if (!host) host = "unix:///run/wherry/wherry.sock";
  if (strncmp(host, "unix://", 7) != 0 || strlen(host) >= PATH_MAX) return -1;
  strcpy(directory, host + 7);
  char *slash = strrchr(directory, '/');
  if (!slash) return -1;
  *slash = 0;
  return 0;
}

/* --- the command line in a Node of its own */

_Noreturn static void run_in_node(const char *program, int argc, char **argv) {
  char self[PATH_MAX], script[PATH_MAX + 16];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n > 0) {
    self[n] = 0;
    for (int up = 0; up < 2; up++) {
      char *slash = strrchr(self, '/');
      if (slash) *slash = 0;
    }
  }
  if (n <= 0 || (size_t)snprintf(script, sizeof script, "%s/%s", self, program) >= sizeof script || access(script, R_OK) < 0) {
    fprintf(stderr, "wherry: the program %s is missing beside this one: build or install wherry again\n", program);
    exit(LOST);
  }
  /* It costs every start of Node 60 ms; clients of registries find it under the other name. */
  const char *certificates = getenv("NODE_EXTRA_CA_CERTS");
  if (certificates && *certificates) setenv("WHERRY_EXTRA_CA_CERTS", certificates, 1);
  unsetenv("NODE_EXTRA_CA_CERTS");
  const char *node = getenv("WHERRY_NODE");
  if (!node || !*node) node = "node";
  char **args = calloc((size_t)argc + 2, sizeof *args);
  if (!args) exit(LOST);
  args[0] = (char *)node;
  args[1] = script;
  for (int i = 1; i < argc; i++) args[i + 1] = argv[i];
  execvp(node, args);
  fprintf(stderr, "wherry: cannot run %s: %s\n", node, strerror(errno));
  exit(LOST);
}

/* --- the terminal */

static void set_raw(bool on) {
  struct termios raw;
  if (on == S.raw && !on) return;
  if (!on) {
    tcsetattr(0, TCSADRAIN, &S.terminal);
    S.raw = false;
    return;
  }
  if (!S.raw && tcgetattr(0, &S.terminal) < 0) return;
  raw = S.terminal;
  cfmakeraw(&raw);
  if (tcsetattr(0, TCSADRAIN, &raw) == 0) S.raw = true;
}

/* --- to the daemon */

_Noreturn static void lost(void) {
  set_raw(false);
  say("wherry: the connection to the daemon was lost\n");
  exit(LOST);
}

static void send_bytes(int socket, const void *data, size_t n) {
  const char *p = data;
  while (n > 0) {
    ssize_t done = send(socket, p, n, MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return; /* the receiving side will tell */
    p += done;
    n -= (size_t)done;
  }
}

void send_frame(int socket, uint8_t type, const void *payload, uint32_t n) {
  uint8_t head[STUB_HEAD] = {type};
  put_u32(head + 1, n);
  send_bytes(socket, head, sizeof head);
  send_bytes(socket, payload, n);
}

void send_hello(int socket, const char *token, char **argv) {
  size_t n = build_hello(NULL, token, argv, environ);
  uint8_t *data = malloc(n);
  if (!data) exit(LOST);
  build_hello(data, token, argv, environ);
  send_all(socket, data, n);
  free(data);
}

static void send_window(void) {
  struct winsize size = window();
  uint8_t payload[4] = {(uint8_t)size.ws_row, (uint8_t)(size.ws_row >> 8), (uint8_t)size.ws_col, (uint8_t)(size.ws_col >> 8)};
  send_frame(S.socket, WINCH, payload, sizeof payload);
}

static void send_signal(int number) {
  uint8_t payload[4];
  put_u32(payload, (uint32_t)number);
  send_frame(S.socket, SIGNAL, payload, sizeof payload);
}

/* --- the conversation */

static void take_signal(int signals) {
  struct signalfd_siginfo info;
  if (read(signals, &info, sizeof info) != sizeof info) return;
  int number = (int)info.ssi_signo;
  if (number == SIGWINCH) {
    send_window();
    return;
  }
  send_signal(number);
  if (number == SIGTSTP) {
    bool raw = S.raw;
    set_raw(false);
    raise(SIGSTOP);
    if (raw) set_raw(true);
    send_window();
  }
}

static void read_stdin(void) {
  uint8_t data[16 << 10];
  size_t want = S.credit < sizeof data ? S.credit : sizeof data;
  ssize_t n = read(0, data, want);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    S.stdin_ended = true;
    send_frame(S.socket, STDIN_EOF, NULL, 0);
    return;
  }
  S.credit -= (uint32_t)n;
  send_frame(S.socket, STDIN, data, (uint32_t)n);
}

/* Nobody reads our output any more: end as every other program does. */
_Noreturn static void output_closed(void) {
  set_raw(false);
  signal(SIGPIPE, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, SIGPIPE);
  sigprocmask(SIG_UNBLOCK, &only, NULL);
  raise(SIGPIPE);
  exit(128 + SIGPIPE);
}

/* Writes a piece that cannot block (poll has said that there is room), so that signals are heard even while output is stuck. */
static void write_output(void) {
  size_t n = S.end - S.start;
  if (n > S.output_left) n = S.output_left;
  if (n > PIPE_BUF) n = PIPE_BUF;
  ssize_t done = write(S.output_fd, S.in + S.start, n);
  if (done < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (done < 0 && errno == EPIPE) output_closed();
  if (done < 0) done = (ssize_t)n; /* a full disk, a closed descriptor: the daemon goes on, the bytes are lost */
  S.start += (size_t)done;
  S.output_left -= (uint32_t)done;
}

/* Handles complete frames in the buffer, up to one whose bytes have to be written first. */
static void take_frames(int argc, char **argv) {
  while (S.output_left == 0 && S.end - S.start >= STUB_HEAD) {
    const uint8_t *frame = S.in + S.start;
    uint8_t type = frame[0];
    uint32_t length = get_u32(frame + 1);
    if (type == STDOUT || type == STDERR) {
      S.start += STUB_HEAD;
      S.output_left = length;
      S.output_fd = type == STDOUT ? 1 : 2;
      continue;
    }
    if (length > 64) lost();
    if (S.end - S.start < STUB_HEAD + length) return;
    S.start += STUB_HEAD + length;
    const uint8_t *payload = frame + STUB_HEAD;
    if (type == READ_STDIN && length == 4) {
      uint32_t more = get_u32(payload);
      S.credit = more > UINT32_MAX - S.credit ? UINT32_MAX : S.credit + more;
    } else if (type == RAW && length == 1) {
      set_raw(payload[0] != 0);
    } else if (type == EXIT && length == 1) {
      set_raw(false);
      exit(payload[0]);
    } else if (type == EXEC_NODE) {
      set_raw(false);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, NULL);
      signal(SIGPIPE, SIG_DFL);
      run_in_node("cli.cjs", argc, argv);
    }
  }
}

static void converse(int signals, int argc, char **argv) {
  for (;;) {
    take_frames(argc, argv);
    if (S.start == S.end) S.start = S.end = 0;
    bool writing = S.output_left > 0 && S.end > S.start;
    if (!writing && S.start > 0) {
      memmove(S.in, S.in + S.start, S.end - S.start);
      S.end -= S.start;
      S.start = 0;
    }
    struct pollfd fds[4] = {
        {signals, POLLIN, 0},
        {S.end < BUFFER ? S.socket : -1, POLLIN, 0},
        {S.credit > 0 && !S.stdin_ended ? 0 : -1, POLLIN, 0},
        {writing ? S.output_fd : -1, POLLOUT, 0},
    };
    if (poll(fds, 4, -1) < 0) {
      if (errno == EINTR) continue;
      lost();
    }
    if (fds[0].revents) take_signal(signals);
    if (fds[3].revents) write_output();
    if (fds[1].revents) {
      ssize_t n = recv(S.socket, S.in + S.end, BUFFER - S.end, MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        /* What has come is still written: it may be many frames, and the last one the exit code. */
        for (size_t before = SIZE_MAX; S.end > S.start && S.start != before;) {
          before = S.start;
          take_frames(argc, argv);
          while (S.output_left > 0 && S.end > S.start) write_output();
        }
        lost();
      }
      if (n > 0) S.end += (size_t)n;
    }
    if (fds[2].revents) read_stdin();
  }
}

/* Becomes Node where there is no daemon. */
static void connect_daemon(int argc, char **argv) {
  char directory[PATH_MAX];
  /* A program may be started with descriptors closed; they must not become our sockets. */
  for (int fd = 0; fd < 3; fd++)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) < 0) exit(LOST);
  if (socket_directory(named_host(argc, argv), directory)) run_in_node("cli.cjs", argc, argv);
  hand_over_descriptors(directory, S.token);
  S.socket = connect_to(directory, "cli.sock");
  if (S.socket < 0) run_in_node("cli.cjs", argc, argv);
}

int stub_main(int argc, char **argv) {
  const struct early *early = early_hello();
  sigset_t mask, others;
  sigemptyset(&others);
  if (early) {
    S.socket = early->socket;
    memcpy(S.token, early->token, sizeof S.token);
    for (int number = 1; number < 64; number++)
      if (early->mask >> (number - 1) & 1) sigaddset(&others, number);
  } else {
    connect_daemon(argc, argv);
    sigprocmask(SIG_BLOCK, NULL, &others);
  }
  sigemptyset(&mask);
  for (int number = 1; number < NSIG; number++) {
    /* nohup and the like: what the caller ignores stays ignored. */
    struct sigaction old;
    if (!forwards_signal(number)) continue;
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN && number != SIGWINCH && number != SIGCONT) continue;
    sigaddset(&mask, number);
    sigaddset(&others, number);
  }
  sigprocmask(SIG_SETMASK, &others, NULL);
  signal(SIGPIPE, SIG_IGN);
  int signals = signalfd(-1, &mask, SFD_CLOEXEC);
  if (!early) send_hello(S.socket, S.token, argv);
  converse(signals, argc, argv);
  return LOST;
}

/* `wherry-runtime`: an OCI runtime is called by programs that go away meanwhile. Go's start their children with PDEATHSIG, which strikes when the thread
 * that did so ends: a `delete` would be killed half way. And containerd's shim may stand in a directory that is gone, where Node does not start. */
int runtime_main(int argc, char **argv) {
  char here[PATH_MAX];
  prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  if (!getcwd(here, sizeof here) && chdir("/") < 0) return LOST;
  run_warm(argv);
  run_in_node("runtime.cjs", argc, argv);
}
