/**
 * `wherry run --explain --facts FILE` where no daemon answers: the plan needs no root and no state, only what the file says of a host. An image's own settings
 * are not known here, so the command has to be given.
 * @module
 */
import { openCgroups } from "#cgroup/mod.ts";
import { parseCreateBody } from "#api/types/container-create.ts";
import { maxMinor } from "#api/types/version.ts";
import { EngineError } from "#core/errors.ts";
import { IdRanges } from "#engine/id-ranges.ts";
import { mergeImageConfig } from "#engine/merge-image-config.ts";
import { wantedMounts } from "#engine/mount-points.ts";
import { parseUsernsMode } from "#engine/userns-mode.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { buildSpec, explainPlan, planContainer, planToJson, resolveUser, seccompProgram, slots } from "#runtime/mod.ts";

/** A container that will never be. */
const id = "0".repeat(64);
const directory = `/run/wherry/containers/${id}`;

/** The plan as text. Throws EngineError for what the daemon would refuse, and for what only it could know. */
export async function explainOffline(body: unknown, facts: HostFacts, format: "text" | "json"): Promise<string> {
  const { config: given, hostConfig } = parseCreateBody(body, maxMinor);
  const config = mergeImageConfig({ ...given, Hostname: given.Hostname || id.slice(0, 12) }, {});
  const args = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  if (args.length === 0) throw new EngineError("invalid", "no command specified", { hint: "without a daemon the image's own command is not known: name one" });
  if (!/^[0-9:]*$/.test(config.User))
    throw new EngineError("invalid", `unable to find user ${config.User}`, { hint: "without a daemon the image's users are not known: use a number" });
  const { spec, files } = buildSpec({
    id,
    config,
    hostConfig,
    args,
    user: resolveUser(config.User, "", "", []),
    mounts: wantedMounts(config, hostConfig, (name) => {
      throw new EngineError("not-found", `No such container: ${name}`, { hint: "without a daemon no other container is known" });
    }),
    files: { hostname: `${directory}/hostname`, hosts: `${directory}/hosts`, resolvConf: `${directory}/resolv.conf` },
    cgroupsPath: `/wherry/${id}`,
    join: { pid: 1, ipc: 1, network: 1, uts: 1 },
    facts,
    userns: await new IdRanges(undefined, () => []).mappingsFor(id, { mode: parseUsernsMode(hostConfig.UsernsMode) }),
  });
  const plan = planContainer({
    spec,
    root:
      hostConfig.WherryRootfs === undefined
        ? { kind: "overlay", lower: [`<layers of ${given.Image}>`], links: [], linkDir: "", upper: "<upper>", work: "<work>", options: [] }
        : { kind: "bind", source: hostConfig.WherryRootfs, readonly: false },
    facts,
    cgroup: openCgroups(facts).plan(hostConfig.CgroupParent, id, spec.linux?.resources ?? {}, slots.cgroup),
    network: [],
    tty: config.Tty,
    seccomp: seccompProgram(spec.linux?.seccomp, facts),
    attachGate: false,
    files,
    id,
    ...(hostConfig.Init === true ? { initBinary: "<wherry-helper>" } : {}),
  });
  return format === "json" ? planToJson(plan) : explainPlan(plan);
}
