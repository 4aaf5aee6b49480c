/**
 * Reads files out of a root filesystem that is mounted nowhere: /etc/passwd and /etc/group, to know who `--user` is.
 * @module
 */
import { AT_RECURSIVE, CLONE, MOUNT_ATTR, MS, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import { attachedOverlaySteps } from "#linux/attached-overlay.ts";
import { filesystemSteps } from "#linux/filesystem-steps.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { layerImageSteps } from "#linux/layer-image.ts";
import { NO_SLOT, type Plan, type Step } from "#linux/plan.ts";
import type { RootMountData } from "./root-mount.ts";
import { slots } from "./slots.ts";
import { FSCONFIG_MAX } from "./plan-root.ts";

export interface RootFile {
  /** In the root; symlinks are followed within it. */
  readonly path: string;
  /** Key in the helper's reports. */
  readonly tag: number;
  /** Bytes; the file is cut there. */
  readonly max: number;
}

/** A call plan (no container is made): each file is reported under its tag; undefined = missing. */
export function planReadRootFiles(root: RootMountData, files: readonly RootFile[], facts: HostFacts): Plan {
  const steps: Step[] = [];
  const out = slots.root;
  const fs = slots.free;
  if (root.kind === "bind") {
    steps.push({
      op: "open_tree",
      dir: NO_SLOT,
      path: root.source,
      flags: OPEN_TREE_CLONE | AT_RECURSIVE,
      out,
      where: "host",
      why: "the root directory",
      section: "Look into the root filesystem",
    });
  } else {
    steps.push(...mountReadOnly(root, fs, out, facts));
  }
  for (const { path, tag, max } of files)
    steps.push({ op: "report", dir: out, path: path.replace(/^\/+/, ""), tag, max, where: "host", why: `reads ${path} as the container would see it` });
  return { steps };
}

function mountReadOnly(root: Exclude<RootMountData, { kind: "bind" }>, fs: number, out: number, facts: HostFacts): Step[] {
  const host = { where: "host" } as const;
  const section = "Look into the root filesystem";
  if (root.kind === "fs") {
    const [open, ...rest] = filesystemSteps({ ...root, readonly: true }, { fs, out, loops: fs + 1 }, "the root filesystem");
    return [{ ...open!, section }, ...rest];
  }
  if (root.kind === "fuse")
    return [{ op: "fuse", argv: root.argv, path: root.mountpoint, out, ...host, why: "the layers as one tree, by a program in user space", section }];
  // A container that has not run has nothing in its upper layer but mount points; one that has, may have a changed passwd there: as the top-most
  // lower layer it is read without being claimed as an upper one.
  const layers = [...(root.upper === undefined ? [] : [root.upper]), ...root.lower];
  const first = layers[0];
  const images = root.images === undefined ? [] : [...(root.upper === undefined ? [] : [undefined]), ...root.images];
  if (root.attachAt !== undefined && root.images !== undefined) {
    const [open, ...rest] = attachedOverlaySteps(
      { lower: layers, images, options: root.options.filter((option) => option !== "volatile"), attachAt: root.attachAt },
      out,
      fs,
    );
    return [{ ...open!, section }, ...rest];
  }
  if (layers.length === 1 && first !== undefined)
    return [{ op: "open_tree", dir: NO_SLOT, path: first, flags: OPEN_TREE_CLONE, out, ...host, why: "the only layer", section }];
  const joined = layers.map((layer) => layer.replace(/[\\:]/g, (c) => `\\${c}`)).join(":");
  const fits = facts.overlay.lowerdirPlus ? layers.every((layer) => Buffer.byteLength(layer) <= FSCONFIG_MAX) : Buffer.byteLength(joined) <= FSCONFIG_MAX;
  if (!fits) return mountInPrivate(root, out, section);
  const directories = (paths: readonly string[]): Step => ({
    op: "fsconfig_dirs",
    fs,
    key: "lowerdir+",
    dir: NO_SLOT,
    paths,
    ...host,
    why: "the layers, top-most first",
  });
  const config: Step[] = !facts.overlay.lowerdirPlus
    ? [{ op: "fsconfig_str", fs, key: "lowerdir", value: joined, ...host, why: "the layers, top-most first" }]
    : root.images === undefined
      ? [directories(layers)]
      : layers.flatMap((layer, i): Step[] => {
          const image = images[i];
          if (image === undefined) return [directories([layer])];
          const [context, mount] = [fs + 1, fs + 2 + i] as const;
          return [
            ...layerImageSteps(image, { fs: context, out: mount, loops: mount + 1 }, "a layer"),
            { op: "fsconfig_fd", fs, key: "lowerdir+", fd: mount, ...host, why: "a layer" },
          ];
        });
  return [
    { op: "fsopen", fstype: "overlay", out: fs, ...host, why: "the layers seen as one tree", section },
    ...config,
    { op: "fsmount", fs, attrs: MOUNT_ATTR.RDONLY, out, ...host, why: "mounted read-only, attached nowhere" },
  ];
}

/** Too much for fsconfig(2): mount(2) with short names, in a mount namespace that the worker makes for itself and that ends with it. */
function mountInPrivate(root: Extract<RootMountData, { kind: "overlay" }>, out: number, section: string): Step[] {
  const host = { where: "host" } as const;
  const upper = root.upper === undefined ? [] : [root.upper.replace(/[\\:,]/g, (c) => `\\${c}`)];
  return [
    { op: "unshare", flags: CLONE.NEWNS, ...host, why: "a mount namespace for this look only", section },
    { op: "mount", source: "none", dir: NO_SLOT, path: "/", fstype: "", flags: MS.SLAVE | MS.REC, data: "", ...host, why: "what is mounted here stays here" },
    { op: "chdir", path: root.linkDir, ...host, why: "the layers have short names here" },
    {
      op: "mount",
      source: "overlay",
      dir: NO_SLOT,
      path: root.linkDir,
      fstype: "overlay",
      flags: MS.RDONLY,
      data: `lowerdir=${[...upper, ...root.links].join(":")}`,
      ...host,
      why: "the layers seen as one tree",
    },
    { op: "openat", dir: NO_SLOT, path: root.linkDir, flags: O.PATH | O.DIRECTORY, mode: 0, out, ...host, why: "its root directory" },
  ];
}
