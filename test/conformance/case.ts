/** What a conformance case is: one MUST of the runtime spec, and how a runtime is asked about it. @module */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { OciSpec } from "#core/runtime-spec.ts";
import { type Answer, RuntimeUnderTest } from "../integration/oci-runtime.fixture.ts";

export interface Case {
  /** Document and section of the runtime spec 1.2: "config.md Root". */
  readonly section: string;
  /** The requirement, in a few words; unique within the section. */
  readonly must: string;
  /** Throws when the runtime does not do it; throws {@link Skip} when this machine cannot tell. */
  check(lab: Lab): void | Promise<void>;
}

/** Not to be told on this machine. */
export class Skip extends Error {}

export type Amend = (spec: Amendable) => void;

/** A spec of the test's making may hold anything. */
export type Amendable = OciSpec & { linux: NonNullable<OciSpec["linux"]>; mounts: NonNullable<OciSpec["mounts"]> };

/** One runtime, and the questions that cases ask it. */
export class Lab extends RuntimeUnderTest {
  /** A bundle with `/file` and `/dir/entry` in its root, whose spec a case may fill with what the types do not allow. */
  make(script: string, amend: Amend = () => {}): string {
    const bundle = this.bundle(script, (spec) => amend(spec as Amendable));
    mkdirSync(join(bundle, "rootfs/dir"));
    writeFileSync(join(bundle, "rootfs/dir/entry"), "");
    writeFileSync(join(bundle, "rootfs/file"), "content\n");
    return bundle;
  }

  /** `run` in the foreground. */
  sees(script: string, amend?: Amend): Answer {
    return this.call(["run", "--bundle", this.make(script, amend), this.id()]);
  }

  /** What a program in the container prints is this (without the last newline). */
  shows(expected: string | RegExp, script: string, amend?: Amend): void {
    const answer = this.sees(script, amend);
    const text = answer.stdout.trim();
    if (typeof expected === "string" ? text !== expected : !expected.test(text)) {
      const got = `${text}${answer.stderr === "" ? "" : ` (${answer.stderr.trim()})`}`;
      assert.fail(`expected ${String(expected)}, got ${got === "" ? "nothing" : got.slice(0, 300)}`);
    }
  }

  /** `create` (or at the latest `start`) answers with an error, the program does not run, and nothing of the container is left. */
  refuses(amend: Amend, script = "echo ran"): void {
    const bundle = this.make(script, amend);
    const id = this.id();
    const created = this.create(id, bundle);
    const failed = created.code !== 0 || this.call(["start", id]).code !== 0;
    this.call(["delete", "--force", id]);
    assert.ok(failed, "no error");
    assert.ok(!readFileSync(join(bundle, "out"), "utf8").includes("ran"), "the program has run");
    if (created.code !== 0) assert.equal(this.status(id), undefined, "a container is left");
  }

  /** Created, handed to `use`, and deleted in any case. */
  created<T>(script: string, amend: Amend, use: (id: string, bundle: string) => T): T {
    const id = this.id();
    const bundle = this.make(script, amend);
    const { code } = this.create(id, bundle, ["--pid-file", join(bundle, "pid")]);
    try {
      assert.equal(code, 0, readFileSync(join(bundle, "err"), "utf8").trim());
      return use(id, bundle);
    } finally {
      this.call(["delete", "--force", id]);
    }
  }

  /** The pid file's number. */
  pid(bundle: string): number {
    return Number(readFileSync(join(bundle, "pid"), "utf8"));
  }

  state(id: string): Record<string, unknown> {
    const { code, stdout, stderr } = this.call(["state", id]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  /** Waits (at most 20 s) until it holds. */
  until(holds: () => boolean, what: string): void {
    for (let i = 0; i < 1000; i++) {
      if (holds()) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
    assert.fail(`did not come: ${what}`);
  }
}

/** Sets entries that the types may not know. */
export function set(target: object, entries: object): void {
  Object.assign(target, entries);
}

/** A shell script as a hook that appends to a file. */
export function hook(script: string, extra: object = {}): { path: string; args: string[]; env: string[] } {
  return { path: "/bin/sh", args: ["sh", "-c", script], env: ["PATH=/bin:/usr/bin"], ...extra };
}

/** Rewrites a bundle's config.json. */
export function rewrite(bundle: string, amend: Amend): void {
  const path = join(bundle, "config.json");
  const spec = JSON.parse(readFileSync(path, "utf8")) as Amendable;
  amend(spec);
  writeFileSync(path, JSON.stringify(spec));
}
