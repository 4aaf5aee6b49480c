import { type Lookup, expandWord } from "./words.ts";
import type { Instruction, InstructionOf } from "./instruction.ts";
import { suggest } from "#core/suggest.ts";
import { parseError } from "./parse-error.ts";
import { parseInstruction } from "./parse-instruction.ts";
import { type ParseTree, parseTree } from "./parse-tree.ts";

/** From one FROM to the next. */
export interface Stage {
  readonly index: number;
  /** Lower case. */
  readonly name: string | undefined;
  readonly from: InstructionOf<"from">;
  /** Without FROM. */
  readonly instructions: readonly Instruction[];
}

export interface Dockerfile {
  readonly tree: ParseTree;
  /** ARG before the first FROM. */
  readonly globalArgs: readonly InstructionOf<"arg">[];
  readonly stages: readonly Stage[];
}

/** The whole Dockerfile, checked as far as it can be without values. @throws EngineError "invalid" */
export function parseDockerfile(text: string, file = "Dockerfile"): Dockerfile {
  const tree = parseTree(text, file);
  const globalArgs: InstructionOf<"arg">[] = [];
  const stages: { index: number; name: string | undefined; from: InstructionOf<"from">; instructions: Instruction[] }[] = [];
  for (const node of tree.nodes) {
    const instruction = parseInstruction(node);
    const stage = stages.at(-1);
    if (instruction.kind === "from") stages.push({ index: stages.length, name: instruction.alias, from: instruction, instructions: [] });
    else if (stage !== undefined) stage.instructions.push(instruction);
    else if (instruction.kind === "arg") globalArgs.push(instruction);
    else throw parseError(instruction.position, `no build stage in current context: ${node.command.toUpperCase()} stands before the first FROM`);
  }
  const last = tree.nodes.at(-1)!;
  if (stages.length === 0) throw parseError(last.position, "no build stage: the file has no FROM");
  return { tree, globalArgs, stages };
}

/** The stage with a name or number, the last of those with the name. */
export function findStage(stages: readonly Stage[], name: string): Stage | undefined {
  const wanted = name.toLowerCase();
  const named = stages.findLast((stage) => stage.name === wanted);
  return named ?? (/^[0-9]{1,4}$/.test(name) ? stages[Number(name)] : undefined);
}

/** What `--target` names; the last stage when it names none. @throws EngineError "invalid" */
export function targetStage({ stages }: Dockerfile, target: string): Stage {
  if (target === "") return stages.at(-1)!;
  const found = findStage(stages, target);
  if (found !== undefined) return found;
  const known = stages.flatMap(({ name }) => name ?? []);
  throw parseError(stages.at(-1)!.from.position, `target stage ${JSON.stringify(target)} could not be found`, suggest(target, known)[0]);
}

/** Values of the ARGs before the first FROM: `given` beats the default. `predefined`: `TARGETARCH` and its kin. */
export function globalArgValues(
  { globalArgs, tree }: Dockerfile,
  given: Readonly<Record<string, string | undefined>>,
  predefined: Readonly<Record<string, string>>,
): Lookup {
  const values = new Map<string, string>();
  const lookup: Lookup = (name) => values.get(name) ?? (Object.hasOwn(predefined, name) ? predefined[name] : undefined);
  for (const { args } of globalArgs) {
    for (const { name, value } of args) {
      const own = Object.hasOwn(given, name) ? given[name] : undefined;
      const result = own ?? (value === undefined ? undefined : expandWord(value, lookup, { escape: tree.directives.escape }));
      if (result !== undefined) values.set(name, result);
    }
  }
  return lookup;
}
