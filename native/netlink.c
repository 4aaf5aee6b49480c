/* Messages to the kernel's netlink families and to services on unix sockets, and device programs for cgroup v2: bytes made by the engine, sent as they are. */
#include "path.h"
#include "plan.h"
#include "monitor.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* Waits for `acks` acknowledgements; the first error is the answer. */
static int read_acks(int fd, int acks) {
  _Alignas(struct nlmsghdr) char buffer[8192];
  while (acks > 0) {
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    struct nlmsghdr *head = (struct nlmsghdr *)buffer;
    for (; NLMSG_OK(head, (size_t)n); head = NLMSG_NEXT(head, n)) {
      if (head->nlmsg_type != NLMSG_ERROR || head->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr))) continue;
      int error = ((struct nlmsgerr *)NLMSG_DATA(head))->error;
      if (error != 0) return errno = -error, -1;
      acks--;
    }
  }
  return 0;
}

/* Length and flags of the message at `p`; nonzero when it does not fit. */
static int message_at(const uint8_t *p, size_t rest, size_t *length, bool *acked) {
  struct nlmsghdr head;
  if (rest < sizeof head) return -1;
  memcpy(&head, p, sizeof head);
  if (head.nlmsg_len < sizeof head || head.nlmsg_len > rest) return -1;
  *length = NLMSG_ALIGN(head.nlmsg_len) > rest ? rest : NLMSG_ALIGN(head.nlmsg_len);
  *acked = head.nlmsg_flags & NLM_F_ACK;
  return 0;
}

static int send_bytes(int fd, const void *data, size_t n) {
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  return sendto(fd, data, n, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0 ? -1 : 0;
}

/* One by one, because some messages work on what the one before has made; a netfilter batch is one transaction in one datagram. */
static int converse(int fd, const struct bytes *messages, bool batch) {
  const uint8_t *p = messages->p;
  size_t rest = messages->n;
  int acks = 0;
  while (rest > 0) {
    size_t length;
    bool acked;
    if (message_at(p, rest, &length, &acked)) return errno = EBADMSG, -1;
    if (batch) acks += acked;
    else if (send_bytes(fd, p, length) < 0 || read_acks(fd, acked ? 1 : 0) < 0) return -1;
    p += length;
    rest -= length;
  }
  if (!batch || messages->n == 0) return 0;
  return send_bytes(fd, messages->p, messages->n) < 0 ? -1 : read_acks(fd, acks);
}

int do_netlink(struct run *run, const struct op_netlink *op) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)op->protocol);
  if (fd < 0) return -1;
  int on = 1;
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on); /* errors without a copy of the request */
  bool batch = op->protocol == NETLINK_NETFILTER;
  int room = 2 * MAX_STRING; /* a batch is one datagram, and the default buffer holds 200 KiB */
  if (batch) setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  int result = converse(fd, &op->messages, batch);
  /* Closing waits until the kernel has freed what the transaction took away, 5 to 20 ms: for one that ends anyway to do when it has answered. */
  if (batch && run->call) return result;
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

/* What the kernel sends in one piece is 32 KiB at most. */
enum { DUMP_PIECE = 64 << 10 };

/* 1: the answer goes on; 0: this was the end of it. What comes before the message that says so is reported. */
static int dump_piece(struct run *run, uint32_t tag, uint8_t *piece, size_t n) {
  size_t at = 0;
  struct nlmsghdr head;
  while (n - at >= sizeof head) {
    memcpy(&head, piece + at, sizeof head);
    if (head.nlmsg_len < sizeof head || head.nlmsg_len > n - at) return errno = EBADMSG, -1;
    bool ends = head.nlmsg_type == NLMSG_DONE || head.nlmsg_type == NLMSG_ERROR;
    int error = 0;
    if (ends && head.nlmsg_len >= sizeof head + sizeof error) memcpy(&error, piece + at + sizeof head, sizeof error);
    if (error < 0) return errno = -error, -1;
    if (head.nlmsg_flags & NLM_F_DUMP_INTR) return errno = EINTR, -1;
    if (ends) return at > 0 && send_report(run, tag, false, piece, at) < 0 ? -1 : 0;
    size_t step = NLMSG_ALIGN(head.nlmsg_len);
    at = step > n - at ? n : at + step;
  }
  return send_report(run, tag, false, piece, at) < 0 ? -1 : 1;
}

int do_netlink_dump(struct run *run, const struct op_netlink_dump *op) {
  static uint8_t piece[DUMP_PIECE];
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)op->protocol), more = 1;
  if (fd < 0) return -1;
  if (send_bytes(fd, op->message.p, op->message.n) < 0) more = -1;
  while (more > 0) {
    ssize_t n = recv(fd, piece, sizeof piece, MSG_TRUNC);
    if (n < 0 && errno == EINTR) continue;
    if (n > (ssize_t)sizeof piece) errno = EMSGSIZE, n = -1;
    more = n < 0 ? -1 : dump_piece(run, op->tag, piece, (size_t)n);
  }
  int saved = errno;
  close(fd);
  errno = saved;
  return more;
}

/* A service that reads nothing holds a worker for so long at most. */
enum { DATAGRAM_SECONDS = 5 };

int do_datagrams(struct run *run, const struct op_datagrams *op) {
  (void)run;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct timeval limit = {.tv_sec = DATAGRAM_SECONDS};
  if (op->path.n >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  strcpy(address.sun_path, op->path.p);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  int result = connect(fd, (struct sockaddr *)&address, sizeof address);
  struct reader messages = {op->messages.p, op->messages.p + op->messages.n};
  struct bytes message;
  while (result == 0 && left(&messages) > 0)
    if (read_bytes(&messages, &message)) errno = EBADMSG, result = -1;
    else if (send(fd, message.p, message.n, MSG_NOSIGNAL) < 0) result = -1;
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

/* Waits until the socket is ready or the time is over. */
static int ready_by(int fd, short events, int64_t deadline) {
  int64_t wait = deadline - now_ms();
  struct pollfd one = {fd, events, 0};
  int n = poll(&one, 1, wait < 0 ? 0 : (int)wait);
  if (n == 0) errno = ETIMEDOUT;
  return n > 0 ? 0 : -1;
}

/* A socket that does not block. */
static int connect_tcp(const struct bytes *address, uint32_t port, int64_t deadline) {
  if (address->n != 4 && address->n != 16) return errno = EINVAL, -1;
  bool six = address->n == 16;
  int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } to;
  memset(&to, 0, sizeof to);
  to.any.sa_family = six ? AF_INET6 : AF_INET;
  if (six) to.v6.sin6_port = htons((uint16_t)port), memcpy(&to.v6.sin6_addr, address->p, 16);
  else to.v4.sin_port = htons((uint16_t)port), memcpy(&to.v4.sin_addr, address->p, 4);
  int error = 0;
  socklen_t size = sizeof error;
  if (connect(fd, &to.any, six ? sizeof to.v6 : sizeof to.v4) < 0) {
    error = errno != EINPROGRESS || ready_by(fd, POLLOUT, deadline) < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
  }
  if (error == 0) return fd;
  close(fd);
  return errno = error, -1;
}

static int converse_tcp(struct run *run, int fd, const struct op_dial *op, int64_t deadline) {
  size_t sent = 0, got = 0;
  uint8_t answer[4096];
  while (sent < op->request.n) {
    ssize_t n = send(fd, op->request.p + sent, op->request.n - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return -1;
    if (n < 0 && ready_by(fd, POLLOUT, deadline) < 0) return -1;
    if (n > 0) sent += (size_t)n;
  }
  while (op->request.n > 0 && got < sizeof answer) {
    ssize_t n = recv(fd, answer + got, sizeof answer - got, 0);
    if (n == 0) break;
    if (n < 0 && errno != EAGAIN) return -1;
    if (n < 0 && ready_by(fd, POLLIN, deadline) < 0) return -1;
    if (n > 0) got += (size_t)n;
  }
  return send_report(run, op->tag, false, (char *)answer, got);
}

int do_dial(struct run *run, const struct op_dial *op) {
  int64_t deadline = now_ms() + op->timeout_ms;
  int fd = connect_tcp(&op->address, op->port, deadline);
  if (fd < 0) return -1;
  int result = converse_tcp(run, fd, op, deadline);
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

/* One direction of a relay: what has come and is not sent yet. */
struct flow {
  int from, to;
  size_t at, n;
  bool ended;
  uint8_t bytes[16 << 10];
};

/* What a broken connection had to say has been said: it has ended. */
static void flow_on(struct flow *flow, short in, short out) {
  if (flow->at < flow->n && out != 0) {
    ssize_t n = send(flow->to, flow->bytes + flow->at, flow->n - flow->at, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) flow->ended = true, flow->at = flow->n;
    if (n > 0) flow->at += (size_t)n;
  }
  if (flow->at == flow->n && !flow->ended && in != 0) {
    ssize_t n = recv(flow->from, flow->bytes, sizeof flow->bytes, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) flow->ended = true, shutdown(flow->to, SHUT_WR);
    flow->at = 0, flow->n = n > 0 ? (size_t)n : 0;
  }
}

static int relay(int outside, int inside, int64_t deadline) {
  static struct flow there, back;
  there = (struct flow){.from = outside, .to = inside}, back = (struct flow){.from = inside, .to = outside};
  while (!there.ended) {
    struct pollfd fds[2] = {{outside, 0, 0}, {inside, 0, 0}};
    fds[0].events = (short)((there.at == there.n ? POLLIN : 0) | (back.at < back.n ? POLLOUT : 0));
    fds[1].events = (short)((back.at == back.n && !back.ended ? POLLIN : 0) | (there.at < there.n ? POLLOUT : 0));
    if (fds[1].events == 0) fds[1].fd = -1; /* or its hang-up would be told for ever */
    int64_t wait = deadline - now_ms();
    int n = poll(fds, 2, wait < 0 ? 0 : (int)wait);
    if (n == 0) return errno = ETIMEDOUT, -1;
    if (n < 0 && errno != EINTR) return -1;
    if (n < 0) continue;
    flow_on(&there, fds[0].revents & (POLLIN | POLLHUP | POLLERR), fds[1].revents);
    flow_on(&back, fds[1].revents & (POLLIN | POLLHUP | POLLERR), fds[0].revents);
  }
  return 0;
}

int do_dial_through(struct run *run, const struct op_dial_through *op) {
  (void)run;
  int64_t deadline = now_ms() + op->timeout_ms;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (op->path.n >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  strcpy(address.sun_path, op->path.p);
  int inside = connect_tcp(&op->address, op->port, deadline);
  if (inside < 0) return -1;
  int outside = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int result = outside < 0 || connect(outside, (struct sockaddr *)&address, sizeof address) < 0 ? -1 : relay(outside, inside, deadline);
  int saved = errno;
  if (outside >= 0) close(outside);
  close(inside);
  errno = saved;
  return result;
}

enum { MAX_WATCHED = 4 };

static int watching_socket(uint32_t protocol, uint32_t groups) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, (int)protocol);
  struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = groups};
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
  int saved = errno;
  close(fd);
  return errno = saved, -1;
}

/* A socket in no group is told nothing but answers until these have been sent. */
static int set_up(int fd, const struct bytes *messages) {
  if (messages->n == 0) return 0;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 || converse(fd, messages, false) < 0) return -1;
  return fcntl(fd, F_SETFL, flags);
}

int do_netlink_watch(struct run *run, const struct op_netlink_watch *op) {
  struct pollfd fds[1 + MAX_WATCHED] = {{run->relay, 0, 0}};
  uint32_t tags[MAX_WATCHED];
  uint32_t n = op->sockets.count / 3;
  if (run->child || n == 0 || n > MAX_WATCHED || op->sockets.count % 3 != 0) return errno = EINVAL, -1;
  for (uint32_t i = 0; i < n; i++) {
    const uint8_t *each = op->sockets.p + 12 * (size_t)i;
    fds[1 + i] = (struct pollfd){watching_socket(get_u32(each), get_u32(each + 4)), POLLIN, 0};
    tags[i] = get_u32(each + 8);
    if (fds[1 + i].fd < 0) return -1;
    if (i == 0 && set_up(fds[1].fd, &op->setup) < 0) return -1;
    if (send_report(run, tags[i], false, NULL, 0) < 0) return -1;
  }
  static uint8_t datagram[64 << 10];
  for (;;) {
    if (poll(fds, 1 + n, -1) < 0 && errno != EINTR) return -1;
    if (fds[0].revents) return errno = ECANCELED, -1;
    for (uint32_t i = 0; i < n; i++) {
      if (!fds[1 + i].revents) continue;
      ssize_t got = recv(fds[1 + i].fd, datagram, sizeof datagram, MSG_TRUNC);
      bool lost = (got < 0 && errno == ENOBUFS) || got > (ssize_t)sizeof datagram;
      if (got < 0 && !lost) continue;
      if (send_report(run, tags[i], lost, datagram, lost ? 0 : (size_t)got) < 0) return -1;
    }
  }
}

int do_bpf_device(struct run *run, const struct op_bpf_device *op) {
  (void)run;
  if (op->program.n == 0 || op->program.n % sizeof(struct bpf_insn) != 0) return errno = EINVAL, -1;
  int cgroup = path_open(op->dir, op->path.p, O_RDONLY | O_DIRECTORY, 0);
  if (cgroup < 0) return -1;
  union bpf_attr load;
  memset(&load, 0, sizeof load);
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = (uint64_t)(uintptr_t)op->program.p;
  load.insn_cnt = op->program.n / sizeof(struct bpf_insn);
  load.license = (uint64_t)(uintptr_t) "Apache";
  load.expected_attach_type = BPF_CGROUP_DEVICE;
  int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
  int result = -1;
  if (program >= 0) {
    union bpf_attr attach;
    memset(&attach, 0, sizeof attach);
    attach.target_fd = (uint32_t)cgroup;
    attach.attach_bpf_fd = (uint32_t)program;
    attach.attach_type = BPF_CGROUP_DEVICE;
    attach.attach_flags = BPF_F_ALLOW_MULTI;
    result = (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach);
  }
  int saved = errno;
  if (program >= 0) close(program);
  close(cgroup);
  errno = saved;
  return result;
}
