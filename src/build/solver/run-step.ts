/** RUN: what its key is made of, and what its container sees. @module */
import { mkdir, mkdtemp, rm, writeFile, chmod, chown } from "node:fs/promises";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { MountFlag } from "../frontend/instruction.ts";
import type { RunOperation } from "../graph/operation.ts";
import { Hidden, type Inputs, type StepInputs } from "../cache/record.ts";
import type { RunMount } from "./host.ts";
import type { BuildRequest } from "./build-request.ts";
import type { CacheMounts } from "./cache-mounts.ts";
import { fingerprint } from "./copy-layer.ts";
import { fetchAll } from "./copy-step.ts";
import { selectFiles } from "./select-files.ts";
import { resolveWithin, type SourceTree, pathOf } from "./source-tree.ts";
import { materialize } from "./materialize.ts";

/** The tree that a mount's `from` means. */
export type TreeOf = (from: string | undefined) => Promise<{ readonly tree: SourceTree; readonly what: string }>;

/** `mayKnow`: what an earlier build has found out of the same files serves. That is good to ask the cache, not to run with. */
export async function runInputs(
  operation: RunOperation,
  request: Pick<BuildRequest, "secret">,
  { treeOf, mayKnow }: { readonly treeOf: TreeOf; readonly mayKnow: boolean },
): Promise<StepInputs> {
  const { argv, env, argNames, user, workdir, network, mounts, script } = operation;
  const inputs: Record<string, string | Hidden> = {
    operation: "run",
    command: JSON.stringify(argv),
    user,
    workdir,
    network,
    ...(script === undefined ? {} : { script: createHash("sha256").update(script.content).digest("hex") }),
  };
  for (const pair of env) {
    const at = pair.indexOf("=");
    const name = pair.slice(0, at);
    inputs[`${argNames.includes(name) ? "ARG" : "ENV"} ${name}`] = new Hidden(pair.slice(at + 1));
  }
  for (const mount of mounts) Object.assign(inputs, await mountInputs(mount, request), mount.type === "bind" ? await boundFiles(mount, treeOf, mayKnow) : {});
  return inputs;
}

function nameOf({ type, target, id }: MountFlag): string {
  return `mount ${type} ${target ?? id ?? ""}`;
}

async function mountInputs(mount: MountFlag, { secret }: Pick<BuildRequest, "secret">): Promise<StepInputs> {
  const { type, target: _target, id, required: _required, ...rest } = mount;
  const name = nameOf(mount);
  const inputs: Record<string, string | Hidden> = { [name]: JSON.stringify({ ...rest, id }) };
  if (type === "secret") {
    const content = await secret(id ?? "");
    inputs[`${name} content`] = content === undefined ? "none" : new Hidden(content);
  }
  return inputs;
}

async function boundFiles(mount: MountFlag, treeOf: TreeOf, mayKnow: boolean): Promise<Inputs> {
  const { tree, what } = await treeOf(mount.from);
  const question = JSON.stringify(["mount", nameOf(mount), mount.source]);
  const known = mayKnow ? tree.known?.get(question) : undefined;
  if (known !== undefined) return known;
  const missing = (pattern: string) => new EngineError("invalid", `failed to compute cache key: ${pattern} not found in ${what}`);
  const changes = { owner: undefined, mode: undefined, clampNs: undefined };
  const selections = await selectFiles(tree, mount.source === "" ? "/" : mount.source, { parents: false, exclude: [], missing });
  await fetchAll(selections);
  const hash = createHash("sha256");
  for (const { files } of selections)
    for (const file of files) hash.update(`${JSON.stringify(file.name)}:${await fingerprint(file, changes, file.name === "")}\n`);
  const inputs = { [`${nameOf(mount)} files`]: hash.digest("hex") };
  tree.known?.set(question, inputs);
  return inputs;
}

/** The mounts of one run as directories and files of the host; disposing removes what was made for it. */
export interface OpenMounts extends AsyncDisposable {
  readonly mounts: readonly RunMount[];
  /** Secrets that were asked for as variables. */
  readonly env: readonly string[];
}

export async function openMounts(
  operation: RunOperation,
  request: BuildRequest,
  { caches, runtimeDir, treeOf }: { readonly caches: CacheMounts; readonly runtimeDir: string; readonly treeOf: TreeOf },
): Promise<OpenMounts> {
  const undo: (() => Promise<unknown>)[] = [];
  const mounts: RunMount[] = [];
  const env: string[] = [];
  const dispose = async () => {
    for (const step of undo.reverse()) await step();
  };
  try {
    const folder = await mkdtemp(join(caches.scratch, "run-"));
    undo.push(() => rm(folder, { recursive: true, force: true }));
    let secrets: string | undefined;
    const secretPlace = async (name: string) => {
      if (secrets === undefined) {
        const made = (secrets = await mkdtemp(join(runtimeDir, "secrets-")));
        undo.push(() => rm(made, { recursive: true, force: true }));
      }
      return join(secrets, name);
    };
    for (const [i, mount] of operation.mounts.entries()) {
      const place = join(folder, String(i));
      switch (mount.type) {
        case "tmpfs":
          mounts.push({
            kind: "tmpfs",
            source: "",
            target: mount.target!,
            readonly: false,
            ...(mount.sizeBytes === undefined ? {} : { sizeBytes: mount.sizeBytes }),
          });
          break;
        case "cache": {
          const held = await caches.acquire(mount, request.signal, mount.from === undefined ? undefined : () => treeOf(mount.from));
          undo.push(() => held.release());
          mounts.push({ kind: "bind", source: held.directory, target: mount.target!, readonly: mount.readonly });
          break;
        }
        case "bind": {
          const { tree, what } = await treeOf(mount.from);
          const source = await resolveWithin((at) => tree.lstat(at), pathOf(mount.source), true);
          if ((await tree.lstat(source)) === undefined) throw new EngineError("invalid", `${mount.source} not found in ${what}`);
          await materialize(tree, source, place);
          mounts.push({ kind: "bind", source: place, target: mount.target!, readonly: mount.readonly });
          break;
        }
        case "secret": {
          const id = mount.id ?? "";
          const content = await request.secret(id);
          if (content === undefined) {
            if (mount.required) throw new EngineError("invalid", `secret ${id}: not found`);
            break;
          }
          if (mount.env !== undefined) env.push(`${mount.env}=${Buffer.from(content).toString("utf8")}`);
          if (mount.env !== undefined && mount.target === undefined) break;
          const file = await secretPlace(String(i));
          await writeFile(file, content, { mode: 0o600 });
          await chown(file, mount.uid ?? 0, mount.gid ?? 0);
          await chmod(file, mount.mode ?? 0o400);
          mounts.push({ kind: "bind", source: file, target: mount.target ?? `/run/secrets/${id}`, readonly: true });
          break;
        }
        case "ssh": {
          const socket = await request.sshAgent(mount.id ?? "default");
          if (socket === undefined) {
            if (mount.required) throw new EngineError("invalid", `unset ssh forward key ${mount.id ?? "default"}: the client offers no SSH agent`);
            break;
          }
          const target = mount.target ?? `/run/buildkit/ssh_agent.${i}`;
          mounts.push({ kind: "bind", source: socket, target, readonly: true });
          env.push(`SSH_AUTH_SOCK=${target}`);
          break;
        }
      }
    }
    if (operation.script !== undefined) {
      const place = join(folder, "script");
      await mkdir(place);
      const path = join(place, operation.script.path.split("/").at(-1)!);
      await writeFile(path, operation.script.content, { mode: 0o755 });
      await chmod(path, 0o755);
      mounts.push({ kind: "bind", source: place, target: dirname(operation.script.path), readonly: true });
    }
    return { mounts, env, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
