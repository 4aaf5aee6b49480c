/** Files of a container as tar archives: `docker cp`. @module */
import { EngineError } from "#core/errors.ts";
import { rfc3339Nano } from "#core/clock.ts";
import type { PathStat } from "#engine/mod.ts";
import type { ApiRequest, Headers } from "#api/types/transport.ts";
import type { Context, Route } from "../router.ts";
import { blameRequest } from "../status.ts";

const statHeader = "X-Docker-Container-Path-Stat";

/** Bits of Go's os.FileMode for what st_mode keeps elsewhere. */
const goTypes = {
  file: 0,
  dir: 2 ** 31,
  symlink: 2 ** 27,
  char: 2 ** 26 + 2 ** 21,
  block: 2 ** 26,
  fifo: 2 ** 25,
  socket: 2 ** 24,
} as const satisfies Record<PathStat["type"], number>;

/** Go's os.FileMode of a file. Exported for its test. */
export function goFileMode({ type, mode }: Pick<PathStat, "type" | "mode">): number {
  const setuid = mode & 0o4000 ? 2 ** 23 : 0;
  const setgid = mode & 0o2000 ? 2 ** 22 : 0;
  const sticky = mode & 0o1000 ? 2 ** 20 : 0;
  return goTypes[type] + setuid + setgid + sticky + (mode & 0o777);
}

function headersOf(stat: PathStat): Headers {
  const json = { name: stat.name, size: stat.size, mode: goFileMode(stat), mtime: rfc3339Nano(stat.mtimeNs), linkTarget: stat.linkTarget };
  return { [statHeader]: Buffer.from(JSON.stringify(json)).toString("base64") };
}

function pathOf({ query }: ApiRequest): string {
  const path = query.text("path");
  if (path === "") throw new EngineError("invalid", "bad parameter: path cannot be empty");
  if (path.includes("\0")) throw new EngineError("invalid", "bad parameter: path holds a NUL byte");
  return path;
}

export const archiveRoutes: readonly Route[] = [
  [
    "HEAD",
    "/containers/{id}/archive",
    async (request, { engine }, name) => ({ kind: "empty", status: 200, headers: headersOf(await engine.containers.statPath(name!, pathOf(request))) }),
  ],
  [
    "GET",
    "/containers/{id}/archive",
    async (request, { engine }, name) => {
      const { stat, tar } = await engine.containers.readArchive(name!, pathOf(request));
      return { kind: "bytes", status: 200, contentType: "application/x-tar", body: tar, headers: headersOf(stat) };
    },
  ],
  ["PUT", "/containers/{id}/archive", putArchive],
];

async function putArchive(request: ApiRequest, { engine }: Context, name: string): Promise<{ readonly kind: "empty"; readonly status: number }> {
  const { query } = request;
  try {
    await engine.containers.writeArchive(name, pathOf(request), request.body, {
      noOverwriteDirNonDir: query.flag("noOverwriteDirNonDir"),
      copyUidGid: query.flag("copyUIDGID"),
    });
  } catch (error) {
    throw blameRequest(error);
  }
  return { kind: "empty", status: 200 };
}
