/**
 * The shape of a config.json: what the planner may take for granted. As Go's decoder has it: a field of another type is an error that names it, null is
 * the same as absent, fields that are not listed are nobody's business. Values are judged where they are used.
 * @see https://github.com/opencontainers/runtime-spec/tree/main/schema
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { isObject } from "#core/json.ts";
import { own } from "#core/own.ts";
import type { OciResources, OciSpec } from "#core/runtime-spec.ts";

/** A name that ends in "!" must be there. */
type Shape = "string" | "integer" | "boolean" | { readonly list: Shape } | { readonly map: Shape } | { readonly [field: string]: Shape };

const strings = { list: "string" } as const;
const ids = { list: { "containerID!": "integer", "hostID!": "integer", "size!": "integer" } } as const;
const process: Shape = {
  terminal: "boolean",
  consoleSize: { height: "integer", width: "integer" },
  user: { uid: "integer", gid: "integer", umask: "integer", additionalGids: { list: "integer" } },
  args: strings,
  env: strings,
  cwd: "string",
  capabilities: { bounding: strings, effective: strings, permitted: strings, inheritable: strings, ambient: strings },
  rlimits: { list: { "type!": "string", "soft!": "integer", "hard!": "integer" } },
  noNewPrivileges: "boolean",
  oomScoreAdj: "integer",
  apparmorProfile: "string",
  selinuxLabel: "string",
  ioPriority: { "class!": "string", priority: "integer" },
  scheduler: { "policy!": "string", nice: "integer", priority: "integer", flags: strings, runtime: "integer", deadline: "integer", period: "integer" },
  execCPUAffinity: { initial: "string", final: "string" },
};
const throttles = { list: { "major!": "integer", "minor!": "integer", "rate!": "integer" } } as const;
const resources: Shape = {
  devices: { list: { "allow!": "boolean", type: "string", major: "integer", minor: "integer", access: "string" } },
  memory: {
    limit: "integer",
    reservation: "integer",
    swap: "integer",
    kernel: "integer",
    kernelTCP: "integer",
    swappiness: "integer",
    disableOOMKiller: "boolean",
    useHierarchy: "boolean",
    checkBeforeUpdate: "boolean",
  },
  cpu: {
    shares: "integer",
    quota: "integer",
    burst: "integer",
    period: "integer",
    realtimeRuntime: "integer",
    realtimePeriod: "integer",
    cpus: "string",
    mems: "string",
    idle: "integer",
  },
  pids: { "limit!": "integer" },
  blockIO: {
    weight: "integer",
    leafWeight: "integer",
    weightDevice: { list: { "major!": "integer", "minor!": "integer", weight: "integer", leafWeight: "integer" } },
    throttleReadBpsDevice: throttles,
    throttleWriteBpsDevice: throttles,
    throttleReadIOPSDevice: throttles,
    throttleWriteIOPSDevice: throttles,
  },
  hugepageLimits: { list: { "pageSize!": "string", "limit!": "integer" } },
  network: { classID: "integer", priorities: { list: { "name!": "string", "priority!": "integer" } } },
  rdma: { map: { hcaHandles: "integer", hcaObjects: "integer" } },
  unified: { map: "string" },
};
const hooks = { list: { "path!": "string", args: strings, env: strings, timeout: "integer" } } as const;
const spec: Shape = {
  ociVersion: "string",
  process,
  root: { path: "string", readonly: "boolean" },
  hostname: "string",
  domainname: "string",
  mounts: { list: { "destination!": "string", type: "string", source: "string", options: strings, uidMappings: ids, gidMappings: ids } },
  annotations: { map: "string" },
  hooks: { prestart: hooks, createRuntime: hooks, createContainer: hooks, startContainer: hooks, poststart: hooks, poststop: hooks },
  linux: {
    namespaces: { list: { "type!": "string", path: "string" } },
    uidMappings: ids,
    gidMappings: ids,
    devices: { list: { "path!": "string", "type!": "string", major: "integer", minor: "integer", fileMode: "integer", uid: "integer", gid: "integer" } },
    cgroupsPath: "string",
    resources,
    mountLabel: "string",
    personality: { "domain!": "string", flags: strings },
    timeOffsets: { map: { secs: "integer", nanosecs: "integer" } },
    rootfsPropagation: "string",
    sysctl: { map: "string" },
    maskedPaths: strings,
    readonlyPaths: strings,
    seccomp: {
      "defaultAction!": "string",
      defaultErrnoRet: "integer",
      architectures: strings,
      flags: strings,
      listenerPath: "string",
      listenerMetadata: "string",
      syscalls: {
        list: {
          "names!": strings,
          "action!": "string",
          errnoRet: "integer",
          args: { list: { "index!": "integer", "value!": "integer", valueTwo: "integer", "op!": "string" } },
        },
      },
    },
  },
};

/** Throws EngineError "invalid" that names the first field of a wrong shape; answers the spec without its nulls. */
export function checkSpecShape(value: Readonly<Record<string, unknown>>): OciSpec {
  return checked(value, spec, "") as OciSpec;
}

/** The same for the process of `exec --process`. */
export function checkProcessShape(value: unknown): OciSpec["process"] {
  return checked(value, process, "process") as OciSpec["process"];
}

/** The same for the limits of `update --resources`. */
export function checkResourcesShape(value: unknown): OciResources {
  return checked(value, resources, "", "--resources") as OciResources;
}

/** `at`: which field of which document it is. */
function checked(value: unknown, shape: Shape, at: string, document = "config.json"): unknown {
  const refuse = (wanted: string): never => {
    throw new EngineError("invalid", `${document}: ${at === "" ? "it" : at} is not ${wanted}`);
  };
  if (shape === "string") return typeof value === "string" && !value.includes("\0") ? value : refuse("a string (without NUL)");
  if (shape === "boolean") return typeof value === "boolean" ? value : refuse("a boolean");
  // Numbers beyond 2^53 have been rounded by JSON.parse; they are whole all the same.
  if (shape === "integer") return typeof value === "number" && Number.isInteger(value) && Math.abs(value) <= 2 ** 64 ? value : refuse("a whole number");
  if ("list" in shape)
    return Array.isArray(value) ? value.map((item, index) => checked(item, shape["list"] as Shape, `${at}[${index}]`, document)) : refuse("a list");
  if (!isObject(value)) return refuse("an object");
  const missing = Object.keys(shape)
    .find((name) => name.endsWith("!") && (value[name.slice(0, -1)] ?? null) === null)
    ?.slice(0, -1);
  if (missing !== undefined) throw new EngineError("invalid", `${document}: ${at === "" ? missing : `${at}.${missing}`} is missing`);
  const inner = (name: string): Shape | undefined => ("map" in shape ? (shape["map"] as Shape) : (own(shape, name) ?? own(shape, `${name}!`)));
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, field]) => {
      const wanted = inner(name);
      if (field === null) return [];
      return [[name, wanted === undefined ? field : checked(field, wanted, at === "" ? name : `${at}.${name}`, document)]];
    }),
  );
}
