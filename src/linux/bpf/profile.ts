/**
 * Seccomp profiles in Docker's format → the OCI form: rules that depend on the architecture, the kernel or the container's capabilities are
 * decided here.
 * @module
 * @see https://docs.docker.com/engine/security/seccomp/
 */
import { EngineError } from "#core/errors.ts";
import type { OciSeccomp } from "#core/runtime-spec.ts";

export type SeccompArch = "x86_64" | "aarch64";

interface Conditions {
  readonly caps?: readonly string[] | null;
  /** Go's names: amd64, x32, arm64 … */
  readonly arches?: readonly string[] | null;
  readonly minKernel?: string;
}

type RuleArg = NonNullable<NonNullable<OciSeccomp["syscalls"]>[number]["args"]>[number];

export interface DockerSeccompRule {
  /** Before Docker 1.13. */
  readonly name?: string;
  readonly names?: readonly string[] | null;
  readonly action: string;
  readonly errnoRet?: number | null;
  readonly args?: readonly RuleArg[] | null;
  readonly includes?: Conditions;
  readonly excludes?: Conditions;
  readonly comment?: string;
}

export interface DockerSeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number | null;
  readonly architectures?: readonly string[] | null;
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] | null }[] | null;
  readonly flags?: readonly string[] | null;
  readonly syscalls?: readonly DockerSeccompRule[] | null;
}

/** What the conditions of a profile are decided by. */
export interface ProfileContext {
  readonly arch: SeccompArch;
  readonly kernel: { readonly major: number; readonly minor: number };
  /** The container's bounding set, as CAP_ names. */
  readonly capabilities: readonly string[];
}

const scmpArch = { x86_64: "SCMP_ARCH_X86_64", aarch64: "SCMP_ARCH_AARCH64" } as const;
const goArch = { x86_64: "amd64", aarch64: "arm64" } as const;

/** Parses the JSON text of a profile. @throws EngineError "invalid" with Docker's words */
export function parseProfile(json: string): DockerSeccompProfile {
  const refuse = (why: string) => new EngineError("invalid", `Decoding seccomp profile failed: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw refuse((error as Error).message);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw refuse("want a JSON object");
  const profile = value as DockerSeccompProfile;
  if (typeof profile.defaultAction !== "string") throw refuse("defaultAction is missing");
  for (const list of ["architectures", "archMap", "flags", "syscalls"] as const) {
    if (profile[list] !== undefined && profile[list] !== null && !Array.isArray(profile[list])) throw refuse(`${list} is not an array`);
  }
  return profile;
}

/** Decides includes, excludes and architectures. @throws EngineError "invalid" for a profile that contradicts itself */
export function resolveProfile(profile: DockerSeccompProfile, context: ProfileContext): OciSeccomp {
  const hasMap = (profile.archMap?.length ?? 0) > 0;
  const hasList = (profile.architectures?.length ?? 0) > 0;
  if (hasMap && hasList)
    throw new EngineError("invalid", "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'");
  const native = scmpArch[context.arch];
  const mapped = profile.archMap?.find((entry) => entry.architecture === native);
  const architectures = hasMap ? (mapped === undefined ? [] : [native, ...(mapped.subArchitectures ?? [])]) : [...(profile.architectures ?? [])];
  const syscalls: NonNullable<OciSeccomp["syscalls"]> = [];
  for (const rule of profile.syscalls ?? []) {
    if (!applies(rule, context)) continue;
    if (rule.name !== undefined && rule.names != null && rule.names.length > 0)
      throw new EngineError("invalid", "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'");
    syscalls.push({
      names: rule.name !== undefined ? [rule.name] : [...(rule.names ?? [])],
      action: rule.action,
      ...(rule.errnoRet == null ? {} : { errnoRet: rule.errnoRet }),
      ...(rule.args == null || rule.args.length === 0 ? {} : { args: [...rule.args] }),
    });
  }
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet == null ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures,
    ...(profile.flags == null ? {} : { flags: [...profile.flags] }),
    syscalls,
  };
}

function applies(rule: DockerSeccompRule, { arch, kernel, capabilities }: ProfileContext): boolean {
  const { includes, excludes } = rule;
  if (excludes?.arches?.includes(goArch[arch])) return false;
  if (excludes?.caps?.some((cap) => capabilities.includes(cap))) return false;
  if (excludes?.minKernel !== undefined && kernelAtLeast(kernel, excludes.minKernel)) return false;
  if ((includes?.arches?.length ?? 0) > 0 && !includes?.arches?.includes(goArch[arch])) return false;
  if (includes?.caps?.some((cap) => !capabilities.includes(cap))) return false;
  return includes?.minKernel === undefined || kernelAtLeast(kernel, includes.minKernel);
}

function kernelAtLeast(kernel: ProfileContext["kernel"], wanted: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(wanted) ?? [];
  if (major === undefined || minor === undefined) throw new EngineError("invalid", `Decoding seccomp profile failed: invalid kernel version "${wanted}"`);
  return kernel.major > Number(major) || (kernel.major === Number(major) && kernel.minor >= Number(minor));
}
