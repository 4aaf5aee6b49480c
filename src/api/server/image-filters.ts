/** The filters of `GET /images/json`. @module */
import { EngineError } from "#core/errors.ts";
import type { Image } from "#image/mod.ts";
import { type Filters, filterFlag } from "#api/types/filters.ts";

const createdMs = (image: Image): number => Date.parse(image.config.created ?? "0001-01-01T00:00:00Z");

/** `a=b` wants the value, `a` only the label. */
export function hasLabel(labels: Readonly<Record<string, string>> | null | undefined, wanted: string): boolean {
  const at = wanted.indexOf("=");
  const key = at < 0 ? wanted : wanted.slice(0, at);
  const value = labels && Object.hasOwn(labels, key) ? labels[key] : undefined;
  return value !== undefined && (at < 0 || value === wanted.slice(at + 1));
}

/** A shell pattern (`*`, `?`, `[…]`; none crosses a slash) as an expression. @see Go's path.Match */
export function globExpression(pattern: string): RegExp {
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]!;
    if (c === "*") source += "[^/]*";
    else if (c === "?") source += "[^/]";
    else if (c === "[") {
      const end = pattern.indexOf("]", i + 2);
      if (end < 0) throw new EngineError("invalid", `invalid pattern "${pattern.slice(0, 80)}": unclosed [`);
      source += `[${pattern.slice(i + 1, end).replace(/[\\[\]]/g, "\\$&")}]`;
      i = end;
    } else source += c.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  }
  return new RegExp(`^${source}$`);
}

/** Whether a name matches one of the patterns: `busybox`, `busybox:latest`, `*:latest`, `localhost:5000/a/*`. */
export function referenceMatcher(patterns: readonly string[]): (reference: string) => boolean {
  const expressions = patterns.map(globExpression);
  const familiarName = (reference: string): string => reference.replace(/@.*$/, "").replace(/:[^:/]*$/, "");
  return (reference) => expressions.some((expression) => expression.test(reference) || expression.test(familiarName(reference)));
}

/** A moment: unix seconds, RFC 3339, or a duration before now (`24h`). Milliseconds. */
function untilMs(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const duration = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (duration.length > 0 && duration.map((d) => d[0]).join("") === text) {
    const factor = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as Record<string, number>;
    return Date.now() - duration.reduce((sum, [, n, unit]) => sum + Number(n) * factor[unit!]!, 0);
  }
  const parsed = Date.parse(text);
  if (Number.isNaN(parsed)) throw new EngineError("invalid", `invalid filter 'until=${text.slice(0, 60)}'`);
  return parsed;
}

/** All filters as one test. `find` resolves the images that `before` and `since` name. */
export async function imageFilter(filters: Filters, find: (name: string) => Promise<Image>): Promise<(image: Image) => boolean> {
  const tests: ((image: Image) => boolean)[] = [];
  const dangling = filterFlag(filters, "dangling");
  if (dangling !== undefined) tests.push((image) => (image.repoTags.length === 0) === dangling);
  for (const label of filters.label ?? []) tests.push((image) => hasLabel(image.config.config?.Labels, label));
  for (const label of filters["label!"] ?? []) tests.push((image) => !hasLabel(image.config.config?.Labels, label));
  for (const name of filters.before ?? []) {
    const bound = createdMs(await find(name));
    tests.push((image) => createdMs(image) < bound);
  }
  for (const name of filters.since ?? []) {
    const bound = createdMs(await find(name));
    tests.push((image) => createdMs(image) > bound);
  }
  for (const text of filters.until ?? []) {
    const bound = untilMs(text);
    tests.push((image) => createdMs(image) < bound);
  }
  if (filters.reference?.length) {
    const matches = referenceMatcher(filters.reference);
    tests.push((image) => [...image.repoTags, ...image.repoDigests].some(matches));
  }
  return (image) => tests.every((test) => test(image));
}
