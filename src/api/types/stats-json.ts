/** `GET /containers/{id}/stats`. @module */

export interface CpuStatsJson {
  /** Nanoseconds. */
  cpu_usage: { total_usage: number; percpu_usage?: number[]; usage_in_kernelmode: number; usage_in_usermode: number };
  /** The host's CPU time, nanoseconds. */
  system_cpu_usage?: number;
  online_cpus?: number;
  throttling_data: { periods: number; throttled_periods: number; throttled_time: number };
}

export interface BlkioJson {
  major: number;
  minor: number;
  op: string;
  value: number;
}

export interface StatsJson {
  id: string;
  name: string;
  read: string;
  preread: string;
  pids_stats: { current?: number; limit?: number };
  blkio_stats: Record<
    | "io_service_bytes_recursive"
    | "io_serviced_recursive"
    | "io_queue_recursive"
    | "io_service_time_recursive"
    | "io_wait_time_recursive"
    | "io_merged_recursive"
    | "io_time_recursive"
    | "sectors_recursive",
    BlkioJson[] | null
  >;
  num_procs: number;
  storage_stats: Record<string, never>;
  cpu_stats: CpuStatsJson;
  precpu_stats: CpuStatsJson;
  memory_stats: { usage?: number; max_usage?: number; stats?: Record<string, number>; failcnt?: number; limit?: number };
  networks?: Record<string, Record<string, number>>;
  /** Ours, of a container whose bandwidth is limited: `HostConfig.WherryNetworkRate`. */
  wherry_network_rate?: Record<string, string>;
}
