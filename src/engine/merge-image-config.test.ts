import { expect, test } from "vitest";
import type { ContainerConfig } from "#core/container-config.ts";
import { mergeImageConfig } from "./merge-image-config.ts";

const empty: ContainerConfig = {
  Hostname: "",
  Domainname: "",
  User: "",
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: "x",
  Volumes: null,
  WorkingDir: "",
  Entrypoint: null,
  OnBuild: null,
  Labels: {},
};

test.each([
  [{}, { Cmd: ["c"] }, null, ["c"]],
  [{}, { Entrypoint: ["e"], Cmd: ["c"] }, ["e"], ["c"]],
  [{ Cmd: ["u"] }, { Entrypoint: ["e"], Cmd: ["c"] }, ["e"], ["u"]],
  [{ Entrypoint: ["u"] }, { Entrypoint: ["e"], Cmd: ["c"] }, ["u"], null],
  [{ Entrypoint: [] }, { Entrypoint: ["e"], Cmd: ["c"] }, [], ["c"]],
  [{ Entrypoint: [""], Cmd: ["u"] }, { Entrypoint: ["e"], Cmd: ["c"] }, null, ["u"]],
] as const)("user %j on image %j runs %j %j", (user, image, entrypoint, cmd) => {
  const merged = mergeImageConfig({ ...empty, ...(user as object) }, image as unknown as Partial<ContainerConfig>);
  expect([merged.Entrypoint, merged.Cmd]).toEqual([entrypoint, cmd]);
});

test("nothing to run is refused", () => {
  expect(() => mergeImageConfig(empty, {})).toThrow("No command specified");
  expect(() => mergeImageConfig({ ...empty, Entrypoint: [""] }, { Entrypoint: ["e"], Cmd: ["c"] })).toThrow("No command specified");
});

test("environment, labels, volumes, ports: the user's win, the image's are added", () => {
  const merged = mergeImageConfig(
    { ...empty, Cmd: ["x"], Env: ["A=1", "B"], Labels: { l: "u" }, Volumes: { "/u": {} }, ExposedPorts: { "1/tcp": {} } },
    {
      Env: ["A=0", "B=0", "C=0"],
      Labels: { l: "i", m: "i" },
      Volumes: { "/i": {} },
      ExposedPorts: { "2/tcp": {} },
      User: "nobody",
      WorkingDir: "/w",
      StopSignal: "SIGINT",
    },
  );
  expect(merged).toMatchObject({
    Env: ["A=1", "B", "C=0"],
    Labels: { l: "u", m: "i" },
    Volumes: { "/u": {}, "/i": {} },
    ExposedPorts: { "1/tcp": {}, "2/tcp": {} },
    User: "nobody",
    WorkingDir: "/w",
    StopSignal: "SIGINT",
  });
});

test("health checks are merged field by field", () => {
  const merged = mergeImageConfig(
    { ...empty, Cmd: ["x"], Healthcheck: { Interval: 5, Retries: 0 } },
    { Healthcheck: { Test: ["CMD", "t"], Interval: 1, Retries: 3 } },
  );
  expect(merged.Healthcheck).toEqual({ Test: ["CMD", "t"], Interval: 5, Retries: 3 });
});
