import { EngineError } from "#core/errors.ts";
import { type ByteString, printable } from "./bytes.ts";

/** What a member's name means in a layer. `path` has neither leading slash nor `.` or `..`; "" is the layer's root. */
export type LayerName =
  | { readonly kind: "path"; readonly path: ByteString }
  /** `.wh.NAME`: this name is gone from the layers below. */
  | { readonly kind: "whiteout"; readonly path: ByteString }
  /** `.wh..wh..opq`: the directory hides those below it. */
  | { readonly kind: "opaque"; readonly path: ByteString }
  /** aufs' own files (`.wh..wh.plnk` …), which old images carry. */
  | { readonly kind: "ignored" };

const prefix = ".wh.";
const metaPrefix = ".wh..wh.";

/** An entry that would land outside of the layer, or nowhere. */
export function refused(name: ByteString, why: string): EngineError {
  return new EngineError("corrupt", `archive entry "${printable(name)}" ${why}`, { details: { entry: printable(name) } });
}

/** Names of which nothing has to be taken away: no component that begins with a dot, and none that is empty. */
const plain = /^(?:[^./][^/]*\/)*[^./][^/]*$/;
const maxComponent = 255;

/** Parses a member's name; EngineError when it has a `..` component or cannot be a path. A leading slash is dropped, as docker and GNU tar do. */
export function parseLayerName(name: ByteString): LayerName {
  if (name.length <= maxComponent && plain.test(name)) return { kind: "path", path: name };
  const path = cleanPath(name, name);
  const parts = path.split("/");
  const last = parts.pop() ?? "";
  if (parts.some((part) => part.startsWith(metaPrefix))) return { kind: "ignored" };
  const whiteout = parts.find((part) => part.startsWith(prefix));
  if (whiteout !== undefined) throw refused(name, `lies below the whiteout "${printable(whiteout)}"`);
  if (!last.startsWith(prefix)) return { kind: "path", path };
  if (last === `${metaPrefix}.opq`) return { kind: "opaque", path: parts.join("/") };
  if (last.startsWith(metaPrefix)) return { kind: "ignored" };
  const hidden = last.slice(prefix.length);
  if (hidden === "" || hidden === "." || hidden === "..") throw refused(name, "is a whiteout of nothing in its directory");
  return { kind: "whiteout", path: [...parts, hidden].join("/") };
}

/** Without leading, trailing and doubled slashes and `.` components. `entry` is the member that is at fault. */
export function cleanPath(path: ByteString, entry: ByteString): ByteString {
  // Most names are clean but for a "./" in front or a slash behind.
  const bare = path.startsWith("./") ? path.slice(2) : path;
  const parts = bare.split("/").filter((part) => part !== "" && part !== ".");
  for (const part of parts) {
    if (part === "..") throw refused(entry, path === entry ? 'has a ".." in its name' : `has a ".." in its target "${printable(path)}"`);
    if (part.length > maxComponent) throw refused(entry, `has a component of ${part.length} bytes; at most ${maxComponent} are possible`);
  }
  return parts.join("/");
}
