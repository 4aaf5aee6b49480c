import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import { O } from "#linux/flags.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { NO_SLOT, type Plan, type Step } from "#linux/plan.ts";

import { DM, DM_FLAG, type DmDevice, type DmTarget, dmArgument, dmRequest, readDevice, readStatus, readVersion } from "./dm-ioctl.ts";

const controlSlot = 0;
const answerTag = 1;
const S_IFBLK = 0o60000;
/** A container that has just ended, or udev looking at a new device, has it open for a moment. */
const busyMs = 30_000;

/** The kernel's device mapper, by ioctls on /dev/mapper/control. */
export class DeviceMapper {
  readonly #helper: Helper;

  constructor(helper: Helper) {
    this.#helper = helper;
  }

  /** The driver's version; why there is none, or not this type of target. */
  async probe(target: string): Promise<{ readonly version: string } | { readonly reason: string }> {
    try {
      const version = readVersion(await this.#call(`asking for target ${target}`, DM.GET_TARGET_VERSION, dmArgument(target, { room: 256 })));
      return { version };
    } catch (error) {
      const errno = error instanceof EngineError ? error.details?.errno : undefined;
      if (errno === "EINVAL") return { reason: `this kernel's device mapper has no target ${target} (module dm_thin_pool)` };
      if (typeof errno === "string") return { reason: `this kernel has no device mapper: /dev/mapper/control answers ${errno} (module dm_mod)` };
      throw error;
    }
  }

  /** Makes a device with one target; `attach`: steps before, whose descriptors (slots from 1) the table may rely on. */
  async create(name: string, target: DmTarget, attach: readonly Step[] = []): Promise<DmDevice> {
    const steps = [
      ...attach,
      openControl(),
      ioctl(DM.DEV_CREATE, dmArgument(name), `a device ${name}`),
      ioctl(DM.TABLE_LOAD, dmArgument(name, { target }), "what it maps"),
      ioctl(DM.DEV_SUSPEND, dmArgument(name), "it takes effect", answerTag),
    ];
    let reports: Awaited<ReturnType<Helper["call"]>>;
    try {
      reports = await this.#helper.call({ steps });
    } catch (error) {
      // Not when it was there before: then it is not ours to remove.
      if (error instanceof PlanError && error.step > attach.length + 1) await this.remove(name);
      if (error instanceof PlanError && error.step < attach.length) throw error;
      throw failed(error, `making the device ${name}`);
    }
    const device = readDevice(Buffer.from(reports.get(answerTag) ?? []));
    await this.#makeNode(device);
    return device;
  }

  /** Takes it away; missing is no error. Waits while somebody has it open. @param deferred then the kernel does so when it is closed, instead of an error */
  async remove(name: string, { waitMs = busyMs, deferred = false }: { readonly waitMs?: number; readonly deferred?: boolean } = {}): Promise<void> {
    const until = Date.now() + waitMs;
    for (let delay = 2; ; delay = Math.min(delay * 2, 100)) {
      try {
        await this.#call(
          `removing the device ${name}`,
          DM.DEV_REMOVE,
          dmArgument(name, { flags: deferred && Date.now() > until ? DM_FLAG.DEFERRED_REMOVE : 0 }),
        );
        return;
      } catch (error) {
        const errno = error instanceof EngineError ? error.details?.errno : undefined;
        if (errno === "ENXIO") return;
        if (errno !== "EBUSY" || (Date.now() > until && !deferred)) throw error;
      }
      await sleep(delay);
    }
  }

  /** undefined = there is no such device. */
  async find(name: string): Promise<DmDevice | undefined> {
    try {
      return readDevice(await this.#call(`looking at the device ${name}`, DM.DEV_STATUS, dmArgument(name)));
    } catch (error) {
      if (error instanceof EngineError && error.details?.errno === "ENXIO") return undefined;
      throw error;
    }
  }

  /** The target's own line of status. */
  async status(name: string): Promise<string> {
    return readStatus(await this.#call(`asking for the status of ${name}`, DM.TABLE_STATUS, dmArgument(name, { room: 1024 }))) ?? "";
  }

  /** The parameters of its table. */
  async table(name: string): Promise<string> {
    return (
      readStatus(await this.#call(`asking for the table of ${name}`, DM.TABLE_STATUS, dmArgument(name, { flags: DM_FLAG.STATUS_TABLE, room: 1024 }))) ?? ""
    );
  }

  async message(name: string, message: string): Promise<void> {
    await this.#call(`${name}: ${message}`, DM.TARGET_MSG, dmArgument(name, { message }));
  }

  /** While `work` is done, the device is still: its filesystem is frozen and on disk. */
  async suspended(name: string, work: () => Promise<void>): Promise<void> {
    await this.#call(`suspending ${name}`, DM.DEV_SUSPEND, dmArgument(name, { flags: DM_FLAG.SUSPEND }));
    try {
      await work();
    } finally {
      await this.#call(`resuming ${name}`, DM.DEV_SUSPEND, dmArgument(name));
    }
  }

  /** Names of all devices that begin so. */
  async names(prefix: string): Promise<readonly string[]> {
    const names: string[] = [];
    for (const block of await readdir("/sys/block")) {
      if (!block.startsWith("dm-")) continue;
      const name = await readFile(`/sys/block/${block}/dm/name`, "utf8").catch((error: unknown) => {
        // It went meanwhile.
        if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENODEV") return "";
        throw error;
      });
      if (name.startsWith(prefix)) names.push(name.trim());
    }
    return names;
  }

  /** devtmpfs has the node already; where /dev is something else, nobody else makes it. */
  async #makeNode(device: DmDevice): Promise<void> {
    const node = { path: nodeOf(device), mode: S_IFBLK | 0o600, major: device.major, minor: device.minor, uid: 0, gid: 0 };
    await this.#helper.call({ steps: [{ op: "mknod", dir: NO_SLOT, ...node, where: "host", why: "the device's node", ignore: ["EEXIST"] }] });
  }

  async #call(what: string, request: number, arg: Buffer): Promise<Buffer> {
    const plan: Plan = { steps: [openControl(), ioctl(request, arg, what, answerTag)] };
    try {
      return Buffer.from((await this.#helper.call(plan)).get(answerTag) ?? []);
    } catch (error) {
      throw failed(error, what);
    }
  }
}

/** The node of a device. */
export function nodeOf({ minor }: DmDevice): string {
  return `/dev/dm-${minor}`;
}

function failed(error: unknown, what: string): unknown {
  if (!(error instanceof PlanError)) return error;
  const full = error.errno === "ENOSPC";
  return new EngineError(full ? "storage" : "kernel", `device mapper: ${what}: ${full ? "no space left on device" : error.errno}`, {
    cause: error,
    details: { errno: error.errno },
  });
}

function openControl(): Step {
  return { op: "openat", dir: NO_SLOT, path: "/dev/mapper/control", flags: O.RDWR, mode: 0, out: controlSlot, where: "host", why: "the device mapper" };
}

function ioctl(number: number, arg: Buffer, why: string, tag = 0): Step {
  return { op: "ioctl", fd: controlSlot, request: dmRequest(number), arg, tag, where: "host", why, see: "ioctl(2), linux/dm-ioctl.h" };
}
