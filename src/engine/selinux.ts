/**
 * SELinux, where the kernel runs with it and the daemon was told to use it: which label a container's processes have, and which its files. As docker computes them from the policy of the
 * host: a type that may reach container files only, and a level of two categories that no other container has.
 * @module
 * @see https://man7.org/linux/man-pages/man8/selinux.8.html
 */
import { randomInt } from "node:crypto";
import { lstat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { ContainerRecord, MountPoint } from "#container/mod.ts";
import type { HostConfig } from "#core/container-config.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { parseSecurityOptions } from "#runtime/security-options.ts";
import type { EngineContext } from "./context.ts";

/** What the policy says of containers. */
export type SelinuxPolicy = NonNullable<HostFacts["selinux"]>;

/** Of a host whose facts name no policy. */
export function whyNoSelinux({ lsm }: HostFacts): string {
  return lsm.includes("selinux")
    ? "the policy of this host says nothing of containers (Debian, Fedora: container-selinux)"
    : "this kernel runs without SELinux";
}

/** "" = none: unconfined. */
export type Labels = Pick<ContainerRecord, "processLabel" | "mountLabel">;

interface SecurityContext {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  /** "" where the policy has no levels. */
  readonly level: string;
}

function parseContext(label: string): SecurityContext {
  const [user = "", role = "", type = "", ...level] = label.split(":");
  return { user, role, type, level: level.join(":") };
}

function format({ user, role, type, level }: SecurityContext): string {
  return [user, role, type, ...(level === "" ? [] : [level])].join(":");
}

/** Files of a container that has no confinement of its own: no confined one has both categories. */
const UNCONFINED_LEVEL = "s0:c1022,c1023";
const CATEGORIES = 1024;

/**
 * The labels of `--security-opt label=…`. Pure.
 * @param level of its own, for what says none
 * @throws EngineError "invalid" with docker's words
 */
export function planLabelsOf(policy: SelinuxPolicy, options: readonly string[], level: string): Required<Labels> {
  const own = policy.mls ? level : "";
  let process = { ...parseContext(policy.process), level: own };
  let file = { ...parseContext(policy.file), level: own };
  for (const option of options) {
    if (option === "disable") return { processLabel: "", mountLabel: format({ ...file, level: policy.mls ? UNCONFINED_LEVEL : "" }) };
    const [, key, value = ""] = /^([^:]*):(.*)$/s.exec(option) ?? [];
    if (key === undefined)
      throw invalid(`bad label option "${option}", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value`);
    if (/[\s",]/.test(key === "level" ? value.replaceAll(",", "") : value)) throw invalid(`bad label option "${option}": it has characters that no label has`);
    if (key === "filetype") file = { ...file, type: value };
    else if (key === "user" || key === "level")
      [process, file] = [
        { ...process, [key]: value },
        { ...file, [key]: value },
      ];
    else if (key === "role" || key === "type") process = { ...process, [key]: value };
    else throw invalid(`bad label option "${key}", valid options 'disable, user, role, level, type, filetype'`);
  }
  return { processLabel: format(process), mountLabel: format(file) };
}

function invalid(message: string): EngineError {
  return new EngineError("invalid", message);
}

/** What of the host may not be given to containers by a label: it would be taken from everybody else. */
const systemDirectories = new Set(
  "/ /bin /boot /dev /etc /etc/passwd /etc/pki /etc/shadow /home /lib /lib64 /media /opt /proc /root /run /sbin /srv /sys /tmp /usr /usr/bin /usr/lib /usr/lib64 /usr/sbin /usr/share /var /var/lib /var/log".split(
    " ",
  ),
);

/** How a mount's files are to be labelled: "own" = for this container (`:Z`), "shared" = for all (`:z`, and volumes that do not say). */
export function relabelling({ Type, Mode }: Pick<MountPoint, "Type" | "Mode">): "own" | "shared" | undefined {
  const modes = Mode.split(",");
  if (modes.includes("Z")) return "own";
  return modes.includes("z") || Type === "volume" ? "shared" : undefined;
}

/** @throws EngineError "invalid" for a directory of the system's */
export function refuseSystemDirectories(mounts: readonly Pick<MountPoint, "Type" | "Mode" | "Source">[]): void {
  for (const mount of mounts)
    if (mount.Type === "bind" && relabelling(mount) !== undefined && systemDirectories.has(mount.Source))
      throw invalid(`SELinux relabeling of ${mount.Source} is not allowed`);
}

/** Which labels containers have. What is taken is what the records say; only a creation under way holds its level here. */
export class SelinuxLabels {
  readonly policy: SelinuxPolicy;
  readonly #records: () => Iterable<Labels>;
  readonly #held = new Map<string, string>();

  constructor(policy: SelinuxPolicy, records: () => Iterable<Labels>) {
    this.policy = policy;
    this.#records = records;
  }

  /** `processLabelOf`: of another container, by name. */
  labelsFor(id: string, host: HostConfig, processLabelOf: (container: string) => string): Required<Labels> {
    const level = this.#freeLevel();
    this.#held.set(id, level);
    return planLabelsOf(this.policy, labelOptions(host, processLabelOf), level);
  }

  release(id: string): void {
    this.#held.delete(id);
  }

  #freeLevel(): string {
    const taken = new Set(this.#held.values());
    for (const { mountLabel } of this.#records()) if (mountLabel !== undefined) taken.add(parseContext(mountLabel).level);
    for (;;) {
      const [a, b] = [randomInt(CATEGORIES), randomInt(CATEGORIES)];
      const level = `s0:c${Math.min(a, b)},c${Math.max(a, b)}`;
      if (a !== b && level !== UNCONFINED_LEVEL && !taken.has(level)) return level;
    }
  }
}

/** As docker decides it: what was asked for; no label for what sees the host's processes or is privileged; and those who share IPC or processes share the label. */
function labelOptions(host: HostConfig, processLabelOf: (container: string) => string): readonly string[] {
  const { labels } = parseSecurityOptions(host.SecurityOpt);
  if (labels.length > 0) return labels;
  if (host.Privileged || host.IpcMode === "host" || host.PidMode === "host") return ["disable"];
  const [ipc, pid] = [host.IpcMode, host.PidMode].map((mode) => {
    const other = /^container:(.+)$/.exec(mode)?.[1];
    return other === undefined ? "" : processLabelOf(other);
  });
  if (ipc !== "" && pid !== "" && ipc !== pid) throw invalid("--ipc and --pid containers SELinux labels aren't the same");
  const joined = ipc || pid || "";
  if (joined === "") return [];
  const { user, role, type, level } = parseContext(joined);
  return [`user:${user}`, `role:${role}`, `type:${type}`, ...(level === "" ? [] : [`level:${level}`])];
}

/** Labels what the container's mounts ask to be labelled, before a start: what has the label already is left alone. */
export async function relabelMounts(ctx: EngineContext, { mountLabel = "", mounts, name }: ContainerRecord): Promise<void> {
  if (mountLabel === "" || ctx.selinux === undefined) return;
  for (const mount of mounts) {
    const how = relabelling(mount);
    if (how === undefined) continue;
    const label = how === "own" ? mountLabel : sharedLabel(ctx.selinux.policy, mountLabel);
    const directory = (await lstat(mount.Source)).isDirectory();
    const tree = await ctx.helper.openTree(directory ? mount.Source : dirname(mount.Source));
    try {
      await labelTree(tree, directory ? "" : basename(mount.Source), label);
    } catch (error) {
      if (!isEngineError(error) || error.details["errno"] !== "ENOTSUP") throw error;
      ctx.log("warn", `${mount.Source}, which ${name} mounts, keeps its SELinux labels: its filesystem has none of its own`);
    } finally {
      await tree.close();
    }
  }
}

function sharedLabel(policy: SelinuxPolicy, label: string): string {
  return format({ ...parseContext(label), level: policy.mls ? "s0" : "" });
}

const LABEL = "security.selinux";

/** Gives everything below a path of a tree a label; without crossing mounts or following links. */
export async function labelTree(tree: FileTree, path: string, label: string): Promise<void> {
  const value = Buffer.from(`${label}\0`);
  for await (const stat of tree.walk(path)) {
    const has = stat.xattrs.find(({ name }) => name === LABEL);
    if (has === undefined || Buffer.compare(has.value, value) !== 0) await tree.setXattr(stat.path, LABEL, value);
  }
  await tree.flush();
}
