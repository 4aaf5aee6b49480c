/** moby.buildkit.v1.frontend.LLBBridge: what a client asks while its build runs, of the build that its metadata names. @module */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { rawLlb } from "./control.ts";
import { failureOf } from "./failures.ts";
import { keepResult, solveFrontend } from "./frontend.ts";
import type { LLBBridge, Result, SolveRequest } from "./gen/gateway_pb.ts";
import type { Job } from "./jobs.ts";
import type { BuildKitState } from "./state.ts";
import { workerOf } from "./worker.ts";

const buildHeader = "buildkit-controlapi-buildid";

/** What a client may count on. The names are BuildKit's. */
const frontendCaps = [
  "solve.base",
  "solve.inlinereturn",
  "return",
  "returnmap",
  "proto.refarray",
  "reference.output",
  "frontend.caps",
  "gateway.solve.metadata",
  "gateway.evaluate",
  "gateway.solve.evaluate",
];
const llbCaps = ["exporter.multiple", "source.local", "source.image", "source.http", "exec.meta.base", "file.base"];

export function bridgeService(state: BuildKitState): Partial<ServiceImpl<typeof LLBBridge>> {
  const { engine, version, jobs, log } = state;
  const jobOf = async ({ requestHeader }: HandlerContext): Promise<Job> => {
    try {
      return await jobs.get(requestHeader.get(buildHeader) ?? "");
    } catch (error) {
      throw failureOf(error, "a build's call", log);
    }
  };
  const caps = (names: readonly string[]) => names.map((ID) => ({ ID, Enabled: true }));
  return {
    ping: async () => ({ FrontendAPICaps: caps(frontendCaps), LLBCaps: caps(llbCaps), Workers: [workerOf(await engine.system.info(), version)] }),
    solve: async (request, context) => {
      const job = await jobOf(context);
      try {
        return await solve(state, job, request);
      } catch (error) {
        throw failureOf(error, "a build's Solve", log);
      }
    },
    // It is done when it is solved.
    evaluate: async () => ({}),
    return: async ({ result, error }, context) => {
      const job = await jobOf(context);
      job.finish({ result: result === undefined ? undefined : idOf(result), error: error === undefined || error.code === 0 ? undefined : error.message });
      return {};
    },
    inputs: async () => ({}),
  };
}

async function solve(state: BuildKitState, job: Job, { Definition, Frontend, FrontendOpt, FrontendInputs, allowResultArrayRef }: SolveRequest) {
  if (Definition.byteLength > 0 || Object.keys(FrontendInputs).length > 0) throw rawLlb();
  // Nothing at all: an empty filesystem, which clients ask for to see whether the engine answers.
  if (Frontend === "") return { result: { result: { case: "ref" as const, value: { id: "" } } } };
  const request = FrontendOpt["requestid"];
  if (request !== undefined) throw new ConnectError(`unsupported request ${request}`, Code.Unimplemented);
  const built = await solveFrontend(state, job, Frontend, FrontendOpt);
  const id = keepResult(job, built);
  const result = allowResultArrayRef ? { case: "ref" as const, value: { id } } : { case: "refDeprecated" as const, value: id };
  return { ref: id, result: { result, metadata: { "containerimage.config": built.config } } };
}

/** The one result; undefined: none. */
function idOf({ result }: Result): string | undefined {
  const id = result.case === "ref" ? result.value.id : result.case === "refDeprecated" ? result.value : undefined;
  if (result.case === "refs" || result.case === "refsDeprecated") {
    const [only, ...more] = Object.values(result.value.refs);
    if (more.length > 0) throw new ConnectError("several results at once are not supported", Code.Unimplemented);
    return typeof only === "string" ? only : only?.id;
  }
  return id === "" ? undefined : id;
}
