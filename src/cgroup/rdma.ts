import type { OciResources } from "#core/runtime-spec.ts";

/** Lines for rdma.max, which is the same file in v1 and v2: "mlx5_0 hca_handle=2 hca_object=2000". */
export function rdmaLines(rdma: OciResources["rdma"]): string[] {
  return Object.entries(rdma ?? {}).map(([device, { hcaHandles, hcaObjects }]) => {
    const parts = [hcaHandles === undefined ? "" : ` hca_handle=${hcaHandles}`, hcaObjects === undefined ? "" : ` hca_object=${hcaObjects}`];
    return `${device}${parts.join("")}`;
  });
}

/** Why an RDMA limit is there. */
export const rdmaWhy = "bounds what it opens of an RDMA device";
