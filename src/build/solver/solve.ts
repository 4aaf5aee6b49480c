/**
 * Performs a build: stages side by side as far as they do not wait for each other, their steps one after the other, each answered by the cache or performed.
 * @module
 */
import { availableParallelism } from "node:os";
import type { ChainID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { explainMiss } from "../cache/inputs.ts";
import { portableKey } from "../cache/portable.ts";
import type { FilePrints, Inputs, StepInputs } from "../cache/record.ts";
import { checkArg } from "../frontend/lint.ts";
import { parseError } from "../frontend/parse-error.ts";
import { globalArgValues, type Stage, targetStage } from "../frontend/stages.ts";
import { type Base, type Evaluated, evaluateStage } from "../graph/evaluate.ts";
import type { CopyOperation, Operation, RunOperation } from "../graph/operation.ts";
import { platformArgs } from "../graph/platform-args.ts";
import { proxyVariables } from "../graph/scope.ts";
import { stageGraph, type StageNode } from "../graph/stage-graph.ts";
import type { Step } from "../graph/step.ts";
import type { Builder, BuildRequest, BuildResult, SolvedStep } from "./build-request.ts";
import { knownCopy, performCopy, performWorkdir, prepareCopy } from "./copy-step.ts";
import type { Layer } from "./host.ts";
import { configOf, emptyState, imageIdOf, type ImageState, squashed, stateOf, withStep } from "./image-state.ts";
import { Slots } from "#core/slots.ts";
import type { KnownStates } from "./known-states.ts";
import { reportTask, type StepRef } from "./progress.ts";
import { rootTree } from "./root-tree.ts";
import { openMounts, runInputs } from "./run-step.ts";
import type { SourceTree } from "./source-tree.ts";
import { emptyTree } from "./memory-tree.ts";
import type { CacheMounts } from "./cache-mounts.ts";
import { createdNow } from "./source-date.ts";

interface SolverParts extends Builder {
  readonly caches: CacheMounts;
  readonly known: KnownStates;
}

/** A stage that has been built. */
interface Built {
  readonly state: ImageState;
  readonly end: Base;
}

/** A step that need not be performed. `from`: see {@link BuildEvent}. */
interface Hit {
  readonly layer: Layer | undefined;
  readonly created: string;
  readonly from: string | undefined;
}

/** Build arguments that say something to the builder itself. */
const idleArgs: ReadonlySet<string> = new Set(["SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE", checkArg]);

/** What a step depends on, and how it is done. */
interface Work {
  readonly inputs: StepInputs;
  /** What the input `files` stands for. */
  readonly prints?: FilePrints;
  /** Found out by an earlier build, not by this one: good to ask the cache, not to perform. */
  readonly isKnown: boolean;
  readonly perform: () => Promise<Layer | undefined>;
}

interface StageBase {
  readonly state: ImageState;
  /** Its image's; "": there is none. */
  readonly id: string;
}

interface OpenTree {
  readonly tree: SourceTree;
  readonly what: string;
}

/** @throws EngineError: "invalid" for the file and its sources, "cancelled"; of a command that failed, "invalid" with `details.exitCode` */
export async function solve(builder: SolverParts, request: BuildRequest): Promise<BuildResult> {
  await using solver = new Solver(builder, request);
  return await solver.run();
}

class Solver implements AsyncDisposable {
  readonly #builder: SolverParts;
  readonly #request: BuildRequest;
  readonly #abort = new AbortController();
  readonly #stages = new Map<number, Promise<Built>>();
  readonly #trees = new Map<string, Promise<OpenTree>>();
  readonly #held: { release(): void }[] = [];
  readonly #slots = new Slots(Math.max(2, availableParallelism()));
  readonly #argsAsked = new Set<string>();
  /** What stages are built on. */
  readonly #bases = new Map<number, StageBase>();
  readonly #steps: SolvedStep[] = [];
  /** The target's, and those that it continues. */
  #imageStages: ReadonlySet<number> = new Set();
  #nodes: readonly StageNode[] = [];
  #firstNumbers = new Map<number, number>();
  #total = 0;

  constructor(builder: SolverParts, request: BuildRequest) {
    this.#builder = builder;
    this.#request = request;
    const cancel = () => this.#abort.abort(request.signal.reason);
    if (request.signal.aborted) cancel();
    else request.signal.addEventListener("abort", cancel, { once: true });
    this.#held.push({ release: () => request.signal.removeEventListener("abort", cancel) });
  }

  async run(): Promise<BuildResult> {
    const { dockerfile, target, buildArgs } = this.#request;
    const predefined = this.#predefined("");
    const lookup = globalArgValues(dockerfile, buildArgs, predefined);
    const targeted = targetStage(dockerfile, target);
    this.#nodes = stageGraph(dockerfile, targeted, (name) => lookup(name) ?? predefined[name]);
    this.#number(targeted);
    this.#imageStages = new Set(this.#continued(targeted.index));
    const hold = this.#builder.host.layers.hold();
    try {
      const all = await Promise.allSettled(this.#nodes.map(({ stage }) => this.#stage(stage.index)));
      const failed =
        all.find((result) => result.status === "rejected" && !isEngineError(result.reason, "cancelled")) ?? all.find((r) => r.status === "rejected");
      if (failed?.status === "rejected") throw failed.reason;
      const { state: whole } = await this.#stage(targeted.index);
      const state = this.#request.squash ? await this.#squash(whole, this.#bases.get(targeted.index)!) : whole;
      for (const { args } of dockerfile.globalArgs) for (const { name } of args) this.#argsAsked.add(name);
      const unusedArgs = Object.keys(buildArgs).filter((name) => !this.#argsAsked.has(name) && !proxyVariables.includes(name) && !idleArgs.has(name));
      return { state, id: imageIdOf(state), config: configOf(state), chainId: state.chainId, unusedArgs, steps: this.#steps };
    } finally {
      hold.release();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { release } of this.#held) release();
    for (const open of this.#trees.values()) {
      const opened = await open.catch(() => undefined);
      // A context is the caller's.
      if (opened !== undefined && opened.what !== "context") await opened.tree[Symbol.asyncDispose]();
    }
  }

  *#continued(index: number | undefined): Iterable<number> {
    for (let at = index; at !== undefined; at = this.#nodes.find(({ stage }) => stage.index === at)?.base) yield at;
  }

  /** Steps are numbered over all stages that are built, FROM included, labels of the request last. */
  #number(target: Stage): void {
    let next = 1;
    for (const { stage } of this.#nodes) {
      this.#firstNumbers.set(stage.index, next);
      next += 1 + stage.instructions.length + (stage === target && this.#labels().length > 0 ? 1 : 0);
    }
    this.#total = next - 1;
  }

  #labels(): [string, string][] {
    return Object.entries(this.#request.labels).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  #predefined(stage: string): Record<string, string> {
    const { platform, hostPlatform, buildArgs } = this.#request;
    const proxies = proxyVariables.flatMap((name) => {
      const value = Object.hasOwn(buildArgs, name) ? buildArgs[name] : undefined;
      return value === undefined ? [] : [[name, value] as const];
    });
    return { ...platformArgs(platform, hostPlatform, stage), ...Object.fromEntries(proxies) };
  }

  #stage(index: number): Promise<Built> {
    const known = this.#stages.get(index);
    if (known !== undefined) return known;
    const node = this.#nodes.find(({ stage }) => stage.index === index);
    if (node === undefined) throw new EngineError("internal", `stage ${index} is not part of the build`);
    const built = this.#build(node).catch((error: unknown) => {
      // The others are of no use any more.
      this.#abort.abort(error);
      throw error;
    });
    this.#stages.set(index, built);
    return built;
  }

  async #build(node: StageNode): Promise<Built> {
    const { stage } = node;
    const first = this.#firstNumbers.get(stage.index)!;
    const ref = (offset: number, text: string): StepRef => ({ number: first + offset, total: this.#total, stage: this.#stageName(stage), text });
    const base = await this.#base(node, ref(0, stage.from.text));
    this.#bases.set(stage.index, base);
    const evaluated = this.#evaluate(stage, base);
    const triggers = evaluated.steps.length - stage.instructions.length;
    if (triggers > 0)
      this.#request.report({ kind: "status", step: ref(0, stage.from.text), text: `Executing ${triggers} build trigger${triggers === 1 ? "" : "s"}` });
    let { state } = base;
    for (const [i, step] of evaluated.steps.entries()) {
      // Triggers belong to FROM.
      const own = i - triggers;
      state = await this.#step(stage, step, state, ref(Math.max(0, own + 1), step.text), own < 0);
    }
    const labels = this.#labels();
    if (labels.length > 0 && stage === targetStage(this.#request.dockerfile, this.#request.target)) {
      const text = `LABEL ${labels.map(([name, value]) => `${name}=${value}`).join(" ")}`;
      const settings = { ...state.settings, Labels: { ...state.settings.Labels, ...Object.fromEntries(labels) } };
      const step: Step = { text, position: stage.from.position, operation: undefined, settings, author: state.author, createdBy: text, warnings: [] };
      state = await this.#step(stage, step, state, ref(stage.instructions.length + 1, text), false);
    }
    return { state, end: evaluated.end };
  }

  #stageName({ index, name }: Stage): string | undefined {
    return name ?? (this.#request.dockerfile.stages.length > 1 ? `stage-${index}` : undefined);
  }

  #evaluate(stage: Stage, { end }: Built): Evaluated {
    const { dockerfile, buildArgs } = this.#request;
    const predefined = this.#predefined(stage.name ?? "");
    const evaluated = evaluateStage(stage.instructions, end, {
      buildArgs,
      predefined,
      global: globalArgValues(dockerfile, buildArgs, predefined),
      escape: dockerfile.tree.directives.escape,
    });
    for (const name of evaluated.argsAsked) this.#argsAsked.add(name);
    return evaluated;
  }

  async #base(node: StageNode, step: StepRef): Promise<Built & StageBase> {
    const { report, platform, pull } = this.#request;
    const { stage, image } = node;
    // A stage that continues another waits for it before it begins: it has nothing to say until then.
    const built = node.base === undefined ? undefined : await this.#stage(node.base);
    report({ kind: "begin", step, atMs: Date.now() });
    try {
      if (built !== undefined) {
        const id = imageIdOf(built.state);
        report({ kind: "done", step, image: id, atMs: Date.now() });
        return { ...built, id };
      }
      if (image === "scratch") {
        report({ kind: "done", step, image: "", atMs: Date.now() });
        return { state: emptyState(platform), end: { settings: {}, author: undefined }, id: "" };
      }
      const reference = this.#imageReference(image);
      const found = await this.#builder.host.image(reference, {
        platform: node.platform,
        pull,
        signal: this.#abort.signal,
        onStatus: (text) => report({ kind: "status", step, text }),
      });
      report({ kind: "done", step, image: found.id, atMs: Date.now() });
      return { state: stateOf(found), end: { settings: found.settings, author: undefined }, id: found.id };
    } catch (error) {
      report({ kind: "failed", step, message: (error as Error).message, atMs: Date.now() });
      if (isEngineError(error, "invalid") && error.details["line"] === undefined && image !== stage.from.image)
        throw parseError(stage.from.position, error.message);
      throw error;
    }
  }

  #imageReference(name: string): string {
    const named = this.#request.namedContexts.get(name);
    if (named?.kind === "tree") throw new EngineError("unsupported", `the build context ${name} is a directory: a stage can be built on an image only`);
    return named?.reference ?? name;
  }

  async #step(stage: Stage, step: Step, state: ImageState, ref: StepRef, isTrigger: boolean): Promise<ImageState> {
    const { report } = this.#request;
    if (!isTrigger) report({ kind: "begin", step: ref, atMs: Date.now() });
    for (const text of step.warnings) report({ kind: "warning", step: ref, text });
    try {
      this.#throwIfCancelled();
      const { inputs, layer, created } = await this.#outcome(step, state, ref);
      this.#steps.push({ inputs, layer, created, inImage: this.#imageStages.has(stage.index) });
      const next = withStep(state, step, layer, created);
      if (!isTrigger) report({ kind: "done", step: ref, image: imageIdOf(next), atMs: Date.now() });
      return next;
    } catch (error) {
      report({ kind: "failed", step: ref, message: (error as Error).message, atMs: Date.now() });
      throw error;
    }
  }

  #throwIfCancelled(): void {
    const { signal } = this.#abort;
    if (signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause: signal.reason });
  }

  async #outcome(step: Step, state: ImageState, ref: StepRef): Promise<Omit<SolvedStep, "inImage">> {
    const { cache } = this.#builder;
    const { report, sourceDateEpoch } = this.#request;
    const why = this.#whyUncached(ref);
    let work = await this.#prepare(step, state, ref, why === undefined);
    let inputs = cache.concealed(work.inputs);
    const text = ref.text;
    let hit = why === undefined ? await this.#cached(inputs) : undefined;
    if (hit === undefined && work.isKnown) {
      work = await this.#prepare(step, state, ref, false);
      inputs = cache.concealed(work.inputs);
      hit = await this.#cached(inputs);
    }
    if (why === undefined) hit ??= await this.#imported(work.inputs, state, ref);
    const { inputs: stepInputs, prints } = work;
    if (hit !== undefined) {
      report({ kind: "cached", step: ref, ...(hit.from === undefined ? {} : { from: hit.from }) });
      if (hit.from !== undefined) await cache.store({ inputs, layer: hit.layer, created: hit.created, text }, prints);
      return { inputs: stepInputs, layer: hit.layer, created: hit.created };
    }
    if (step.operation !== undefined) report({ kind: "miss", step: ref, why: why ?? (await this.#whyMissed(text, inputs, prints)) });
    const layer = await this.#slots.run(() => {
      this.#throwIfCancelled();
      return work.perform();
    });
    if (layer !== undefined) await this.#keep(layer);
    const created = createdNow(sourceDateEpoch);
    await cache.store({ inputs, layer, created, text }, prints);
    return { inputs: stepInputs, layer, created };
  }

  async #whyMissed(text: string, inputs: Inputs, prints: FilePrints | undefined): Promise<string> {
    const { cache } = this.#builder;
    const nearest = cache.nearest(text);
    const before = nearest === undefined ? undefined : { inputs: nearest.inputs, prints: prints === undefined ? undefined : await cache.printsOf(nearest) };
    return explainMiss(before, { inputs, prints });
  }

  /** As a step of its own: a cached build gives the same image. */
  async #squash(state: ImageState, base: StageBase): Promise<ImageState> {
    const { cache, host } = this.#builder;
    const { report, noCache, sourceDateEpoch } = this.#request;
    const { chainId } = state;
    if (chainId === undefined || chainId === base.state.chainId) return state;
    const id = imageIdOf(state);
    const inputs: Inputs = { operation: "squash", image: id, base: base.id };
    const hit = noCache ? undefined : await this.#cached(inputs);
    const created = hit?.created ?? createdNow(sourceDateEpoch);
    const layer = hit?.layer ?? (await reportTask(report, "squashing the image's layers", () => host.squash(chainId, base.state.chainId, this.#clampNs())));
    if (hit === undefined) {
      await this.#keep(layer);
      await cache.store({ inputs, layer, created, text: "squash" });
    }
    // In docker's words.
    return squashed(state, base.state, { layer, created, comment: base.id === "" ? `create new from ${id}` : `merge ${id} to ${base.id}` });
  }

  async #keep({ size, chainId }: Layer): Promise<void> {
    const { cache } = this.#builder;
    await cache.makeRoom(size);
    this.#request.keep(cache.hold(chainId));
  }

  /** The flag that keeps the cache from being asked. */
  #whyUncached({ stage }: StepRef): string | undefined {
    const { noCache, noCacheStages } = this.#request;
    if (noCache) return "--no-cache";
    return stage !== undefined && noCacheStages.some((name) => name.toLowerCase() === stage) ? "--no-cache-filter" : undefined;
  }

  /** A record whose layer is (still) there, kept until the build has ended. */
  async #cached(inputs: Inputs): Promise<Hit | undefined> {
    const { cache, host } = this.#builder;
    const record = cache.find(inputs);
    if (record === undefined) return undefined;
    if (record.layer !== undefined) {
      const hold = cache.hold(record.layer.chainId);
      if (!(await host.layers.has(record.layer.chainId))) {
        hold.release();
        await cache.forget(record);
        return undefined;
      }
      this.#request.keep(hold);
    }
    cache.noteUse(record);
    return { ...record, from: undefined };
  }

  /** An imported cache's answer, whose layer is here then. What cannot be had of one is a miss. */
  async #imported(inputs: StepInputs, { chainId }: ImageState, step: StepRef): Promise<Hit | undefined> {
    const { imports, report } = this.#request;
    if (imports.length === 0) return undefined;
    const { signal } = this.#abort;
    const key = await portableKey(inputs);
    for (const source of imports) {
      const found = await source.find(key, signal);
      if (found === undefined) continue;
      const { created, diffId } = found;
      if (diffId === undefined) return { layer: undefined, created, from: source.name };
      try {
        const layer = await source.fetch(diffId, chainId, signal);
        await this.#keep(layer);
        return { layer, created, from: source.name };
      } catch (error) {
        this.#throwIfCancelled();
        if (!isEngineError(error)) throw error;
        report({ kind: "warning", step, text: `the cache ${source.name} has this step, but not its layer: ${error.message}` });
      }
    }
    return undefined;
  }

  async #prepare(step: Step, state: ImageState, ref: StepRef, mayKnow: boolean): Promise<Work> {
    const { sourceDateEpoch } = this.#request;
    const epoch = sourceDateEpoch === undefined ? {} : { SOURCE_DATE_EPOCH: String(sourceDateEpoch) };
    const parent = state.chainId;
    const { operation } = step;
    if (operation === undefined) {
      // The settings before and the instruction: their time in the history is the same when they are.
      return {
        inputs: { operation: "settings", image: imageIdOf(state), by: step.createdBy ?? "", after: imageIdOf({ ...state, settings: step.settings }), ...epoch },
        isKnown: false,
        perform: async () => undefined,
      };
    }
    const common = { parent: parent ?? "scratch", platform: `${state.platform.os}/${state.platform.architecture}/${state.platform.variant ?? ""}` };
    const work = await this.#prepareOperation(operation, state, { step, ref, mayKnow });
    return { ...work, inputs: { ...work.inputs, ...common, ...epoch } };
  }

  async #prepareOperation(
    operation: Operation,
    state: ImageState,
    { step, ref, mayKnow }: { readonly step: Step; readonly ref: StepRef; readonly mayKnow: boolean },
  ): Promise<Work> {
    const { host } = this.#builder;
    const parent = state.chainId;
    const clampNs = this.#clampNs();
    switch (operation.kind) {
      case "workdir":
        return {
          inputs: { operation: "workdir", path: operation.path },
          isKnown: false,
          perform: () => performWorkdir(operation.path, host, parent, clampNs),
        };
      case "copy": {
        const tree = (copy: CopyOperation) => this.#tree(copy.from);
        const context = { host, parent, tree, clampNs, signal: this.#abort.signal };
        const known = mayKnow ? await knownCopy(operation, context) : undefined;
        if (known !== undefined) return { inputs: known, isKnown: true, perform: performUnread };
        const prepared = await prepareCopy(operation, context);
        const { inputs, prints } = prepared;
        return { inputs, prints, isKnown: false, perform: () => performCopy(operation, prepared, host, parent, this.#abort.signal) };
      }
      case "run": {
        const inputs = await runInputs(operation, this.#request, { treeOf: (from) => this.#tree(from), mayKnow });
        return { inputs, isKnown: mayKnow && operation.mounts.some(({ type }) => type === "bind"), perform: () => this.#run(operation, state, step, ref) };
      }
    }
  }

  #clampNs(): bigint | undefined {
    const { sourceDateEpoch } = this.#request;
    return sourceDateEpoch === undefined ? undefined : BigInt(sourceDateEpoch) * 1_000_000_000n;
  }

  async #run(operation: RunOperation, state: ImageState, step: Step, ref: StepRef): Promise<Layer | undefined> {
    const { host, caches } = this.#builder;
    const { report, limits, keepContainers, leaveFailed } = this.#request;
    const opened = { ...this.#request, signal: this.#abort.signal };
    await using mounts = await openMounts(operation, opened, { caches, runtimeDir: host.runtimeDir, treeOf: (from) => this.#tree(from) });
    let container = "";
    const result = await host.run({
      parent: state.chainId,
      operation: { ...operation, env: [...operation.env, ...this.#proxies(operation.env), ...mounts.env] },
      mounts: mounts.mounts,
      limits,
      clampNs: this.#clampNs(),
      onContainer: (id) => {
        container = id;
        report({ kind: "container", step: ref, id, removed: false });
      },
      onOutput: (stream, data) => report({ kind: "output", step: ref, stream, data }),
      signal: this.#abort.signal,
      keep: keepContainers.succeeded,
      keepFailed: keepContainers.failed,
      commitFailed: leaveFailed,
    });
    const kept = result.exitCode === 0 ? keepContainers.succeeded : keepContainers.failed;
    if (!kept) report({ kind: "container", step: ref, id: container, removed: true });
    if (result.exitCode === 0) return result.layer;
    if (leaveFailed) await this.#leave(operation, result.layer, state, step, ref);
    const code = result.exitCode;
    throw new EngineError("invalid", `The command '${operation.argv.join(" ")}' returned a non-zero code: ${code}`, {
      hint: `${step.position.file}:${step.position.line}: ${result.reason}`,
      details: { commandExitCode: code, command: operation.argv.join(" "), ...step.position },
    });
  }

  /** Makes an image of what a failed command has left. Its arguments are in no image. */
  async #leave(operation: RunOperation, layer: Layer | undefined, state: ImageState, step: Step, ref: StepRef): Promise<void> {
    const { argv, env, argNames, network } = operation;
    const image = await this.#builder.host.record(configOf(withStep(state, step, layer, createdNow(this.#request.sourceDateEpoch))));
    this.#request.report({
      kind: "left",
      step: ref,
      image,
      shell: argv[1] === "-c" ? argv[0]! : "/bin/sh",
      env: env.filter((pair) => argNames.includes(pair.split("=", 1)[0]!)),
      network: network === "default" ? this.#request.limits.networkMode : network,
    });
  }

  /** What a client's `--build-arg HTTP_PROXY=…` gives to every command without a trace. */
  #proxies(env: readonly string[]): string[] {
    const { buildArgs } = this.#request;
    const set = new Set(env.map((pair) => pair.split("=", 1)[0]));
    return proxyVariables.flatMap((name) => {
      const value = Object.hasOwn(buildArgs, name) ? buildArgs[name] : undefined;
      return value === undefined || set.has(name) ? [] : [`${name}=${value}`];
    });
  }

  /** A stage's root, an image's, a named context or the build's own. */
  #tree(from: string | undefined): Promise<OpenTree> {
    const key = from ?? "";
    const known = this.#trees.get(key);
    if (known !== undefined) return known;
    const opened = this.#openTree(from);
    this.#trees.set(key, opened);
    return opened;
  }

  async #openTree(from: string | undefined): Promise<OpenTree> {
    const { context, namedContexts, dockerfile, pull } = this.#request;
    const { host } = this.#builder;
    if (from === undefined) {
      if (context === undefined) throw new EngineError("invalid", "COPY failed: no source files were specified: the build has no context");
      return { tree: await context(), what: "context" };
    }
    const named = namedContexts.get(from);
    if (named?.kind === "tree") return { tree: await named.open(), what: "context" };
    const stage = this.#stageNamed(from, dockerfile.stages);
    if (named === undefined && stage !== undefined) {
      const { state } = await this.#stage(stage.index);
      return { tree: this.#rootOf(state.chainId), what: `stage ${from}` };
    }
    const image = await host.image(named?.reference ?? from, { platform: "", pull, signal: this.#abort.signal, onStatus: () => undefined });
    return { tree: this.#rootOf(image.chainId), what: `image ${from}` };
  }

  #rootOf(chainId: ChainID | undefined): SourceTree {
    const { host, known } = this.#builder;
    return chainId === undefined ? emptyTree() : rootTree(() => host.openRoot(chainId), known.of(chainId));
  }

  #stageNamed(from: string, stages: readonly Stage[]): Stage | undefined {
    const named = this.#nodes.findLast(({ stage }) => stage.name === from.toLowerCase())?.stage;
    return named ?? (/^[0-9]+$/.test(from) ? stages[Number(from)] : undefined);
  }
}

/** Nobody performs what is only known. */
async function performUnread(): Promise<never> {
  throw new EngineError("internal", "a step was to be performed whose files were not looked at");
}
