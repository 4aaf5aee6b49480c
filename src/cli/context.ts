/** `wherry context …`: names for daemons, shared with docker. @module */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { isObject, type JsonObject } from "#core/json.ts";
import { type Call, type Command, command, any } from "./command.ts";
import { decodeTar, encodeTar } from "./contexts/archive.ts";
import { currentContext } from "./contexts/connection.ts";
import {
  checkContextName,
  type Context,
  findContext,
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
import { archiveOut, openInput } from "./files.ts";
import { one, onOff } from "./flags.ts";
import { ellipsis } from "./format/human.ts";
import { type Columns, formatList } from "./format/list.ts";
import { inspectAll, inspectFormatFlag } from "./inspect.ts";
import { toMap } from "./options/validate.ts";
import { print, warn, write } from "./output.ts";
import { readDockerConfig, writeDockerConfig } from "./registry/docker-config.ts";
import { splitFields } from "./options/csv.ts";
import { Readable } from "node:stream";

const defaultHost = "unix:///run/wherry/wherry.sock";

interface Row {
  readonly name: string;
  readonly description: string;
  readonly host: string;
  readonly current: boolean;
}

const columns: Columns<Row> = {
  Current: { header: "CURRENT", value: (c) => String(c.current) },
  Name: { header: "NAME", value: (c) => (c.current ? `${c.name} *` : c.name) },
  Description: { header: "DESCRIPTION", value: (c) => ellipsis(c.description, 50) },
  DockerEndpoint: { header: "DOCKER ENDPOINT", value: (c) => c.host },
  Error: { header: "ERROR", value: () => "" },
};

function defaultContext({ env }: Call["io"]): Context {
  return {
    name: "default",
    description: "The daemon of this host, or of WHERRY_HOST and DOCKER_HOST",
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
    const all = [defaultContext(io), ...(await listContexts(io))];
    const text = formatList<Row>(
      all.map((context) => ({ ...context, current: context.name === current })),
      {
        columns,
        format: flags.text("format"),
        table: "{{.Name}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        quiet: flags.on("quiet") ? "{{.Name}}" : undefined,
        label: () => "",
      },
    );
    await write(io.stdout, flags.on("quiet") ? text.replaceAll(" *\n", "\n") : text);
    if ((io.env["WHERRY_HOST"] || io.env["DOCKER_HOST"]) && !flags.on("quiet") && flags.text("format") === "")
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
  const found = name === "default" ? defaultContext(io) : await findContext(io, name);
  if (found === undefined) throw new ExitError(1, `context "${name}" not found`);
  return found;
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

/** `host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true`, or `from=CONTEXT`. */
async function endpointOf(
  io: Call["io"],
  text: string,
): Promise<{ readonly host: string; readonly skipTlsVerify: boolean; readonly tls: Map<TlsFile, Uint8Array> }> {
  const options = toMap(splitFields(text));
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
    if (path !== undefined) tls.set(file, await readFile(resolve(io.cwd, path)));
  }
  return { host: options["host"] ?? "", skipTlsVerify: options["skip-tls-verify"] === "true", tls };
}

const endpointFlags = [
  one("description", "Description of the context"),
  one("docker", "The daemon: host=…,ca=…,cert=…,key=…,skip-tls-verify=…, or from=CONTEXT", { metavar: "stringToString" }),
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
    const from = flags.text("from");
    const endpoint = await endpointOf(io, flags.text("docker") || `from=${from || (await currentContext(io))}`);
    await saveContext(io, { name, description: flags.text("description"), ...endpoint }, endpoint.tls);
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
    const endpoint = flags.changed("docker") ? await endpointOf(io, flags.text("docker")) : { ...before, tls: await readTls(io, name) };
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
      if ((await findContext(io, name)) === undefined && !flags.on("force")) throw new Error(`context "${name}" not found`);
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
    await archiveOut(io, file, async () => ({ body: Readable.from([encodeTar(files)], { objectMode: false }) }));
    if (file !== "-") warn(io, `Written file ${JSON.stringify(file)}`);
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
