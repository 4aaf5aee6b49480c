import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HostResolvConf } from "./host-resolv-conf.ts";

test("the host's file as it is now, and what is behind systemd-resolved's stub", async () => {
  const dir = await mkdtemp(join(tmpdir(), "wherry-resolv-"));
  try {
    const [main, behind] = [join(dir, "resolv.conf"), join(dir, "real")];
    const host = new HostResolvConf(main, behind);
    expect(await host.read()).toBe("");
    await writeFile(main, "nameserver 192.0.2.1\n");
    expect(await host.read()).toBe("nameserver 192.0.2.1\n");
    await writeFile(main, "nameserver 192.0.2.20\n");
    expect(await host.read()).toBe("nameserver 192.0.2.20\n");
    await writeFile(main, "nameserver 127.0.0.53\n");
    expect(await host.read()).toBe("nameserver 127.0.0.53\n");
    await writeFile(behind, "nameserver 192.0.2.3\n");
    expect(await host.read()).toBe("nameserver 192.0.2.3\n");
    await rm(main);
    expect(await host.read()).toBe("");
    await expect(new HostResolvConf(dir, behind).read()).rejects.toThrow("EISDIR");
  } finally {
    await rm(dir, { recursive: true });
  }
});
