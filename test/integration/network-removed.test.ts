/** What is left of networks that were removed: for a moment a bridge without addresses, then nothing. In a network namespace of the test's own. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { TestEngine, until } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

inOwnHost(import.meta.filename, "networks that were removed", ["nft"], () => {
  let t: TestEngine;
  const bridges = () => [...sh("ip -o link show type bridge").matchAll(/^\d+: ([^:@]+)/gm)].map(([, name]) => name ?? "");
  const table = () => `wherry-${t.options.bridge?.name}`;
  const rules = () => sh("nft list ruleset");
  const blue = { Name: "blue", IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.88.1.0/24" }] } };
  const named = (name: string) => ({ Options: { "com.docker.network.bridge.name": name } });

  beforeAll(async () => {
    t = await TestEngine.open();
  }, 60_000);
  afterEach(async () => {
    await t.removeAll();
    await t.removeNetworks();
  });
  afterAll(() => t[Symbol.asyncDispose]());

  test("its name, its bridge's name and its range are free at once, and its rules do not apply to the next", async () => {
    for (let i = 0; i < 5; i++) {
      await t.engine.networks.create({ ...blue, ...named("wtest-blue") });
      expect(sh("ip -o -4 addr show wtest-blue")).toContain("10.88.1.1/24");
      await t.engine.networks.remove("blue");
      expect(sh("ip -o -4 addr; ip route")).not.toContain("10.88.1.");
    }
    await t.engine.networks.create({ ...blue, ...named("wtest-other") });
    expect(rules()).not.toContain("wtest-blue");
    expect((await t.run(["ping", "-c", "1", "-W", "2", "10.88.1.1"], {}, { NetworkMode: "blue" })).code).toBe(0);
    await until(() => !bridges().includes("wtest-blue"));
    expect(rules()).toContain("wtest-other");
  });

  test("many at once go together; the engine's end waits for the rest", async () => {
    for (let i = 0; i < 20; i++) await t.engine.networks.create({ Name: `net${i}` });
    expect(bridges().length).toBeGreaterThanOrEqual(20);
    for (let i = 0; i < 20; i++) await t.engine.networks.remove(`net${i}`);
    await until(() => bridges().length === 0 && !/"br-/.test(rules()));
    await t.engine.networks.create({ Name: "last" });
    await t.engine.networks.remove("last");
    await t.engine.close();
    expect(bridges()).toEqual([]);
    expect(rules()).not.toContain(table());
    await t.reopen();
  });

  test("bridges of ours that no network has are removed by the next engine, others' are left alone", async () => {
    await t.engine.close();
    sh(`ip link add br-killed type bridge; ip link set br-killed alias '${table()}: network gone'; ip link add br-theirs type bridge`);
    await t.reopen();
    expect(bridges()).toEqual(["br-theirs"]);
    await t.engine.networks.create({ Name: "theirs", ...named("br-theirs") });
    await t.engine.networks.remove("theirs");
    await t.engine.close();
    expect(bridges()).toEqual(["br-theirs"]);
    sh("ip link del br-theirs");
    await t.reopen();
  });

  test("a network that cannot be made leaves nothing", async () => {
    const create = t.engine.networks.create({ Name: "macvlan", Driver: "macvlan", Options: { parent: "wtest-absent" } });
    await expect(create).rejects.toThrow("the host has no interface wtest-absent");
    expect(t.engine.networks.list({ type: ["custom"] })).toEqual([]);
  });
});
