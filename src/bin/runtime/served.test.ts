import { Socket } from "node:net";
import { constants } from "node:os";
import { expect, test } from "vitest";
import { frameTypes } from "../stub-frames.ts";
import { ServedStub } from "./served.ts";

test("a signal that comes before the command listens is not lost, and comes once", () => {
  const isTty = { stdin: false, stdout: false, stderr: false };
  const stub = new ServedStub(new Socket(), { token: "", isTty, rows: 0, columns: 0, umask: 0o22, cwd: "/", argv: [], env: {} });
  const send = (number: number) => {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(number);
    stub.receive({ type: frameTypes.signal, payload });
  };
  send(constants.signals.SIGTERM);
  send(constants.signals.SIGTERM);
  send(constants.signals.SIGHUP);
  const seen: string[] = [];
  const stop = stub.onSignal((signal) => seen.push(signal));
  expect(seen).toEqual(["SIGTERM", "SIGHUP"]);
  send(constants.signals.SIGINT);
  stop();
  stub.onSignal((signal) => seen.push(signal));
  expect(seen).toEqual(["SIGTERM", "SIGHUP", "SIGINT"]);
});
