/** Every route that docker's description of its API names is one of ours; those that refuse, refuse as docker does. */
import { existsSync, readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { createApiServer } from "#api/server/mod.ts";
import { Query } from "#api/types/query.ts";
import { createFakeEngine } from "./fake-engine.ts";
import { descriptionPath } from "./swagger.ts";

const server = createApiServer(createFakeEngine(), { version: "0.1.0", log: () => undefined });

const noManager = /^This node is not a swarm manager\. Use "docker swarm init" or "docker swarm join"/;

/** What does not work here, and what is said. Everything else must not answer with one of these. */
const refused: readonly (readonly [pattern: RegExp, status: number, message: RegExp])[] = [
  [/^\S+ \/(nodes|services|tasks|secrets|configs)(\/|$)/, 503, noManager],
  [/^(GET|POST) \/swarm(\/(leave|update|unlock|unlockkey))?$/, 503, noManager],
  [/^POST \/swarm\/(init|join)$/, 501, /not supported/],
  [/^PUT \/volumes\//, 503, /swarm is unavailable/],
  [/^GET \/plugins\/privileges$|^POST \/plugins\/(create|pull)$/, 501, /not supported/],
  [/^\S+ \/plugins\/x/, 404, /^plugin "x" not found$/],
  [/^POST \/session$/, 400, /needs an X-Docker-Expose-Session-Uuid/],
];

/** What the small engine behind the router has not got; the real one has. */
const fakeLacks = /not in the fake$|^(dis)?connecting /;

async function call(method: string, path: string): Promise<{ readonly status: number; readonly message: string }> {
  const response = await server.dispatch({
    method,
    path,
    minor: 51,
    query: Query.parse(""),
    headers: {},
    json: async () => ({}),
    body: Readable.from([]),
    signal: new AbortController().signal,
  });
  if (response.kind === "hijack") response.stream.destroy();
  const value = response.kind === "json" ? (response.value as { message?: string } | null) : null;
  return { status: "status" in response ? response.status : 200, message: value?.message ?? "" };
}

const minors = [40, 41, 44, 47, 50];
const missing = minors.filter((minor) => !existsSync(descriptionPath(minor)));
if (missing.length > 0) console.warn(`routes: skipped: no description of 1.${missing.join(", 1.")} here`);

test.skipIf(missing.length > 0)("no described route is unknown; what is refused is known", async () => {
  const described = new Set<string>();
  for (const minor of minors) {
    const { paths } = parse(readFileSync(descriptionPath(minor), "utf8")) as { paths: Record<string, Record<string, unknown>> };
    for (const [path, methods] of Object.entries(paths)) {
      for (const method of Object.keys(methods)) if (/^(get|head|post|put|delete)$/.test(method)) described.add(`${method.toUpperCase()} ${path}`);
    }
  }
  expect(described.size).toBeGreaterThanOrEqual(107);
  const wrong: string[] = [];
  for (const route of described) {
    const [method = "", path = ""] = route.replace(/\{[a-z]+\}/g, "x").split(" ");
    const { status, message } = await call(method, path);
    const expected = refused.find(([pattern]) => pattern.test(`${method} ${path}`));
    const fine =
      expected === undefined
        ? message !== "page not found" && (status !== 501 || fakeLacks.test(message))
        : status === expected[1] && expected[2].test(message);
    if (!fine) wrong.push(`${route}: ${status} ${message}`);
  }
  expect(wrong).toEqual([]);
});

test("an unknown path is said to be unknown", async () => {
  expect(await call("GET", "/no/such/route")).toEqual({ status: 404, message: "page not found" });
});
