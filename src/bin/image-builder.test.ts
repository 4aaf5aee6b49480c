import { describe, expect, it } from "vitest";
import { parseDockerfile } from "#build/frontend/stages.ts";
import { evaluateStage } from "#build/graph/evaluate.ts";
import { image } from "./image-builder.ts";

const evaluated = (text: string) => {
  const { stages } = parseDockerfile(text);
  const last = stages.at(-1)!;
  return evaluateStage(last.instructions, { settings: {}, author: undefined }, { buildArgs: {}, predefined: {}, global: () => undefined, escape: "\\" });
};

describe("a build in TypeScript", () => {
  it("is the Dockerfile that says the same", () => {
    const text = image("debian:bookworm").run("apt-get update").copy("dist", "/app/").workdir("/app").expose(80, "53/udp").cmd(["node", "x.js"]).dockerfile();
    expect(text).toBe('FROM debian:bookworm AS stage-0\nRUN apt-get update\nCOPY ["dist","/app/"]\nWORKDIR /app\nEXPOSE 80 53/udp\nCMD ["node","x.js"]\n');
  });

  it("what looks like a variable, a quote or an escape is taken as it stands", () => {
    const odd = "a $HOME 'b' \"c\" \\d";
    const { steps } = evaluated(
      image("a").copy(odd, `/x/${odd}`).env({ V: odd }).label({ l: odd }).workdir(`/w ${odd}`).run("printf 'a\\n'\necho $V").dockerfile(),
    );
    expect(steps[0]!.operation).toMatchObject({ sources: [{ kind: "path", pattern: odd }], destination: `/x/${odd}` });
    const { Env, Labels, WorkingDir } = steps.at(-1)!.settings;
    expect({ Env: Env?.at(-1), Labels, WorkingDir }).toEqual({ Env: `V=${odd}`, Labels: { l: odd }, WorkingDir: `/w ${odd}` });
    expect(steps.at(-1)!.operation).toMatchObject({ argv: ["/bin/sh", "-c", "printf 'a\\n'\necho $V\n"] });
  });

  it("stages come in the order in which they need each other, each once", () => {
    const tools = image("debian").run("make tools");
    const made = image(tools).run("make");
    const text = image("scratch").copy("/out", "/", { from: made }).copy("/bin/sh", "/bin/", { from: tools, chown: "1:2" }).dockerfile();
    const { stages } = parseDockerfile(text);
    expect(stages.map(({ from }) => [from.image, from.alias])).toEqual([
      ["debian", "stage-0"],
      ["stage-0", "stage-1"],
      ["scratch", "stage-2"],
    ]);
    expect(text).toContain('COPY --from=stage-1 ["/out","/"]\nCOPY --from=stage-0 --chown=1:2 ["/bin/sh","/bin/"]');
  });

  it("a line break where a line ends is refused: it could begin another instruction", () => {
    expect(() => image("a\nRUN evil").dockerfile()).toThrow("line break");
    expect(() => image("a").user("b\nRUN evil").dockerfile()).toThrow("line break");
    expect(() => image("a").copy("x", "y\nRUN evil").dockerfile()).not.toThrow();
  });
});
