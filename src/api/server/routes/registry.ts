/** Pull and push, in docker's progress lines. @module */
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import { parseReference, familiarString } from "#core/reference.ts";
import type { PullEvent, PullState, PushEvent, PushState } from "#engine/mod.ts";
import { type ProgressLine, progressBar } from "#api/types/progress.ts";
import { parseAuthHeader } from "#api/types/auth.ts";
import { asObject, text as fieldText } from "#api/types/fields.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import { emitted } from "../queue.ts";
import type { Context } from "../router.ts";

const pullWords: Readonly<Record<PullState, string>> = {
  waiting: "Pulling fs layer",
  exists: "Already exists",
  downloading: "Downloading",
  verifying: "Verifying Checksum",
  downloaded: "Download complete",
  extracting: "Extracting",
  complete: "Pull complete",
};

const pushWords: Readonly<Record<Exclude<PushState, "mounted">, string>> = {
  preparing: "Preparing",
  waiting: "Waiting",
  exists: "Layer already exists",
  pushing: "Pushing",
  pushed: "Pushed",
};

interface LayerEvent {
  readonly id: string;
  readonly current?: number;
  readonly total?: number;
}

function layerLine(status: string, { id, current, total }: LayerEvent): ProgressLine {
  if (current === undefined) return { status, progressDetail: {}, id: shortId(id) };
  return { status, progressDetail: { current, ...(total === undefined ? {} : { total }) }, progress: progressBar(current, total ?? 0), id: shortId(id) };
}

function pullLines(event: PullEvent): ProgressLine[] {
  switch (event.kind) {
    case "begin":
      return [{ status: `Pulling from ${event.path}`, id: event.tag }];
    case "layer":
      return [layerLine(pullWords[event.state], event)];
    case "note":
      return [{ status: event.why }];
    case "end": {
      const status = event.newer ? "Downloaded newer image for" : "Image is up to date for";
      return [{ status: `Digest: ${event.digest}` }, { status: `Status: ${status} ${event.reference}` }];
    }
  }
}

function pushLines(event: PushEvent): ProgressLine[] {
  switch (event.kind) {
    case "begin":
      return [{ status: `The push refers to repository [${event.repository}]` }];
    case "layer":
      return [layerLine(event.state === "mounted" ? `Mounted from ${event.from}` : pushWords[event.state], event)];
    case "note":
      return [{ status: event.why }];
    case "end":
      return [
        { status: `${event.tag}: digest: ${event.digest} size: ${event.size}` },
        { progressDetail: {}, aux: { Tag: event.tag, Digest: event.digest, Size: event.size } },
      ];
  }
}

function eachLine<E>(linesOf: (event: E) => ProgressLine[], emit: (line: ProgressLine) => void): (event: E) => void {
  return (event) => {
    for (const line of linesOf(event)) emit(line);
  };
}

/** `fromImage` and `tag` as one reference; `tag` may be a digest. No tag at all means every tag. */
function pullReference(from: string, tag: string): { readonly reference: string; readonly allTags: boolean } {
  const asked = parseReference(from);
  if (tag === "") return { reference: from, allTags: asked.tag === undefined && asked.digest === undefined };
  if (tag.includes(":"))
    return { reference: familiarString({ ...asked, ...parseReference(`x@${tag}`), domain: asked.domain, path: asked.path, tag: asked.tag }), allTags: false };
  return { reference: familiarString({ ...asked, tag: parseReference(`x:${tag}`).tag }), allTags: false };
}

/** `POST /images/create?fromImage=` */
export function pullImage(request: ApiRequest, { engine }: Context): ApiResponse {
  const { query, headers, signal } = request;
  const platform = query.text("platform");
  const asked = { ...pullReference(query.text("fromImage"), query.text("tag")), credentials: parseAuthHeader(headers["x-registry-auth"]) };
  const lines = emitted<ProgressLine>((emit) => engine.images.pull({ ...asked, ...(platform === "" ? {} : { platform }) }, eachLine(pullLines, emit), signal));
  return { kind: "lines", status: 200, lines, eager: false };
}

/** `POST /images/{name}/push` */
export function pushImage(request: ApiRequest, { engine }: Context, name?: string): ApiResponse {
  const { query, headers, signal } = request;
  const tag = query.text("tag");
  const target = parseReference(tag === "" ? (name ?? "") : `${name ?? ""}:${tag}`);
  const platform = platformText(query.text("platform"));
  const asked = {
    reference: familiarString(target),
    allTags: target.tag === undefined && target.digest === undefined,
    credentials: parseAuthHeader(headers["x-registry-auth"]),
  };
  const lines = emitted<ProgressLine>((emit) => engine.images.push({ ...asked, ...(platform === "" ? {} : { platform }) }, eachLine(pushLines, emit), signal));
  return { kind: "lines", status: 200, lines, eager: false };
}

/** `POST /wherry/images/copy?from=&to=`: the credentials of the source have a header of their own. */
export function copyImage(request: ApiRequest, { engine }: Context): ApiResponse {
  const { query, headers, signal } = request;
  const asked = {
    from: query.text("from"),
    to: query.text("to"),
    fromCredentials: parseAuthHeader(headers["x-registry-auth-from"]),
    toCredentials: parseAuthHeader(headers["x-registry-auth"]),
  };
  const lines = emitted<ProgressLine>((emit) => engine.images.copy(asked, eachLine(pushLines, emit), signal));
  return { kind: "lines", status: 200, lines, eager: false };
}

/** docker's CLI sends JSON here, ours the text. */
function platformText(text: string): string {
  if (!text.startsWith("{")) return text;
  const fields = asObject(jsonOf(text), "platform");
  return ["os", "architecture", "variant"]
    .map((key) => fieldText(fields[key], `platform.${key}`))
    .filter((part) => part !== "")
    .join("/");
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EngineError("invalid", "failed to parse platform: invalid JSON", { cause: error });
  }
}
