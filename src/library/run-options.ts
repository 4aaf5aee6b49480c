/** What a program says of a container, as Docker's create body. @module */

/** A port of a container: `5432`, `"53/udp"`, or with its place on the host. */
export type PortOption =
  | number
  | `${number}/${"tcp" | "udp" | "sctp"}`
  | {
      readonly container: number | `${number}/${"tcp" | "udp" | "sctp"}`;
      /** Default: a free one. */
      readonly host?: number;
      /** Default 127.0.0.1. */
      readonly address?: string;
    };

/** What is mounted: the name of a volume, an absolute path of the host, or one of these at length. */
export type VolumeOption = string | { readonly source: string; readonly readOnly?: boolean };

/** How a program in a container is known to be ready. Durations in milliseconds. */
export interface HealthOption {
  /** A command (for the shell, or a program with its arguments), or a probe that needs no program in the image. */
  readonly test: string | readonly string[] | { readonly tcp: number | string } | { readonly http: string };
  readonly intervalMs?: number;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly startPeriodMs?: number;
}

/** All is optional; what is left out is the image's or Docker's default. */
export interface ContainerOptions {
  readonly name?: string;
  /** The program's arguments; with `entrypoint` its program. */
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly workdir?: string;
  readonly user?: string;
  readonly hostname?: string;
  readonly tty?: boolean;
  /** Keeps standard input open, for {@link Container.attach}. */
  readonly stdin?: boolean;
  readonly ports?: readonly PortOption[];
  /** By their place in the container. */
  readonly volumes?: Readonly<Record<string, VolumeOption>>;
  readonly tmpfs?: Readonly<Record<string, string>>;
  /** A network's name, "host", "none" or "container:NAME". */
  readonly network?: string;
  readonly memoryBytes?: number;
  readonly cpus?: number;
  readonly pidsLimit?: number;
  readonly restart?: "no" | "always" | "unless-stopped" | "on-failure";
  readonly init?: boolean;
  readonly readOnly?: boolean;
  readonly privileged?: boolean;
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  readonly health?: HealthOption;
  readonly platform?: string;
  /** Whatever else Docker's create body has, laid over what the options above make: `{ HostConfig: { ShmSize: 1e8 } }`. */
  readonly body?: Readonly<Record<string, unknown>>;
}

const ns = (ms: number): number => Math.round(ms * 1e6);

function portKey(port: number | string): string {
  return typeof port === "number" || !port.includes("/") ? `${port}/tcp` : port;
}

function testOf(test: HealthOption["test"]): string[] {
  if (typeof test === "string") return ["CMD-SHELL", test];
  if (isList(test)) return ["CMD", ...test];
  return "tcp" in test ? ["TCP", String(test.tcp)] : ["HTTP", test.http];
}

function isList(test: HealthOption["test"]): test is readonly string[] {
  return Array.isArray(test);
}

function health({ test, intervalMs, timeoutMs, retries, startPeriodMs }: HealthOption): object {
  return {
    Test: testOf(test),
    ...(intervalMs === undefined ? {} : { Interval: ns(intervalMs), StartInterval: ns(intervalMs) }),
    ...(timeoutMs === undefined ? {} : { Timeout: ns(timeoutMs) }),
    ...(retries === undefined ? {} : { Retries: retries }),
    ...(startPeriodMs === undefined ? {} : { StartPeriod: ns(startPeriodMs) }),
  };
}

function portsOf(ports: readonly PortOption[]): { readonly exposed: object; readonly bindings: object } {
  const entries = ports.map((port) => {
    const { container, host, address = "127.0.0.1" } = typeof port === "object" ? port : { container: port, host: undefined };
    return [portKey(container), { HostIp: address, HostPort: host === undefined ? "" : String(host) }] as const;
  });
  return {
    exposed: Object.fromEntries(entries.map(([key]) => [key, {}])),
    bindings: Object.fromEntries(entries.map(([key]) => [key, entries.filter(([other]) => other === key).map(([, binding]) => binding)])),
  };
}

function mountsOf(volumes: NonNullable<ContainerOptions["volumes"]>): object[] {
  return Object.entries(volumes).map(([Target, volume]) => {
    const { source: Source, readOnly = false } = typeof volume === "string" ? { source: volume } : volume;
    return { Type: Source.startsWith("/") ? "bind" : "volume", Source, Target, ReadOnly: readOnly };
  });
}

/** Objects are merged, everything else is replaced. */
function laidOver(base: object, over: object): Record<string, unknown> {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const under = result[key];
    const plain = (one: unknown): one is object => typeof one === "object" && one !== null && !Array.isArray(one);
    result[key] = plain(value) && plain(under) ? laidOver(under, value) : value;
  }
  return result;
}

/** Keys whose value is undefined are left out. */
function said(body: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}

/** Docker's create body. */
export function createBody(image: string, options: ContainerOptions): Record<string, unknown> {
  const { exposed, bindings } = portsOf(options.ports ?? []);
  const host = said({
    PortBindings: options.ports && bindings,
    Mounts: options.volumes && mountsOf(options.volumes),
    Tmpfs: options.tmpfs,
    NetworkMode: options.network,
    Memory: options.memoryBytes,
    NanoCpus: options.cpus === undefined ? undefined : Math.round(options.cpus * 1e9),
    PidsLimit: options.pidsLimit,
    RestartPolicy: options.restart && { Name: options.restart },
    Init: options.init,
    ReadonlyRootfs: options.readOnly,
    Privileged: options.privileged,
    CapAdd: options.capAdd,
    CapDrop: options.capDrop,
  });
  const body = said({
    Image: image,
    Cmd: options.command,
    Entrypoint: options.entrypoint,
    Env: options.env && Object.entries(options.env).map(([name, value]) => `${name}=${value}`),
    Labels: options.labels,
    WorkingDir: options.workdir,
    User: options.user,
    Hostname: options.hostname,
    Tty: options.tty,
    OpenStdin: options.stdin,
    ExposedPorts: options.ports && exposed,
    Healthcheck: options.health && health(options.health),
    HostConfig: host,
  });
  return laidOver(body, options.body ?? {});
}
