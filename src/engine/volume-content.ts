/** What is in a volume: copied to a new one, as a tar, and from a tar. A new volume is there when it is complete, or not at all. @module */
import { copyTree } from "#unionfs/copy-tree.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import { type TarSource, writeTar } from "#unionfs/write-tree.ts";
import { EngineError } from "#core/errors.ts";
import type { VolumeRecord } from "#volume/mod.ts";
import type { EngineContext } from "./context.ts";
import { extractTar } from "./extract-archive.ts";
import { volumeUsers } from "./remove-container.ts";

export async function cloneVolume(ctx: EngineContext, name: string, newName: string): Promise<VolumeRecord> {
  const { Mountpoint: source, Labels: labels } = plain(ctx, name);
  requireNew(ctx, newName);
  const clone = await ctx.volumes.create({
    name: newName,
    ...(labels === null ? {} : { labels }),
    fill: async (directory) => {
      await using from = await opened(ctx, source);
      await using to = await opened(ctx, directory);
      await copyTree({ tree: from.tree, directory: source }, { tree: to.tree, directory });
    },
  });
  ctx.events.publish("volume", "create", newName, { driver: "local" });
  return clone;
}

/** Names in it begin with "./", as `tar -C DIR .` writes them. */
export async function exportVolume(ctx: EngineContext, name: string, onChanged?: (message: string) => void): Promise<AsyncIterable<Uint8Array>> {
  const { Mountpoint: directory } = plain(ctx, name);
  return tarOf(ctx, directory, (what) => {
    ctx.log("warn", `export of volume ${name}: ${what}`);
    onChanged?.(what);
  });
}

async function* tarOf(ctx: EngineContext, directory: string, onChanged: (message: string) => void): AsyncGenerator<Uint8Array> {
  await using from = await opened(ctx, directory);
  const { tree } = from;
  async function* entries(): AsyncGenerator<TarSource> {
    for await (const stat of tree.walk("")) {
      const path = Buffer.from(stat.path).toString("latin1");
      yield { kind: "entry", path: path === "" ? "." : `./${path}`, stat, tree };
    }
  }
  yield* writeTar(entries(), onChanged);
}

/** Into a volume that is there (what it has stays, unless the archive has the same name) or a new one. */
export async function importVolume(ctx: EngineContext, name: string, archive: AsyncIterable<Uint8Array>): Promise<VolumeRecord> {
  const fill = async (directory: string) => {
    await using to = await opened(ctx, directory);
    await extractTar(decompress(archive), { opened: { tree: to.tree }, at: "", absolute: "/", noOverwriteDirNonDir: false, owner: undefined });
  };
  if (ctx.volumes.find(name) !== undefined) {
    await fill(plain(ctx, name).Mountpoint);
    return ctx.volumes.get(name);
  }
  const volume = await ctx.volumes.create({ name, fill });
  ctx.events.publish("volume", "create", name, { driver: "local" });
  return volume;
}

/** @throws EngineError "conflict" when containers name it, or the new name is taken */
export async function renameVolume(ctx: EngineContext, name: string, newName: string): Promise<void> {
  const { Driver: driver } = ctx.volumes.get(name);
  const users = volumeUsers(ctx, name);
  if (users.length > 0)
    throw new EngineError("conflict", `rename ${name}: volume is in use - [${users.join(", ")}]`, {
      hint: "remove these containers first: they know it by its name",
    });
  requireNew(ctx, newName);
  await ctx.volumes.rename(name, newName);
  ctx.events.publish("volume", "rename", newName, { driver, oldName: name });
}

/** A volume whose files are always there to be read. */
function plain(ctx: EngineContext, name: string): VolumeRecord {
  const volume = ctx.volumes.get(name);
  if (ctx.volumes.backing(name).kind === "mount")
    throw new EngineError("unsupported", `volume ${name} is mounted only while a container uses it`, { hint: "copy from a container that has it: wherry cp" });
  return volume;
}

function requireNew(ctx: EngineContext, name: string): void {
  if (ctx.volumes.find(name) !== undefined) throw new EngineError("conflict", `volume ${name} already exists`);
}

async function opened(
  ctx: EngineContext,
  directory: string,
): Promise<AsyncDisposable & { readonly tree: Awaited<ReturnType<EngineContext["helper"]["openTree"]>> }> {
  const tree = await ctx.helper.openTree(directory);
  return { tree, [Symbol.asyncDispose]: () => tree.close() };
}
