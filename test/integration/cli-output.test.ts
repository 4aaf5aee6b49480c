/** What commands print, and how they end, is what docker's CLI does with the same answers. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createHttpClient } from "#api/client/http.ts";
import { testIo } from "#cli/io.fixture.ts";
import { main } from "#cli/main.ts";
import { answers } from "./cli-answers.fixture.ts";
import { type FakeDaemon, startFakeDaemon } from "./cli-fake-daemon.fixture.ts";
import { dockerCli } from "./docker-cli.fixture.ts";

/** One command line a row, as a shell without quoting rules would split it: fields are separated by two spaces. */
const same = `
ps
ps  -a  --no-trunc
ps  -s
ps  -q
ps  -l
ps  --format  table {{.Names}}\\t{{.Label "com.example.my-key"}}\\t{{.Mounts}}\\t{{upper .State}}
ps  --format  {{json .Names}} {{.Label "x"}} {{.Size}}
ps  --format  {{range $i, $n := split .Names ","}}{{$i}}={{$n}} {{end}}{{if eq .State "running"}}up{{else}}down{{end}}
ps  --format  {{printf "%-15s|%5d|%q" .Names (len .Ports) .State}}
ps  --format  {{with .Labels}}labels: {{.}}{{else}}none{{end}} {{- " trimmed"}}
ps  --format  table {{.ID}}\\t{{.Ports}}
ps  --format  {{.Foo
ps  --format  {{if}}
ps  --format  {{nofunc .ID}}
ps  --format  {{.ID | printf "%.4s"}} {{index (split .Ports ", ") 0}}
ps  -f  name=x  -f  status=exited  -n  3
ps  -f  x
ps  --foo
ps  x
images
images  --digests
images  -q
images  --no-trunc
images  busybox
images  --format  {{.Repository}}:{{.Tag}} {{.Size}} {{.CreatedSince}}
images  --format  json
inspect  web
inspect  web  gone
inspect  gone
inspect  -s  web
inspect  -f  json  web
inspect  -f  {{.State.Pid}} {{.Config.Entrypoint}} {{.HostConfig.PidsLimit}} {{.Config.Volumes}} {{.Config.Cmd}} {{.Config.Labels}}  web
inspect  -f  {{range .Config.Env}}{{println .}}{{end}}{{index .Config.Labels "a"}}  web
inspect  -f  {{range $p, $b := .NetworkSettings.Ports}}{{$p}} {{len $b}};{{end}}  web
inspect  -f  {{json .State}}{{json .HostConfig.PortBindings}}  web
inspect  -f  {{.NetworkSettings.Networks.bridge.IPAddress}} {{index .NetworkSettings.Networks "bridge" | json | len | lt 5}}  web
inspect  -f  {{.ID}}  web
inspect  -f  {{.HostConfig.NanoCPUs}} {{.HostConfig.CPUShares}}  web
inspect  -f  {{.Foo}}  web
inspect  -f  {{.State.Health.Status}}  web
inspect  -f  {{.Foo  web
inspect  -f  {{.Id}}  web  gone
inspect  --type  image  gone
container  inspect  gone  web
image  inspect  gone
image  inspect  busybox
network  inspect  bridge  gone
volume  inspect  gone
volume  inspect  data
inspect
top  web
top  web  -o  pid,cmd
top  gone
diff  web
diff  gone
port  web
port  web  80
port  web  81
port  web  53/udp
port
logs  web
logs  gone
logs  -f  -n  5  --since  1735787045  -t  --details  gone
logs  --since  nonsense  web
stats  --no-stream  web
stats  --no-stream  gone
stats  --no-stream  --format  {{.Name}} {{.CPUPerc}} {{.MemPerc}} {{.PIDs}}  web
events  --until  1735787046
events  --until  1735787046  --format  json
events  --until  1735787046  --format  {{.Action}} {{.Actor.Attributes.name}} {{.Type}}
events  --since  foo
history  busybox
history  --no-trunc  busybox
history  -q  busybox
history  -H=false  busybox
history  --format  json  busybox
system  df
system  df  --format  json
system  df  --format  {{.Type}}={{.Size}}
network  ls
network  ls  -q
network  ls  --no-trunc
network  ls  --format  json
network  create  -d  bridge  --subnet  10.0.0.0/24  --gateway  10.0.0.1  --ip-range  10.0.0.128/25  -o  a=b  --label  c=d  --internal  mine
network  create  --gateway  10.0.0.1  mine
network  rm  -f  gone
network  connect  mine  web  --ip  1.2.3.4  --alias  a
network  disconnect  -f  mine  web
network  prune  -f
volume  ls
volume  ls  -q
volume  ls  --format  json
volume  create
volume  create  data  --label  a=b  -o  type=tmpfs
volume  rm  data  gone
volume  prune  -f
volume  prune  -f  -a
container  prune  -f
container  prune
container  prune  -f  --filter  until=1h
image  prune  -f
image  prune  -f  -a
system  prune  -f
system  prune  -f  -a  --volumes
stop  web  gone
stop  -t  5  -s  INT  web
stop  -t  x  web
start  web
start  web  gone
start  gone  gone
start  -a  web  gone
restart  web  gone
kill  -s  TERM  web  gone
pause  web  gone
unpause  web  gone
wait  web  gone
rename  web  x
rename  gone  x
rename  web
rm  web  gone
rm  -v  -f  web
rm  -f  gone
rm
rmi  busybox  gone
rmi  -f  gone
tag  busybox  a/b:c
tag  gone  a/b:c
commit  web  me:1
commit  -m  hi  -a  me  -c  CMD x  -p=false  web
export  web
export  gone
save  busybox
import  {dir}/archive
import  -m  hi  -c  CMD x  {dir}/archive  a:b
import  /nonexistent
load  -i  /nonexistent
pull  busybox
pull  -q  busybox:1
pull  -a  busybox
update  -m  64m  web  gone
update  --restart  always  web
update  web
exec  gone  ls
exec  -x  a
exec
attach  gone
create  --restart  on-failure:x  b
run
run  --foo  b
run  -zz
run  --detach=foo  b
run  --cpus
run  -m  5q  b
run  -m  1.5.5  b
run  -e  =x  b
run  -l  =x  b
run  -l  a b=c  b
run  -a  foo  b
run  --add-host  x  b
run  --add-host  x:1.2.3  b
run  --dns  x  b
run  --link  a:b:c  b
run  --device-read-bps  x  b
run  --device-read-bps  /dev/x:1q  b
run  --blkio-weight-device  /dev/x:5  b
run  --blkio-weight  70000  b
run  --ulimit  foo=3  b
run  --ulimit  nofile=5:3  b
run  --ulimit  nofile=-1:5  b
run  --ulimit  nofile=a  b
run  --cpus  x  b
run  --cpus  1.00000000001  b
run  --sysctl  a  b
run  --mount  x  b
run  --mount  type=bind  b
run  --mount  type=bind,src=/x,dst=/y,foo=bar  b
run  --mount  type=volume,src=x,dst=/y,readonly=maybe  b
run  --mount  type=tmpfs,dst=/y,tmpfs-size=1q  b
run  --mount  type=volume,dst=/y,bind-propagation=rprivate  b
run  --mount  type=bind,src=.,dst=/x,bind-recursive=readonly  b
run  --mount  type=bind,src=.,"dst=/x  b
run  --health-interval  5  b
run  --health-interval  5x  b
run  --env-file  /nonexist  b
run  --network  name=a,foo=b  b
run  --network-alias  x  --network  host  b
run  --network  a  --network  host  b
run  --network  a  --network  a  b
run  --pull  foo  b
run  --rm  --restart  always  b
run  --mac-address  x  b
run  --pids-limit  x  b
run  --security-opt  seccomp=/nonexist  b
run  --security-opt  foo  b
run  --storage-opt  foo  b
run  --log-driver  none  --log-opt  a=b  b
run  --memory-swappiness  101  b
run  --pid  foo  b
run  --uts  foo  b
run  --userns  foo  b
run  --cgroupns  foo  b
run  --expose  a:b  b
run  --expose  5-3  b
run  -p  1-3:4-5  b
run  -p  1.2.3:4:5  b
run  -p  80/foo  b
run  -p  :  b
run  -p  3-1  b
run  -p  a:1  b
run  --no-healthcheck  --health-cmd  x  b
run  --health-retries  -1  b
run  -d  -a  stdout  b
run  -it  b
run  --device-cgroup-rule  x  b
run  --cidfile  /tmp  b
run  -d  missing
`
  .trim()
  .split("\n");

/** Requests whose order is nobody's business. */
const byUrl = (requests: readonly { method: string; url: string; body: unknown }[]) =>
  requests.map((r) => `${r.method} ${canonical(r.url.replace(/4c01db0b339c0+/, "web"))}`).sort();

/** Filters in either of their two forms, empty fields left out, docker.io's prefix left out. */
function canonical(url: string): string {
  const [path = "", query = ""] = url.split("?");
  const parameters = [...new URLSearchParams(query)]
    .filter(([, value]) => value !== "")
    .map(([key, value]) => {
      if (key !== "filters") return `${key}=${value.replace(/^docker\.io\/(library\/)?/, "")}`;
      const filters = JSON.parse(value) as Record<string, string[] | Record<string, boolean>>;
      return `filters=${JSON.stringify(Object.entries(filters).map(([name, values]) => [name, Array.isArray(values) ? values : Object.keys(values)]))}`;
    });
  return `${path}?${parameters.sort().join("&")}`;
}

/** Requests that only one of the two makes, and that change nothing. */
const harmless =
  /^(GET \/containers\/(gone|web)\/json|(GET|POST) \/containers\/gone\/(logs|exec|stats|wait)|GET \/networks\/(mine|gone)|POST \/build\/prune|GET \/info|GET \/containers\/json|GET \/events|GET \/plugins\/gone\/json|POST \/containers\/create|POST \/images\/create)\?/;

const docker = await dockerCli();

describe.skipIf(docker === undefined)("output that docker prints too (skipped without the docker CLI)", () => {
  let daemon: FakeDaemon;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "wherry-output-"));
    await writeFile(join(directory, "archive"), "TARBYTES");
    daemon = await startFakeDaemon(answers);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const theirs = (argv: readonly string[]): Promise<{ code: number; out: string; err: string }> =>
    new Promise((resolve) => {
      const child = execFile(
        docker!,
        argv,
        { env: { PATH: process.env["PATH"], DOCKER_HOST: daemon.host, DOCKER_CONFIG: directory, TZ: process.env["TZ"] }, cwd: directory },
        (error, out, err) => resolve({ code: error === null ? 0 : Number(error.code), out, err }),
      );
      child.stdin?.end();
    });

  /** docker's name and punctuation where ours differ by intent. */
  const inOurWords = (text: string) =>
    text
      .replaceAll("'docker ", "'wherry ")
      .replaceAll("docker: ", "wherry: ")
      .replaceAll("Usage:  docker", "Usage:  wherry")
      .replace(/^SRun/m, "Run")
      .replace(/\*formatter\.\w+Context/, "*formatter.Context")
      // A row of cells ends where its text ends.
      .replace(/ +$/gm, "");

  it.each(same.map((line) => [line, line.split("  ")] as const))("%s", async (_line, words) => {
    const argv = words.map((word) => word.replace("{dir}", directory));
    daemon.requests.length = 0;
    const their = await theirs(argv);
    const theirRequests = byUrl(daemon.requests);
    daemon.requests.length = 0;
    const io = testIo(argv, { cwd: directory, env: { PATH: "/bin" } });
    const code = await main(io, () => createHttpClient(daemon.host));
    // docker prints the names of one image in any order.
    const text = argv[0] === "images" ? (out: string) => inOurWords(out).split("\n").sort().join("\n") : inOurWords;
    expect(text(io.out())).toBe(text(their.out));
    expect(inOurWords(io.err())).toBe(inOurWords(their.err));
    expect(code).toBe(their.code);
    const ours = byUrl(daemon.requests);
    expect(ours.filter((r) => !harmless.test(r))).toEqual(theirRequests.filter((r) => !harmless.test(r)));
  });

  /** Commands that tell about the client too: what they say of the server must be the same. */
  it.each([
    ["info", /^Server:[\s\S]*/m],
    ["info  -f  {{.Driver}} {{.CgroupVersion}} {{range .Plugins.Network}}{{.}},{{end}}", /[\s\S]*/],
    ["version", /^Server:[\s\S]*/m],
    ["version  -f  {{.Server.Version}} {{.Server.APIVersion}} {{(index .Server.Components 0).Name}}", /[\s\S]*/],
    ["system  df  -v", /[\s\S]*(?=\nBuild cache usage)|[\s\S]*/],
  ] as const)("%s", async (line, part) => {
    const argv = line.split("  ");
    const their = await theirs(argv);
    const io = testIo(argv);
    const code = await main(io, () => createHttpClient(daemon.host));
    const server = (text: string) => inOurWords(part.exec(text)?.[0] ?? "");
    expect(server(io.out())).not.toBe("");
    expect(server(io.out())).toBe(server(their.out));
    expect(io.err()).toBe(their.err);
    expect(code).toBe(their.code);
  });
});
