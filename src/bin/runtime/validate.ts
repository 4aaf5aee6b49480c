/** What a spec may not ask for: wrong by the specification, or nothing that this host or this runtime does. Refused, so that nobody believes it was done. @module */
import { existsSync } from "node:fs";
import { EngineError } from "#core/errors.ts";
import type { OciLinux, OciProcess, OciResources, OciSpec } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { namespaceKinds } from "#namespace/mod.ts";

function invalid(holds: boolean, why: string): void {
  if (!holds) throw new EngineError("invalid", `config.json: ${why}`);
}

function supported(holds: boolean, why: string): void {
  if (!holds) throw new EngineError("unsupported", why);
}

/** EngineError "invalid" or "unsupported". */
export function validate(spec: OciSpec, facts: HostFacts): void {
  const linux = spec.linux ?? { namespaces: [] };
  checkNamespaces(spec, linux);
  for (const path of [...(linux.maskedPaths ?? []), ...(linux.readonlyPaths ?? [])])
    invalid(path.startsWith("/"), `the masked or read-only path "${path}" is not absolute`);
  for (const name of Object.keys(linux.sysctl ?? {})) checkSysctl(name, linux);
  checkResources(linux.resources ?? {}, facts);
  supported(linux.intelRdt === undefined || linux.intelRdt === null, "intelRdt is not supported: no resctrl filesystem is managed by this runtime");
  checkMountLabel(linux.mountLabel ?? "", facts);
  checkSeccomp(linux.seccomp);
  for (const { destination, uidMappings, gidMappings } of spec.mounts ?? [])
    invalid(
      (uidMappings === undefined) === (gidMappings === undefined),
      `the mount at ${destination} has uidMappings or gidMappings; it needs both or neither`,
    );
  checkLabels(spec.process, facts);
}

function checkSeccomp(seccomp: OciLinux["seccomp"]): void {
  const hasErrno = (action: string) => ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].includes(action);
  if (!seccomp) return;
  const { defaultAction, defaultErrnoRet, syscalls } = seccomp;
  invalid((defaultErrnoRet ?? undefined) === undefined || hasErrno(defaultAction), `seccomp action ${defaultAction} takes no defaultErrnoRet`);
  for (const { names, action, errnoRet } of syscalls ?? []) {
    invalid(names.length > 0, `a seccomp rule for ${action} names no system call`);
    invalid((errnoRet ?? undefined) === undefined || hasErrno(action), `seccomp action ${action} takes no errnoRet`);
  }
}

function checkNamespaces(spec: OciSpec, { namespaces }: OciLinux): void {
  const types = namespaces.map(({ type }) => type);
  for (const { type, path } of namespaces) {
    invalid(
      namespaceKinds.some((kind) => kind.type === type),
      `there is no namespace type "${type}"`,
    );
    invalid((path ?? "") === "" || path?.startsWith("/") === true, `the path "${path}" of the ${type} namespace is not absolute`);
  }
  invalid(new Set(types).size === types.length, `a namespace type twice: ${types.join(" ")}`);
  const renames = (spec.hostname ?? "") !== "" || (spec.domainname ?? "") !== "";
  invalid(!renames || types.includes("uts"), "unable to set hostname without a private UTS namespace");
}

/** Each belongs to a namespace, which must not be the host's. */
function checkSysctl(name: string, { namespaces }: OciLinux): void {
  const dotted = name.replaceAll("/", ".");
  const own = (type: string) => namespaces.some((entry) => entry.type === type);
  const ipc = /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced|msg_next_id|sem_next_id|shm_next_id|auto_msgmni)|fs\.mqueue\..*)$/;
  const needed = dotted.startsWith("net.")
    ? "network"
    : ipc.test(dotted)
      ? "ipc"
      : /^kernel\.(domainname|hostname)$/.test(dotted)
        ? "uts"
        : dotted.startsWith("user.")
          ? "user"
          : undefined;
  invalid(needed !== undefined, `sysctl "${name}" is not in a separate kernel namespace`);
  invalid(needed === undefined || own(needed), `sysctl "${name}" is not allowed in the host's ${needed} namespace`);
}

/** Limits of a new container, and of one that `update` changes. */
export function checkResources({ blockIO, hugepageLimits, network, rdma, unified }: OciResources, { cgroup }: HostFacts): void {
  for (const { major, minor, weight, leafWeight } of blockIO?.weightDevice ?? [])
    invalid(weight !== undefined || leafWeight !== undefined, `blockIO.weightDevice: ${major}:${minor} has neither weight nor leafWeight`);
  const leaves = [blockIO, ...(blockIO?.weightDevice ?? [])].some((entry) => (entry?.leafWeight ?? 0) !== 0);
  supported(!leaves, "blockIO.leafWeight is not supported: no kernel since Linux 5.0 has it");
  for (const [device, { hcaHandles, hcaObjects }] of Object.entries(rdma ?? {}))
    invalid(hcaHandles !== undefined || hcaObjects !== undefined, `rdma: ${device} has neither hcaHandles nor hcaObjects`);
  const v1 = cgroup.mode === "v1" || cgroup.mode === "hybrid";
  supported(!v1 || Object.keys(unified ?? {}).length === 0, "resources.unified is not supported on this host: its controllers are those of cgroup v1");
  for (const { pageSize } of hugepageLimits ?? []) {
    const [, size, unit = ""] = /^(\d+)([KMG])B$/.exec(pageSize) ?? [];
    const kib = Number(size) * ({ K: 1, M: 1024, G: 1024 * 1024 }[unit] ?? Number.NaN);
    invalid(existsSync(`/sys/kernel/mm/hugepages/hugepages-${kib}kB`), `this machine has no huge pages of ${pageSize}`);
  }
  const needs = (used: boolean, controller: string, key: string) =>
    supported(
      !used || !v1 || cgroup.v1[controller] !== undefined,
      `resources.${key} is not supported on this host: no cgroup v1 controller ${controller} is mounted`,
    );
  needs((hugepageLimits ?? []).length > 0, "hugetlb", "hugepageLimits");
  const onlyV1 = (used: boolean, key: string) => supported(!used || v1, `resources.${key} is not supported on this host: cgroup v2 has no such controller`);
  onlyV1((network?.classID ?? 0) !== 0, "network.classID");
  onlyV1((network?.priorities ?? []).length > 0, "network.priorities");
  needs((network?.classID ?? 0) !== 0, "net_cls", "network.classID");
  needs((network?.priorities ?? []).length > 0, "net_prio", "network.priorities");
  needs(Object.keys(rdma ?? {}).length > 0, "rdma", "rdma");
}

/** It becomes a part of the options of mount(2). */
function checkMountLabel(label: string, { lsm }: HostFacts): void {
  supported(label === "" || lsm.includes("selinux"), `mountLabel "${label}" is not supported: this kernel runs without SELinux`);
  invalid(/^[A-Za-z0-9_.:,-]*$/.test(label), `mountLabel "${label}" is no SELinux label`);
}

/** LSM labels of a process: applied where the kernel has the module, refused elsewhere. */
export function checkLabels({ apparmorProfile = "", selinuxLabel = "" }: OciProcess, { lsm }: HostFacts): void {
  const wanted = apparmorProfile !== "" && apparmorProfile !== "unconfined";
  supported(!wanted || lsm.includes("apparmor"), `apparmorProfile "${apparmorProfile}" is not supported: this kernel runs without AppArmor`);
  supported(selinuxLabel === "" || lsm.includes("selinux"), `selinuxLabel "${selinuxLabel}" is not supported: this kernel runs without SELinux`);
}
