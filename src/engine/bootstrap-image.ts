/**
 * `image bootstrap`: a base image made on this machine from Debian packages, for hosts that reach no registry.
 * @module
 */
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Image } from "#image/mod.ts";
import { toByteString } from "#unionfs/bytes.ts";
import { endBlocks, formatHeader, padding, type WriteEntry } from "#unionfs/tar/writer.ts";
import { type TarSource, writeTar } from "#unionfs/write-tree.ts";
import type { EngineContext } from "./context.ts";

const DEFAULT_SUITE = "bookworm";
const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** `busybox`, `debian`, `debian:SUITE`. */
export async function bootstrapImage(ctx: EngineContext, what: string, onProgress: (line: string) => void, signal?: AbortSignal): Promise<Image> {
  const [, kind, suite = DEFAULT_SUITE] = /^(busybox|debian)(?::([a-z]+))?$/.exec(what) ?? [];
  if (kind === undefined || (kind === "busybox" && what !== "busybox")) throw new EngineError("invalid", `cannot bootstrap "${what}"`, { hint: "busybox, debian or debian:SUITE" });
  const options = signal === undefined ? {} : { signal };
  const id =
    kind === "busybox"
      ? await ctx.images.import(await busyboxTar(), { reference: "busybox:latest", message: "Bootstrapped from Debian's busybox-static", changes: { Cmd: ["sh"], Env: [PATH] }, ...options })
      : await debianImage(ctx, suite, onProgress, signal);
  onProgress(`Loaded image: ${kind === "busybox" ? "busybox:latest" : `debian:${suite}`}`);
  return ctx.images.get(id);
}

const entry = (name: string, type: WriteEntry["type"], mode: number, extra: Partial<WriteEntry> = {}): WriteEntry => ({ name, type, linkname: "", mode, uid: 0, gid: 0, size: 0, mtimeNs: 0n, major: 0, minor: 0, xattrs: [], ...extra });

/** A tree around one static program: what busybox's own image has. */
async function busyboxTar(): Promise<AsyncIterable<Uint8Array>> {
  const program = await readFile("/bin/busybox").catch((cause: unknown) => {
    if (errnoOf(cause) === "ENOENT") throw new EngineError("not-found", "there is no /bin/busybox on this host", { cause, hint: "apt-get install busybox-static" });
    throw cause;
  });
  const { stdout } = await promisify(execFile)("/bin/busybox", ["--list-full"]);
  const applets = stdout.split("\n").filter((path) => /^[a-z0-9_./[\]-]+$/.test(path) && path !== "bin/busybox");
  const files: readonly [string, string][] = [
    ["etc/group", "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"],
    ["etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"],
    ["etc/shadow", "root:*:10933:0:99999:7:::\n"],
  ];
  const directories: readonly [string, number][] = [["bin", 0o755], ["dev", 0o755], ["etc", 0o755], ["home", 0o755], ["proc", 0o755], ["root", 0o700], ["sbin", 0o755], ["sys", 0o755], ["tmp", 0o1777], ["usr", 0o755], ["usr/bin", 0o755], ["usr/sbin", 0o755], ["var", 0o755], ["var/spool", 0o755], ["var/spool/mail", 0o755], ["var/www", 0o755]];
  async function* tar(): AsyncGenerator<Uint8Array> {
    for (const [name, mode] of directories) yield formatHeader(entry(name, "dir", mode));
    yield formatHeader(entry("bin/busybox", "file", 0o755, { size: program.length }));
    yield program;
    yield padding(program.length);
    for (const path of applets) yield formatHeader(entry(path, "symlink", 0o777, { linkname: "/bin/busybox" }));
    for (const [name, text] of files) {
      yield formatHeader(entry(name, "file", name === "etc/shadow" ? 0o600 : 0o644, { size: text.length }));
      yield Buffer.from(text);
      yield padding(text.length);
    }
    yield endBlocks();
  }
  return tar();
}

async function debianImage(ctx: EngineContext, suite: string, onProgress: (line: string) => void, signal?: AbortSignal): Promise<Awaited<ReturnType<EngineContext["images"]["import"]>>> {
  const work = join(ctx.options.dataRoot, "tmp");
  await mkdir(work, { recursive: true, mode: 0o700 });
  const root = await mkdtemp(join(work, "debootstrap-"));
  try {
    await runDebootstrap(suite, root, onProgress, signal);
    const [walk, reader] = await Promise.all([ctx.helper.openTree(root), ctx.helper.openTree(root)]);
    async function* sources(): AsyncGenerator<TarSource> {
      for await (const stat of walk.walk("")) {
        const path = toByteString(stat.path);
        // Packages that were downloaded are of no use in an image.
        if (path === "" || path.startsWith("var/cache/apt/archives/") || path.startsWith("var/lib/apt/lists/")) continue;
        yield { kind: "entry", path, stat, tree: reader };
      }
    }
    try {
      const tar = writeTar(sources());
      return await ctx.images.import(tar, { reference: `debian:${suite}`, message: `Bootstrapped with debootstrap ${suite}`, changes: { Cmd: ["bash"], Env: [PATH] }, ...(signal === undefined ? {} : { signal }) });
    } finally {
      await Promise.all([walk.close(), reader.close()]);
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Reports each line; the last ones are the error's message when it fails. */
async function runDebootstrap(suite: string, root: string, onProgress: (line: string) => void, signal?: AbortSignal): Promise<void> {
  const child = spawn("debootstrap", ["--variant=minbase", suite, root], { stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" }, ...(signal === undefined ? {} : { signal }) });
  const last: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface(stream).on("line", (line) => {
      onProgress(line);
      last.push(line);
      if (last.length > 5) last.shift();
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", (cause) => {
      if (errnoOf(cause) === "ENOENT") reject(new EngineError("not-found", "there is no debootstrap on this host", { cause, hint: "apt-get install debootstrap" }));
      else reject(new EngineError(signal?.aborted ? "cancelled" : "internal", `debootstrap: ${cause.message}`, { cause }));
    });
    child.on("close", resolve);
  });
  if (code !== 0) throw new EngineError("unavailable", `debootstrap of ${suite} failed: ${last.join("; ")}`);
}
