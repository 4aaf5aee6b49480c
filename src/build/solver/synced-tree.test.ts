import { appendFile, mkdtemp, readdir, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KnownStates } from "./known-states.ts";
import { SentDirectories } from "./sent-files.ts";
import { type FileSender, type SentEntry, SyncedTree } from "./synced-tree.ts";

const plain = { mode: 0o644, uid: 0, gid: 0, target: "", major: 0, minor: 0, xattrs: [] };

function file(path: string, content: string, mtimeNs = 1n): SentEntry & { readonly content: string } {
  return { ...plain, path, type: "file", size: content.length, mtimeNs, content };
}

/** Sends its files in pieces of two bytes, all of them in turn. */
class FakeSender implements FileSender {
  readonly asked: number[] = [];
  readonly #files: readonly (SentEntry & { readonly content?: string })[];

  constructor(files: readonly (SentEntry & { readonly content?: string })[]) {
    this.#files = files;
  }

  async *entries(): AsyncIterable<SentEntry> {
    yield* this.#files;
  }

  async contents(numbers: readonly number[], take: Parameters<FileSender["contents"]>[1]): Promise<void> {
    this.asked.push(...numbers);
    for (let at = 0, more = true; more; at += 2) {
      more = false;
      for (const number of numbers) {
        const content = Buffer.from(this.#files[number]?.content ?? "");
        if (at < content.length) {
          await take(number, content.subarray(at, at + 2));
          more = true;
        }
      }
    }
    for (const number of numbers) await take(number, undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

async function textOf(tree: SyncedTree, path: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of tree.read(path)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe("a context that is sent", () => {
  let root = "";
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), "wt-synced-"));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  let count = 0;
  /** One build: what it reads of `paths`, and what it had to ask for. */
  const build = async (directories: SentDirectories, sender: FakeSender, paths: readonly string[], key: string | undefined = "key") => {
    const { files, release } = directories.acquire(key);
    try {
      const tree = await SyncedTree.receive(sender, files);
      await tree.want(paths);
      return await Promise.all(paths.map((path) => textOf(tree, path)));
    } finally {
      await release();
    }
  };
  const fresh = (maxBytes = 1 << 30) => new SentDirectories(join(root, String(++count)), maxBytes, new KnownStates());

  it("asks for what is wanted, once; the next build for what is changed", async () => {
    const directories = fresh();
    const first = new FakeSender([file("a", "first"), file("b", "second"), file("c", "third"), file("empty", "")]);
    expect(await build(directories, first, ["a", "b", "empty"])).toEqual(["first", "second", ""]);
    expect(first.asked).toEqual([0, 1, 3]);
    const second = new FakeSender([file("a", "first"), file("b", "SECOND", 2n), file("c", "third")]);
    expect(await build(directories, second, ["a", "b", "c"])).toEqual(["first", "SECOND", "third"]);
    expect(second.asked).toEqual([1, 2]);
    const other = new FakeSender([file("a", "other")]);
    expect(await build(directories, other, ["a"], "another directory")).toEqual(["other"]);
    await directories.prune();
    expect(await readdir(join(root, String(count)))).toEqual([]);
  });

  it("what is known of a state is known as long as it lasts, and without asking for an entry", async () => {
    const directories = fresh();
    let told = 0;
    class Stamped extends FakeSender {
      readonly #stamp: string | undefined;
      constructor(stamp: string | undefined) {
        super([file("a", "x")]);
        this.#stamp = stamp;
      }
      override async *entries(): AsyncIterable<SentEntry> {
        told++;
        yield* super.entries();
      }
      async stamp(): Promise<string | undefined> {
        return this.#stamp;
      }
    }
    const open = async (stamp: string | undefined, key = "key") => {
      const { files, release } = directories.acquire(key);
      return { tree: await SyncedTree.receive(new Stamped(stamp), files), release };
    };
    const first = await open("one");
    first.tree.known?.set("question", { answer: "1" });
    expect([told, await textOf(first.tree, "a"), told]).toEqual([0, "x", 1]);
    await first.release();
    const again = await open("one");
    expect([again.tree.known?.get("question"), told]).toEqual([{ answer: "1" }, 1]);
    // Nothing was asked for: what lies there stays.
    await again.release();
    const sender = new FakeSender([file("a", "x")]);
    await build(directories, sender, ["a"]);
    expect(sender.asked).toEqual([]);
    for (const [stamp, key] of [
      ["two", "key"],
      ["one", "another directory"],
    ] as const) {
      const other = await open(stamp, key);
      expect(other.tree.known?.size).toBe(0);
      await other.release();
    }
    const unsettled = await open(undefined);
    expect(unsettled.tree.known).toBeUndefined();
    await unsettled.release();
  });

  it("a build that begins while another writes its index down finds what that one has kept", async () => {
    const directories = fresh();
    const first = directories.acquire("key");
    const tree = await SyncedTree.receive(new FakeSender([file("a", "first")]), first.files);
    await tree.want(["a"]);
    const released = first.release();
    const second = new FakeSender([file("a", "first"), file("b", "second")]);
    expect(await build(directories, second, ["a", "b"])).toEqual(["first", "second"]);
    expect(second.asked).toEqual([1]);
    await released;
  });

  it("two names of one file have one content", async () => {
    const sender = new FakeSender([file("a", "shared"), { ...plain, path: "b", type: "file", size: 0, mtimeNs: 1n, sameAs: "a" }]);
    const { files, release } = fresh().acquire(undefined);
    const tree = await SyncedTree.receive(sender, files);
    expect(await textOf(tree, "b")).toBe("shared");
    expect((await tree.lstat("a"))?.inode).toBe((await tree.lstat("b"))?.inode);
    expect(sender.asked).toEqual([0]);
    await release();
  });

  it.each([
    ["a name that leads out", [file("../x", "")], /leads out of it/],
    ["a name with dots inside", [file("a/../../x", "")], /leads out of it/],
    ["a root that is a file", [file("/", "")], /root is not a directory/],
    ["a link to what is not there", [{ ...file("b", ""), sameAs: "a" }], /which is not in the build context/],
    ["a link that leads out", [{ ...file("b", ""), sameAs: "../../etc/passwd" }], /leads out of it/],
  ] as const)("%s is refused", async (_what, entries, message) => {
    await expect(build(fresh(), new FakeSender(entries), [])).rejects.toThrow(message);
  });

  it.each([
    ["grown", { ...file("a", "longer than was said"), size: 3 }, /"a": the file has grown/],
    ["shrunk", { ...file("a", "x"), size: 3 }, /"a": the file has shrunk/],
  ])("a file that has %s meanwhile fails the build, and is not kept", async (_what, entry, message) => {
    const directories = fresh();
    await expect(build(directories, new FakeSender([entry]), ["a"])).rejects.toThrow(message);
    const sender = new FakeSender([file("a", "abc")]);
    expect(await build(directories, sender, ["a"])).toEqual(["abc"]);
    expect(sender.asked).toEqual([0]);
  });

  it("what a crash has left beyond the index is overwritten; contents that are gone are sent again", async () => {
    const directories = fresh();
    await build(directories, new FakeSender([file("a", "first")]), ["a"]);
    const folder = join(root, String(count));
    const contents = join(folder, (await readdir(folder))[0]!, "contents");
    await appendFile(contents, "half of something");
    expect(await build(directories, new FakeSender([file("a", "first"), file("b", "more")]), ["a", "b"])).toEqual(["first", "more"]);
    await truncate(contents, 2);
    const sender = new FakeSender([file("a", "first"), file("b", "more")]);
    expect(await build(directories, sender, ["a", "b"])).toEqual(["first", "more"]);
    expect(sender.asked).toEqual([0, 1]);
  });

  it("directories that nobody uses go beyond the bound, the least recently used first", async () => {
    const directories = fresh(8);
    await build(directories, new FakeSender([file("a", "12345")]), ["a"], "old");
    await new Promise((resolve) => setTimeout(resolve, 20));
    await build(directories, new FakeSender([file("a", "12345")]), ["a"], "new");
    const again = new FakeSender([file("a", "12345")]);
    await build(directories, again, ["a"], "new");
    expect(again.asked).toEqual([]);
    const gone = new FakeSender([file("a", "12345")]);
    await build(directories, gone, ["a"], "old");
    expect(gone.asked).toEqual([0]);
  });
});
