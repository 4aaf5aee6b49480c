/**
 * DNS messages: what of a query is needed to answer or pass it on, and answers. The head and the question are read here, byte by byte and bounded, so that
 * whatever else a query holds can be passed on as it is; names and answers are dns-packet's.
 * @module
 * @see RFC 1035, RFC 6891 (EDNS0)
 */
import dns from "dns-packet";

export const HEAD_BYTES = 12;
/** What a client without EDNS0 takes over UDP. */
const PLAIN_UDP_BYTES = 512;
/** What we say that we take, and send at most: fits in one packet everywhere. */
const OUR_UDP_BYTES = 1232;

export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
export const TYPE = { A: 1, PTR: 12, AAAA: 28, ANY: 255 } as const;
const TYPE_OPT = 41;
const CLASS_IN = 1;
const CLASS_ANY = 255;
const FLAG = { QR: 0x8000, TC: 0x0200, RD: 0x0100, RA: 0x0080, CD: 0x0010 } as const;

export interface Query {
  readonly id: number;
  readonly flags: number;
  /** As asked, without a dot at the end. */
  readonly name: string;
  readonly type: number;
  /** Of the internet's class, or any. */
  readonly internet: boolean;
  /** Where the question ends. */
  readonly end: number;
  /** EDNS0: how many bytes the client takes over UDP; undefined: it did not say. */
  readonly udpBytes: number | undefined;
}

/** A query that can be answered; the code of the refusal of one that cannot; undefined for what gets no answer (an answer, or no DNS at all). */
export function parseQuery(message: Buffer): Query | number | undefined {
  if (message.length < HEAD_BYTES) return undefined;
  const flags = message.readUInt16BE(2);
  if ((flags & FLAG.QR) !== 0) return undefined;
  if (((flags >> 11) & 15) !== 0) return RCODE.NOTIMP;
  if (message.readUInt16BE(4) !== 1 || message.readUInt16BE(6) !== 0) return RCODE.FORMERR;
  const end = endOfName(message);
  if (end === undefined || end + 4 > message.length) return RCODE.FORMERR;
  const kind = message.readUInt16BE(end + 2);
  return {
    id: message.readUInt16BE(0),
    flags,
    name: dns.name.decode(message.subarray(0, end), HEAD_BYTES),
    type: message.readUInt16BE(end),
    internet: kind === CLASS_IN || kind === CLASS_ANY,
    end: end + 4,
    udpBytes: udpBytesOf(message, end + 4),
  };
}

/** Where the question's name ends; a query has no compressed one. */
function endOfName(message: Buffer): number | undefined {
  let at = HEAD_BYTES;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63 || at - HEAD_BYTES > 254) return undefined;
    at += 1 + length;
    if (length === 0) return at;
  }
}

/** The OPT record, when it is the first after the question, as clients send it. Its class is the size. */
function udpBytesOf(message: Buffer, at: number): number | undefined {
  const isOpt = message.readUInt16BE(8) === 0 && message.readUInt16BE(10) > 0 && message.length >= at + 11 && message[at] === 0;
  return isOpt && message.readUInt16BE(at + 1) === TYPE_OPT ? message.readUInt16BE(at + 3) : undefined;
}

export interface AnswerRecord {
  readonly type: "A" | "AAAA" | "PTR";
  readonly data: string;
}

/** Seconds that an answer may be kept; container addresses change, and asking again is cheap. Docker's. */
const TTL_SECONDS = 600;

/** An answer of our own; over UDP it holds as many records as fit, and says when some do not. */
export function encodeAnswer(query: Query, transport: "udp" | "tcp", rcode: number, records: readonly AnswerRecord[] = []): Buffer {
  const most = transport === "tcp" ? 0xffff : Math.min(Math.max(query.udpBytes ?? PLAIN_UDP_BYTES, PLAIN_UDP_BYTES), OUR_UDP_BYTES);
  for (let count = records.length; ; count = Math.floor(count / 2)) {
    const encoded = encode(query, rcode, records.slice(0, count), count < records.length);
    if (encoded.length <= most || count === 0) return encoded;
  }
}

function encode({ id, flags, name, type, udpBytes }: Query, rcode: number, records: readonly AnswerRecord[], truncated: boolean): Buffer {
  const encoded = dns.encode({
    type: "response",
    id,
    flags: (flags & (FLAG.RD | FLAG.CD)) | FLAG.RA | (truncated ? FLAG.TC : 0),
    questions: [{ name, type: "A", class: "IN" }],
    answers: records.map(({ type: kind, data }) => ({ name, type: kind, class: "IN", ttl: TTL_SECONDS, data })),
    additionals:
      udpBytes === undefined ? [] : [{ name: ".", type: "OPT", udpPayloadSize: OUR_UDP_BYTES, extendedRcode: 0, ednsVersion: 0, flags: 0, options: [] }],
  });
  encoded[3] = ((encoded[3] ?? 0) & 0xf0) | rcode;
  // the question's type as it was asked: not every number has a name
  encoded.writeUInt16BE(type, endOfName(encoded) ?? HEAD_BYTES);
  return encoded;
}

/** A refusal that repeats nothing of a message that was not understood. */
export function encodeRefusal(message: Buffer, rcode: number): Buffer {
  const refusal = Buffer.alloc(HEAD_BYTES);
  message.copy(refusal, 0, 0, 2);
  refusal.writeUInt16BE(FLAG.QR | (message.readUInt16BE(2) & (0x7800 | FLAG.RD)) | FLAG.RA | rcode, 2);
  return refusal;
}

/** Whether it answers this very question: the number that it was asked under, and the same bytes as the question. */
export function answers(answer: Buffer, query: Buffer, end: number): boolean {
  if (answer.length < HEAD_BYTES || (answer.readUInt16BE(2) & FLAG.QR) === 0 || answer.readUInt16BE(0) !== query.readUInt16BE(0)) return false;
  // some servers answer an error with the head only
  if (answer.readUInt16BE(4) === 0) return rcodeOf(answer) !== RCODE.NOERROR;
  return (
    answer.length >= end &&
    answer.subarray(HEAD_BYTES, end).toString("latin1").toLowerCase() === query.subarray(HEAD_BYTES, end).toString("latin1").toLowerCase()
  );
}

export const rcodeOf = (message: Buffer): number => (message[3] ?? 0) & 15;

/** A question as a message of its own. */
export function encodeQuestion(name: string, type: "A" | "AAAA"): Buffer {
  return dns.encode({ type: "query", id: 0, flags: FLAG.RD, questions: [{ name, type, class: "IN" }] });
}

/** Addresses and names in an answer, with the seconds that they hold. Throws for what is malformed. */
export function recordsOf(answer: Buffer): { readonly name: string; readonly type: string; readonly ttl: number; readonly data: string }[] {
  return (dns.decode(answer).answers ?? []).map(({ name = "", type, ttl = 0, data }) => ({ name, type, ttl, data: typeof data === "string" ? data : "" }));
}
