import { describe, expect, it } from "vitest";
import { digestOf } from "#core/digest.ts";
import { configOf, rootLayer, tarOf } from "../../test/fixtures.ts";
import { type CommitInput, commitConfig, emptyLayer } from "./commit.ts";
import { parseImageConfig } from "./image-config.ts";

const base = parseImageConfig(configOf({ layers: [rootLayer()], config: { variant: "v2" } }));
const input: CommitInput = {
  base,
  diffId: digestOf("layer"),
  config: { Cmd: ["x"], Labels: { b: "c" } },
  createdBy: "sh -c x",
  containerId: "c0ffee",
  created: "2024-05-01T00:00:00Z",
  author: "me",
  comment: "why",
};
const commit = (changes: Partial<CommitInput>) => parseImageConfig(commitConfig({ ...input, ...changes })).config;

describe("commit", () => {
  it("puts a layer on top, and says in the history how it came", () => {
    const config = commit({});
    expect(config.rootfs.diff_ids).toEqual([digestOf(rootLayer()), digestOf("layer")]);
    expect(config.history).toEqual([...base.config.history!, { created: input.created, author: "me", created_by: "sh -c x", comment: "why" }]);
    expect(config).toMatchObject({
      architecture: "amd64",
      variant: "v2",
      os: "linux",
      container: "c0ffee",
      author: "me",
      comment: "why",
      created: input.created,
      config: { Cmd: ["x"] },
    });
  });

  it("adds no layer for a container that has changed nothing", () => {
    expect(digestOf(tarOf([]))).toBe(emptyLayer);
    for (const diffId of [undefined, emptyLayer]) {
      const { rootfs, history } = commit({ diffId });
      expect(rootfs.diff_ids).toEqual([digestOf(rootLayer())]);
      expect(history?.at(-1)).toMatchObject({ empty_layer: true });
    }
  });

  it("can begin with nothing", () => {
    const config = commit({ base: undefined, author: "", comment: "", createdBy: "" });
    expect(config.rootfs.diff_ids).toEqual([digestOf("layer")]);
    expect(config.history).toEqual([{ created: input.created }]);
    expect(config).not.toHaveProperty("author");
  });
});
