import { describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn } from "./building.ts";
import { httpCall, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { ok, type Result, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-squash: skipped: ${reason}`);

describe.skipIf(reason !== undefined).each(["overlay2", "vfs", "erofs"])(`build --squash with %s${reason ? ` (skipped: ${reason})` : ""}`, (driver) => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-squash-", [new TestDaemon({ args: ["--storage-driver", driver] })]);
  const env = { WHERRY_HOST: daemon.host };
  const wherry = (...args: string[]): Promise<Result> => run([wherryPath, ...args], { env });
  const image = async (name: string) =>
    (await httpCall(daemon.socket, "GET", `/images/${name}/json`)).json<{ Id: string; RootFS: { Layers: string[] }; Config: { Env: string[] } }>();
  const contextOf = contextsIn(work);
  const context = (Dockerfile: string): string => contextOf({ Dockerfile });
  const build = async (dockerfile: string, ...args: string[]) => {
    const built = await wherry("build", "--network", "none", ...args, context(dockerfile));
    expect(built).toMatchObject({ code: 0 });
    return built;
  };

  const base =
    "FROM busybox\nRUN mkdir /kept; echo old >/kept/same-size; echo base >/kept/untouched; echo x >/gone; touch -d @1000000000 /kept/same-size /kept\n";
  // vfs itself does not see a change that neither a size nor a time tells, as docker's does not.
  const later = driver === "vfs" ? 1_000_000_001 : 1_000_000_000;
  const changing = `FROM base\nRUN echo new >/kept/same-size; touch -d @${later} /kept/same-size /kept\nRUN rm /gone; echo 1 >/a; ln /a /b\nRUN rm /a; mkdir /a; echo in >/a/file\nENV SAID=so\nCMD ["true"]\n`;
  const shown = "cd /; cat kept/same-size kept/untouched b a/file; ls gone 2>&1; stat -c %h b";

  test("one layer on the base, which shows the same: also what differs neither in size nor in time", async () => {
    await build(base, "-t", "base");
    await build(changing, "-t", "whole");
    await build(changing, "-t", "squashed", "--squash");
    const look = (name: string) => ok([wherryPath, "run", "--rm", "--network", "none", name, "sh", "-c", shown], { env });
    const whole = await look("whole");
    expect(whole).toContain("new\nbase\n1\nin\n");
    // The second name is in no other layer now.
    expect(await look("squashed")).toBe(whole.replace(/\d+$/, "1"));
    const [below, squashed, full] = await Promise.all([image("base"), image("squashed"), image("whole")]);
    expect(squashed.RootFS.Layers.slice(0, -1)).toEqual(below.RootFS.Layers);
    expect(full.RootFS.Layers).toHaveLength(below.RootFS.Layers.length + 3);
    expect(squashed.Config.Env).toContain("SAID=so");
    // Nothing of the base is in it again.
    const layer = (await ok([wherryPath, "history", "--format", "{{.Size}}", "--human=false", "squashed"], { env })).split("\n")[0];
    expect(Number(layer)).toBeLessThan(100);
  });

  test("from the cache it is the same image, --no-cache makes another; it goes on being built on", async () => {
    const id = async (...args: string[]) => (await wherry("build", "-q", "--network", "none", "--squash", ...args, context(changing))).stdout.trim();
    const first = await id();
    expect(first).toBe((await image("squashed")).Id);
    expect(await id("--no-cache")).not.toBe(first);
    expect((await build("FROM squashed\nRUN cat /a/file\n", "--progress", "plain")).stderr).toMatch(/ in$/m);
  });

  test("with SOURCE_DATE_EPOCH two of them are the same without a cache", async () => {
    const id = async () =>
      (
        await wherry("build", "-q", "--network", "none", "--squash", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", context(changing))
      ).stdout.trim();
    expect(await id()).toBe(await id());
  });

  test("nothing but settings: there is nothing to squash, where dockerd fails", async () => {
    await build("FROM busybox\nENV A=b\n", "--squash", "-t", "settings");
    const [settings, busybox] = await Promise.all([image("settings"), image("busybox")]);
    expect(settings.RootFS.Layers).toEqual(busybox.RootFS.Layers);
    expect(settings.Config.Env).toContain("A=b");
  });

  test("a cache in the image is refused: its steps have no layers", async () => {
    const refused = await wherry("build", "--squash", "--cache-to", "type=inline", context("FROM busybox\nRUN true\n"));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/a squashed image has no layers of its steps/);
  });
});
