import type { ContainerConfig } from "#core/container-config.ts";
import type { Position } from "../frontend/parse-error.ts";
import type { Operation } from "./operation.ts";

export type ImageSettings = Partial<ContainerConfig>;

/** One instruction of a stage with its values: what it does to the root, and the image's settings after it. */
export interface Step {
  /** As written, on one line, variables not replaced. */
  readonly text: string;
  readonly position: Position;
  /** undefined: it only touches the settings. */
  readonly operation: Operation | undefined;
  readonly settings: ImageSettings;
  readonly author: string | undefined;
  /** What the history says made it; undefined: it leaves none (ARG). */
  readonly createdBy: string | undefined;
  readonly warnings: readonly string[];
}
