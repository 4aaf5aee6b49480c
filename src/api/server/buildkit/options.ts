/** What a client asks BuildKit's Dockerfile frontend for → what the engine builds. @module */
import { importsOf } from "./caches.ts";
import { contextPlace } from "#api/types/build-context.ts";
import { parseBuildQuery } from "#api/types/build-query.ts";
import { Query } from "#api/types/query.ts";
import { EngineError } from "#core/errors.ts";
import type { BuildOptions, NamedContextSource } from "#engine/mod.ts";
import { definition, type Progress } from "./progress.ts";
import { receiveFiles, receiveTexts } from "./receive-files.ts";
import type { Session } from "./sessions.ts";
import { agentOf, credentialsOf, secretOf, uploadOf } from "./client-services.ts";

export type Attributes = Readonly<Record<string, string>>;

/** Attributes that change nothing here: other ways to fetch, to name, or to show. */
const idle =
  /^(build-arg:.*|label:.*|context:.*|local-sessionid:.*|local-sharedkey:.*|vcs:.*|attest:.*|frontend\.caps|cmdline|source|input:.*|hostname|contextsubdir)$/;
const known = new Set([
  "filename",
  "target",
  "platform",
  "no-cache",
  "image-resolve-mode",
  "add-hosts",
  "force-network-mode",
  "shm-size",
  "ulimit",
  "cgroup-parent",
  "context",
  "contextkey",
  "cache-from",
  "cache-imports",
  "dockerfilekey",
  "multi-platform",
  "requestid",
]);

/** @throws EngineError "unsupported" for what would give another result, were it left out */
export async function buildOptions(attributes: Attributes, session: Session | undefined, progress: Progress, signal: AbortSignal): Promise<BuildOptions> {
  refuse(attributes);
  const filename = attributes["filename"] || "Dockerfile";
  const buildArgs = prefixed(attributes, "build-arg:");
  return {
    ...parseBuildQuery(queryOf(attributes, filename)),
    buildArgs,
    labels: prefixed(attributes, "label:"),
    context: await contextOf(attributes, filename, session, progress, signal),
    namedContexts: namedContexts(attributes, session),
    cacheFrom: await importsOf(attributes, session, progress),
    secret: async (id) => (session === undefined ? undefined : secretOf(session, id, signal)),
    sshAgent: async (id) => (session === undefined ? undefined : agentOf(session, id, signal)),
    credentials: async (domain) => (session === undefined ? undefined : credentialsOf(session, domain, signal)),
  };
}

function refuse(attributes: Attributes): void {
  const unknown = Object.keys(attributes).filter((name) => !known.has(name) && !idle.test(name));
  if (unknown.length > 0) throw new EngineError("unsupported", `build option ${unknown.join(", ")} is not supported by this version`);
  const attestations = Object.entries(attributes).filter(([name, value]) => name.startsWith("attest:") && !/(^|,)disabled=true(,|$)/.test(value));
  if (attestations.length > 0)
    throw new EngineError("unsupported", `attestations (${attestations.map(([name]) => name.slice(7)).join(", ")}) are not supported`);
  if (attributes["platform"]?.includes(",") === true || attributes["multi-platform"] === "true")
    throw new EngineError("unsupported", "an image for several platforms at once is not supported", { hint: "build one platform at a time" });
  const source = attributes["source"];
  if (source !== undefined && !/(^|\/)docker(file)?([/:@-].*)?$/.test(source))
    throw new EngineError("unsupported", `the frontend ${source} is not supported: Dockerfiles are read by this engine's own`);
}

/** The same as `POST /build` would have it. */
function queryOf(attributes: Attributes, filename: string): Query {
  const text = (name: string) => attributes[name] ?? "";
  const hosts = text("add-hosts").split(",").filter(Boolean);
  return Query.of({
    dockerfile: filename,
    // The classic builder keeps the containers of steps that fail; BuildKit has none.
    forcerm: "1",
    target: text("target"),
    platform: text("platform"),
    nocache: attributes["no-cache"] === "" ? "1" : "",
    nocachefilter: text("no-cache").split(","),
    pull: attributes["image-resolve-mode"] === "pull" ? "1" : "",
    networkmode: text("force-network-mode"),
    shmsize: text("shm-size"),
    cgroupparent: text("cgroup-parent"),
    extrahosts: hosts.map((host) => host.replace("=", ":")),
    ulimits: JSON.stringify(text("ulimit").split(",").filter(Boolean).map(ulimitOf)),
  });
}

/** `nofile=1024:2048`. */
function ulimitOf(text: string): { readonly Name: string; readonly Soft: number; readonly Hard: number } {
  const [, name = "", soft = "", hard = soft] = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(text) ?? [];
  if (name === "") throw new EngineError("invalid", `invalid ulimit ${JSON.stringify(text.slice(0, 100))}`);
  return { Name: name, Soft: Number(soft), Hard: Number(hard) };
}

function prefixed(attributes: Attributes, prefix: string): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).flatMap(([name, value]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), value]] : [])));
}

/** Where a client's upload is to be had: `http://buildkit-session/<id>`. */
const uploadHost = "buildkit-session";

async function contextOf(
  attributes: Attributes,
  filename: string,
  session: Session | undefined,
  progress: Progress,
  signal: AbortSignal,
): Promise<BuildOptions["context"]> {
  const url = attributes["context"];
  const remote = url !== undefined && contextPlace(url).kind !== "path";
  const ownDockerfile = !remote || attributes["dockerfilekey"] !== undefined;
  const text = ownDockerfile ? await dockerfileOf(attributes, filename, session, progress, signal) : undefined;
  if (remote) {
    const upload = new URL(url, "http://none");
    const given = text === undefined ? {} : { dockerfile: text.dockerfile };
    if (upload.hostname === uploadHost) return { kind: "tar", stream: uploadOf(needed(session), upload.pathname, signal), ...given };
    return { kind: "url", url, ...given };
  }
  const client = needed(session);
  const name = attributes["contextkey"] ?? "context";
  const ignore =
    text?.ignore ??
    (await progress.during("[internal] load .dockerignore", async () => (await receiveTexts(client, name, [".dockerignore"], signal)).get(".dockerignore")));
  return { kind: "sent", dockerfile: text?.dockerfile ?? "", ignore: ignore ?? "", files: sentBy(client, name) };
}

function dockerfileOf(
  { dockerfilekey = "dockerfile" }: Attributes,
  filename: string,
  session: Session | undefined,
  progress: Progress,
  signal: AbortSignal,
): Promise<{ readonly dockerfile: string; readonly ignore: string | undefined }> {
  return progress.during(definition, async () => {
    // A Dockerfile may have an ignore file of its own.
    const found = await receiveTexts(needed(session), dockerfilekey, [filename, `${filename}.dockerignore`], signal);
    const dockerfile = found.get(filename);
    if (dockerfile === undefined) throw new EngineError("invalid", `failed to read dockerfile: open ${filename}: no such file or directory`);
    return { dockerfile, ignore: found.get(`${filename}.dockerignore`) };
  });
}

function sentBy(session: Session, name: string): Extract<NamedContextSource, { kind: "sent" }>["files"] {
  return {
    key: session.sharedKey === "" ? undefined : JSON.stringify([session.sharedKey, name]),
    open: async (exclude, signal) => receiveFiles(session, { name, exclude }, signal),
  };
}

function namedContexts(attributes: Attributes, session: Session | undefined): Map<string, NamedContextSource> {
  return new Map(
    Object.entries(prefixed(attributes, "context:")).map(([name, value]): [string, NamedContextSource] => {
      // BuildKit's own word for files of the client's.
      if (value.startsWith("local:")) return [name, { kind: "sent", files: sentBy(needed(session), value.slice("local:".length)) }];
      const place = contextPlace(value);
      if (place.kind === "image" || place.kind === "url") return [name, place];
      throw new EngineError("unsupported", `the build context ${name} (${value.slice(0, 200)}) is of a kind that is not supported`);
    }),
  );
}

function needed(session: Session | undefined): Session {
  if (session === undefined) throw new EngineError("invalid", "the build has no session: its files cannot be had");
  return session;
}
