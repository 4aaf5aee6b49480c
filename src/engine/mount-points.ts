/**
 * `-v`, `--mount`, `--volumes-from` and an image's VOLUMEs → the mount points that a container asks for. Pure: volumes are made and directories looked at by the caller.
 * @module
 */
import type { MountPoint } from "#container/mod.ts";
import type { ContainerConfig, HostConfig, MountSpec } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { parseIdmap } from "#runtime/bind-idmap.ts";

/** A mount point whose volume is not made yet. */
export interface WantedMount extends MountPoint {
  /** For volumes: what to make it with. Name "" = anonymous. */
  readonly volume?: {
    readonly name: string;
    readonly labels?: Record<string, string>;
    readonly options?: Record<string, string>;
    readonly driver: string;
    readonly subpath?: string;
  };
  /** bind: refuse a source that is not there (`--mount`), or make a directory (`-v`). */
  readonly mustExist?: boolean;
}

const volumeName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const propagations = new Set(["shared", "rshared", "slave", "rslave", "private", "rprivate"]);
const consistencies = new Set(["consistent", "cached", "delegated", "default"]);

/** All mounts but tmpfs ones from `HostConfig.Tmpfs` (which stay there), in Docker's order of precedence. @throws EngineError "invalid" with Docker's texts */
export function wantedMounts(config: ContainerConfig, host: HostConfig, volumesFrom: (container: string) => readonly MountPoint[]): WantedMount[] {
  const byDestination = new Map<string, WantedMount>();
  for (const spec of host.VolumesFrom ?? []) for (const mount of inherited(spec, volumesFrom)) byDestination.set(mount.Destination, mount);
  const own = new Set(Object.keys(host.Tmpfs ?? {}).map(cleanPath));
  const add = (mount: WantedMount) => {
    if (own.has(mount.Destination)) throw new EngineError("invalid", `Duplicate mount point: ${mount.Destination}`);
    own.add(mount.Destination);
    byDestination.set(mount.Destination, mount);
  };
  for (const path of Object.keys(host.Tmpfs ?? {}))
    if (!path.startsWith("/") || cleanPath(path) === "/")
      throw new EngineError("invalid", `invalid mount config for type "tmpfs": invalid mount path: '${path}'`);
  for (const bind of host.Binds ?? []) add(parseBind(bind, host.VolumeDriver));
  for (const mount of host.Mounts ?? []) add(fromMountSpec(mount, host.VolumeDriver));
  for (const path of Object.keys(config.Volumes ?? {})) {
    if (!path.startsWith("/"))
      throw new EngineError(
        "invalid",
        `invalid volume specification: '${path}': invalid mount config for type "volume": invalid mount path: '${path}' mount path must be absolute`,
      );
    const destination = cleanPath(path);
    if (destination === "/")
      throw new EngineError(
        "invalid",
        `invalid volume specification: '${path}': invalid mount config for type "volume": invalid specification: destination can't be '/'`,
      );
    if (!byDestination.has(destination) && !own.has(destination)) byDestination.set(destination, volumeMount(destination, "", { driver: host.VolumeDriver }));
  }
  return [...byDestination.values()];
}

/** "/a//b/./c/" → "/a/b/c"; ".." is resolved as in Go's path.Clean. */
export function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function volumeMount(
  destination: string,
  name: string,
  options: {
    readonly driver: string;
    readonly readonly?: boolean;
    readonly mode?: string;
    readonly noCopy?: boolean;
    readonly labels?: Record<string, string> | undefined;
    readonly options?: Record<string, string> | undefined;
    readonly subpath?: string | undefined;
  },
): WantedMount {
  const driver = options.driver === "" ? "local" : options.driver;
  return {
    Type: "volume",
    Name: name,
    Source: "",
    Destination: destination,
    Driver: driver,
    Mode: options.mode ?? "",
    RW: options.readonly !== true,
    Propagation: "",
    ...(options.noCopy === true ? {} : { CopyUp: true }),
    ...(name === "" ? { Anonymous: true } : {}),
    volume: {
      name,
      driver,
      ...(options.labels === undefined ? {} : { labels: options.labels }),
      ...(options.options === undefined ? {} : { options: options.options }),
      ...(options.subpath === undefined ? {} : { subpath: options.subpath }),
    },
  };
}

/** `src:dst[:mode]`, `name:dst[:mode]`, `dst`. */
export function parseBind(spec: string, volumeDriver: string): WantedMount {
  const invalid = (why = "") => new EngineError("invalid", `invalid volume specification: '${spec}'${why === "" ? "" : `: ${why}`}`);
  const parts = spec.split(":");
  const [source, target, mode = ""] = parts.length === 1 ? ["", parts[0] as string] : (parts as [string, string, string?]);
  if (parts.length > 3 || target === "" || (parts.length > 1 && source === "")) throw invalid();
  if (parts.length === 2 && parseMode(target) !== undefined) throw invalid();
  const options = parseMode(mode);
  if (options === undefined) throw invalid(`invalid mode: ${mode}`);
  const type = source.startsWith("/") ? "bind" : "volume";
  const badMount = (why: string) => invalid(`invalid mount config for type "${type}": ${why}`);
  if (!target.startsWith("/")) throw badMount(`invalid mount path: '${target}' mount path must be absolute`);
  const destination = cleanPath(target);
  if (destination === "/") throw badMount("invalid specification: destination can't be '/'");
  if (type === "bind") {
    if (options.noCopy) throw badMount("copy mode is not for bind mounts");
    return {
      Type: "bind",
      Source: cleanPath(source),
      Destination: destination,
      Mode: mode,
      RW: !options.readonly,
      Propagation: options.propagation ?? "rprivate",
      ...(options.idmap === undefined ? {} : { Idmap: parseIdmap(options.idmap) }),
      mustExist: false,
    };
  }
  if (source !== "" && !volumeName.test(source)) {
    throw new EngineError(
      "invalid",
      `create ${source}: "${source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
  if (options.propagation !== undefined) throw badMount("propagation is for bind mounts only");
  if (options.idmap !== undefined) throw badMount("idmap is for bind mounts only: a volume's owners are always those of the container");
  const shown = mode === "" && source !== "" && (volumeDriver === "" || volumeDriver === "local") ? "z" : mode; // as docker shows it
  return volumeMount(destination, source, { driver: volumeDriver, readonly: options.readonly, mode: shown, noCopy: options.noCopy });
}

interface BindOptions {
  readonly readonly: boolean;
  readonly noCopy: boolean;
  readonly propagation: string | undefined;
  /** What stands behind `idmap=`; "" for a bare one. */
  readonly idmap: string | undefined;
}

/** "ro,Z,rshared" → options; each kind at most once; undefined when it is no mode. */
function parseMode(mode: string): BindOptions | undefined {
  let [access, label, noCopy, consistency]: (string | undefined)[] = [];
  let [propagation, idmap]: (string | undefined)[] = [];
  for (const part of mode === "" ? [] : mode.split(",")) {
    if (part === "ro" || part === "rw") {
      if (access !== undefined) return undefined;
      access = part;
    } else if (part === "z" || part === "Z") {
      // SELinux labels, see selinux.ts; ignored where it is not used.
      if (label !== undefined) return undefined;
      label = part;
    } else if (propagations.has(part)) {
      if (propagation !== undefined) return undefined;
      propagation = part;
    } else if (consistencies.has(part)) {
      if (consistency !== undefined) return undefined;
      consistency = part;
    } else if (part === "nocopy") {
      if (noCopy !== undefined) return undefined;
      noCopy = part;
    } else if (part === "idmap" || part.startsWith("idmap=")) {
      if (idmap !== undefined) return undefined;
      idmap = part.slice("idmap=".length);
    } else return undefined;
  }
  return { readonly: access === "ro", noCopy: noCopy !== undefined, propagation, idmap };
}

function fromMountSpec(mount: MountSpec, volumeDriver: string): WantedMount {
  const invalid = (why: string) => new EngineError("invalid", `invalid mount config for type "${mount.Type}": ${why}`);
  if (!mount.Target.startsWith("/")) throw invalid(`invalid mount path: '${mount.Target}' mount path must be absolute`);
  const destination = cleanPath(mount.Target);
  if (destination === "/") throw invalid("invalid specification: destination can't be '/'");
  const source = mount.Source ?? "";
  const readonly = mount.ReadOnly === true;
  switch (mount.Type) {
    case "bind": {
      if (source === "") throw invalid("field Source must not be empty");
      if (!source.startsWith("/")) throw invalid(`invalid mount path: '${source}' mount path must be absolute`);
      const propagation = mount.BindOptions?.Propagation ?? "";
      if (propagation !== "" && !propagations.has(propagation)) throw invalid(`invalid propagation mode: ${propagation}`);
      return {
        Type: "bind",
        Source: cleanPath(source),
        Destination: destination,
        Mode: "",
        RW: !readonly,
        Propagation: propagation || "rprivate",
        ...(mount.BindOptions?.WherryIdmap === undefined ? {} : { Idmap: parseIdmap(mount.BindOptions.WherryIdmap) }),
        mustExist: mount.BindOptions?.CreateMountpoint !== true,
      };
    }
    case "volume": {
      if (source !== "" && !volumeName.test(source))
        throw invalid(`invalid volume name: "${source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed`);
      const subpath = mount.VolumeOptions?.Subpath;
      if (subpath !== undefined && (subpath.startsWith("/") || subpath.split("/").includes("..")))
        throw invalid("subpath must be a relative path within the volume");
      if (subpath !== undefined && source === "") throw invalid("must not set Subpath when using anonymous volumes");
      return volumeMount(destination, source, {
        driver: mount.VolumeOptions?.DriverConfig?.Name || volumeDriver,
        readonly,
        mode: "z", // what Docker shows for them
        noCopy: mount.VolumeOptions?.NoCopy === true || subpath !== undefined,
        labels: mount.VolumeOptions?.Labels,
        options: mount.VolumeOptions?.DriverConfig?.Options,
        subpath,
      });
    }
    case "image": {
      if (source === "") throw invalid("field Source must not be empty");
      const subpath = mount.ImageOptions?.Subpath ?? "";
      if (subpath.startsWith("/") || subpath.split("/").includes("..")) throw invalid("subpath must be a relative path within the image");
      return { Type: "image", Name: source, Source: subpath, Destination: destination, Mode: "", RW: false, Propagation: "" };
    }
    case "tmpfs":
      if (source !== "") throw invalid("field Source must not be specified");
      return { Type: "tmpfs", Source: "", Destination: destination, Mode: "", RW: !readonly, Propagation: "", Options: tmpfsOptions(mount.TmpfsOptions) };
    default:
      throw new EngineError("unsupported", `mounts of type "${mount.Type}" are not supported by this engine`);
  }
}

function tmpfsOptions(options: MountSpec["TmpfsOptions"]): string {
  const parts = (options?.Options ?? []).map((pair) => pair.join("="));
  if (options?.SizeBytes !== undefined && options.SizeBytes > 0) parts.push(`size=${options.SizeBytes}`);
  if (options?.Mode !== undefined && options.Mode > 0) parts.push(`mode=${options.Mode.toString(8)}`);
  return parts.join(",");
}

/** `container[:ro|rw]`: its binds and volumes; never copied up again, and not removed with this container. */
function inherited(spec: string, mountsOf: (container: string) => readonly MountPoint[]): WantedMount[] {
  const [name = "", mode = ""] = spec.split(/:(.*)/s);
  if (name === "") throw new EngineError("invalid", "malformed volumes-from specification");
  const options = parseMode(mode);
  if (options === undefined || options.noCopy) throw new EngineError("invalid", `invalid mode: ${mode}`);
  return mountsOf(name)
    .filter((mount) => mount.Type !== "tmpfs" && mount.Type !== "image")
    .map(({ Anonymous: _anonymous, CopyUp: _copyUp, ...mount }) => ({ ...mount, RW: mount.RW && !options.readonly, Mode: mode || mount.Mode }));
}
