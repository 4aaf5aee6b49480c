// Building: twelve steps with a COPY of 2,000 files, without a cache and with all of it cached. Both by the engine's own client: dockerd's classic builder, and ours.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { alternate } from "./measure.mjs";

const dockerfile = `FROM busybox
LABEL bench=build
ENV A=1
WORKDIR /app
COPY files /app/files
RUN echo one > one
RUN echo two > two
COPY Dockerfile /app/
RUN cat one two > three
USER 1:1
EXPOSE 80
CMD ["cat", "three"]
`;

/** Rows by title; the first engine is ours. Network "none": RUN needs none, and not every peer has a bridge here. */
export async function measureBuilds(engines, base, runs) {
  const context = join(base, "build-context");
  for (let folder = 0; folder < 40; folder++) {
    const path = join(context, "files", `d${folder}`);
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < 50; file++) writeFileSync(join(path, `f${file}.txt`), `${folder} ${file}\n`.repeat(200));
  }
  writeFileSync(join(context, "Dockerfile"), dockerfile);
  const build =
    (e, ...args) =>
    () =>
      e.cli(["build", "-q", "--network", "none", "-t", "bench-build", ...args, context]);
  const contenders = (...args) => Object.fromEntries(engines.map((e) => [e.name, build(e, ...args)]));
  const cold = await alternate(contenders("--no-cache"), runs, 1);
  const cached = await alternate(contenders(), runs, 2);
  for (const e of engines) await e.cli(["rmi", "-f", "bench-build"]);
  return [
    { title: "build: 12 steps, COPY of 2,000 files, --no-cache", rows: cold },
    { title: "build: the same, fully cached", rows: cached },
  ];
}
