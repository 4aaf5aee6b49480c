/**
 * What must hold with the stock docker client and with ours, on a real daemon (root). A client that is not installed is skipped with the reason.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, processes, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { type ArchiveInfo, busyboxArchive, writeArchive } from "./images.ts";
import { cleanEnv, eventually, ok, type Result, run, type RunOptions, terminal } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`docker-cli: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`a daemon and its clients${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-cli-"));
  const daemon = new TestDaemon();
  let archive: ArchiveInfo;

  beforeAll(async () => {
    archive = busyboxArchive(work);
    await daemon.start();
    await ok([wherryPath, "load", "-i", archive.path], { env: { WHERRY_HOST: daemon.host } });
  });

  afterAll(async () => {
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const clients = [
    {
      name: "docker",
      command: ["docker"],
      env: { DOCKER_CONFIG: join(work, "docker-config") },
      missing: hasProgram("docker") ? undefined : "no docker client",
    },
    { name: "wherry", command: [wherryPath], env: {}, missing: undefined },
  ];

  describe.each(clients)("$name", ({ name: client, command, env, missing }) => {
    if (missing) console.warn(`docker-cli: ${client}: skipped: ${missing}`);
    const clientEnv = { ...env, DOCKER_HOST: daemon.host };
    const call = (args: readonly string[], options: RunOptions = {}): Promise<Result> =>
      run([...command, ...args], { ...options, env: { ...clientEnv, ...options.env } });
    const out = (args: readonly string[], options: RunOptions = {}): Promise<string> =>
      ok([...command, ...args], { ...options, env: { ...clientEnv, ...options.env } });
    const pty = (args: readonly string[], rows = 24, columns = 80) => terminal([...command, ...args], { rows, columns, env: clientEnv });
    const name = (what: string): string => `${client}-${what}`;
    const inspect = async <T>(container: string): Promise<T> => JSON.parse(await out(["inspect", container]))[0] as T;

    describe.skipIf(missing !== undefined)("1 images", () => {
      test("the archive is listed, has its history and its config's id", async () => {
        expect(await out(["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])).toContain(`busybox:latest ${archive.id}`);
        const history = await out(["history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}", "busybox"]);
        expect(history.split("\n").map((line) => line.split("|").slice(0, 2))).toEqual([
          [archive.id, '/bin/sh -c #(nop)  CMD ["sh"]'],
          ["<missing>", "/bin/sh -c #(nop) ADD layer 1 in / "],
          ["<missing>", "/bin/sh -c #(nop) ADD layer 0 in / "],
        ]);
        const image = JSON.parse(await out(["image", "inspect", "busybox"]))[0] as {
          Id: string;
          RootFS: { Layers: string[] };
          Author: string;
          Created: string;
        };
        expect(image).toMatchObject({ Id: archive.id, RootFS: { Layers: archive.diffIds }, Author: "wherry tests", Created: "2024-05-18T10:20:30.123456789Z" });
      });

      test("tag, list by reference, and rmi of one name", async () => {
        await out(["tag", "busybox", "localhost:5000/a/b:v1"]);
        expect(await out(["images", "-q", "--no-trunc", "localhost:5000/a/b"])).toBe(archive.id);
        expect(await out(["rmi", "localhost:5000/a/b:v1"])).toBe("Untagged: localhost:5000/a/b:v1");
        expect(await out(["images", "-q", "localhost:5000/a/b"])).toBe("");
      });

      test("save and load give the same image", async () => {
        const saved = join(work, `${client}-saved.tar`);
        await out(["save", "-o", saved, "busybox"]);
        expect(await out(["load", "-i", saved])).toBe("Loaded image: busybox:latest");
        expect(await out(["images", "-q", "--no-trunc", "busybox"])).toBe(archive.id);
      });

      test("import makes a one-layer image that runs", async () => {
        const tree = join(work, "busybox-0");
        const tar = join(work, `${client}-tree.tar`);
        await ok(["tar", "-C", tree, "-cf", tar, "."]);
        const id = await out(["import", "-c", 'CMD ["echo","imported"]', tar, name("imported")]);
        expect(id).toMatch(/^sha256:[0-9a-f]{64}$/);
        expect(await out(["run", "--rm", name("imported")])).toBe("imported");
        await out(["rmi", name("imported")]);
      });
    });

    describe.skipIf(missing !== undefined)("2 run", () => {
      test("prints, reads its input, keeps the two outputs apart", async () => {
        expect(await out(["run", "--rm", "busybox", "echo", "hi"])).toBe("hi");
        expect(await out(["run", "-i", "--rm", "busybox", "cat"], { input: "x\n" })).toBe("x");
        const both = await call(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        expect(both).toEqual({ code: 3, stdout: "out\n", stderr: "err\n" });
      });

      test("exit codes: 0, 3, 125, 126, 127, 137, 143", async () => {
        expect((await call(["run", "--rm", "busybox", "true"])).code).toBe(0);
        expect((await call(["run", "--rm", "busybox", "sh", "-c", "exit 3"])).code).toBe(3);
        const badFlag = await call(["run", "--no-such-flag", "busybox"]);
        expect(badFlag.code).toBe(125);
        expect(badFlag.stderr).toContain("unknown flag: --no-such-flag");
        expect((await call(["run", "--rm", "--pull", "never", "no-such-image-here"])).code).toBe(125);
        const notExecutable = await call(["run", "--rm", "busybox", "/etc/passwd"]);
        expect([notExecutable.code, notExecutable.stderr]).toEqual([126, expect.stringContaining("permission denied")]);
        const notFound = await call(["run", "--rm", "busybox", "no-such-program"]);
        expect([notFound.code, notFound.stderr]).toEqual([127, expect.stringMatching(/executable file not found in \$PATH|no such file or directory/)]);
        for (const [signal, code] of [
          ["KILL", 137],
          ["TERM", 143],
        ] as const) {
          const running = call(["run", "--rm", "--init", "--name", name("killed"), "busybox", "sleep", "100"]);
          await eventually(
            () => call(["kill", "-s", signal, name("killed")]),
            (result) => result.code === 0,
          );
          expect((await running).code).toBe(code);
        }
      });

      test("a terminal: window size, Ctrl-C, and Ctrl-P Ctrl-Q leaves it running", async () => {
        const shell = pty(["run", "-it", "--name", name("shell"), "busybox", "sh"], 33, 111);
        await shell.until("# ");
        shell.type("stty size\n");
        await shell.until("33 111");
        shell.resize(44, 122);
        await eventually(
          async () => {
            shell.type("stty size\n");
            await new Promise((resolve) => setTimeout(resolve, 100));
            return shell.shown();
          },
          (screen) => screen.includes("44 122"),
        );
        shell.type("sleep 1000\n");
        await new Promise((resolve) => setTimeout(resolve, 300));
        shell.type("\u0003");
        shell.type("echo code $?\n");
        await shell.until("code 130");
        shell.type("\u0010\u0011");
        expect(await shell.exited).toBe(0);
        expect(await out(["inspect", "-f", "{{.State.Running}}", name("shell")])).toBe("true");

        const again = pty(["attach", name("shell")]);
        again.type("echo back $((40+2))\n");
        await again.until("back 42");
        again.type("exit 5\n");
        expect(await again.exited).toBe(5);
        await out(["rm", name("shell")]);
      });

      test("200 MB through stdout are byte-exact, and a slow reader costs no memory", async () => {
        const count = 200_000_000;
        const line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        const rss = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))![1]);
        const before = rss();
        let peak = before;
        const child = spawn(
          command[0]!,
          [...command.slice(1), "run", "--rm", "--log-driver", "none", "busybox", "sh", "-c", `yes ${line} | head -c ${count}`],
          {
            env: cleanEnv(clientEnv),
            stdio: ["ignore", "pipe", "inherit"],
          },
        );
        const exited = once(child, "exit");
        const hash = createHash("sha256");
        let bytes = 0;
        let stalled = false;
        for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
          hash.update(chunk);
          bytes += chunk.length;
          if (!stalled && bytes > 20_000_000) {
            // The reader stops for a second: the container must stop with it, not the daemon's memory grow.
            stalled = true;
            await new Promise((resolve) => setTimeout(resolve, 1000));
          }
          peak = Math.max(peak, rss());
        }
        expect(await exited).toEqual([0, null]);
        const wanted = createHash("sha256");
        const block = Buffer.from(`${line}\n`.repeat(1000));
        for (let left = count; left > 0; left -= block.length) wanted.update(left >= block.length ? block : block.subarray(0, left));
        expect([bytes, hash.digest("hex")]).toEqual([count, wanted.digest("hex")]);
        expect(peak - before).toBeLessThan(64 * 1024);
      });
    });

    describe.skipIf(missing !== undefined)("3 isolation", () => {
      const shell = (script: string, ...flags: string[]): Promise<string> => out(["run", "--rm", ...flags, "busybox", "sh", "-c", script]);

      test("its own processes, and nothing of the host's", async () => {
        expect(await shell("echo $$")).toBe("1");
        const lines = (await shell("ps -o pid,comm")).split("\n").slice(1);
        expect(lines.map((line) => line.trim().split(/\s+/)[0]).filter((pid) => Number(pid) > 10)).toEqual([]);
      });

      test("its own hostname, and the host keeps its", async () => {
        const before = readFileSync("/proc/sys/kernel/hostname", "utf8");
        expect(await shell("hostname", "--hostname", "inside")).toBe("inside");
        expect(readFileSync("/proc/sys/kernel/hostname", "utf8")).toBe(before);
        const id = await out(["run", "-d", "busybox", "sleep", "100"]);
        expect(await out(["exec", id, "hostname"])).toBe(id.slice(0, 12));
        await out(["rm", "-f", id]);
      });

      test("no IPC objects of others, only lo without a network", async () => {
        expect((await shell("tail -n +2 /proc/sysvipc/shm | wc -l")).trim()).toBe("0");
        expect((await shell("ls /sys/class/net", "--network", "none")).split(/\s+/)).toEqual(["lo"]);
        expect(await shell("ip -o addr show lo", "--network", "none")).toContain("127.0.0.1/8");
      });

      test("capabilities, seccomp, masked and read-only paths", async () => {
        const status = await shell("cat /proc/1/status");
        const field = (key: string): string => new RegExp(`^${key}:\\s*(\\S+)`, "m").exec(status)![1]!;
        // chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service sys_chroot kill audit_write
        expect(field("CapBnd")).toBe("00000000a80425fb");
        expect(field("CapEff")).toBe("00000000a80425fb");
        expect(field("Seccomp")).toBe("2");
        expect(await shell("cat /proc/keys /proc/timer_list 2>/dev/null | wc -c")).toBe("0");
        expect(await shell("(echo 1 > /proc/sys/vm/panic_on_oom) 2>&1 | grep -c 'Read-only file system'; echo 1 2>/dev/null > /sys/x || echo refused")).toBe(
          "1\nrefused",
        );
        expect(await shell("unshare -U true 2>&1 || true")).toMatch(/not permitted|Invalid argument|can't/i);
        expect(await shell("grep CapEff /proc/1/status", "--cap-drop", "ALL")).toMatch(/0000000000000000$/);
        expect(await shell("grep Seccomp: /proc/1/status", "--privileged")).toMatch(/0$/);
      });

      test("root inside a mapped user namespace is nobody special outside", async () => {
        // docker's client knows no value but "host": there the API is asked directly.
        const asked = { Image: "busybox", Cmd: ["sleep", "100"], HostConfig: { UsernsMode: "private", NetworkMode: "none" } };
        const id =
          client === "docker"
            ? (await daemon.api("POST", "/containers/create", asked)).json<{ Id: string }>().Id
            : await out(["create", "--userns", "private", "--network", "none", "busybox", "sleep", "100"]);
        await out(["start", id]);
        expect(await out(["exec", id, "id", "-u"])).toBe("0");
        const { State } = await inspect<{ State: { Pid: number } }>(id);
        const uid = Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${State.Pid}/status`, "utf8"))![1]);
        expect(uid).toBeGreaterThan(0);
        await out(["rm", "-f", id]);
      });

      test("user, working directory, environment, read-only root, tmpfs, binds", async () => {
        expect(await shell("id -u; pwd; echo $A", "-u", "nobody", "-w", "/srv", "-e", "A=b c")).toBe("65534\n/srv\nb c");
        expect(await shell("touch /x 2>&1; touch /t/x && echo ok; mount | grep ' /t ' | cut -d' ' -f5", "--read-only", "--tmpfs", "/t")).toMatch(
          /Read-only file system\nok\ntmpfs$/,
        );
        const dir = mkdtempSync(join(work, "bind-"));
        expect(await shell("echo from inside > /b/f; cat /b/f", "-v", `${dir}:/b`)).toBe("from inside");
        expect(readFileSync(join(dir, "f"), "utf8")).toBe("from inside\n");
        expect(await shell("touch /b/g 2>&1 || echo refused", "-v", `${dir}:/b:ro`)).toContain("refused");
      });
    });

    describe.skipIf(missing !== undefined)("4 limits", () => {
      test("memory: an allocator is killed and the state says so", async () => {
        const result = await call(["run", "--name", name("oom"), "-m", "64m", "--memory-swap", "64m", "busybox", "tail", "/dev/zero"]);
        expect(result.code).toBe(137);
        expect(await out(["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", name("oom")])).toBe("true 137");
        await out(["rm", name("oom")]);
      });

      test("cpu: half a CPU is half a CPU", async () => {
        const id = await out(["run", "-d", "--cpus", "0.5", "busybox", "sh", "-c", "while :; do :; done"]);
        type Stats = { cpu_stats: { cpu_usage: { total_usage: number } } };
        const usage = async (): Promise<[number, number]> => {
          const stats = (await daemon.api("GET", `/containers/${id}/stats?stream=0&one-shot=1`)).json<Stats>();
          return [stats.cpu_stats.cpu_usage.total_usage, performance.now()];
        };
        // Other work on this machine must not take its half away; what it may not have is more.
        daemon.preferCpu();
        const shares: number[] = [];
        let [cpu, time] = await usage();
        while (shares.length < 8 && !shares.some((share) => share > 0.45)) {
          await new Promise((resolve) => setTimeout(resolve, 3000));
          const [nextCpu, nextTime] = await usage();
          shares.push((nextCpu - cpu) / 1e6 / (nextTime - time));
          [cpu, time] = [nextCpu, nextTime];
        }
        await out(["rm", "-f", id]);
        expect(Math.max(...shares)).toBeGreaterThan(0.45);
        expect(Math.max(...shares)).toBeLessThan(0.55);
      });

      test("processes: a bomb stops at the limit", async () => {
        const id = await out(["run", "-d", "--pids-limit", "20", "busybox", "sh", "-c", "sh -c 'for i in $(seq 200); do sleep 100 & done'; sleep 100"]);
        const current = async (): Promise<number> =>
          (await daemon.api("GET", `/containers/${id}/stats?stream=0&one-shot=1`)).json<{ pids_stats: { current: number } }>().pids_stats.current;
        await eventually(current, (n) => n >= 19);
        expect(await current()).toBeLessThanOrEqual(20);
        expect((await call(["logs", id])).stderr).toMatch(/can't fork|Resource temporarily unavailable/);
        await out(["rm", "-f", id]);
      });

      test("pause stands still, unpause goes on", async () => {
        const id = await out(["run", "-d", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; usleep 10000; done"]);
        const lines = async (): Promise<number> => (await out(["logs", id])).split("\n").length;
        await eventually(lines, (n) => n > 5);
        await out(["pause", id]);
        expect(await out(["ps", "--format", "{{.Status}}", "--filter", `id=${id}`])).toMatch(/\(Paused\)$/);
        const before = await lines();
        await new Promise((resolve) => setTimeout(resolve, 500));
        expect(await lines()).toBe(before);
        expect((await call(["exec", id, "true"])).code).not.toBe(0);
        await out(["unpause", id]);
        await eventually(lines, (n) => n > before + 5);
        await out(["rm", "-f", id]);
      });

      test("update changes the limits of what runs", async () => {
        const id = await out(["run", "-d", "-m", "64m", "--memory-swap", "128m", "busybox", "sleep", "100"]);
        await out(["update", "-m", "100m", "--memory-swap", "200m", "--pids-limit", "33", id]);
        const stats = (await daemon.api("GET", `/containers/${id}/stats?stream=0&one-shot=1`)).json<{
          memory_stats: { limit: number };
          pids_stats: { limit: number };
        }>();
        expect([stats.memory_stats.limit, stats.pids_stats.limit]).toEqual([100 * 1024 * 1024, 33]);
        expect(await out(["inspect", "-f", "{{.HostConfig.Memory}}", id])).toBe(String(100 * 1024 * 1024));
        await out(["rm", "-f", id]);
      });

      test("devices outside the list are refused", async () => {
        const script = "mknod /tmp/disk b 8 0 && (cat /tmp/disk 2>&1 | head -c 100); echo x > /dev/null && head -c 3 /dev/zero | wc -c";
        expect(await out(["run", "--rm", "busybox", "sh", "-c", script])).toMatch(/Operation not permitted[\s\S]*\n3$/);
      });
    });

    describe.skipIf(missing !== undefined)("5 union filesystem", () => {
      test("two containers share the image's files, and writes do not cross", async () => {
        const a = await out(["run", "-d", "busybox", "sleep", "100"]);
        const b = await out(["run", "-d", "busybox", "sleep", "100"]);
        const sh = (id: string, script: string): Promise<string> => out(["exec", id, "sh", "-c", script]);
        expect(await sh(a, "stat -c %i /bin/busybox")).toBe(await sh(b, "stat -c %i /bin/busybox"));
        await sh(a, "echo a > /etc/lower-file; rm /etc/second-layer; rm -r /srv/things; echo file > /srv/things");
        expect(await sh(b, "cat /etc/lower-file /etc/second-layer /srv/things/one")).toBe("from the image\ntwo\n1");
        expect((await out(["diff", a])).split("\n").sort()).toEqual(["C /etc", "C /etc/lower-file", "C /srv", "C /srv/things", "D /etc/second-layer"]);

        await out(["restart", "-t", "0", a]);
        expect(await sh(a, "cat /etc/lower-file /srv/things; ls /etc/second-layer 2>&1 || true")).toMatch(/^a\nfile\n.*No such file/);
        await sh(a, "rm /srv/things; mkdir /srv/things");
        expect(await sh(a, "ls -A /srv/things | wc -l")).toBe("0");
        await out(["restart", "-t", "0", a]);
        expect(await sh(a, "ls -A /srv/things | wc -l")).toBe("0");
        await out(["rm", "-f", a, b]);
      });

      test("commit keeps the changes as a layer", async () => {
        const id = await out(["run", "-d", "busybox", "sh", "-c", "echo new > /etc/new; rm /etc/lower-file; sleep 100"]);
        await eventually(
          () => call(["exec", id, "sh", "-c", "test -e /etc/new && ! test -e /etc/lower-file"]),
          (result) => result.code === 0,
        );
        const image = await out(["commit", "-c", "ENV COMMITTED=yes", "-m", "message", id, name("committed")]);
        expect(image).toMatch(/^sha256:/);
        expect(await out(["run", "--rm", name("committed"), "sh", "-c", "cat /etc/new; ls /etc/lower-file 2>&1; echo $COMMITTED"])).toMatch(
          /^new\n.*No such file.*\nyes$/,
        );
        await out(["rm", "-f", id]);
        await out(["rmi", name("committed")]);
      });

      test("named and anonymous volumes outlive, copy up, and go", async () => {
        await out(["volume", "create", name("vol")]);
        expect(await out(["run", "--rm", "-v", `${name("vol")}:/srv/things`, "busybox", "sh", "-c", "cat /srv/things/one; echo 2 > /srv/things/two"])).toBe(
          "1",
        );
        expect(await out(["run", "--rm", "-v", `${name("vol")}:/v`, "busybox", "cat", "/v/one", "/v/two"])).toBe("1\n2");
        await out(["volume", "rm", name("vol")]);
        const before = await out(["volume", "ls", "-q"]);
        await out(["run", "--rm", "-v", "/anonymous", "busybox", "true"]);
        expect(await out(["volume", "ls", "-q"])).toBe(before);
      });
    });

    describe.skipIf(missing !== undefined)("6 containers outlive the daemon", () => {
      const kills: readonly (readonly [what: string, kill: () => Promise<void>])[] = [
        ["wherryd", () => daemon.kill("SIGKILL")],
        [
          "the helper",
          async () => {
            process.kill(daemon.helperPid(), "SIGKILL");
            await new Promise((resolve) => setTimeout(resolve, 200));
          },
        ],
        [
          "both",
          async () => {
            const helper = daemon.helperPid();
            process.kill(helper, "SIGKILL");
            await daemon.kill("SIGKILL");
          },
        ],
      ];

      for (const [what, kill] of kills) {
        test(`kill -9 of ${what}`, async () => {
          const ticker = await out(["run", "-d", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; usleep 50000; done"]);
          const ender = await out(["run", "-d", "busybox", "sh", "-c", "sleep 2; echo last words; exit 7"]);
          await eventually(
            () => out(["logs", ticker]),
            (text) => text.includes("line 3"),
          );
          await kill();
          const killed = what !== "the helper";
          if (killed) {
            await new Promise((resolve) => setTimeout(resolve, 3000)); // the ender ends while nobody looks
            await daemon.start();
          }
          expect(await out(["inspect", "-f", "{{.State.Status}}", ticker])).toBe("running");
          expect(await out(["wait", ender])).toBe("7");
          expect(await out(["logs", ender])).toBe("last words");
          const lines = (await out(["logs", ticker])).split("\n");
          expect(lines).toEqual(lines.map((_, i) => `line ${i + 1}`));
          if (killed) expect(lines.length).toBeGreaterThan(40);
          expect(await out(["exec", ticker, "echo", "still here"])).toBe("still here");
          expect(await out(["run", "--rm", "busybox", "echo", "new ones start"])).toBe("new ones start");
          await out(["rm", "-f", ticker, ender]);
          await eventually(
            () => daemon.traces([ticker, ender]),
            (left) => left.length === 0,
          );
        });
      }
    });

    describe.skipIf(missing !== undefined)("7 bad input", () => {
      test("unknown image, unknown container, conflict of names", async () => {
        const unknown = await call(["run", "--rm", "--pull", "never", "no-such-image-here"]);
        expect(unknown.stderr).toMatch(/No such image: no-such-image-here:latest/);
        const noContainer = await call(["inspect", "--type", "container", "no-such-container"]);
        expect([noContainer.code, noContainer.stderr.toLowerCase()]).toEqual([1, expect.stringContaining("no such container: no-such-container")]);
        const id = await out(["create", "--name", name("taken"), "busybox"]);
        const conflict = await call(["create", "--name", name("taken"), "busybox"]);
        expect(conflict.code).not.toBe(0);
        expect(conflict.stderr).toContain(
          `The container name "/${name("taken")}" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
        );
        await out(["rm", name("taken")]);
      });

      test("damaged archives are refused and nothing is stored", async () => {
        const store = (): string => spawnSync("find", [daemon.dataRoot, "-type", "f", "-size", "+1k"], { encoding: "utf8" }).stdout;
        // What earlier tests have removed is deleted by and by.
        await expect.poll(() => spawnSync("find", [daemon.dataRoot, "-path", "*/trash/*"], { encoding: "utf8" }).stdout).toBe("");
        const before = [await out(["images", "-aq", "--no-trunc"]), store()];
        const tree = join(work, `${client}-bad-tree`);
        mkdirSync(tree, { recursive: true });
        writeFileSync(join(tree, "content"), "a".repeat(300_000));
        const made = writeArchive(join(work, `${client}-bad.tar`), { tag: "bad:latest", layers: [tree] });
        const bytes = readFileSync(made.path);
        const variants: Record<string, () => void> = {
          truncated: () => truncateSync(made.path, 150_000),
          corrupted: () => {
            const copy = Buffer.from(bytes);
            const at = copy.indexOf("a".repeat(1000)) + 500;
            copy[at] = copy[at]! ^ 1;
            writeFileSync(made.path, copy);
          },
          "not a tar": () => writeFileSync(made.path, "hello ".repeat(1000)),
          empty: () => writeFileSync(made.path, ""),
        };
        for (const [what, damage] of Object.entries(variants)) {
          writeFileSync(made.path, bytes);
          damage();
          const result = await call(["load", "-i", made.path]);
          expect(`${what}: ${result.code}`).not.toBe(`${what}: 0`);
          await expect.poll(async () => [await out(["images", "-aq", "--no-trunc"]), store()], { message: what }).toEqual(before);
        }
        writeFileSync(made.path, bytes);
        expect(await out(["load", "-i", made.path])).toBe("Loaded image: bad:latest");
        await out(["rmi", "bad"]);
      });
    });

    describe.skipIf(missing !== undefined)("inspecting and controlling", () => {
      test("ps, rename, top, stats, port, stop, start, restart policies", async () => {
        const id = await out(["run", "-d", "--name", name("c"), "--label", "k=v", "--restart", "on-failure:2", "busybox", "sleep", "1000"]);
        expect(await out(["ps", "--format", "{{.Names}} {{.Image}} {{.Command}}", "--no-trunc", "--filter", "label=k=v"])).toBe(
          `${name("c")} busybox "sleep 1000"`,
        );
        await out(["rename", name("c"), name("d")]);
        expect(await out(["top", name("d")])).toContain("sleep 1000");
        expect(await out(["stats", "--no-stream", "--format", "{{.Name}}", name("d")])).toBe(name("d"));
        await out(["stop", "-t", "0", name("d")]);
        expect(await out(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id])).toBe("exited 137");
        await out(["start", name("d")]);
        expect(await out(["inspect", "-f", "{{.State.Status}}", id])).toBe("running");
        await new Promise((resolve) => setTimeout(resolve, 1100)); // `--until 0s` is the beginning of this second
        const events = await out(["events", "--since", "60s", "--until", "0s", "--filter", `container=${id}`, "--format", "{{.Action}}"]);
        const told = new Set(["create", "start", "rename", "die", "stop"]);
        expect(events.split("\n").filter((action) => told.has(action))).toEqual(["create", "start", "rename", "die", "stop", "start"]);
        await out(["rm", "-f", name("d")]);

        await call(["run", "--name", name("retry"), "--restart", "on-failure:2", "busybox", "false"]);
        await eventually(
          () => out(["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", name("retry")]),
          (text) => text === "2 exited",
        );
        await out(["rm", name("retry")]);
      });

      test("logs: tail, timestamps, since, follow to the end", async () => {
        const id = await out(["run", "-d", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; sleep 1; echo end"]);
        await eventually(
          () => call(["logs", id]),
          (logs) => logs.stdout.includes("5\n"),
        );
        expect(await call(["logs", "-f", "--tail", "3", id])).toEqual({ code: 0, stdout: "3\n4\n5\nend\n", stderr: "" });
        expect(await out(["logs", "--tail", "1", id])).toBe("end");
        expect(await out(["logs", "-t", "--tail", "1", id])).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z end$/);
        const stamp = (await out(["logs", "-t", "--tail", "1", id])).split(" ")[0]!;
        expect(await out(["logs", "--since", stamp, id])).toBe("end");
        await out(["rm", "-f", id]);
      });

      test("exec: input, code, user, terminal", async () => {
        const id = await out(["run", "-d", "busybox", "sleep", "1000"]);
        expect(await out(["exec", "-i", id, "cat"], { input: "through exec" })).toBe("through exec");
        expect((await call(["exec", id, "sh", "-c", "exit 9"])).code).toBe(9);
        expect((await call(["exec", id, "no-such-program"])).code).toBe(127);
        expect(await out(["exec", "-u", "nobody", "-w", "/srv", "-e", "A=1", id, "sh", "-c", "id -u; pwd; echo $A"])).toBe("65534\n/srv\n1");
        const shell = pty(["exec", "-it", id, "sh"], 30, 90);
        await shell.until("# ");
        shell.type("stty size; exit 4\n");
        await shell.until("30 90");
        expect(await shell.exited).toBe(4);
        await out(["rm", "-f", id]);
      });

      test("info and version say what runs", async () => {
        const info = await out(["info"]);
        for (const part of [
          "Storage Driver: overlay2",
          "Logging Driver: json-file",
          "Cgroup Driver: cgroupfs",
          "Kernel Version:",
          `Docker Root Dir: ${daemon.dataRoot}`,
        ])
          expect(info).toContain(part);
        expect(await out(["version", "-f", "{{.Server.APIVersion}}"])).toBe("1.51");
      });
    });
  });

  test("7 a disk that is full refuses and loses nothing", async () => {
    const image = join(work, "small.img");
    const mountPoint = join(work, "small");
    mkdirSync(mountPoint);
    await ok(["truncate", "-s", "48M", image]);
    await ok(["mkfs.ext4", "-q", "-m", "0", image]);
    const mounted = await run(["mount", "-o", "loop", image, mountPoint]);
    if (mounted.code !== 0) return void console.warn(`full disk: skipped: ${mounted.stderr.trim()}`);
    const small = new TestDaemon({ base: mountPoint });
    try {
      await small.start();
      const env = { WHERRY_HOST: small.host };
      await ok([wherryPath, "load", "-i", archive.path], { env });
      const tree = join(work, "large-tree");
      mkdirSync(tree);
      await ok(["dd", "if=/dev/urandom", `of=${join(tree, "blob")}`, "bs=1M", "count=60", "status=none"]);
      const large = writeArchive(join(work, "large.tar"), { tag: "large:latest", layers: [tree] });
      const refused = await run([wherryPath, "load", "-i", large.path], { env });
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/no space left on device/i)]);
      expect(await ok([wherryPath, "images", "--format", "{{.Repository}}"], { env })).toBe("busybox");
      expect(await ok([wherryPath, "run", "--rm", "busybox", "cat", "/etc/second-layer"], { env })).toBe("two");
      const filled = await run([wherryPath, "run", "--name", "fills", "busybox", "dd", "if=/dev/zero", "of=/fill", "bs=1M", "count=100"], { env });
      expect(filled.stderr).toMatch(/No space left on device/);
      expect(await ok([wherryPath, "ps", "-a", "--format", "{{.Names}}"], { env })).toBe("fills");
      await ok([wherryPath, "rm", "fills"], { env });
      expect(await ok([wherryPath, "run", "--rm", "busybox", "echo", "goes on"], { env })).toBe("goes on");
    } finally {
      const left = await small.stop();
      await ok(["umount", mountPoint]);
      expect(left).toEqual([]);
    }
  });

  test("8 a hundred containers: ps shows them all, and nothing of them stays", async () => {
    const env = { WHERRY_HOST: daemon.host };
    const ids: string[] = [];
    for (let i = 0; i < 100; i++) ids.push(await ok([wherryPath, "run", "-d", "--network", "none", "busybox", "sleep", "10000"], { env }));
    const listed = (await daemon.api("GET", "/containers/json")).json<{ Id: string }[]>().map(({ Id }) => Id);
    for (let i = 0; i < ids.length; i += 25) await ok([wherryPath, "rm", "-f", ...ids.slice(i, i + 25)], { env });
    expect(listed.sort()).toEqual([...ids].sort());
    await eventually(
      () => daemon.traces(ids),
      (left) => left.length === 0,
    );
  });

  test("8 eight clients run five hundred containers: none fails, nothing stays", async () => {
    const env = { WHERRY_HOST: daemon.host };
    const failures: string[] = [];
    let left = 500;
    const threads = (): number => readdirSync(`/proc/${daemon.pid}/fd`).length;
    await ok([wherryPath, "run", "--rm", "busybox", "true"], { env });
    const before = threads();
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        const result = await run([wherryPath, "run", "--rm", "--network", "none", "busybox", "echo", String(left)], { env });
        if (result.code !== 0 || !/^\d+\n$/.test(result.stdout)) failures.push(JSON.stringify(result));
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    expect(failures).toEqual([]);
    expect((await daemon.api("GET", "/containers/json?all=1")).json()).toEqual([]);
    await eventually(
      () => [
        ...daemon.traces([]),
        ...processes()
          .filter((p) => p.cgroup.includes(daemon.cgroupParent))
          .map((p) => p.command),
      ],
      (list) => list.length === 0,
    );
    await eventually(threads, (n) => n <= before + 4);
    expect(existsSync(join(daemon.dataRoot, "containers")) ? readdirSync(join(daemon.dataRoot, "containers")) : []).toEqual([]);
    expect(statSync(daemon.socket).isSocket()).toBe(true);
  });
});
