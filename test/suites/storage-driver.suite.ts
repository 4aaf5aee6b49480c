/**
 * What every storage driver must do, run for each by storage-driver.test.ts: the driver and the layer store on it, on real files and real mounts.
 * @module
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ChainID, chainIds, digestOf } from "#core/digest.ts";
import { attachedOverlaySteps } from "#linux/attached-overlay.ts";
import { MOUNT_ATTR } from "#linux/flags.ts";
import { filesystemSteps } from "#linux/filesystem-steps.ts";
import type { Helper } from "#linux/helper.ts";
import { layerImageSteps } from "#linux/layer-image.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { LayerStore, RootMount, StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { chunked, collect, pax, tar } from "#unionfs/testing/tar-builder.ts";
import { patience } from "../patience.ts";

/** Drivers whose snapshots are whole trees, with the mount points in them. */
const wholeTrees = new Set(["vfs", "btrfs", "devicemapper", "zfs"]);
/** Names in a driver's directory that are no layers. */
const ownNames = new Set(["l", "trash", "tmp-mnt", "pool"]);

/** What a test machine must give. */
export interface StorageDriverHost {
  readonly helper: () => Helper;
  /** A directory for data roots, once `beforeAll` has run. */
  readonly base: () => string;
  /** Opens the driver in another way than by its name. */
  readonly open?: (root: string) => Promise<StorageDriver>;
  /** `--storage-opt`. */
  readonly options?: readonly string[];
}

/** Mounts a root where a test can look at it; returns the undoing. */
export async function mountRoot(root: RootMount, target: string, helper: Helper): Promise<() => void> {
  mkdirSync(target, { recursive: true });
  if (root.kind === "bind") {
    execFileSync("mount", ["--bind", root.source, target]);
    if (root.readonly) execFileSync("mount", ["-o", "remount,bind,ro", target]);
  } else if (root.kind === "fs") {
    const step = { where: "host", why: "to look at it" } as const;
    await helper.call({
      steps: [...filesystemSteps(root, { fs: 1, out: 0, loops: 2 }, step.why), { op: "move_mount", mnt: 0, dir: NO_SLOT, path: target, ...step }],
    });
  } else if (root.kind === "overlay" && root.images !== undefined) {
    await mountImages(root, target, helper);
  } else if (root.kind === "overlay") {
    const options = [
      `lowerdir=${root.links.join(":")}`,
      ...(root.upper === undefined ? [] : [`upperdir=${root.upper}`, `workdir=${root.work}`]),
      ...root.options,
    ];
    execFileSync("mount", ["-t", "overlay", "overlay", "-o", options.join(","), target], { cwd: root.linkDir });
  } else {
    const step = { where: "host", why: "to look at it" } as const;
    const serve: Step = { op: "fuse", argv: root.argv, path: root.mountpoint, out: 0, ...step };
    await helper.call({ steps: [serve, { op: "move_mount", mnt: 0, dir: NO_SLOT, path: target, ...step }] });
    if (root.readonly) execFileSync("mount", ["-o", "remount,bind,ro", target]);
  }
  return () => execFileSync("umount", [target]);
}

/** mount(8) would make loop devices of the images: the helper mounts them as the engine does. */
async function mountImages(root: Extract<RootMount, { kind: "overlay" }>, target: string, helper: Helper): Promise<void> {
  const step = { where: "host", why: "to look at it" } as const;
  const { images = [], attachAt } = root;
  if (attachAt !== undefined) {
    const steps = attachedOverlaySteps({ ...root, images, attachAt }, 0, 1);
    return helper.call({ steps: [...steps, { op: "move_mount", mnt: 0, dir: NO_SLOT, path: target, ...step }] }).then(() => undefined);
  }
  const set = (key: string, value: string): Step => ({ op: "fsconfig_str", fs: 0, key, value, ...step });
  const options = root.options.map((option): Step => {
    const [key = "", value] = option.split(/=(.*)/s);
    return value === undefined ? { op: "fsconfig_flag", fs: 0, key, ...step } : set(key, value);
  });
  const layers = root.lower.flatMap((directory, i): Step[] => {
    const image = images[i];
    if (image === undefined) return [set("lowerdir+", directory)];
    return [...layerImageSteps(image, { fs: 1, out: 2 + i, loops: 3 + i }, step.why), { op: "fsconfig_fd", fs: 0, key: "lowerdir+", fd: 2 + i, ...step }];
  });
  const writable = root.upper !== undefined ? [set("upperdir", root.upper), set("workdir", root.work ?? "")] : [];
  await helper.call({
    steps: [
      { op: "fsopen", fstype: "overlay", out: 0, ...step },
      ...layers,
      ...writable,
      ...options,
      { op: "fsmount", fs: 0, attrs: writable.length === 0 ? MOUNT_ATTR.RDONLY : 0n, out: 0, ...step },
      { op: "move_mount", mnt: 0, dir: NO_SLOT, path: target, ...step },
    ],
  });
}

export function storageDriverSuite(name: string, host: StorageDriverHost): void {
  let root: string;
  let driver: StorageDriver;
  let store: LayerStore;
  let source: string;
  let undo: (() => void)[] = [];

  let opened = false;
  const open = async () => {
    // An engine that has crashed deletes nothing any more: what this one still does would be done by two at once.
    if (opened) await driver.idle();
    opened = true;
    driver = await (host.open?.(root) ?? openDriver(name, { root, helper: host.helper(), options: host.options ?? [] }));
    store = await openLayerStore({ root, driver, helper: host.helper() });
  };
  beforeAll(() => {
    source = mkdtempSync(join(host.base(), `source-${name}-`));
  });
  afterAll(() => rmSync(source, { recursive: true, force: true }));
  beforeEach(async () => {
    root = mkdtempSync(join(host.base(), `driver-${name}-`));
    opened = false;
    await open();
  });
  afterEach(async () => {
    for (const step of undo.reverse()) step();
    undo = [];
    // Datasets and devices do not go with the directory.
    await driver.sweep(new Set());
    await store.prune(new Set());
    await driver.idle();
    await driver.close?.();
    // By descriptors: the paths in it may be too long for rmSync.
    execFileSync("rm", ["-rf", root]);
  });

  /** The tar that GNU tar makes of what these commands make in an empty directory. */
  function tarOf(script: string, ...options: string[]): Buffer {
    const directory = mkdtempSync(join(source, "tar-"));
    execFileSync("sh", ["-euc", script], { cwd: directory });
    const format = options.some((option) => option.startsWith("--format")) ? [] : ["--format=posix", "--xattrs", "--xattrs-include=*"];
    const tar = execFileSync("tar", ["-c", "--sort=name", "--numeric-owner", ...format, ...options, "."], { cwd: directory, maxBuffer: 1 << 29 });
    rmSync(directory, { recursive: true });
    return tar;
  }
  /** The same with entries named one by one: whiteouts are files that are called so. */
  async function layers(...scripts: string[]): Promise<ChainID> {
    let parent: ChainID | undefined;
    for (const script of scripts) parent = (await store.apply(parent, chunked(tarOf(script), 65_536))).chainId;
    if (parent === undefined) throw new Error("no layers");
    return parent;
  }
  async function mounted(key: string | ChainID): Promise<string> {
    const target = join(root, "mnt", randomBytes(4).toString("hex"));
    undo.push(await mountRoot(await driver.mounts(key), target, host.helper()));
    return target;
  }
  function unmount(): void {
    undo.pop()?.();
  }
  const run = (directory: string, script: string) => execFileSync("sh", ["-euc", script], { cwd: directory, encoding: "utf8" });
  /** Names, kinds, owners, modes, times, links, xattrs and contents below a directory. */
  function describeTree(directory: string): string {
    // 1: a FUSE program counts a directory's links anew, which tar takes for a change.
    const tar = execFileSync(
      "sh",
      ["-c", "tar -c --sort=name --numeric-owner --format=posix --xattrs '--xattrs-include=*' '--xattrs-exclude=trusted.overlay.*' . || test $? = 1"],
      { cwd: directory, maxBuffer: 1 << 29, stdio: ["ignore", "pipe", "ignore"] },
    );
    const listing = execFileSync("sh", ["-c", "tar -tvv --full-time --numeric-owner --xattrs --xattrs-include='*' | tail -n +2"], {
      input: tar,
      encoding: "utf8",
    });
    // Filesystems name a file's attributes in an order of their own.
    const attributes = /(?:^ {2}x:.*\n)+/gm;
    const sorted = listing.replaceAll(attributes, (lines) => `${lines.trimEnd().split("\n").sort().join("\n")}\n`);
    return sorted.replaceAll(/ +/g, " ") + run(directory, "find . -type f | LC_ALL=C sort | xargs -d '\\n' -r sha256sum");
  }
  const changes = async (key: string) => (await store.changes(key)).map(({ kind, path }) => `${{ modify: "C", add: "A", delete: "D" }[kind]} ${path}`);

  describe(`${name}: snapshots`, () => {
    it("an empty one is an empty writable directory that keeps what is written", async () => {
      await driver.prepare("one", undefined);
      const mount = await mounted("one");
      run(mount, "echo hello > file; test $(stat -c %a .) = 755");
      unmount();
      expect(run(await mounted("one"), "cat file")).toBe("hello\n");
      expect(await driver.list()).toEqual({ layers: [], active: ["one"] });
    });

    it("keys are checked, and taken once", async () => {
      await driver.prepare("one", undefined);
      await expect(driver.prepare("one", undefined)).rejects.toMatchObject({ code: "conflict" });
      for (const bad of ["../x", "", "UPPER", "trash", "l", "tmp-x", "a-init", "x".repeat(81), "a/b"])
        await expect(driver.prepare(bad, undefined)).rejects.toMatchObject({ code: "invalid" });
      await expect(driver.prepare("two", digestOf("nothing") as ChainID)).rejects.toMatchObject({ code: "not-found" });
      await expect(driver.mounts("two")).rejects.toMatchObject({ code: "not-found" });
      await driver.remove("one");
      await driver.remove("one");
      expect(await driver.list()).toEqual({ layers: [], active: [] });
      await driver.prepare("one", undefined);
    });

    it("of one chain share its files and do not see each other's writes", async () => {
      const chain = await layers("mkdir d; echo base > d/f; echo other > g");
      await driver.prepare("one", chain);
      await driver.prepare("two", chain);
      const [one, two] = [await mounted("one"), await mounted("two")];
      if (name === "overlay2") expect(statSync(join(one, "d/f"), { bigint: true }).ino).toBe(statSync(join(two, "d/f"), { bigint: true }).ino);
      run(one, "echo mine > d/f; rm g; echo new > n");
      expect(run(two, "cat d/f g; test ! -e n")).toBe("base\nother\n");
    });

    it("a deleted file stays deleted, and a directory may become a file and a directory again", async () => {
      const chain = await layers("mkdir -p d/sub; echo base > d/f; echo x > d/sub/x; echo other > g");
      await driver.prepare("one", chain);
      run(await mounted("one"), "rm g; rm -r d; echo file > d");
      unmount();
      await open();
      run(await mounted("one"), "test ! -e g; test -f d; rm d; mkdir d; touch d/new");
      unmount();
      expect(run(await mounted("one"), "ls d; test ! -e g")).toBe("new\n");
    });

    it("a committed chain can be looked at read-only", async () => {
      const chain = await layers("echo one > a; echo one > b", "echo two > b; touch .wh.a");
      expect(run(await mounted(chain), "ls; cat b; ! touch x 2>/dev/null")).toBe("b\ntwo\n");
      const single = await layers("echo one > a");
      expect(run(await mounted(single), "ls; ! touch x 2>/dev/null")).toBe("a\n");
    });

    it("usage counts files as Docker does, and blocks as du does", async () => {
      await driver.prepare("one", undefined);
      run(await mounted("one"), "head -c 100000 /dev/urandom > f; ln f g; truncate -s 1000000 sparse; ln -s 12345 link");
      const usage = await driver.usage("one");
      expect(usage.bytes).toBe(1_100_005 + (wholeTrees.has(name) ? "/proc/mounts".length : 0));
      // zfs counts blocks when it has written them: some time later.
      if (name !== "zfs") expect(usage.allocatedBytes).toBeGreaterThanOrEqual(98_304);
      expect(usage.allocatedBytes).toBeLessThan(300_000);
      expect(usage.inodes).toBeGreaterThanOrEqual(4);
    });
  });

  describe(`${name}: mount points`, () => {
    it("are there, and no change of the container's", async () => {
      const chain = await layers("mkdir -m 711 etc; chown 5:6 etc; echo image > etc/hosts; touch -d @1000 etc; mkdir -m 700 proc");
      await driver.prepare("one", chain);
      const mount = await mounted("one");
      run(
        mount,
        `test -f .dockerenv; test -d proc; test -d sys; test -d dev/pts; test -d dev/shm; test -f dev/console; test -f etc/resolv.conf; test -f etc/hostname
        test "$(readlink etc/mtab)" = /proc/mounts; test "$(cat etc/hosts)" = image; test "$(stat -c '%a %u %g %Y' etc)" = "711 5 6 1000"; test $(stat -c %a proc) = 700`,
      );
      expect(await changes("one")).toEqual([]);
      run(mount, "echo new > etc/new");
      expect(await changes("one")).toEqual(["C /etc", "A /etc/new"]);
      unmount();
      const committed = (await store.apply(chain, store.diff("one"))).chainId;
      expect(run(await mounted(committed), "find . | LC_ALL=C sort; stat -c '%a %u %g' etc")).toBe(".\n./etc\n./etc/hosts\n./etc/new\n./proc\n711 5 6\n");
    });

    it("follow the image's links, and take the place of what cannot be mounted on", async () => {
      const chain = await layers(
        "mkdir -p usr/etc; ln -s usr/etc etc; ln -s /run/resolv usr/etc/resolv.conf; ln -s ../proc/self/mounts usr/etc/mtab; ln -s /tmp proc; echo file > sys",
      );
      await driver.prepare("one", chain);
      expect(
        run(
          await mounted("one"),
          `readlink etc; test -f usr/etc/resolv.conf -a ! -L usr/etc/resolv.conf; test -f usr/etc/hosts; readlink usr/etc/mtab; test -d proc -a ! -L proc; test -d sys`,
        ),
      ).toBe("usr/etc\n../proc/self/mounts\n");
      expect(await changes("one")).toEqual([]);
    });

    it("are on nothing, too", async () => {
      await driver.prepare("one", undefined);
      run(await mounted("one"), "test -d proc -a -f etc/hosts; echo x > etc/x");
      expect((await changes("one")).slice(-1)).toEqual(["A /etc/x"]);
    });
  });

  describe(`${name}: layers`, () => {
    it("are unpacked as GNU tar does, with everything that belongs to a file", async () => {
      const script = `
        mkdir -m 2775 d; chown 10:20 d; echo a > d/f; chmod 4755 d/f; chown 11:21 d/f; ln d/f d/hard; ln -s ../nowhere d/link; chown -h 7:8 d/link; mkfifo -m 600 d/fifo
        mknod -m 640 d/null c 1 3; mknod d/blk b 7 200; python3 -c "
import os, base64
os.setxattr('d/f', 'user.test', b'value'); os.setxattr('d', 'trusted.test', b'a\\0b')
os.setxattr('d/f', 'security.capability', base64.b64decode('AQAAAgAgAAAAAAAAAAAAAAAAAAA='))"
        head -c 300000 /dev/urandom > big; touch -d '2001-02-03 04:05:06.123456789' big d/f d/fifo; touch -h -d '2001-01-01 00:00:00.5' d/link; mkdir -m 1777 tmp; touch -d @1.000000001 d
        name=$(printf 'bytes-\\377\\376'); echo x > "$name"; long=$(printf 'n%.0s' $(seq 1 200)); mkdir -p "$long/$long/$long"; echo deep > "$long/$long/$long/$long"`;
      const tar = tarOf(script);
      const { chainId, diffId, size } = await store.apply(undefined, chunked(tar, 7777));
      expect(diffId).toBe(digestOf(tar));
      expect(chainId).toBe(diffId);
      expect(await store.size(chainId)).toBe(size);
      const gnu = mkdtempSync(join(source, "gnu-"));
      execFileSync("tar", ["-x", "--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "-C", gnu], { input: tar });
      const mount = await mounted(chainId);
      expect(describeTree(mount)).toBe(describeTree(gnu));
      expect(
        run(
          mount,
          `python3 -c "import os; print(sorted((k, os.getxattr('d/f', k)) for k in os.listxattr('d/f')), os.getxattr('d', 'trusted.test'), os.stat('d/f').st_nlink)"`,
        ),
      ).toBe(
        "[('security.capability', b'\\x01\\x00\\x00\\x02\\x00 \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'), ('user.test', b'value')] b'a\\x00b' 2\n",
      );
      rmSync(gnu, { recursive: true });
      expect((await driver.usage(chainId)).bytes).toBe(size);
    });

    it("keep the holes of sparse files, in every form that they are archived in", async () => {
      const script = "truncate -s 40M s; printf begin | dd of=s conv=notrunc 2>/dev/null; printf middle | dd of=s conv=notrunc bs=1M seek=20 2>/dev/null";
      // EROFS counts no blocks, but knows where the holes are; it tells since Linux 6.15.
      const [major = 0, minor = 0] = release().split(".").map(Number);
      const tellsHoles = major > 6 || (major === 6 && minor >= 15);
      const allocated =
        name === "erofs"
          ? tellsHoles
            ? `python3 -c "import os; f = os.open('s', os.O_RDONLY); assert os.lseek(f, 1 << 20, os.SEEK_DATA) >= 19 << 20; assert os.lseek(f, 0, os.SEEK_HOLE) < 1 << 20"`
            : "true"
          : "test $(stat -c %b s) -lt 2000";
      for (const options of [["--format=gnu"], ["--sparse-version=0.0"], ["--sparse-version=0.1"], ["--sparse-version=1.0"]]) {
        const tar = tarOf(script, "-S", ...options);
        const { chainId } = await store.apply(undefined, chunked(tar, 10_000));
        const mount = await mounted(chainId);
        expect(run(mount, `stat -c %s s; ${allocated}; head -c 5 s; tail -c +20971521 s | head -c 6`)).toBe("41943040\nbeginmiddle");
        unmount();
        expect((await collect(await store.tar(chainId))).equals(tar)).toBe(true);
      }
    });

    it("come back byte for byte, whoever made their archive", async () => {
      const script = "mkdir -p a/b; echo x > a/b/c; ln a/b/c a/h; ln -s h a/l; head -c 100000 /dev/urandom > r; touch empty; mkfifo f";
      for (const options of [["--format=gnu"], ["--format=v7"], ["--format=ustar"], ["--format=posix", "-b", "1"], ["--format=gnu", "-b", "200"]]) {
        const tar = tarOf(options.includes("--format=v7") ? script.replace("; mkfifo f", "") : script, ...options);
        const { chainId } = await store.apply(undefined, chunked(tar, 5000));
        expect((await collect(await store.tar(chainId))).equals(tar)).toBe(true);
      }
      const twice = Buffer.concat([tarOf("echo first > f", "-b1").subarray(0, -1024), tarOf("echo second > f", "-b1")]);
      const { chainId } = await store.apply(undefined, chunked(twice));
      expect(run(await mounted(chainId), "cat f")).toBe("second\n");
      unmount();
      await open();
      expect((await collect(await store.tar(chainId))).equals(twice)).toBe(true);
    });

    it("may have paths as long as the system's limit", async () => {
      const path = `${"d".repeat(200)}/`.repeat(20);
      const deep = (length: number) => `${path}${"f".repeat(length - path.length)}`;
      const archive = tar(
        pax({ path: deep(4095) }),
        { name: "x", data: "first" },
        pax({ path: deep(4095) }),
        { name: "x", data: "second" },
        pax({ path: deep(4090) }),
        { name: "x", data: "third" },
      );
      const { chainId } = await store.apply(undefined, chunked(archive));
      expect((await collect(await store.tar(chainId))).equals(archive)).toBe(true);
      await driver.prepare("one", chainId);
      const exported = await collect(store.exportTree("one"));
      expect(execFileSync("tar", ["-t"], { input: exported, encoding: "utf8" })).toContain(`${deep(4095)}\n`);
      expect(execFileSync("tar", ["-xO", deep(4095)], { input: exported, encoding: "utf8" })).toBe("second");
      await expect(store.apply(undefined, chunked(tar(pax({ path: `${deep(4095)}f` }), { name: "x" })))).rejects.toMatchObject({ code: "corrupt" });
    });

    it("delete, hide and replace what is below", async () => {
      const chain = await layers(
        "mkdir -p d/sub e k; echo 1 > d/a; echo 1 > d/b; echo 1 > d/sub/x; echo 1 > e/old; echo 1 > f; echo 1 > g; echo 1 > k/x; ln -s d l",
        "mkdir d e k; touch d/.wh.a .wh.f; touch e/.wh..wh..opq; echo 2 > e/new; mkdir g; echo 2 > g/in; echo 2 > k/y; mkdir l; echo 2 > l/real",
        "mkdir e; echo 3 > f; touch e/.wh.new .wh.k; mkdir k; echo 3 > k/z",
      );
      expect(run(await mounted(chain), "find . -type f | LC_ALL=C sort | xargs grep -H .; test -d l -a ! -L l; ls e | wc -l")).toBe(
        "./d/b:1\n./d/sub/x:1\n./f:3\n./g/in:2\n./k/z:3\n./l/real:2\n0\n",
      );
    });

    it("that exist are only read, and still checked", async () => {
      const tar = tarOf("echo x > f");
      const { chainId, diffId } = await store.apply(undefined, chunked(tar));
      expect(await store.apply(undefined, chunked(tar), { expected: diffId })).toMatchObject({ chainId, diffId });
      await expect(store.apply(undefined, chunked(tar.subarray(0, 1000)), { expected: diffId })).rejects.toMatchObject({ code: "corrupt" });
      expect(await driver.list()).toEqual({ layers: [chainId], active: [] });
    });

    it("of the same archive, unpacked at the same time, are one", async () => {
      const tar = tarOf("mkdir d; for i in $(seq 1 200); do echo $i > d/$i; done");
      const results = await Promise.all(Array.from({ length: 4 }, () => store.apply(undefined, chunked(tar, 3000))));
      expect(new Set(results.map(({ chainId }) => chainId)).size).toBe(1);
      expect(await driver.list()).toEqual({ layers: [results[0]!.chainId], active: [] });
      expect((await collect(await store.tar(results[0]!.chainId))).equals(tar)).toBe(true);
    });

    it("are brought to disk while some of them are removed", async () => {
      for (let round = 0; round < 4; round++) {
        const chains: ChainID[] = [];
        for (let i = 0; i < 6; i++) chains.push((await store.apply(undefined, chunked(tarOf(`echo ${round} ${i} > f`)))).chainId);
        const kept = chains[round]!;
        // Whoever brings an image to disk does not hear of the layers of another that goes.
        await Promise.all([store.sync(), store.prune(new Set([kept])), store.sync()]);
        expect((await driver.list()).layers).toEqual([kept]);
        await open();
        expect(await store.has(kept)).toBe(true);
      }
    });

    it("of one image, unpacked at the same time, are what they are one after the other", async () => {
      const tars = [
        tarOf("mkdir -m 700 -p d e/x; chown 3:4 d; echo 1 > d/a; echo 1 > d/b; echo 1 > e/x/old; echo 1 > f"),
        tarOf("mkdir d e; touch d/.wh.a d/.wh.nothing e/.wh..wh..opq; echo 2 > e/new; echo 2 > f"),
        // Its parents are only implied: they look as they do below.
        tar({ name: "d/in", data: "3" }, { name: ".wh.f" }),
        tarOf("mkdir e; echo 4 > e/.wh.new; echo 4 > f"),
      ];
      const chains = chainIds(tars.map(digestOf));
      for (const [i, layer] of tars.entries()) await store.apply(chains[i - 1], chunked(layer));
      const look = async () => `${describeTree(await mounted(chains.at(-1)!))}\n${describeTree(await mounted(chains[2]!))}`;
      const expected = await look();
      unmount();
      unmount();
      await store.prune(new Set());
      async function* slow(layer: Buffer, ms: number) {
        for await (const piece of chunked(layer, 700)) {
          await sleep(ms);
          yield piece;
        }
      }
      const applyAll = (layers: readonly Buffer[]) => {
        let below: Promise<unknown> = Promise.resolve();
        // The lowest takes longest.
        return layers.map((layer, i) => (below = store.apply(chains[i - 1], slow(layer, layers.length - i), { expected: digestOf(tars[i]!), below })));
      };
      const hold = store.hold();
      await Promise.all(applyAll(tars));
      hold.release();
      expect(await look()).toBe(expected);
      for (const [i, chain] of chains.entries()) expect((await collect(await store.tar(chain))).equals(tars[i]!)).toBe(true);
      unmount();
      unmount();
      await store.prune(new Set());
      const failed = await Promise.allSettled(applyAll([tars[0]!, tars[1]!.subarray(0, 1000), tars[2]!, tars[3]!]));
      expect(failed.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected", "rejected"]);
      for (const result of failed.slice(1)) expect(result).toMatchObject({ reason: { code: "corrupt", message: expect.stringContaining("truncated") } });
      expect(await driver.list()).toEqual({ layers: [chains[0]], active: [] });
    });

    it("that are truncated, anywhere, or not what was expected, leave nothing", async () => {
      const tar = tarOf("mkdir d; echo hello > d/f; head -c 3000 /dev/urandom > r; ln -s d l", "-b1");
      for (let length = 0; length < tar.length; length += 512) {
        await expect(store.apply(undefined, chunked(tar.subarray(0, length), 1024))).rejects.toMatchObject({ code: "corrupt" });
        await expect(store.apply(undefined, chunked(tar.subarray(0, length), 1024), { expected: digestOf(tar) })).rejects.toMatchObject({ code: "corrupt" });
      }
      await expect(store.apply(undefined, chunked(tar), { expected: digestOf("other") })).rejects.toMatchObject({ code: "corrupt" });
      async function* failing() {
        yield tar.subarray(0, 2000);
        throw new Error("connection lost");
      }
      await expect(store.apply(undefined, failing())).rejects.toThrow("connection lost");
      await driver.idle();
      expect(await driver.list()).toEqual({ layers: [], active: [] });
      expect(readdirSync(join(root, name)).filter((entry) => !ownNames.has(entry))).toEqual([]);
      expect(readdirSync(join(root, name, "trash"))).toEqual([]);
      expect(readdirSync(join(root, "layerdb", name))).toEqual([]);
    });

    it("deep down: 120 of them", async () => {
      let parent: ChainID | undefined;
      const diffs: ReturnType<typeof digestOf>[] = [];
      // Whole trees below each other take their time: where each is a device or dataset, and the machine emulated, fewer say the same.
      const depth = name === "vfs" ? 12 : patience > 1 && wholeTrees.has(name) ? 30 : 120;
      for (let i = 0; i < depth; i++) {
        const tar = tarOf(`mkdir d; echo ${i} > d/${i}; echo ${i} > top`);
        diffs.push(digestOf(tar));
        parent = (await store.apply(parent, chunked(tar))).chainId;
      }
      expect(parent).toBe(chainIds(diffs).at(-1));
      await driver.prepare("one", parent);
      expect(run(await mounted("one"), "cat top; ls d | wc -l")).toBe(`${diffs.length - 1}\n${diffs.length}\n`);
    });
  });

  describe(`${name}: changes`, () => {
    const base =
      "mkdir -p etc d/sub e/x usr/bin; echo root > etc/passwd; echo 1 > d/a; echo 1 > d/sub/y; echo 1 > e/x/z; echo 1 > usr/bin/tool; ln usr/bin/tool usr/bin/same; ln -s d link; mkdir gone; echo 1 > gone/x; mkdir t; echo f > u";
    const work = `
      echo 2 > d/a; rm -r d/sub; mkdir d/sub; echo new > d/sub/n; rm -r gone; chmod 600 etc/passwd; echo new > new; mkdir -m 700 newdir; chown 3:4 newdir; ln new newdir/hard; ln -s x newdir/sym
      mkfifo newdir/fifo; rm link; echo now a file > link; rmdir t; ln -s e t; rm u; mkdir u; echo in > u/in; python3 -c 'import os; os.setxattr("new", "user.k", b"v")'; touch -d '2005-05-05 05:05:05.5' new; rm usr/bin/same; mv usr/bin/tool usr/bin/moved`;

    /** zfs-fuse keeps whole seconds: what has the size and the second of before counts as unchanged. */
    const anotherSecond = () => (name === "zfs" ? sleep(1100) : Promise.resolve());

    it("are listed as docker diff lists them", async () => {
      await driver.prepare("one", await layers(base));
      await anotherSecond();
      run(await mounted("one"), work);
      expect(await changes("one")).toEqual([
        "C /d",
        "C /d/a",
        "C /d/sub",
        "A /d/sub/n",
        "D /d/sub/y",
        "C /etc",
        "C /etc/passwd",
        "D /gone",
        "C /link",
        "A /new",
        "A /newdir",
        "A /newdir/fifo",
        "A /newdir/hard",
        "A /newdir/sym",
        "C /t",
        "C /u",
        "A /u/in",
        "C /usr",
        "C /usr/bin",
        "A /usr/bin/moved",
        "D /usr/bin/same",
        "D /usr/bin/tool",
      ]);
    });

    it("committed as a layer give the same tree, and the same bytes each time", async () => {
      const chain = await layers(base);
      await driver.prepare("one", chain);
      const before = await mounted("one");
      await anotherSecond();
      run(before, work);
      const diff = await collect(store.diff("one"));
      expect((await collect(store.diff("one"))).equals(diff)).toBe(true);
      const { chainId } = await store.apply(chain, chunked(diff, 1000));
      const expected = describeTree(before);
      await driver.prepare("two", chainId);
      expect(describeTree(await mounted("two"))).toBe(expected);
      expect(await changes("two")).toEqual([]);
      expect((await collect(await store.tar(chainId))).equals(diff)).toBe(true);
    });

    it("become a layer at once: the same one, whether the snapshot is kept or given up", async () => {
      const chain = await layers(base);
      await driver.prepare("one", chain);
      await anotherSecond();
      run(await mounted("one"), work);
      unmount();
      const [diff, listed] = [await collect(store.diff("one")), await changes("one")];
      const applied = await store.apply(chain, chunked(diff));
      const expected = describeTree(await mounted(applied.chainId));
      unmount();
      await store.prune(new Set([chain]));
      for (const keep of [true, false]) {
        expect(await store.commit("one", chain, { keep })).toEqual(applied);
        expect(describeTree(await mounted(applied.chainId))).toBe(expected);
        unmount();
        expect((await collect(await store.tar(applied.chainId))).equals(diff)).toBe(true);
        expect((await driver.list()).active).toEqual(keep ? ["one"] : []);
        if (keep) expect(await changes("one")).toEqual(listed);
        // On it, another one is as on any layer.
        await driver.prepare("two", applied.chainId);
        await anotherSecond();
        run(await mounted("two"), "echo 3 > d/a; rm -r u newdir; cat link");
        unmount();
        expect(await changes("two")).toEqual(["C /d", "C /d/a", "D /newdir", "D /u"]);
        await driver.remove("two");
        await store.prune(new Set([chain]));
      }
      await driver.idle();
      expect(readdirSync(join(root, "layerdb", name))).toHaveLength(1);
    });

    it("given up, too, make a layer of no more than their archive holds", async () => {
      const chain = await layers("mkdir d");
      await driver.prepare("one", chain);
      await anotherSecond();
      run(
        await mounted("one"),
        `python3 -c 'import os, socket; socket.socket(socket.AF_UNIX).bind("d/socket"); open("d/file", "w"); os.setxattr("d/file", "trusted.own", b"v")'`,
      );
      unmount();
      const { chainId } = await store.commit("one", chain, { keep: false });
      expect(run(await mounted(chainId), "ls d; python3 -c 'import os; print(os.listxattr(\"d/file\"))'")).toBe("file\n[]\n");
      expect((await driver.list()).active).toEqual([]);
    });

    it("the whole tree is exported as it is seen", async () => {
      const chain = await layers(base, "mkdir d e; touch d/.wh.a e/.wh..wh..opq; echo top > top");
      await driver.prepare("one", chain);
      const mount = await mounted("one");
      run(mount, "rm -r d/sub; echo w > written; mkdir e/new");
      const out = mkdtempSync(join(source, "export-"));
      execFileSync("tar", ["-x", "--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "-C", out], {
        input: await collect(store.exportTree("one")),
      });
      expect(describeTree(out)).toBe(describeTree(mount));
      rmSync(out, { recursive: true });
    });
  });

  describe(`${name}: private copies with the ids of a user namespace`, () => {
    const line = (hostID: number, size = 1000) => [{ containerID: 0, hostID, size }];
    const owners = { uids: line(200_000), gids: line(300_000) };
    const capability = `python3 -c 'import os; os.setxattr("d/f", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))'`;
    const base = `mkdir d; echo one > d/f; ln d/f g; chown 5:6 d/f; chmod 751 d/f; ${capability}; chown 7:8 d; ln -s d/f link; chown -h 9:9 link; truncate -s 1M sparse; mkfifo -m 600 fifo; echo gone > gone`;

    it("have the host's ids on disk and the container's for whoever asks; layers stay as they are", async () => {
      const lower = await store.apply(undefined, chunked(tarOf(base, "--sparse")));
      const { chainId: chain } = await store.apply(lower.chainId, chunked(tarOf("echo two > top; touch .wh.gone")));
      const layersBefore = describeTree(await mounted(chain));
      unmount();
      await driver.prepare("plain", chain);
      const seen = describeTree(await mounted("plain"));
      await driver.prepare("copy", chain, { owners });
      await open();
      const mount = await mounted("copy");
      const ids = (...paths: string[]) =>
        run(mount, `stat -c %u:%g ${paths.join(" ")}`)
          .trim()
          .split("\n");
      expect(ids("d/f", "g", "d", "link", "top", ".")).toEqual([
        "200005:300006",
        "200005:300006",
        "200007:300008",
        "200009:300009",
        "200000:300000",
        "200000:300000",
      ]);
      expect(run(mount, "stat -c '%a %h' d/f; ls; python3 -c 'import os; print(os.getxattr(\"d/f\", \"security.capability\").hex()[-8:])'")).toContain(
        "400d0300",
      );
      expect(statSync(join(mount, "sparse")).blocks * 512).toBeLessThan(1 << 20);
      expect(await changes("copy")).toEqual([]);
      const out = mkdtempSync(join(source, "export-"));
      execFileSync("tar", ["-x", "--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "-C", out], {
        input: await collect(store.exportTree("copy")),
      });
      expect(describeTree(out)).toBe(seen);
      rmSync(out, { recursive: true });

      run(mount, "echo mine > own; chown 200011:300012 own; rm top; chown 200003 link -h; mkdir d/new; chown 200000:300000 d/new");
      const changed = ["C /d", "A /d/new", "C /link", "A /own", "D /top"];
      expect(await changes("copy")).toEqual(changed);
      unmount();
      const committed = await store.commit("copy", chain, { keep: true });
      expect(committed.size).toBeLessThan(100);
      expect(run(await mounted(committed.chainId), "stat -c %u:%g own link d d/new d/f; ! ls top 2>/dev/null")).toBe("11:12\n3:9\n7:8\n0:0\n5:6\n");
      unmount();
      unmount();
      expect(describeTree(await mounted(chain))).toBe(layersBefore);
    });

    it("on nothing, and of an owner that the namespace does not have", async () => {
      await driver.prepare("empty", undefined, { owners });
      expect(run(await mounted("empty"), "stat -c %u:%g . dev; touch x")).toBe("200000:300000\n200000:300000\n");
      expect(await changes("empty")).toEqual(["A /x"]);
      const chain = await layers(base);
      await expect(driver.prepare("narrow", chain, { owners: { ...owners, uids: line(200_000, 7) } })).rejects.toMatchObject({
        code: "invalid",
        message: expect.stringMatching(/uid [79] is not in the container's user namespace/),
      });
      expect((await driver.list()).active).toEqual(["empty"]);
    });
  });

  describe(`${name}: removal and crashes`, () => {
    it("a layer that something lies on is not removed", async () => {
      const chain = await layers("echo 1 > a", "echo 2 > b");
      const parent = await driver.parent(chain);
      expect(parent).toBeDefined();
      await expect(driver.remove(parent!)).rejects.toMatchObject({ code: "conflict" });
      await driver.prepare("one", chain);
      await expect(driver.remove(chain)).rejects.toMatchObject({ code: "conflict" });
      expect(await store.prune(new Set())).toBe(0);
      await driver.remove("one");
      expect(await store.prune(new Set([chain]))).toBe(0);
      expect(await store.prune(new Set([parent!]))).toBe(2);
      expect(await driver.list()).toEqual({ layers: [parent], active: [] });
      expect(await store.has(chain)).toBe(false);
      expect(await store.prune(new Set())).toBe(2);
      await driver.idle();
      expect(readdirSync(join(root, name)).filter((entry) => !ownNames.has(entry))).toEqual([]);
      expect(readdirSync(join(root, "layerdb", name))).toEqual([]);
    });

    it("prune spares what was applied while it is held", async () => {
      const hold = store.hold();
      const chain = await layers("echo 1 > a", "echo 2 > b");
      expect(await store.prune(new Set())).toBe(0);
      expect(await store.has(chain)).toBe(true);
      hold.release();
      expect(await store.prune(new Set())).toBe(4);
    });

    it("trees too deep for a path are removed", async () => {
      await driver.prepare("one", undefined);
      run(
        await mounted("one"),
        `python3 -c "
import os
for i in range(${name === "fuse-overlayfs" || name === "aufs" ? 15 : 60}): # its own paths are bounded
    os.mkdir('d'*200); os.chdir('d'*200)
"`,
      );
      unmount();
      await driver.remove("one");
      await driver.idle();
      expect(readdirSync(join(root, name, "trash"))).toEqual([]);
    });

    it("everything is there after a restart, and sweep removes what nobody names", async () => {
      const chain = await layers("echo 1 > a", "echo 2 > b");
      await driver.prepare("kept", chain);
      await driver.prepare("unknown", chain);
      run(await mounted("kept"), "echo w > written");
      unmount();
      await driver.mounts("unknown");
      for (const left of ["tmp-left", "half-made", "f".repeat(64)]) {
        mkdirSync(join(root, name, left, "diff"), { recursive: true });
        writeFileSync(join(root, name, left, "diff/x"), "x");
      }
      mkdirSync(join(root, "layerdb", name, "tmp-left"));
      // What the small files say is once more in an index, which need not be there.
      await store.sync();
      await open();
      rmSync(join(root, "layerdb", `${name}.layers`));
      rmSync(join(root, "layerdb", `${name}.records`));
      await open();
      await driver.sweep(new Set(["kept"]));
      await driver.idle();
      expect(await driver.list()).toEqual({ layers: [await driver.parent(chain), chain].sort(), active: ["kept"] });
      expect(existsSync(join(root, name, "half-made"))).toBe(false);
      expect(existsSync(join(root, name, "tmp-left"))).toBe(false);
      expect(readdirSync(join(root, name, "trash"))).toEqual([]);
      expect(readdirSync(join(root, "layerdb", name)).length).toBe(2);
      expect(run(await mounted("kept"), "cat a b written")).toBe("1\n2\nw\n");
    });

    it("a sweep leaves alone what is being made meanwhile", async () => {
      const chains = [await layers("echo 1 > a"), await layers("echo 2 > a"), await layers("echo 3 > a")];
      await open();
      let sweeping = true;
      const sweeps = (async () => {
        while (sweeping) await driver.sweep(new Set(chains.map((_, i) => `made-${i}`)));
      })();
      const first = async (chain: ChainID, i: number) => {
        await driver.prepare(`made-${i}`, chain);
        await driver.mounts(`made-${i}`);
      };
      // A driver may try something out to answer.
      const asking = (async () => {
        while (sweeping) await Promise.all([driver.status(), new Promise((resolve) => setImmediate(resolve))]);
      })();
      await Promise.all(chains.map(first)).finally(() => (sweeping = false));
      await asking;
      await sweeps;
      for (const i of chains.keys()) {
        expect(run(await mounted(`made-${i}`), "cat a")).toBe(`${i + 1}\n`);
        unmount();
      }
    });

    it("a layer that was unpacked but not recorded, or the other way round, goes at the next start", async () => {
      const chain = await layers("echo 1 > a", "echo 2 > b");
      const parent = await driver.parent(chain);
      rmSync(join(root, "layerdb", name, chain.slice(7)), { recursive: true });
      await open();
      expect(await store.has(chain)).toBe(false);
      expect(await driver.list()).toEqual({ layers: [parent], active: [] });
      await driver.remove(parent!);
      await open();
      expect(await store.has(parent!)).toBe(false);
      expect(readdirSync(join(root, "layerdb", name))).toEqual([]);
    });

    it("after a crash of the machine, layers that were not synced are gone, and synced ones are there", async () => {
      const parent = await layers("echo 1 > a");
      await store.sync();
      const child = (await store.apply(parent, chunked(tarOf("echo 2 > b")))).chainId;
      const other = await layers("echo 3 > c");
      await open();
      expect(await driver.list()).toEqual({ layers: [parent, child, other].sort(), active: [] });
      for (const chain of [parent, child, other]) {
        const path = join(root, "layerdb", name, chain.slice(7), "layer.json");
        writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), boot: "an earlier one" }));
      }
      // Of this one the machine has not even kept what the driver needs.
      writeFileSync(join(root, name, other.slice(7), "layer.json"), "");
      await open();
      expect(await store.has(parent)).toBe(true);
      expect(await driver.list()).toEqual({ layers: [parent], active: [] });
      await driver.sweep(new Set());
      await driver.idle();
      expect(readdirSync(join(root, name)).filter((entry) => /^[0-9a-f]{64}$/.test(entry))).toEqual([parent.slice(7)]);
      expect(readdirSync(join(root, "layerdb", name))).toEqual([parent.slice(7)]);
      const again = (await store.apply(parent, chunked(tarOf("echo 2 > b")))).chainId;
      await store.sync();
      await store.sync();
      expect(run(await mounted(again), "cat a b")).toBe("1\n2\n");
    });

    it("status and capabilities are told", async () => {
      for (const [key, value] of await driver.status()) expect(`${key}: ${value}`).toMatch(/^[A-Z][A-Za-z_ ]+: .+|^userxattr: false$|^Btrfs: $/);
      expect(driver.name).toBe(name);
      expect(readFileSync("/proc/filesystems", "utf8")).toContain("overlay");
    });
  });
}
