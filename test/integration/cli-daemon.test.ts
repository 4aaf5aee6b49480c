/** The CLI with a real daemon (root): how it starts one, and how it does in a Node process of its own. With the stub it is tested in test/compat. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestDaemon, wherryPath, whyNot } from "../compat/daemon.ts";
import { busyboxArchive } from "../compat/images.ts";
import { cleanEnv, ok, type Result, run, terminal } from "../compat/run.ts";

const reason = whyNot();
if (reason) console.warn(`cli-daemon: skipped: ${reason}`);

const cliPath = join(dirname(dirname(wherryPath)), "cli.cjs");

/** Runs a script where /run/wherry and /var/lib/wherry are empty and private, and so is the network. */
function apart(script: string, env: Readonly<Record<string, string>> = {}): { code: number; out: string; err: string } {
  const setUp = "mkdir -p /run/wherry /var/lib/wherry; mount -t tmpfs tmpfs /run/wherry; mount -t tmpfs tmpfs /var/lib/wherry;";
  const daemon = `sed -n 's/.*(pid \\([0-9]*\\),.*/\\1/p' /run/wherry/wherryd.log 2>/dev/null`;
  const end = `code=$?; for pid in $(${daemon}); do kill $pid 2>/dev/null; while kill -0 $pid 2>/dev/null; do sleep 0.05; done; done; exit $code`;
  const done = spawnSync("unshare", ["-mn", "sh", "-c", `${setUp}\n${script}\n${end}`], {
    env: cleanEnv({ W: wherryPath, ...env }),
    encoding: "utf8",
    timeout: 60_000,
  });
  return { code: done.status ?? -1, out: done.stdout, err: done.stderr };
}

describe.skipIf(reason !== undefined)(`no daemon yet${reason ? ` (skipped: ${reason})` : ""}`, () => {
  it("the first command starts it and says so once; it stays for the next", () => {
    const { code, out, err } = apart('"$W" ps -q; "$W" version -f "{{.Server.Version}}"');
    expect(err).toMatch(/^wherry: started the daemon \(wherryd, pid \d+; log \/run\/wherry\/wherryd\.log\)\n$/);
    expect([code, out.split("\n").length]).toEqual([0, 2]);
  });

  it("the daemon does not inherit what would slow each start of Node", () => {
    const { out } = apart(`"$W" ps -q; tr '\\0' '\\n' < /proc/$(sed -n 's/.*(pid \\([0-9]*\\),.*/\\1/p' /run/wherry/wherryd.log)/environ`, {
      NODE_EXTRA_CA_CERTS: "/etc/ssl/certs/ca-certificates.crt",
    });
    expect(out).toMatch(/^WHERRY_EXTRA_CA_CERTS=\/etc\/ssl\/certs\/ca-certificates\.crt$/m);
    expect(out).not.toMatch(/^NODE_EXTRA_CA_CERTS=/m);
  });

  it("commands that need none start none", () => {
    const { code, out, err } = apart('"$W" --version && "$W" run --help && "$W" nope; ls /run/wherry');
    expect(out).toMatch(/^wherry version /);
    expect(err).toBe("wherry: unknown command: wherry nope\n\nRun 'wherry --help' for more information\n");
    expect([code, out.split("\n").at(-2)]).toEqual([0, expect.not.stringContaining("wherryd.log")]);
  });

  it("one that cannot start: its own words", () => {
    const { code, err } = apart('umount /var/lib/wherry; mount -t proc proc /var/lib/wherry; "$W" ps');
    expect(code).toBe(1);
    expect(err).toMatch(
      /^wherry: the daemon ended at once \(exit code \d+\):\n {2}[\s\S]+\nHint: run .*wherryd in a terminal to see more; its log is \/run\/wherry\/wherryd\.log\n$/,
    );
  });

  it("who is not root is told what to do", () => {
    const { code, err } = apart('setpriv --reuid 65534 --clear-groups "$W" ps');
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(
        /^(WARNING: Error loading config file: open .*: permission denied\n)?Cannot connect to the wherry daemon at unix:\/\/\/run\/wherry\/wherry\.sock\. Is wherryd running\?\nHint: start it as root/,
      ),
    ]);
  });

  it("but may ask for the plan of a host that a file describes", () => {
    const { code, out, err } = apart(
      '"$W" system facts > /run/facts.json; kill $(sed -n "s/.*(pid \\([0-9]*\\),.*/\\1/p" /run/wherry/wherryd.log); sleep 0.5; rm /run/wherry/*.sock; chmod 644 /run/facts.json; setpriv --reuid 65534 --clear-groups "$W" run --explain --facts /run/facts.json -m 64m --network none busybox true; code=$?; rm /run/facts.json; (exit $code)',
    );
    expect(err).toMatch(/no daemon answers: planned without the image's own settings\n$/);
    expect([code, out]).toEqual([0, expect.stringContaining("fsconfig <new overlay> lowerdir+=<layers of busybox>")]);
    expect(out).toContain("memory");
  });

  it.each([
    [["-H", "unix:///nowhere/x.sock", "run", "busybox"], 125, /^wherry: Cannot connect to the daemon at unix:\/\/\/nowhere\/x\.sock\. Is wherryd running\?/],
    [["-H", "unix:///nowhere/x.sock", "ps"], 1, /^Cannot connect to the daemon at unix:\/\/\/nowhere\/x\.sock\. Is wherryd running\?/],
    [["-H", "nonsense", "run", "busybox"], 1, /unable to parse docker host "nonsense"/],
  ])("another host that does not answer is not replaced: %j", async (argv, expected, message) => {
    const { code, stderr } = await run([wherryPath, ...argv]);
    expect([code, stderr]).toEqual([expected, expect.stringMatching(message)]);
  });
});

describe.skipIf(reason !== undefined)(`the CLI in Node${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-node-cli-"));
  const daemon = new TestDaemon();
  const env = { DOCKER_HOST: daemon.host };
  const call = (args: readonly string[], input?: string | Uint8Array): Promise<Result> =>
    run(["node", cliPath, ...args], { env, ...(input === undefined ? {} : { input }) });

  beforeAll(async () => {
    const archive = busyboxArchive(work);
    await daemon.start();
    await ok(["node", cliPath, "load", "-q", "-i", archive.path], { env });
  });
  afterAll(async () => {
    const left = await daemon.stop();
    rmSync(work, { recursive: true });
    expect(left).toEqual([]);
  });

  it("run: output apart, input, exit codes", async () => {
    expect(await call(["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"])).toEqual({
      code: 3,
      stdout: "out\n",
      stderr: "err\n",
    });
    expect(await call(["run", "-i", "--rm", "--network", "none", "busybox", "cat"], "some input")).toMatchObject({ code: 0, stdout: "some input" });
    expect(await call(["run", "--rm", "--network", "none", "busybox", "nosuch"])).toMatchObject({ code: 127 });
    expect(await call(["run", "--rm", "--network", "none", "busybox", "/etc"])).toMatchObject({ code: 126 });
    expect((await call(["ps", "-aq"])).stdout).toBe("");
  });

  it("run: one line says why it ended, when the code does not; inspect keeps it", async () => {
    const oom = await call(["run", "--name", "hungry", "-m", "24m", "--network", "none", "busybox", "sh", "-c", "exec tail /dev/zero"]);
    expect(oom).toEqual({ code: 137, stdout: "", stderr: "wherry: out of memory: limit 24 MiB, used 24 MiB\n" });
    expect((await call(["inspect", "-f", "{{.State.OOMKilled}} {{.State.Reason}}", "hungry"])).stdout).toBe("true out of memory: limit 24 MiB, used 24 MiB\n");
    await call(["rm", "hungry"]);
    const killing = call(["run", "--rm", "--name", "stubborn", "--network", "none", "busybox", "sleep", "600"]);
    while ((await call(["kill", "stubborn"])).code !== 0) await sleep(100);
    expect(await killing).toEqual({ code: 137, stdout: "", stderr: "wherry: killed by SIGKILL (wherry kill)\n" });
  });

  it("20 MB both ways are byte-exact", async () => {
    const bytes = Buffer.alloc(20_000_000);
    for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE((i * 2654435761) >>> 0, i);
    const sum = createHash("sha256").update(bytes).digest("hex");
    expect(await call(["run", "-i", "--rm", "--network", "none", "busybox", "sha256sum"], bytes)).toMatchObject({ code: 0, stdout: `${sum}  -\n` });
    const file = join(work, "bytes");
    writeFileSync(file, bytes);
    const piped = await run(["sh", "-c", 'node "$0" run --rm --network none --log-driver none -v "$1":/b:ro busybox cat /b | sha256sum', cliPath, file], {
      env,
    });
    expect(piped.stdout).toBe(`${sum}  -\n`);
  });

  it("ends quietly when its reader has gone", async () => {
    await call(["run", "--name", "talker", "--network", "none", "busybox", "sh", "-c", "yes | head -200000"]);
    const { stdout } = await run(["bash", "-c", 'node "$0" logs talker | head -1; echo ${PIPESTATUS[0]}', cliPath], { env });
    expect(stdout).toBe("y\n141\n");
    await call(["rm", "talker"]);
  });

  it("a terminal: its size, Ctrl-C, and the detach keys", async () => {
    const screen = terminal(["node", cliPath, "run", "-it", "--name", "box", "--network", "none", "busybox", "sh"], { rows: 33, columns: 101, env });
    await screen.until(/# /);
    screen.type("stty size\n");
    await screen.until("33 101");
    screen.resize(40, 120);
    screen.type("sleep 0.2; stty size\n");
    await screen.until("40 120");
    screen.type("sleep 100\n");
    await screen.until(/sleep 100/);
    await new Promise((resolve) => setTimeout(resolve, 200));
    screen.type("\u0003");
    screen.type("echo code $?\n");
    await screen.until("code 130");
    screen.type("\u0010\u0011");
    expect(await screen.exited).toBe(0);
    expect((await call(["inspect", "-f", "{{.State.Running}}", "box"])).stdout).toBe("true\n");
    const again = terminal(["node", cliPath, "attach", "box"], { rows: 24, columns: 80, env });
    await again.until(/./).catch(() => undefined);
    again.type("exit 7\n");
    expect(await again.exited).toBe(7);
    await call(["rm", "box"]);
  });

  it("system dial-stdio is the API on standard streams", async () => {
    const { stdout } = await call(["system", "dial-stdio"], "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(stdout).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\nOK$/);
  });
});
