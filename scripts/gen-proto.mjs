#!/usr/bin/env node
// Makes src/api/server/buildkit/gen/*_pb.ts of the descriptions in proto/. Needs protoc (Debian: protobuf-compiler); what it makes is committed, so that building does not.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "src/api/server/buildkit");
const protos = readdirSync(join(folder, "proto")).filter((name) => name.endsWith(".proto"));
// One at a time: two of them describe one service with other messages.
for (const name of protos) {
  execFileSync(
    process.env.PROTOC ?? "protoc",
    [
      `--plugin=protoc-gen-es=${join(root, "node_modules/.bin/protoc-gen-es")}`,
      `--es_out=${join(folder, "gen")}`,
      "--es_opt=target=ts,import_extension=ts",
      `-I${join(folder, "proto")}`,
      ...(process.env.PROTOC_INCLUDE === undefined ? [] : [`-I${process.env.PROTOC_INCLUDE}`]),
      name,
    ],
    { stdio: "inherit" },
  );
}
execFileSync(join(root, "node_modules/.bin/biome"), ["format", "--write", join(folder, "gen")], { stdio: "inherit" });
