import type { ContainerConfig, HealthConfig } from "#core/container-config.ts";
import { chainIds, digestOf, type DiffID, type ChainID, type ImageID, isDigest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { HistoryEntry, ImageConfigJson } from "#core/image-spec.ts";
import { JsonFields, parseJson } from "#core/json.ts";

/** Configs are small; what is larger is no config. Bytes. */
export const maxConfigBytes: number = 4 * 1024 * 1024;
/** overlayfs takes at most 500 layers, Docker at most 127. */
const maxLayers = 500;

/** A config that was read and checked, with what follows from it. */
export interface ParsedConfig {
  readonly id: ImageID;
  readonly config: ImageConfigJson;
  readonly rawConfig: Uint8Array;
  readonly diffIds: readonly DiffID[];
  readonly chainIds: readonly ChainID[];
}

/** Parses the config of an image; EngineError "corrupt" when it is none. Fields that wherry does not know stay in the raw bytes. */
export function parseImageConfig(rawConfig: Uint8Array): ParsedConfig {
  const what = "the image's configuration";
  if (rawConfig.byteLength > maxConfigBytes)
    throw new EngineError("corrupt", `${what} has ${rawConfig.byteLength} bytes; at most ${maxConfigBytes} are accepted`);
  const fields = new JsonFields(parseJson(rawConfig, what), what);
  const diffIds = parseRootfs(fields);
  const config: ImageConfigJson = {
    ...texts(fields, ["created", "author", "variant", "os.version", "container", "docker_version", "comment"]),
    // Both may be empty in what old tools wrote; Docker then takes its own.
    architecture: fields.text("architecture") ?? "",
    os: fields.text("os") || "linux",
    rootfs: { type: "layers", diff_ids: diffIds },
    ...ifSet("config", parseContainerConfig(fields.object("config"))),
    ...ifSet("history", parseHistory(fields.list("history"))),
  };
  if (config.os !== "linux")
    throw new EngineError("unsupported", `image operating system "${config.os.slice(0, 40)}" cannot be used on this platform: it is linux`);
  return { id: digestOf(rawConfig), config, rawConfig, diffIds, chainIds: chainIds(diffIds) };
}

function parseRootfs(fields: JsonFields): DiffID[] {
  const rootfs = fields.object("rootfs");
  if (rootfs === undefined) throw new EngineError("corrupt", "invalid image JSON, no RootFS key");
  const type = rootfs.text("type");
  if (type !== undefined && type !== "layers") throw new EngineError("corrupt", `the image's rootfs has the unknown type "${type.slice(0, 40)}"`);
  const diffIds = rootfs.texts("diff_ids") ?? [];
  if (diffIds.length > maxLayers) throw new EngineError("unsupported", `the image has ${diffIds.length} layers; at most ${maxLayers} are possible`);
  return diffIds.map((diffId) => {
    if (!isDigest(diffId)) throw new EngineError("corrupt", `the image's configuration has the invalid layer digest "${diffId.slice(0, 100)}"`);
    return diffId;
  });
}

function parseHistory(list: unknown[] | undefined): HistoryEntry[] | undefined {
  return list?.map((item, i) => {
    const entry = new JsonFields(item, `history entry ${i}`);
    return { ...texts(entry, ["created", "created_by", "author", "comment"]), ...ifSet("empty_layer", entry.flag("empty_layer")) };
  });
}

/** An image's `config`. What is null or absent stays absent. */
function parseContainerConfig(fields: JsonFields | undefined): Partial<ContainerConfig> | undefined {
  if (fields === undefined) return undefined;
  const config: Partial<ContainerConfig> = { ...texts(fields, ["Hostname", "Domainname", "User", "Image", "WorkingDir", "MacAddress", "StopSignal"]) };
  for (const key of ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped", "NetworkDisabled"] as const) {
    Object.assign(config, ifSet(key, fields.flag(key)));
  }
  for (const key of ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell"] as const) Object.assign(config, ifSet(key, fields.texts(key)));
  for (const key of ["ExposedPorts", "Volumes"] as const) Object.assign(config, ifSet(key, fields.set(key)));
  return {
    ...config,
    ...ifSet("Labels", fields.map("Labels")),
    ...ifSet("StopTimeout", fields.number("StopTimeout")),
    ...ifSet("Healthcheck", parseHealth(fields.object("Healthcheck"))),
  };
}

function parseHealth(fields: JsonFields | undefined): HealthConfig | undefined {
  if (fields === undefined) return undefined;
  const health: HealthConfig = ifSet("Test", fields.texts("Test"));
  for (const key of ["Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"] as const) Object.assign(health, ifSet(key, fields.number(key)));
  return health;
}

function texts<K extends string>(fields: JsonFields, keys: readonly K[]): { [P in K]?: string } {
  const found: { [P in K]?: string } = {};
  for (const key of keys) {
    const value = fields.text(key);
    if (value !== undefined) found[key] = value;
  }
  return found;
}

/** `{[key]: value}`, or nothing when there is no value: exactOptionalPropertyTypes tells the two apart. */
function ifSet<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  // The one key of the result is K.
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
}
