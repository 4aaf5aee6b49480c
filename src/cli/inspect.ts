/** `wherry inspect`, and `inspect` of one kind. @module */
import type { ApiClient } from "#api/client/mod.ts";
import { any, type Call, type Command, command } from "./command.ts";
import { containerPath, imagePath } from "./each.ts";
import { errorText, ExitError, isStatus } from "./errors.ts";
import { type Flag, one, onOff } from "./flags.ts";
import { parsed } from "./format/answer.ts";
import { TemplateError } from "./format/template.ts";
import { inspected, nullText } from "./format/null-text.ts";
import { checkPlatform } from "./options/platform.ts";
import { warn, write } from "./output.ts";

type Kind = "container" | "image" | "network" | "volume";

const paths: Readonly<Record<Kind, (name: string) => string>> = {
  container: (name) => containerPath(name, "/json"),
  image: (name) => imagePath(name, "/json"),
  network: (name) => `/networks/${encodeURIComponent(name)}`,
  volume: (name) => `/volumes/${encodeURIComponent(name)}`,
};

/** `--format` of every inspect. */
export const inspectFormatFlag: Flag = one("format,f", 'How to print: "json" or a Go template');
const sizeFlag = onOff("size,s", "Show sizes of containers");

/** The object of this name; throws when there is none. */
type Get = (name: string) => Promise<unknown>;

function getter({ client, flags, io }: Call, kind: Kind, sized: boolean): Get {
  const size = sized && flags.on("size");
  return (name) => getOne(client, kind, name, size, io.gone);
}

async function getOne(client: ApiClient, kind: Kind, name: string, size: boolean, signal: AbortSignal): Promise<unknown> {
  const path = paths[kind](name);
  return client.json<unknown>("GET", path, { ...(size && kind === "container" ? { query: { size: 1 } } : {}), signal });
}

/** Prints what `get` finds for each argument; what it does not find is told afterwards. */
export async function inspectAll(call: Call, get: Get): Promise<number> {
  const print = printer(call.flags.text("format"));
  const found: unknown[] = [];
  const failures: string[] = [];
  for (const name of call.args) {
    try {
      found.push(await get(name));
    } catch (error) {
      failures.push(errorText(error));
    }
  }
  try {
    await write(call.io.stdout, print(found));
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    await write(call.io.stdout, "\n");
    failures.push(`template parsing error: ${error.message}`);
  }
  if (failures.length > 0) throw new ExitError(1, failures.join("\n"));
  return 0;
}

/** What turns the objects into text. Throws ExitError for a template that cannot be read; what it gives throws TemplateError for one that does not fit. */
function printer(format: string): (found: readonly unknown[]) => string {
  if (format === "") return (found) => `${JSON.stringify(found, null, 4)}\n`;
  if (format === "json") return (found) => `${JSON.stringify(found)}\n`;
  const template = parsed(format);
  return (found) => found.map((value) => `${template.execute(value, { strict: inspected, nullText })}\n`).join("") || "\n";
}

function kindCommand(kind: Kind, usage: string, about: string, flags: readonly Flag[]): Command {
  return command({
    usage,
    about,
    flags: [inspectFormatFlag, ...flags],
    arity: [1, any],
    run: (call) => {
      if (kind === "image") checkPlatform(call.flags.text("platform"));
      return inspectAll(call, getter(call, kind, kind === "container"));
    },
  });
}

export const containerInspectCommand: Command = kindCommand("container", "[OPTIONS] CONTAINER [CONTAINER...]", "Show all that is known of containers", [
  sizeFlag,
]);
export const imageInspectCommand: Command = kindCommand("image", "[OPTIONS] IMAGE [IMAGE...]", "Show all that is known of images", [
  one("platform", "Platform of the image"),
]);
export const networkInspectCommand: Command = kindCommand("network", "[OPTIONS] NETWORK [NETWORK...]", "Show all that is known of networks", [
  onOff("verbose,v", "Accepted, no effect"),
]);
export const volumeInspectCommand: Command = kindCommand("volume", "[OPTIONS] VOLUME [VOLUME...]", "Show all that is known of volumes", []);

const kinds: readonly Kind[] = ["container", "image", "network", "volume"];

export const inspectCommand: Command = command({
  usage: "[OPTIONS] NAME|ID [NAME|ID...]",
  about: "Show all that is known of containers, images, networks, volumes",
  examples: [
    ["inspect -f '{{.State.Pid}}' web", "one field"],
    ["inspect --type image busybox", "the image, should a container have that name too"],
  ],
  flags: [inspectFormatFlag, sizeFlag, one("type", "Only this kind: container, image, network, volume")],
  arity: [1, any],
  run: async (call) => {
    const { client, flags, io } = call;
    const type = flags.text("type");
    if (flags.changed("type") && type === "") throw new ExitError(1, 'type is empty: must be one of "container", "image", "network", "volume"');
    if (type !== "" && !kinds.includes(type as Kind))
      throw new ExitError(1, `unknown type: ${JSON.stringify(type)}: must be one of "container", "image", "network", "volume"`);
    const wanted = type === "" ? kinds : [type as Kind]; // checked above
    return inspectAll(call, async (name) => {
      for (const kind of wanted) {
        try {
          const found = await getOne(client, kind, name, flags.on("size"), io.gone);
          if (flags.on("size") && kind !== "container") warn(io, `WARNING: --size ignored for ${kind}`);
          return found;
        } catch (error) {
          // A name may be no valid name for one kind and a good one for the next.
          if (type !== "" || !(isStatus(error, 404) || isStatus(error, 400))) throw error;
        }
      }
      throw new Error(`Error: No such object: ${name}`);
    });
  },
});
