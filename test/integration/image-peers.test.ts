/**
 * Images that podman, buildah, skopeo and umoci make load here, and what wherry saves loads in all of them: ids and layer digests equal.
 * (dockerd 20.10 is in image-dockerd.test.ts.)
 * @module
 */
import { execFileSync } from "node:child_process";
import { createReadStream, createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { rootLayer, streamOf, tarOf, dockerArchive } from "../fixtures.ts";
import { nativeHelper } from "../suites/native-helper.ts";
import { openStore, type StoreParts } from "./crash-store.ts";

const isRoot = process.getuid?.() === 0;
const missing = ["podman", "buildah", "skopeo", "umoci"].filter((name) => !existsSync(`/usr/bin/${name}`));
for (const name of missing) console.warn(`skipped: images of ${name} (it is not installed: apt-get install ${name})`);
const has = (...names: string[]) => isRoot && !names.some((name) => missing.includes(name));

interface Known {
  readonly id: string;
  readonly diffIds: readonly string[];
}

describe.runIf(isRoot)("images of other tools", () => {
  let root: string;
  let helper: Helper;
  let store: StoreParts;
  let saved: string;
  let ours: Known;

  beforeAll(async () => {
    root = mkdtempSync("/var/tmp/wherry-peers-");
    mkdirSync(join(root, "run"));
    helper = await startHelper({ helperPath: nativeHelper(), execRoot: join(root, "run"), log: () => undefined });
    store = await openStore(join(root, "data"), "overlay2", helper);
    const upper = tarOf([{ name: "etc", type: "dir" }, { name: "etc/.wh.motd" }, { name: "etc/new", data: "n", uid: 7, mode: 0o4711 }]);
    await store.images.load(streamOf(dockerArchive([{ layers: [rootLayer(), upper], tags: ["localhost/peer:1"] }]), 64 * 1024), () => undefined);
    ours = known(await store.images.get("localhost/peer:1"));
    saved = join(root, "saved.tar");
    await pipeline(await store.images.save(["localhost/peer:1"]), createWriteStream(saved));
    writeFileSync(join(root, "policy.json"), JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  });
  afterAll(async () => {
    await store.driver.idle();
    await helper.close();
    rmSync(root, { recursive: true, force: true });
  });

  const run = (...[program = "", ...args]: string[]) => execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], cwd: root });
  const skopeoCopy = (from: string, to: string) => run("skopeo", "--policy", join(root, "policy.json"), "copy", "-q", from, to);
  /** podman's and buildah's own store, away from the machine's. */
  const storage = () => ["--root", join(root, "containers"), "--runroot", join(root, "containers-run"), "--storage-driver", "vfs"];
  const podman = (...args: string[]) => run("podman", ...storage(), ...args);
  const buildah = (...args: string[]) => run("buildah", ...storage(), ...args);
  const known = ({ id, diffIds }: { readonly id: string; readonly diffIds: readonly string[] }): Known => ({ id, diffIds: [...diffIds] });

  /** Loads an archive here: ids by what was loaded. */
  async function loadHere(archive: string): Promise<Known[]> {
    const ids: string[] = [];
    await store.images.load(createReadStream(archive), (event) => {
      if (event.kind === "loaded") ids.push(event.id);
    });
    return Promise.all([...new Set(ids)].map(async (id) => known(await store.images.get(id))));
  }
  async function forget(id: string): Promise<void> {
    await store.images.remove(id, { force: true, prune: true, inUse: () => [] });
  }
  const inspected = (json: string): Known => {
    const [image] = JSON.parse(json) as { Id: string; RootFS: { Layers: string[] } }[];
    return { id: `sha256:${image!.Id.replace(/^sha256:/, "")}`, diffIds: image!.RootFS.Layers };
  };

  it.runIf(has("podman"))("podman loads what we save, both archives of its own load here", async () => {
    podman("load", "-q", "-i", saved);
    expect(inspected(podman("inspect", "--type", "image", "localhost/peer:1"))).toEqual(ours);
    for (const format of ["docker-archive", "oci-archive"]) {
      await forget(ours.id);
      const archive = join(root, `podman-${format}.tar`);
      podman("save", "-q", "--format", format, "-o", archive, "localhost/peer:1");
      const [loaded] = await loadHere(archive);
      expect(loaded?.diffIds, format).toEqual(ours.diffIds);
      // The OCI form has a configuration of its own: podman writes it anew.
      if (format === "docker-archive") expect(loaded).toEqual(ours);
      if (loaded!.id !== ours.id) await forget(loaded!.id);
    }
    await loadHere(saved);
  });

  it.runIf(has("buildah"))("buildah takes what we save, and what it commits on top has the same id here", async () => {
    const base = buildah("pull", "-q", `docker-archive:${saved}`).trim();
    const container = buildah("from", "--pull-never", base).trim();
    buildah("copy", "-q", container, join(root, "policy.json"), "/policy.json");
    const id = `sha256:${buildah("commit", "-q", "--format", "docker", container, "localhost/built:1").trim()}`;
    const archive = join(root, "buildah.tar");
    buildah("push", "-q", "--signature-policy", join(root, "policy.json"), "localhost/built:1", `docker-archive:${archive}:localhost/built:1`);
    const [loaded] = await loadHere(archive);
    expect(loaded?.id).toBe(id);
    expect(loaded?.diffIds.slice(0, 2)).toEqual(ours.diffIds);
    buildah("rm", container);
  });

  it.runIf(has("skopeo"))("skopeo copies from and to our archives; digests stay", async () => {
    skopeoCopy(`docker-archive:${saved}`, `dir:${join(root, "dir")}`);
    const manifest = JSON.parse(readFileSync(join(root, "dir/manifest.json"), "utf8")) as { config: { digest: string } };
    expect(manifest.config.digest).toBe(ours.id);
    for (const [from, to] of [
      [`docker-archive:${saved}`, "docker-archive"],
      [`oci-archive:${saved}`, "oci-archive"],
    ] as const) {
      const archive = join(root, `skopeo-${to}.tar`);
      skopeoCopy(from, `${to}:${archive}:localhost/peer:1`);
      await forget(ours.id);
      expect(await loadHere(archive), to).toEqual([ours]);
    }
  });

  it.runIf(has("umoci", "skopeo"))("umoci unpacks our layout, adds a layer, and the result loads here", async () => {
    const layout = join(root, "layout");
    mkdirSync(layout);
    run("tar", "-xf", saved, "-C", layout);
    const list = run("umoci", "ls", "--layout", layout).trim();
    run("umoci", "unpack", "--image", `${layout}:${list.split("\n")[0]}`, join(root, "bundle"));
    expect(readFileSync(join(root, "bundle/rootfs/etc/new"), "utf8")).toBe("n");
    expect(existsSync(join(root, "bundle/rootfs/etc/motd"))).toBe(false);
    writeFileSync(join(root, "bundle/rootfs/added"), "by umoci");
    run("umoci", "repack", "--image", `${layout}:changed`, join(root, "bundle"));
    const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8")) as { manifests: { annotations?: Record<string, string> }[] };
    index.manifests = index.manifests.filter(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] === "changed");
    writeFileSync(join(layout, "index.json"), JSON.stringify(index));
    run("tar", "-cf", join(root, "umoci.tar"), "-C", layout, "oci-layout", "index.json", "blobs");
    const [loaded] = await loadHere(join(root, "umoci.tar"));
    expect(loaded?.diffIds.slice(0, 2)).toEqual(ours.diffIds);
    expect(loaded?.diffIds).toHaveLength(3);
  });
});
