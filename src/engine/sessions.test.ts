import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { EngineError } from "#core/errors.ts";
import { sessionLabel } from "#core/session-label.ts";
import { Background } from "./background.ts";
import { Sessions } from "./sessions.ts";

const [one, two] = ["1".repeat(32), "2".repeat(32)] as [string, string];

/** Objects of two sessions; what is removed is told. `stubborn`: what cannot be removed. */
function world(stubborn: string[] = []) {
  const removed: string[] = [];
  const of = (session: string | undefined) => (session === undefined ? {} : { [sessionLabel]: session });
  const things = { c1: one, c2: two, c0: undefined } as const;
  const matching =
    (filters: Readonly<Record<string, readonly string[]>>) =>
    ([, session]: [string, string | undefined]) =>
      filters["label"]?.every((label) => (label === sessionLabel ? session !== undefined : label === `${sessionLabel}=${session}`));
  const remove = async (name: string) => {
    if (stubborn.includes(name)) throw new EngineError("conflict", `${name} stays`);
    removed.push(name);
  };
  const entries = (kind: string): [string, string | undefined][] => Object.entries(things).map(([name, session]) => [`${kind}-${name}`, session]);
  // Only what sessions ask for.
  const objects = {
    containers: {
      list: ({ filters }: { filters: never }) =>
        entries("container")
          .filter(matching(filters))
          .map(([id, s]) => ({ id, config: { Labels: of(s) } })),
      remove,
    },
    networks: {
      list: (filters: never) =>
        entries("network")
          .filter(matching(filters))
          .map(([Id, s]) => ({ Id, Labels: of(s) })),
      remove,
    },
    volumes: {
      list: (filters: never) =>
        entries("volume")
          .filter(matching(filters))
          .map(([Name, s]) => ({ Name, Labels: of(s) })),
      remove,
    },
    images: { list: async () => entries("image").map(([id, s]) => ({ id, config: { config: { Labels: of(s) } } })), remove },
  } as unknown as ConstructorParameters<typeof Sessions>[0];
  const reports: string[] = [];
  const background = new Background((message) => reports.push(message));
  return { removed, reports, background, sessions: new Sessions(objects, background, 50) };
}

describe("sessions", () => {
  it("what was made goes when the last holder has let go, users first, and nothing else", async () => {
    const { removed, background, sessions } = world();
    const [first, second] = [sessions.hold(one), sessions.hold(one)];
    first();
    first();
    await background.idle();
    expect(removed).toEqual([]);
    second();
    await background.idle();
    expect(removed).toEqual(["container-c1", "network-c1", "volume-c1", "image-c1"]);
  });

  it("what cannot be removed keeps nothing else, and is told", async () => {
    const { removed, reports, background, sessions } = world(["container-c1"]);
    await expect(sessions.end(one)).rejects.toMatchObject({ code: "conflict" });
    sessions.hold(one)();
    await background.idle();
    expect(removed).toContain("volume-c1");
    expect(reports).toEqual([`removing what session ${one} made: container-c1 stays`]);
  });

  it("after a start a session waits for its client, and goes when nobody comes", async () => {
    const { removed, sessions } = world();
    sessions.sweepLater();
    sessions.hold(two);
    expect(removed).toEqual([]);
    while (removed.length < 4) await sleep(10);
    expect(removed).toEqual(["container-c1", "network-c1", "volume-c1", "image-c1"]);
  });

  it("closed, it removes nothing any more", async () => {
    const { removed, sessions } = world();
    sessions.sweepLater();
    sessions.close();
    await sleep(80);
    expect(removed).toEqual([]);
  });

  it("an id that is none is refused", () => expect(() => world().sessions.hold("../x")).toThrow("32 hexadecimal digits"));
});
