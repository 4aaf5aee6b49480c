/* The launcher: a program of its own for one plan, for a caller that stays no longer than its command (an OCI runtime). Descriptors 0–2 are the
 * caller's own and become the container's; nothing of ours stays with it, unless the caller waits for its end.
 *
 *   wherry-helper launch WAIT PRESERVED     descriptor 3: the engine's socket · 4…: PRESERVED descriptors for the program */
#include "monitor.h"
#include "roles.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

enum { MAX_PRESERVED = 256 };

/* One frame from the engine, whole. */
static int read_frame(uint8_t *frame, size_t max, size_t *length) {
  if (read_full(RELAY_FD, frame, FRAME_HEAD) != FRAME_HEAD) return errno = EPIPE, -1;
  size_t n = get_u32(frame);
  if (n < 5 || n + 4 > max) return errno = EBADMSG, -1;
  if (read_full(RELAY_FD, frame + FRAME_HEAD, n - 5) != (ssize_t)n - 5) return errno = EPIPE, -1;
  *length = n + 4;
  return 0;
}

/* Hands the terminal's master to whoever serves the console socket, under the name that runc gives it. */
static int send_console(const char *path, int master) {
  static char name[] = "/dev/ptmx";
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec part = {name, sizeof name - 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (strlen(path) >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(&control.head), &master, sizeof master);
  int result = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

static int note_start(struct run *run) {
  M.start_time = process_start_time(run->child_pid);
  return 0;
}

/* --- the caller waits: its terminal is the container's */

static struct termios saved_mode;
static bool mode_saved;

static void terminal_raw(void) {
  struct termios raw;
  if (tcgetattr(0, &saved_mode) < 0) return;
  mode_saved = true;
  raw = saved_mode;
  cfmakeraw(&raw);
  tcsetattr(0, TCSANOW, &raw);
}

static void take_control(int master) {
  uint8_t frame[64];
  size_t length;
  uint16_t rows, columns;
  if (read_frame(frame, sizeof frame, &length)) {
    close(RELAY_FD);
    M.run.relay = -1;
    return;
  }
  struct reader payload = {frame + FRAME_HEAD, frame + length};
  if (frame[4] != F_RESIZE || read_u16(&payload, &rows) || read_u16(&payload, &columns) || master < 0) return;
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  ioctl(master, TIOCSWINSZ, &size);
}

/* Copies between our terminal and the container's until the latter has no more to say. */
static void pump(int master) {
  bool input = true;
  for (;;) {
    struct pollfd fds[3] = {{master, POLLIN, 0}, {input ? 0 : -1, POLLIN, 0}, {M.run.relay, POLLIN, 0}};
    if (poll(fds, 3, -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (fds[0].revents) {
      ssize_t n = read(master, chunk, sizeof chunk);
      if (n <= 0 && errno != EINTR) return; /* EIO: nobody has the terminal open */
      if (n > 0 && write_all(1, chunk, (size_t)n)) return;
    }
    if (fds[1].revents) {
      ssize_t n = read(0, chunk, sizeof chunk);
      if (n <= 0) input = false;
      else if (write_all(master, chunk, (size_t)n)) return;
    }
    if (fds[2].revents) take_control(master);
  }
}

static void wait_for_end(struct run *run) {
  int status = 0;
  if (run->streams.out >= 0) {
    terminal_raw();
    pump(run->streams.out);
    if (mode_saved) tcsetattr(0, TCSANOW, &saved_mode);
    close(run->streams.out); /* hangs up whoever is left */
    close(run->streams.in);
  }
  while (waitpid(run->child_pid, &status, 0) < 0 && errno == EINTR) {
  }
  uint8_t payload[8];
  put_u32(payload, (uint32_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)));
  put_u32(payload + 4, (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : 0));
  relay_send(run, F_EXITED, payload, sizeof payload);
}

_Noreturn static void launch(uint32_t id, struct reader payload, bool wait) {
  struct launch l;
  struct plan_facts facts;
  struct run *run = &M.run;
  init_run(run, id, payload);
  if (read_launch(payload, &l)) give_up(run, NO_STEP, EBADMSG);
  init_run(run, id, l.plan);
  if (plan_check(l.plan, &facts) || !facts.clones || facts.gate) give_up(run, NO_STEP, EBADMSG);
  run->streams.tty = l.flags & L_TTY;
  run->streams.rows = l.rows;
  run->streams.columns = l.columns;
  run->stdio_made = true; /* inherited: they become the user's, as those that we make */
  run->on_cloned = note_start;
  if (run_steps(run) < 0) give_up(run, (int)run->index, errno);
  if (run_release(run) < 0) {
    if (run->child_step == NO_STEP) run->child_step = (int)run->index, run->child_errno = errno;
    give_up(run, run->child_step, run->child_errno);
  }
  /* The FIFO among them: whoever asks whether the program waits for its byte would see us. */
  sys_close_range(SLOT_BASE, SLOT_BASE + MAX_SLOTS - 1, 0);
  if (l.socket_path.n > 0 && run->streams.out >= 0 && send_console(l.socket_path.p, run->streams.out) < 0) give_up(run, NO_STEP, errno);
  uint8_t answer[16];
  put_u32(answer, (uint32_t)getpid());
  put_u32(answer + 4, (uint32_t)run->child_pid);
  put_u64(answer + 8, M.start_time);
  relay_send(run, F_LAUNCHED, answer, sizeof answer);
  if (wait) wait_for_end(run);
  _exit(0);
}

int launch_main(int argc, char **argv) {
  if (argc < 4) return 125;
  seal(argv);
  int preserved = atoi(argv[3]);
  bool wait = strcmp(argv[2], "wait") == 0;
  if (preserved < 0 || preserved > MAX_PRESERVED) return 125;
  for (int i = 0; i < preserved; i++)
    if (dup3(RELAY_FD + 1 + i, PRESERVED_BASE + i, O_CLOEXEC) < 0) return 125;
  sys_close_range(RELAY_FD + 1, PRESERVED_BASE - 1, 0);
  sys_close_range((unsigned)(PRESERVED_BASE + preserved), ~0u, 0);
  fcntl(RELAY_FD, F_SETFD, FD_CLOEXEC);
  fcntl(RELAY_FD, F_SETFL, 0);
  signals_default();
  static const int ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGTSTP};
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  umask(0);
  size_t length;
  uint8_t *frame = mmap(NULL, MAX_FRAME + 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (frame == MAP_FAILED || read_frame(frame, MAX_FRAME + 4, &length)) return 125;
  struct reader payload = {frame + FRAME_HEAD, frame + length};
  uint32_t id = get_u32(frame + 5);
  if (frame[4] == F_CALL) call_main(id, payload);
  if (frame[4] == F_LAUNCH) launch(id, payload, wait);
  return 125;
}

/* --- operations that only such launches have a use for */

int do_engine_gate(struct run *run, const struct op_engine_gate *op) {
  (void)op;
  uint8_t payload[4], answer[FRAME_HEAD];
  put_u32(payload, (uint32_t)run->child_pid);
  if (relay_send(run, F_LISTENING, payload, sizeof payload)) return -1;
  ssize_t n;
  do n = recv(run->relay, answer, sizeof answer, MSG_WAITALL);
  while (n < 0 && errno == EINTR);
  return n == sizeof answer ? 0 : (errno = ECANCELED, -1);
}

int do_exec_gate(struct run *run, const struct op_exec_gate *op) {
  const uint8_t *at = op->paths.p;
  int error = ENOENT;
  bool found = false;
  for (uint32_t i = 0; i < op->paths.count && !found; i++) {
    const char *path = strs_next(&at);
    struct stat st;
    if (faccessat(AT_FDCWD, path, X_OK, 0) == 0) {
      found = stat(path, &st) < 0 || !S_ISDIR(st.st_mode);
      if (!found) error = EACCES;
    } else if (errno == EACCES) {
      error = EACCES;
    } else if (errno != ENOENT && errno != ENOTDIR) {
      found = true; /* a filter may refuse the question: exec will tell */
    }
  }
  if (!found) return errno = error, -1;
  if (!run->go && ctl_send(run, CTL_READY, 0, 0, NULL, 0) < 0) return -1;
  while (!run->go)
    if (run_pump(run, true) < 0) return -1;
  /* From here on it lives without its launcher. */
  if (prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) < 0) return -1;
  if (ctl_send(run, CTL_EXEC, 0, 0, NULL, 0) < 0) return -1;
  close(run->ctl);
  run->ctl = -1;
  if (op->fifo == NO_SLOT) return 0;
  char go;
  ssize_t n;
  do n = read(SLOT_BASE + (int)op->fifo, &go, 1);
  while (n < 0 && errno == EINTR);
  return n == 1 ? 0 : -1;
}

/* A NULL-terminated vector over a list of the plan. */
static char **hook_vector(const struct strs *list) {
  char **v = mmap(NULL, ((size_t)list->count + 1) * sizeof(char *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (v == MAP_FAILED) return NULL;
  const uint8_t *at = list->p;
  for (uint32_t i = 0; i < list->count; i++) v[i] = (char *)strs_next(&at);
  return v;
}

/* A hook gets neither our descriptors nor the signals that we ignore. */
_Noreturn static void run_hook(const char *path, char **argv, char **envp, int in) {
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (dup2(in, 0) < 0) _exit(126);
  sys_close_range(3, ~0u, W_CLOSE_RANGE_CLOEXEC);
  struct sigaction plain = {.sa_handler = SIG_DFL};
  for (int signal = 1; signal < NSIG; signal++) sigaction(signal, &plain, NULL);
  execve(path, argv, envp);
  _exit(errno == ENOENT ? 127 : 126);
}

int do_hook(struct run *run, const struct op_hook *op) {
  int in[2], status = 0, pidfd = -1;
  char **argv = hook_vector(&op->argv), **envp = hook_vector(&op->envp);
  if (!argv || !envp || pipe2(in, O_CLOEXEC) < 0) return -1;
  char digits[24], *end = digits;
  if (op->tail.n > 0) end = put_decimal(digits, (uint64_t)(run->child ? getpid() : run->child_pid));
  /* Ignored, the kernel would reap it, and its status would be lost. */
  if (!run->child) signal(SIGCHLD, SIG_DFL);
  pid_t pid = sys_clone(0, -1, &pidfd);
  if (pid == 0) run_hook(op->path.p, argv, envp, in[0]);
  close(in[0]);
  if (pid < 0) {
    int saved = errno;
    close(in[1]);
    return errno = saved, -1;
  }
  /* A hook that does not read its state is no failure. */
  bool written = write_all(in[1], op->head.p, op->head.n) == 0 && write_all(in[1], digits, (size_t)(end - digits)) == 0 && write_all(in[1], op->tail.p, op->tail.n) == 0;
  (void)written;
  close(in[1]);
  struct pollfd wait = {pidfd, POLLIN, 0};
  int ready = pidfd < 0 ? 1 : poll(&wait, 1, op->timeout_ms == 0 ? -1 : (int)op->timeout_ms);
  if (ready == 0) kill(pid, SIGKILL);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (pidfd >= 0) close(pidfd);
  if (ready == 0) return errno = ETIMEDOUT, -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  return errno = WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : ECANCELED, -1;
}

int do_preserve_fds(struct run *run, const struct op_preserve_fds *op) {
  if (op->count > MAX_PRESERVED) return errno = EINVAL, -1;
  run->ctl = fd_high(run->ctl);
  for (uint32_t i = 0; i < op->count; i++)
    if (dup2(PRESERVED_BASE + (int)i, 3 + (int)i) < 0) return -1;
  return 0;
}
