/** Sockets with rights of their own: `wherry socket`. @module */

/** What a socket may be allowed. A word before the colon alone stands for all of its kind. */
export const rights = [
  "containers:read",
  "containers:write",
  "containers:exec",
  "images:read",
  "images:write",
  "volumes:read",
  "volumes:write",
  "networks:read",
  "networks:write",
  "build",
  "events",
  "system",
  "registry",
  "host",
] as const;

export type Right = (typeof rights)[number];

/** Of the API's requests and replies (`/wherry/sockets`). */
export interface ScopedSocketJson {
  readonly Name: string;
  /** Absolute, of a unix socket. */
  readonly Path: string;
  readonly Allow: readonly Right[];
  /** Only objects that carry all of these are there for its clients. */
  readonly Labels: Readonly<Record<string, string>>;
  /** Permissions of the socket file, octal: "660". */
  readonly Mode: string;
  /** User and group ids that own the socket file. */
  readonly Uid: number;
  readonly Gid: number;
}
