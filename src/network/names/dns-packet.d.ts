/** What is used of dns-packet, which brings no types. */
declare module "dns-packet" {
  interface Codec<T> {
    encode(value: T, buffer?: Buffer, offset?: number): Buffer;
    /** Throws for what is malformed. */
    decode(buffer: Uint8Array, offset?: number): T;
  }
  interface DecodeCodec extends Codec<string> {
    /** Bytes that the last decode took. */
    decode: { (buffer: Uint8Array, offset?: number): string; bytes: number };
  }
  export interface Question {
    name: string;
    type: string;
    class?: string;
  }
  export interface Answer {
    name?: string;
    type: string;
    class?: string;
    ttl?: number;
    data?: unknown;
    flags?: number;
    udpPayloadSize?: number;
    extendedRcode?: number;
    ednsVersion?: number;
    options?: unknown[];
  }
  export interface Packet {
    type?: "query" | "response";
    id?: number;
    flags?: number;
    rcode?: string;
    questions?: Question[];
    answers?: Answer[];
    authorities?: Answer[];
    additionals?: Answer[];
  }
  export const name: DecodeCodec;
  export function encode(packet: Packet): Buffer;
  export function decode(buffer: Uint8Array): Packet;
  const packet: { name: DecodeCodec; encode: typeof encode; decode: typeof decode };
  export default packet;
}
