/** `wherry context …`: names for daemons, shared with docker. @module */
import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { isObject, type JsonObject } from "#core/json.ts";
import { type Call, type Command, command, any } from "./command.ts";
import { decodeTar, encodeTar } from "./contexts/archive.ts";
import { currentContext } from "./contexts/connection.ts";
import {
  checkContextName,
  type Context,
  findContext,
  knownContext,
  listContexts,
  metaDirectory,
  readTls,
  removeContext,
  saveContext,
  type TlsFile,
  tlsDirectory,
  tlsFiles,
} from "./contexts/store.ts";
import { forEach } from "./each.ts";
import { ExitError } from "./errors.ts";
import { openInput } from "./files.ts";
import { one, onOff } from "./flags.ts";
import { ellipsis } from "./format/human.ts";
import { type Columns, formatList } from "./format/list.ts";
import { naturalOrder } from "./format/natural.ts";
import { inspectAll, inspectFormatFlag } from "./inspect.ts";
import { toMap } from "./options/validate.ts";
import { print, warn, write } from "./output.ts";
import { readDockerConfig, writeDockerConfig } from "./registry/docker-config.ts";
import { splitFields } from "./options/csv.ts";
import { explainFileError } from "./options/file-error.ts";

const defaultHost = "unix:///run/wherry/wherry.sock";

interface Row {
  readonly name: string;
  readonly description: string;
  readonly host: string;
  readonly current: boolean;
}

const columns: Columns<Row> = {
  Current: { header: "CURRENT", value: (c) => c.current },
  Name: { header: "NAME", value: (c) => c.name },
  Description: { header: "DESCRIPTION", value: (c) => ellipsis(c.description, 60) },
  DockerEndpoint: { header: "DOCKER ENDPOINT", value: (c) => c.host },
  Error: { header: "ERROR", value: () => "" },
};

function defaultContext({ env }: Call["io"]): Context {
  return {
    name: "default",
    description: "Current WHERRY_HOST based configuration",
    host: env["WHERRY_HOST"] || env["DOCKER_HOST"] || defaultHost,
    skipTlsVerify: false,
    raw: {},
  };
}

export const contextLsCommand: Command = command({
  usage: "[OPTIONS]",
  about: "List contexts",
  flags: [one("format", 'How to print: "json" or a Go template'), onOff("quiet,q", "Only names")],
  arity: [0, 0],
  run: async ({ io, flags }) => {
    const current = await currentContext(io);
    const all = [defaultContext(io), ...(await listContexts(io))].sort((a, b) => naturalOrder(a.name, b.name));
    const format = flags.text("format");
    const marked = ["", "table"].includes(format) && !flags.on("quiet");
    const text = formatList<Row>(
      all.map((context) => ({ ...context, current: context.name === current })),
      {
        columns: marked ? { ...columns, Name: { header: "NAME", value: (c) => (c.current ? `${c.name} *` : c.name) } } : columns,
        format,
        table: "{{.Name}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        quiet: flags.on("quiet") ? "{{.Name}}" : undefined,
        label: () => "",
      },
    );
    await write(io.stdout, text);
    if (io.env["WHERRY_HOST"] || io.env["DOCKER_HOST"])
      warn(
        io,
        "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.",
      );
    return 0;
  },
});

export const contextShowCommand: Command = command({
  usage: "",
  about: "Print the name of the context in use",
  arity: [0, 0],
  run: async ({ io }) => {
    await print(io, await currentContext(io));
    return 0;
  },
});

async function existing(io: Call["io"], name: string): Promise<Context> {
  return name === "default" ? defaultContext(io) : knownContext(io, name);
}

export const contextUseCommand: Command = command({
  usage: "CONTEXT",
  about: "Make a context the one in use, for docker too",
  arity: [1, 1],
  run: async ({ io, args }) => {
    const [name = ""] = args;
    await existing(io, name);
    const config = await readDockerConfig(io);
    const { currentContext: _before, ...raw } = config.raw;
    await writeDockerConfig(config.path, name === "default" ? raw : { ...raw, currentContext: name });
    await print(io, name);
    warn(io, `Current context is now ${JSON.stringify(name)}`);
    if (name !== "default" && (io.env["WHERRY_HOST"] || io.env["DOCKER_HOST"]))
      warn(
        io,
        `Warning: DOCKER_HOST environment variable overrides the active context. To use ${JSON.stringify(name)}, either set the global --context flag, or unset DOCKER_HOST environment variable.`,
      );
    return 0;
  },
});

interface Endpoint {
  readonly host: string;
  readonly skipTlsVerify: boolean;
  readonly tls: Map<TlsFile, Uint8Array>;
}

/** What `--docker` says, as a map. */
function endpointOptions(text: string): Record<string, string> {
  const fields = splitFields(text);
  const bare = fields.find((field) => !field.includes("="));
  if (bare !== undefined) throw new Error(`${bare} must be formatted as key=value`);
  return toMap(fields);
}

/** `host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true`, or `from=CONTEXT`. */
async function endpointOf(io: Call["io"], options: Readonly<Record<string, string>>): Promise<Endpoint> {
  for (const key of Object.keys(options))
    if (!["host", "ca", "cert", "key", "skip-tls-verify", "from"].includes(key))
      throw new ExitError(1, `unable to create docker endpoint config: unrecognized config key: ${key}`);
  if (options["from"] !== undefined) {
    const { host, skipTlsVerify } = await existing(io, options["from"]);
    return { host, skipTlsVerify, tls: options["from"] === "default" ? new Map() : await readTls(io, options["from"]) };
  }
  const tls = new Map<TlsFile, Uint8Array>();
  for (const file of tlsFiles) {
    const path = options[file.replace(".pem", "")];
    if (path === undefined) continue;
    const bytes = await readFile(resolve(io.cwd, path)).catch((error: unknown) => {
      throw new Error(`unable to create docker endpoint config: ${explainFileError(error, "open", path).message}`, { cause: error });
    });
    tls.set(file, bytes);
  }
  const { host = "" } = options;
  if (host !== "" && !/^(unix|tcp|ssh|npipe|fd|http|https):\/\//.test(host))
    throw new Error(`unable to create docker endpoint config: unable to apply docker endpoint options: unable to parse docker host \`${host}\``);
  return { host, skipTlsVerify: options["skip-tls-verify"] === "true", tls };
}

const endpointFlags = [
  one("description", "Description of the context"),
  one("docker", "The daemon: host=…,ca=…,cert=…,key=…,skip-tls-verify=…, or from=CONTEXT", {
    metavar: "stringToString",
    initial: {},
    parse: endpointOptions,
  }),
];

export const contextCreateCommand: Command = command({
  usage: "[OPTIONS] CONTEXT",
  about: "Create a context",
  examples: [
    ['context create build --docker "host=ssh://me@build.example"', "a daemon that is reached over ssh"],
    ['context create prod --docker "host=tcp://10.0.0.5:2376,ca=ca.pem,cert=cert.pem,key=key.pem"', "over TLS"],
  ],
  flags: [...endpointFlags, one("from", "Begin as a copy of this context")],
  arity: [1, 1],
  run: async ({ io, args, flags }) => {
    const [name = ""] = args;
    checkContextName(name);
    if ((await findContext(io, name)) !== undefined) throw new ExitError(1, `context "${name}" already exists`);
    const from = flags.text("from") || (await currentContext(io));
    // A copy keeps what was said of the original.
    const copied = flags.changed("docker") ? undefined : await existing(io, from);
    const endpoint = await endpointOf(io, copied === undefined ? flags.get("docker") : { from });
    const description = flags.changed("description") ? flags.text("description") : (copied?.description ?? "");
    await saveContext(io, { name, description, ...endpoint }, endpoint.tls);
    await print(io, name);
    warn(io, `Successfully created context ${JSON.stringify(name)}`);
    return 0;
  },
});

export const contextUpdateCommand: Command = command({
  usage: "[OPTIONS] CONTEXT",
  about: "Change a context",
  flags: endpointFlags,
  arity: [1, 1],
  run: async ({ io, args, flags }) => {
    const [name = ""] = args;
    checkContextName(name);
    const before = await existing(io, name);
    const endpoint = flags.changed("docker") ? await endpointOf(io, flags.get("docker")) : { ...before, tls: await readTls(io, name) };
    const { host, skipTlsVerify, tls } = endpoint;
    const description = flags.changed("description") ? flags.text("description") : before.description;
    await saveContext(io, { name, description, host, skipTlsVerify, raw: before.raw }, tls);
    await print(io, name);
    warn(io, `Successfully updated context ${JSON.stringify(name)}`);
    return 0;
  },
});

export const contextRmCommand: Command = command({
  usage: "[OPTIONS] CONTEXT [CONTEXT...]",
  about: "Remove contexts",
  flags: [onOff("force,f", "Also the one in use")],
  arity: [1, any],
  run: async (call) => {
    const { io, flags } = call;
    const current = await currentContext(io);
    await forEach(call, call.args, async (name) => {
      if (name === "default") throw new Error('context "default" cannot be removed');
      if ((await findContext(io, name)) === undefined && !flags.on("force")) throw new Error(`context "${name}" does not exist`);
      if (name === current && !flags.on("force")) throw new Error(`context "${name}" is in use, set -f flag to force remove`);
      await removeContext(io, name);
      if (name !== current) return;
      const config = await readDockerConfig(io);
      const { currentContext: _gone, ...raw } = config.raw;
      await writeDockerConfig(config.path, raw);
    });
    return 0;
  },
});

export const contextInspectCommand: Command = command({
  usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
  about: "Show all that is known of contexts",
  flags: [inspectFormatFlag],
  arity: [0, any],
  run: async (call) => {
    const { io } = call;
    const args = call.args.length === 0 ? [await currentContext(io)] : call.args;
    return inspectAll({ ...call, args }, async (name) => {
      const { host, skipTlsVerify, description } = await existing(io, name);
      const builtIn = name === "default";
      const tls = builtIn ? [] : [...(await readTls(io, name)).keys()];
      return {
        Name: name,
        Metadata: description === "" || builtIn ? {} : { Description: description },
        Endpoints: { docker: { Host: host, SkipTLSVerify: skipTlsVerify } },
        TLSMaterial: tls.length === 0 ? {} : { docker: tls },
        Storage: {
          MetadataPath: builtIn ? "<IN MEMORY>" : metaDirectory(io, name),
          TLSPath: builtIn ? "<IN MEMORY>" : tlsDirectory(io, name).replace(/\/docker$/, ""),
        },
      };
    });
  },
});

export const contextExportCommand: Command = command({
  usage: "[OPTIONS] CONTEXT [FILE|-]",
  about: "Write a context to a tar archive",
  flags: [],
  arity: [1, 2],
  run: async ({ io, args: [name = "", file = `${name}.dockercontext`] }) => {
    checkContextName(name);
    const { raw } = await existing(io, name);
    const files = new Map<string, Uint8Array>([["meta.json", Buffer.from(JSON.stringify(raw))]]);
    for (const [path, bytes] of await readTls(io, name)) files.set(`tls/docker/${path}`, bytes);
    if (file === "-") {
      if (io.isTty.stdout) throw new ExitError(1, "cowardly refusing to export to a terminal, specify a file path");
      await write(io.stdout, encodeTar(files));
      return 0;
    }
    // What is there stays: it may hold the keys of another.
    await writeFile(resolve(io.cwd, file), encodeTar(files), { flag: "wx", mode: 0o600 }).catch((error: unknown) => {
      throw explainFileError(error, "open", file);
    });
    warn(io, `Written file ${JSON.stringify(file)}`);
    return 0;
  },
});

export const contextImportCommand: Command = command({
  usage: "CONTEXT FILE|-",
  about: "Read a context from a tar archive",
  flags: [],
  arity: [2, 2],
  run: async ({ io, args: [name = "", file = "-"] }) => {
    checkContextName(name);
    if ((await findContext(io, name)) !== undefined) throw new ExitError(1, `context "${name}" already exists`);
    const files = await decodeTar(file === "-" ? io.stdin : await openInput(io, file));
    const meta: unknown = JSON.parse(Buffer.from(files.get("meta.json") ?? Buffer.from("null")).toString());
    if (!isObject(meta)) throw new ExitError(1, "unexpected context file: no metadata found");
    const endpoints = isObject(meta["Endpoints"]) ? meta["Endpoints"] : {};
    const docker: JsonObject = isObject(endpoints["docker"]) ? endpoints["docker"] : {};
    const metadata = isObject(meta["Metadata"]) ? meta["Metadata"] : {};
    const tls = new Map<TlsFile, Uint8Array>();
    for (const path of tlsFiles) {
      const bytes = files.get(`tls/docker/${path}`);
      if (bytes !== undefined) tls.set(path, bytes);
    }
    const text = (value: unknown) => (typeof value === "string" ? value : "");
    await saveContext(
      io,
      { name, description: text(metadata["Description"]), host: text(docker["Host"]), skipTlsVerify: docker["SkipTLSVerify"] === true, raw: meta },
      tls,
    );
    await print(io, name);
    warn(io, `Successfully imported context ${JSON.stringify(name)}`);
    return 0;
  },
});
