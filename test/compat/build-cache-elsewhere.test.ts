/**
 * Caches that leave one engine and answer another's builds (root): by a registry, a directory, an image. Two engines with roots of their own; what must not be answered; what a damaged cache does.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn, putFiles } from "./building.ts";
import { TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { DockerRegistry } from "./registry.ts";
import { ok, type Result, run } from "./run.ts";

const reason = whyNot() ?? DockerRegistry.missing;
if (reason) console.warn(`build-cache-elsewhere: skipped: ${reason}`);

const secretText = "a-secret-that-nobody-reads";
const argumentText = "an-argument-that-nobody-reads";

describe.skipIf(reason !== undefined)(`build caches elsewhere${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const { work, engines } = enginesToBuildOn("wt-bcache2-", [new TestDaemon(), new TestDaemon()]);
  let registry: DockerRegistry;

  const wherry = (engine: TestDaemon, ...args: string[]): Promise<Result> =>
    run([wherryPath, ...args], { env: { WHERRY_HOST: engine.host, TOKEN: secretText } });

  beforeAll(async () => {
    registry = await DockerRegistry.start(join(work, "registry"));
  });

  afterAll(() => registry.stop());

  const context = contextsIn(work);
  let caches = 0;
  const put = (folder: string, name: string, content: string) => putFiles(folder, { [name]: content });

  /** An OCI layout with one manifest without layers, whose config is this. */
  const layout = (config: object, configType: string): string => {
    const folder = mkdtempSync(join(work, "layout-"));
    const blob = (value: object) => {
      const bytes = Buffer.from(JSON.stringify(value));
      const hex = createHash("sha256").update(bytes).digest("hex");
      put(folder, `blobs/sha256/${hex}`, bytes.toString());
      return { digest: `sha256:${hex}`, size: bytes.length };
    };
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const manifest = blob({ schemaVersion: 2, mediaType, config: { mediaType: configType, ...blob(config) }, layers: [] });
    put(
      folder,
      "index.json",
      JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, ...manifest, annotations: { "org.opencontainers.image.ref.name": "latest" } }] }),
    );
    return folder;
  };

  interface Built {
    /** Of each step that does something to the root: where its answer came from, or why there was none. */
    readonly steps: string[];
    readonly id: string;
    readonly stderr: string;
  }
  const build = async (engine: TestDaemon, folder: string, ...args: string[]): Promise<Built> => {
    const iid = join(work, "iid");
    const result = await wherry(engine, "build", "--progress", "plain", "--explain-cache", "--iidfile", iid, ...args, folder);
    if (result.code !== 0) throw new Error(result.stderr);
    const steps = new Map<string, string>();
    for (const [, number, what] of result.stderr.matchAll(/^#(\d+) (\[.*\] (?:RUN|COPY|ADD|WORKDIR).*|cached: .*|not cached: .*)$/gm)) {
      if (what!.startsWith("[")) steps.set(number!, "?");
      else if (steps.has(number!))
        steps.set(
          number!,
          what!
            .replace(/^cached: by the cache of this engine$/, "hit")
            .replace(/^cached: /, "")
            .replace("not cached: ", ""),
        );
    }
    return { steps: [...steps].sort(([a], [b]) => Number(a) - Number(b)).map(([, outcome]) => outcome), id: readFileSync(iid, "utf8"), stderr: result.stderr };
  };
  /** As a machine that has never built anything. */
  const forget = (engine: TestDaemon) =>
    wherry(engine, "builder", "prune", "-af").then(() => wherry(engine, "image", "prune", "-af", "--filter", "label=test"));

  const project = {
    Dockerfile: [
      "FROM busybox AS made",
      "ENV WHO=me",
      "ARG WORD",
      "COPY in /in",
      'RUN --mount=type=secret,id=TOKEN test -s /run/secrets/TOKEN && test -n "$WORD" && sha256sum </in >/out',
      "FROM busybox",
      "LABEL test=1",
      "WORKDIR /w",
      "COPY --from=made /out .",
      "RUN wc -c <out >count",
      'CMD ["cat", "count"]',
      "",
    ].join("\n"),
    in: "one\n",
  };
  const given = ["--build-arg", `WORD=${argumentText}`, "--secret", "id=TOKEN,env=TOKEN"];

  interface Place {
    readonly to: string;
    readonly from: string;
    readonly name: string;
  }
  const places: Readonly<Record<string, () => Place>> = {
    registry: () => {
      const name = `${registry.host}/caches:c${++caches}`;
      return { to: `type=registry,ref=${name}`, from: `type=registry,ref=${name}`, name };
    },
    directory: () => {
      const name = join(work, `cache-${++caches}`);
      return { to: `type=local,dest=${name}`, from: `type=local,src=${name}`, name };
    },
  };

  describe.each(Object.keys(places))("%s", (kind) => {
    test("mode=max: every step of every stage is answered elsewhere, with the same image; what has changed is not", async () => {
      const [{ to, from, name }, folder] = [places[kind]!(), context(project)];
      for (const engine of engines) await forget(engine);
      const first = await build(engines[0], folder, ...given, "--cache-to", `${to},mode=max`);
      expect(first.steps.every((outcome) => outcome === "no such step is in the cache")).toBe(true);
      const answered = await build(engines[1], folder, ...given, "--cache-from", from);
      expect(answered.steps).toEqual(Array(5).fill(`from ${name}`));
      expect(answered.id).toBe(first.id);
      // It is here now.
      expect((await build(engines[1], folder, ...given, "--cache-from", from)).steps).toEqual(Array(5).fill("hit"));
      await forget(engines[1]);
      put(folder, "in", "two\n");
      const changed = await build(engines[1], folder, ...given, "--cache-from", from);
      expect(changed.steps.slice(0, 2).some((outcome) => outcome.startsWith("from "))).toBe(false);
      expect(changed.steps[2]).toBe(`from ${name}`);
      expect(changed.steps.slice(3).some((outcome) => outcome.startsWith("from "))).toBe(false);
      expect(changed.id).not.toBe(first.id);
    });

    test("another value of an argument, of a secret, another base: never an answer", async () => {
      const [{ to, from, name }, folder] = [places[kind]!(), context(project)];
      for (const engine of engines) await forget(engine);
      await build(engines[0], folder, ...given, "--cache-to", `${to},mode=max`);
      const runOf = async (...args: string[]) => {
        await forget(engines[1]);
        return (await build(engines[1], folder, "--target", "made", "--cache-from", from, ...args)).steps[1];
      };
      expect(await runOf(...given)).toBe(`from ${name}`);
      expect(await runOf("--build-arg", "WORD=another", "--secret", "id=TOKEN,env=TOKEN")).not.toMatch(/^from /);
      put(work, "other-secret", "another");
      expect(await runOf("--build-arg", `WORD=${argumentText}`, "--secret", `id=TOKEN,src=${join(work, "other-secret")}`)).not.toMatch(/^from /);
      const other = context({ Dockerfile: "FROM busybox\nRUN echo changed >/changed\n" });
      await wherry(engines[1], "build", "-t", "otherbase", other);
      put(folder, "Dockerfile", project.Dockerfile.replace("FROM busybox AS made", "FROM otherbase AS made"));
      expect(await runOf(...given)).not.toMatch(/^from /);
    });

    test("mode=min has the image's steps only, and nothing of what is hidden is in a cache", async () => {
      const [{ to, from, name }, folder] = [places[kind]!(), context(project)];
      for (const engine of engines) await forget(engine);
      await build(engines[0], folder, ...given, "--cache-to", to);
      const { steps } = await build(engines[1], folder, ...given, "--cache-from", from);
      expect(steps.map((outcome) => outcome === `from ${name}`)).toEqual([false, false, true, true, true]);
      const where = kind === "registry" ? join(work, "registry") : name;
      for (const hidden of [secretText, argumentText]) expect((await run(["grep", "-rlsF", hidden, where])).stdout).toBe("");
    });
  });

  test("an image with its cache in it, by a registry and where it is; BUILDKIT_INLINE_CACHE does the same", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nLABEL test=1\nCOPY in /in\nRUN cat /in >/out\n", in: "inline" });
    const name = `${registry.host}/inline:1`;
    for (const engine of engines) await forget(engine);
    const first = await build(engines[0], folder, "-t", name, "--cache-to", "type=inline");
    await ok([wherryPath, "push", name], { env: { WHERRY_HOST: engines[0].host } });
    const second = await build(engines[1], folder, "-t", "here", "--cache-from", name, "--build-arg", "BUILDKIT_INLINE_CACHE=1");
    expect(second.steps).toEqual([`from ${name}`, `from ${name}`]);
    expect(second.id).toBe(first.id);
    expect(second.stderr).not.toMatch(/not consumed/);
    // The image is here, its records are not.
    await wherry(engines[1], "builder", "prune", "-af");
    expect((await build(engines[1], folder, "--cache-from", "here")).steps).toEqual(["from here", "from here"]);
    // The field is in the way of nothing.
    expect((await wherry(engines[1], "run", "--rm", "here", "cat", "/out")).stdout).toBe("inline");
    expect((await build(engines[1], context({ Dockerfile: "FROM here\nRUN true\n" }))).stderr).not.toMatch(/WARNING/);
  });

  test("an image without a cache, a name that is not there, a cache of BuildKit's: warnings, and the build goes on", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo unrelated\n" });
    await wherry(engines[0], "tag", "busybox", `${registry.host}/plain:1`);
    await ok([wherryPath, "push", `${registry.host}/plain:1`], { env: { WHERRY_HOST: engines[0].host } });
    const { stderr, steps } = await build(
      engines[0],
      folder,
      "--cache-from",
      `${registry.host}/plain:1`,
      "--cache-from",
      `${registry.host}/none:1`,
      "--cache-from",
      `type=local,src=${work}/nowhere`,
    );
    expect(steps).toHaveLength(1);
    const ofBuildKit = layout({}, "application/vnd.buildkit.cacheconfig.v0");
    expect((await build(engines[0], context({ Dockerfile: "FROM busybox\nRUN echo other\n" }), "--cache-from", `type=local,src=${ofBuildKit}`)).stderr).toMatch(
      /WARNING: importing cache manifest from \S+: it is a cache of BuildKit's own/,
    );
    expect(stderr).toMatch(/WARNING: importing cache manifest from \S+plain:1: the image has no cache in it/);
    expect(stderr).toMatch(/WARNING: importing cache manifest from \S+none:1: .*not found/);
    expect(stderr).toMatch(/WARNING: importing cache manifest from \S+nowhere: there is no cache of that name/);
  });

  test("a layer is fetched when a step needs it, and not before", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nLABEL test=1\nRUN echo first >/first\nCOPY in /in\nRUN echo last >/last\n", in: "lazy" });
    const { to, from, name } = places["registry"]!();
    for (const engine of engines) await forget(engine);
    await build(engines[0], folder, "--cache-to", to);
    put(folder, "in", "changed");
    const before = registry.requests("GET", "/blobs/").length;
    expect((await build(engines[1], folder, "--cache-from", from)).steps[0]).toBe(`from ${name}`);
    // The description, and the one layer.
    expect(registry.requests("GET", "/blobs/").length - before).toBe(2);
  });

  test.each<[what: string, damage: (path: string) => void]>([
    ["truncated", (path) => truncateSync(path, 10)],
    ["garbage of the same length", (path) => writeFileSync(path, Buffer.alloc(readFileSync(path).length, 0x5a))],
    ["empty", (path) => writeFileSync(path, "")],
    ["larger", (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(1 << 20)]))],
  ])("a damaged directory (%s): whichever file it is, a miss with a warning", async (_what, damage) => {
    const folder = context({ Dockerfile: "FROM busybox\nLABEL test=1\nRUN echo damaged >/x\n" });
    const { to, from, name } = places["directory"]!();
    const index = join(name, "index.json");
    for (const engine of engines) await forget(engine);
    const first = await build(engines[0], folder, "--cache-to", to);
    const blobs = readdirSync(join(name, "blobs/sha256")).map((blob) => join(name, "blobs/sha256", blob));
    expect(blobs).toHaveLength(3);
    for (const path of [...blobs, index]) {
      const whole = readFileSync(path);
      damage(path);
      await forget(engines[1]);
      const { steps, stderr } = await build(engines[1], folder, "--cache-from", from);
      expect(steps[0]).not.toMatch(/^from /);
      expect(stderr).toMatch(/WARNING/);
      writeFileSync(path, whole);
    }
    await forget(engines[1]);
    const again = await build(engines[1], folder, "--cache-from", from);
    expect(again.steps).toEqual([`from ${name}`]);
    expect(again.id).toBe(first.id);
  });

  test("a cache that lies about its layers is no answer: what arrives is held against what it says", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nLABEL test=1\nRUN echo honest >/x\nRUN echo honest >/y\n" });
    const { to, from, name } = places["directory"]!();
    for (const engine of engines) await forget(engine);
    await build(engines[0], folder, "--cache-to", to);
    const path = (digest: string) => join(name, "blobs/sha256", digest.slice(7));
    const index = JSON.parse(readFileSync(join(name, "index.json"), "utf8")) as { manifests: { digest: string; size: number }[] };
    const manifest = JSON.parse(readFileSync(path(index.manifests[0]!.digest), "utf8")) as { layers: object[] };
    manifest.layers.reverse();
    const bytes = Buffer.from(JSON.stringify(manifest));
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    writeFileSync(path(digest), bytes);
    writeFileSync(join(name, "index.json"), JSON.stringify({ ...index, manifests: [{ ...index.manifests[0]!, digest, size: bytes.length }] }));
    const { steps, stderr } = await build(engines[1], folder, "--cache-from", from);
    expect(steps.some((outcome) => outcome.startsWith("from "))).toBe(false);
    expect(stderr).toMatch(/has this step, but not its layer/);
  });

  test("caches of services are refused with the reason; a registry that does not take it ends the build, unless it may", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN true\n" });
    for (const type of ["gha", "s3", "azblob"]) {
      const to = await wherry(engines[0], "build", "--cache-to", `type=${type}`, folder);
      expect(to).toMatchObject({ code: 1, stderr: expect.stringContaining(`caches of type "${type}" are not supported`) as string });
      expect((await wherry(engines[0], "build", "--cache-from", `type=${type}`, folder)).code).toBe(1);
    }
    for (const wrong of ["type=registry", "type=local", "type=registry,ref=x,mode=all", "mode=max"])
      expect((await wherry(engines[0], "build", "--cache-to", wrong, folder)).code).toBe(1);
    const nowhere = "type=registry,ref=127.0.0.1:1/x";
    const failed = await wherry(engines[0], "build", "--cache-to", nowhere, folder);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/exporting cache to registry/);
    expect((await wherry(engines[0], "build", "--cache-to", `${nowhere},ignore-error=true`, folder)).code).toBe(0);
  });
});
