/** The same `docker network` script against dockerd and wherryd, one after the other in a network namespace of this test's own: the same answers. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { inOwnHost } from "../integration/own-host.fixture.ts";
import { TestDaemon, wherryPath } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { ok, run } from "./run.ts";

/** One docker command a line. What differs between docker's own versions is not asked. */
const script = `network create --subnet 10.123.1.0/24 --gateway 10.123.1.254 --ip-range 10.123.1.128/25 --label a=b -o com.docker.network.driver.mtu=1400 one
network create --internal --subnet 10.123.2.0/24 two
network create one
network create --subnet 10.9.0.0/24 --gateway 10.8.0.1 x
network create bridge
network create host
network create -d host x
network inspect one -f {{json .IPAM}}\\t{{json .Options}}\\t{{json .Labels}}\\t{{.Internal}}\\t{{.Attachable}}\\t{{.Scope}}\\t{{.Driver}}\\t{{.EnableIPv6}}
network ls --format {{.Name}}\\t{{.Driver}}\\t{{.Scope}}
run -d --name c1 --hostname hh --network one --network-alias al busybox sleep 1000
exec c1 tail -n 1 /etc/hosts
exec c1 cat /etc/resolv.conf
exec c1 ip route
exec c1 cat /sys/class/net/eth0/mtu
network connect two c1
network connect two c1
exec c1 ip route
exec c1 tail -n 2 /etc/hosts
run --rm --network one --ip 10.123.1.128 busybox true
run --rm --ip 10.1.1.1 busybox true
run --rm --network nonet busybox true
network rm nonet
network rm bridge
network disconnect nonet c1
network disconnect one nocont
network connect one nocont
network connect none c1
network inspect one -f {{range .Containers}}{{.Name}}\\t{{.IPv4Address}}\\t{{.MacAddress}}{{end}}
inspect c1 -f {{range $k,$v := .NetworkSettings.Networks}}{{$k}}\\t{{$v.IPAddress}}\\t{{$v.IPPrefixLen}}\\t{{$v.MacAddress}};{{end}}
network ls -f driver=bridge -f type=custom --format {{.Name}}
network ls -f label=a --format {{.Name}}
network ls -f name=on --format {{.Name}}
network ls -f scope=local -f type=builtin --format {{.Name}}
network ls -f type=odd
run --rm --network one busybox nslookup -type=a c1
run --rm --network one busybox nslookup -type=a al
network disconnect two c1
network disconnect two c1
exec c1 ip route
network prune -f
rm -f c1
network prune -f
run -d --name p1 -p 18080:80 busybox sleep 100
run -d --name p2 -p 18080:80 busybox sleep 100
port p1
rm -f p1 p2`.split("\n");

const volatile = (text: string) =>
  text
    .replace(/[0-9a-f]{64}/g, "ID")
    .replace(/\b[0-9a-f]{12}\b/g, "SHORT")
    .replace(/\(ID\): Bind for/, "(ID): Bind for");

async function answers(host: string): Promise<string[]> {
  const shown: string[] = [];
  for (const line of script) {
    const command = ["docker", ...line.replaceAll("\\t", "\t").split(/ (?![^{]*}})/)];
    const { code, stdout, stderr } = await run(command, { env: { DOCKER_HOST: host }, timeoutMs: 30_000 });
    shown.push(volatile(`$ docker ${line}\n${code}\n${stdout}${stderr}`));
  }
  return shown;
}

inOwnHost(import.meta.filename, "docker network, beside dockerd", ["docker", "dockerd", "iptables"], () => {
  const work = mkdtempSync(join(tmpdir(), "wherry-networks-"));
  const wherryd = new TestDaemon();
  const dockerd = new Dockerd(work, ["--bip", "172.29.0.1/24", "--storage-driver", "vfs"]);
  let theirs: string[];

  beforeAll(async () => {
    await wherryd.start();
    const archive = join(work, "busybox.tar");
    const env = { WHERRY_HOST: wherryd.host, DOCKER_HOST: wherryd.host };
    await ok([wherryPath, "image", "bootstrap", "busybox"], { env });
    await ok(["docker", "save", "-o", archive, "busybox"], { env });
    await dockerd.start();
    try {
      await ok(["docker", "load", "-i", archive], { env: { DOCKER_HOST: dockerd.host } });
      theirs = await answers(dockerd.host);
    } finally {
      await dockerd.stop();
      for (const name of ["docker0"]) spawnSync("ip", ["link", "del", name]);
    }
  });
  afterAll(async () => {
    expect(await wherryd.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  test("every answer is the same", async () => {
    const ours = await answers(wherryd.host);
    for (const [i, answer] of ours.entries()) expect(answer).toBe(theirs[i]);
  });
});
