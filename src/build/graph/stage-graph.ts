/** Which stages a build needs, and which of them wait for which. Pure. @module */
import type { Instruction } from "../frontend/instruction.ts";
import { parseError } from "../frontend/parse-error.ts";
import { type Dockerfile, findStage, type Stage } from "../frontend/stages.ts";
import { expandWord, type Lookup } from "../frontend/words.ts";

export interface StageNode {
  readonly stage: Stage;
  /** What FROM says, values put in. */
  readonly image: string;
  readonly platform: string;
  /** The stage that it continues; undefined: an image, or `scratch`. */
  readonly base: number | undefined;
  /** Stages it takes files from or mounts, and its base. */
  readonly needs: readonly number[];
}

/** The stages that the target needs, itself included, in the order of the file. Others are not looked at: they never run. @throws EngineError "invalid" */
export function stageGraph(file: Dockerfile, target: Stage, lookup: Lookup): StageNode[] {
  const nodes = new Map<number, StageNode>();
  const visit = (stage: Stage): void => {
    if (nodes.has(stage.index)) return;
    const node = stageNode(file, stage, lookup);
    nodes.set(stage.index, node);
    for (const need of node.needs) visit(file.stages[need]!);
  };
  visit(target);
  return [...nodes.values()].sort((a, b) => a.stage.index - b.stage.index);
}

function stageNode(file: Dockerfile, stage: Stage, lookup: Lookup): StageNode {
  const { from } = stage;
  const options = { escape: file.tree.directives.escape };
  const earlier = file.stages.slice(0, stage.index);
  const image = expandWord(from.image, lookup, options);
  if (image === "") throw parseError(from.position, `base name (${from.image}) should not be blank`);
  const platform = from.platform === undefined ? "" : expandWord(from.platform, lookup, options);
  const base = earlier.findLast(({ name }) => name === image.toLowerCase())?.index;
  const needs = new Set(base === undefined ? [] : [base]);
  for (const instruction of stage.instructions) {
    for (const name of sourcesOf(instruction)) {
      if (/^[0-9]+$/.test(name) && Number(name) >= stage.index)
        throw parseError(instruction.position, `invalid from flag value ${name}: it is not a stage before this one`);
      const found = findStage(earlier, name);
      if (found !== undefined) needs.add(found.index);
    }
  }
  return { stage, image, platform, base, needs: [...needs] };
}

/** Names that an instruction takes files from. */
function sourcesOf(instruction: Instruction): string[] {
  if (instruction.kind === "copy") return instruction.from === undefined ? [] : [instruction.from];
  if (instruction.kind === "run") return instruction.mounts.flatMap(({ from }) => from ?? []);
  return [];
}
