import { expect, test } from "vitest";
import { ArchiveNotes, archiveNotes } from "./archive-notes.ts";

/** As an HTTP client has them. */
const received = (notes: ArchiveNotes) => Object.fromEntries(Object.entries(notes.trailers()).map(([name, value]) => [name.toLowerCase(), value]));

test("what is said of an archive comes through a trailer, whatever characters it has", () => {
  const notes = new ArchiveNotes();
  expect(archiveNotes(received(notes))).toEqual([]);
  for (const line of ['"ä\n✓" has grown', "second"]) notes.add(line);
  expect(archiveNotes(received(notes))).toEqual(['"ä\n✓" has grown', "second"]);
  for (const value of Object.values(notes.trailers())) expect(value).toMatch(/^[A-Za-z0-9+/=]+$/);
});

test("thousands of files are counted, not named: the trailer stays below what HTTP clients take", () => {
  const notes = new ArchiveNotes();
  for (let i = 0; i < 5000; i++) notes.add(`"${"x".repeat(100)}${i}" has grown`);
  const lines = archiveNotes(received(notes));
  expect(lines.length).toBeGreaterThan(50);
  expect(lines.at(-1)).toBe(`and ${5000 - (lines.length - 1)} more: the daemon's log has them`);
  expect(Object.values(notes.trailers()).join("").length).toBeLessThan(12 * 1024);
});
