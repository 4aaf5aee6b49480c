/** Images that come in and go out: load, import, pull, push, save. @module */
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import type { LoadEvent } from "#image/mod.ts";
import { applyChanges } from "#engine/config-changes.ts";
import { type ProgressLine, progressBar } from "#api/types/progress.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import { emitted } from "../queue.ts";
import type { Context, Route } from "../router.ts";
import { blameRequest } from "../status.ts";
import { referenceOf } from "./images.ts";
import { copyImage, pullImage, pushImage } from "./registry.ts";

function loadLine(event: LoadEvent, quiet: boolean): ProgressLine | undefined {
  if (event.kind === "loaded") {
    const moved =
      event.replaced === undefined ? "" : `The image ${event.reference} already exists, renaming the old one with ID ${event.replaced} to empty string\n`;
    return { stream: event.reference === undefined ? `Loaded image ID: ${event.id}\n` : `${moved}Loaded image: ${event.reference}\n` };
  }
  if (quiet) return undefined;
  const { current, total } = event;
  return { status: "Loading layer", progressDetail: { current, total }, progress: progressBar(current, total), id: shortId(event.id) };
}

function load(request: ApiRequest, { engine }: Context): ApiResponse {
  const quiet = request.query.flag("quiet", true);
  const lines = emitted<ProgressLine>(async (emit) => {
    try {
      await engine.images.load(
        request.body,
        (event) => {
          const line = loadLine(event, quiet);
          if (line) emit(line);
        },
        request.signal,
      );
    } catch (error) {
      throw blameRequest(error);
    }
  });
  return { kind: "lines", status: 200, lines, eager: false };
}

async function importImage(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const { query } = request;
  const source = query.text("fromSrc");
  if (source !== "-")
    throw new EngineError(
      "unsupported",
      `importing from ${source.slice(0, 120)} is not supported by this version: send the archive in the request (fromSrc=-)`,
    );
  const reference = referenceOf(query.text("repo"), query.text("tag"));
  const changes = applyChanges({}, query.all("changes"));
  const platform = query.text("platform");
  try {
    const id = await engine.images.import(request.body, {
      ...(reference === undefined ? {} : { reference }),
      ...(query.text("message") === "" ? {} : { message: query.text("message") }),
      changes,
      ...(platform === "" ? {} : { platform }),
      signal: request.signal,
    });
    return { kind: "lines", status: 200, lines: lineOf({ status: id }), eager: false };
  } catch (error) {
    throw blameRequest(error);
  }
}

async function* lineOf(...lines: ProgressLine[]): AsyncGenerator<ProgressLine, void, undefined> {
  yield* lines;
}

async function save(names: readonly string[], { engine }: Context): Promise<ApiResponse> {
  if (names.length === 0) throw new EngineError("invalid", "no image name given");
  return { kind: "bytes", status: 200, contentType: "application/x-tar", body: await engine.images.save(names) };
}

export const imageTransferRoutes: readonly Route[] = [
  ["POST", "/images/load", load],
  ["GET", "/images/get", (request, context) => save(request.query.all("names"), context)],
  ["GET", "/images/{name:.*}/get", (_request, context, name) => save([name!], context)],
  ["POST", "/images/{name:.*}/push", pushImage],
  ["POST", "/wherry/images/copy", copyImage],
  [
    "POST",
    "/images/create",
    (request, context) => {
      if (request.query.text("fromImage") !== "") return pullImage(request, context);
      if (request.query.text("fromSrc") !== "") return importImage(request, context);
      throw new EngineError("invalid", "either fromImage or fromSrc is needed");
    },
  ],
];
