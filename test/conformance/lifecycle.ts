/** runtime.md: state, operations, lifecycle; and the hooks of config.md. @module */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Amendable, type Case, hook, type Lab, rewrite, set } from "./case.ts";

const nothing = () => {};
const running = <T>(lab: Lab, use: (id: string, bundle: string) => T): T =>
  lab.created("echo ran; exec sleep 100", nothing, (id, bundle) => {
    assert.equal(lab.call(["start", id]).code, 0);
    lab.until(() => readFileSync(join(bundle, "out"), "utf8") === "ran\n", "the program's output");
    return use(id, bundle);
  });

const stateCases: Case[] = [
  {
    section: "runtime.md State",
    must: "has ociVersion, id, status, pid, bundle as the schema says",
    check: (lab) =>
      lab.created("sleep 100", nothing, (id, bundle) => {
        const state = lab.state(id);
        assert.match(String(state["ociVersion"]), /^1\.\d+\.\d+/);
        assert.deepEqual([state["id"], state["status"], state["bundle"], state["pid"]], [id, "created", bundle, lab.pid(bundle)]);
      }),
  },
  {
    section: "runtime.md State",
    must: "has the annotations",
    check: (lab) =>
      lab.created(
        "sleep 100",
        (spec) => set(spec, { annotations: { "org.example.key": "value" } }),
        (id) => assert.equal((lab.state(id)["annotations"] as Record<string, string>)["org.example.key"], "value"),
      ),
  },
  {
    section: "runtime.md Query State",
    must: "error without an id",
    check: (lab) => assert.notEqual(lab.call(["state"]).code, 0),
  },
  {
    section: "runtime.md Query State",
    must: "error for a container that does not exist",
    check: (lab) => assert.notEqual(lab.call(["state", "absent"]).code, 0),
  },
  {
    section: "runtime.md Create",
    must: "error without an id",
    check: (lab) => assert.notEqual(lab.call(["create", "--bundle", lab.make("true")]).code, 0),
  },
  {
    section: "runtime.md Create",
    must: "error for a bundle without config.json",
    check: (lab) => assert.notEqual(lab.call(["create", "--bundle", "/var/empty-bundle", lab.id()]).code, 0),
  },
  {
    section: "runtime.md Create",
    must: "error for an id in use, and the container stays as it is",
    check: (lab) =>
      lab.created("sleep 100", nothing, (id, bundle) => {
        const pid = lab.pid(bundle);
        assert.notEqual(lab.create(id, lab.make("true")).code, 0);
        assert.equal(lab.state(id)["pid"], pid);
      }),
  },
  {
    section: "runtime.md Create",
    must: "error for an id that is no name",
    check: (lab) => assert.notEqual(lab.create("../up", lab.make("true")).code, 0),
  },
  {
    section: "runtime.md Create",
    must: "does not run the program",
    check: (lab) => lab.created("echo ran", nothing, (_id, bundle) => assert.equal(readFileSync(join(bundle, "out"), "utf8"), "")),
  },
  {
    section: "runtime.md Create",
    must: "later changes of config.json have no effect",
    check: (lab) =>
      lab.created("echo first", nothing, (id, bundle) => {
        rewrite(bundle, (spec) => (spec.process.args = ["sh", "-c", "echo second"]));
        lab.call(["start", id]);
        lab.until(() => readFileSync(join(bundle, "out"), "utf8") !== "", "output");
        assert.equal(readFileSync(join(bundle, "out"), "utf8"), "first\n");
      }),
  },
  {
    section: "runtime.md Start",
    must: "error without an id",
    check: (lab) => assert.notEqual(lab.call(["start"]).code, 0),
  },
  {
    section: "runtime.md Start",
    must: "error for a container that does not exist",
    check: (lab) => assert.notEqual(lab.call(["start", "absent"]).code, 0),
  },
  {
    section: "runtime.md Start",
    must: "runs the program; the status is running",
    check: (lab) => running(lab, (id) => assert.equal(lab.state(id)["status"], "running")),
  },
  {
    section: "runtime.md Start",
    must: "error for a running container, which goes on",
    check: (lab) =>
      running(lab, (id) => {
        assert.notEqual(lab.call(["start", id]).code, 0);
        assert.equal(lab.state(id)["status"], "running");
      }),
  },
  {
    section: "runtime.md Start",
    must: "error for a stopped container",
    check: (lab) =>
      running(lab, (id) => {
        lab.call(["kill", id, "KILL"]);
        lab.until(() => lab.status(id) === "stopped", "stopped");
        assert.notEqual(lab.call(["start", id]).code, 0);
      }),
  },
  {
    section: "runtime.md Kill",
    must: "error without an id",
    check: (lab) => assert.notEqual(lab.call(["kill"]).code, 0),
  },
  {
    section: "runtime.md Kill",
    must: "error for a container that is neither created nor running",
    check: (lab) =>
      running(lab, (id) => {
        lab.call(["kill", id, "KILL"]);
        lab.until(() => lab.status(id) === "stopped", "stopped");
        assert.notEqual(lab.call(["kill", id, "KILL"]).code, 0);
      }),
  },
  ...(["TERM", "SIGUSR1", "10"] as const).map(
    (signal): Case => ({
      section: "runtime.md Kill",
      must: `sends ${signal} to the process`,
      check: (lab) =>
        lab.created("trap 'echo got; exit 0' TERM USR1; echo ran; while :; do sleep 0.1; done", nothing, (id, bundle) => {
          lab.call(["start", id]);
          lab.until(() => readFileSync(join(bundle, "out"), "utf8") === "ran\n", "the program's output");
          assert.equal(lab.call(["kill", id, signal]).code, 0);
          lab.until(() => readFileSync(join(bundle, "out"), "utf8") === "ran\ngot\n", "the signal");
        }),
    }),
  ),
  {
    section: "runtime.md Kill",
    must: "a process that ends: the status is stopped",
    check: (lab) =>
      lab.created("true", nothing, (id) => {
        lab.call(["start", id]);
        lab.until(() => lab.status(id) === "stopped", "stopped");
      }),
  },
  {
    section: "runtime.md Delete",
    must: "error without an id",
    check: (lab) => assert.notEqual(lab.call(["delete"]).code, 0),
  },
  {
    section: "runtime.md Delete",
    must: "error for a container that does not exist",
    check: (lab) => assert.notEqual(lab.call(["delete", "absent"]).code, 0),
  },
  {
    section: "runtime.md Delete",
    must: "error for a running container, which goes on",
    check: (lab) =>
      running(lab, (id) => {
        assert.notEqual(lab.call(["delete", id]).code, 0);
        assert.equal(lab.state(id)["status"], "running");
      }),
  },
  {
    section: "runtime.md Delete",
    must: "what the container has used and create has not made stays",
    check: (lab) => {
      const bundle = lab.make("busybox sleep 100", (spec) => spec.mounts.push({ destination: "/mnt", type: "bind", source: "kept", options: ["bind"] }));
      mkdirSync(join(bundle, "kept"));
      writeFileSync(join(bundle, "kept/file"), "");
      const id = lab.id();
      assert.equal(lab.create(id, bundle).code, 0, readFileSync(join(bundle, "err"), "utf8"));
      assert.equal(lab.call(["delete", "--force", id]).code, 0);
      for (const path of ["kept/file", "rootfs/file", "config.json"]) assert.ok(existsSync(join(bundle, path)), `${path} is gone`);
    },
  },
  {
    section: "runtime.md Delete",
    must: "takes away what create made: state and cgroup; the id can be used again",
    check: (lab) => {
      const id = lab.id();
      for (let i = 0; i < 2; i++) {
        const bundle = lab.make("true");
        const path = (JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as Amendable).linux.cgroupsPath ?? "";
        assert.equal(lab.create(id, bundle).code, 0);
        assert.ok(existsSync(`/sys/fs/cgroup/pids${path}`) || existsSync(`/sys/fs/cgroup${path}`), "there is no cgroup");
        lab.call(["start", id]);
        lab.until(() => lab.status(id) === "stopped", "stopped");
        assert.equal(lab.call(["delete", id]).code, 0);
        assert.notEqual(lab.call(["state", id]).code, 0);
        assert.ok(!existsSync(`/sys/fs/cgroup/pids${path}`) && !existsSync(`/sys/fs/cgroup${path}`), "the cgroup is left");
      }
    },
  },
];

const order = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] as const;
const entries = (text: string): [string, Record<string, unknown>][] =>
  text
    .trim()
    .split("\n")
    .map((line) => [line.slice(0, line.indexOf(" ")), JSON.parse(line.slice(line.indexOf(" "))) as Record<string, unknown>]);
const log = (name: string, file: string) => hook(`printf '%s %s\\n' ${name} "$(cat)" >>${file}`);

/** Longer than {@link Lab.call} waits for a runtime: -1 is its code then. */
const tooLong = { path: "/bin/sleep", args: ["sleep", "100"], timeout: 1 };

const hookCases: Case[] = [
  {
    section: "config.md POSIX-platform Hooks",
    must: "all kinds run, in the order of the lifecycle, with the state on standard input",
    check: (lab) => {
      const bundle = lab.make("cat /log; echo program", (spec) => (spec.root.readonly = false));
      const file = join(bundle, "hooks");
      const id = lab.id();
      rewrite(bundle, (spec) => set(spec, { hooks: Object.fromEntries(order.map((kind) => [kind, [log(kind, kind === "startContainer" ? "/log" : file)]])) }));
      const { stdout } = lab.call(["run", "--bundle", bundle, id]);
      const outside = entries(readFileSync(file, "utf8"));
      assert.deepEqual(
        outside.map(([kind]) => kind),
        order.filter((kind) => kind !== "startContainer"),
      );
      assert.match(stdout, /^startContainer \{.*\}\nprogram\n$/);
      const states = Object.fromEntries([...outside, ...entries(stdout.replace(/program\n$/, ""))]);
      for (const state of Object.values(states)) assert.deepEqual([state["id"], state["bundle"]], [id, bundle]);
      for (const kind of order.slice(0, 4)) assert.match(String(states[kind]?.["status"]), /^(creating|created)$/, kind);
      assert.equal(states["poststop"]?.["status"], "stopped");
    },
  },
  {
    section: "config.md POSIX-platform Hooks",
    must: "hooks of a kind run in the listed order",
    check: (lab) => {
      const bundle = lab.make("true");
      const file = join(bundle, "hooks");
      rewrite(bundle, (spec) => set(spec, { hooks: { createRuntime: [log("a", file), log("b", file), log("c", file)] } }));
      lab.call(["run", "--bundle", bundle, lab.id()]);
      assert.deepEqual(
        entries(readFileSync(file, "utf8")).map(([name]) => name),
        ["a", "b", "c"],
      );
    },
  },
  {
    section: "config.md POSIX-platform Hooks",
    must: "args, and env replaces the environment",
    check: (lab) => {
      const bundle = lab.make("true");
      const file = join(bundle, "env");
      rewrite(bundle, (spec) =>
        set(spec, {
          hooks: { createRuntime: [{ path: "/bin/sh", args: ["zero", "-c", `echo "$0 $1 $KEY [$HOME]" >${file}`, "one", "two"], env: ["KEY=value"] }] },
        }),
      );
      lab.call(["run", "--bundle", bundle, lab.id()]);
      assert.equal(readFileSync(file, "utf8"), "one two value []\n");
    },
  },
  ...(["prestart", "createRuntime", "createContainer", "startContainer"] as const).map(
    (kind): Case => ({
      section: "config.md POSIX-platform Hooks",
      must: `a ${kind} hook that fails is an error, and the program does not run`,
      check: (lab) => {
        const answer = lab.sees("echo ran", (spec) => set(spec, { hooks: { [kind]: [{ path: "/bin/sh", args: ["sh", "-c", "exit 3"] }] } }));
        assert.notEqual(answer.code, 0);
        assert.equal(answer.stdout, "");
      },
    }),
  ),
  ...(["poststart", "poststop"] as const).map(
    (kind): Case => ({
      section: "config.md POSIX-platform Hooks",
      must: `a ${kind} hook that fails is told, and the lifecycle and the other hooks go on`,
      check: (lab) => {
        const bundle = lab.make("sleep 0.3; echo ran");
        const file = join(bundle, "second");
        rewrite(bundle, (spec) => set(spec, { hooks: { [kind]: [hook("exit 3"), hook(`touch ${file}`)] } }));
        const id = lab.id();
        const { stdout, stderr } = lab.call(["run", "--bundle", bundle, id]);
        assert.equal(stdout, "ran\n");
        assert.notEqual(stderr, "");
        assert.ok(existsSync(file), "the second hook was not run");
      },
    }),
  ),
  {
    section: "config.md POSIX-platform Hooks",
    must: "a hook's path is absolute",
    check: (lab) => lab.refuses((spec) => set(spec, { hooks: { createRuntime: [{ path: "bin/true" }] } })),
  },
  {
    section: "config.md POSIX-platform Hooks",
    must: "timeout is greater than zero",
    check: (lab) => lab.refuses((spec) => set(spec, { hooks: { createRuntime: [{ path: "/bin/true", timeout: 0 }] } })),
  },
  ...(["prestart", "createRuntime", "createContainer", "startContainer"] as const).map(
    (kind): Case => ({
      section: "config.md POSIX-platform Hooks",
      must: `a ${kind} hook that takes longer than its timeout is ended, which is an error`,
      check: (lab) => {
        const { code, stdout } = lab.sees("echo ran", (spec) => set(spec, { hooks: { [kind]: [tooLong] } }));
        assert.ok(code >= 0, "the hook was waited for");
        assert.notEqual(code, 0, "no error");
        assert.equal(stdout, "");
      },
    }),
  ),
  ...(["poststart", "poststop"] as const).map(
    (kind): Case => ({
      section: "config.md POSIX-platform Hooks",
      must: `a ${kind} hook that takes longer than its timeout is ended and told`,
      check: (lab) => {
        const { code, stdout, stderr } = lab.sees("sleep 2; echo ran", (spec) => set(spec, { hooks: { [kind]: [tooLong] } }));
        assert.ok(code >= 0, "the hook was waited for");
        assert.equal(stdout, "ran\n");
        assert.notEqual(stderr, "");
      },
    }),
  ),
  {
    section: "config.md POSIX-platform Hooks",
    must: "createContainer runs in the container's namespaces, before pivot_root",
    check: (lab) => {
      const bundle = lab.make("true", (spec) => (spec.hostname = "inside"));
      const file = join(bundle, "name");
      rewrite(bundle, (spec) => set(spec, { hooks: { createContainer: [hook(`hostname >${file}`)] } }));
      lab.call(["run", "--bundle", bundle, lab.id()]);
      assert.equal(readFileSync(file, "utf8"), "inside\n");
    },
  },
  {
    section: "config.md POSIX-platform Hooks",
    must: "startContainer runs in the container, before the program",
    check: (lab) =>
      lab.shows("inside", "cat /dev/shm/name", (spec) => {
        spec.hostname = "inside";
        set(spec, { hooks: { startContainer: [hook("hostname >/dev/shm/name")] } });
      }),
  },
];

export const lifecycleCases: readonly Case[] = [...stateCases, ...hookCases];
