import type { ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { familiarString, formatReference, parseAnyReference, type Reference, withDefaultTag } from "#core/reference.ts";
import type { ImageToSave } from "./archive/save.ts";
import type { ImageCatalog } from "./image-catalog.ts";

/** Docker's selection: a bare name means all tags of the repository, a name with a tag that one, an id the image without names. */
export function selectToSave(catalog: ImageCatalog, namesOrIds: readonly string[]): ImageToSave[] {
  const chosen = new Map<ImageID, Map<string, Reference>>();
  for (const text of namesOrIds) {
    for (const { id, name } of selectOne(catalog, text)) {
      const names = chosen.get(id) ?? new Map<string, Reference>();
      if (name !== undefined) names.set(formatReference(name), name);
      chosen.set(id, names);
    }
  }
  return [...chosen].map(([id, names]) => ({ image: catalog.view(id), names: [...names.values()] }));
}

function selectOne(catalog: ImageCatalog, text: string): { readonly id: ImageID; readonly name: Reference | undefined }[] {
  const asked = parseAnyReference(text);
  if (typeof asked !== "string" && asked.tag === undefined && asked.digest === undefined) {
    const tags = catalog.tagsOf(asked);
    if (tags.length > 0) return tags;
  }
  const id = catalog.lookup(text);
  if (id === undefined) throw new EngineError("not-found", `No such image: ${typeof asked === "string" ? asked : familiarString(withDefaultTag(asked))}`);
  if (typeof asked === "string" || asked.digest !== undefined) return [{ id, name: undefined }];
  // `sha256:abc` reads as a name with a tag, and is none.
  const isName = catalog.tagsOf(asked).some(({ name }) => name.tag === asked.tag);
  return [{ id, name: isName ? asked : undefined }];
}
