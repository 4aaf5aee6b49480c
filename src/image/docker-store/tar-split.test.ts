import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { MemoryTree } from "#unionfs/testing/memory-tree.ts";
import { collect } from "#unionfs/testing/tar-builder.ts";
import { assemble } from "./tar-split.ts";

const directory = mkdtempSync(join(tmpdir(), "tar-split-"));
afterAll(() => rmSync(directory, { recursive: true }));
let files = 0;
function recorded(...lines: readonly (object | string)[]): string {
  const path = join(directory, `${files++}.json.gz`);
  writeFileSync(path, gzipSync(lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n")));
  return path;
}
const segment = (text: string) => ({ type: 2, payload: Buffer.from(text).toString("base64"), position: 0 });
const file = (name: string, size: number) => ({ type: 1, name, size, payload: "AAAAAAAAAAA=", position: 0 });

async function tree(contents: Readonly<Record<string, string>>): Promise<MemoryTree> {
  const made = new MemoryTree();
  const meta = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n };
  for (const [path, text] of Object.entries(contents)) {
    await made.openFile(Buffer.from(path, "latin1"), text.length);
    await made.writeData(Buffer.from(text));
    await made.closeFile(meta);
  }
  return made;
}

test("bytes as they were and the contents of files, in order; names as archives write them, also those that are no UTF-8", async () => {
  const made = await tree({ one: "ONE", two: "TWO", "\xff": "RAW" });
  const raw = { type: 1, name_raw: Buffer.from([0xff]).toString("base64"), size: 3, position: 0 };
  const path = recorded(
    segment("a"),
    file("./one", 3),
    segment("b"),
    { type: 1, name: "dir/", payload: null, position: 0 },
    file("/two", 3),
    "",
    raw,
    segment("end"),
  );
  expect((await collect(assemble(path, made))).toString()).toBe("aONEbTWORAWend");
});

test("what cannot be is refused with the name of the file", async () => {
  const made = await tree({ one: "ONE" });
  const read = (...lines: readonly (object | string)[]) => collect(assemble(recorded(...lines), made));
  await expect(read(file("one", 4))).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringContaining('"one" has 3 bytes in the layer\'s directory, and had 4'),
  });
  await expect(read("{")).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining("is not valid JSON") });
  await expect(read("[]")).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining("an entry is no object") });
  await expect(read({ type: 3 })).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining("unknown type 3") });
  await expect(read({ type: 1, size: -1, name: "x" })).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining("without name or size") });
  await expect(collect(assemble(join(directory, "missing"), made))).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringContaining("cannot be read: ENOENT"),
  });
  const cut = recorded(segment("x".repeat(10_000)));
  writeFileSync(cut, gzipSync(Buffer.from(JSON.stringify(segment("x".repeat(10_000))))).subarray(0, 30));
  await expect(collect(assemble(cut, made))).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringContaining("cannot be read: unexpected end of file"),
  });
});
