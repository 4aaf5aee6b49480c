/**
 * /dev: the nodes and links that every container has, and those that were asked for.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { own } from "#core/own.ts";
import type { OciLinux } from "#core/runtime-spec.ts";
import { O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import { NO_SLOT } from "#linux/plan.ts";
import type { Draft } from "./draft.ts";
import { inRoot } from "./plan-mounts.ts";
import { slots } from "./slots.ts";

type Device = NonNullable<OciLinux["devices"]>[number];

const everyone = 0o666;
/** @see null(4), full(4), random(4), tty(4) */
const defaultDevices: readonly (Device & { readonly why: string; readonly see: string })[] = [
  { path: "/dev/null", type: "c", major: 1, minor: 3, fileMode: everyone, why: "swallows what is written", see: "null(4)" },
  { path: "/dev/zero", type: "c", major: 1, minor: 5, fileMode: everyone, why: "endless zero bytes", see: "zero(4)" },
  { path: "/dev/full", type: "c", major: 1, minor: 7, fileMode: everyone, why: "a disk that is always full", see: "full(4)" },
  { path: "/dev/random", type: "c", major: 1, minor: 8, fileMode: everyone, why: "random bytes", see: "random(4)" },
  { path: "/dev/urandom", type: "c", major: 1, minor: 9, fileMode: everyone, why: "random bytes that never block", see: "urandom(4)" },
  { path: "/dev/tty", type: "c", major: 5, minor: 0, fileMode: everyone, why: "whatever terminal the process has", see: "tty(4)" },
];

const links: readonly (readonly [path: string, target: string, why: string])[] = [
  ["dev/fd", "/proc/self/fd", "the process's own descriptors"],
  ["dev/stdin", "/proc/self/fd/0", "its standard input"],
  ["dev/stdout", "/proc/self/fd/1", "its standard output"],
  ["dev/stderr", "/proc/self/fd/2", "its standard error"],
  ["dev/core", "/proc/kcore", "the kernel's memory (the name only: it is masked)"],
  ["dev/ptmx", "pts/ptmx", "opens a new terminal in the container's own devpts"],
];

const typeBits: Readonly<Record<string, number>> = { c: 0o020000, u: 0o020000, b: 0o060000, p: 0o010000 };

/** Fills /dev. In a user namespace mknod(2) is refused, so the host's own nodes are bound. */
export function planDevices(draft: Draft, extra: readonly Device[], userns: boolean): void {
  draft.section("Devices");
  const own = new Set(defaultDevices.map((d) => d.path));
  for (const device of defaultDevices) (userns ? bindNode : makeNode)(draft, device, device.why, device.see);
  for (const device of extra) {
    if (own.has(device.path)) continue;
    const parent = inRoot(device.path).split("/").slice(0, -1).join("/");
    if (parent !== "dev") draft.child({ op: "mkdir", dir: slots.root, path: parent, mode: 0o755, uid: 0, gid: 0, parents: 1 }, `the folder of ${device.path}`);
    if (userns) bindNode(draft, device, "a device that was asked for", "mknod(2)");
    else if (device.type === "c" || device.type === "u") makeAskedFor(draft, device);
    else makeNode(draft, device, "a device that was asked for", "mknod(2)", []);
  }
  // With a /dev that is the image's own, links may be there already.
  for (const [path, target, why] of links) draft.child({ op: "symlink", dir: slots.root, path, target }, why, { ignore: ["EEXIST"] });
}

/** A file that is there already must be that device (config-linux.md "Devices"). */
function makeAskedFor(draft: Draft, device: Device): void {
  makeNode(draft, device, "a device that was asked for", "mknod(2)");
  const node = draft.take();
  draft.child({ op: "openat", dir: slots.root, path: inRoot(device.path), flags: O.PATH | O.NOFOLLOW, mode: 0, out: node }, "made now, or the image's own");
  draft.child({ op: "expect_device", slot: node, major: device.major ?? 0, minor: device.minor ?? 0 }, "it is the device that was asked for");
  draft.child({ op: "close", slot: node }, "looked at");
  draft.release(node);
}

function makeNode(draft: Draft, device: Device, why: string, see: string, ignore: readonly string[] = ["EEXIST"]): void {
  const type = own(typeBits, device.type);
  if (type === undefined) throw new EngineError("invalid", `device ${device.path}: type "${device.type}" is none of c, b, u, p`);
  const mode = (device.fileMode ?? everyone) | type;
  draft.child(
    {
      op: "mknod",
      dir: slots.root,
      path: inRoot(device.path),
      mode,
      major: device.major ?? 0,
      minor: device.minor ?? 0,
      uid: device.uid ?? 0,
      gid: device.gid ?? 0,
    },
    why,
    { see, ignore },
  );
}

function bindNode(draft: Draft, device: Device, why: string, see: string): void {
  const mnt = draft.take();
  draft.child(
    { op: "mkfile", dir: slots.root, path: inRoot(device.path), mode: 0o666, parents: 1 },
    "a file to bind the host's node on: a user namespace may not make devices",
  );
  draft.child({ op: "open_tree", dir: NO_SLOT, path: device.path, flags: OPEN_TREE_CLONE, out: mnt }, `the host's ${device.path}`);
  draft.child({ op: "move_mount", mnt, dir: slots.root, path: inRoot(device.path) }, why, { see });
  draft.release(mnt);
}
