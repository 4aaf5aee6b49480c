/** What a starting engine makes of what it finds. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { newId } from "#core/ids.ts";
import { TestEngine, eventually, until } from "./engine-setup.ts";

describe.skipIf(process.getuid?.() !== 0)("engine, opened again", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterEach(async () => {
    await t.removeAll();
  });
  afterAll(() => t?.[Symbol.asyncDispose]());

  const state = (id: string) => t.engine.containers.get(id).state;

  test("what is created and started as soon as the engine is open is not swept with the leavings of an earlier one", async () => {
    for (let i = 0; i < 3; i++) {
      await t.reopen();
      const id = await t.create(["sleep", "60"]);
      await new Promise((resolve) => setTimeout(resolve, 100));
      await t.engine.containers.start(id);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect((await t.exec(id, ["true"])).code).toBe(0);
      expect(existsSync(join(t.root, "run/c", `${id.slice(0, 24)}.sock`))).toBe(true);
      await t.engine.containers.remove(id, { force: true, volumes: true });
    }
  });

  test("a container goes on without an engine; what it wrote meanwhile is in its log", async () => {
    const id = await t.start(["sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"]);
    const before = state(id);
    await t.engine.close();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await t.reopen();
    expect(state(id)).toMatchObject({ status: "running", pid: before.pid, startTime: before.startTime, startedAt: before.startedAt });
    const lines = (await t.logs(id)).out.trim().split("\n").map(Number);
    expect(lines.length).toBeGreaterThan(10);
    expect(lines).toEqual(lines.map((_, i) => i));
    expect((await t.exec(id, ["echo", "still"])).out).toBe("still\n");
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.kill(id, "KILL");
    expect(await ended).toEqual({ exitCode: 137, reason: "killed by SIGKILL (wherry kill)" });
  });

  test("ends that no engine saw are known: code, and the policies are applied", async () => {
    const plain = await t.start(["sh", "-c", "sleep 0.3; exit 6"]);
    const gone = await t.start(["sh", "-c", "sleep 0.3"], {}, { AutoRemove: true });
    const again = await t.start(["sh", "-c", "echo run; sleep 0.3; exit 1"], {}, { RestartPolicy: { Name: "on-failure", MaximumRetryCount: 1 } });
    const stopped = await t.start(["sleep", "100"], {}, { RestartPolicy: { Name: "unless-stopped", MaximumRetryCount: 0 } });
    await t.engine.containers.stop(stopped, { timeout: 0 });
    const always = await t.start(["sleep", "99"], {}, { RestartPolicy: { Name: "always", MaximumRetryCount: 0 } });
    await t.engine.containers.stop(always, { timeout: 0 });
    await t.engine.close();
    await new Promise((resolve) => setTimeout(resolve, 600));
    await t.reopen();
    expect(state(plain)).toMatchObject({ status: "exited", exitCode: 6, reason: "exited 6" });
    expect(() => t.engine.containers.get(gone)).toThrow("No such container");
    expect(state(stopped).status).toBe("exited");
    await until(() => state(always).status === "running");
    await until(() => state(again).status === "exited" && t.engine.containers.get(again).restartCount === 1);
    expect(
      (
        await eventually(
          () => t.logs(again),
          ({ out }) => out === "run\nrun\n",
        )
      ).out,
    ).toBe("run\nrun\n");
  });

  test.each(["", "/wherry-stray"])(
    "the cgroup that a killed start has left of a container that stays is gone (parent %j), and the container starts",
    async (parent) => {
      const CgroupParent = parent && `${parent}-${t.root.slice(-6).toLowerCase()}`;
      const id = await t.start(["sleep", "60"], {}, { CgroupParent });
      const lines = readFileSync(`/proc/${state(id).pid}/cgroup`, "utf8").split("\n");
      const directories = lines.flatMap((line) => {
        const [, controllers = "", path = ""] = line.split(":");
        return path.endsWith(id) ? [join("/sys/fs/cgroup", controllers.replace("name=", ""), path)].filter((directory) => existsSync(directory)) : [];
      });
      expect(directories.length).toBeGreaterThan(0);
      await t.engine.containers.stop(id, { timeout: 0 });
      await t.engine.close(); // waits for what the end leaves
      for (const directory of directories) {
        expect(existsSync(directory)).toBe(false);
        mkdirSync(directory);
      }
      await t.reopen();
      await until(() => directories.every((directory) => !existsSync(directory)));
      await t.engine.containers.start(id);
      expect((await t.exec(id, ["true"])).code).toBe(0);
      await t.removeAll();
      await until(() => directories.every((directory) => !existsSync(directory))); // a moment behind the answer
      // A parent that somebody has named stays, empty.
      if (CgroupParent) for (const directory of directories) rmdirSync(dirname(directory));
    },
  );

  test("the helper is killed: running containers are seen to their end, and new ones start", async () => {
    const id = await t.start(["sh", "-c", "sleep 0.5; exit 8"]);
    const ended = t.engine.containers.wait(id, "next-exit");
    process.kill(helperPid(t.options.helperPath), "SIGKILL");
    expect(await ended).toEqual({ exitCode: 8 });
    expect((await t.run(["echo", "new"])).out).toBe("new\n");
  });

  test("a monitor is killed: its container is ended and said to be lost", async () => {
    const id = await t.start(["sleep", "100"]);
    const ended = t.engine.containers.wait(id, "next-exit");
    const [monitor] = readFileSync(join(t.options.execRoot, "c", `${id.slice(0, 24)}.pid`), "utf8").split(" ");
    process.kill(Number(monitor), "SIGKILL");
    expect(await ended).toMatchObject({ exitCode: 255, reason: expect.stringContaining("was killed and left no exit record") as string });
    expect(state(id)).toMatchObject({ status: "exited", reason: expect.stringContaining("monitor") });
    expect(
      await eventually(
        async () => readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && cgroupOf(pid).includes(id)),
        (left) => left.length === 0,
      ),
    ).toEqual([]);
  });

  test("leavings of crashes are swept: records cut off, snapshots, cgroups, sockets of nobody", async () => {
    await t.engine.close();
    const [id, other] = [newId(), newId()];
    const containers = join(t.options.dataRoot, "containers");
    mkdirSync(join(containers, id));
    writeFileSync(join(containers, id, "container.json"), '{"version":1,"id":"');
    mkdirSync(join(t.options.dataRoot, "overlay2", other, "diff"), { recursive: true });
    writeFileSync(join(t.options.execRoot, "c", `${id.slice(0, 24)}.sock`), "");
    const cgroup = join("/sys/fs/cgroup/pids", t.options.cgroupParent ?? "", id);
    mkdirSync(cgroup);
    await t.reopen();
    expect(await t.leftovers()).toEqual([]);
    await until(() => !existsSync(cgroup));
  });

  test("a second engine on the same root is refused, and told by whom", async () => {
    const { openEngine } = await import("#engine/open-engine.ts");
    await expect(openEngine(t.options)).rejects.toMatchObject({ code: "conflict", message: expect.stringContaining(`belongs to process ${process.pid}`) });
  });
});

function cgroupOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, "utf8");
  } catch {
    return ""; // it has ended
  }
}

function helperPid(program: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      if (parent === process.pid && /helper/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"))) return Number(pid);
    } catch {
      // it has ended
    }
  }
  throw new Error(`no helper (${program}) below ${process.pid}`);
}
