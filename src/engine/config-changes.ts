/**
 * `--change` of commit and import: Dockerfile instructions that only touch the configuration, in the Dockerfile's own language.
 * @module
 * @see https://docs.docker.com/reference/cli/docker/container/commit/#change
 */
import { type Instruction, parseInstruction, parseTree } from "#build/frontend/mod.ts";
import { evaluateStage } from "#build/graph/evaluate.ts";
import { mergeEnv } from "#build/graph/scope.ts";
import type { ContainerConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";

const allowed: ReadonlySet<Instruction["kind"]> = new Set<Instruction["kind"]>([
  "cmd",
  "entrypoint",
  "env",
  "expose",
  "healthcheck",
  "label",
  "onbuild",
  "shell",
  "stopsignal",
  "user",
  "volume",
  "workdir",
]);

/** The configuration with the instructions applied, in order; `config` is not changed. @throws EngineError "invalid" with the line that is wrong */
export function applyChanges(config: Partial<ContainerConfig>, changes: readonly string[]): Partial<ContainerConfig> {
  // One parameter may hold several lines, as a Dockerfile does.
  const text = changes.join("\n");
  if (text.trim() === "") return { ...config };
  const { nodes } = parseTree(text, "changes");
  const instructions = nodes.map((node) => {
    const instruction = parseInstruction(node);
    if (!allowed.has(instruction.kind)) throw new EngineError("invalid", `${instruction.kind.toUpperCase()} is not a valid change command`);
    return instruction;
  });
  // What a build would begin with is not asked for here: the base's triggers, and a PATH.
  const { OnBuild, ...base } = config;
  const { end } = evaluateStage(instructions, { settings: base, author: undefined }, { buildArgs: {}, predefined: {}, global: () => undefined, escape: "\\" });
  const { Env, Cmd, OnBuild: more, ...settings } = end.settings;
  const saidPath = (list: readonly string[] | null | undefined) => list?.some((pair) => pair.startsWith("PATH=")) ?? false;
  const asksPath = saidPath(config.Env) || instructions.some(({ kind, text: line }) => kind === "env" && /\bPATH\b/.test(line));
  const env = asksPath ? Env : Env?.filter((pair) => !pair.startsWith("PATH="));
  const triggers = [...(OnBuild ?? []), ...(more ?? [])];
  return {
    ...settings,
    ...(env === undefined || (env?.length === 0 && config.Env === undefined) ? {} : { Env: env !== null && env.length === 0 ? (config.Env ?? null) : env }),
    // A new entrypoint takes the old command away only where one was.
    ...(Cmd === undefined || (Cmd === null && config.Cmd === undefined) ? {} : { Cmd }),
    ...(triggers.length > 0 ? { OnBuild: triggers } : OnBuild === undefined ? {} : { OnBuild }),
  };
}

/** What commit stores: the request's configuration, and whatever it leaves open from the container's. */
export function mergeConfig(user: Partial<ContainerConfig>, base: ContainerConfig): Partial<ContainerConfig> {
  const given = Object.fromEntries(
    Object.entries(user).filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== false && !(Array.isArray(v) && v.length === 0)),
  ) as Partial<ContainerConfig>; // still a part of it
  const clearsCmd = given.Entrypoint !== undefined && given.Cmd === undefined;
  const variables = (given.Env ?? []).map((pair) => pair.split(/=(.*)/s)).map(([name = "", value = ""]) => [name, value] as const);
  return {
    ...base,
    ...(clearsCmd ? { Cmd: null } : {}),
    ...given,
    Env: mergeEnv(base.Env ?? [], variables),
    Labels: { ...base.Labels, ...given.Labels },
    ...(base.ExposedPorts || given.ExposedPorts ? { ExposedPorts: { ...base.ExposedPorts, ...given.ExposedPorts } } : {}),
    Volumes: base.Volumes || given.Volumes ? { ...base.Volumes, ...given.Volumes } : null,
  };
}
