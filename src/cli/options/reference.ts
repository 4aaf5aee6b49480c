/** Image names as people write them. @module */

/** Without docker.io's prefixes, and without a digest: `docker.io/library/busybox:1@sha256:…` → `busybox:1`. */
export function familiarName(reference: string): string {
  const at = reference.indexOf("@");
  const name = at < 0 ? reference : reference.slice(0, at);
  return name.replace(/^(docker\.io|index\.docker\.io)\//, "").replace(/^library\/(?=[^/]+$)/, "");
}

/** Repository and tag of `host:5000/name:tag`; no tag is "". */
export function splitTag(reference: string): { readonly repository: string; readonly tag: string } {
  const colon = reference.indexOf(":", reference.lastIndexOf("/") + 1);
  return colon < 0 ? { repository: reference, tag: "" } : { repository: reference.slice(0, colon), tag: reference.slice(colon + 1) };
}
