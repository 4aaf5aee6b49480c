import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isEngineError } from "#core/errors.ts";
import { collect } from "#unionfs/testing/tar-builder.ts";
import { TestEngine } from "./engine-setup.ts";

/** The whole engine on layers that are images: nothing of a layer is a file of the host's. */
describe.runIf(process.getuid?.() === 0)("an engine on the erofs driver (as root)", () => {
  let t: TestEngine | undefined;
  let refused: string | undefined;

  beforeAll(async () => {
    try {
      t = await TestEngine.open("erofs");
    } catch (error) {
      if (!isEngineError(error, "unsupported")) throw error;
      refused = error.message;
    }
  });
  afterAll(async () => {
    await t?.[Symbol.asyncDispose]();
  });

  it("runs, commits, gives an image back byte for byte, and removes it", async (context) => {
    if (t === undefined) return context.skip(refused);
    const written = await t.run(["sh", "-c", "echo new > /new; rm /etc/group; echo more >> /etc/passwd; ln /new /linked; id"]);
    expect(written).toMatchObject({ code: 0 });
    expect((await t.engine.containers.changes(written.id)).map(({ kind, path }) => `${kind} ${path}`)).toEqual(
      expect.arrayContaining(["add /new", "add /linked", "delete /etc/group", "modify /etc/passwd"]),
    );
    await t.engine.containers.commit(written.id, { reference: "committed", author: "", comment: "", changes: {}, pause: true });
    const { id } = await t.engine.containers.create(
      t.request("committed", ["sh", "-c", "cat /new; tail -n 1 /etc/passwd; test ! -e /etc/group; stat -c %h /linked"]),
    );
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    expect(await ended).toMatchObject({ exitCode: 0 });
    expect((await t.logs(id)).out).toBe("new\nmore\n2\n");
    const saved = await collect(await t.engine.images.save(["committed"]));
    await t.removeAll();
    await t.engine.images.remove("committed", { force: false, prune: true });
    await t.engine.images.load(
      (async function* () {
        yield saved;
      })(),
      () => undefined,
    );
    expect((await collect(await t.engine.images.save(["committed"]))).equals(saved)).toBe(true);
    const root = t.root;
    const layers = () =>
      execFileSync("find", [join(root, "data/erofs"), "-name", "layer.erofs"], { encoding: "utf8" })
        .trim()
        .split("\n");
    // What was removed lies in the trash for a moment.
    await expect.poll(layers).toHaveLength(2);
    for (const layer of layers()) expect(existsSync(join(layer, "../diff"))).toBe(false);
    await t.reopen();
    expect(await t.run(["true"])).toMatchObject({ code: 0 });
  });
});
