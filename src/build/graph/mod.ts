/**
 * A Dockerfile as a graph: stages ({@link stageGraph}) that wait for each other, and in each a chain of steps ({@link evaluateStage}) whose operations are data with all values put in. Two steps
 * with the same operation on the same content are the same step: that is what a cache key says. Pure.
 * @module
 */
export { type Base, evaluateStage, type Evaluated } from "./evaluate.ts";
export type { CopyOperation, CopySource, Operation, RunOperation, WorkdirOperation } from "./operation.ts";
export { platformArgs } from "./platform-args.ts";
export { proxyVariables, type Values } from "./scope.ts";
export { stageGraph, type StageNode } from "./stage-graph.ts";
export type { ImageSettings, Step } from "./step.ts";
