/** What `run` and `exec` do with the API and with their caller. */
import { Duplex } from "node:stream";
import { describe, expect, it } from "vitest";
import { ApiError, ConnectionError } from "#api/client/mod.ts";
import { type TestAnswers, type TestClient, testClient } from "./client.fixture.ts";
import { testIo, type TestIoOptions } from "./io.fixture.ts";
import { main } from "./main.ts";
import { codeOfText } from "./run.ts";

const id = "c".repeat(64);

/** The container's end of an attach: what was typed is kept, output is sent by hand. */
class Attached extends Duplex {
  typed = "";
  ended = false;
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.typed += chunk.toString();
    done();
  }
  override _final(done: () => void): void {
    this.ended = true;
    done();
  }
}

/** A promise and what settles it. */
function later<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}

const started: TestAnswers = {
  "POST /containers/create": { Id: id, Warnings: [] },
  [`POST /containers/${id}/start`]: undefined,
  [`POST /containers/${id}/wait`]: { StatusCode: 0 },
  [`POST /containers/${id}/resize`]: undefined,
  [`POST /containers/${id}/kill`]: undefined,
};

async function run(argv: readonly string[], client: TestClient, options: TestIoOptions = {}) {
  const io = testIo(argv, options);
  const code = await main(io, () => client);
  return { code, out: io.out(), err: io.err(), io };
}

const tick = () => new Promise((resolve) => setTimeout(resolve, 5));

describe("run", () => {
  it("through the stub: create, wait, start with its descriptors, no attach", async () => {
    const client = testClient({ ...started, [`POST /containers/${id}/wait`]: { StatusCode: 7 } }, { direct: true });
    const { code, out, err } = await run(["run", "--rm", "--network", "none", "busybox", "true"], client, { directToken: "t0" });
    expect([code, out, err]).toEqual([7, "", ""]);
    expect(client.routes()).toEqual(["POST /containers/create", `POST /containers/${id}/wait`, `POST /containers/${id}/start`]);
    expect(client.calls[1]?.options.query).toEqual({ condition: "removed" });
    expect(client.calls[2]?.options.direct).toMatchObject({ token: "t0", stdin: false, stdout: true, stderr: true });
  });

  it("over a socket: attached before the start, output copied, its code returned", async () => {
    const stream = new Attached();
    const wait = later<{ StatusCode: number }>();
    const client = testClient({
      ...started,
      [`POST /containers/${id}/attach`]: stream,
      [`POST /containers/${id}/start`]: () => {
        stream.push("hello\n");
        stream.push(null);
        wait.resolve({ StatusCode: 3 });
      },
      [`POST /containers/${id}/wait`]: { StatusCode: 3 },
    });
    const { code, out } = await run(["run", "busybox"], client);
    expect([code, out]).toEqual([3, "hello\n"]);
    expect(client.routes()).toEqual([
      "POST /containers/create",
      `POST /containers/${id}/attach`,
      `POST /containers/${id}/wait`,
      `POST /containers/${id}/start`,
    ]);
    expect(client.calls[2]).toMatchObject({ kind: "stream", options: { query: { condition: "next-exit" } } });
  });

  it("forwards input and its end", async () => {
    const stream = new Attached();
    const client = testClient({
      ...started,
      [`POST /containers/${id}/attach`]: stream,
      [`POST /containers/${id}/wait`]: () => tick().then(() => ({ StatusCode: 0 })),
    });
    const done = run(["run", "-i", "busybox", "cat"], client, { stdin: "some input" });
    await tick();
    stream.push(null);
    await done;
    expect([stream.typed, stream.ended]).toEqual(["some input", true]);
  });

  it("a terminal: raw while it runs, sized, and given back", async () => {
    const stream = new Attached();
    const wait = later<{ StatusCode: number }>();
    const client = testClient({ ...started, [`POST /containers/${id}/attach`]: stream, [`POST /containers/${id}/wait`]: () => wait.promise }, { direct: true });
    const io = testIo(["run", "-it", "busybox"], { tty: true, directToken: "t0" });
    const done = main(io, () => client);
    await tick();
    expect(io.rawModes).toEqual([true]);
    io.resize(50, 132);
    await tick();
    stream.push(null);
    wait.resolve({ StatusCode: 0 });
    expect(await done).toBe(0);
    expect(io.rawModes).toEqual([true, false]);
    const sizes = client.calls.filter((c) => c.route.endsWith("/resize")).map((c) => c.options.query);
    expect(sizes).toEqual([
      { h: 24, w: 80 },
      { h: 50, w: 132 },
    ]);
    expect((client.calls[0]!.options.body as { HostConfig: { ConsoleSize: unknown } }).HostConfig.ConsoleSize).toEqual([24, 80]);
  });

  it("detach keys leave it running", async () => {
    const stream = new Attached();
    const client = testClient(
      { ...started, [`POST /containers/${id}/attach`]: stream, [`POST /containers/${id}/wait`]: () => later().promise },
      { direct: true },
    );
    const { code, err, io } = await run(["run", "-it", "busybox"], client, { tty: true, stdin: "ab\u0010\u0011cd" });
    expect([code, err, stream.typed]).toEqual([0, "read escape sequence\n", "ab"]);
    expect(io.rawModes).toEqual([true, false]);
    expect(stream.destroyed).toBe(true);
  });

  it("passes signals on, unless told not to", async () => {
    const wait = later<{ StatusCode: number }>();
    const client = testClient({ ...started, [`POST /containers/${id}/wait`]: () => wait.promise }, { direct: true });
    const io = testIo(["run", "busybox"], { directToken: "t0" });
    const done = main(io, () => client);
    await tick();
    io.signal("SIGINT");
    wait.resolve({ StatusCode: 130 });
    expect(await done).toBe(130);
    expect(client.calls.at(-1)).toMatchObject({ route: `POST /containers/${id}/kill`, options: { query: { signal: "SIGINT" } } });
    io.signal("SIGTERM");
    expect(client.calls.filter((c) => c.route.endsWith("/kill"))).toHaveLength(1);
  });

  it("in the background it prints the id and does not wait", async () => {
    const client = testClient(started, { direct: true });
    expect(await run(["run", "-d", "busybox"], client, { directToken: "t0" })).toMatchObject({ code: 0, out: `${id}\n` });
    expect(client.routes()).toEqual(["POST /containers/create", `POST /containers/${id}/start`]);
  });

  it("--rootfs takes no image", async () => {
    const client = testClient(started, { direct: true });
    await run(["run", "-d", "--rootfs", "../root", "/bin/sh", "-c", "true"], client, { cwd: "/srv/x" });
    expect(client.calls[0]?.options.body).toMatchObject({ Image: "", Cmd: ["/bin/sh", "-c", "true"], HostConfig: { WherryRootfs: "/srv/root" } });
  });

  it("--explain runs nothing", async () => {
    const client = testClient({ "POST /wherry/explain": "the plan\n" });
    expect(await run(["run", "--explain=json", "busybox"], client)).toMatchObject({ code: 0, out: "the plan\n" });
    expect(client.calls[0]?.options.query).toEqual({ format: "json" });
    expect(await run(["run", "--explain=xml", "busybox"], client)).toMatchObject({ code: 125 });
  });

  it.each([
    ['exec: "nope": executable file not found in $PATH', undefined, 127],
    ["exec /x: no such file or directory", undefined, 127],
    ["exec /x: permission denied", undefined, 126],
    ["disk full", undefined, 125],
    ["anything", 126, 126],
  ])("a start that fails with %j (%s) exits %d", async (message, exitCode, expected) => {
    const client = testClient(
      {
        ...started,
        [`POST /containers/${id}/start`]: () => {
          throw new ApiError(400, message, "do this", exitCode === undefined ? {} : { exitCode });
        },
      },
      { direct: true },
    );
    const { code, err } = await run(["run", "busybox"], client, { directToken: "t0" });
    expect(code).toBe(expected);
    expect(err).toBe(`wherry: Error response from daemon: ${message}\nHint: do this\n\nRun 'wherry run --help' for more information\n`);
  });

  it("no daemon is 125", async () => {
    const client = testClient({
      "POST /containers/create": () => {
        throw new ConnectionError("nobody there");
      },
    });
    expect(await run(["run", "busybox"], client)).toMatchObject({ code: 125, err: "wherry: nobody there\n" });
  });

  it("an unknown image is fetched once, then created again", async () => {
    let asked = 0;
    const client = testClient({
      ...started,
      "POST /containers/create": () => {
        asked++;
        if (asked === 1) throw new ApiError(404, "No such image: busybox:latest");
        return { Id: id, Warnings: ["a warning"] };
      },
      "POST /images/create": `${JSON.stringify({ status: "Pulling" })}\n`,
    });
    expect(await run(["run", "-d", "busybox"], client)).toMatchObject({
      code: 0,
      err: "Unable to find image 'busybox:latest' locally\nPulling\nWARNING: a warning\n",
    });
    expect(client.calls[1]?.options.query).toMatchObject({ fromImage: "busybox", tag: "latest" });
    expect(await run(["run", "--pull", "never", "busybox"], testClient({}))).toMatchObject({ code: 125 });
  });

  it("what the container left attached does not hold us for ever", async () => {
    const client = testClient({ ...started, [`POST /containers/${id}/attach`]: new Attached() });
    expect(await run(["run", "busybox"], client)).toMatchObject({ code: 0 });
  }, 10_000);

  it("a caller that goes away ends the call, not the container", async () => {
    const stream = new Attached();
    const client = testClient(
      {
        ...started,
        [`POST /containers/${id}/attach`]: stream,
        [`POST /containers/${id}/wait`]: (options: { signal: AbortSignal }) =>
          new Promise((_resolve, reject) => options.signal.addEventListener("abort", () => reject(options.signal.reason))),
      },
      { direct: true },
    );
    const io = testIo(["run", "busybox"]);
    const done = main(io, () => client);
    await tick();
    io.leave();
    expect(await done).toBe(141);
    expect(client.routes().some((route) => /kill|stop|DELETE/.test(route))).toBe(false);
    expect(stream.destroyed).toBe(true);
  });
});

describe("exec", () => {
  const answers: TestAnswers = { "POST /containers/web/exec": { Id: "e1" }, "POST /exec/e1/start": undefined, "POST /wherry/exec/e1/wait": { StatusCode: 4 } };

  it("through the stub", async () => {
    const client = testClient(answers, { direct: true });
    expect(await run(["exec", "-i", "web", "sh", "-c", "exit 4"], client, { directToken: "t0" })).toMatchObject({ code: 4 });
    expect(client.calls[0]?.options.body).toMatchObject({ Cmd: ["sh", "-c", "exit 4"], AttachStdin: true, AttachStdout: true });
    expect(client.calls[1]?.options.direct).toMatchObject({ token: "t0", stdin: true });
  });

  it("in the background", async () => {
    const client = testClient(answers, { direct: true });
    expect(await run(["exec", "-d", "web", "true"], client, { directToken: "t0" })).toMatchObject({ code: 0, out: "" });
    expect(client.calls[1]?.options.body).toMatchObject({ Detach: true });
  });

  it("over a socket, with another engine's way to ask for the code", async () => {
    const stream = new Attached();
    stream.push("out");
    stream.push(null);
    const client = testClient({
      ...answers,
      "POST /exec/e1/start": stream,
      "POST /wherry/exec/e1/wait": () => {
        throw new ApiError(404, "page not found");
      },
      "GET /exec/e1/json": { ExitCode: 9 },
    });
    expect(await run(["exec", "web", "x"], client)).toMatchObject({ code: 9, out: "out" });
  });

  it("needs a terminal for -it", async () =>
    expect(await run(["exec", "-it", "web", "sh"], testClient({}))).toMatchObject({ code: 1, err: "the input device is not a TTY\n" }));
});

it("codes of texts", () => expect(["exec format error", "is a directory", "x"].map(codeOfText)).toEqual([126, 126, 125]));
