/* Bytes in and out: a bounded reader over a frame, and a bounded writer. All integers are little endian.
 * Everything that comes from a socket is hostile: a reader never looks past its end, and a failed read leaves the output untouched. */
#ifndef WHERRY_WIRE_H
#define WHERRY_WIRE_H
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
  MAX_PLAN = 4 << 20,   /* bytes of one plan */
  MAX_STRING = 1 << 20, /* bytes of one string or blob within it */
  MAX_COUNT = 1 << 16,  /* elements of a list */
  MAX_SLOTS = 256,
  SLOT_BASE = 100,
};
#define NO_SLOT UINT32_MAX

struct reader {
  const uint8_t *at, *end;
};
struct str { /* NUL-terminated in the frame itself */
  const char *p;
  uint32_t n;
};
struct bytes {
  const uint8_t *p;
  uint32_t n;
};
struct strs { /* validated; iterate with strs_next */
  const uint8_t *p;
  uint32_t count;
};
struct u32s {
  const uint8_t *p;
  uint32_t count;
};

static inline size_t left(const struct reader *r) { return (size_t)(r->end - r->at); }

static inline uint32_t get_u32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t get_u64(const uint8_t *p) { return get_u32(p) | (uint64_t)get_u32(p + 4) << 32; }

static inline void put_u32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void put_u64(uint8_t *p, uint64_t v) {
  put_u32(p, (uint32_t)v);
  put_u32(p + 4, (uint32_t)(v >> 32));
}

static inline int read_u8(struct reader *r, uint8_t *v) {
  if (left(r) < 1) return -1;
  *v = *r->at++;
  return 0;
}
static inline int read_u16(struct reader *r, uint16_t *v) {
  if (left(r) < 2) return -1;
  *v = (uint16_t)(r->at[0] | r->at[1] << 8);
  r->at += 2;
  return 0;
}
static inline int read_u32(struct reader *r, uint32_t *v) {
  if (left(r) < 4) return -1;
  *v = get_u32(r->at);
  r->at += 4;
  return 0;
}
static inline int read_i32(struct reader *r, int32_t *v) {
  uint32_t u;
  if (read_u32(r, &u)) return -1;
  memcpy(v, &u, sizeof *v);
  return 0;
}
static inline int read_u64(struct reader *r, uint64_t *v) {
  if (left(r) < 8) return -1;
  *v = get_u64(r->at);
  r->at += 8;
  return 0;
}
static inline int read_bytes(struct reader *r, struct bytes *v) {
  if (left(r) < 4) return -1;
  uint32_t n = get_u32(r->at);
  if (n > MAX_STRING || n > left(r) - 4) return -1;
  *v = (struct bytes){r->at + 4, n};
  r->at += 4 + (size_t)n;
  return 0;
}
static inline int read_str(struct reader *r, struct str *v) {
  struct reader copy = *r;
  struct bytes b;
  if (read_bytes(&copy, &b) || left(&copy) < 1 || *copy.at != 0) return -1;
  if (memchr(b.p, 0, b.n)) return -1;
  copy.at++;
  *v = (struct str){(const char *)b.p, b.n};
  *r = copy;
  return 0;
}
/* The next element of a list that read_strs has validated. */
static inline const char *strs_next(const uint8_t **at) {
  uint32_t n = get_u32(*at);
  const char *s = (const char *)*at + 4;
  *at += 4 + (size_t)n + 1;
  return s;
}
static inline int read_strs(struct reader *r, struct strs *v) {
  struct reader copy = *r;
  uint32_t count;
  if (read_u32(&copy, &count) || count > MAX_COUNT) return -1;
  struct strs list = {copy.at, count};
  for (uint32_t i = 0; i < count; i++) {
    struct str s;
    if (read_str(&copy, &s)) return -1;
  }
  *v = list;
  *r = copy;
  return 0;
}
static inline int read_u32s(struct reader *r, struct u32s *v) {
  struct reader copy = *r;
  uint32_t count;
  if (read_u32(&copy, &count) || count > MAX_COUNT || left(&copy) < (size_t)count * 4) return -1;
  *v = (struct u32s){copy.at, count};
  copy.at += (size_t)count * 4;
  *r = copy;
  return 0;
}
/* A slot to use: 0..255, or none. */
static inline int read_slot(struct reader *r, uint32_t *v) {
  uint32_t u;
  if (read_u32(r, &u) || (u >= MAX_SLOTS && u != NO_SLOT)) return -1;
  *v = u;
  return 0;
}
/* A slot to fill: 0..255. */
static inline int read_out(struct reader *r, uint32_t *v) {
  uint32_t u;
  if (read_u32(r, &u) || u >= MAX_SLOTS) return -1;
  *v = u;
  return 0;
}

/* Frames: u32 length of what follows · u8 type · u32 id · payload. docs/helper-protocol.md lists them. */
enum {
  FRAME_HEAD = 9,
  MAX_FRAME = MAX_PLAN + (64 << 10), /* from the engine: a plan and its launch header */
  MAX_RELAY = 62 << 10,              /* from a monitor or worker: fits one SOCK_SEQPACKET message */
};
enum frame_type {
  F_CALL = 1,
  F_LAUNCH = 2,
  F_TREE = 3,
  F_CONTROL = 4,
  F_KILL = 16, /* monitor controls */
  F_RESIZE = 17,
  F_FLUSH = 18,
  F_LOG_PACKED = 19,
  F_ANSWER = 20, /* on a connection for names */
  F_CREDIT = 21,
  F_LET_GO = 22,
  F_HELLO_CONTROL = 32, /* first frame on a monitor's socket */
  F_HELLO_ATTACH = 33,
  F_HELLO_NAMES = 34,
  F_READY = 64,
  F_FAILED = 65,
  F_REPORT = 66,
  F_DONE = 67,
  F_LISTENING = 68,
  F_LAUNCHED = 69,
  F_REPLY = 70,
  F_EXITED = 71,
  F_GONE = 72,
  F_ATTACHED = 73,
  F_DIRECT = 74,
  F_OOM = 75,
  F_QUERY = 76,
  F_PRESSURE = 77,
  F_LEFT = 78,
};
/* Report flags. */
enum { REPORT_MISSING = 1, REPORT_MORE = 2, REPORT_CHUNK = 32 << 10 };

/* Writes the head of a frame with `payload` bytes after it. */
static inline void put_head(uint8_t *p, uint8_t type, uint32_t id, size_t payload) {
  put_u32(p, (uint32_t)(payload + 5));
  p[4] = type;
  put_u32(p + 5, id);
}
#endif
