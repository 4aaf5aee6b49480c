/**
 * Whether this kernel has SCTP. A published port of a protocol that no container can listen to is refused.
 * @module
 */
import { release } from "node:os";
import { EngineError } from "#core/errors.ts";
import { textIfThere } from "#linux/text-if-there.ts";

let known: boolean | undefined;

/** EngineError "unsupported". */
export async function requireSctp(): Promise<void> {
  known ??= await hasSctp();
  if (!known)
    throw new EngineError("unsupported", "SCTP ports cannot be published: this kernel has no SCTP", { hint: "it takes CONFIG_IP_SCTP, or the module sctp" });
}

/** A module that is not loaded yet is loaded by the first socket. */
async function hasSctp(): Promise<boolean> {
  const modules = `/lib/modules/${release()}`;
  const [protocols, builtin, loadable] = await Promise.all(["/proc/net/protocols", `${modules}/modules.builtin`, `${modules}/modules.dep`].map(textIfThere));
  return /^SCTP/m.test(protocols ?? "") || /\/sctp\.ko/.test(builtin ?? "") || /\/sctp\.ko/.test(loadable ?? "");
}
