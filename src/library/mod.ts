/**
 * wherry as a library: containers from a Node program. One {@link Engine} speaks Docker's API to an engine in the same process or to a daemon; the program does
 * not see which. It holds no policy: what an option means, the engine knows.
 * @module
 */
export {
  type BuildImageOptions,
  Engine,
  type EventOptions,
  type FilterOptions,
  type NetworkHandle,
  type RunOptions,
  type VolumeHandle,
} from "./engine.ts";
export { type Abortable, Container, type ExecOptions, type LogLine, type LogOptions, type Output, type RunningProgram } from "./container.ts";
export type { ContainerOptions, HealthOption, PortOption, VolumeOption } from "./run-options.ts";
