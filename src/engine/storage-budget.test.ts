import { describe, expect, it } from "vitest";
import type { Digest, ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { Image } from "#image/mod.ts";
import { StorageBudget } from "./storage-budget.ts";

const digest = (text: string): Digest => `sha256:${text.padEnd(64, "0")}`;

/** Images of layers of 10 bytes; `layers` are shared by their names. */
function image(name: string, layers: readonly string[], lastTaggedNs: bigint, parent?: string): Image {
  const chainIds = layers.map(digest);
  return {
    id: digest(name),
    chainIds,
    layerSizes: layers.map(() => 10),
    lastTaggedNs,
    parent: parent === undefined ? undefined : digest(parent),
  } as unknown as Image;
}

function budgetOf(budgetBytes: number | undefined, images: Image[], used: readonly string[] = []) {
  const removed: ImageID[] = [];
  const inUse = new Set<ImageID>(used.map(digest));
  const budget = new StorageBudget({
    budgetBytes,
    images: {
      list: async () => images.filter(({ id }) => !removed.includes(id)),
      remove: async (id) => {
        if (images.some(({ id: other, parent }) => parent === id && !removed.includes(other))) throw new EngineError("conflict", "has children");
        removed.push(id as ImageID);
        return [];
      },
    },
    used: () => inUse,
    onRemoved: () => undefined,
  });
  return { budget, removed };
}

describe("the storage budget", () => {
  const three = () => [image("a", ["1", "2"], 3n), image("b", ["1", "3"], 1n), image("c", ["4"], 2n)];

  it("does nothing without a limit, or while there is room", async () => {
    for (const limit of [undefined, 60]) {
      const { budget, removed } = budgetOf(limit, three());
      await budget.makeRoom(async () => 20);
      expect(removed).toEqual([]);
    }
  });

  it("takes the least recently used first, no more than needed; shared layers count once", async () => {
    const { budget, removed } = budgetOf(50, three());
    await budget.makeRoom(async () => 20);
    expect(removed).toEqual([digest("b")]);
    await budget.makeRoom(async () => 30);
    expect(removed).toEqual([digest("b"), digest("c")]);
  });

  it("a container made of an image is a use of it", async () => {
    const { budget, removed } = budgetOf(50, three());
    budget.noteUse(digest("b"), 9n);
    await budget.makeRoom(async () => 20);
    expect(removed).toEqual([digest("c")]);
  });

  it("keeps what containers use, and what that was made from; refuses before anything is removed", async () => {
    const images = [image("base", ["1"], 0n), image("used", ["1", "2"], 1n, "base"), image("free", ["3"], 2n)];
    const { budget, removed } = budgetOf(30, images, ["used"]);
    await expect(budget.makeRoom(async () => 20)).rejects.toMatchObject({ code: "storage", message: expect.stringContaining("hold 20") });
    expect(removed).toEqual([]);
    await budget.makeRoom(async () => 10);
    expect(removed).toEqual([digest("free")]);
  });
});
