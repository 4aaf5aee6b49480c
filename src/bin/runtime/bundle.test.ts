import { expect, test } from "vitest";
import type { OciProcess } from "#core/runtime-spec.ts";
import { knownCapabilities } from "./bundle.ts";

const process: OciProcess = { user: { uid: 0, gid: 0 }, args: ["sh"], cwd: "/" };

test("capabilities that do not exist are left out and told; sets that do not exist are ignored", () => {
  const told: string[] = [];
  const warn = (line: string) => told.push(line);
  const capabilities = { bounding: ["CAP_KILL", "CAP_FLY"], permitted: ["CAP_FLY"], x: 2 ** 53 };
  expect(knownCapabilities({ ...process, capabilities }, warn).capabilities).toMatchObject({ bounding: ["CAP_KILL"], permitted: [] });
  expect(told).toEqual(["warning: unknown capabilities are left out: CAP_FLY\n"]);
  const odd = { ...process, capabilities: { x: 2 ** 53 } as NonNullable<OciProcess["capabilities"]> };
  expect(knownCapabilities(odd, warn)).toBe(odd);
});
