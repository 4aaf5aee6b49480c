import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { checkMap, type IdMappings, toContainer, toHost } from "#core/id-mappings.ts";
import { firstFree, IdRanges, withForced } from "./id-ranges.ts";
import { type IdFiles, remapOf } from "./subordinate-ids.ts";
import { parseUsernsMode } from "./userns-mode.ts";

const dir = mkdtempSync(join(tmpdir(), "wherry-ids-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
function files(name: string, texts: Partial<Record<keyof IdFiles, string>>): IdFiles {
  const path = (kind: keyof IdFiles) => {
    const at = join(dir, `${name}-${kind}`);
    if (texts[kind] !== undefined) writeFileSync(at, texts[kind]);
    return at;
  };
  return { passwd: path("passwd"), group: path("group"), subuid: path("subuid"), subgid: path("subgid") };
}

describe("parseUsernsMode", () => {
  it("knows the forms", () => {
    expect(parseUsernsMode("")).toEqual({ kind: "default" });
    expect(parseUsernsMode("host")).toEqual({ kind: "host" });
    expect(parseUsernsMode("auto:size=9,gidmapping=1:2:3")).toEqual({
      kind: "auto",
      size: 9,
      forced: { uids: [], gids: [{ containerID: 1, hostID: 2, size: 3 }] },
    });
    expect(parseUsernsMode("keep-id:uid=1,gid=2,hostuid=3,hostgid=4")).toMatchObject({ user: 1, group: 2, hostUser: 3, hostGroup: 4 });
    expect(parseUsernsMode("5:6")).toEqual(parseUsernsMode("map:0:5:6"));
  });
  it.each([
    "what",
    "host:x",
    "auto:size=0",
    "auto:size",
    "auto:uid=1",
    "keep-id:uid=-1",
    "map",
    "map:",
    "map:0:1",
    "map:1:1:1",
    "map:0:1:2,1:9:1",
    "map:0:1:2,5:2:2",
    "map:0:4294967290:65536",
  ])("refuses %s", (mode) => expect(() => parseUsernsMode(mode)).toThrow(/^invalid (USER mode|uid mapping)/));
  it("answers any text with a mode or a refusal", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(map|auto|keep-id):[a-z0-9:=,]*$/)), (text) => {
        try {
          parseUsernsMode(text);
        } catch (error) {
          expect(String(error)).toMatch(/invalid/);
        }
      }),
    );
  });
});

describe("ranges", () => {
  it("finds the lowest place that is free", () => {
    const pool = [
      { start: 100, count: 10 },
      { start: 200, count: 30 },
    ];
    expect(firstFree(pool, [], 10)).toBe(100);
    expect(firstFree(pool, [{ start: 95, count: 6 }], 9)).toBe(101);
    expect(firstFree(pool, [{ start: 95, count: 6 }], 10)).toBe(200);
    expect(
      firstFree(
        pool,
        [
          { start: 205, count: 1 },
          { start: 0, count: 150 },
        ],
        24,
      ),
    ).toBe(206);
    expect(firstFree(pool, [{ start: 205, count: 20 }], 11)).toBeUndefined();
  });

  it("never gives an id twice, whatever was taken and removed before", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.integer({ min: 1, max: 300 }), fc.boolean()), { maxLength: 20 }), async (wanted) => {
        const records = new Map<string, IdMappings>();
        const ranges = new IdRanges(undefined, () => records.values(), files("none", {}));
        for (const [i, [size, removed]] of wanted.entries()) {
          const made = await ranges.mappingsFor(String(i), { mode: parseUsernsMode(`auto:size=${size}`) });
          if (made !== undefined) records.set(String(i), made);
          ranges.release(String(i));
          if (removed) records.delete(String(i - 1));
        }
        for (const kind of ["uids", "gids"] as const) {
          const taken = [...records.values()].flatMap((m) => m[kind]).sort((a, b) => a.hostID - b.hostID);
          for (const [i, m] of taken.entries()) expect(m.hostID + m.size).toBeLessThanOrEqual(taken[i + 1]?.hostID ?? Number.POSITIVE_INFINITY);
        }
      }),
    );
  });

  it("holds what is being created until it is released", async () => {
    const ranges = new IdRanges(undefined, () => [], files("none", {}));
    const mode = parseUsernsMode("auto");
    const [a, b] = await Promise.all([ranges.mappingsFor("a", { mode }), ranges.mappingsFor("b", { mode })]);
    expect(a?.uids).not.toEqual(b?.uids);
    ranges.release("a");
    expect(await ranges.mappingsFor("c", { mode })).toEqual(a);
  });

  it("takes the ranges of the user containers where there are such, and says when they are used up", async () => {
    const ranges = new IdRanges(undefined, () => [], files("c", { subuid: "containers:5000:100\n", subgid: "# x\ncontainers:7000:100\n" }));
    expect(await ranges.mappingsFor("a", { mode: parseUsernsMode("auto:size=60") })).toEqual({
      uids: [{ containerID: 0, hostID: 5000, size: 60 }],
      gids: [{ containerID: 0, hostID: 7000, size: 60 }],
    });
    await expect(ranges.mappingsFor("b", { mode: parseUsernsMode("auto:size=60") })).rejects.toThrow("no 60 uids are free");
  });

  it("fills what is left around ids that are said", () => {
    const map = withForced([{ containerID: 5, hostID: 1, size: 2 }], 10, (count) => 992 + count);
    checkMap(map, "uid");
    expect(map.map((m) => toHost(map, m.containerID))).toEqual([1000, 1, 1005]);
    expect([toHost(map, 9), toHost(map, 10), toContainer(map, 1), toContainer(map, 1007), toContainer(map, 99)]).toEqual([1007, undefined, 5, 9, undefined]);
  });
});

describe("--userns-remap", () => {
  const given = files("remap", {
    passwd: "me:x:1000:1000::/:/bin/sh\n",
    group: "ours:x:77:\n",
    subuid: "me:100:10\nother:1:1\n1000:50:5\n",
    subgid: "ours:200:20\nme:300:30\n",
  });
  it("reads users and groups by name or number, ranges in succession", async () => {
    const uids = [
      { containerID: 0, hostID: 50, size: 5 },
      { containerID: 5, hostID: 100, size: 10 },
    ];
    expect(await remapOf("me", given)).toEqual({ uids, gids: [{ containerID: 0, hostID: 300, size: 30 }] });
    expect(await remapOf("1000:77", given)).toEqual({ uids, gids: [{ containerID: 0, hostID: 200, size: 20 }] });
  });
  it("refuses what the host has no ranges for; default then means the engine's own", async () => {
    await expect(remapOf("you", given)).rejects.toThrow('No subuid ranges found for user "you"');
    await expect(remapOf("me:none", given)).rejects.toThrow('No subgid ranges found for group "none"');
    await expect(remapOf("a:b:c", given)).rejects.toThrow("invalid user/group specification");
    expect(await remapOf("default", given)).toBeUndefined();
    const { remap } = await IdRanges.open({ remap: "default", taken: () => [], files: given });
    expect(remap?.uids[0]?.size).toBe(65536);
  });
});
