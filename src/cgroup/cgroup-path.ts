/**
 * Paths of cgroups below a hierarchy's mount point.
 * @module
 */
import { EngineError } from "#core/errors.ts";

/** `/a/b` of a parent as the user gave it (`--cgroup-parent a/b`); "" = `fallback`, which may be the root: "" then. EngineError "invalid" for `..` and systemd slices. */
export function parentPath(parent: string, fallback: string): string {
  const parts = (parent === "" ? fallback : parent).split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new EngineError("invalid", `invalid cgroup-parent: "${parent}": must not contain ".."`);
  if (parts.some((part) => part.includes("\n") || part.includes("\0")))
    throw new EngineError("invalid", "invalid cgroup-parent: line breaks and NUL are not allowed");
  if (parts.length === 0 && parent !== "") throw new EngineError("invalid", `invalid cgroup-parent: "${parent}": the root cgroup cannot hold containers`);
  return parts.map((part) => `/${part}`).join("");
}

/** `/a`, `/a/b`, `/a/b/c` of `/a/b/c`. */
export function ancestry(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.map((_, i) => `/${parts.slice(0, i + 1).join("/")}`);
}

/** Where a manager's cgroups are when nothing else is said: `/a/b`; "" for the hierarchies' root. */
export function homePath(parent: string): string {
  return parent === "/" ? "" : parentPath(parent, "");
}
