/** `wherry build`. @module */
import { mkdir, readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Readable } from "node:stream";
import { contextPlace } from "#api/types/build-context.ts";
import type { BuildEventJson } from "#api/types/build-json.ts";
import { decodeLines } from "#api/types/ndjson.ts";
import type { ProgressLine } from "#api/types/progress.ts";
import { type CacheEntry, cacheFrom, cachesTo } from "#api/types/build-cache.ts";
import { EngineError } from "#core/errors.ts";
import { parseReference } from "#core/reference.ts";
import { openContext } from "./build-context.ts";
import { checkDockerfile } from "./build-check.ts";
import { type Left, offerShell } from "./build-shell.ts";
import { type BuildView, plainView, terminalView } from "./build-progress.ts";
import { type Call, type Command, command } from "./command.ts";
import { writeTree } from "./cp-write.ts";
import { ExitError } from "./errors.ts";
import { archiveOut, writeOutput } from "./files.ts";
import { int, many, one, onOff } from "./flags.ts";
import { checkArg } from "#build/frontend/lint.ts";
import { csvFields } from "#build/frontend/parse-mount.ts";
import { explainFileError } from "./options/file-error.ts";
import { parseBytes, parseSwapBytes } from "./options/bytes.ts";
import { parseUlimit } from "./options/resources.ts";
import { print, write } from "./output.ts";

export const buildCommand: Command = command({
  usage: "[OPTIONS] PATH | URL | -",
  about: "Build an image from a Dockerfile",
  examples: [
    ["build -t web .", "the Dockerfile of this directory"],
    ["build -f ci/Dockerfile --target test --build-arg VERSION=2 .", "one of its stages, with a value for an ARG"],
    ["build --explain-cache .", "says of each step that is run again why"],
    ["build -o type=local,dest=out .", "the result as files instead of an image"],
  ],
  flags: [
    one("file,f", "Name of the Dockerfile (default PATH/Dockerfile; - for stdin)"),
    many("tag,t", "Name and optionally a tag (name:tag)", { parse: imageName }),
    many("build-arg", "Value of an ARG (NAME=value, or NAME of the environment)"),
    one("target", "Stage to build"),
    onOff("no-cache", "Run every step"),
    many("no-cache-filter", "Run every step of a stage", { metavar: "stage" }),
    onOff("pull", "Ask for newer base images"),
    onOff("quiet,q", "Only print the image's id"),
    one("iidfile", "Write the image's id to a file"),
    one("metadata-file", "Write what came out to a file, as JSON"),
    many("label", "Set metadata for the image"),
    one("network", "Network of RUN steps", { initial: "default" }),
    many("secret", "What RUN --mount=type=secret sees: id=NAME,src=FILE or id=NAME,env=VARIABLE"),
    one("platform", "Platform of the image, as linux/amd64"),
    one("progress", "auto, plain, tty or quiet", { initial: "auto" }),
    one("output,o", "Where the result goes: type=local,dest=DIR, type=tar,dest=FILE, type=oci,dest=FILE; alone: a directory"),
    onOff("check", "Say what in the Dockerfile is unwise, and build nothing"),
    onOff("explain-cache", "Say why a step is not answered by the cache, and which cache has answered"),
    many("cache-from", "A cache to ask: an image, type=registry,ref=IMAGE or type=local,src=DIR", { metavar: "strings" }),
    many("cache-to", "Where this build's cache goes: type=inline, type=registry,ref=IMAGE or type=local,dest=DIR; with mode=max of all stages", {
      metavar: "strings",
    }),
    many("add-host", "Add a host to RUN's /etc/hosts (name:ip)"),
    many("ssh", "What RUN --mount=type=ssh reaches: default, or ID=SOCKET of an agent"),
    many("build-context", "A further context by name: NAME=DIRECTORY, NAME=docker-image://IMAGE or NAME=URL"),
    one("memory,m", "Memory limit of RUN steps", { metavar: "bytes", initial: 0, parse: parseBytes }),
    one("memory-swap", "Limit of memory and swap together of RUN steps; -1 for unlimited swap", { metavar: "bytes", initial: 0, parse: parseSwapBytes }),
    int("cpu-shares,c", "CPU shares of RUN steps (relative weight)"),
    int("cpu-period", "Length of a CPU period of RUN steps, microseconds"),
    int("cpu-quota", "CPU time in each period of RUN steps, microseconds"),
    one("cpuset-mems", "Memory nodes that RUN may use (0-3, 0,1)"),
    many("ulimit", "Resource limits of RUN steps (nofile=1024:2048)", { metavar: "ulimit", parse: parseUlimit }),
    one("shm-size", "Size of RUN's /dev/shm", { metavar: "bytes", initial: 0, parse: parseBytes }),
    one("cpuset-cpus", "CPUs that RUN may use (0-3, 0,1)"),
    one("cgroup-parent", "Parent cgroup of RUN's containers"),
    onOff("squash", "Make all layers of the last stage one"),
    onOff("debug-shell", "When a RUN fails: a shell in the file system that it has left, or, without a terminal, how to get one"),
    onOff("rm", "Remove the containers of steps that succeeded", true),
    onOff("force-rm", "Remove those of steps that failed too", true),
  ],
  arity: [1, 1],
  run: (call) => build(call),
});

async function build(call: Call): Promise<number> {
  const { args, client, flags, io } = call;
  const output = parseOutput(flags.text("output"));
  if (flags.on("check")) return checkDockerfile(io, args[0]!, flags.text("file"), buildArgsOf(call)[checkArg] ?? undefined);
  const contexts = namedContexts(call);
  const context = await openContext(io, {
    path: args[0]!,
    file: flags.text("file"),
    isDirect: client.direct,
    named: contexts.directories,
    agents: agentsOf(call),
  });
  const secrets = await secretsOf(call);
  const reply = await client.stream("POST", "/build", {
    query: {
      ...queryOf(call, context),
      ...cachesOf(call, context),
      ...(contexts.others.length === 0 ? {} : { buildcontexts: JSON.stringify(Object.fromEntries(contexts.others)) }),
    },
    headers: { "Content-Type": "application/x-tar", ...(secrets === undefined ? {} : { "x-wherry-secrets": secrets }) },
    ...(context.directory === undefined ? { body: context.body ?? Readable.from([]) } : { directory: context.directory }),
    signal: io.gone,
  });
  const id = await follow(reply.body, call);
  if (flags.text("iidfile") !== "") await writeOutput(io, flags.text("iidfile"), Readable.from([id], { objectMode: false }));
  if (flags.text("metadata-file") !== "") {
    const metadata = { "containerimage.config.digest": id, "image.name": flags.list("tag").join(",") };
    await writeOutput(io, flags.text("metadata-file"), Readable.from([`${JSON.stringify(metadata, undefined, 2)}\n`], { objectMode: false }));
  }
  if (output !== undefined) await put(output, id, call);
  if (flags.on("quiet")) await print(io, id);
  return 0;
}

/** What `--build-context` gives: directories of this host, and what the engine fetches. */
function namedContexts({ flags, io }: Call): { readonly directories: Readonly<Record<string, string>>; readonly others: readonly [string, string][] } {
  const directories: Record<string, string> = {};
  const others: [string, string][] = [];
  for (const text of flags.list("build-context")) {
    const at = text.indexOf("=");
    if (at <= 0) throw new ExitError(1, `invalid context value: ${text}, expected key=value`);
    const [name, value] = [text.slice(0, at), text.slice(at + 1)];
    const { kind } = contextPlace(value);
    if (kind === "unknown") throw new ExitError(1, `invalid build context ${text}: a directory, docker-image://IMAGE or an URL is expected`);
    if (kind === "path") directories[name] = resolve(io.cwd, value);
    else others.push([name, value]);
  }
  return { directories, others };
}

/** Throws Error in docker's words for what names no image. */
function imageName(text: string): string {
  parseReference(text);
  return text;
}

/** `default`, `id` or `id=socket`; where nothing is said, the socket is the environment's. */
function agentsOf({ flags, io }: Call): Record<string, string> {
  const entries = flags.list("ssh").map((text) => {
    const at = text.indexOf("=");
    const [id, given] = at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
    const socket = given ?? io.env["SSH_AUTH_SOCK"];
    if (socket === undefined || socket === "") throw new ExitError(1, `invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set`);
    return [id, resolve(io.cwd, socket)] as const;
  });
  return Object.fromEntries(entries);
}

/** @throws ExitError for what the engine would refuse */
function cachesOf({ flags, io }: Call, { directory }: { readonly directory?: unknown }) {
  const entries = (flag: "cache-from" | "cache-to") => {
    const given = flags
      .list(flag)
      .flatMap(cacheEntry)
      .map(({ Type, Attrs }) => {
        const paths = Object.entries(Attrs).map(([name, value]) => [
          name,
          Type === "local" && (name === "src" || name === "dest") ? resolve(io.cwd, value) : value,
        ]);
        return { Type, Attrs: Object.fromEntries(paths) as CacheEntry["Attrs"] };
      });
    try {
      for (const entry of given) if (flag === "cache-from") cacheFrom(entry);
      if (flag === "cache-to") cachesTo(given, {});
    } catch (error) {
      if (error instanceof EngineError) throw new ExitError(1, error.message);
      throw error;
    }
    if (directory === undefined && given.some(({ Type }) => Type === "local"))
      throw new ExitError(1, `--${flag}: a directory is read and written only by a local engine that builds from a directory`);
    return given.length === 0 ? undefined : JSON.stringify(given);
  };
  return { cachefrom: entries("cache-from"), cacheto: entries("cache-to") };
}

/** `type=registry,ref=…`; words without a name are images. */
function cacheEntry(given: string): CacheEntry[] {
  const fields = csvFields(given).filter(Boolean);
  if (fields.every((field) => !field.includes("="))) return fields.map((ref) => ({ Type: "registry", Attrs: { ref } }));
  const { type, ...Attrs } = Object.fromEntries(
    fields.map((field) => {
      const at = field.indexOf("=");
      if (at < 0) throw new ExitError(1, `invalid value ${JSON.stringify(field)} of a cache: NAME=VALUE is expected`);
      return [field.slice(0, at).toLowerCase(), field.slice(at + 1)];
    }),
  ) as Record<string, string>;
  if (type === undefined) throw new ExitError(1, `type required form> ${JSON.stringify(given)}`);
  return [{ Type: type, Attrs }];
}

/** null: named without a value. */
function buildArgsOf({ flags, io }: Call): Record<string, string | null> {
  return Object.fromEntries(
    [...sourceDate(io.env["SOURCE_DATE_EPOCH"]), ...flags.list("build-arg")].map((text) => {
      const at = text.indexOf("=");
      return at < 0 ? [text, io.env[text] ?? null] : [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function queryOf(call: Call, { remote, dockerfile }: { readonly remote: string | undefined; readonly dockerfile: string }) {
  const { flags } = call;
  const labels = Object.fromEntries(
    flags.list("label").map((text) => {
      const at = text.indexOf("=");
      return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
    }),
  );
  return {
    progress: "events",
    dockerfile,
    remote,
    t: flags.list("tag"),
    target: flags.text("target") || undefined,
    nocache: flags.on("no-cache") ? 1 : undefined,
    nocachefilter: flags.list("no-cache-filter"),
    pull: flags.on("pull") ? 1 : undefined,
    platform: flags.text("platform") || undefined,
    networkmode: flags.text("network"),
    buildargs: JSON.stringify(buildArgsOf(call)),
    labels: JSON.stringify(labels),
    extrahosts: flags.list("add-host"),
    memory: flags.number("memory") || undefined,
    memswap: flags.number("memory-swap") || undefined,
    cpushares: flags.number("cpu-shares") || undefined,
    cpuperiod: flags.number("cpu-period") || undefined,
    cpuquota: flags.number("cpu-quota") || undefined,
    cpusetmems: flags.text("cpuset-mems") || undefined,
    ulimits: flags.list("ulimit").length === 0 ? undefined : JSON.stringify(flags.list("ulimit")),
    shmsize: flags.number("shm-size") || undefined,
    cpusetcpus: flags.text("cpuset-cpus") || undefined,
    cgroupparent: flags.text("cgroup-parent") || undefined,
    squash: flags.on("squash") ? 1 : undefined,
    leavefailed: flags.on("debug-shell") ? 1 : undefined,
    rm: flags.on("rm") ? 1 : 0,
    forcerm: flags.on("force-rm") ? 1 : 0,
  };
}

/** The environment's, as with buildx. */
function sourceDate(value: string | undefined): string[] {
  return value === undefined || value === "" ? [] : [`SOURCE_DATE_EPOCH=${value}`];
}

/** Shows the build; the image's id. Throws what it ended with. */
async function follow(body: AsyncIterable<Uint8Array>, call: Call): Promise<string> {
  const { flags, io } = call;
  const left: Left[] = [];
  const view = viewOf(flags.on("quiet") ? "quiet" : flags.text("progress"), io.isTty.stderr, flags.on("explain-cache"), io);
  let id = "";
  for await (const value of decodeLines(body)) {
    const line = value as ProgressLine; // the shape of every progress stream
    if (line.error !== undefined || line.errorDetail !== undefined) {
      await view.end(true);
      const message = `ERROR: ${line.errorDetail?.message ?? line.error}`;
      await offerShell(call, left, message);
      throw new ExitError(line.errorDetail?.code ?? 1, message);
    }
    const aux = line.aux as ({ readonly ID?: string } & Partial<BuildEventJson>) | undefined; // an event of ours, or the id
    if (aux?.kind === "left") left.push(aux as Left);
    if (aux?.kind !== undefined) await view.event(aux as BuildEventJson);
    else if (aux?.ID !== undefined) id = aux.ID;
    else if (line.stream?.startsWith("[Warning]") === true) await write(io.stderr, line.stream);
  }
  await view.end(false);
  if (id === "") throw new ExitError(1, "the build ended without an image");
  if (!flags.on("quiet")) {
    await write(io.stderr, `${id}\n`);
    for (const tag of flags.list("tag")) await write(io.stderr, `tagged ${tag}\n`);
  }
  return id;
}

function viewOf(progress: string, isTerminal: boolean, explain: boolean, io: Call["io"]): BuildView {
  switch (progress) {
    case "quiet":
      return { event: async () => undefined, end: async () => undefined };
    case "plain":
      return plainView(io, explain);
    case "tty":
      return terminalView(io, explain);
    case "auto":
      return isTerminal ? terminalView(io, explain) : plainView(io, explain);
    default:
      throw new ExitError(125, `invalid progress mode ${JSON.stringify(progress)}: auto, plain, tty or quiet`);
  }
}

interface Output {
  readonly type: "tar" | "oci" | "local" | "image";
  readonly dest: string;
}

function parseOutput(text: string): Output | undefined {
  if (text === "") return undefined;
  if (!text.includes("=")) return text === "-" ? { type: "tar", dest: "-" } : { type: "local", dest: text };
  const fields = new Map(csvFields(text).map((field) => [field.split("=", 1)[0]!, field.slice(field.indexOf("=") + 1)]));
  const type = fields.get("type") ?? "";
  if (type === "docker" && !fields.has("dest")) return undefined;
  if (type === "image") return undefined;
  const kind = type === "docker" ? "oci" : type;
  if (kind !== "tar" && kind !== "oci" && kind !== "local")
    throw new ExitError(1, `invalid output type ${JSON.stringify(type)}: local, tar, oci, docker or image`);
  const dest = fields.get("dest") ?? (kind === "local" ? "" : "-");
  if (dest === "") throw new ExitError(1, "output type local needs dest=DIR");
  return { type: kind, dest };
}

async function put({ type, dest }: Output, id: string, { client, io }: Call): Promise<void> {
  if (type === "oci")
    return archiveOut(io, { path: dest, what: "failed to write the image" }, () => client.stream("GET", `/images/${id}/get`, { signal: io.gone }));
  const root = () => client.stream("GET", `/wherry/images/${id}/root`, { signal: io.gone });
  if (type === "tar") return archiveOut(io, { path: dest, what: "failed to write the files" }, root);
  const directory = resolve(io.cwd, dest);
  await mkdir(directory, { recursive: true });
  await writeTree((await root()).body, { directory, rename: undefined });
}

/** Base64 of JSON: id → base64 of its bytes. undefined: there are none. */
async function secretsOf({ flags, io }: Call): Promise<string | undefined> {
  const secrets: Record<string, string> = {};
  for (const text of flags.list("secret")) {
    const fields = new Map(csvFields(text).map((field) => [field.split("=", 1)[0]!, field.slice(field.indexOf("=") + 1)]));
    const id = fields.get("id");
    if (id === undefined) throw new ExitError(1, `invalid secret ${JSON.stringify(text)}: it has no id`);
    const variable = fields.get("env") ?? (fields.get("type") === "env" ? id : undefined);
    const file = fields.get("src") ?? fields.get("source");
    const fromEnv = variable ?? (file === undefined && io.env[id] !== undefined ? id : undefined);
    if (fromEnv !== undefined) {
      const value = io.env[fromEnv];
      if (value === undefined) throw new ExitError(1, `secret ${id}: the environment has no ${fromEnv}`);
      secrets[id] = Buffer.from(value, "utf8").toString("base64");
      continue;
    }
    try {
      secrets[id] = (await readFile(resolve(io.cwd, file ?? id))).toString("base64");
    } catch (error) {
      throw new ExitError(1, explainFileError(error, "open", file ?? id).message);
    }
  }
  return Object.keys(secrets).length === 0 ? undefined : Buffer.from(JSON.stringify(secrets)).toString("base64");
}
