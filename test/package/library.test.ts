// The library as a program uses it: the README's program without a daemon, the examples against one, and what holds for both.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestDaemon, whyNot } from "../compat/daemon.ts";
import { cleanEnv, eventually } from "../compat/run.ts";

const root = dirname(dirname(import.meta.dirname));
const work = mkdtempSync(join(tmpdir(), "wherry-library-"));
const reason = whyNot();
if (reason) console.warn(`library: skipped: ${reason}`);

beforeAll(() => {
  mkdirSync(join(work, "node_modules"));
  symlinkSync(root, join(work, "node_modules/wherry"));
  writeFileSync(join(work, "package.json"), JSON.stringify({ type: "module" }));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** What a program prints that imports the package. */
async function program(name: string, code: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  writeFileSync(join(work, name), code);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [name], { cwd: work, timeout: 60_000, env: cleanEnv(env) });
  expect(stderr).toBe("");
  return stdout;
}

/** TypeScript as this Node runs it (`await using` is newer than Node 20). */
async function compiled(source: string): Promise<string> {
  return (await transform(source, { loader: "ts", target: "node20", format: "esm" })).code;
}

test.skipIf(reason !== undefined)("the README's program for Node prints what its container printed", async () => {
  const code = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, "README.md"), "utf8"))?.[1];
  expect(code).toContain("openEngine");
  const own = (code ?? "").replace("/var/lib/mine", join(work, "data")).replace("/run/mine", join(work, "run"));
  expect(await program("use.js", own)).toBe("hi\nexit code 0\n");
});

/** What each example prints. */
const prints: Readonly<Record<string, string>> = {
  "one-command": "{ stdout: 'hello\\n', stderr: 'done\\n', exitCode: 3 }\n",
  service: "200 the page\n0 index.html\n",
  session: "containers in the session: 1\ncontainers behind it: 0\n",
  "build-and-follow": "hello world 0\nhello world 1\nhello world 2\nended by: seen enough\n",
  errors: "not-found\nnot-found\ninvalid\ninvalid\nTimeoutError\n",
};

describe.skipIf(reason !== undefined)("with a daemon", () => {
  const daemon = new TestDaemon();
  const env = { WHERRY_HOST: daemon.host };
  beforeAll(async () => {
    await daemon.start();
    await program("bootstrap.js", 'import { openEngine } from "wherry"; const e = await openEngine(); await e.bootstrap("busybox"); await e.close();', env);
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
  });
  const count = async () => {
    const containers = (await daemon.api("GET", "/containers/json?all=1")).json<unknown[]>().length;
    const volumes = (await daemon.api("GET", "/volumes")).json<{ Volumes: unknown[] | null }>().Volumes?.length ?? 0;
    const networks = (await daemon.api("GET", '/networks?filters={"type":["custom"]}')).json<unknown[]>().length;
    return { containers, volumes, networks };
  };
  const none = { containers: 0, volumes: 0, networks: 0 };

  test("every example prints what it should, and leaves nothing", { timeout: 120_000 }, async () => {
    const names = readdirSync(join(root, "examples")).map((file) => basename(file, ".ts"));
    expect(names.sort()).toEqual(Object.keys(prints).sort());
    for (const name of names) {
      const code = await compiled(readFileSync(join(root, "examples", `${name}.ts`), "utf8"));
      expect(await program(`${name}.js`, code, env), name).toBe(prints[name]);
    }
    expect(await count()).toEqual(none);
  });

  const holder = `import { openEngine } from "wherry";
const session = await (await openEngine()).session();
const volume = await session.volume();
await session.network("held");
await session.run("busybox", { command: ["sleep", "1000"], volumes: { "/d": volume.name }, network: "held" });
console.log("ready");
setInterval(() => undefined, 1000);
`;
  const hold = async () => {
    writeFileSync(join(work, "hold.js"), holder);
    const child = execFile(process.execPath, ["hold.js"], { cwd: work, env: cleanEnv(env) });
    const said = new Promise<void>((resolve) => child.stdout!.once("data", () => resolve()));
    await said;
    expect(await count()).toEqual({ containers: 1, volumes: 1, networks: 1 });
    return child;
  };

  test("what a killed program has made in its session goes away", async () => {
    const child = await hold();
    child.kill("SIGKILL");
    expect(await eventually(count, (left) => left.containers + left.volumes + left.networks === 0)).toEqual(none);
  });

  test("a session outlives its daemon, and ends with its program", async () => {
    const child = await hold();
    await daemon.kill("SIGKILL");
    await daemon.start();
    expect(await count()).toEqual({ containers: 1, volumes: 1, networks: 1 });
    child.kill("SIGKILL");
    expect(await eventually(count, (left) => left.containers + left.volumes + left.networks === 0, 30_000)).toEqual(none);
  });
});
