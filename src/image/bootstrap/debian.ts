import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { toByteString } from "#unionfs/bytes.ts";
import { type TarSource, writeTar } from "#unionfs/write-tree.ts";
import type { Image, ImageStore } from "../mod.ts";
import { findMirror } from "./apt-mirror.ts";
import { findProgram, type RunOptions, run } from "./program.ts";

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * What is not taken over from the tree: what is below the mount points of a container, what apt and dpkg downloaded and logged, and
 * the host's own names and addresses, which debootstrap copies in.
 */
const leftOut = [/^(dev|proc|sys|run|tmp)\//];
const filesLeftOut = [
  /^var\/(cache\/apt|lib\/apt\/lists|log|tmp)\//,
  /^var\/cache\/(debconf|ldconfig)\/.*(-old|aux-cache)$/,
  /^var\/lib\/dpkg\/.*-old$/,
  /^etc\/(hostname|resolv\.conf|machine-id|\.pwd\.lock|[^/]*-)$/,
];

/** Makes `debian:SUITE` with debootstrap's smallest variant. */
export async function bootstrapDebian(
  store: ImageStore,
  suite: string,
  workDir: string,
  openTree: (root: string) => Promise<FileTree>,
  options: RunOptions,
): Promise<Image> {
  const [debootstrap, unshare] = [await findProgram("debootstrap"), await findProgram("unshare")];
  if (debootstrap === undefined || unshare === undefined) {
    throw new EngineError("unavailable", `${debootstrap === undefined ? "debootstrap" : "unshare"} is not installed, which a Debian image is made with`, {
      hint: "apt-get install debootstrap util-linux",
    });
  }
  const root = join(workDir, "debian");
  await mkdir(root, { mode: 0o755 });
  try {
    const mirror = await findMirror(suite);
    const args = ["--variant=minbase", suite, root, ...(mirror === undefined ? [] : [mirror])];
    // In a mount namespace of its own, so that what it mounts in the tree goes with it, however it ends: the tree will be deleted.
    await run(unshare, ["--mount", "--propagation", "private", debootstrap, ...args], {
      ...options,
      report: true,
      env: { DEBIAN_FRONTEND: "noninteractive", ...(await aptProxy(options)) },
    });
    options.onLine?.("making the image");
    return await importTree(store, suite, root, openTree, options);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function importTree(store: ImageStore, suite: string, root: string, openTree: (root: string) => Promise<FileTree>, options: RunOptions): Promise<Image> {
  const tree = await openTree(root);
  try {
    const id = await store.import(writeTar(treeEntries(tree)), {
      reference: `debian:${suite}`,
      createdBy: `wherry image bootstrap debian:${suite}`,
      message: "",
      changes: { Env: [`PATH=${defaultPath}`], Cmd: ["bash"] },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return await store.get(id);
  } finally {
    await tree.close();
  }
}

async function* treeEntries(tree: FileTree): AsyncIterable<TarSource> {
  for await (const stat of tree.walk("")) {
    const path = toByteString(stat.path);
    const patterns = stat.type === "dir" ? leftOut : [...leftOut, ...filesLeftOut];
    if (path !== "" && !patterns.some((pattern) => pattern.test(path))) yield { kind: "entry", path, stat, tree };
  }
}

/** apt's proxies, for debootstrap's wget. */
async function aptProxy(options: RunOptions): Promise<Record<string, string>> {
  const aptConfig = await findProgram("apt-config");
  if (aptConfig === undefined) return {};
  const text = await run(aptConfig, ["shell", "http_proxy", "Acquire::http::Proxy", "https_proxy", "Acquire::https::Proxy"], { signal: options.signal });
  return Object.fromEntries([...text.matchAll(/^(https?_proxy)='([^']*)'$/gm)].map(([, name, value]) => [name, value]));
}
