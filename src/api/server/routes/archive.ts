/** Files of a container as tar archives: `docker cp`. @module */
import { EngineError } from "#core/errors.ts";
import { rfc3339Nano } from "#core/clock.ts";
import type { PathStat } from "#engine/mod.ts";
import { ArchiveNotes } from "#api/types/archive-notes.ts";
import type { ApiRequest, ApiResponse, Headers } from "#api/types/transport.ts";
import type { Context, Route } from "../router.ts";
import { goFileMode } from "../shape/go-file-mode.ts";
import { blameRequest } from "../status.ts";

const statHeader = "X-Docker-Container-Path-Stat";

function headersOf(stat: PathStat): Headers {
  const json = { name: stat.name, size: stat.size, mode: goFileMode(stat), mtime: rfc3339Nano(stat.mtimeNs), linkTarget: stat.linkTarget };
  return { [statHeader]: Buffer.from(JSON.stringify(json)).toString("base64") };
}

/** An archive of files that may change while they are read; what then is said of them comes behind it. */
export async function tarReply(
  open: (onChanged: (message: string) => void) => Promise<{ readonly body: AsyncIterable<Uint8Array>; readonly headers?: Headers }>,
): Promise<ApiResponse> {
  const notes = new ArchiveNotes();
  return { kind: "bytes", status: 200, contentType: "application/x-tar", ...(await open(notes.add)), trailers: () => notes.trailers() };
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
      return tarReply(async (onChanged) => {
        const { stat, tar } = await engine.containers.readArchive(name!, pathOf(request), onChanged);
        return { body: tar, headers: headersOf(stat) };
      });
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
