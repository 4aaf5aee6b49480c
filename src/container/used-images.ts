/** Images that a container needs: its own, and those that it mounts. @module */
import type { ImageID } from "#core/digest.ts";
import type { ContainerRecord } from "./mod.ts";

export function usedImages({ imageId, mounts }: Pick<ContainerRecord, "imageId" | "mounts">): ImageID[] {
  return [...(imageId === "" ? [] : [imageId]), ...mounts.flatMap(({ Image: image }) => image ?? [])];
}
