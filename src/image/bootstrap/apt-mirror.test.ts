import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findMirror, parseDeb822, parseOneLine } from "./apt-mirror.ts";

let etc: string;
beforeEach(async () => {
  etc = await mkdtemp(join(tmpdir(), "apt-"));
  await mkdir(join(etc, "apt/sources.list.d"), { recursive: true });
});
afterEach(() => rm(etc, { recursive: true }));

describe("the mirror that a Debian is made from", () => {
  it("is the one that the host's apt has the suite from", async () => {
    await writeFile(
      join(etc, "apt/sources.list"),
      "# deb http://commented.example/ trixie main\ndeb [arch=amd64 signed-by=/x] http://one.example/debian trixie main contrib # note\n",
    );
    await writeFile(
      join(etc, "apt/sources.list.d/debian.sources"),
      "Types: deb deb-src\n# a comment\nURIs: http://two.example/debian\nSuites: bookworm\n bookworm-updates\nComponents: main\n\nTypes: deb\nURIs: http://off.example/\nSuites: sid\nComponents: main\nEnabled: no\n",
    );
    await writeFile(join(etc, "apt/sources.list.d/other.list"), "deb https://other.example/apt stable tools\n");
    expect(await findMirror("trixie", etc)).toBe("http://one.example/debian");
    expect(await findMirror("bookworm", etc)).toBe("http://two.example/debian");
    // Another suite is sought where the host's own is.
    expect(await findMirror("sid", etc)).toBeUndefined();
    await writeFile(join(etc, "os-release"), 'ID=debian\nVERSION_CODENAME="bookworm"\n');
    expect(await findMirror("sid", etc)).toBe("http://two.example/debian");
  });

  it("is debootstrap's own where the host has none", async () => {
    expect(await findMirror("bookworm", etc)).toBeUndefined();
    await writeFile(join(etc, "apt/sources.list"), "deb file:/media/cdrom bookworm main\ndeb-src http://src.example bookworm main\n");
    expect(await findMirror("bookworm", etc)).toBeUndefined();
    expect(await findMirror("bookworm", join(etc, "none"))).toBeUndefined();
  });

  it("reads both formats", () => {
    expect(parseOneLine("deb http://a b c d\n\ndeb\tcdrom:x b")).toEqual([
      { uri: "http://a", suites: ["b"], components: ["c", "d"] },
      { uri: "cdrom:x", suites: ["b"], components: [] },
    ]);
    expect(parseDeb822("types: deb\nuris: http://a http://b\nsuites: s\ncomponents: main\n")).toEqual([
      { uri: "http://a", suites: ["s"], components: ["main"] },
      { uri: "http://b", suites: ["s"], components: ["main"] },
    ]);
    expect(parseDeb822("Types: deb-src\nURIs: http://a\n")).toEqual([]);
  });
});
