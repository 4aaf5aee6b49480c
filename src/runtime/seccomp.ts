/**
 * A container's seccomp filter: which profile, decided for its capabilities, compiled once.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { OciSeccomp } from "#core/runtime-spec.ts";
import { type DockerSeccompProfile, parseProfile, resolveProfile } from "#linux/bpf/profile.ts";
import { compileSeccomp } from "#linux/bpf/compile.ts";
import type { HostFacts } from "#linux/host-facts.ts";
// Docker's default profile, as dockerd embeds it: github.com/moby/profiles seccomp/default.json, commit cd3bed8061c7, Apache-2.0.
import builtin from "./seccomp-default.json" with { type: "json" };

/** The OCI flag that makes the kernel log each call that the filter does not allow. */
export const SECCOMP_LOG = "SECCOMP_FILTER_FLAG_LOG";

const resolved = new Map<string, OciSeccomp>();
const programs = new WeakMap<OciSeccomp, Uint8Array>();

/**
 * The OCI form of the profile that `--security-opt seccomp=` asks for: "builtin", "unconfined" (undefined) or JSON. The same object for the
 * same question, so that {@link seccompProgram} compiles it once.
 */
export function seccompFor(option: string, capabilities: readonly string[], facts: HostFacts): OciSeccomp | undefined {
  if (option === "unconfined" || !facts.seccomp.supported) return undefined;
  const { arch, major, minor } = facts.kernel;
  const key = [option, arch, major, minor, ...capabilities].join("\n");
  let found = resolved.get(key);
  if (found === undefined) {
    // The file is data of a known shape; literal types of its strings are of no use.
    const profile = option === "builtin" || option === "default" || option === "" ? (builtin as DockerSeccompProfile) : parseProfile(option);
    found = resolveProfile(profile, { arch, kernel: { major, minor }, capabilities });
    if (resolved.size >= 64) resolved.clear();
    resolved.set(key, found);
  }
  return found;
}

/** The BPF program of an OCI seccomp section; compiled once per object. */
export function seccompProgram(seccomp: OciSeccomp | undefined, facts: HostFacts): Uint8Array | undefined {
  if (seccomp === undefined) return undefined;
  if (notifies(seccomp) && (seccomp.listenerPath ?? "") === "")
    throw new EngineError("unsupported", "seccomp action SCMP_ACT_NOTIFY is not supported without a listenerPath: nobody would answer");
  let program = programs.get(seccomp);
  if (program === undefined) {
    program = compileSeccomp(seccomp, facts.kernel.arch);
    programs.set(seccomp, program);
  }
  return program;
}

function notifies({ defaultAction, syscalls = [] }: OciSeccomp): boolean {
  const notify = "SCMP_ACT_NOTIFY";
  if (defaultAction === notify)
    throw new EngineError("unsupported", "SCMP_ACT_NOTIFY cannot be the default action: the launch itself would wait for an answer");
  const rules = syscalls.filter(({ action }) => action === notify);
  if (rules.some(({ names }) => names.includes("write")))
    throw new EngineError("unsupported", "SCMP_ACT_NOTIFY cannot be used for write: the launch itself would wait for an answer");
  return rules.length > 0;
}

/** @see seccomp(2) */
const filterFlags: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
};

/** The flags that a profile may name. */
export const seccompFlagNames: readonly string[] = Object.keys(filterFlags);

/** Unless the profile has flags, no slow-down of speculative stores for a process only because it is filtered, as runc does. EngineError "invalid". */
export function seccompFlags(seccomp: OciSeccomp | undefined | null): number {
  const names = seccomp?.flags ?? [];
  if (names.length === 0) return filterFlags["SECCOMP_FILTER_FLAG_SPEC_ALLOW"] ?? 0;
  return names.reduce((all, name) => {
    const flag = Object.hasOwn(filterFlags, name) ? filterFlags[name] : undefined;
    if (flag === undefined) throw new EngineError("invalid", `seccomp flag ${name} is unknown`);
    return all | flag;
  }, 0);
}

/** Who answers the calls with SCMP_ACT_NOTIFY, and the container process state that it is sent: `head`, the process's pid, `tail`. */
export interface SeccompListener {
  readonly socket: string;
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

/** Undefined when no call is notified of. `state`: as the spec's state operation answers. */
export function seccompListener(seccomp: OciSeccomp | undefined | null, state: { readonly ociVersion: string }): SeccompListener | undefined {
  if (seccomp === undefined || seccomp === null) return undefined;
  const { listenerPath = "", listenerMetadata = "" } = seccomp;
  if (listenerMetadata !== "" && listenerPath === "") throw new EngineError("invalid", "seccomp listenerMetadata without a listenerPath");
  if (!notifies(seccomp)) return undefined;
  const rest = { ...(listenerMetadata === "" ? {} : { metadata: listenerMetadata }), state };
  const encoder = new TextEncoder();
  return {
    socket: listenerPath,
    head: encoder.encode(`{"ociVersion":${JSON.stringify(state.ociVersion)},"fds":["seccompFd"],"pid":`),
    tail: encoder.encode(`,${JSON.stringify(rest).slice(1)}`),
  };
}
