/**
 * A Debian of debootstrap's, as an archive: both clients show of it here what the docker client shows of it at dockerd 20.10.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { ok, run } from "./run.ts";

const reason = whyNot() ?? Dockerd.missing ?? (hasProgram("debootstrap") ? undefined : "no debootstrap");
if (reason) console.warn(`Debian image: skipped: ${reason}`);

/** What is looked at; no times "ago". */
const looks: readonly (readonly string[])[] = [
  ["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}", "debian"],
  ["history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}", "debian:bookworm"],
  ["inspect", "-f", "{{.Id}} {{.Created}} {{.Architecture}} {{.Os}} {{.Size}} {{json .RepoTags}}", "debian:bookworm"],
  ["inspect", "-f", "{{json .RootFS.Layers}} {{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.Labels}}", "debian:bookworm"],
];

describe.skipIf(reason !== undefined)(`a Debian image${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-debian-"));
  const archive = join(work, "debian.tar");
  const daemon = new TestDaemon();
  const dockerd = new Dockerd(work);
  let unreachable: string | undefined;

  beforeAll(async () => {
    await daemon.start();
    const env = { WHERRY_HOST: daemon.host };
    const made = await run([wherryPath, "image", "bootstrap", "debian:bookworm"], { env, timeoutMs: 240_000 });
    // No package mirror within reach is no failure of ours; whatever else fails is.
    if (made.code !== 0 && /debootstrap/.test(made.stderr)) unreachable = made.stderr.trim();
    else expect(made.code, made.stderr).toBe(0);
    if (unreachable !== undefined) return;
    await ok([wherryPath, "save", "-o", archive, "debian:bookworm"], { env });
    await dockerd.start();
    await ok(["docker", "load", "-i", archive], { env: { DOCKER_HOST: dockerd.host } });
  }, 300_000);

  afterAll(async () => {
    await dockerd.stop();
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  }, 60_000);

  test.each([
    { name: "docker", command: "docker" },
    { name: "wherry", command: wherryPath },
  ])("$name: loads it, shows what dockerd shows, and runs it", async ({ command }) => {
    if (unreachable !== undefined) return void console.warn(`Debian image: skipped: ${unreachable}`);
    const here = { env: { DOCKER_HOST: daemon.host, WHERRY_HOST: daemon.host } };
    await ok([command, "rmi", "debian:bookworm"], here);
    expect((await run([command, "image", "inspect", "debian:bookworm"], here)).code).toBe(1);
    expect(await ok([command, "load", "-i", archive], here)).toContain("Loaded image: debian:bookworm");
    for (const look of looks) {
      const theirs = await ok(["docker", ...look], { env: { DOCKER_HOST: dockerd.host } });
      expect(await ok([command, ...look], here)).toBe(theirs);
    }
    const version = await ok([command, "run", "--rm", "--network", "none", "debian:bookworm", "cat", "/etc/debian_version"], here);
    expect(version).toMatch(/^12\.\d+$/);
  });
});
