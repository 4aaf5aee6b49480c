/**
 * RUN: a command of a build in a container of its own, made as any other is. What it has written becomes a layer.
 * @module
 */
import type { Layer, RunRequest, RunResult } from "#build/solver/host.ts";
import type { Container } from "#container/container.ts";
import { type ContainerConfig, emptyHostConfig, type HostConfig, type MountSpec } from "#core/container-config.ts";
import type { ChainID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { framePieces } from "#core/stream-frame.ts";
import { emptyLayer } from "#image/mod.ts";
import { type ByteString, parentOf, toBytes } from "#unionfs/bytes.ts";
import { attachContainer } from "./attach-container.ts";
import { openChain, openRootMount } from "./chain-tree.ts";
import type { EngineContext } from "./context.ts";
import { createBuildContainer } from "./create-container.ts";
import { removeContainer } from "./remove-container.ts";
import { startContainer } from "./start-container.ts";
import { killContainer } from "./stop-container.ts";
import { waitContainer } from "./wait-container.ts";

export async function runBuildStep(ctx: EngineContext, request: RunRequest): Promise<RunResult> {
  const { parent, signal } = request;
  const targets = request.mounts.map(({ target }) => target.replace(/^\/+/, ""));
  const missing = await missingPaths(ctx, parent, targets);
  const { id } = await createBuildContainer(ctx, { config: configOf(request), hostConfig: hostConfigOf(request), chainId: parent });
  let keep = false;
  try {
    request.onContainer(id);
    const { exitCode, reason } = await runToEnd(ctx, id, request);
    if (signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause: signal.reason });
    keep = exitCode === 0 ? request.keep : request.keepFailed;
    if (exitCode !== 0 && !request.commitFailed) return { exitCode, reason };
    return { exitCode, reason, layer: await layerOf(ctx, ctx.registry.get(id), { parent, missing, clampNs: request.clampNs, keep }) };
  } finally {
    try {
      if (!keep) await removeContainer(ctx, id, { force: true, volumes: true });
    } finally {
      ctx.builds.steps.delete(id);
    }
  }
}

async function runToEnd(ctx: EngineContext, id: string, { onOutput, signal }: RunRequest): Promise<{ readonly exitCode: number; readonly reason: string }> {
  const { stream } = await attachContainer(ctx, id, { stdin: false, stdout: true, stderr: true, stream: true, logs: false, detachKeys: new Uint8Array() });
  const output = (async () => {
    for await (const piece of framePieces(stream)) onOutput(piece.stream, piece.data);
  })();
  // It is awaited below; until then a failure must not count as unhandled.
  output.catch(() => undefined);
  const kill = () => void killContainer(ctx, id, "SIGKILL").catch(() => undefined); // it has ended by itself
  try {
    if (signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause: signal.reason });
    await startContainer(ctx, id);
    signal.addEventListener("abort", kill, { once: true });
    if (signal.aborted) kill();
    const { exitCode, error } = await waitContainer(ctx, id, "not-running");
    await output;
    return { exitCode, reason: error ?? ctx.registry.get(id).state.reason };
  } finally {
    signal.removeEventListener("abort", kill);
    stream.destroy();
  }
}

/** What the snapshot differs in from the chain below it; undefined = in nothing. Unless the container is kept, its snapshot may become the layer. */
async function layerOf(
  ctx: EngineContext,
  { record }: Container,
  {
    parent,
    missing,
    clampNs,
    keep,
  }: { readonly parent: ChainID | undefined; readonly missing: readonly ByteString[]; readonly clampNs: bigint | undefined; readonly keep: boolean },
): Promise<Layer | undefined> {
  await removeMountPoints(ctx, record.snapshot, missing);
  await ctx.budget.makeRoom(async () => (await ctx.layers.driver.usage(record.snapshot)).bytes);
  const layer = await ctx.layers.commit(record.snapshot, parent, { keep, ...(clampNs === undefined ? {} : { latestNs: clampNs }) });
  return layer.diffId === emptyLayer ? undefined : layer;
}

/** Of the mounts' targets and the directories above them: those that the chain lacks, deepest first. */
async function missingPaths(ctx: EngineContext, parent: ChainID | undefined, targets: readonly string[]): Promise<ByteString[]> {
  if (targets.length === 0) return [];
  const root = parent === undefined ? undefined : await openChain(ctx, parent);
  try {
    const missing = new Set<ByteString>();
    for (const target of targets) {
      for (let path = Buffer.from(target, "utf8").toString("latin1"); path !== ""; path = parentOf(path)) {
        if ((await root?.lstat(toBytes(path))) !== undefined) break;
        missing.add(path);
      }
    }
    return [...missing].sort((a, b) => b.split("/").length - a.split("/").length);
  } finally {
    await root?.close();
  }
}

/** What was made to mount on is no part of the layer, unless the command has put something there. */
async function removeMountPoints(ctx: EngineContext, snapshot: string, paths: readonly ByteString[]): Promise<void> {
  if (paths.length === 0) return;
  const changes = await ctx.layers.driver.changes(snapshot);
  const tree = changes.kind === "upper" ? await ctx.helper.openTree(changes.dir) : await openRootMount(ctx, changes.root, `build step ${snapshot}`);
  try {
    for (const path of paths) {
      const stat = await tree.lstat(toBytes(path));
      if (stat === undefined || (stat.type === "file" ? stat.size > 0 : stat.type !== "dir")) continue;
      let entries = 0;
      for await (const _entry of tree.walk(toBytes(path))) if (++entries > 1) break;
      if (entries <= 1) await tree.remove(toBytes(path));
      await tree.flush();
    }
  } finally {
    await tree.close();
  }
}

function configOf({ operation, parent }: RunRequest): ContainerConfig {
  return {
    Hostname: "",
    Domainname: "",
    User: operation.user,
    AttachStdin: false,
    AttachStdout: true,
    AttachStderr: true,
    Tty: false,
    OpenStdin: false,
    StdinOnce: false,
    Env: [...operation.env],
    Cmd: [...operation.argv],
    Image: parent ?? "scratch",
    Volumes: null,
    WorkingDir: operation.workdir,
    Entrypoint: null,
    OnBuild: null,
    Labels: {},
  };
}

function hostConfigOf({ mounts, limits, operation }: RunRequest): HostConfig {
  if (operation.network === "host" && limits.hostNetwork === false) throw new EngineError("denied", "this build may not use the host's network");
  const binds = mounts.filter(({ kind }) => kind === "bind");
  return {
    ...emptyHostConfig,
    // The output goes to whoever builds.
    LogConfig: { Type: "none", Config: {} },
    ...limits.resources,
    Ulimits: limits.ulimits.length === 0 ? null : [...limits.ulimits],
    ShmSize: limits.shmSizeBytes,
    ExtraHosts: limits.extraHosts.length === 0 ? null : [...limits.extraHosts],
    NetworkMode: operation.network === "default" ? limits.networkMode : operation.network,
    Mounts: binds.map(({ source, target, readonly }): MountSpec => ({ Type: "bind", Source: source, Target: target, ReadOnly: readonly })),
    Tmpfs: Object.fromEntries(
      mounts.filter(({ kind }) => kind === "tmpfs").map(({ target, sizeBytes }) => [target, sizeBytes === undefined ? "" : `size=${sizeBytes}`]),
    ),
  };
}
