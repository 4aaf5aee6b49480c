/** How a build context is written: as a build's own, and as the value of `--build-context`. @module */

export type ContextPlace =
  | { readonly kind: "image"; readonly reference: string }
  /** Something that is fetched: a file, an archive, a repository. */
  | { readonly kind: "url"; readonly url: string }
  /** A name of files. */
  | { readonly kind: "path" }
  /** It has a scheme that means nothing here. */
  | { readonly kind: "unknown"; readonly scheme: string };

const fetched = new Set(["http", "https", "git", "ssh"]);

/** Where a context lies, by the way it is written. As docker has it, GitHub's may leave out their scheme, and `user@host:path` is a repository. */
export function contextPlace(text: string): ContextPlace {
  const [, scheme, rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(text) ?? [];
  if (scheme === undefined) return /^github\.com\/|^[\w.-]+@[\w.-]+:/.test(text) ? { kind: "url", url: text } : { kind: "path" };
  const name = scheme.toLowerCase();
  if (fetched.has(name)) return { kind: "url", url: text };
  return name === "docker-image" && rest !== "" ? { kind: "image", reference: rest } : { kind: "unknown", scheme: name };
}
