import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startHelper } from "#linux/helper-client.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { CLONE, helperPid, host, isAlive, Lab, monitorsOf, spareOf, until } from "./native-fixture.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await Lab.open();
});
afterAll(() => lab.close());

/** What was asked of a helper that was dying is told so; then there is a new one. */
const recovered = () =>
  until("the helper answers", () =>
    lab.helper.call({ steps: [] }).then(
      () => true,
      () => false,
    ),
  );

const openStdin = { openStdin: true, stdinOnce: false } as const;

describe("a monitor's socket", () => {
  it("takes no frame that is shorter than its head or longer than it has room for, and harms nobody by that", async () => {
    const socketPath = join(lab.directory, "frames.sock");
    const { link } = await lab.launch({ argv: ["cat"], stdio: openStdin, request: { socketPath } });
    for (const length of [0, 4, 2 ** 20, 2 ** 31, 2 ** 32 - 5, 2 ** 32 - 4, 2 ** 32 - 1]) {
      const frame = Buffer.alloc(64, 1);
      frame.writeUInt32LE(length);
      const socket = connect(socketPath).on("error", () => undefined); // it is closed with what was sent unread
      socket.write(frame);
      await new Promise((closed) => socket.resume().on("close", closed));
    }
    expect(isAlive(link.monitorPid)).toBe(true);
    await link.kill(9);
    expect((await link.exited).signal).toBe(9);
  });
});

it("a monitor tells over its own socket, too, that it has let go", async () => {
  for (const soon of [false, true]) {
    const directory = join(lab.directory, `late-${soon}`);
    mkdirSync(directory);
    const { link } = await lab.launch({ argv: ["cat"], stdio: openStdin, host: [host({ op: "rmdir_late", paths: [directory] })] });
    process.kill(helperPid(lab), "SIGKILL");
    await recovered();
    await link.kill(9);
    await link.exited;
    if (soon) link.letGo();
    expect(await link.left).toBe(true);
    expect(existsSync(directory)).toBe(false);
  }
});

describe("a monitor in waiting", () => {
  const network = (pid: number | "self") => readlinkSync(`/proc/${pid}/ns/net`);
  const waiting = { argv: ["cat"], stdio: openStdin };

  it("is the next launch's, whose program is in a network of its own", async () => {
    expect((await lab.sh("true")).code).toBe(0);
    const pid = await spareOf(helperPid(lab));
    const container = await lab.launch(waiting);
    expect(container.link.monitorPid).toBe(pid);
    const another = await lab.launch(waiting);
    expect(new Set([network("self"), network(container.link.pid), network(another.link.pid)]).size).toBe(3);
    expect([network(pid), network(another.link.monitorPid)]).toEqual([network("self"), network("self")]);
    for (const { link } of [container, another]) {
      await link.kill(9);
      expect((await link.exited).signal).toBe(9);
    }
  });

  it("is not needed: a launch that finds it dead has a monitor as well", async () => {
    expect((await lab.sh("true")).code).toBe(0);
    const pid = await spareOf(helperPid(lab));
    process.kill(pid, "SIGKILL");
    await until("it is dead", () => !isAlive(pid)); // killed with a launch in its hands it would take that along
    expect((await lab.sh("echo all the same")).stdout).toBe("all the same\n");
  });

  it("makes no network for a program that shares its monitor's", async () => {
    const shared = { ...waiting, clone: CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC };
    await lab.sh("true");
    await spareOf(helperPid(lab)); // which has one ready
    const { link } = await lab.launch(shared);
    expect(network(link.pid)).toBe(network("self"));
    await link.kill(9);
    await link.exited;
  });

  it("ends with its helper", async () => {
    await lab.sh("true");
    const helper = helperPid(lab);
    const pid = await spareOf(helper);
    process.kill(helper, "SIGKILL");
    await until("it has ended", () => !isAlive(pid));
    await recovered();
  });
});

describe("the helper is killed", () => {
  it("containers go on, and their links work over the monitors' own sockets", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "cat; exit 9"], stdio: { openStdin: true, stdinOnce: true } });
    const socket = await container.link.attach({ stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() });
    socket.resume();
    const old = helperPid(lab);
    process.kill(old, "SIGKILL");
    await until("the helper is gone", () => !isAlive(old));
    expect(isAlive(container.link.pid)).toBe(true);
    socket.write("written meanwhile\n");
    await until("it is in the log", async () => {
      await container.link.flush();
      return container.output().stdout === "written meanwhile\n";
    });
    // A new helper is there on the next use.
    expect((await lab.sh("echo new")).stdout).toBe("new\n");
    expect(helperPid(lab)).not.toBe(old);
    socket.end();
    expect((await container.link.exited).code).toBe(9);
  });

  it("signals and sizes asked for meanwhile arrive", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "trap 'echo got; exit 0' TERM; echo ready; while :; do sleep 0.05; done"] });
    await until("it is ready", () => container.output().stdout === "ready\n");
    process.kill(helperPid(lab), "SIGKILL");
    expect(await container.link.kill(15)).toBe(true);
    expect((await container.link.exited).code).toBe(0);
    expect(container.output().stdout).toBe("ready\ngot\n");
    await recovered();
  });

  it("a container that ended without anybody looking has its exit record", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "exit 12"] });
    process.kill(helperPid(lab), "SIGKILL");
    expect((await container.link.exited).code).toBe(12);
    await recovered();
  });

  it("a launch under way fails, or is found again; nothing is left behind", async () => {
    const before = lab.messages.length;
    const launch = lab
      .launch({
        argv: ["sleep", "100"],
        stdio: { attachGate: 1 },
        host: [host({ op: "attach_gate" })],
        request: { socketPath: join(lab.directory, "gated.sock") },
      })
      .catch((error: unknown) => error);
    await until("the monitor waits", () => existsSync(join(lab.directory, "gated.sock")));
    const helper = helperPid(lab);
    const monitors = await monitorsOf(helper);
    expect(monitors.length).toBeGreaterThanOrEqual(1);
    process.kill(helper, "SIGKILL");
    expect(await launch).toMatchObject({ code: "unavailable" });
    await until("monitors have given up", () => monitors.every((pid) => !isAlive(pid)));
    expect(existsSync(join(lab.directory, "gated.sock"))).toBe(false);
    expect(lab.messages.slice(before).join("\n")).toContain("SIGKILL");
  });

  it("calls under way are told", async () => {
    const fifo = join(lab.directory, "fifo");
    await lab.helper.call({ steps: [host({ op: "mknod", dir: NO_SLOT, path: fifo, mode: 0o10600, major: 0, minor: 0, uid: 0, gid: 0 })] });
    const call = lab.helper
      .call({ steps: [host({ op: "write", dir: NO_SLOT, path: fifo, flags: 1n, data: Buffer.from("x") })] })
      .catch((error: unknown) => error);
    await sleep(50);
    process.kill(helperPid(lab), "SIGKILL");
    expect(await call).toMatchObject({ code: "unavailable" });
    await recovered();
    expect(readFileSync(fifo, "utf8")).toBe("x"); // ends the worker
  });
});

describe("the engine is restarted", () => {
  it("a new one reconnects, and reads what happened from the record otherwise", async () => {
    const running = await lab.launch({ argv: ["sh", "-c", "cat; exit 3"], stdio: { openStdin: true, stdinOnce: true } });
    const ending = await lab.launch({ argv: ["cat"], stdio: openStdin });
    await lab.helper.close();
    await expect(ending.link.kill(9)).rejects.toMatchObject({ code: "unavailable" });
    process.kill(ending.link.pid, "SIGKILL");
    await until("the record is there", () => existsSync(ending.files.exit));
    await lab.start();
    expect(await lab.helper.reconnect(ending.files.socket, ending.files.pid, ending.files.exit)).toBeUndefined();
    const link = await lab.helper.reconnect(running.files.socket, running.files.pid, running.files.exit);
    expect(link).toMatchObject({ pid: running.link.pid, startTime: running.link.startTime, monitorPid: running.link.monitorPid });
    const socket = await link!.attach({ stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() });
    socket.resume();
    socket.end("to the end\n");
    expect((await link!.exited).code).toBe(3);
    expect(running.output().stdout).toBe("to the end\n");
  });

  it("two links to one monitor both hear of the end", async () => {
    const container = await lab.launch({ argv: ["sleep", "100"] });
    const second = await lab.helper.reconnect(container.files.socket, container.files.pid);
    expect(await second!.kill(9)).toBe(true);
    expect((await second!.exited).signal).toBe(9);
    expect((await container.link.exited).signal).toBe(9);
  });
});

describe("start and end", () => {
  it("says what is wrong when the helper cannot be started", async () => {
    await expect(startHelper({ helperPath: "/no/such/helper", execRoot: lab.directory, log: () => {} })).rejects.toMatchObject({ code: "unavailable" });
  });

  it("ends with its engine's connection, without harm to containers", async () => {
    const container = await lab.launch({ argv: ["cat"], stdio: openStdin });
    const pid = helperPid(lab);
    await lab.helper.close();
    expect(isAlive(pid)).toBe(false);
    expect(isAlive(container.link.pid)).toBe(true);
    await expect(lab.helper.call({ steps: [] })).rejects.toMatchObject({ code: "unavailable" });
    await lab.start();
    const link = await lab.helper.reconnect(container.files.socket, container.files.pid);
    await link!.kill(9);
    await link!.exited;
  });

  it("runs from a sealed copy: nothing that a container reaches is the file on disk", () => {
    const pid = helperPid(lab);
    const exe = `/proc/${pid}/exe`;
    expect(() => readFileSync(exe)).not.toThrow();
    expect(readFileSync(`/proc/${pid}/environ`, "utf8")).toBe("");
    expect(readFileSync(exe).equals(readFileSync(lab.helperPath))).toBe(true);
  });

  it("serves many at once: 200 launches, 8 at a time, and leaves nothing", async () => {
    const helper = helperPid(lab);
    await lab.sh("true");
    await spareOf(helper);
    const before = new Set(await monitorsOf(helper));
    const descriptors = () => readdirSync(`/proc/${helper}/fd`).length;
    const openBefore = descriptors();
    let next = 0;
    const worker = async () => {
      while (next < 200) {
        const code = next++ % 100;
        expect((await lab.sh(`exit ${code}`)).code).toBe(code);
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    await until("all monitors are gone", async () => (await monitorsOf(helper)).every((pid) => before.has(pid)));
    await spareOf(helper);
    await until("no more is open than before", () => descriptors() <= openBefore);
  });
});
