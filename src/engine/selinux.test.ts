import { describe, expect, it, test } from "vitest";
import { hostConfig } from "#api/types/host-config.ts";
import type { HostConfig } from "#core/container-config.ts";
import { parseContainerContexts } from "#linux/probe-host.ts";
import { MemoryTree } from "#unionfs/testing/memory-tree.ts";
import { labelTree, planLabelsOf, refuseSystemDirectories, relabelling, SelinuxLabels } from "./selinux.ts";

const targeted = { process: "system_u:system_r:container_t:s0", file: "system_u:object_r:container_file_t:s0", mls: true };
const level = "s0:c3,c700";
const host = (config: Partial<HostConfig> = {}) => hostConfig({ ...config }, "");

describe("--security-opt label=…", () => {
  const labels = (...options: string[]) => planLabelsOf(targeted, options, level);
  it("without one: the policy's types, and a level of its own", () => {
    expect(labels()).toEqual({ processLabel: "system_u:system_r:container_t:s0:c3,c700", mountLabel: "system_u:object_r:container_file_t:s0:c3,c700" });
    expect(planLabelsOf({ ...targeted, process: "u:r:t", file: "u:o:f", mls: false }, [], level)).toEqual({ processLabel: "u:r:t", mountLabel: "u:o:f" });
  });

  it.each([
    [["type:spc_t"], "system_u:system_r:spc_t:s0:c3,c700", "system_u:object_r:container_file_t:s0:c3,c700"],
    [["role:other_r"], "system_u:other_r:container_t:s0:c3,c700", "system_u:object_r:container_file_t:s0:c3,c700"],
    [["user:other_u"], "other_u:system_r:container_t:s0:c3,c700", "other_u:object_r:container_file_t:s0:c3,c700"],
    [["level:s0:c1,c2"], "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"],
    [["filetype:usr_t"], "system_u:system_r:container_t:s0:c3,c700", "system_u:object_r:usr_t:s0:c3,c700"],
    [["type:a_t", "level:s0", "type:b_t"], "system_u:system_r:b_t:s0", "system_u:object_r:container_file_t:s0"],
    [["disable"], "", "system_u:object_r:container_file_t:s0:c1022,c1023"],
    [["type:a_t", "disable"], "", "system_u:object_r:container_file_t:s0:c1022,c1023"],
  ])("%j", (options, processLabel, mountLabel) => {
    expect(labels(...options)).toEqual({ processLabel, mountLabel });
  });

  it("what it does not know is refused in docker's words, and no value leads out of a mount option", () => {
    expect(() => labels("other:x")).toThrow("bad label option \"other\", valid options 'disable, user, role, level, type, filetype'");
    expect(() => labels("enable")).toThrow("bad label option \"enable\", valid options 'disable' or");
    for (const option of ['filetype:x",ro,y="', "type:a,b", "user:a b", 'level:s0"'])
      expect(() => labels(option), option).toThrow("characters that no label has");
  });
});

describe("levels of containers", () => {
  const none = () => "";
  it("no two have the same: neither those of records nor those of creations under way", () => {
    const records: { processLabel?: string; mountLabel?: string }[] = [];
    const all = new SelinuxLabels(targeted, () => records);
    const levels = new Set<string>();
    for (let i = 0; i < 2000; i++) {
      const found = all.labelsFor(`c${i}`, host(), none);
      expect(found.processLabel.replace("system_r:container_t", "")).toBe(found.mountLabel.replace("object_r:container_file_t", ""));
      const own = found.mountLabel.split(":").slice(3).join(":");
      expect(own).toMatch(/^s0:c\d+,c\d+$/);
      const [a = 0, b = 0] = own.match(/(?<=c)\d+/g)?.map(Number) ?? [];
      expect(a).toBeLessThan(b);
      levels.add(own);
      if (i % 2 === 0) records.push(found);
      if (i % 2 === 0) all.release(`c${i}`);
    }
    expect(levels.size).toBe(2000);
  });

  it("who is privileged or sees the host's processes is unconfined; who shares IPC or processes has the other's label", () => {
    const all = new SelinuxLabels(targeted, () => []);
    for (const config of [{ Privileged: true }, { IpcMode: "host" }, { PidMode: "host" }, { SecurityOpt: ["disable"] }, { SecurityOpt: ["label:disable"] }])
      expect(all.labelsFor("a", host(config), none)).toEqual({ processLabel: "", mountLabel: "system_u:object_r:container_file_t:s0:c1022,c1023" });
    expect(all.labelsFor("a", host({ Privileged: true, SecurityOpt: ["label=level:s0:c1,c2"] }), none).processLabel).toBe(
      "system_u:system_r:container_t:s0:c1,c2",
    );
    const other = (name: string) => (name === "free" ? "" : `u:r:${name}_t:s0:c4,c5`);
    expect(all.labelsFor("a", host({ IpcMode: "container:one" }), other)).toEqual({
      processLabel: "u:r:one_t:s0:c4,c5",
      mountLabel: "u:object_r:container_file_t:s0:c4,c5",
    });
    expect(all.labelsFor("a", host({ PidMode: "container:one", IpcMode: "container:one" }), other).processLabel).toBe("u:r:one_t:s0:c4,c5");
    expect(() => all.labelsFor("a", host({ PidMode: "container:one", IpcMode: "container:two" }), other)).toThrow("SELinux labels aren't the same");
    expect(all.labelsFor("a", host({ PidMode: "container:free" }), other).processLabel).toMatch(/^system_u:system_r:container_t:s0:c\d/);
  });
});

test("a policy is read where it knows containers", () => {
  const text = `process = "system_u:system_r:container_t:s0"\ncontent = "system_u:object_r:virt_var_lib_t:s0"\nfile = "system_u:object_r:container_file_t:s0"\nro_file="system_u:object_r:container_ro_file_t:s0"\n`;
  expect(parseContainerContexts(text, true)).toEqual(targeted);
  expect(parseContainerContexts(text, false)).toEqual({ ...targeted, mls: false });
  expect(parseContainerContexts("", true)).toBeUndefined();
  expect(parseContainerContexts('ro_file = "x"\nprocess = "y"', true)).toBeUndefined();
});

test("which mounts are labelled, and the system's directories are not", () => {
  const bind = (Mode: string, Source = "/data") => ({ Type: "bind" as const, Mode, Source });
  expect([bind(""), bind("ro"), bind("z"), bind("ro,Z")].map(relabelling)).toEqual([undefined, undefined, "shared", "own"]);
  expect(
    [
      { Type: "volume" as const, Mode: "" },
      { Type: "volume" as const, Mode: "Z" },
      { Type: "tmpfs" as const, Mode: "" },
    ].map(relabelling),
  ).toEqual(["shared", "own", undefined]);
  refuseSystemDirectories([bind("", "/"), bind("rshared", "/usr"), bind("z", "/home/me"), bind("Z", "/var/lib/x")]);
  for (const path of ["/", "/usr", "/home", "/etc", "/var/lib"])
    expect(() => refuseSystemDirectories([bind("Z", path)])).toThrow(`SELinux relabeling of ${path} is not allowed`);
});

test("a tree gets the label, and what has it already is not touched", async () => {
  const tree = new MemoryTree();
  const meta = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n };
  const labelled = { ...meta, xattrs: [{ name: "security.selinux", value: Buffer.from("u:o:t:s0\0") }] };
  await tree.mkdir("d", labelled);
  await tree.mkdir("d/old", { ...meta, xattrs: [{ name: "security.selinux", value: Buffer.from("u:o:other:s0\0") }] });
  await tree.symlink("d/link", "/etc", meta);
  tree.log.length = 0;
  await labelTree(tree, "", "u:o:t:s0");
  expect(tree.log.map((line) => line.split(" ")[1] ?? "").sort()).toEqual(["", "d/link", "d/old"]);
  for (const path of ["", "d", "d/old", "d/link"]) {
    const label = (await tree.lstat(path))?.xattrs.find(({ name }) => name === "security.selinux");
    expect(Buffer.from(label?.value ?? []).toString(), path).toBe("u:o:t:s0\0");
  }
});
