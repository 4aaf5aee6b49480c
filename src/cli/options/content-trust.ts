/** Docker's content trust, which this engine has not. @module */
import { type Flag, one, parseBool } from "../flags.ts";

/** `--disable-content-trust`: yes is taken. Who asks for verification is told that there is none. */
export const contentTrustFlag: Flag = one("disable-content-trust", "Skip image verification", {
  metavar: "",
  initial: true,
  bare: "true",
  hidden: true,
  parse: (text) => {
    if (!parseBool(text)) throw new Error("content trust is not supported: signatures of images are not verified");
    return true;
  },
});
