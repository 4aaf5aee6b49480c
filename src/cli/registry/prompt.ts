import type { CliIo } from "../io.ts";

/** A line typed on the terminal; ^C and ^D give up. `shown`: with an echo. */
export function readLine(io: CliIo, shown: boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const end = (result: () => void) => {
      io.stdin.off("data", take);
      io.stdin.off("end", ended);
      io.stdin.pause();
      io.setRaw(false);
      if (shown) io.stdout.write("\r\n");
      result();
    };
    const ended = () => end(() => reject(new Error("EOF")));
    const take = (chunk: Buffer | string) => {
      for (const char of String(chunk)) {
        if (char === "\r" || char === "\n") return end(() => resolve(text));
        if (char === "\u0003" || char === "\u0004") return end(() => reject(new Error("login was given up")));
        if (char === "\u007f" || char === "\b") {
          if (shown && text !== "") io.stdout.write("\b \b");
          text = text.slice(0, -1);
        } else {
          text += char;
          if (shown) io.stdout.write(char);
        }
      }
    };
    io.setRaw(true);
    io.stdin.on("data", take);
    io.stdin.once("end", ended);
    io.stdin.resume();
  });
}
