import { suggest } from "#core/suggest.ts";
import type { MountFlag } from "./instruction.ts";
import { parseError, type Position } from "./parse-error.ts";

const keysOf: Readonly<Record<MountFlag["type"], readonly string[]>> = {
  bind: ["target", "source", "from", "readonly", "readwrite"],
  cache: ["target", "source", "from", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"],
  tmpfs: ["target", "size"],
  secret: ["id", "target", "source", "required", "mode", "uid", "gid", "env"],
  ssh: ["id", "target", "required", "mode", "uid", "gid"],
};
const aliases: Readonly<Record<string, string>> = { dst: "target", destination: "target", src: "source", ro: "readonly", rw: "readwrite" };

/**
 * The value of RUN's `--mount`: `type=cache,target=/root/.npm`. Fields are separated as in CSV.
 * @throws EngineError "invalid"
 * @see https://docs.docker.com/reference/dockerfile/#run---mount
 */
export function parseMount(text: string, position: Position): MountFlag {
  const fields = new Map<string, string>();
  for (const field of csvFields(text)) {
    const [, written = "", value] = /^([^=]*)(?:=(.*))?$/s.exec(field) ?? [];
    const key = written.toLowerCase();
    fields.set(Object.hasOwn(aliases, key) ? aliases[key]! : key, value ?? "true");
  }
  const type = fields.get("type") ?? "bind";
  fields.delete("type");
  if (!Object.hasOwn(keysOf, type)) throw parseError(position, `unsupported mount type ${JSON.stringify(type)}`, suggest(type, Object.keys(keysOf))[0]);
  const kind = type as MountFlag["type"];
  for (const key of fields.keys()) {
    if (!keysOf[kind].includes(key)) throw parseError(position, `unexpected key '${key}' for mount type '${kind}'`, suggest(key, keysOf[kind])[0]);
  }
  return checked(kind, fields, position);
}

function checked(type: MountFlag["type"], fields: ReadonlyMap<string, string>, position: Position): MountFlag {
  const flag = (key: string) => {
    const value = fields.get(key);
    if (value !== undefined && !/^(true|false|1|0)$/i.test(value)) throw parseError(position, `invalid value for ${key}: ${value}`);
    return value === undefined ? undefined : /^(true|1)$/i.test(value);
  };
  const number = (key: string, base: 8 | 10) => {
    const value = fields.get(key);
    if (value === undefined) return undefined;
    if (!(base === 8 ? /^(0o?)?[0-7]{1,6}$/ : /^[0-9]{1,10}$/).test(value)) throw parseError(position, `invalid value ${value} for ${key}`);
    return Number.parseInt(value.replace(/^0o/, ""), base);
  };
  const target = fields.get("target");
  if (target === undefined && type !== "secret" && type !== "ssh") throw parseError(position, `${type} mount has no target`);
  const sharing = fields.get("sharing") ?? "shared";
  if (sharing !== "shared" && sharing !== "private" && sharing !== "locked") throw parseError(position, `unsupported sharing value ${JSON.stringify(sharing)}`);
  return {
    type,
    target,
    source: type === "secret" ? "" : (fields.get("source") ?? ""),
    from: fields.get("from"),
    readonly: flag("readonly") ?? (flag("readwrite") === undefined ? type === "bind" : !flag("readwrite")),
    id: fields.get("id") ?? (type === "secret" ? baseName(fields.get("source") ?? target ?? "") : undefined),
    sharing,
    required: flag("required") ?? false,
    mode: number("mode", 8),
    uid: number("uid", 10),
    gid: number("gid", 10),
    sizeBytes: sizeOf(fields.get("size"), position),
    env: fields.get("env"),
  };
}

function baseName(path: string): string | undefined {
  return path.split("/").findLast((part) => part !== "");
}

function sizeOf(text: string | undefined, position: Position): number | undefined {
  if (text === undefined) return undefined;
  const match = /^([0-9]{1,12})([kmgt]?)b?$/i.exec(text);
  if (match === null) throw parseError(position, `invalid value for size: ${text}`);
  return Number(match[1]) * 1024 ** " kmgt".indexOf(match[2]!.toLowerCase() || " ");
}

/** One line of CSV: a field in double quotes may hold commas. */
export function csvFields(line: string): string[] {
  const fields: string[] = [];
  const field = /\s*(?:"((?:[^"]|"")*)"|([^,]*))(,|$)/gy;
  for (let match = field.exec(line); match !== null; match = field.exec(line)) {
    fields.push(match[1] === undefined ? match[2]!.trim() : match[1].replaceAll('""', '"'));
    if (match[3] === "") break;
  }
  return fields;
}
