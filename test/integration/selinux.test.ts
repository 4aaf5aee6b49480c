/** SELinux labels of containers, as far as they can be seen on any kernel: what create decides, what inspect and info say, and what is labelled on disk. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { containerInspect } from "#api/server/shape/container.ts";
import { openEngine } from "#engine/open-engine.ts";
import { startHelper } from "#linux/helper-client.ts";
import { probeHost } from "#linux/probe-host.ts";
import { helperPath, TestEngine } from "./engine-setup.ts";

const facts = await probeHost();
const selinux = { process: "system_u:system_r:container_t:s0", file: "system_u:object_r:container_file_t:s0", mls: true };
const root = process.getuid?.() === 0 && !facts.lsm.includes("selinux");

describe.skipIf(!root)("SELinux", () => {
  let t: TestEngine;
  let work: string;
  let helper: Awaited<ReturnType<typeof startHelper>>;
  beforeAll(async () => {
    t = await TestEngine.open();
    work = mkdtempSync(join(tmpdir(), "wherry-selinux-"));
    helper = await startHelper({ helperPath, execRoot: work, log: () => undefined });
  });
  afterAll(async () => {
    await t?.[Symbol.asyncDispose]();
    await helper?.close();
    rmSync(work, { recursive: true, force: true });
  });
  const inspect = (id: string) => containerInspect(t.engine.containers.get(id), { execIds: [], minor: 48, graph: {}, size: undefined, networkId: () => "" });
  const labelOf = async (path: string) => {
    const tree = await helper.openTree(dirname(path));
    try {
      const label = (await tree.lstat(basename(path)))?.xattrs.find(({ name }) => name === "security.selinux");
      return label && Buffer.from(label.value).toString().replace("\0", "");
    } finally {
      await tree.close();
    }
  };
  const reopen = async (options: object) => {
    await t.removeAll();
    await t.engine.close();
    t.engine = await openEngine({ ...t.options, ...options });
  };

  test("a kernel without it: options are taken without effect, with a warning, and info says why the daemon's flag has none", async () => {
    const { id, warnings } = await t.engine.containers.create(t.request("busybox", ["true"], {}, { SecurityOpt: ["label=type:x_t"] }));
    expect(warnings).toEqual(['The SELinux option "label=type:x_t" has no effect: this kernel runs without SELinux.']);
    expect(inspect(id)).toMatchObject({ ProcessLabel: "", MountLabel: "" });
    expect((await t.engine.system.info()).warnings.join()).not.toContain("SELinux");
    await reopen({ selinuxEnabled: true });
    const info = await t.engine.system.info();
    expect(info.warnings).toContain("WARNING: No SELinux labels for containers: this kernel runs without SELinux");
    expect(info.securityOptions).not.toContain("name=selinux");
    expect(await t.run(["true"])).toMatchObject({ code: 0 });
  });

  test("a kernel that has it, and a daemon that does not use it", async () => {
    await reopen({ facts: { lsm: ["selinux"], selinux } });
    const { id, warnings } = await t.engine.containers.create(t.request("busybox", ["true"], {}, { SecurityOpt: ["label=level:s0"] }));
    expect(warnings).toEqual(['The SELinux option "label=level:s0" has no effect: the daemon was started without --selinux-enabled.']);
    expect(inspect(id)).toMatchObject({ ProcessLabel: "", MountLabel: "" });
  });

  test.each(["overlay2", "vfs"])(
    "where it is used (%s): labels are chosen at create, kept, and unique; what is mounted is labelled before the start",
    async (storageDriver) => {
      await reopen({ facts: { lsm: ["selinux"], selinux }, selinuxEnabled: true, storageDriver });
      await t.engine.images.bootstrap("busybox", () => undefined);
      expect((await t.engine.system.info()).securityOptions).toContain("name=selinux");
      const made = await t.create(["true"]);
      const { ProcessLabel, MountLabel } = inspect(made);
      expect(ProcessLabel).toMatch(/^system_u:system_r:container_t:s0:c\d+,c\d+$/);
      expect(MountLabel).toBe(ProcessLabel.replace("system_r:container_t", "object_r:container_file_t"));
      expect(inspect(await t.create(["true"])).ProcessLabel).not.toBe(ProcessLabel);
      expect(inspect(await t.create(["true"], {}, { IpcMode: `container:${made}` })).ProcessLabel).toBe(ProcessLabel);
      expect(inspect(await t.create(["true"], {}, { Privileged: true }))).toMatchObject({
        ProcessLabel: "",
        MountLabel: selinux.file.replace("s0", "s0:c1022,c1023"),
      });
      const asked = await t.create(["true"], {}, { SecurityOpt: ["label=type:spc_t", "label:level:s0:c5,c6"] });
      expect(inspect(asked)).toMatchObject({ ProcessLabel: "system_u:system_r:spc_t:s0:c5,c6", MountLabel: "system_u:object_r:container_file_t:s0:c5,c6" });
      await expect(t.create(["true"], {}, { SecurityOpt: ["label=what"] })).rejects.toThrow('bad label option "what"');
      await expect(t.create(["true"], {}, { Binds: ["/usr:/usr:z"] })).rejects.toThrow("SELinux relabeling of /usr is not allowed");
      const explained = await t.engine.containers.explain(t.request("busybox", ["true"], {}, { SecurityOpt: ["label=level:s0:c5,c6"] }), "text");
      expect(explained).toContain("SELinux label system_u:system_r:container_t:s0:c5,c6");
      const source = storageDriver === "vfs" ? join(t.root, "data/vfs", made, "diff/bin") : undefined;
      if (source === undefined) expect(explained).toContain("system_u:object_r:container_file_t:s0:c5,c6");
      else expect(await labelOf(source)).toBe(MountLabel);

      for (const name of ["own", "shared", "plain"]) {
        mkdirSync(join(work, name, "below"), { recursive: true });
        writeFileSync(join(work, name, "below/file"), "");
      }
      rmSync(join(work, "own/link"), { force: true });
      symlinkSync("/etc", join(work, "own/link"));
      const binds = [`${work}/own:/own:Z`, `${work}/shared:/shared:ro,z`, `${work}/plain:/plain`, "sevol:/v"];
      const id = await t.create(["true"], {}, { Binds: binds });
      // This kernel takes no label for what is made next.
      await expect(t.engine.containers.start(id)).rejects.toThrow("to /proc/self/attr/fscreate: invalid argument");
      const label = inspect(id).MountLabel;
      for (const path of ["own", "own/below", "own/below/file", "own/link"]) expect(await labelOf(join(work, path)), path).toBe(label);
      const shared = selinux.file;
      for (const path of ["shared", "shared/below/file"]) expect(await labelOf(join(work, path)), path).toBe(shared);
      expect(await labelOf(t.engine.volumes.get("sevol").Mountpoint)).toBe(shared);
      for (const path of [join(work, "plain"), "/etc"]) expect(await labelOf(path), path).toBeUndefined();
      await t.removeAll();
      await t.engine.volumes.remove("sevol", true);
    },
  );
});
