/** Compiles the attacker. @module */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Puts `attack` at this path; see attack.c for what it can try. */
export function compileAttack(out: string): void {
  const source = fileURLToPath(new URL("attack.c", import.meta.url));
  execFileSync(process.env["CC"] ?? "gcc", ["-O1", "-static", "-Wall", "-Wno-format-truncation", "-o", out, source], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

/** "mknod ok\nopen EPERM\n" → {mknod: "ok", open: "EPERM"}. */
export function outcomes(stdout: string): Record<string, string> {
  return Object.fromEntries(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.trim().split(" "))
      .map(([name = "", result = ""]) => [name, result]),
  );
}
