/* The sockets of a container's name server: opened in its network namespace, served by the engine. Datagrams and the bytes of streams go both ways
 * as frames; what they say is nobody's business here. The engine gives credit for so many frames; without any, nothing is read, and what the
 * container sends more waits in the kernel's buffers or is lost there. So it is while no engine is connected, and when one comes, it gets what waits. */
#include "monitor.h"

#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { MAX_QUERY = 4096, MAX_ANSWER = 16 << 10, HEAD = 7, STREAMS = NAME_STREAMS, BACKLOG = 16 };
/* The first byte of QUERY and ANSWER. */
enum { DATAGRAM = 0, STREAM_BYTES = 1, STREAM_END = 3 };

static struct names {
  int udp, tcp, engine;
  uint32_t address, credit, next_stream;
  int stream[STREAMS];
  uint32_t stream_id[STREAMS];
  struct queue out;
  size_t have;
  uint8_t in[FRAME_HEAD + HEAD + MAX_ANSWER];
} *N;

static int bound(int type, uint32_t address, uint16_t port) {
  int fd = fd_high(socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), on = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
  if (fd < 0) return -1;
  /* The loopback interface may not be up yet. */
  if (setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on) == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && (type == SOCK_DGRAM || listen(fd, BACKLOG) == 0))
    return fd;
  int saved = errno;
  close(fd);
  return errno = saved, -1;
}

int names_keep(uint32_t address, int udp, int tcp) {
  struct names *made = mmap(NULL, sizeof *N, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (made == MAP_FAILED) return -1;
  N = made;
  N->address = address;
  N->udp = udp;
  N->tcp = tcp;
  N->engine = -1;
  for (int i = 0; i < STREAMS; i++) N->stream[i] = -1;
  return 0;
}

int names_open(struct run *run, uint32_t address, uint32_t port) {
  if (N) return 0;
  int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (own < 0) return -1;
  if (port == 0 || port > 0xffff) return close(own), errno = EINVAL, -1;
  if (setns(run->child_pidfd, CLONE_NEWNET) < 0) return close(own), -1;
  int udp = bound(SOCK_DGRAM, address, (uint16_t)port), tcp = udp < 0 ? -1 : bound(SOCK_STREAM, address, (uint16_t)port), saved = errno;
  /* Nothing else here depends on the network, but a monitor that cannot come back should not go on. */
  if (setns(own, CLONE_NEWNET) < 0) saved = errno, close(tcp), tcp = -1;
  close(own);
  if (tcp >= 0 && names_keep(address, udp, tcp) == 0) return 0;
  if (tcp >= 0) saved = errno, close(tcp);
  if (udp >= 0) close(udp);
  return errno = saved, -1;
}

/* --- to the engine */

static void drop_engine(void) {
  close(N->engine);
  N->engine = -1;
  N->credit = 0;
  N->have = 0;
  queue_free(&N->out);
  for (int i = 0; i < STREAMS; i++) {
    if (N->stream[i] >= 0) close(N->stream[i]);
    N->stream[i] = -1;
  }
}

static void drain(void) {
  struct queue *q = &N->out;
  while (!queue_empty(q)) {
    ssize_t done = send(N->engine, q->data + q->start, q->end - q->start, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) return;
    if (done <= 0) {
      drop_engine();
      return;
    }
    q->start += (size_t)done;
  }
  queue_free(q);
}

/* Credit bounds what is queued. The payload lies behind room for the heads. */
static void tell(uint8_t *frame, uint8_t kind, uint32_t who, uint16_t port, size_t n) {
  put_head(frame, F_QUERY, 0, HEAD + n);
  frame[FRAME_HEAD] = kind;
  put_u32(frame + FRAME_HEAD + 1, who);
  frame[FRAME_HEAD + 5] = (uint8_t)port;
  frame[FRAME_HEAD + 6] = (uint8_t)(port >> 8);
  bool waiting = !queue_empty(&N->out);
  if (!queue_push(&N->out, frame, FRAME_HEAD + HEAD + n)) drop_engine();
  else if (!waiting) drain();
}

static void end_stream(int i) {
  uint8_t frame[FRAME_HEAD + HEAD];
  close(N->stream[i]);
  N->stream[i] = -1;
  tell(frame, STREAM_END, N->stream_id[i], 0, 0);
}

static void read_datagrams(void) {
  for (int i = 0; i < 32 && N->engine >= 0 && N->credit > 0; i++) {
    struct sockaddr_in from = {0};
    socklen_t length = sizeof from;
    /* One byte more than is taken: what is longer is no query. */
    uint8_t *at = chunk + FRAME_HEAD + HEAD;
    ssize_t n = recvfrom(N->udp, at, MAX_QUERY + 1, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    if (n < 0) return;
    if (n > MAX_QUERY) continue;
    N->credit--;
    tell(chunk, DATAGRAM, ntohl(from.sin_addr.s_addr), ntohs(from.sin_port), (size_t)n);
  }
}

static void read_stream(int i) {
  ssize_t n = recv(N->stream[i], chunk + FRAME_HEAD + HEAD, MAX_QUERY, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    end_stream(i);
    return;
  }
  N->credit--;
  tell(chunk, STREAM_BYTES, N->stream_id[i], 0, (size_t)n);
}

/* When all places are taken, the oldest connection goes. */
static void accept_stream(void) {
  int fd = fd_high(accept4(N->tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)), place = 0;
  if (fd < 0) return;
  for (int i = 0; i < STREAMS && N->stream[place] >= 0; i++)
    if (N->stream[i] < 0 || N->stream_id[i] - N->stream_id[place] > INT32_MAX) place = i;
  if (N->stream[place] >= 0) end_stream(place);
  N->stream[place] = fd;
  N->stream_id[place] = N->next_stream++;
}

/* --- from the engine */

static void send_stream(uint32_t id, const uint8_t *data, size_t n, bool end) {
  for (int i = 0; i < STREAMS; i++) {
    if (N->stream[i] < 0 || N->stream_id[i] != id) continue;
    /* A peer that does not take its answers loses its connection. */
    if (end || send(N->stream[i], data, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n) end_stream(i);
    return;
  }
}

/* From the address that was asked: a socket bound before the namespace had any address does not keep it as its source. */
static void send_datagram(struct sockaddr_in *to, const uint8_t *data, size_t n) {
  struct iovec part = {(void *)(uintptr_t)data, n};
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
  } control = {0};
  struct in_pktinfo from = {.ipi_spec_dst.s_addr = htonl(N->address)};
  control.head = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof from)};
  memcpy(CMSG_DATA(&control.head), &from, sizeof from);
  struct msghdr message = {
      .msg_name = to, .msg_namelen = sizeof *to, .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
  sendmsg(N->udp, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Nonzero when it is malformed. */
static int answer(struct reader r) {
  uint8_t kind;
  uint32_t who;
  uint16_t port;
  if (read_u8(&r, &kind) || read_u32(&r, &who) || read_u16(&r, &port)) return -1;
  if (kind == DATAGRAM) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(who)};
    send_datagram(&to, r.at, left(&r)); /* who has gone does not get it */
  } else if (kind == STREAM_BYTES || kind == STREAM_END) {
    send_stream(who, r.at, left(&r), kind == STREAM_END);
  } else {
    return -1;
  }
  return 0;
}

static int engine_frame(uint8_t type, struct reader r) {
  uint32_t more;
  if (type == F_ANSWER) return answer(r);
  if (type != F_CREDIT || read_u32(&r, &more) || left(&r) || more > 0xffff) return -1;
  N->credit += more;
  return 0;
}

static void read_engine(void) {
  ssize_t n = recv(N->engine, N->in + N->have, sizeof N->in - N->have, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    drop_engine();
    return;
  }
  N->have += (size_t)n;
  size_t at = 0;
  while (N->engine >= 0 && N->have - at >= FRAME_HEAD) {
    uint32_t length = get_u32(N->in + at);
    if (length < 5 || length > sizeof N->in - 4) {
      drop_engine();
      return;
    }
    if (N->have - at < length + 4) break;
    if (engine_frame(N->in[at + 4], (struct reader){N->in + at + FRAME_HEAD, N->in + at + 4 + length})) {
      drop_engine();
      return;
    }
    at += length + 4;
  }
  if (N->engine < 0) return;
  memmove(N->in, N->in + at, N->have - at);
  N->have -= at;
}

/* --- for the monitor */

int names_serve(struct run *run, int fd, struct reader hello) {
  uint32_t address, port;
  if (read_u32(&hello, &address) || read_u32(&hello, &port) || left(&hello)) return errno = EBADMSG, -1;
  if (names_open(run, address, port) < 0) return -1;
  if (N->engine >= 0) drop_engine(); /* of an earlier engine */
  N->engine = fd;
  return 0;
}

int names_fd(int which, short *events) {
  if (!N || N->engine < 0) return -1;
  *events = POLLIN;
  bool may = N->credit > 0;
  switch (which) {
    case 0:
      if (!queue_empty(&N->out)) *events |= POLLOUT;
      return N->engine;
    case 1:
      return may ? N->udp : -1;
    case 2:
      return may ? N->tcp : -1;
    default:
      return may ? N->stream[which - 3] : -1;
  }
}

void names_event(int which, short events) {
  if (!N || N->engine < 0) return;
  if (which == 0) {
    if (events & POLLOUT) drain();
    if (N->engine >= 0 && events & (POLLIN | POLLHUP | POLLERR)) read_engine();
  } else if (which == 1) {
    read_datagrams();
  } else if (N->credit > 0 && which == 2) {
    accept_stream();
  } else if (N->credit > 0 && N->stream[which - 3] >= 0) {
    read_stream(which - 3);
  }
}

void names_close(void) {
  if (!N) return;
  if (N->engine >= 0) drop_engine();
  close(N->udp);
  close(N->tcp);
  munmap(N, sizeof *N);
  N = NULL;
}
