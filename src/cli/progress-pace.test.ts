import { expect, test } from "vitest";
import { Pace } from "./progress.ts";

test("rate and time left come after half a second, and begin anew with a new state", () => {
  const pace = new Pace();
  const line = (status: string, current: number) => ({ id: "a", status, progressDetail: { current, total: 100_000_000 } });
  expect(pace.of(line("Downloading", 0), 0)).toBe("");
  expect(pace.of(line("Downloading", 1_000_000), 400)).toBe("");
  expect(pace.of(line("Downloading", 20_000_000), 2000)).toBe("  10MB/s 8s");
  expect(pace.of(line("Downloading", 25_000_000), 10_000)).toBe("  2.5MB/s 30s");
  expect(pace.of(line("Extracting", 1_000_000), 10_100)).toBe("");
  expect(pace.of(line("Extracting", 2_000_000), 12_100)).toBe("  500kB/s 3m16s");
  expect(pace.of({ id: "a", status: "Downloading", progressDetail: { current: 5 } }, 20_000)).toBe("");
});
