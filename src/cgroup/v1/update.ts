/**
 * Changing the limits of a living v1 cgroup: some pairs of limits must be written in an order that depends on what they are now.
 * @module
 */
import { errnoOf } from "#core/errors.ts";
import type { OciResources } from "#core/runtime-spec.ts";
import { type ControlWrite, numberIn, readControl, writeControl } from "../control-files.ts";
import type { LimitSupport } from "../support.ts";
import { blkioWrites, cpuWrites, deviceWrites, memoryWrites, networkWrites, otherWrites, pidsWrites } from "./limits.ts";

const MEMORY = "memory.limit_in_bytes";
const MEMORY_AND_SWAP = "memory.memsw.limit_in_bytes";

/** Memory may never exceed memory+swap: when the new sum is above the present memory limit (or unlimited), the sum goes first. */
export function orderMemory(writes: readonly ControlWrite[], currentLimit: number): ControlWrite[] {
  const sum = writes.find(({ file }) => file === MEMORY_AND_SWAP);
  if (sum === undefined || !(sum.value === "-1" || Number(sum.value) > currentLimit)) return [...writes];
  return [sum, ...writes.filter((write) => write !== sum)];
}

export async function updateLimits(dirs: Readonly<Record<string, string>>, resources: OciResources, support: LimitSupport): Promise<void> {
  const pathOf = ({ controller, file }: ControlWrite) => `${dirs[controller]}/${file}`;
  const apply = async (writes: readonly ControlWrite[]) => {
    for (const write of writes) if (dirs[write.controller] !== undefined) await writeControl(pathOf(write), write.value);
  };

  const memory = memoryWrites(resources.memory);
  const memorySets = memory.some(({ file }) => file === MEMORY);
  const current = memorySets && dirs["memory"] !== undefined ? numberIn(await readControl(`${dirs["memory"]}/${MEMORY}`)) : 0;
  await apply(orderMemory(memory, current));

  const cpu = cpuWrites(resources.cpu);
  const period = cpu.find(({ file }) => file === "cpu.cfs_period_us");
  const quota = cpu.find(({ file }) => file === "cpu.cfs_quota_us");
  if (period !== undefined && quota !== undefined) {
    // The old quota over the new period may exceed what the parent has; then the quota must change first.
    try {
      await apply([period, quota]);
    } catch (error) {
      const errno = (error as { details?: { errno?: string } }).details?.errno ?? errnoOf(error);
      if (errno !== "EINVAL") throw error;
      await apply([quota, period]);
    }
  }
  await apply(period !== undefined && quota !== undefined ? cpu.filter((write) => write !== period && write !== quota) : cpu);
  await apply([
    ...blkioWrites(resources.blockIO, support),
    ...pidsWrites(resources.pids),
    ...networkWrites(resources.network),
    ...deviceWrites(resources.devices),
    ...otherWrites(resources),
  ]);
}
