/** The suite: every case against every runtime that is asked about. @module */
import type { Case } from "./case.ts";
import { Lab, Skip } from "./case.ts";
import { lifecycleCases } from "./lifecycle.ts";
import { linuxCases } from "./linux.ts";
import { mountCases } from "./mounts.ts";
import { processCases } from "./process.ts";
import { resourceCases } from "./resources.ts";

export const cases: readonly Case[] = [...lifecycleCases, ...processCases, ...mountCases, ...linuxCases, ...resourceCases];

export interface Result {
  readonly section: string;
  readonly must: string;
  readonly outcome: "pass" | "fail" | "skipped";
  /** Why it failed or was skipped. */
  readonly reason?: string;
}

/** All cases whose name matches, in order. */
export async function conformance(command: readonly string[], only: RegExp = /(?:)/): Promise<Result[]> {
  const lab = new Lab(command);
  const results: Result[] = [];
  try {
    for (const { section, must, check } of cases) {
      if (!only.test(`${section}: ${must}`)) continue;
      try {
        await check(lab);
        results.push({ section, must, outcome: "pass" });
      } catch (error) {
        results.push({
          section,
          must,
          outcome: error instanceof Skip ? "skipped" : "fail",
          reason: (error as Error).message.split("\n").slice(0, 6).join(" ").trim(),
        });
      }
    }
  } finally {
    lab.dispose();
  }
  return results;
}

/** One line a case, one column a runtime; then the reasons, then the sums. */
export function conformanceTable(byRuntime: ReadonlyMap<string, readonly Result[]>): string {
  const names = [...byRuntime.keys()];
  const all = [...byRuntime.values()];
  const first = all[0] ?? [];
  const rows = first.map(({ section, must }, index) => [`${section}: ${must}`, ...all.map((results) => results[index]?.outcome ?? "")]);
  const sums = (["pass", "fail", "skipped"] as const).map((outcome) => [
    outcome,
    ...all.map((results) => String(results.filter((result) => result.outcome === outcome).length)),
  ]);
  const table = [["", ...names], ...rows, ["", ...names.map(() => "")], ...sums];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => (row[column] ?? "").length))) ?? [];
  const reasons = names.flatMap((name, column) =>
    (all[column] ?? [])
      .filter(({ reason }) => reason !== undefined)
      .map(({ section, must, outcome, reason }) => `${name}: ${outcome}: ${section}: ${must}: ${reason}`),
  );
  return `${table
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")}\n\n${reasons.join("\n")}\n`;
}
