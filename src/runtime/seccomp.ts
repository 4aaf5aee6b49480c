/**
 * A container's seccomp filter: which profile, decided for its capabilities, compiled once.
 * @module
 */
import type { OciSeccomp } from "#core/runtime-spec.ts";
import { type DockerSeccompProfile, parseProfile, resolveProfile } from "#linux/bpf/profile.ts";
import { compileSeccomp } from "#linux/bpf/compile.ts";
import type { HostFacts } from "#linux/host-facts.ts";
// Docker's default profile, as dockerd embeds it: github.com/moby/profiles seccomp/default.json, commit cd3bed8061c7, Apache-2.0.
import builtin from "./seccomp-default.json" with { type: "json" };

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
  let program = programs.get(seccomp);
  if (program === undefined) {
    program = compileSeccomp(seccomp, facts.kernel.arch);
    programs.set(seccomp, program);
  }
  return program;
}
