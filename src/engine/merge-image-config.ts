/**
 * An image's defaults under what the user asked for, as Docker merges them. Pure.
 * @module
 */
import type { ContainerConfig, HealthConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";

/** A new config; neither argument is changed. @throws EngineError "invalid" `No command specified` */
export function mergeImageConfig(user: ContainerConfig, image: Partial<ContainerConfig>): ContainerConfig {
  const config: ContainerConfig = {
    ...user,
    User: user.User || image.User || "",
    WorkingDir: user.WorkingDir || image.WorkingDir || "",
    Env: mergeEnv(user.Env, image.Env),
    Labels: { ...image.Labels, ...user.Labels },
    Volumes: mergeKeys(user.Volumes, image.Volumes),
    OnBuild: user.OnBuild,
    ...commandOf(user, image),
  };
  const ports = mergeKeys(user.ExposedPorts, image.ExposedPorts);
  if (ports !== null) config.ExposedPorts = ports;
  const health = mergeHealth(user.Healthcheck, image.Healthcheck);
  if (health !== undefined) config.Healthcheck = health;
  const stopSignal = user.StopSignal || image.StopSignal;
  if (stopSignal) config.StopSignal = stopSignal;
  // `--entrypoint ""` takes the image's entrypoint away, and with it its command.
  if (config.Entrypoint?.length === 1 && config.Entrypoint[0] === "") config.Entrypoint = null;
  if (!config.Entrypoint?.length && !config.Cmd?.length) throw new EngineError("invalid", "No command specified");
  return config;
}

/** The image's command is for the image's entrypoint: with another one it is not used. */
function commandOf(user: ContainerConfig, image: Partial<ContainerConfig>): Pick<ContainerConfig, "Entrypoint" | "Cmd"> {
  if (user.Entrypoint?.length) return { Entrypoint: user.Entrypoint, Cmd: user.Cmd };
  return {
    // null: not said; []: said to be none.
    Entrypoint: user.Entrypoint ?? image.Entrypoint ?? null,
    Cmd: user.Cmd?.length ? user.Cmd : (image.Cmd ?? null),
  };
}

function mergeEnv(user: string[] | null, image: string[] | null | undefined): string[] | null {
  if (!user?.length) return image ?? user;
  if (!image?.length) return user;
  const names = new Set(user.map((entry) => entry.split("=", 1)[0]));
  return [...user, ...image.filter((entry) => !names.has(entry.split("=", 1)[0]))];
}

function mergeKeys(
  user: Record<string, Record<string, never>> | null | undefined,
  image: Record<string, Record<string, never>> | null | undefined,
): Record<string, Record<string, never>> | null {
  return user || image ? { ...image, ...user } : null;
}

function mergeHealth(user: HealthConfig | undefined, image: HealthConfig | undefined): HealthConfig | undefined {
  if (user === undefined || image === undefined) return user ?? image;
  const merged: HealthConfig = { ...image };
  if (user.Test?.length) merged.Test = user.Test;
  for (const key of ["Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"] as const) {
    const value = user[key];
    if (value !== undefined && value !== 0) merged[key] = value;
  }
  return merged;
}
