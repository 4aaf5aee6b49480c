import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SystemInfo } from "#engine/mod.ts";
import type { WorkerRecordSchema } from "./gen/worker_pb.ts";

/** GOARCH and GOARM of what `uname -m` says. */
const goArchitectures: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };

/** The one place where builds run. The label of the snapshotter tells clients that results and caches can be put out as files. */
export function workerOf(info: SystemInfo, version: string): MessageInitShape<typeof WorkerRecordSchema> {
  return {
    ID: info.id,
    Labels: {
      "org.mobyproject.buildkit.worker.executor": "wherry",
      "org.mobyproject.buildkit.worker.hostname": info.name,
      "org.mobyproject.buildkit.worker.snapshotter": info.driver,
    },
    platforms: [{ OS: "linux", Architecture: goArchitectures[info.architecture] ?? info.architecture }],
    BuildkitVersion: { package: "wherry", version },
  };
}
