/** One answer by `--format`: `info`, `version`. @module */
import { ExitError } from "../errors.ts";
import type { CliIo } from "../io.ts";
import { write } from "../output.ts";
import { compileTemplate, type Template, TemplateError, type TemplateOptions } from "./template.ts";

/** Prints `answer` as JSON or by a template. Throws ExitError with docker's code and words for a template that cannot be read, or does not fit. */
export async function printAnswer(io: CliIo, format: string, answer: unknown, options: TemplateOptions): Promise<void> {
  if (format === "json") return write(io.stdout, `${JSON.stringify(answer)}\n`);
  const template = parsed(format);
  let text: string;
  try {
    text = template.execute(answer, options);
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    await write(io.stdout, "\n");
    throw new ExitError(1, error.message);
  }
  await write(io.stdout, `${text}\n`);
}

/** Throws ExitError with docker's code for this mistake. */
export function parsed(format: string, what = "template parsing error"): Template {
  try {
    return compileTemplate(format);
  } catch (error) {
    if (error instanceof TemplateError) throw new ExitError(64, `${what}: ${error.message}`);
    throw error;
  }
}
