/** `wherry wait`. @module */
import type { WaitResult } from "#api/types/mod.ts";
import { any, type Command, command } from "./command.ts";
import { containerPath, forEach } from "./each.ts";

export const waitCommand: Command = command({
  usage: "CONTAINER [CONTAINER...]",
  about: "Wait until containers stop; print their exit codes",
  arity: [1, any],
  run: async (call) => {
    const codes = new Map<string, number>();
    await forEach(
      call,
      call.args,
      async (name) => {
        const result = await call.client.json<WaitResult>("POST", containerPath(name, "/wait"), { signal: call.io.gone });
        if (result.Error?.Message) throw new Error(result.Error.Message);
        codes.set(name, result.StatusCode);
      },
      (name) => String(codes.get(name)),
    );
    return 0;
  },
});
