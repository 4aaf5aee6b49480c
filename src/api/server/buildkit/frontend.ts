/** A client's call of a frontend → a build by ours. @module */
import { randomBytes } from "node:crypto";
import type { SolvedBuild } from "#engine/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { Job } from "./jobs.ts";
import { type Attributes, buildOptions } from "./options.ts";
import type { BuildKitState } from "./state.ts";

/** `gateway.v0` is a frontend from an image, which `# syntax=docker/dockerfile` asks for: ours reads that language. */
const frontends = ["dockerfile.v0", "gateway.v0"];

export async function solveFrontend({ engine }: BuildKitState, job: Job, frontend: string, attributes: Attributes): Promise<SolvedBuild> {
  if (!frontends.includes(frontend))
    throw new EngineError("unsupported", `the frontend ${frontend} is not supported: this engine builds Dockerfiles (dockerfile.v0)`);
  const options = await buildOptions(attributes, await job.session(), job.progress, job.signal);
  const solved = await engine.builds.solve({ ...options, inlineCache: job.caches.inlineCache }, (event) => job.progress.report(event), job.signal);
  if (solved.unusedArgs.length > 0)
    job.progress.report({ kind: "warning", step: undefined, text: `One or more build-args [${solved.unusedArgs.join(" ")}] were not consumed` });
  return solved;
}

/** Keeps a result for later calls. */
export function keepResult(job: Job, result: SolvedBuild): string {
  const id = randomBytes(12).toString("hex");
  job.results.set(id, result);
  return id;
}
