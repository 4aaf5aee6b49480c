/** Where BuildKit's clients come in. What serves them is loaded for the first of them. @module */
import { EngineError } from "#core/errors.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import type { BuildKit } from "../buildkit/mod.ts";
import type { Context, Route } from "../router.ts";

export async function loadBuildKit(context: Context): Promise<BuildKit> {
  const { buildKitOf } = await import("../buildkit/mod.ts");
  return buildKitOf(context);
}

function upgrade({ headers }: ApiRequest, take: Extract<ApiResponse, { kind: "upgrade" }>["take"]): ApiResponse {
  if (headers["upgrade"] !== "h2c") throw new EngineError("invalid", "no upgrade to h2c was asked for: this route is for BuildKit's clients");
  return { kind: "upgrade", protocol: "h2c", take };
}

async function grpc(request: ApiRequest, context: Context): Promise<ApiResponse> {
  const buildKit = await loadBuildKit(context);
  return upgrade(request, (socket) => buildKit.serve(socket));
}

async function session(request: ApiRequest, context: Context): Promise<ApiResponse> {
  const buildKit = await loadBuildKit(context);
  const head = buildKit.head(request.headers);
  return upgrade(request, (socket) => buildKit.call(socket, head));
}

export const buildKitRoutes: readonly Route[] = [
  ["POST", "/grpc", grpc],
  ["POST", "/session", session],
];
