import { describe, expect, test } from "vitest";
import { exampleConfig } from "#runtime/example.fixture.ts";
import { applyChanges, mergeConfig } from "./config-changes.ts";

describe("changes", () => {
  test("every instruction", () => {
    const config = applyChanges({ Env: ["A=1", "B=2"], WorkingDir: "/srv" }, [
      'CMD ["sh", "-c", "x y"]',
      "ENTRYPOINT /bin/tini --",
      'ENV A=one C="two words"',
      "ENV D the rest of the line",
      'LABEL a="b c" d=e',
      "EXPOSE 80 53/udp",
      "USER nobody",
      "WORKDIR app",
      'VOLUME ["/data"]',
      "STOPSIGNAL SIGINT",
      "ONBUILD RUN make",
      "HEALTHCHECK --interval=1m30s --retries=3 CMD curl localhost",
    ]);
    expect(config).toEqual({
      Cmd: ["sh", "-c", "x y"],
      Entrypoint: ["/bin/sh", "-c", "/bin/tini --"],
      Env: ["A=one", "B=2", "C=two words", "D=the rest of the line"],
      Labels: { a: "b c", d: "e" },
      ExposedPorts: { "80/tcp": {}, "53/udp": {} },
      User: "nobody",
      WorkingDir: "/srv/app",
      Volumes: { "/data": {} },
      StopSignal: "SIGINT",
      OnBuild: ["RUN make"],
      Healthcheck: { Interval: 90e9, Retries: 3, Test: ["CMD-SHELL", "curl localhost"] },
    });
  });

  test.each(["RUN make", "FROM x", 'ENV "a', "LABEL a", "HEALTHCHECK --interval=x CMD y", "NOTHING x", "SHELL sh"])("%s is refused", (line) => {
    expect(() => applyChanges({}, [line])).toThrow(expect.objectContaining({ code: "invalid" }));
  });

  test("what a Dockerfile can say, with its variables and its JSON", () => {
    expect(applyChanges({}, ["ENV A=1\nENV B=${A}2", "LABEL l=$B", 'SHELL ["/bin/bash", "-c"]', "CMD echo $A"])).toEqual({
      Env: ["A=1", "B=12"],
      Labels: { l: "12" },
      Shell: ["/bin/bash", "-c"],
      Cmd: ["/bin/bash", "-c", "echo $A"],
    });
    expect(applyChanges({ OnBuild: ["RUN a"], Env: ["PATH=/x"] }, ["ONBUILD RUN b"])).toEqual({ OnBuild: ["RUN a", "RUN b"], Env: ["PATH=/x"] });
    expect(applyChanges({ User: "u" }, [])).toEqual({ User: "u" });
    expect(applyChanges({}, ["USER x"])).toEqual({ User: "x" });
  });

  test("commit keeps what the request leaves open", () => {
    const base = { ...exampleConfig, Image: "x", Cmd: ["old"], Env: ["A=1"], Labels: { l: "1" }, ExposedPorts: { "80/tcp": {} }, User: "root" };
    const merged = mergeConfig(applyChanges({}, ["ENV A=2", "LABEL m=2"]), base);
    expect(merged).toMatchObject({ Cmd: ["old"], Env: ["A=2"], Labels: { l: "1", m: "2" }, ExposedPorts: { "80/tcp": {} }, User: "root" });
    expect(mergeConfig({ Entrypoint: ["e"] }, base)).toMatchObject({ Entrypoint: ["e"], Cmd: null });
  });
});
