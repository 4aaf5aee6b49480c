import { mkdir, open, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { findProgram, type RunOptions, run, runStreaming } from "./program.ts";

const maxBusyboxBytes = 64 * 1024 * 1024;

/** Path of a statically linked busybox: the installed one, or one out of Debian's package, unpacked below `workDir`. */
export async function findStaticBusybox(workDir: string, options: RunOptions): Promise<string> {
  for (const path of ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"]) if (await isStaticProgram(path)) return path;
  options.onLine?.("no static busybox installed: downloading the package busybox-static");
  return downloadBusybox(workDir, options);
}

/** True for an ELF program that asks for no dynamic loader. @see elf(5) */
export async function isStaticProgram(path: string): Promise<boolean> {
  let head: Buffer;
  try {
    await using file = await open(path, "r");
    head = (await file.read(Buffer.alloc(4096), 0, 4096, 0)).buffer;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
  // 64 bit, little endian: what wherry runs on.
  if (head.toString("latin1", 0, 6) !== "\x7fELF\x02\x01") return false;
  const table = Number(head.readBigUInt64LE(32));
  const [size, count] = [head.readUInt16LE(54), head.readUInt16LE(56)];
  const ptInterp = 3;
  for (let i = 0; i < count; i++) {
    const at = table + i * size;
    if (at + 4 > head.length || head.readUInt32LE(at) === ptInterp) return false;
  }
  return count > 0;
}

async function downloadBusybox(workDir: string, options: RunOptions): Promise<string> {
  const aptGet = await findProgram("apt-get");
  const dpkgDeb = await findProgram("dpkg-deb");
  if (aptGet === undefined || dpkgDeb === undefined) {
    throw new EngineError("unavailable", "there is no static busybox here, and no apt-get to get one with", {
      hint: "install a static busybox as /usr/local/bin/busybox, or load an image (wherry load)",
    });
  }
  const directory = join(workDir, "package");
  await mkdir(directory, { recursive: true });
  const download = () => run(aptGet, ["download", "busybox-static"], { ...options, cwd: directory });
  try {
    // A new machine has no package lists yet, or old ones: they are fetched when the first try finds nothing.
    await download().catch(async (error: unknown) => {
      if (!(error instanceof EngineError) || error.code !== "internal") throw error;
      await run(aptGet, ["update", "-q"], options);
      await download();
    });
  } catch (error) {
    if (error instanceof EngineError && error.code === "internal")
      throw new EngineError("unavailable", error.message, { cause: error, hint: "apt-get update; apt-get install busybox-static" });
    throw error;
  }
  const deb = (await readdir(directory)).find((name) => name.endsWith(".deb"));
  if (deb === undefined) throw new EngineError("internal", "apt-get download left no package");
  return unpackBusybox(runStreaming(dpkgDeb, ["--fsys-tarfile", join(directory, deb)], options), join(workDir, "busybox"));
}

/** Takes the program out of the package's tree. */
async function unpackBusybox(tar: AsyncIterable<Uint8Array>, path: string): Promise<string> {
  const reader = new TarReader(tar);
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      if (entry.type !== "file" || !/^(\.\/)?(usr\/)?bin\/busybox$/.test(entry.name)) continue;
      await writeFile(path, await reader.readAll(maxBusyboxBytes), { mode: 0o755 });
      await using file = await open(path, "r+");
      // The image's time is that of the program.
      const seconds = Number(entry.mtimeNs / 1_000_000_000n);
      await file.utimes(seconds, seconds);
      return path;
    }
  } finally {
    await reader.close();
  }
  throw new EngineError("internal", "the package busybox-static has no bin/busybox");
}
