/**
 * Every command of the stock docker CLI that is not swarm's is driven against a daemon. The list is docker's own, by its `--help`: a command without a line here
 * fails the test. What each of them shows in detail is compared elsewhere (docker-cli, job-sequences, networks, cp …).
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dockerCli } from "../integration/docker-cli.fixture.ts";
import { patient } from "../patience.ts";
import { TestDaemon, whyNot } from "./daemon.ts";
import { dockerHelp, lacking } from "./docker-help.ts";
import { busyboxArchive } from "./images.ts";
import { DockerRegistry } from "./registry.ts";
import { run } from "./run.ts";

/** In this order. `R`: a registry; `W`: a directory. */
const job = `info --format {{.ServerVersion}}
system info --format {{.Driver}}
version --format {{.Server.Version}}
images -q
image ls -q
login -u me -p x R
tag busybox R/a:1
image tag busybox R/b:1
push -q R/a:1
image push -q R/b:1
pull -q R/a:1
image pull -q R/b:1
manifest inspect --insecure R/a:1
manifest create --insecure R/list:1 R/a:1
manifest annotate --arch arm64 R/list:1 R/a:1
manifest push --insecure R/list:1
manifest create --insecure R/other:1 R/a:1
manifest rm R/other:1
search --limit 1 R/a
logout R
create --name c1 busybox sleep 1000
container create --name c2 busybox sleep 1000
start c1
container start c2
run -d --name c3 busybox sleep 1000
container run --rm busybox true
run -d --name a1 busybox sleep 3
attach --no-stdin a1
run -d --name a2 busybox sleep 3
container attach --no-stdin a2
exec c1 true
container exec c1 true
ps -q
container ls -q
commit c1 x:1
container commit c1 x:2
cp c1:/etc/passwd W/passwd
container cp W/passwd c1:/tmp
diff c1
container diff c1
export -o W/e1 c1
container export -o W/e2 c1
import W/e1 i:1
image import W/e2 i:2
history busybox
image history busybox
inspect c1
container inspect c1
image inspect busybox
logs c1
container logs c1
top c1
container top c1
stats --no-stream c1
container stats --no-stream c1
port c1
container port c1
pause c1
unpause c1
container pause c1
container unpause c1
rename c1 c9
container rename c9 c1
update -m 64m --memory-swap 64m c1
container update --cpu-shares 512 c1
restart -t 0 c1
container restart -t 0 c1
kill c1
container kill c2
stop -t 0 c3
start c3
container stop -t 0 c3
wait c3
container wait c1
save -o W/s1 busybox
image save -o W/s2 busybox
load -q -i W/s1
image load -q -i W/s2
build -q -t b:1 W/context
builder build -q W/context
image build -q W/context
builder prune -f
network create n1
network connect n1 c3
network inspect n1
network ls
network disconnect n1 c3
network rm n1
network prune -f
volume create v1
volume inspect v1
volume ls
volume rm v1
volume prune -f
context create xx --docker host=unix:///nowhere
context ls
context inspect xx
context show
context export xx W/x.tar
context import yy W/x.tar
context update xx --description d
context use xx
context use default
context rm xx yy
system df
events --since 10m --until 0s
system events --since 10m --until 0s
rm -f c2
container rm -f c3
container prune -f
rmi i:1
image rm i:2
image prune -f
system prune -f`;

const reason = whyNot() ?? DockerRegistry.missing ?? ((await dockerCli()) === undefined ? "no docker client" : undefined);
if (reason) console.warn(`every-command: skipped: ${reason}`);

describe.skipIf(reason !== undefined)("docker's commands", () => {
  const work = mkdtempSync(join(tmpdir(), "wt-every-"));
  const daemon = new TestDaemon();
  let registry: DockerRegistry;

  beforeAll(async () => {
    const archive = busyboxArchive(work);
    mkdirSync(join(work, "context"));
    writeFileSync(join(work, "context", "Dockerfile"), "FROM busybox\nRUN true\n");
    [registry] = await Promise.all([DockerRegistry.start(join(work, "registry")), daemon.start()]);
    expect((await run(["docker", "load", "-q", "-i", archive.path], { env: { DOCKER_HOST: daemon.host } })).code).toBe(0);
  });
  afterAll(async () => {
    const left = await daemon.stop();
    await registry.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  test("each is driven, and does what it is asked", { timeout: 120_000 }, async () => {
    const lines = job.split("\n");
    const leaves = [...(await dockerHelp())].filter(([path, { commands }]) => path !== "" && commands.length === 0).map(([path]) => path);
    const driven = (path: string) => lines.some((line) => `${line} `.startsWith(`${path} `));
    const without = (path: string) => lacking[path] !== undefined || lacking[path.split(" ")[0] ?? ""] !== undefined;
    expect(leaves.filter((path) => !driven(path) && !without(path))).toEqual([]);
    // The classic builder: buildx has tests of its own.
    const env = { DOCKER_HOST: daemon.host, DOCKER_CONFIG: join(work, "config"), DOCKER_BUILDKIT: "0", DOCKER_CLI_EXPERIMENTAL: "enabled" };
    const failed: string[] = [];
    for (const line of lines) {
      const args = line.split(" ").map((word) => word.replace(/^R\b/, registry.host).replace(/^W\//, `${work}/`));
      const { code, stderr } = await run(["docker", ...args], { env, input: "", timeoutMs: patient(20_000) });
      if (code !== 0) failed.push(`${line}: ${code}: ${stderr}`);
    }
    expect(failed).toEqual([]);
  });
});
