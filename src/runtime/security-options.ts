/**
 * `--security-opt`.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { parseGoBool } from "#core/go-bool.ts";

export interface SecurityOptions {
  readonly noNewPrivileges: boolean;
  /** A JSON profile, "unconfined", or "builtin" (the default profile). */
  readonly seccomp: string;
  readonly apparmor: string | undefined;
  /** Of SELinux: what stands behind `label=`. */
  readonly labels: readonly string[];
  readonly systemPathsUnconfined: boolean;
  readonly writableCgroups: boolean;
  /** Which system calls the filter refuses is told when the container ends. Ours: Docker has no such option. */
  readonly seccompAudit: boolean;
}

/** Parses what Docker's API sends. @throws EngineError "invalid" with Docker's words */
export function parseSecurityOptions(options: readonly string[] | null): SecurityOptions {
  let [noNewPrivileges, systemPathsUnconfined, writableCgroups, seccompAudit] = [false, false, false, false];
  let seccomp = "builtin";
  let apparmor: string | undefined;
  const labels: string[] = [];
  for (const option of options ?? []) {
    if (option === "no-new-privileges") {
      noNewPrivileges = true;
      continue;
    }
    if (option === "disable") {
      labels.push(option); // label=disable in its old form
      continue;
    }
    // `key:value` is the form before Docker 1.11.
    const [, key, value] = /^([^=:]+)[=:](.*)$/s.exec(option) ?? [];
    if (key === undefined || value === undefined) throw new EngineError("invalid", `invalid --security-opt 1: "${option}"`);
    if (key === "seccomp") seccomp = value;
    else if (key === "seccomp-audit") seccompAudit = boolean(option, value);
    else if (key === "apparmor") apparmor = value;
    else if (key === "no-new-privileges") noNewPrivileges = boolean(option, value);
    else if (key === "writable-cgroups") writableCgroups = boolean(option, value);
    else if (key === "systempaths" && value === "unconfined") systemPathsUnconfined = true;
    else if (key === "label") labels.push(value);
    else throw new EngineError("invalid", `invalid --security-opt 2: "${option}"`);
  }
  return { seccompAudit, noNewPrivileges, seccomp, apparmor, labels, systemPathsUnconfined, writableCgroups };
}

function boolean(option: string, value: string): boolean {
  const given = parseGoBool(value);
  if (given === undefined) throw new EngineError("invalid", `invalid --security-opt 2: "${option}"`);
  return given;
}
