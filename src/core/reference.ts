/**
 * Names of images, by docker's grammar: `busybox` is the *familiar* form of the *normalized* `docker.io/library/busybox`, and a name without
 * tag and digest means its `latest`. Errors carry docker's texts.
 * @module
 * @see https://github.com/distribution/reference/blob/main/reference.go
 */
import { type Digest, isDigest, parseDigest } from "./digest.ts";
import { EngineError } from "./errors.ts";

/** A normalized name, perhaps with a tag, a digest, or both. */
export interface Reference {
  /** `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** `library/busybox` */
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const defaultDomain = "docker.io";
const legacyDomain = "index.docker.io";
const officialPrefix = "library/";
const defaultTag = "latest";
const maxPath = 255;
/** Longer than any reference can be (domain, 255 bytes of path, 128 of tag, a digest); spares the expressions below. */
const maxReference = 2048;

const component = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const host = `(?:${component}(?:\\.${component})*|\\[[a-fA-F0-9:]+\\])`;
const domain = `${host}(?::[0-9]+)?`;
const pathComponent = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const path = `${pathComponent}(?:/${pathComponent})*`;
const tag = "\\w[\\w.-]{0,127}";
const digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
const pattern = new RegExp(`^(?:(${domain})/)?(${path})(?::(${tag}))?(?:@(${digest}))?$`);
const identifier = /^[0-9a-f]{64}$/;

function invalid(message: string): EngineError {
  return new EngineError("invalid", message);
}

/** Parses a name as a user writes it. */
export function parseReference(text: string): Reference {
  if (identifier.test(text)) throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  if (text.length > maxReference) throw invalid("invalid reference format");
  const split = splitDomain(text);
  const colon = split.remainder.indexOf(":");
  const remote = colon < 0 ? split.remainder : split.remainder.slice(0, colon);
  if (remote.toLowerCase() !== remote) throw invalid(`invalid reference format: repository name (${remote}) must be lowercase`);
  const match = pattern.exec(`${split.domain}/${split.remainder}`);
  if (match?.[1] === undefined || match[2] === undefined) throw invalid("invalid reference format");
  if (match[2].length > maxPath) throw invalid(`repository name must not be more than ${maxPath} characters`);
  return { domain: match[1], path: match[2], tag: match[3], digest: match[4] === undefined ? undefined : referenceDigest(match[4]) };
}

/** Parses a name, or the digest that an image id is (64 hex digits with or without `sha256:`). */
export function parseAnyReference(text: string): Reference | Digest {
  if (identifier.test(text)) return `sha256:${text}`;
  return isDigest(text) ? text : parseReference(text);
}

/** `latest` for a name that has neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: defaultTag } : reference;
}

/** The normalized name without tag and digest: `docker.io/library/busybox`. */
export function repositoryOf(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** The normalized form, whole. */
export function formatReference(reference: Reference): string {
  return `${repositoryOf(reference)}${suffix(reference)}`;
}

/** The name without tag and digest as people know it: `busybox`, `localhost:5000/a`. */
export function familiarName(reference: Pick<Reference, "domain" | "path">): string {
  if (reference.domain !== defaultDomain) return `${reference.domain}/${reference.path}`;
  const official = reference.path.startsWith(officialPrefix) ? reference.path.slice(officialPrefix.length) : undefined;
  return official === undefined || official.includes("/") ? reference.path : official;
}

/** The familiar form, whole: `busybox:latest`. */
export function familiarString(reference: Reference): string {
  return `${familiarName(reference)}${suffix(reference)}`;
}

function suffix(reference: Reference): string {
  return `${reference.tag === undefined ? "" : `:${reference.tag}`}${reference.digest === undefined ? "" : `@${reference.digest}`}`;
}

function splitDomain(name: string): { domain: string; remainder: string } {
  const slash = name.indexOf("/");
  const first = name.slice(0, Math.max(slash, 0));
  // Only what looks like a host is one: a dot, a port, "localhost", or capitals (which no repository may have).
  const isHost = slash >= 0 && (/[.:]/.test(first) || first === "localhost" || first.toLowerCase() !== first);
  const given = isHost ? first : defaultDomain;
  const remainder = isHost ? name.slice(slash + 1) : name;
  if (given !== defaultDomain && given !== legacyDomain) return { domain: given, remainder };
  return { domain: defaultDomain, remainder: remainder.includes("/") ? remainder : `${officialPrefix}${remainder}` };
}

function referenceDigest(text: string): Digest {
  const [algorithm, hex] = [text.slice(0, text.indexOf(":")), text.slice(text.indexOf(":") + 1)];
  if (algorithm !== "sha256") throw invalid("unsupported digest algorithm");
  if (hex.length !== 64) throw invalid("invalid checksum digest length");
  if (/[A-F]/.test(hex)) throw invalid("invalid checksum digest format");
  return parseDigest(text);
}
