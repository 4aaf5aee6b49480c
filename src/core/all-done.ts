/** Resolves when all of it is done; when some of it fails, rejects with the first failure, but not before the rest has ended as well. */
export async function allDone(work: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
}
