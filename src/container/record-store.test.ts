import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ContainerRecord } from "./mod.ts";
import { RecordStore } from "./record-store.ts";

const id = "ab".repeat(32);
/** What the store looks at. */
const recordNamed = (name: string) =>
  ({ version: 1, id, name, created: "2026-01-01T00:00:00Z", hostConfig: { AutoRemove: true } }) as unknown as ContainerRecord;

describe("the record of a container that removes itself", () => {
  let root: string;
  let store: RecordStore;
  const onDisk = () => JSON.parse(readFileSync(join(store.directory(id), "container.json"), "utf8")) as { name: string };

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), "wherry-records-"));
    store = new RecordStore(root);
    await store.prepare();
    await store.makeDirectory(id);
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it("is stored in a little while", async () => {
    await store.saveSoon(recordNamed("one"));
    expect(onDisk().name).toBe("one");
    expect((await store.load()).records.map(({ name }) => name)).toEqual(["one"]);
  });

  it("gives way to a newer one", async () => {
    const first = store.saveSoon(recordNamed("one"));
    await store.save(recordNamed("two"));
    await first;
    await sleep(60);
    expect(onDisk().name).toBe("two");
    const older = store.saveSoon(recordNamed("three"));
    await store.saveSoon(recordNamed("four"));
    await older;
    expect(onDisk().name).toBe("four");
  });

  it("is not written into a directory that has been discarded", async () => {
    const pending = store.saveSoon(recordNamed("one"));
    await store.discard(id);
    await pending;
    await sleep(60);
    expect(existsSync(store.directory(id))).toBe(false);
    await store.emptyTrash();
  });

  it("is left to whoever takes it over", async () => {
    const pending = store.saveSoon(recordNamed("one"));
    const { path, data } = store.handOver(recordNamed("two"));
    await pending;
    writeFileSync(path, data);
    await sleep(60);
    expect((await store.load()).records.map(({ name }) => name)).toEqual(["two"]);
  });
});
