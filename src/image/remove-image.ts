import type { ChainID, ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import { familiarString, formatReference, parseReference, type Reference, repositoryOf, withDefaultTag } from "#core/reference.ts";
import type { ImageDraft, ImageState } from "./image-database.ts";
import type { DeleteResult } from "./mod.ts";

/** A container that uses an image. */
export interface ImageUser {
  readonly id: string;
  readonly running: boolean;
}

export interface RemoveContext {
  readonly draft: ImageDraft;
  /** Of {@link draft}; kept up to date here. */
  readonly index: DraftIndex;
  /** Chain of an image, bottom first; [] when its config cannot be read. */
  readonly chainsOf: (id: ImageID) => readonly ChainID[];
  /** How many images have a layer, before any was removed here. */
  readonly usesOf: (chain: ChainID) => number;
  readonly inUse: (id: ImageID) => readonly ImageUser[];
  readonly force: boolean;
  /** Remove untagged parents as well. */
  readonly prune: boolean;
}

/** Names and children by image: looked for once for a whole removal, not once for each image in it. */
export class DraftIndex {
  readonly #names = new Map<ImageID, Set<string>>();
  readonly #children = new Map<ImageID, Set<ImageID>>();
  /** Images removed, by layer. */
  readonly #dropped = new Map<ChainID, number>();

  constructor({ images, references }: ImageState) {
    for (const [name, id] of references) addTo(this.#names, id, name);
    for (const [id, { parent }] of images) if (parent !== undefined) addTo(this.#children, parent, id);
  }

  /** Names of an image, in docker's order. */
  namesOf(id: ImageID): Reference[] {
    return [...(this.#names.get(id) ?? [])].sort().map(parseReference);
  }

  hasChildren(id: ImageID): boolean {
    return (this.#children.get(id)?.size ?? 0) > 0;
  }

  removeName(name: string, id: ImageID | undefined): void {
    if (id !== undefined) this.#names.get(id)?.delete(name);
  }

  removeImage(id: ImageID, parent: ImageID | undefined, chains: readonly ChainID[]): void {
    if (parent !== undefined) this.#children.get(parent)?.delete(id);
    for (const chain of chains) this.#dropped.set(chain, this.droppedOf(chain) + 1);
  }

  /** How many of the images with this layer are gone. */
  droppedOf(chain: ChainID): number {
    return this.#dropped.get(chain) ?? 0;
  }
}

function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([value]));
  else set.add(value);
}

/**
 * Docker's `rmi`, on a draft: by name it takes the name away, and the image with its last one; by id the image goes with the names of its one repository.
 * Conflicts are EngineError conflict in docker's words.
 * @see https://docs.docker.com/reference/cli/docker/image/rm/
 */
export function removeImage(id: ImageID, asked: string, context: RemoveContext): DeleteResult[] {
  const results: DeleteResult[] = [];
  if (isIdPrefix(id, asked)) {
    if (isSingleRepository(context.index.namesOf(id))) {
      // That it has a name is no obstacle here.
      refuseConflict(context, id, { reference: false, soft: !context.force });
      untag(context, context.index.namesOf(id), results);
    }
    deleteImage(context, id, results, { soft: !context.force, quiet: false });
    return results;
  }
  const before = context.index.namesOf(id);
  const [user] = context.inUse(id);
  if (!context.force && isSingleRepository(before) && user !== undefined) {
    throw new EngineError(
      "conflict",
      `conflict: unable to remove repository reference "${asked}" (must force) - container ${shortId(user.id)} is using its referenced image ${shortId(id)}`,
    );
  }
  const name = withDefaultTag(parseReference(asked));
  untag(context, [asStored(name)], results);
  if (name.digest === undefined) untagDigestsLeft(context, id, name, results);
  if (context.index.namesOf(id).length === 0) deleteImage(context, id, results, { soft: !context.force, quiet: true });
  return results;
}

/** A name with tag and digest is found by its digest. */
function asStored(name: Reference): Reference {
  return name.digest === undefined ? name : { ...name, tag: undefined };
}

/** When the last tag of a repository has gone, its digests go as well. */
function untagDigestsLeft(context: RemoveContext, id: ImageID, name: Reference, results: DeleteResult[]): void {
  const same = context.index.namesOf(id).filter((other) => repositoryOf(other) === repositoryOf(name));
  if (same.every((other) => other.digest !== undefined)) untag(context, same, results);
}

function untag({ draft, index }: RemoveContext, names: readonly Reference[], results: DeleteResult[]): void {
  for (const name of names) {
    const text = formatReference(name);
    index.removeName(text, draft.references.get(text));
    draft.references.delete(text);
    results.push({ Untagged: familiarString(name) });
  }
}

/** Removes an image with what names are left, and its untagged parents. `quiet`: stop without a word where there is a conflict. */
function deleteImage(context: RemoveContext, id: ImageID, results: DeleteResult[], how: { readonly soft: boolean; readonly quiet: boolean }): void {
  const { draft, index } = context;
  const conflict = findConflict(context, id, { reference: how.soft, soft: how.soft });
  if (conflict !== undefined) {
    const dangling = index.namesOf(id).length === 0 && !index.hasChildren(id);
    if (how.quiet && (!dangling || conflict.used)) return;
    throw conflict.error;
  }
  const parent = draft.images.get(id)?.parent;
  untag(context, index.namesOf(id), results);
  for (const { manifest } of draft.images.get(id)?.origins ?? []) draft.pending.add(manifest);
  draft.images.delete(id);
  draft.pending.add(id);
  results.push({ Deleted: id });
  const chains = context.chainsOf(id);
  index.removeImage(id, parent, chains);
  for (const chain of chains.toReversed()) if (index.droppedOf(chain) >= context.usesOf(chain)) results.push({ Deleted: chain });
  if (context.prune && parent !== undefined && draft.images.has(parent)) deleteImage(context, parent, results, { soft: true, quiet: true });
}

interface Conflict {
  readonly error: EngineError;
  /** A container is what stands in the way. */
  readonly used: boolean;
}

function refuseConflict(context: RemoveContext, id: ImageID, ask: { readonly reference: boolean; readonly soft: boolean }): void {
  const conflict = findConflict(context, id, ask);
  if (conflict !== undefined) throw conflict.error;
}

function findConflict(context: RemoveContext, id: ImageID, ask: { readonly reference: boolean; readonly soft: boolean }): Conflict | undefined {
  const conflict = (how: string, why: string, used: boolean): Conflict => ({
    error: new EngineError("conflict", `conflict: unable to delete ${shortId(id)} (${how}) - ${why}`),
    used,
  });
  if (context.index.hasChildren(id)) return conflict("cannot be forced", "image has dependent child images", false);
  const users = context.inUse(id);
  const running = users.find((user) => user.running);
  if (running !== undefined) return conflict("cannot be forced", `image is being used by running container ${shortId(running.id)}`, true);
  if (ask.reference && context.index.namesOf(id).length > 0) return conflict("must be forced", "image is referenced in multiple repositories", false);
  const [stopped] = users;
  if (ask.soft && stopped !== undefined) return conflict("must be forced", `image is being used by stopped container ${shortId(stopped.id)}`, true);
  return undefined;
}

function isIdPrefix(id: ImageID, asked: string): boolean {
  return id.startsWith(asked) || id.slice(7).startsWith(asked);
}

/** True when all names are of one repository with at most one tag: then removing by id may take them all. */
function isSingleRepository(names: readonly Reference[]): boolean {
  if (names.length <= 1) return true;
  const tags = names.filter((name) => name.digest === undefined);
  if (tags.length > 1) return false;
  const withDigests = new Set(names.filter((name) => name.digest !== undefined).map(repositoryOf));
  return withDigests.size === 1 && withDigests.has(repositoryOf(tags[0] ?? names[0]!));
}
