/** `wherry image import-store`: the images that a real dockerd has stored with its drivers overlay2 and overlay. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TestDaemon, wherryPath, whyNot } from "../compat/daemon.ts";
import { Dockerd } from "../compat/dockerd.ts";
import { ok, run } from "../compat/run.ts";

const reason = whyNot() ?? Dockerd.missing;
const sh = (script: string) => execFileSync("sh", ["-euc", script], { encoding: "utf8", maxBuffer: 1 << 28 });

describe.skipIf(reason !== undefined)(`image import-store${reason === undefined ? "" : ` (skipped: ${reason})`}`, () => {
  let daemon: TestDaemon;
  let work: string;
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env: { WHERRY_HOST: `unix://${daemon.directSocket}` } });
  const takeOver = (directory: string) => run([wherryPath, "image", "import-store", directory], { env: { WHERRY_HOST: `unix://${daemon.directSocket}` } });
  const images = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await wherry("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"))
        .split("\n")
        .filter(Boolean)
        .map((line) => line.split(" ")),
    );
  const clear = async () => {
    await wherry("image", "prune", "-a", "-f");
    expect(await images()).toEqual({});
  };

  beforeAll(async () => {
    daemon = new TestDaemon({ checked: false });
    await daemon.start();
    work = mkdtempSync(join(tmpdir(), "wherry-store-"));
    await wherry("image", "bootstrap", "-q", "busybox");
    const step = async (image: string, script: string, result: string) => {
      await wherry("run", "--name", "made", "--network", "none", image, "sh", "-euc", script);
      await wherry("commit", "made", result);
      await wherry("rm", "made");
    };
    const written =
      "echo new > /new; ln /new /linked; ln -s new /link; mkdir -m 1777 /dir; chown 5:6 /dir; echo deep > /dir/file; chmod 4751 /dir/file; mknod /null c 1 3; mkfifo /fifo; head -c 3000000 /dev/urandom > /large; truncate -s 1000000 /sparse; touch /empty";
    await step("busybox", `rm /etc/group; ${written}; echo more >> /etc/passwd`, "multi:1");
    await step("multi:1", "rm -r /dir; mkdir /dir; echo other > /dir/other; rm /new; echo changed >> /large", "multi:2");
    await wherry("save", "-o", join(work, "images.tar"), "busybox", "multi:1", "multi:2");
    await clear();
  });
  afterAll(async () => {
    await daemon?.stop();
    rmSync(work, { recursive: true, force: true });
  });

  for (const driver of ["overlay2", "overlay"])
    describe(driver, () => {
      let store: string;
      let theirs: Record<string, string>;
      beforeAll(async () => {
        const place = mkdtempSync(join(work, `${driver}-`));
        const dockerd = new Dockerd(place, ["--bridge", "none", "--iptables=false", "--storage-driver", driver]);
        await dockerd.start();
        try {
          const docker = (...args: string[]) => ok(["docker", "-H", dockerd.host, ...args]);
          expect(await docker("info", "-f", "{{.Driver}}")).toBe(driver);
          await docker("load", "-i", join(work, "images.tar"));
          await docker("create", "--name", "changed", "multi:2", "true");
          writeFileSync(join(place, "file"), "by docker");
          await docker("cp", join(place, "file"), "changed:/dir/file");
          await docker("commit", "changed", "child:1");
          await docker("rm", "changed");
          await docker("tag", "multi:1", "localhost:5000/team/multi:also");
          const list = await docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}");
          theirs = Object.fromEntries(list.split("\n").map((line) => line.split(" ")));
        } finally {
          await dockerd.stop();
        }
        store = join(place, "dockerd-data-root");
      });

      afterEach(clear);

      /** Everything below the store: names, kinds, owners, modes, times of change, contents. */
      const fingerprint = () =>
        sh(`cd ${store}; find . -printf '%p %y %U:%G %m %n %T@ %C@ %s %l\\n' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`);

      test("every image has the id, the names and the content that docker has; the store is only read", async () => {
        const before = fingerprint();
        const { code, stdout, stderr } = await takeOver(store);
        expect([code, stderr]).toEqual([0, ""]);
        for (const name of Object.keys(theirs)) expect(stdout).toContain(name);
        expect(stdout).not.toContain("Refused");
        expect(await images()).toEqual(theirs);
        expect(fingerprint()).toBe(before);
        const look = (image: string, script: string) => wherry("run", "--rm", "--network", "none", image, "sh", "-c", script);
        expect(
          await look(
            "multi:1",
            "cat /linked; stat -c '%u:%g %a' /dir /dir/file; stat -c %h /new; readlink /link; test -c /null && test -p /fifo && wc -c < /sparse; ls /etc/group 2>&1 | grep -c No",
          ),
        ).toBe("new\n5:6 1777\n0:0 4751\n2\nnew\n1000000\n1");
        expect(await look("child:1", "cat /dir/file /dir/other; ls /dir; ls /new 2>&1 | grep -c No; tail -n 1 /etc/passwd; tail -c 8 /large")).toBe(
          "by dockerother\nfile\nother\n1\nmore\nchanged",
        );
        expect(await wherry("inspect", "-f", "{{.Parent}}", "child:1")).toBe(theirs["multi:2"]);
        // Once more, there is nothing to do.
        expect((await takeOver(store)).code).toBe(0);
        expect(await images()).toEqual(theirs);
      });

      test("what was changed there is refused with the reason, and its images only", async () => {
        const layers = join(store, "image", driver, "layerdb/sha256");
        // The layer of multi:1.
        const chain =
          readdirSync(layers).find(
            (name) =>
              execFileSync("sh", ["-c", `zcat ${layers}/${name}/tar-split.json.gz | grep -c '"name":"sparse"' || true`], { encoding: "utf8" }).trim() === "1",
          ) ?? "";
        const tree = join(store, driver, readFileSync(join(layers, chain, "cache-id"), "utf8").trim(), driver === "overlay" ? "root" : "diff");
        const undo: (() => void)[] = [];
        const refusedWith = async (why: RegExp) => {
          const { code, stdout, stderr } = await takeOver(store);
          undo.pop()?.();
          expect([code, stderr]).toEqual([1, expect.stringContaining("3 of the images could not be taken over")]);
          expect(stdout).toMatch(/Refused: multi:1, localhost:5000\/team\/multi:also|Refused: localhost:5000\/team\/multi:also, multi:1/);
          expect(stdout).toMatch(why);
          expect(Object.keys(await images())).toEqual(["busybox:latest"]);
          await clear();
        };
        const swap = (path: string, change: (bytes: Buffer) => Buffer | undefined) => {
          const was = readFileSync(path);
          const changed = change(Buffer.from(was));
          if (changed === undefined) rmSync(path);
          else writeFileSync(path, changed);
          undo.push(() => writeFileSync(path, was));
        };
        swap(join(tree, "sparse"), (bytes) => bytes.fill(1, 0, 1));
        await refusedWith(/layer 1 \(sha256:[0-9a-f]{12}\): layer has the digest sha256:[0-9a-f]{64}, expected sha256:/);
        swap(join(tree, "sparse"), (bytes) => bytes.subarray(1));
        await refusedWith(/"sparse" has 999999 bytes in the layer's directory, and had 1000000 in its archive/);
        swap(join(layers, chain, "tar-split.json.gz"), () => undefined);
        await refusedWith(/tar-split\.json\.gz cannot be read: ENOENT/);
        swap(join(layers, chain, "tar-split.json.gz"), (bytes) => bytes.subarray(0, bytes.length - 20));
        await refusedWith(/tar-split\.json\.gz cannot be read: |unexpected end/);
        swap(join(layers, chain, "diff"), () => Buffer.from(`sha256:${"0".repeat(64)}`));
        await refusedWith(/says that the layer is sha256:0{64}, and the image has sha256:/);
      });
    });

  test("a directory that is none is refused", async () => {
    const { code, stderr } = await takeOver(work);
    expect([code, stderr]).toEqual([1, expect.stringContaining("has no image store of docker's that can be taken over: there is no directory image")]);
    const other = mkdtempSync(join(work, "other-"));
    sh(`mkdir -p ${other}/image/btrfs/imagedb`);
    expect((await takeOver(other)).stderr).toContain("of the drivers overlay2 and overlay, it has btrfs");
  });
});
