/**
 * `wherry-runtime`: the OCI runtime command line, for containerd, dockerd and podman in place of runc. Each command is a process of its own that
 * plans, has the plan performed, and ends; what lasts is in `--root`.
 * @module
 * @see https://github.com/opencontainers/runtime-spec/blob/main/runtime.md
 */
import { ownProcess } from "./runtime/io.ts";
import { main } from "./runtime/main.ts";

void main(process.argv.slice(2), ownProcess()).then((code) => process.exit(code));
