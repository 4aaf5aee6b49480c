/** Performs a network health check: a call that joins the container's network namespace and connects. @module */
import { join } from "node:path";
import type { Container } from "#container/container.ts";
import type { Probe } from "#container/health/check-loop.ts";
import { httpOutcome, type NetworkTest } from "#container/health/network-probe.ts";
import { newId } from "#core/ids.ts";
import { CLONE } from "#linux/flags.ts";
import { PlanError } from "#linux/helper.ts";
import type { Step } from "#linux/plan.ts";
import type { EngineContext } from "./context.ts";
import { answerBySocket } from "./tls-answer.ts";

const PIDFD = 0;
const ANSWER = 1;

export function startNetworkProbe(ctx: EngineContext, container: Container, test: NetworkTest, timeoutMs: number): Probe {
  let output = "";
  const probe = async (): Promise<number> => {
    for (const address of test.addresses) {
      const result = await dial(ctx, container, test, address, timeoutMs);
      output = result.output;
      if (!result.refused) return result.exitCode;
    }
    return 1;
  };
  // Killing is not needed: the worker ends by itself when the time is over.
  return { ended: probe(), output: () => output, kill: () => undefined };
}

async function dial(
  ctx: EngineContext,
  container: Container,
  { port, request, text, tls }: NetworkTest,
  address: Uint8Array,
  timeoutMs: number,
): Promise<{ readonly exitCode: number; readonly output: string; readonly refused: boolean }> {
  const { pid, startTime } = container.state;
  const inside: Step[] = [
    { op: "pidfd_open", where: "host", pid, starttime: BigInt(startTime), out: PIDFD, why: "the container's first process, and no other that has its number" },
    { op: "setns", where: "host", fd: PIDFD, flags: CLONE.NEWNET, why: "to check from inside the container's network" },
  ];
  const check = { where: "host", address, port, timeout_ms: Math.ceil(timeoutMs), why: "the health check" } as const;
  try {
    if (tls !== undefined) {
      // Its end at our side is a socket in the file system, which belongs to no network namespace.
      const path = join(ctx.options.execRoot, `probe-${newId().slice(0, 16)}.sock`);
      const answer = await answerBySocket(path, { request, ...tls }, () => ctx.helper.call({ steps: [...inside, { op: "dial_through", ...check, path }] }));
      return { ...(typeof answer === "string" ? { exitCode: 1, output: `${text}: ${answer}` } : httpOutcome(answer)), refused: false };
    }
    const answer = (await ctx.helper.call({ steps: [...inside, { op: "dial", ...check, request, tag: ANSWER }] })).get(ANSWER);
    return { ...(request.length === 0 ? { exitCode: 0, output: "" } : httpOutcome(answer ?? new Uint8Array())), refused: false };
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    const refused = error.errno === "ECONNREFUSED" || error.errno === "EADDRNOTAVAIL" || error.errno === "ENETUNREACH";
    return { exitCode: 1, output: `${text}: ${errnoWords[error.errno] ?? error.errno}`, refused };
  }
}

const errnoWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ETIMEDOUT: "no answer in time",
  ECONNRESET: "connection reset",
  EHOSTUNREACH: "no route to host",
  ENETUNREACH: "network is unreachable",
  EADDRNOTAVAIL: "no such address",
};
