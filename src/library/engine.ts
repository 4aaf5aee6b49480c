/** An engine in a program's hands: in this process, or a daemon's. @module */
import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import type { ContainerSummary } from "#api/types/container-json.ts";
import type { DeleteItem, ImageInspect, ImageSummary } from "#api/types/image-json.ts";
import type { ProgressLine } from "#api/types/progress.ts";
import type { EventJson, NetworkJson, SystemInfoJson, VersionJson, VolumeJson, VolumeListJson } from "#api/types/system-json.ts";
import { sessionLabel } from "#core/session-label.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { abort, asStream, unixSeconds, unlessGone } from "./arguments.ts";
import type { Calls } from "./calls.ts";
import { type Abortable, Container, gather, type Output } from "./container.ts";
import { type ContainerOptions, createBody } from "./run-options.ts";
import { holdSession } from "./session.ts";

/** `{ label: ["team=x"], status: ["running"] }`: Docker's filters of that list. */
export type FilterOptions = Readonly<Record<string, readonly string[]>>;

export interface RunOptions extends ContainerOptions, Abortable {
  /** When the image is fetched. Default "missing". */
  readonly pull?: "missing" | "always" | "never";
  /**
   * What is waited for: that it has been "started" (default), that it is "healthy", or that it has "exited". "healthy" without a health check, of the image or in
   * the options, waits until the first of `ports` takes connections. A container that does not come so far is removed.
   */
  readonly wait?: "started" | "healthy" | "exited";
  /** Told what a pull does. */
  readonly onProgress?: (line: ProgressLine) => void;
}

export interface BuildImageOptions extends Abortable {
  /** A tar with the files, perhaps compressed. */
  readonly context: Uint8Array | AsyncIterable<Uint8Array>;
  /** Its name in the context. Default "Dockerfile". */
  readonly dockerfile?: string;
  /** Instead of one in the context, 64 KB at most. */
  readonly dockerfileText?: string;
  readonly tags?: readonly string[];
  readonly target?: string;
  readonly args?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly noCache?: boolean;
  readonly onProgress?: (line: ProgressLine) => void;
}

export interface EventOptions extends Abortable {
  readonly since?: Date;
  /** Default: without end. */
  readonly until?: Date;
  readonly filters?: FilterOptions;
}

/** A volume; `await using` removes it. */
export interface VolumeHandle extends AsyncDisposable {
  readonly name: string;
  inspect(options?: Abortable): Promise<VolumeJson>;
  remove(options?: Abortable): Promise<void>;
}

/** A network; `await using` removes it. */
export interface NetworkHandle extends AsyncDisposable {
  readonly id: string;
  readonly name: string;
  inspect(options?: Abortable): Promise<NetworkJson>;
  remove(options?: Abortable): Promise<void>;
}

const json = (value: object | undefined): string | undefined => (value === undefined ? undefined : JSON.stringify(value));

/** A probe for "healthy" of an image that has none. Often at first, so that the wait is short. */
const portProbe = (port: string) => ({ test: { tcp: port }, intervalMs: 200, timeoutMs: 1000, retries: 30, startPeriodMs: 120_000 }) as const;

/**
 * The same for an engine in this process and for a daemon. Every method may throw EngineError, whose `code` says what kind it is.
 * `await using` closes it: an engine in this process ends (its containers go on), a daemon is only left.
 */
export class Engine implements AsyncDisposable {
  readonly #calls: Calls;
  readonly #end: () => Promise<void>;
  /** On everything that is made here. */
  readonly #labels: Readonly<Record<string, string>>;

  /** @internal Use {@link openEngine}. */
  constructor(calls: Calls, end: () => Promise<void>, labels: Readonly<Record<string, string>> = {}) {
    this.#calls = calls;
    this.#end = end;
    this.#labels = labels;
  }

  /** Where the engine is: `unix:///run/wherry/wherry.sock`; "" when it is in this process. */
  get host(): string {
    return this.#calls.host;
  }

  /**
   * Makes a container and starts it, and fetches its image if need be.
   *
   *     await using pg = await engine.run("postgres:16", { ports: [5432], wait: "healthy" });
   *     const { host, port } = await pg.port(5432);
   */
  async run(image: string, options: RunOptions = {}): Promise<Container> {
    const { signal, wait = "started", onProgress } = options;
    if (options.pull === "always") await this.pull(image, { signal, ...(onProgress && { onProgress }) });
    const container = await this.create(image, wait === "healthy" ? await this.#withProbe(image, options) : options);
    try {
      await container.start({ signal });
      if (wait === "healthy") await container.healthy({ signal });
      if (wait === "exited") await container.wait({ signal });
    } catch (error) {
      await container.remove({ force: true });
      throw error;
    }
    return container;
  }

  /** Runs a container to its end and removes it. */
  async output(image: string, options: Omit<RunOptions, "wait" | "tty"> & { readonly input?: string | Uint8Array } = {}): Promise<Output> {
    const { signal, input } = options;
    await using container = await this.create(image, { ...options, stdin: input !== undefined, body: { StdinOnce: true, ...options.body } });
    const { stdin, output } = await container.attach({ signal });
    const said = gather(output);
    said.catch(() => undefined); // awaited below, unless the start fails
    await container.start({ signal });
    stdin.end(input ?? "");
    return { ...(await said), exitCode: await container.wait({ signal }) };
  }

  /** Makes a container without starting it. */
  async create(image: string, options: Omit<RunOptions, "wait"> = {}): Promise<Container> {
    const { signal, pull = "missing", onProgress } = options;
    const query = { name: options.name, platform: options.platform };
    const body = createBody(image, { ...options, labels: { ...options.labels, ...this.#labels } });
    const make = () => this.#calls.json<{ Id: string }>("POST", "/containers/create", { query, body, ...abort(signal) });
    try {
      return new Container(this.#calls, (await make()).Id);
    } catch (error) {
      if (pull === "never" || !isEngineError(error, "not-found") || (await this.#has(image, signal))) throw error;
    }
    await this.pull(image, { signal, ...(options.platform === undefined ? {} : { platform: options.platform }), ...(onProgress && { onProgress }) });
    return new Container(this.#calls, (await make()).Id);
  }

  /** A container that is there, by id, the beginning of an id, or name. @throws EngineError "not-found" */
  async container(name: string, { signal }: Abortable = {}): Promise<Container> {
    const { Id } = await this.#calls.json<{ Id: string }>("GET", `/containers/${encodeURIComponent(name)}/json`, abort(signal));
    return new Container(this.#calls, Id);
  }

  containers({
    all = false,
    filters,
    signal,
  }: Abortable & { readonly all?: boolean; readonly filters?: FilterOptions } = {}): Promise<readonly ContainerSummary[]> {
    return this.#calls.json("GET", "/containers/json", { query: { all, filters: json(filters) }, ...abort(signal) });
  }

  images({ filters, signal }: Abortable & { readonly filters?: FilterOptions } = {}): Promise<readonly ImageSummary[]> {
    return this.#calls.json("GET", "/images/json", { query: { filters: json(filters) }, ...abort(signal) });
  }

  image(name: string, { signal }: Abortable = {}): Promise<ImageInspect> {
    return this.#calls.json("GET", `/images/${encodeURIComponent(name)}/json`, abort(signal));
  }

  /** @throws EngineError when the pull fails, whatever it has done by then */
  async pull(
    image: string,
    { signal, platform, onProgress }: Abortable & { readonly platform?: string; readonly onProgress?: (line: ProgressLine) => void } = {},
  ): Promise<void> {
    await this.#progress("POST", "/images/create", { query: { fromImage: image, platform }, ...abort(signal) }, onProgress);
  }

  /** A base image of this host's packages: "busybox", "debian:bookworm". */
  async bootstrap(what: string, { signal, onProgress }: Abortable & { readonly onProgress?: (line: ProgressLine) => void } = {}): Promise<void> {
    await this.#progress("POST", "/wherry/images/bootstrap", { query: { what }, ...abort(signal) }, onProgress);
  }

  /** Images from an archive of `docker save`, or an OCI layout. */
  async load(archive: Uint8Array | AsyncIterable<Uint8Array>, { signal }: Abortable = {}): Promise<void> {
    await this.#progress("POST", "/images/load", { body: asStream(archive), ...abort(signal) }, undefined);
  }

  save(names: readonly string[], { signal }: Abortable = {}): Promise<Readable> {
    return this.#calls.stream("GET", "/images/get", { query: { names }, ...abort(signal) });
  }

  /** @returns the image's id. To build without a Dockerfile see {@link image}. */
  async build(options: BuildImageOptions): Promise<string> {
    const { context, signal, onProgress, dockerfile, dockerfileText, tags, target, args, labels, noCache } = options;
    const query = {
      t: tags,
      dockerfile,
      target,
      nocache: noCache,
      buildargs: json(args),
      labels: json({ ...labels, ...this.#labels }),
    };
    const headers: Record<string, string> = {};
    if (dockerfileText !== undefined) headers["X-Wherry-Dockerfile"] = Buffer.from(dockerfileText).toString("base64");
    let id: string | undefined;
    await this.#progress("POST", "/build", { query, headers, body: asStream(context), ...abort(signal) }, (line) => {
      const aux = line.aux as { readonly ID?: string } | undefined; // the engine's own line
      id = aux?.ID ?? id;
      onProgress?.(line);
    });
    if (id === undefined) throw new EngineError("internal", "the build has not said which image it has made");
    return id;
  }

  tag(name: string, { repo, tag, signal }: Abortable & { readonly repo: string; readonly tag?: string }): Promise<void> {
    return this.#calls.json("POST", `/images/${encodeURIComponent(name)}/tag`, { query: { repo, tag }, ...abort(signal) });
  }

  removeImage(name: string, { force = false, signal }: Abortable & { readonly force?: boolean } = {}): Promise<readonly DeleteItem[]> {
    return this.#calls.json("DELETE", `/images/${encodeURIComponent(name)}`, { query: { force }, ...abort(signal) });
  }

  /** A named volume, or without a name a new one. */
  async volume({
    name,
    labels,
    driverOpts,
    signal,
  }: Abortable & {
    readonly name?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly driverOpts?: Readonly<Record<string, string>>;
  } = {}): Promise<VolumeHandle> {
    const body = { ...(name === undefined ? {} : { Name: name }), Labels: { ...labels, ...this.#labels }, ...(driverOpts && { DriverOpts: driverOpts }) };
    const { Name } = await this.#calls.json<VolumeJson>("POST", "/volumes/create", { body, ...abort(signal) });
    const path = `/volumes/${encodeURIComponent(Name)}`;
    const remove = (options: Abortable = {}) => unlessGone(this.#calls.json("DELETE", path, abort(options.signal)));
    return {
      name: Name,
      inspect: (options = {}) => this.#calls.json("GET", path, abort(options.signal)),
      remove,
      [Symbol.asyncDispose]: () => remove(),
    };
  }

  async volumes({ filters, signal }: Abortable & { readonly filters?: FilterOptions } = {}): Promise<readonly VolumeJson[]> {
    return (await this.#calls.json<VolumeListJson>("GET", "/volumes", { query: { filters: json(filters) }, ...abort(signal) })).Volumes ?? [];
  }

  async network(
    name: string,
    {
      labels,
      driver,
      internal,
      signal,
    }: Abortable & { readonly labels?: Readonly<Record<string, string>>; readonly driver?: string; readonly internal?: boolean } = {},
  ): Promise<NetworkHandle> {
    const body = {
      Name: name,
      Labels: { ...labels, ...this.#labels },
      ...(driver === undefined ? {} : { Driver: driver }),
      ...(internal === undefined ? {} : { Internal: internal }),
    };
    const { Id } = await this.#calls.json<{ Id: string }>("POST", "/networks/create", { body, ...abort(signal) });
    const remove = (options: Abortable = {}) => unlessGone(this.#calls.json("DELETE", `/networks/${Id}`, abort(options.signal)));
    return {
      id: Id,
      name,
      inspect: (options = {}) => this.#calls.json("GET", `/networks/${Id}`, abort(options.signal)),
      remove,
      [Symbol.asyncDispose]: () => remove(),
    };
  }

  networks({ filters, signal }: Abortable & { readonly filters?: FilterOptions } = {}): Promise<readonly NetworkJson[]> {
    return this.#calls.json("GET", "/networks", { query: { filters: json(filters) }, ...abort(signal) });
  }

  /** What happens, as it happens; none is left out for a slow reader. `break` or the signal ends it. */
  async *events({ since, until, filters, signal }: EventOptions = {}): AsyncGenerator<EventJson, void, undefined> {
    const query = { since: unixSeconds(since), until: unixSeconds(until), filters: json(filters) };
    yield* this.#calls.lines<EventJson>("GET", "/events", { query, ...abort(signal) });
  }

  info({ signal }: Abortable = {}): Promise<SystemInfoJson> {
    return this.#calls.json("GET", "/info", abort(signal));
  }

  version({ signal }: Abortable = {}): Promise<VersionJson> {
    return this.#calls.json("GET", "/version", abort(signal));
  }

  /**
   * The same engine; but what is made through it (containers, volumes, networks, images that are built) goes away when the session is closed, and also when this
   * process dies or its daemon starts anew without it.
   *
   *     await using session = await engine.session();
   */
  async session({ signal }: Abortable = {}): Promise<Engine> {
    const id = randomBytes(16).toString("hex");
    const hold = await holdSession(this.#calls, id, signal);
    return new Engine(this.#calls, hold.end, { ...this.#labels, [sessionLabel]: id });
  }

  /** Any other route of Docker's API (without version): `engine.request("GET", "/system/df")`. */
  request<T>(
    method: string,
    path: string,
    { query, body, signal }: Abortable & { readonly query?: Readonly<Record<string, string | number | boolean | undefined>>; readonly body?: unknown } = {},
  ): Promise<T> {
    return this.#calls.json(method, path, { ...(query && { query }), ...(body === undefined ? {} : { body }), ...abort(signal) });
  }

  close(): Promise<void> {
    return this.#end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #has(image: string, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      await this.image(image, { signal });
      return true;
    } catch (error) {
      if (isEngineError(error, "not-found")) return false;
      throw error;
    }
  }

  async #withProbe(image: string, options: RunOptions): Promise<RunOptions> {
    const [first] = options.ports ?? [];
    if (options.health !== undefined || first === undefined) return options;
    if (!(await this.#has(image, options.signal)) && options.pull !== "never")
      await this.pull(image, { signal: options.signal, ...(options.onProgress && { onProgress: options.onProgress }) });
    const { Config } = await this.image(image, { signal: options.signal });
    if (Config?.Healthcheck?.Test !== undefined) return options;
    const port = typeof first === "object" ? first.container : first;
    return { ...options, health: portProbe(String(port).replace(/\/.*/, "")) };
  }

  async #progress(method: string, path: string, options: Parameters<Calls["json"]>[2], onProgress: ((line: ProgressLine) => void) | undefined): Promise<void> {
    for await (const line of this.#calls.lines<ProgressLine>(method, path, options)) onProgress?.(line);
  }
}
